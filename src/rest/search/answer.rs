//! The answer of a search: hits, shards, totals, in the words the client asked for.

use ringdex_engine::search::SortValue;
use ringdex_engine::search::aggs::{RenderOptions, finalize};
use serde_json::{Value, json};

use super::cluster_setting;
use crate::backend::SharedBackend;
use crate::coordinate::search::{SearchOutcome, SearchPlan, failures_shown};
use crate::error::{ApiError, ApiResult};
use crate::rest::raw::{ObjectOut, json as put_json};

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) total_as_int: bool,
    pub(super) typed_keys: bool,
    /// `terminated_early` is shown only to those who may cause it.
    pub(super) shows_early: bool,
    pub(super) explain: bool,
    /// Sort values were added by us (scroll) and are not shown.
    pub(super) hide_sort: bool,
    /// `stored_fields: _none_`
    pub(super) hide_id: bool,
    /// Shown when not 1; 0 = not counted.
    pub(super) reduce_phases: usize,
}

pub(super) fn write_answer(
    backend: &SharedBackend,
    plan: &SearchPlan,
    outcome: &SearchOutcome,
    shape: &Shape,
    extra: Option<(&str, &str)>,
    profile: Option<Vec<Value>>,
    start: u64,
) -> ApiResult<Vec<u8>> {
    let aggregations = if plan.request.aggs.is_empty() {
        None
    } else {
        let mut options = RenderOptions {
            typed_keys: shape.typed_keys,
            total_as_int: shape.total_as_int,
            ..RenderOptions::default()
        };
        if let Some(most) = cluster_setting(backend, "search.max_buckets").and_then(|v| v.parse().ok()) {
            options.buckets_max = most;
        }
        Some(finalize(outcome.aggs.clone(), &plan.request.aggs, &options).map_err(ApiError::from)?)
    };
    let mut out = Vec::with_capacity(
        512 + outcome.hits.iter().map(|h| 160 + h.fetched.source.as_ref().map_or(0, Vec::len)).sum::<usize>(),
    );
    let mut top = ObjectOut::begin(&mut out);
    if let Some((key, value)) = extra {
        top.field(key, value);
    }
    top.field("took", &((backend.monotonic_ns() - start) / 1_000_000));
    top.field("timed_out", &outcome.timed_out);
    if shape.shows_early {
        top.field("terminated_early", &outcome.terminated_early);
    }
    if shape.reduce_phases > 1 {
        top.field("num_reduce_phases", &shape.reduce_phases);
    }
    top.field("_shards", &shards_member(backend, plan, outcome));
    write_hits(&mut top, plan, outcome, shape);
    if let Some(aggregations) = aggregations {
        top.field("aggregations", &aggregations);
    }
    if let Some(shards) = profile {
        top.field("profile", &json!({ "shards": shards }));
    }
    top.end();
    Ok(out)
}

pub(super) fn shards_member(backend: &SharedBackend, plan: &SearchPlan, outcome: &SearchOutcome) -> Value {
    let failed = outcome.failures.len();
    let mut shards = json!({ "total": outcome.total_shards, "successful": outcome.total_shards - failed, "skipped": 0, "failed": failed });
    if failed > 0 {
        shards["failures"] = failures_shown(backend, &plan.targets, &outcome.failures).into();
    }
    shards
}

fn write_hits(top: &mut ObjectOut<'_>, plan: &SearchPlan, outcome: &SearchOutcome, shape: &Shape) {
    let mut hits = ObjectOut::begin(top.key("hits"));
    match outcome.total {
        Some((value, _)) if shape.total_as_int => hits.field("total", &value),
        Some((value, exact)) => {
            hits.field("total", &json!({ "value": value, "relation": if exact { "eq" } else { "gte" } }));
        }
        None if shape.total_as_int => hits.field("total", &-1),
        None => {}
    }
    let none = (outcome.total_shards == 0).then_some(0.0);
    hits.field("max_score", &outcome.max_score.filter(|_| !outcome.hits.is_empty()).and_then(finite).or(none));
    let out = hits.key("hits");
    out.push(b'[');
    for (i, hit) in outcome.hits.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let target = &plan.targets[hit.target];
        let mut object = ObjectOut::begin(out);
        if shape.explain {
            object.field("_shard", &format!("[{}][{}]", target.index.name, target.shard));
            object.field("_node", "");
        }
        object.field("_index", &target.index.name);
        object.field("_type", "_doc");
        if !shape.hide_id {
            object.field("_id", &hit.fetched.id);
        }
        if let Some(version) = &hit.fetched.version {
            object.field("_version", version);
        }
        if let Some((seq_no, term)) = &hit.fetched.seq_no {
            object.field("_seq_no", seq_no);
            object.field("_primary_term", term);
        }
        object.field("_score", &finite(hit.top.score));
        if let Some(routing) = &hit.fetched.routing {
            object.field("_routing", routing);
        }
        if !hit.fetched.ignored.is_empty() {
            object.field("_ignored", &hit.fetched.ignored);
        }
        if let Some(source) = &hit.fetched.source {
            object.raw("_source", source);
        }
        if let Some(fields) = hit.fetched.fields.as_ref().filter(|f| !f.is_empty()) {
            object.field("fields", fields);
        }
        if !hit.top.sort.is_empty() && !shape.hide_sort {
            let out = object.key("sort");
            out.push(b'[');
            for (i, value) in hit.top.sort.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_sort_value(out, value);
            }
            out.push(b']');
        }
        if !hit.fetched.matched_queries.is_empty() {
            object.field("matched_queries", &hit.fetched.matched_queries);
        }
        if let Some(explanation) = &hit.fetched.explanation {
            object.field("_explanation", explanation);
        }
        object.end();
    }
    out.push(b']');
    hits.end();
}

fn finite(score: f32) -> Option<f32> {
    score.is_finite().then_some(score)
}

fn write_sort_value(out: &mut Vec<u8>, value: &SortValue) {
    match value {
        SortValue::Null => put_json(out, &()),
        SortValue::Int(n) => put_json(out, n),
        SortValue::UInt(n) => put_json(out, n),
        SortValue::Float(n) if n.is_finite() => put_json(out, n),
        SortValue::Float(n) => put_json(
            out,
            if n.is_nan() {
                "NaN"
            } else if *n > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            },
        ),
        SortValue::String(s) => put_json(out, s),
    }
}
