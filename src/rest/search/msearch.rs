//! `_msearch`: several searches in one body.

use bytes::Bytes;
use serde_json::Value;

use super::{Prepared, execute, prepare};
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::error::{ApiError, ApiResult};
use crate::rest::ndjson::Lines;
use crate::rest::params;
use crate::rest::raw::{ObjectOut, json as put_json};
use crate::rest::request::{Body, Content, Method, Request, Response};

/// `GET|POST [/{index}]/_msearch`
pub async fn msearch(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let mut lines: Vec<Bytes> = Vec::new();
    let mut splitter = Lines::default();
    let mut any = false;
    while let Some(piece) = request.body.next().await? {
        any = true;
        splitter.feed(&piece, |line| {
            lines.push(line);
            Ok::<(), ApiError>(())
        })?;
    }
    if !any {
        return Err(params::body_required());
    }
    if !splitter.rest().is_empty() {
        return Err(ApiError::illegal_argument("The msearch request must be terminated by a newline [\\n]"));
    }
    if let Some(n) = params::int(&request, "max_concurrent_searches")?
        && n < 1
    {
        return Err(ApiError::illegal_argument("maxConcurrentSearchRequests must be positive"));
    }
    let mut searches: Vec<(Request, Prepared)> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let header = &lines[at];
        at += 1;
        let blank = header.iter().all(u8::is_ascii_whitespace);
        if blank && at == lines.len() {
            break;
        }
        let own = sub_request(&request, if blank { Value::Null } else { params::parse_json(header)? })?;
        let Some(body) = lines.get(at) else { break };
        at += 1;
        let json = params::parse_json(body)?;
        // A search that cannot be understood fails all of them: nothing was asked yet.
        let prepared = prepare(backend, &own, json).await?;
        searches.push((own, prepared));
    }
    if searches.is_empty() {
        return Err(ApiError::validation(&["no requests added".to_owned()]));
    }
    let mut out = Vec::new();
    let mut answers: Vec<ApiResult<Vec<u8>>> = Vec::new();
    // A few at a time: each is spread over all shards already.
    let mut queue = searches.into_iter();
    loop {
        let futures: Vec<LocalFuture<'_, ApiResult<Vec<u8>>>> = queue
            .by_ref()
            .take(8)
            .map(|(own, prepared)| {
                Box::pin(async move { execute(backend, &own, prepared, backend.monotonic_ns()).await })
                    as LocalFuture<'_, _>
            })
            .collect();
        if futures.is_empty() {
            break;
        }
        answers.extend(join::all(futures).await);
    }
    let mut top = ObjectOut::begin(&mut out);
    top.field("took", &((backend.monotonic_ns() - start) / 1_000_000));
    let list = top.key("responses");
    list.push(b'[');
    for (i, answer) in answers.into_iter().enumerate() {
        if i > 0 {
            list.push(b',');
        }
        match answer {
            Ok(mut bytes) => {
                bytes.pop();
                list.extend_from_slice(&bytes);
                list.extend_from_slice(b",\"status\":200}");
            }
            Err(error) => put_json(list, &error.to_body()),
        }
    }
    list.push(b']');
    top.end();
    Ok(Response { status: 200, content: Content::RawJson(out.into()), headers: Vec::new() })
}

/// One search of a multi search: its header's words as parameters, the request's own as defaults.
fn sub_request(request: &Request, header: Value) -> ApiResult<Request> {
    let mut own = Request {
        method: Method::Post,
        segments: Vec::new(),
        path: request.path.clone(),
        params: request.params.iter().filter(|(n, _)| n != "filter_path").cloned().collect(),
        headers: Vec::new(),
        body: Body::Full(Bytes::new()),
        task: None,
    };
    match header {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let joined = params::strings(&value).join(",");
                let name = match key.as_str() {
                    "index" | "indices" => "index",
                    "search_type" | "searchType" => "search_type",
                    "request_cache" | "requestCache" => "request_cache",
                    "expand_wildcards" | "expandWildcards" => "expand_wildcards",
                    "ignore_unavailable" | "ignoreUnavailable" => "ignore_unavailable",
                    "allow_no_indices" | "allowNoIndices" => "allow_no_indices",
                    "ignore_throttled" | "ignoreThrottled" => "ignore_throttled",
                    "type" | "types" => "type",
                    "allow_partial_search_results" | "preference" | "routing" | "ccs_minimize_roundtrips" => {
                        key.as_str()
                    }
                    other => {
                        return Err(ApiError::illegal_argument(format!(
                            "key [{other}] is not supported in the metadata section"
                        )));
                    }
                };
                if name == "index" && (value.is_null() || joined.is_empty()) {
                    continue;
                }
                own.params.push((name.to_owned(), joined));
            }
        }
        _ => return Err(ApiError::illegal_argument("the metadata section of a search must be an object")),
    }
    Ok(own)
}
