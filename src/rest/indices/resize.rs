//! `_clone`, `_shrink`, `_split`: an index with the same documents and mapping, and another number of shards.
//!
//! The source must refuse writes; its documents are copied with their versions, then the target gets the source's
//! blocks. A copy that fails takes the target away again, so that no half of an index stays.

use std::sync::Arc;

use ringdex_engine::ids::Version;
use serde_json::{Map, Value, json};

use super::lifecycle::{run_create, wait_for_active};
use super::upkeep::broadcast;
use crate::backend::SharedBackend;
use crate::coordinate::ids;
use crate::coordinate::search::Target;
use crate::coordinate::write::{ClientKind, ClientOp, WriteOptions, write};
use crate::dsl::SearchBody;
use crate::error::{ApiError, ApiResult};
use crate::metadata::create::{self, CreateIndex};
use crate::metadata::settings::{self, as_u32};
use crate::rest::by_query::Walk;
use crate::rest::params::{self, active_shards, flag, time};
use crate::rest::request::{Request, Response};
use crate::shard::message::{ShardRequest, VersionMatch};
use ringdex_net::cluster::state::IndexMetadata;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Clone,
    Shrink,
    Split,
}

/// `PUT|POST /{index}/_clone/{target}`
pub async fn clone(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    resize(backend, request, Kind::Clone).await
}

/// `PUT|POST /{index}/_shrink/{target}`
pub async fn shrink(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    resize(backend, request, Kind::Shrink).await
}

/// `PUT|POST /{index}/_split/{target}`
pub async fn split(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    resize(backend, request, Kind::Split).await
}

async fn resize(backend: &SharedBackend, mut request: Request, kind: Kind) -> ApiResult<Response> {
    if request.param("copy_settings").is_some() && !flag(&request, "copy_settings", true)? {
        return Err(ApiError::illegal_argument("parameter [copy_settings] can not be explicitly set to [false]"));
    }
    let source_name = request.param("index").unwrap_or("").to_owned();
    let target_name = request.param("target").unwrap_or("").to_owned();
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    if body.get("mappings").is_some() {
        return Err(ApiError::illegal_argument(
            "mappings are not allowed when resizing indices, all mappings are copied from the source index",
        ));
    }
    let (wanted, _, aliases) = create::parse_body(&body, false)?;
    let source =
        backend.state().indices.get(&source_name).cloned().ok_or_else(|| ApiError::index_not_found(&source_name))?;
    let shards = shard_count(kind, &source, &wanted)?;
    if !settings::is_on(&source, "index.blocks.write") && !settings::is_on(&source, "index.blocks.read_only") {
        return Err(ApiError::new(
            500,
            "illegal_state_exception",
            format!("index {source_name} must be read-only to resize index. use \"index.blocks.write=true\""),
        ));
    }
    let (own, blocks) = copied_settings(&source, &wanted, shards);
    let create = CreateIndex {
        name: target_name.clone(),
        settings: own,
        mapping: source.mapping.clone(),
        aliases,
        uuid: ids::uuid(backend.as_ref()),
        now_ms: backend.now_ms(),
        without_templates: true,
        ..CreateIndex::default()
    };
    let state = run_create(backend, create).await?;
    let Some(target) = state.indices.get(&target_name) else { return Err(ApiError::index_not_found(&target_name)) };
    let timeout = time(&request, "timeout")?.unwrap_or(30_000);
    let started = wait_for_active(backend, target, active_shards(&request)?, timeout).await?;
    if let Err(error) = copy(backend, &source, &target_name).await {
        finish(backend, &target_name, None).await?;
        return Err(error);
    }
    finish(backend, &target_name, Some(blocks)).await?;
    Ok(Response::ok(json!({ "acknowledged": true, "shards_acknowledged": started, "index": target_name })))
}

/// The target's number of shards, checked against the source's.
fn shard_count(kind: Kind, source: &IndexMetadata, wanted: &Map<String, Value>) -> ApiResult<u32> {
    let given = wanted.get("index.number_of_shards").and_then(as_u32);
    let own = source.number_of_shards;
    match kind {
        Kind::Clone => match given {
            Some(n) if n != own => Err(ApiError::illegal_argument(format!(
                "the number of source shards [{own}] must be equal to the number of target shards [{n}]"
            ))),
            _ => Ok(own),
        },
        Kind::Shrink => match given.unwrap_or(1) {
            n if n == 0 || n > own || !own.is_multiple_of(n) => Err(ApiError::illegal_argument(if n >= own {
                format!("the number of target shards [{n}] must be less that the number of source shards [{own}]")
            } else {
                format!("the number of source shards [{own}] must be a multiple of [{n}]")
            })),
            n => Ok(n),
        },
        Kind::Split => match given {
            None => Err(ApiError::validation(&["index.number_of_shards is required for split operations".to_owned()])),
            Some(n) if n <= own => Err(ApiError::illegal_argument(format!(
                "the number of source shards [{own}] must be less that the number of target shards [{n}]"
            ))),
            Some(n) if !n.is_multiple_of(own) => Err(ApiError::illegal_argument(format!(
                "the number of source shards [{own}] must be a factor of [{n}]"
            ))),
            Some(n) if !source.routing_num_shards.is_multiple_of(n) => Err(ApiError::illegal_argument(format!(
                "the number of routing shards [{}] must be a multiple of the target shards [{n}]",
                source.routing_num_shards
            ))),
            Some(n) => Ok(n),
        },
    }
}

/// The source's settings under the wanted ones; blocks apart, as they would stop the copying.
fn copied_settings(
    source: &IndexMetadata,
    wanted: &Map<String, Value>,
    shards: u32,
) -> (Map<String, Value>, Map<String, Value>) {
    const OWN: [&str; 8] = [
        "index.uuid",
        "index.creation_date",
        "index.provided_name",
        "index.version.created",
        "index.number_of_shards",
        "index.number_of_routing_shards",
        "index.resize.source.name",
        "index.resize.source.uuid",
    ];
    let mut own: Map<String, Value> = source
        .settings
        .iter()
        .filter(|(k, _)| !OWN.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    own.extend(wanted.iter().map(|(k, v)| (k.clone(), v.clone())));
    own.insert("index.number_of_shards".into(), shards.to_string().into());
    own.insert("index.number_of_routing_shards".into(), source.routing_num_shards.to_string().into());
    own.insert("index.resize.source.name".into(), source.name.clone().into());
    own.insert("index.resize.source.uuid".into(), source.uuid.clone().into());
    let (blocks, own) = own.into_iter().partition(|(k, _)| k.starts_with("index.blocks."));
    (own, blocks)
}

async fn copy(backend: &SharedBackend, source: &Arc<IndexMetadata>, target: &str) -> ApiResult<()> {
    let (_, failures) = broadcast(backend, std::slice::from_ref(source), &ShardRequest::Refresh).await;
    if !failures.is_empty() {
        return Err(ApiError::new(
            503,
            "unavailable_shards_exception",
            format!("[{}] has shards that cannot be read", source.name),
        ));
    }
    let list = (0..source.number_of_shards)
        .map(|shard| Target {
            index: source.clone(),
            shard,
            filter: None,
            boost: 1.0,
            context: None,
            after: None,
            slice: None,
        })
        .collect();
    let mut walk = Walk::open(backend, list, SearchBody::default(), 1000).await?;
    let options = WriteOptions { timeout_ms: 60_000, ..WriteOptions::default() };
    let copied = async {
        loop {
            let hits = walk.next().await?;
            if hits.is_empty() {
                return Ok(());
            }
            let ops = hits
                .into_iter()
                .map(|(_, hit)| ClientOp {
                    index: target.to_owned(),
                    condition: VersionMatch::External(hit.fetched.version.unwrap_or(Version(1))),
                    id: Some(hit.fetched.id),
                    routing: hit.fetched.routing,
                    kind: ClientKind::Index { source: hit.fetched.source.unwrap_or_default().into(), create: false },
                    require_alias: false,
                    pipeline: None,
                })
                .collect();
            for written in write(backend, ops, &options).await {
                written.result?;
            }
        }
    }
    .await;
    walk.close().await;
    copied
}

/// Gives the target its blocks and shows its documents; or, without blocks, takes it away.
async fn finish(backend: &SharedBackend, target: &str, blocks: Option<Map<String, Value>>) -> ApiResult<()> {
    let name = target.to_owned();
    let kept = blocks.is_some();
    let state = backend
        .update_state(
            "resize",
            Box::new(move |state| {
                let mut next = state.clone();
                match &blocks {
                    None => {
                        next.indices.remove(&name);
                    }
                    Some(blocks) => {
                        let Some(index) = state.indices.get(&name) else {
                            return Err(ApiError::index_not_found(&name));
                        };
                        let mut changed = (**index).clone();
                        changed.settings.extend(blocks.clone());
                        changed.settings_version += 1;
                        next.indices.insert(name.clone(), Arc::new(changed));
                    }
                }
                Ok(Some(next))
            }),
        )
        .await?;
    if kept && let Some(index) = state.indices.get(target) {
        broadcast(backend, std::slice::from_ref(index), &ShardRequest::Refresh).await;
    }
    Ok(())
}
