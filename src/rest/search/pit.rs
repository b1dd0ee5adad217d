//! `_pit`: a point in time that searches share.

use serde_json::json;

use super::context::{Held, HeldTarget, free, open_contexts};
use super::{check_keep_alive, targets_of};
use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::IndicesOptions;
use crate::rest::params::{self, indices_options, parse_time};
use crate::rest::request::{Request, Response};

/// `POST /{index}/_pit`, `POST /{index}/_search/point_in_time`
pub async fn open_pit(backend: &SharedBackend, request: Request) -> ApiResult<Response> {
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let Some(keep_alive) = request.param("keep_alive").map(|t| parse_time(t, "keep_alive")).transpose()? else {
        return Err(ApiError::validation(&["[keep_alive] is not specified".to_owned()]));
    };
    check_keep_alive(keep_alive)?;
    let state = backend.state();
    let mut list = targets_of(backend, &state, &request, options)?;
    open_contexts(backend, &mut list, keep_alive).await?;
    let id = Held { targets: HeldTarget::of(&list) }.encode()?;
    if request.path.contains("point_in_time") {
        let total = list.len();
        return Ok(Response::ok(json!({
            "pit_id": id,
            "_shards": { "total": total, "successful": total, "skipped": 0, "failed": 0 },
            "creation_time": backend.now_ms(),
        })));
    }
    Ok(Response::ok(json!({ "id": id })))
}

/// `DELETE /_pit`, `DELETE /_search/point_in_time`
pub async fn close_pit(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::required_json(&mut request).await?;
    let ids = body.get("id").or_else(|| body.get("pit_id")).map(params::strings).unwrap_or_default();
    if ids.is_empty() {
        return Err(ApiError::validation(&["id is empty".to_owned()]));
    }
    let mut freed = 0;
    let mut shown = Vec::new();
    for id in &ids {
        let count = free(backend, &Held::decode(id)?).await;
        freed += count;
        shown.push(json!({ "pit_id": id, "successful": count > 0 }));
    }
    let status = if freed > 0 { 200 } else { 404 };
    if request.path.contains("point_in_time") {
        return Ok(Response::json(status, json!({ "pits": shown })));
    }
    Ok(Response::json(status, json!({ "succeeded": true, "num_freed": freed })))
}
