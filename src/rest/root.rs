//! `GET /`: who is there.

use serde_json::json;

use super::http::{BUILD_HASH, VERSION};
use super::request::{Request, Response};
use crate::backend::SharedBackend;
use crate::error::ApiResult;

/// `GET /`, `HEAD /`.
pub async fn info(backend: &SharedBackend, _request: Request) -> ApiResult<Response> {
    let state = backend.state();
    Ok(Response::ok(json!({
        "name": backend.node().name,
        "cluster_name": state.cluster_name,
        "cluster_uuid": if state.cluster_uuid.is_empty() { "_na_" } else { &state.cluster_uuid },
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": BUILD_HASH,
            "build_date": "2021-01-13T00:42:12.435326Z",
            "build_snapshot": false,
            "lucene_version": "8.7.0",
            "minimum_wire_compatibility_version": "6.8.0",
            "minimum_index_compatibility_version": "6.0.0-beta1"
        },
        "tagline": "You Know, for Search"
    })))
}
