//! `_cat`: tables for people.

#[macro_use]
mod statistics;

pub mod indices;
pub mod nodes;
pub mod shards;

use serde_json::Value;

use super::http::{MediaType, media_type};
use super::request::{Request, Response};
use super::table::{Cell, Table, TableParams};
use crate::backend::SharedBackend;
use crate::error::ApiResult;

/// A table as the client wants it: text, or rows for JSON and YAML.
pub fn answer(request: &Request, table: &Table) -> ApiResult<Response> {
    let params = TableParams::new(|name| request.param(name))?;
    if params.help {
        return Ok(Response::text(table.help()));
    }
    if wants_rows(request) { Ok(Response::ok(table.rows(&params)?)) } else { Ok(Response::text(table.text(&params)?)) }
}

/// Text is what `_cat` is for, unless another format is asked for and text is not.
fn wants_rows(request: &Request) -> bool {
    match request.param("format") {
        Some("json" | "yaml" | "cbor" | "smile") => return true,
        Some(_) => return false,
        None => {}
    }
    let accept = request.header("accept").unwrap_or("");
    !accept.contains("text/plain")
        && !accept.contains("*/*")
        && accept.split(',').any(|a| matches!(media_type(a), Some(MediaType::Json | MediaType::Yaml)))
}

/// `epoch` and `timestamp` of now.
fn clock(backend: &SharedBackend) -> (Cell, Cell) {
    let ms = backend.now_ms();
    (Cell::Int(ms / 1000), Cell::Text(time_of_day(ms)))
}

/// `12:34:56`
fn time_of_day(ms: i64) -> String {
    let seconds = ms.div_euclid(1000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A string member of a JSON value.
fn member(value: &Value, key: &str) -> Cell {
    match value.get(key) {
        None | Some(Value::Null) => Cell::Null,
        Some(Value::String(s)) => Cell::Text(s.clone()),
        Some(other) => Cell::Text(other.to_string()),
    }
}

/// `GET /_cat`
pub async fn help(_backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    const PATHS: &[&str] = &[
        "/_cat/allocation",
        "/_cat/shards",
        "/_cat/shards/{index}",
        "/_cat/master",
        "/_cat/nodes",
        "/_cat/tasks",
        "/_cat/indices",
        "/_cat/indices/{index}",
        "/_cat/segments",
        "/_cat/segments/{index}",
        "/_cat/count",
        "/_cat/count/{index}",
        "/_cat/recovery",
        "/_cat/recovery/{index}",
        "/_cat/health",
        "/_cat/pending_tasks",
        "/_cat/aliases",
        "/_cat/aliases/{alias}",
        "/_cat/thread_pool",
        "/_cat/thread_pool/{thread_pools}",
        "/_cat/plugins",
        "/_cat/fielddata",
        "/_cat/fielddata/{fields}",
        "/_cat/nodeattrs",
        "/_cat/repositories",
        "/_cat/snapshots/{repository}",
        "/_cat/templates",
    ];
    Ok(Response::text(format!("=^.^=\n{}\n", PATHS.join("\n"))))
}
