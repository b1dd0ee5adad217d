//! The frame: what every message between nodes travels in, after the handshake (`handshake.rs`) that states the protocol version.
//!
//! Integers are little-endian.
//!
//! ```text
//!  0  length      u32  bytes from offset 8 to the end: 12 + payload
//!  4  checksum    u32  CRC-32 (IEEE) of bytes 0..4 and of bytes 8..end
//!  8  kind        u16  number of the message, see message.rs
//! 10  flags       u16  1 response  2 error (only with response)  4 one-way (not with response)  8 compressed
//! 12  request id  u64  chosen by the asking side, repeated in the response; unique on a connection
//! 20  payload          with flag 8: one zstd frame that states its size
//! ```
//!
//! A frame is valid if the length is within 12 and the connection's limit (looked at before anything is allocated), the checksum
//! matches, and the flags are a combination that is known. Anything else closes the connection: after such a frame there is
//! no way to know where the next one begins, so nothing of it and nothing behind it is delivered.
//! Kinds are not checked here: an unknown one is answered with an error, so that a newer node can ask an older one.
//!
//! Example: request 7 of kind 0x0501 (Ping) with payload `hi`:
//!
//! ```text
//! 0e 00 00 00  8b ac 80 85  01 05  00 00  07 00 00 00 00 00 00 00  68 69
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use crc32fast::Hasher;

use super::Payload;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 20;
/// Largest payload if nobody says otherwise. The body of an HTTP request, 100 MiB, can be one document.
pub const PAYLOAD_BYTES_MAX: usize = 128 << 20;
/// Part of the header that the length counts.
const COUNTED: usize = 12;
/// Where that part begins.
const COUNTED_AT: usize = 8;
/// Pieces up to this size are copied beside their header, larger ones are sent from where they are.
const COPY_BYTES_MAX: usize = 2 << 10;
/// Room that a read is given at least and at most, unless a frame asks for more.
const ROOM_BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;
/// Bytes of an unfinished frame that are hashed together.
const HASH_STEP: usize = 32 << 10;
/// Pieces written at once.
const SLICES_MAX: usize = 64;

/// What a frame is, beside its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// A request that will be answered.
    pub const REQUEST: Flags = Flags(0);
    /// The answer to one.
    pub const RESPONSE: Flags = Flags(1);
    /// The answer that it failed; the payload is a [`RemoteError`](super::RemoteError).
    pub const FAILURE: Flags = Flags(1 | 2);
    /// A request that will not be answered.
    pub const ONE_WAY: Flags = Flags(4);
    /// The payload is compressed.
    pub const COMPRESSED: Flags = Flags(8);

    /// All of `other`'s bits are set.
    #[must_use]
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// As sent.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    fn from_bits(bits: u16) -> Option<Flags> {
        let (known, direction) = (bits & !0xf == 0, bits & 0x7);
        (known && matches!(direction, 0 | 1 | 3 | 4)).then_some(Flags(bits))
    }
}

/// What is said of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the message.
    pub kind: u16,
    /// What it is.
    pub flags: Flags,
    /// Which request it is, or answers.
    pub id: u64,
}

/// One message as it arrived. The payload shares memory with its neighbours (some hundred KiB at most, unless one of them is
/// larger): who keeps a small one for long copies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What is said of it.
    pub header: Header,
    /// Its bytes.
    pub payload: Bytes,
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A length that no frame has here.
    Length {
        /// As stated.
        length: u32,
        /// The most there may be.
        limit: usize,
    },
    /// Bytes are not those that were sent.
    Checksum {
        /// As stated.
        stated: u32,
        /// As computed.
        computed: u32,
        /// Bytes of the frame.
        size: usize,
    },
    /// Flags that do not exist, or not together.
    Flags(u16),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Length { length, limit } => {
                write!(f, "frame length {length} is not within [{COUNTED}] and [{limit}]")
            }
            FrameError::Checksum { stated, computed, size } => {
                write!(f, "checksum mismatch in a frame of {size} bytes: stated {stated:08x}, computed {computed:08x}")
            }
            FrameError::Flags(bits) => write!(f, "unknown frame flags {bits:#06x}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// A header to be checksummed: hash the payload into it piece by piece, then [`Seal::finish`].
#[derive(Clone, Debug)]
pub struct Seal {
    bytes: [u8; HEADER_BYTES],
    hasher: Hasher,
}

impl Seal {
    /// Begins with the header of a payload of `size` bytes.
    ///
    /// # Panics
    /// When no frame can be that long: callers know their limits.
    #[must_use]
    pub fn new(header: &Header, size: usize) -> Seal {
        let length = u32::try_from(COUNTED + size).expect("a payload within the limit");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[8..10].copy_from_slice(&header.kind.to_le_bytes());
        bytes[10..12].copy_from_slice(&header.flags.0.to_le_bytes());
        bytes[12..20].copy_from_slice(&header.id.to_le_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&bytes[0..4]);
        hasher.update(&bytes[COUNTED_AT..]);
        Seal { bytes, hasher }
    }

    /// The next bytes of the payload.
    pub fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The header as sent.
    #[must_use]
    pub fn finish(mut self) -> [u8; HEADER_BYTES] {
        self.bytes[4..8].copy_from_slice(&self.hasher.finalize().to_le_bytes());
        self.bytes
    }
}

/// Frames on their way out: small ones side by side, large pieces where they are.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Behind `parts`.
    staged: BytesMut,
    parts: VecDeque<Bytes>,
    size: usize,
}

impl Encoder {
    /// Adds a frame; hashes its payload in one go.
    pub fn push(&mut self, header: &Header, payload: &Payload) {
        let mut seal = Seal::new(header, payload.len());
        payload.pieces().for_each(|piece| seal.hash(piece));
        self.push_sealed(seal.finish(), payload);
    }

    /// Adds a frame whose header is complete.
    pub fn push_sealed(&mut self, header: [u8; HEADER_BYTES], payload: &Payload) {
        self.stage(&header);
        for piece in payload.pieces() {
            if piece.len() <= COPY_BYTES_MAX {
                self.stage(piece);
            } else {
                self.size += piece.len();
                self.close_stage();
                self.parts.push_back(piece.clone());
            }
        }
    }

    fn stage(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        self.staged.extend_from_slice(bytes);
    }

    fn close_stage(&mut self) {
        if !self.staged.is_empty() {
            self.parts.push_back(self.staged.split().freeze());
        }
    }

    /// Bytes not yet sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.size
    }

    /// All is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// What to write next, for one vectored write.
    pub fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.close_stage();
        self.parts.iter().take(SLICES_MAX).map(|part| IoSlice::new(part)).collect()
    }

    /// `n` bytes were written.
    ///
    /// # Panics
    /// When there were not so many.
    pub fn advance(&mut self, mut n: usize) {
        self.size = self.size.checked_sub(n).expect("no more is written than there was");
        while n > 0 {
            let front = self.parts.front_mut().expect("parts make up the size");
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.parts.pop_front();
        }
    }
}

/// Takes frames apart as bytes arrive.
///
/// - Payloads are slices of what was read. Copied are only beginnings of frames whose rest came with a later read.
/// - A frame longer than what one read brings gets memory of exactly its size, and is hashed while it arrives.
/// - After an error there is only that error.
///
/// ```text
/// loop { read into room(); while let Some(frame) = next()? { .. } }
/// ```
#[derive(Debug)]
pub struct Decoder {
    length_max: usize,
    /// Read and not yet cut: the beginning of a frame, or frames since the last call of `next`.
    filling: Vec<u8>,
    /// Being cut to frames; empty while `filling` is not.
    cut: Bytes,
    /// Of the frame that `filling` begins with: hashed up to this offset.
    hashed: Option<(Hasher, usize)>,
    /// What the next read is given room for.
    room: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// Takes payloads of up to `payload_bytes_max` bytes.
    #[must_use]
    pub fn new(payload_bytes_max: usize) -> Decoder {
        Decoder {
            length_max: COUNTED + payload_bytes_max.min(u32::MAX as usize - COUNTED),
            filling: Vec::new(),
            cut: Bytes::new(),
            hashed: None,
            room: *ROOM_BYTES.start(),
            failed: None,
        }
    }

    /// Where to append what is read, with at least one byte of spare capacity. Call it when `next` has nothing more.
    ///
    /// # Panics
    /// When `next` has not been asked until it had nothing.
    pub fn room(&mut self) -> &mut Vec<u8> {
        assert!(self.cut.is_empty(), "frames are taken before more is read");
        let size = self.size(&self.filling).ok().flatten().unwrap_or(0);
        let wanted = size.max(self.room);
        if self.filling.capacity() < wanted {
            self.filling.reserve_exact(wanted - self.filling.len());
        }
        if self.filling.capacity() == self.filling.len() {
            self.filling.reserve_exact(self.room);
        }
        &mut self.filling
    }

    /// Bytes of a frame of which some are missing: the connection ended inside it.
    #[must_use]
    pub fn is_inside_frame(&self) -> bool {
        !self.filling.is_empty() || !self.cut.is_empty()
    }

    /// The next whole frame, if it is there.
    #[allow(clippy::should_implement_trait)] // it is no iterator: after None there may be more
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let next = self.cut_next();
        if let Err(error) = &next {
            self.failed = Some(error.clone());
            (self.filling, self.cut) = (Vec::new(), Bytes::new());
        }
        next
    }

    fn cut_next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.cut.is_empty() {
            let Some(size) = self.size(&self.filling)? else { return Ok(None) };
            if self.filling.len() < size {
                self.hash_ahead();
                return Ok(None);
            }
            // Rooms follow what comes: full ones double, and those less than half full halve.
            let (smallest, largest) = (*ROOM_BYTES.start(), *ROOM_BYTES.end());
            if self.filling.len() >= self.room {
                self.room = (self.room * 2).min(largest);
            } else if self.filling.len() < self.room / 2 {
                self.room = (self.room / 2).max(smallest);
            }
            self.cut = Bytes::from(std::mem::take(&mut self.filling));
        }
        let size = self.size(&self.cut)?;
        let Some(size) = size.filter(|size| *size <= self.cut.len()) else {
            self.filling.reserve_exact(size.unwrap_or(0).max(self.room));
            self.filling.extend_from_slice(&self.cut);
            self.cut = Bytes::new();
            self.hash_ahead();
            return Ok(None);
        };
        let payload = self.cut.split_to(size);
        let (hasher, from) = self.hashed.take().unwrap_or_else(|| begin_hash(&payload));
        open(payload, hasher, from).map(Some)
    }

    /// Bytes of the frame that `bytes` begins with, once its length is there.
    fn size(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(length) = bytes.get(..4) else { return Ok(None) };
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if (length as usize) < COUNTED || length as usize > self.length_max {
            return Err(FrameError::Length { length, limit: self.length_max });
        }
        Ok(Some(COUNTED_AT + length as usize))
    }

    fn hash_ahead(&mut self) {
        let at = self.hashed.as_ref().map_or(COUNTED_AT, |(_, at)| *at);
        if self.filling.len() >= at + HASH_STEP {
            let (hasher, at) = self.hashed.get_or_insert_with(|| begin_hash(&self.filling));
            hasher.update(&self.filling[*at..]);
            *at = self.filling.len();
        }
    }
}

/// The checksum of a frame's length, and where to go on.
fn begin_hash(frame: &[u8]) -> (Hasher, usize) {
    let mut hasher = Hasher::new();
    hasher.update(&frame[0..4]);
    (hasher, COUNTED_AT)
}

fn open(mut frame: Bytes, mut hasher: Hasher, from: usize) -> Result<Frame, FrameError> {
    hasher.update(&frame[from..]);
    let (size, computed) = (frame.len(), hasher.finalize());
    let payload = frame.split_off(HEADER_BYTES);
    frame.advance(4);
    let stated = frame.get_u32_le();
    if stated != computed {
        return Err(FrameError::Checksum { stated, computed, size });
    }
    let (kind, bits, id) = (frame.get_u16_le(), frame.get_u16_le(), frame.get_u64_le());
    let flags = Flags::from_bits(bits).ok_or(FrameError::Flags(bits))?;
    Ok(Frame { header: Header { kind, flags, id }, payload })
}

/// Frames in arbitrary bytes: those that are accepted are encoded to the same bytes, and how the bytes are cut does not matter.
pub fn fuzz_frame(data: &[u8]) {
    let limit = 1 << 16;
    let (whole, outcome) = decode_all(data, data.len().max(1), limit);
    for step in [1, 7, 64] {
        assert_eq!(decode_all(data, step, limit), (whole.clone(), outcome.clone()), "read {step} bytes at a time");
    }
    let mut encoder = Encoder::default();
    for frame in &whole {
        encoder.push(&frame.header, &Payload::from(frame.payload.clone()));
    }
    let mut bytes = Vec::new();
    while !encoder.is_empty() {
        let written: usize = encoder
            .slices()
            .iter()
            .map(|slice| {
                bytes.extend_from_slice(slice);
                slice.len()
            })
            .sum();
        encoder.advance(written);
    }
    assert_eq!(bytes, data[..bytes.len()]);
    // What comes after is fuzzed also behind a checksum that matches, for a fuzzer does not guess one.
    if let Some(rest) = data[bytes.len()..].get(4..)
        && rest.len() >= COUNTED
        && rest.len() < limit
    {
        let mut sealed = (rest.len() as u32).to_le_bytes().to_vec();
        let mut hasher = Hasher::new();
        hasher.update(&sealed);
        hasher.update(rest);
        sealed.extend_from_slice(&hasher.finalize().to_le_bytes());
        sealed.extend_from_slice(rest);
        let (frames, outcome) = decode_all(&sealed, sealed.len(), limit);
        assert!(frames.len() == 1 || matches!(outcome, Err(FrameError::Flags(_))));
    }
}

fn decode_all(data: &[u8], step: usize, limit: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let mut decoder = Decoder::new(limit);
    let mut frames = Vec::new();
    for mut piece in data.chunks(step) {
        while !piece.is_empty() {
            let room = decoder.room();
            let n = piece.len().min(room.capacity() - room.len());
            assert!(n > 0);
            room.extend_from_slice(&piece[..n]);
            piece = &piece[n..];
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
        }
    }
    (frames, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(frames: &[(Header, Payload)]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        frames.iter().for_each(|(header, payload)| encoder.push(header, payload));
        let mut bytes = Vec::new();
        while !encoder.is_empty() {
            // Written in odd pieces, as a socket does.
            let front: Vec<u8> = encoder.slices().iter().flat_map(|slice| slice.to_vec()).take(1001).collect();
            encoder.advance(front.len());
            bytes.extend(front);
        }
        bytes
    }

    fn header(kind: u16, flags: Flags, id: u64) -> Header {
        Header { kind, flags, id }
    }

    #[test]
    fn a_frame_has_the_documented_bytes() {
        let bytes = encoded(&[(header(0x0501, Flags::REQUEST, 7), Payload::from(b"hi".as_slice()))]);
        let text: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(text.join(" "), "0e 00 00 00 8b ac 80 85 01 05 00 00 07 00 00 00 00 00 00 00 68 69");
        let (frames, outcome) = decode_all(&bytes, 5, 100);
        assert_eq!((frames.len(), outcome), (1, Ok(())));
        assert_eq!(frames[0].payload, "hi");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encoded(&[(header(0x0303, Flags::RESPONSE, u64::MAX), Payload::from(vec![9; 40]))]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (frames, outcome) = decode_all(&bad, bad.len(), 1 << 20);
            assert_eq!(frames, [], "bit {bit}");
            // A length that grew waits for bytes that do not come.
            assert!(outcome.is_err() || bit < 32, "bit {bit}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_memory_is_taken() {
        let mut decoder = Decoder::new(100);
        decoder.room().extend_from_slice(&113u32.to_le_bytes());
        let error = FrameError::Length { length: 113, limit: 112 };
        assert_eq!(decoder.next(), Err(error.clone()));
        assert_eq!(decoder.next(), Err(error), "for ever");
        let mut decoder = Decoder::new(100);
        decoder.room().extend_from_slice(&112u32.to_le_bytes());
        assert_eq!(decoder.next(), Ok(None));
        let mut decoder = Decoder::new(100);
        decoder.room().extend_from_slice(&11u32.to_le_bytes());
        assert!(decoder.next().is_err());
    }

    #[test]
    fn impossible_flags_are_refused() {
        for bits in [2, 5, 6, 7, 16, 0x8000] {
            assert_eq!(Flags::from_bits(bits), None, "{bits}");
            let bytes = encoded(&[(header(1, Flags(bits), 1), Payload::new())]);
            assert_eq!(decode_all(&bytes, 100, 100), (Vec::new(), Err(FrameError::Flags(bits))));
        }
        for bits in [0, 1, 3, 4, 8, 9, 11, 12] {
            assert!(Flags::from_bits(bits).is_some(), "{bits}");
        }
    }

    #[test]
    fn a_large_payload_is_neither_joined_nor_copied_when_its_memory_is_made_for_it() {
        let large = Bytes::from(vec![3; 1 << 20]);
        let mut payload = Payload::from(b"head".as_slice());
        payload.push(large.clone());
        let mut encoder = Encoder::default();
        encoder.push(&header(1, Flags::REQUEST, 1), &payload);
        let slices = encoder.slices();
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());

        let bytes = encoded(&[(header(1, Flags::REQUEST, 1), payload)]);
        let mut decoder = Decoder::new(2 << 20);
        decoder.room().extend_from_slice(&bytes[..100]);
        assert_eq!(decoder.next(), Ok(None));
        let room = decoder.room();
        assert!(room.capacity() >= bytes.len());
        let at = room.as_ptr();
        for piece in bytes[100..].chunks(70_000) {
            decoder.room().extend_from_slice(piece);
            if let Some(frame) = decoder.next().unwrap() {
                assert_eq!(frame.payload.as_ptr(), at.wrapping_add(HEADER_BYTES));
                assert_eq!(frame.payload.len(), 4 + large.len());
                return;
            }
        }
        panic!("no frame");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_back_however_they_are_cut(
            sizes in prop::collection::vec(prop_oneof![0usize..100, 1_000usize..100_000], 1..20),
            steps in prop::collection::vec(1usize..70_000, 1..50),
            pieces in 1usize..4,
        ) {
            let frames: Vec<(Header, Payload)> = sizes.iter().enumerate().map(|(i, size)| {
                let bytes: Vec<u8> = (0..*size).map(|j| (i * 31 + j) as u8).collect();
                let mut payload = Payload::new();
                bytes.chunks(size / pieces + 1).for_each(|piece| payload.push(piece.to_vec()));
                (header(i as u16, Flags::ONE_WAY, i as u64), payload)
            }).collect();
            let bytes = encoded(&frames);
            let mut decoder = Decoder::new(100_000);
            let (mut at, mut came, mut steps) = (0, Vec::new(), steps.iter().cycle());
            while at < bytes.len() {
                let room = decoder.room();
                let n = (*steps.next().unwrap()).min(room.capacity() - room.len()).min(bytes.len() - at);
                room.extend_from_slice(&bytes[at..at + n]);
                at += n;
                while let Some(frame) = decoder.next().unwrap() {
                    came.push((frame.header, Payload::from(frame.payload)));
                }
            }
            prop_assert!(!decoder.is_inside_frame());
            prop_assert_eq!(came, frames);
        }

        #[test]
        fn arbitrary_bytes_are_an_answer_or_an_error(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz_frame(&data);
        }

        #[test]
        fn bytes_like_frames_are_an_answer_or_an_error(mut data in prop::collection::vec(any::<u8>(), 20..200), length in 0u32..100) {
            data[..4].copy_from_slice(&length.to_le_bytes());
            fuzz_frame(&data);
        }
    }
}
