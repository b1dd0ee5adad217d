//! Writes: from what a client asks for to operations of shards, and back in the client's order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};

use super::{ids, join, routing};
use crate::backend::{LocalFuture, ShardHealth, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::create::{CreateIndex, create};
use crate::metadata::{resolve, settings};
use crate::rest::filter::glob;
use crate::rest::params::{ActiveShards, parse_active_shards};
use crate::rest::passed::until_master;
use crate::shard::message::{
    RefreshPolicy, ShardId, ShardRequest, ShardResponse, UpdateOp, VersionMatch, WriteKind, WriteOp, WriteRequest,
    WriteResult,
};

/// What a client asks for, before any name is resolved.
#[derive(Clone, Debug)]
pub struct ClientOp {
    /// Index or alias, perhaps with date math.
    pub index: String,
    /// Document id; none = make one.
    pub id: Option<String>,
    /// Routing.
    pub routing: Option<String>,
    /// Condition.
    pub condition: VersionMatch,
    /// What to do.
    pub kind: ClientKind,
    /// The name must be an alias.
    pub require_alias: bool,
    /// Ingest pipeline by name.
    pub pipeline: Option<String>,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum ClientKind {
    /// `index` and `create`.
    Index {
        /// The document.
        source: Bytes,
        /// It must not exist.
        create: bool,
    },
    /// `update`
    Update(Box<UpdateOp>),
    /// `delete`
    Delete,
}

/// What holds for all operations of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Visibility.
    pub refresh: RefreshPolicy,
    /// Copies that must be active.
    pub active: ActiveShards,
    /// How long to wait for them.
    pub timeout_ms: i64,
    /// Overrides the index's durability.
    pub wait_for_sync: Option<bool>,
}

/// One operation's end.
#[derive(Clone, Debug)]
pub struct Written {
    /// The index it went to, or as the client called it.
    pub index: String,
    /// The document's id.
    pub id: String,
    /// What happened.
    pub result: Result<WriteResult, ApiError>,
    /// The shard refreshed because of it.
    pub forced_refresh: bool,
    /// Copies the shard should have.
    pub copies: u32,
    /// Copies that have it.
    pub successful: u32,
    /// Copies on whose disks it is, if the request chose its durability.
    pub fsynced: Option<u32>,
}

struct Placed {
    at: usize,
    op: WriteOp,
}

/// Runs all operations; one result each, in order. A failing one does not stop the others.
pub async fn write(backend: &SharedBackend, ops: Vec<ClientOp>, options: &WriteOptions) -> Vec<Written> {
    let mut results: Vec<Option<Written>> = ops.iter().map(|_| None).collect();
    let failures = create_missing(backend, &ops, options.timeout_ms).await;
    let state = backend.state();
    let mut groups: BTreeMap<(String, u32), (Arc<IndexMetadata>, Vec<Placed>)> = BTreeMap::new();
    for (at, op) in ops.into_iter().enumerate() {
        let (index_name, id) = (op.index.clone(), op.id.clone().unwrap_or_default());
        let placed = match failures.get(&op.index) {
            Some(error) if state_lacks(&state, &op.index, backend.now_ms()) => Err(error.clone()),
            _ => place(backend, &state, op),
        };
        match placed {
            Ok((index, shard, op)) => {
                groups
                    .entry((index.name.clone(), shard))
                    .or_insert_with(|| (index, Vec::new()))
                    .1
                    .push(Placed { at, op });
            }
            Err(error) => {
                let name = error.extra.get("index").and_then(|v| v.as_str()).map_or(index_name, str::to_owned);
                results[at] = Some(Written {
                    index: name,
                    id,
                    result: Err(error),
                    forced_refresh: false,
                    copies: 0,
                    successful: 0,
                    fsynced: None,
                });
            }
        }
    }
    let futures: Vec<LocalFuture<'_, Vec<(usize, Written)>>> = groups
        .into_iter()
        .map(|((_, shard), (index, placed))| {
            Box::pin(write_shard(backend, index, shard, placed, *options)) as LocalFuture<'_, _>
        })
        .collect();
    for (at, written) in join::all(futures).await.into_iter().flatten() {
        results[at] = Some(written);
    }
    results.into_iter().map(|r| r.expect("every operation has been answered")).collect()
}

fn state_lacks(state: &ClusterState, name: &str, now_ms: i64) -> bool {
    resolve::date_math(name, now_ms).is_ok_and(|n| !state.indices.contains_key(&n) && !resolve::is_alias(state, &n))
}

async fn write_shard(
    backend: &SharedBackend,
    index: Arc<IndexMetadata>,
    shard: u32,
    placed: Vec<Placed>,
    options: WriteOptions,
) -> Vec<(usize, Written)> {
    let copies = 1 + index.number_of_replicas;
    let id = ShardId { index: index.name.as_str().into(), uuid: index.uuid.as_str().into(), shard };
    let names: Vec<(usize, String)> = placed.iter().map(|p| (p.at, p.op.id.clone())).collect();
    let summary = describe(&index.name, shard, &placed);
    let ops: Vec<WriteOp> = placed.into_iter().map(|p| p.op).collect();
    let answer = async {
        wait_for_copies(backend, &index, &id, &options, &summary).await?;
        let timeout_ms = options.timeout_ms.max(0) as u64;
        let request = WriteRequest { ops, refresh: options.refresh, wait_for_sync: options.wait_for_sync, timeout_ms };
        match backend.shard(&id, ShardRequest::Write(request)).await? {
            ShardResponse::Write(response) => Ok(response),
            _ => Err(ApiError::new(500, "illegal_state_exception", "a write was answered by something else")),
        }
    }
    .await;
    let one = |at: usize, id: String, result, forced_refresh, fsynced, successful| {
        let written = Written { index: index.name.clone(), id, result, forced_refresh, copies, successful, fsynced };
        (at, written)
    };
    match answer {
        Ok(response) => {
            let forced = response.forced_refresh;
            let fsynced = options.wait_for_sync.map(|_| u32::from(response.fsynced));
            let items = names.into_iter().zip(response.items);
            items.map(|((at, id), result)| one(at, id, result, forced, fsynced, response.copies)).collect()
        }
        Err(error) => names.into_iter().map(|(at, id)| one(at, id, Err(error.clone()), false, None, 0)).collect(),
    }
}

fn describe(index: &str, shard: u32, placed: &[Placed]) -> String {
    let word = |op: &WriteOp| match &op.kind {
        WriteKind::Index { .. } => "index",
        WriteKind::Delete => "delete",
        WriteKind::Update(_) => "update",
    };
    match placed {
        [one] => format!(
            "[BulkShardRequest [[{index}][{shard}]] containing [{} {{[{index}][_doc][{}]}}]]",
            word(&one.op),
            one.op.id
        ),
        many => format!("[BulkShardRequest [[{index}][{shard}]] containing [{}] requests]", many.len()),
    }
}

/// Copies of a shard that take part in writes now.
#[must_use]
pub fn active_copies(backend: &SharedBackend, shard: &ShardId) -> u32 {
    let state = backend.state();
    match state.routing.get(&*shard.uuid) {
        Some(routing) if state.nodes.len() > 1 => {
            routing.copies(shard.shard).iter().filter(|copy| copy.active()).count() as u32
        }
        _ => u32::from(backend.shard_health(shard) == ShardHealth::Started),
    }
}

/// How many copies `wait_for_active_shards` means for an index.
pub fn copies_needed(index: &IndexMetadata, active: ActiveShards) -> ApiResult<u32> {
    let all = 1 + index.number_of_replicas;
    let active = match active {
        ActiveShards::Default => parse_active_shards(settings::get(index, "index.write.wait_for_active_shards"))?,
        given => given,
    };
    let needed = match active {
        ActiveShards::Default => 1,
        ActiveShards::All => all,
        ActiveShards::Count(n) => n,
        // One copy of two is no minority that another majority could stand against.
        ActiveShards::Quorum if index.number_of_replicas < 2 => 1,
        ActiveShards::Quorum => all / 2 + 1,
    };
    Ok(needed)
}

async fn wait_for_copies(
    backend: &SharedBackend,
    index: &IndexMetadata,
    shard: &ShardId,
    options: &WriteOptions,
    request: &str,
) -> ApiResult<()> {
    let needed = copies_needed(index, options.active)?;
    let start = backend.monotonic_ns();
    loop {
        let have = active_copies(backend, shard);
        // The shard itself answers for a missing primary; only more copies than that are waited for here.
        // A primary that is not there yet is waited for where the request goes to.
        let elsewhere = backend.state().nodes.len() > 1 || backend.shard_health(shard) == ShardHealth::Missing;
        if have >= needed || (needed <= 1 && have == 0 && elsewhere) {
            return Ok(());
        }
        let waited_ms = (backend.monotonic_ns() - start) / 1_000_000;
        if waited_ms as i64 >= options.timeout_ms {
            let timeout = show_time(options.timeout_ms);
            let text = if have == 0 {
                format!(
                    "[{}][{}] primary shard is not active Timeout: [{timeout}], request: {request}",
                    index.name, shard.shard
                )
            } else {
                format!(
                    "[{}][{}] Not enough active copies to meet shard count of [{}] (have {have}, needed {needed}). Timeout: [{timeout}], request: {request}",
                    index.name,
                    shard.shard,
                    if options.active == ActiveShards::All { "ALL".to_owned() } else { needed.to_string() },
                )
            };
            return Err(ApiError::new(503, "unavailable_shards_exception", text));
        }
        backend.sleep_ms(10.min((options.timeout_ms as u64).saturating_sub(waited_ms)).max(1)).await;
    }
}

/// Milliseconds in the largest unit that leaves no fraction, as Elasticsearch prints durations.
#[must_use]
pub fn show_time(ms: i64) -> String {
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if ms >= size && ms % size == 0 {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

/// Finds the index, checks the operation against it, chooses the shard.
fn place(backend: &SharedBackend, state: &ClusterState, op: ClientOp) -> ApiResult<(Arc<IndexMetadata>, u32, WriteOp)> {
    let name = resolve::date_math(&op.index, backend.now_ms())?;
    if op.require_alias && !resolve::is_alias(state, &name) {
        return Err(not_an_alias(&name));
    }
    let index = resolve::resolve_write(state, &name, backend.now_ms())?;
    block::check(state, &index, Level::Write)?;
    if let Some(pipeline) = &op.pipeline
        && pipeline != "_none"
        && state.custom.get("pipelines").is_none_or(|p| !p.contains_key(pipeline))
    {
        return Err(ApiError::illegal_argument(format!("pipeline with id [{pipeline}] does not exist")));
    }
    if op.id.as_deref() == Some("") {
        return Err(ApiError::illegal_argument("if _id is specified it must not be empty"));
    }
    let routing_value = alias_routing(&index, &name, op.routing)?;
    let auto_id = op.id.is_none();
    let id = op.id.unwrap_or_else(|| ids::document_id(backend.as_ref()));
    if routing_value.is_none() && routing_required(&index) {
        return Err(routing_missing(&index, &id));
    }
    let shard = routing::shard_of(&index, &id, routing_value.as_deref());
    let kind = match op.kind {
        ClientKind::Index { source, create } => WriteKind::Index { source, create: create || auto_id, auto_id },
        ClientKind::Update(update) => WriteKind::Update(update),
        ClientKind::Delete => WriteKind::Delete,
    };
    Ok((index, shard, WriteOp { id, routing: routing_value, condition: op.condition, kind }))
}

/// 404 when a name must be an alias and is not.
#[must_use]
pub fn not_an_alias(name: &str) -> ApiError {
    let mut error = ApiError::index_not_found(name);
    error.reason =
        format!("no such index [{name}] and [require_alias] request flag is [true] and [{name}] is not an alias");
    error
}

/// Whether documents of the index must have a routing value.
#[must_use]
pub fn routing_required(index: &IndexMetadata) -> bool {
    index.mapping.get("_routing").and_then(|r| r.get("required")).is_some_and(|v| v == true || v == "true")
}

/// 400 `routing_missing_exception`.
#[must_use]
pub fn routing_missing(index: &IndexMetadata, id: &str) -> ApiError {
    ApiError::new(400, "routing_missing_exception", format!("routing is required for [{}]/[_doc]/[{id}]", index.name))
        .with("index_uuid", "_na_")
        .with("index", index.name.clone())
}

/// Routing after the alias has had its say.
fn alias_routing(index: &IndexMetadata, name: &str, given: Option<String>) -> ApiResult<Option<String>> {
    let Some(own) = index.aliases.get(name).and_then(|a| a.index_routing.as_ref()) else { return Ok(given) };
    match given {
        Some(other) if other != *own => Err(ApiError::illegal_argument(format!(
            "Alias [{name}] has index routing associated with it [{own}], and was provided with routing value [{other}], rejecting operation"
        ))),
        _ => Ok(Some(own.clone())),
    }
}

/// Creates the indices that operations need and that are not there; what could not be created, and why.
async fn create_missing(backend: &SharedBackend, ops: &[ClientOp], timeout_ms: i64) -> BTreeMap<String, ApiError> {
    let state = backend.state();
    let now_ms = backend.now_ms();
    let mut failures = BTreeMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for op in ops {
        // A delete makes an index only when its external version must be remembered.
        let external = matches!(op.condition, VersionMatch::External(_) | VersionMatch::ExternalGte(_));
        let makes = !op.require_alias && (!matches!(op.kind, ClientKind::Delete) || external);
        if !makes || seen.contains(&op.index.as_str()) {
            continue;
        }
        seen.push(&op.index);
        if !state_lacks(&state, &op.index, now_ms) {
            continue;
        }
        let created = match until_master(backend, timeout_ms).await {
            Ok(()) => auto_create(backend, &state, &op.index).await,
            Err(error) => Err(error),
        };
        if let Err(error) = created {
            failures.insert(op.index.clone(), error);
        }
    }
    failures
}

/// Creates one index because something is written to it, if that is allowed.
pub async fn auto_create(backend: &SharedBackend, state: &ClusterState, expression: &str) -> ApiResult<()> {
    let name = resolve::date_math(expression, backend.now_ms())?;
    auto_create_allowed(state, &name)?;
    let request = CreateIndex {
        name: name.clone(),
        provided_name: Some(expression.to_owned()),
        uuid: ids::uuid(backend.as_ref()),
        now_ms: backend.now_ms(),
        ..CreateIndex::default()
    };
    let update = Box::new(move |state: &ClusterState| {
        if state.indices.contains_key(&request.name) || resolve::is_alias(state, &request.name) {
            return Ok(None);
        }
        create(state, &request).map(|(next, _)| Some(next))
    });
    backend.update_state(&format!("auto create [{name}]"), update).await.map(|_| ())
}

fn auto_create_allowed(state: &ClusterState, name: &str) -> ApiResult<()> {
    let rules = state.setting("action.auto_create_index").and_then(|v| v.as_str()).unwrap_or("true");
    let refuse = |why: String| {
        let mut error = ApiError::index_not_found(name);
        error.reason = format!("no such index [{name}] and {why}");
        Err(error)
    };
    match rules {
        "true" => return Ok(()),
        "false" => return refuse("[action.auto_create_index] is [false]".to_owned()),
        _ => {}
    }
    for rule in rules.split(',').map(str::trim) {
        let (allow, pattern) = match rule.strip_prefix('-') {
            Some(pattern) => (false, pattern),
            None => (true, rule.strip_prefix('+').unwrap_or(rule)),
        };
        if glob(pattern, name) {
            return if allow {
                Ok(())
            } else {
                refuse(format!(
                    "[action.auto_create_index] contains [-{pattern}] which forbids automatic creation of the index"
                ))
            };
        }
    }
    refuse(format!("[action.auto_create_index] ([{rules}]) doesn't match"))
}
