//! Names that nobody else gives: document ids and uuids.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::backend::Backend;

/// A document id of 20 URL-safe characters: 6 bytes of milliseconds, then 9 random ones. Ids made near in time share
/// a prefix.
#[must_use]
pub fn document_id(backend: &dyn Backend) -> String {
    let mut bytes = [0u8; 15];
    bytes[..6].copy_from_slice(&(backend.now_ms() as u64).to_be_bytes()[2..]);
    bytes[6..14].copy_from_slice(&backend.random().to_le_bytes());
    bytes[14] = backend.random() as u8;
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A uuid of 22 URL-safe characters, for an index or a cluster state.
#[must_use]
pub fn uuid(backend: &dyn Backend) -> String {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&backend.random().to_le_bytes());
    bytes[8..].copy_from_slice(&backend.random().to_le_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    URL_SAFE_NO_PAD.encode(bytes)
}
