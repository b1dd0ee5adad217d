//! Everything that reads bytes from outside, as functions of bytes: whatever they are, an answer or an error, no panic.
//!
//! ```text
//! cargo fuzz run NAME                      looks for inputs that panic (needs nightly and cargo-fuzz)
//! cargo test --test fuzz                   replays `corpus/NAME`, each file with hundreds of mutations
//! cargo test --test fuzz -- --ignored      writes the corpus of the binary formats anew, after one of them changed
//! ```
//!
//! A body does not only survive: it asserts what must hold of any input that was accepted (what was read encodes to the
//! same again, a body cut into pieces means the same, no answer is an internal error).
//! Structures that are written and read have a body each that also compares what comes back with what went in, and
//! `differential` compares searches with a scan.
//! Formats with checksums have a body that puts the checksums right first, for a fuzzer does not guess them.

#![forbid(unsafe_code)]

mod differential;
pub mod mutate;
mod rest;
pub mod seed;
mod wire;

use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::op::Operation;

/// A function of arbitrary bytes.
pub type Body = fn(&[u8]);

/// All bodies, by name: a target `fuzz_targets/NAME.rs` and a folder `corpus/NAME` each.
pub const BODIES: &[(&str, Body)] = &[
    ("bulk", ringdex::rest::fuzz::bulk_ndjson),
    ("columns", ringdex_engine::segment::fuzz::fuzz_columns),
    ("commit", ringdex_engine::commit::fuzz_commit_load),
    ("coordination", ringdex_net::cluster::fuzz::fuzz_coordination),
    ("dictionary", ringdex_engine::segment::fuzz::fuzz_dictionary),
    ("differential", differential::body),
    ("live_docs", ringdex_engine::segment::live_docs::fuzz_live_docs),
    ("mapping", mapping),
    ("metastore", ringdex::metastore::fuzz_metastore_load),
    ("operation", operation),
    ("postings", ringdex_engine::segment::fuzz::fuzz_postings),
    ("query_dsl", ringdex::dsl::fuzz_query_dsl),
    ("query_text", ringdex_engine::search::fuzz_query_text),
    ("replication", ringdex_net::cluster::fuzz::fuzz_replication),
    ("rest", rest::body),
    ("rest_text", ringdex::rest::fuzz::rest_request),
    ("segment", ringdex_engine::segment::walk::fuzz_segment_open),
    ("stored", ringdex_engine::segment::fuzz::fuzz_stored),
    ("translog", ringdex_engine::translog::fuzz_translog_read),
    ("wire_frame", ringdex_net::wire::frame::fuzz_frame),
    ("wire_message", ringdex_net::wire::message::fuzz_message),
];

/// Runs the body called `name`.
///
/// # Panics
/// When there is none, and when the body finds a bug.
pub fn run(name: &str, data: &[u8]) {
    let body = BODIES.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no body is called {name}")).1;
    body(data);
}

/// A mapping, an update of it and a document, separated by zero bytes.
fn mapping(data: &[u8]) {
    thread_local!(static REGISTRY: AnalyzerRegistry = AnalyzerRegistry::default());
    REGISTRY.with(|registry| ringdex_engine::document::fuzz(data, registry));
}

/// What is read encodes to bytes that are read the same, and that are no longer: lengths may come padded.
fn operation(data: &[u8]) {
    let Ok(operation) = Operation::decode(data) else { return };
    let mut again = Vec::new();
    operation.encode(&mut again);
    assert!(again.len() <= data.len());
    assert_eq!(Operation::decode(&again).as_ref(), Ok(&operation));
}
