//! The corpus of what nodes say to each other.

use bytes::Bytes;
use ringdex_engine::ids::{PrimaryTerm, SeqNo};
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::state::ClusterState;
use ringdex_net::wire::codec::{self, Compress};
use ringdex_net::wire::frame::{Encoder, Flags, HEADER_BYTES, Header};
use ringdex_net::wire::handshake::{HEADER_BYTES as HANDSHAKE_HEADER, Hello, Identity, Refusal, RefusalReason, Reply};
use ringdex_net::wire::replicate::{FileChunk, FileChunkRequest, OperationsBatch, Replicate, ReplicateAck};
use ringdex_net::wire::{Lane, Payload, RemoteError};
use serde_json::json;

use crate::seed::write;

/// Writes it into `corpus`.
///
/// # Panics
/// When a file cannot be written.
pub(crate) fn write_corpus() {
    for (name, frames) in [
        ("request", vec![(0x0501, Flags::REQUEST, b"hi".to_vec())]),
        ("exchange", vec![(0x0300, Flags::REQUEST, vec![1; 100]), (0x0300, Flags::FAILURE, vec![2; 30])]),
        ("many", (0..20).map(|i| (i, Flags::ONE_WAY, vec![i as u8; usize::from(i)])).collect()),
    ] {
        write("wire_frame", name, &encoded(&frames));
    }
    let mut cut = encoded(&[(1, Flags::REQUEST, vec![3; 50])]);
    cut.truncate(HEADER_BYTES + 20);
    write("wire_frame", "cut", &cut);

    let error = RemoteError { body: Bytes::from_static(b"{}"), ..RemoteError::new(404, "not_found", "no such thing") };
    message("error", 0, &error.encode().into_bytes());
    let identity = Identity {
        node: NodeId(1),
        ephemeral_id: "e".into(),
        name: "n".into(),
        cluster_name: "c".into(),
        cluster_uuid: Some("u".into()),
        address: "127.0.0.1:9300".into(),
    };
    let hello = Hello { lane: Lane::Write, versions: (1, 1), expected: Some(NodeId(2)), identity: identity.clone() };
    let refusal = Refusal { reason: RefusalReason::ClusterName, text: "another".into() };
    // The body puts the header right.
    message("hello", 1, &hello.encode()[HANDSHAKE_HEADER..]);
    message("welcome", 1, &Reply::Welcome { version: 1, identity }.encode()[HANDSHAKE_HEADER..]);
    message("refusal", 1, &Reply::Refused(refusal).encode()[HANDSHAKE_HEADER..]);
    let value = json!({"a": [1, -1, 1.5, null, true], "b": {"c": {}}, "d": "text", "e": u64::MAX});
    message("value", 2, &codec::encode(&value).expect("a value"));
    let state =
        ClusterState { master: Some(NodeId(1)), last_accepted_config: [NodeId(1)].into(), ..Default::default() };
    message("state", 2, &codec::encode(&state).expect("a state"));
    message("compressed", 2, &compressed(vec![b'a'; 1000]));

    let operations = vec![Bytes::from_static(b"operation"), Bytes::new()];
    let replicate = Replicate {
        index_uuid: "ASNFZ4mrze8AESIzRFVmdw".into(),
        shard: 1,
        allocation_id: AllocationId(5),
        primary_term: PrimaryTerm(2),
        global_checkpoint: SeqNo(7),
        term_max_seq_no: None,
        mapping_version: 3,
        operations: operations.clone(),
    };
    message("replicate", 3, &replicate.encode().into_bytes());
    let ack = ReplicateAck { local_checkpoint: SeqNo(9), global_checkpoint: SeqNo::NONE };
    message("ack", 4, &ack.encode().into_bytes());
    let request = FileChunkRequest { session: 1, file: "s1.seg".into(), offset: 4096, size: 1 << 20 };
    message("chunk-request", 5, &request.encode().into_bytes());
    let batch = OperationsBatch {
        next: Some(SeqNo(3)),
        global_checkpoint: SeqNo(2),
        term_max_seq_no: Some(SeqNo(1)),
        mapping_version: 1,
        operations,
    };
    message("batch", 6, &batch.encode().into_bytes());
    let chunk = FileChunk { file: "s1.seg".into(), offset: 0, bytes: Bytes::from_static(b"bytes") };
    message("chunk", 7, &chunk.encode().into_bytes());
}

/// The first byte chooses the decoder.
fn message(name: &str, which: u8, bytes: &[u8]) {
    write("wire_message", name, &[&[which], bytes].concat());
}

fn encoded(frames: &[(u16, Flags, Vec<u8>)]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for (i, (kind, flags, payload)) in frames.iter().enumerate() {
        encoder.push(&Header { kind: *kind, flags: *flags, id: i as u64 }, &Payload::from(payload.clone()));
    }
    encoder.slices().iter().flat_map(|slice| slice.to_vec()).collect()
}

fn compressed(bytes: Vec<u8>) -> Vec<u8> {
    let mut work = Compress::new(&Payload::from(bytes)).expect("a compressor");
    loop {
        match work.step().expect("compression in memory") {
            Ok(bytes) => return bytes,
            Err(more) => work = more,
        }
    }
}
