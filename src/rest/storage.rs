//! `GET [/{index}]/_storage`: what the bytes on disk are, field by field and structure by structure, and what was written,
//! read and synced for them.
//!
//! Amplification: *space* is bytes on disk for a byte of documents that are there; *write* is bytes written for a byte of
//! documents that came. What was written counts from when the shard was opened.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ringdex_engine::engine::Storage;
use ringdex_engine::store::ledger::Flow;
use serde_json::{Map, Value, json};

use super::indices::shards_header;
use super::indices::upkeep::{broadcast, primaries, targets};
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::error::ApiResult;
use crate::metadata::resolve::IndicesOptions;
use crate::shard::message::{ShardRequest, ShardResponse, ShardStorage};

/// `GET [/{index}]/_storage`
pub async fn storage(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let mut indices = targets(backend, &request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    indices.retain(|i| i.open);
    let (answers, failures) = broadcast(backend, &indices, &ShardRequest::Storage).await;
    let mut out = Map::new();
    for index in &indices {
        let mut sum = ShardStorage::default();
        let mut shards = Map::new();
        for (_, shard, answer) in answers.iter().filter(|(i, ..)| i.name == index.name) {
            if let ShardResponse::Storage(own) = answer {
                add(&mut sum, own);
                shards.insert(shard.to_string(), shown(own));
            }
        }
        let mut one = shown(&sum);
        one["shards"] = Value::Object(shards);
        out.insert(index.name.clone(), one);
    }
    let mut answer = json!({ "_shards": shards_header(primaries(&indices), answers.len(), failures), "indices": out });
    // Of the whole process, page faults of mapped files included; none where the kernel does not tell.
    if let Some(io) = kernel_io() {
        answer["process"] = json!({ "read_in_bytes": io.0, "written_in_bytes": io.1 });
    }
    Ok(Response::ok(answer))
}

/// Bytes that this process had read from and written to disks.
fn kernel_io() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((number("read_bytes:")?, number("write_bytes:")?))
}

fn add(sum: &mut ShardStorage, own: &ShardStorage) {
    let (all, one) = (&mut sum.segments, &own.segments);
    all.segment_bytes += one.segment_bytes;
    all.source_bytes += one.source_bytes;
    all.documents += one.documents;
    all.deleted += one.deleted;
    add_parts(&mut all.documents_parts, &one.documents_parts);
    for (field, parts) in &one.fields {
        add_parts(all.fields.entry(field.clone()).or_default(), parts);
    }
    sum.translog_bytes += own.translog_bytes;
    sum.operations += own.operations;
    sum.source_bytes += own.source_bytes;
    sum.directory_syncs += own.directory_syncs;
    for (purpose, flow) in &own.flows {
        match sum.flows.iter_mut().find(|(known, _)| known == purpose) {
            Some((_, known)) => known.add(flow),
            None => sum.flows.push((*purpose, *flow)),
        }
    }
}

fn add_parts(sum: &mut BTreeMap<Cow<'static, str>, u64>, own: &BTreeMap<Cow<'static, str>, u64>) {
    for (part, bytes) in own {
        *sum.entry(part.clone()).or_default() += bytes;
    }
}

fn shown(storage: &ShardStorage) -> Value {
    let Storage { segment_bytes, source_bytes, documents, deleted, documents_parts, fields } = &storage.segments;
    let mut structures = documents_parts.clone();
    fields.values().for_each(|parts| add_parts(&mut structures, parts));
    let fields: Map<String, Value> = fields.iter().map(|(name, parts)| (name.clone(), parts_shown(parts))).collect();
    let mut all = Flow::default();
    let mut flows = Map::new();
    for (purpose, flow) in &storage.flows {
        all.add(flow);
        flows.insert(purpose.name().to_owned(), flow_shown(flow));
    }
    flows.insert("total".to_owned(), flow_shown(&all));
    let syncs = all.syncs + storage.directory_syncs;
    json!({
        "store_in_bytes": segment_bytes + storage.translog_bytes,
        "segments_in_bytes": segment_bytes,
        "translog_in_bytes": storage.translog_bytes,
        "source_in_bytes": source_bytes,
        "documents": documents,
        "deleted_documents": deleted,
        "structures": parts_shown(&structures),
        "of_all_documents": parts_shown(documents_parts),
        "fields": fields,
        "io": flows,
        "syncs": {
            "files": all.syncs,
            "directory": storage.directory_syncs,
            "operations": storage.operations,
            "per_operation": ratio(syncs, storage.operations),
        },
        "amplification": {
            "space": ratio(*segment_bytes, *source_bytes),
            "write": ratio(all.written_bytes, storage.source_bytes),
        },
    })
}

fn parts_shown(parts: &BTreeMap<Cow<'static, str>, u64>) -> Value {
    let mut out: Map<String, Value> =
        parts.iter().map(|(part, bytes)| (format!("{}_in_bytes", part.replace(' ', "_")), (*bytes).into())).collect();
    out.insert("total_in_bytes".to_owned(), parts.values().sum::<u64>().into());
    Value::Object(out)
}

fn flow_shown(flow: &Flow) -> Value {
    json!({
        "writes": flow.writes,
        "written_in_bytes": flow.written_bytes,
        "reads": flow.reads,
        "read_in_bytes": flow.read_bytes,
        "syncs": flow.syncs,
    })
}

/// To four digits after the point; none where there is nothing to compare with.
fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| (a as f64 / b as f64 * 1e4).round() / 1e4)
}
