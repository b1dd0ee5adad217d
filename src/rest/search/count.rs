//! `_count`.

use serde_json::Value;

use super::answer::shards_member;
use super::{bare, query_only, targets_of};
use crate::backend::SharedBackend;
use crate::coordinate::search::{SearchPlan, search as run};
use crate::dsl::SearchBody;
use crate::error::ApiResult;
use crate::metadata::resolve::IndicesOptions;
use crate::rest::params::{self, indices_options};
use crate::rest::request::{Request, Response};

/// `GET|POST [/{index}]/_count`
pub async fn count(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let query = query_only(backend, &mut request).await?;
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let list = targets_of(backend, &state, &request, options)?;
    let mut wanted = bare(query, backend.now_ms());
    wanted.min_score = params::float(&request, "min_score")?;
    wanted.terminate_after = params::int(&request, "terminate_after")?.filter(|n| *n > 0).map(|n| n as u64);
    let early = wanted.terminate_after.is_some();
    let plan = SearchPlan {
        request: wanted,
        fetch: SearchBody::default().fetch,
        from: 0,
        size: 0,
        deadline_ms: None,
        keep_alive_ms: None,
        request_cache: None,
        targets: list,
    };
    let outcome = run(backend, &plan).await?;
    let mut out = serde_json::Map::new();
    out.insert("count".into(), outcome.total.map_or(0, |(n, _)| n).into());
    if early {
        out.insert("terminated_early".into(), outcome.terminated_early.into());
    }
    out.insert("_shards".into(), shards_member(backend, &plan, &outcome));
    Ok(Response::ok(Value::Object(out)))
}
