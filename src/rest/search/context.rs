//! What is held open on shards between requests, and the id that names it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringdex_engine::query::Query;
use serde::{Deserialize, Serialize};

use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::coordinate::search::Target;
use crate::error::{ApiError, ApiResult};
use crate::shard::message::{ShardRequest, ShardResponse};

/// What a scroll id or a point in time stands for. It travels in the id, so that any core (or node) can go on with it.
/// What changes from page to page is a note that the first shard's context keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) targets: Vec<HeldTarget>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HeldTarget {
    pub(super) index: String,
    pub(super) uuid: String,
    pub(super) shard: u32,
    pub(super) context: u64,
    pub(super) filter: Option<Query>,
    pub(super) slice: Option<Query>,
}

impl HeldTarget {
    pub(super) fn of(list: &[Target]) -> Vec<HeldTarget> {
        list.iter()
            .map(|t| HeldTarget {
                index: t.index.name.clone(),
                uuid: t.index.uuid.clone(),
                shard: t.shard,
                context: t.context.unwrap_or(0),
                filter: t.filter.clone(),
                slice: t.slice.clone(),
            })
            .collect()
    }
}

impl Held {
    pub(super) fn encode(&self) -> ApiResult<String> {
        let json = serde_json::to_vec(self)
            .map_err(|e| ApiError::new(500, "illegal_state_exception", format!("cannot write a scroll id: {e}")))?;
        let mut packed = Vec::new();
        let mut encoder = flate2::write::DeflateEncoder::new(&mut packed, flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &json)
            .and_then(|()| encoder.finish().map(|_| ()))
            .map_err(|e| ApiError::new(500, "illegal_state_exception", e.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode(packed))
    }

    pub(super) fn decode(id: &str) -> ApiResult<Held> {
        let bad = || ApiError::illegal_argument("Cannot parse scroll id");
        let packed = URL_SAFE_NO_PAD.decode(id.trim_end_matches('=')).map_err(|_| bad())?;
        let mut json = Vec::new();
        // An id of ours is small; one that unpacks to more than this is not one of ours.
        let decoder = flate2::read::DeflateDecoder::new(&packed[..]);
        std::io::Read::read_to_end(&mut std::io::Read::take(decoder, 16 << 20), &mut json).map_err(|_| bad())?;
        serde_json::from_slice(&json).map_err(|_| bad())
    }

    pub(super) fn targets(&self, backend: &SharedBackend) -> ApiResult<Vec<Target>> {
        let state = backend.state();
        self.targets
            .iter()
            .map(|held| {
                let index = state
                    .indices
                    .get(&held.index)
                    .filter(|i| i.uuid == held.uuid && held.shard < i.number_of_shards)
                    .ok_or_else(|| ApiError::index_not_found(&held.index))?;
                Ok(Target {
                    index: index.clone(),
                    shard: held.shard,
                    filter: held.filter.clone(),
                    boost: 1.0,
                    context: Some(held.context),
                    after: None,
                    slice: held.slice.clone(),
                })
            })
            .collect()
    }
}

pub(super) async fn open_contexts(backend: &SharedBackend, list: &mut [Target], keep_alive_ms: i64) -> ApiResult<()> {
    let futures: Vec<LocalFuture<'_, ApiResult<u64>>> = list
        .iter()
        .map(|target| {
            let id = target.id();
            Box::pin(async move {
                match backend.shard(&id, ShardRequest::Open { keep_alive_ms }).await? {
                    ShardResponse::Opened { context } => Ok(context),
                    _ => Err(ApiError::new(500, "illegal_state_exception", "a context was answered by something else")),
                }
            }) as LocalFuture<'_, _>
        })
        .collect();
    for (target, context) in list.iter_mut().zip(join::all(futures).await) {
        target.context = Some(context?);
    }
    Ok(())
}

pub(super) async fn free(backend: &SharedBackend, held: &Held) -> usize {
    let Ok(list) = held.targets(backend) else { return 0 };
    let mut freed = 0;
    for target in list {
        let context = target.context.unwrap_or(0);
        let known = backend.shard(&target.id(), ShardRequest::Note { context, note: None }).await.is_ok();
        let gone = backend.shard(&target.id(), ShardRequest::Free { context }).await.is_ok();
        freed += usize::from(known && gone);
    }
    freed
}
