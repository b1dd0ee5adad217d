//! `_delete_by_query`, `_update_by_query`, `_reindex`: a walk over everything a query finds, and a write for each hit.

mod conduct;
mod progress;
mod walk;

use bytes::Bytes;
use ringdex_engine::ids::Version;
use ringdex_engine::search::SourceFilter;
use serde_json::{Map, Value};

use super::lookup;
use super::params::{self, ActiveShards, flag, indices_options};
use super::request::{Request, Response};
use super::search::{slice_targets, targets_of};
use super::tasks;
use crate::backend::SharedBackend;
use crate::coordinate::search::{Hit, Target, targets};
use crate::coordinate::write::{ClientKind, ClientOp, WriteOptions};
use crate::dsl::search::query_param;
use crate::dsl::{SearchBody, parse_search};
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::{self, IndicesOptions};
use crate::shard::message::{RefreshPolicy, VersionMatch};
use conduct::launch;
pub(crate) use walk::Walk;

/// What is asked for beside the query.
struct Job {
    page: usize,
    /// Documents a second; infinite = as fast as it goes.
    rate: f32,
    /// Parts that go on at once; none = as many as there are shards.
    slices: Option<u32>,
    /// Whether the answer is the end of it.
    waits: bool,
    max_docs: Option<u64>,
    proceed: bool,
    refresh: bool,
    options: WriteOptions,
    shows_updated: bool,
    shows_created: bool,
    /// Writes documents again, so that their sources must be there.
    needs_source: bool,
}

impl Job {
    fn of(request: &Request, body: &Value, shows_updated: bool, shows_created: bool) -> ApiResult<Job> {
        let conflicts = body.get("conflicts").and_then(Value::as_str).or_else(|| request.param("conflicts"));
        let proceed = match conflicts {
            None | Some("abort") => false,
            Some("proceed") => true,
            Some(other) => {
                return Err(ApiError::illegal_argument(format!(
                    "conflicts may only be \"proceed\" or \"abort\" but was [{other}]"
                )));
            }
        };
        let page = params::int(request, "scroll_size")?.unwrap_or(1000);
        if page <= 0 {
            return Err(ApiError::validation(&[format!("size should be greater than 0 but was [{page}]")]));
        }
        let slices = match request.param("slices") {
            None => Some(1),
            Some("auto") => None,
            Some(text) => Some(text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                ApiError::illegal_argument("[slices] must be a positive integer or the string \"auto\"")
            })?),
        };
        Ok(Job {
            page: page as usize,
            rate: rate_of(request)?.unwrap_or(f32::INFINITY),
            slices,
            waits: flag(request, "wait_for_completion", true)?,
            max_docs: max_docs(request, body)?,
            proceed,
            refresh: flag(request, "refresh", false)?,
            options: WriteOptions {
                refresh: RefreshPolicy::None,
                active: params::active_shards(request).unwrap_or(ActiveShards::Default),
                timeout_ms: params::time(request, "timeout")?.unwrap_or(60_000),
                wait_for_sync: None,
            },
            shows_updated,
            shows_created,
            needs_source: shows_updated,
        })
    }
}

/// `requests_per_second`
fn rate_of(request: &Request) -> ApiResult<Option<f32>> {
    let Some(text) = request.param("requests_per_second") else { return Ok(None) };
    if text == "-1" {
        return Ok(Some(f32::INFINITY));
    }
    let rate = text.parse().ok().filter(|rate: &f32| *rate > 0.0);
    rate.map(Some).ok_or_else(|| {
        ApiError::illegal_argument(
            "[requests_per_second] must be a float greater than 0. Use -1 to disable throttling.",
        )
    })
}

/// An operation that was understood.
struct Work {
    job: Job,
    targets: Vec<Target>,
    body: SearchBody,
    /// Makes a write of a hit of an index.
    make: Box<dyn Fn(String, Hit) -> ClientOp>,
    /// When its request came (monotonic).
    start: u64,
}

fn max_docs(request: &Request, body: &Value) -> ApiResult<Option<u64>> {
    // One limit under several names; those given must agree.
    let given: Vec<String> = [body.get("max_docs"), body.get("size")]
        .into_iter()
        .flatten()
        .map(params::text)
        .chain([request.param("size"), request.param("max_docs")].into_iter().flatten().map(str::to_owned))
        .collect();
    let Some(text) = given.first() else { return Ok(None) };
    let number: i64 = text.parse().map_err(|_| {
        ApiError::illegal_argument(format!("Failed to parse int parameter [max_docs] with value [{text}]"))
    })?;
    if number < 0 {
        return Err(ApiError::illegal_argument(format!("[max_docs] parameter cannot be negative, found [{number}]")));
    }
    if let Some(other) = given.iter().find(|other| *other != text) {
        return Err(ApiError::illegal_argument(format!(
            "[max_docs] set to two different values [{text}] and [{other}]"
        )));
    }
    if number == 0 {
        return Err(ApiError::validation(&[format!(
            "[max_docs] should be greater than 0 if the request is limited to some number of documents or -1 if it isn't but it was [{number}]"
        )]));
    }
    if let Some(slices) = request.param("slices").and_then(|s| s.parse::<i64>().ok())
        && number < slices
    {
        return Err(ApiError::validation(&[format!(
            "[max_docs] should be >= [slices] but was [{number}] and [{slices}]"
        )]));
    }
    Ok(Some(number as u64))
}

/// The shards and the search of a request whose body is a search.
async fn search_part(
    backend: &SharedBackend,
    request: &Request,
    body: &Value,
    allowed: &[&str],
    job: &Job,
) -> ApiResult<(Vec<Target>, SearchBody)> {
    let mut inner = Map::new();
    for (key, value) in body.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "conflicts" | "max_docs" | "size" | "script") {
            if matches!(key.as_str(), "stored_fields" | "_source" | "fields") {
                return Err(ApiError::illegal_argument(format!("{key} is not supported in this context")));
            }
            if !allowed.contains(&key.as_str()) {
                return Err(ApiError::new(
                    400,
                    "parsing_exception",
                    format!("Unknown key for a START_OBJECT in [{key}]."),
                ));
            }
            inner.insert(key.clone(), value.clone());
        }
    }
    let inner = Value::Object(inner);
    let looked_up = lookup::resolve(backend, &inner).await?;
    let mut parsed = parse_search(looked_up.as_ref().unwrap_or(&inner))?;
    parsed.request.sort.clear();
    let param = |name: &str| request.param(name);
    if let Some(query) = query_param(&param)? {
        parsed.request.query = Some(query);
    }
    parsed.fetch.source = SourceFilter::default();
    let options = indices_options(request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let state = backend.state();
    let mut list = targets_of(backend, &state, request, options)?;
    slice_by_hand(&mut list, &parsed, job)?;
    Ok((list, parsed))
}

/// Leaves the part that the body itself asks for.
fn slice_by_hand(list: &mut [Target], body: &SearchBody, job: &Job) -> ApiResult<()> {
    let Some(slice) = &body.slice else { return Ok(()) };
    if job.slices != Some(1) {
        return Err(ApiError::validation(&[
            "can't specify both manual and automatic slicing at the same time".to_owned()
        ]));
    }
    slice_targets(list, slice);
    Ok(())
}

fn condition(hit: &Hit) -> VersionMatch {
    hit.fetched.seq_no.map_or(VersionMatch::Any, |(seq_no, term)| VersionMatch::SeqNo(seq_no, term))
}

/// `POST /{index}/_delete_by_query`
pub async fn delete(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let job = Job::of(&request, &body, false, false)?;
    let (list, mut parsed) = search_part(backend, &request, &body, &["query", "slice", "sort"], &job).await?;
    if parsed.request.query.is_none() {
        return Err(ApiError::validation(&["query is missing".to_owned()]));
    }
    parsed.fetch.source.disabled = true;
    let make = Box::new(|index: String, hit: Hit| ClientOp {
        index,
        condition: condition(&hit),
        id: Some(hit.fetched.id),
        routing: hit.fetched.routing,
        kind: ClientKind::Delete,
        require_alias: false,
        pipeline: None,
    });
    launch(backend, &request, Work { job, targets: list, body: parsed, make, start }).await
}

/// `POST /{index}/_update_by_query`
pub async fn update(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    if body.get("script").is_some() {
        return Err(ApiError::illegal_argument("cannot execute [update] scripts"));
    }
    let job = Job::of(&request, &body, true, false)?;
    let (list, parsed) = search_part(backend, &request, &body, &["query", "slice", "sort"], &job).await?;
    let pipeline = request.param("pipeline").map(str::to_owned);
    let make = Box::new(move |index: String, hit: Hit| ClientOp {
        index,
        condition: condition(&hit),
        id: Some(hit.fetched.id),
        routing: hit.fetched.routing,
        kind: ClientKind::Index {
            source: hit.fetched.source.map_or_else(|| Bytes::from_static(b"{}"), Bytes::from),
            create: false,
        },
        require_alias: false,
        pipeline: pipeline.clone(),
    });
    launch(backend, &request, Work { job, targets: list, body: parsed, make, start }).await
}

/// Where documents of a reindex go.
struct Destination {
    index: String,
    create: bool,
    external: bool,
    routing: Routing,
    pipeline: Option<String>,
}

enum Routing {
    Keep,
    Discard,
    Set(String),
}

impl Destination {
    fn parse(dest: &Value) -> ApiResult<Destination> {
        let map = params::object(dest, "[dest]")?;
        let word = |key: &str| map.get(key).map(params::text);
        for key in map.keys() {
            if !matches!(key.as_str(), "index" | "type" | "op_type" | "version_type" | "routing" | "pipeline") {
                return Err(ApiError::new(
                    400,
                    "x_content_parse_exception",
                    format!("[1:2] [dest] unknown field [{key}]"),
                ));
            }
        }
        let create = match word("op_type").as_deref() {
            None | Some("index") => false,
            Some("create") => true,
            Some(other) => {
                return Err(ApiError::illegal_argument(format!(
                    "opType must be 'create' or 'index', found: [{other}]"
                )));
            }
        };
        let external = match word("version_type").as_deref() {
            None | Some("internal") => false,
            Some("external" | "external_gt" | "external_gte") => true,
            Some(other) => return Err(ApiError::illegal_argument(format!("No version type match [{other}]"))),
        };
        let routing = match word("routing").as_deref() {
            None | Some("keep") => Routing::Keep,
            Some("discard") => Routing::Discard,
            Some(text) if text.starts_with('=') => Routing::Set(text[1..].to_owned()),
            Some(other) => {
                return Err(ApiError::validation(&[format!(
                    "routing must be unset, [keep], [discard] or [=<some new value>] but was [{other}]"
                )]));
            }
        };
        let Some(index) = word("index").filter(|i| !i.is_empty()) else {
            return Err(ApiError::validation(&["index is missing".to_owned()]));
        };
        Ok(Destination { index, create, external, routing, pipeline: word("pipeline") })
    }
}

/// `POST /_reindex`
pub async fn reindex(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let start = backend.monotonic_ns();
    let body = params::required_json(&mut request).await?;
    let map = params::object(&body, "reindex")?;
    for key in map.keys() {
        if !matches!(key.as_str(), "source" | "dest" | "max_docs" | "size" | "conflicts" | "script") {
            return Err(ApiError::new(
                400,
                "x_content_parse_exception",
                format!("[1:2] [reindex] unknown field [{key}]"),
            ));
        }
    }
    if map.contains_key("script") {
        return Err(ApiError::illegal_argument("cannot execute [reindex] scripts"));
    }
    let source = map.get("source").cloned().unwrap_or(Value::Null);
    if source.get("remote").is_some() {
        return Err(ApiError::illegal_argument("reindex from remote is not supported"));
    }
    let dest = Destination::parse(map.get("dest").unwrap_or(&Value::Null))?;
    let mut job = Job::of(&request, &body, true, true)?;
    let mut inner = source.as_object().cloned().unwrap_or_default();
    let names: Vec<String> = inner
        .remove("index")
        .map(|v| params::strings(&v).iter().flat_map(|s| params::split_list(s)).collect())
        .unwrap_or_default();
    if names.is_empty() {
        return Err(ApiError::validation(
            &["use _all if you really want to copy from all existing indexes".to_owned()],
        ));
    }
    if let Some(size) = inner.remove("size").and_then(|v| v.as_u64()) {
        job.page = (size as usize).clamp(1, 10_000);
    }
    inner.remove("type");
    let kept_source = inner.get("_source").map(super::document::source_filter_value).transpose()?;
    let inner = Value::Object(inner);
    let looked_up = lookup::resolve(backend, &inner).await?;
    let mut parsed = parse_search(looked_up.as_ref().unwrap_or(&inner))?;
    parsed.request.sort.clear();
    parsed.fetch.source = kept_source.unwrap_or_default();
    let state = backend.state();
    let mut list = targets(backend, &state, &names, IndicesOptions::OPEN_FORBID_CLOSED, None, None)?;
    slice_by_hand(&mut list, &parsed, &job)?;
    let to = resolve::date_math(&dest.index, backend.now_ms())?;
    let concrete = resolve::resolve_write(&state, &to, backend.now_ms()).map_or(to.clone(), |i| i.name.clone());
    if list.iter().any(|t| t.index.name == concrete) {
        return Err(ApiError::validation(&[format!("reindex cannot write into an index its reading from [{to}]")]));
    }
    if let Some(task) = &request.task {
        task.describe(|| format!("reindex from [{}] to [{}][_doc]", names.join(","), dest.index));
    }
    let make = Box::new(move |_: String, hit: Hit| {
        let version = hit.fetched.version.unwrap_or(Version(1));
        ClientOp {
            index: dest.index.clone(),
            condition: if dest.external { VersionMatch::External(version) } else { VersionMatch::Any },
            id: Some(hit.fetched.id),
            routing: match &dest.routing {
                Routing::Keep => hit.fetched.routing,
                Routing::Discard => None,
                Routing::Set(text) => Some(text.clone()),
            },
            kind: ClientKind::Index {
                source: hit.fetched.source.map_or_else(|| Bytes::from_static(b"{}"), Bytes::from),
                create: dest.create,
            },
            require_alias: false,
            pipeline: dest.pipeline.clone(),
        }
    });
    launch(backend, &request, Work { job, targets: list, body: parsed, make, start }).await
}

/// `POST /_reindex/{task_id}/_rethrottle`, and the same under the two others.
pub async fn rethrottle(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let Some(rate) = rate_of(&request)? else {
        return Err(ApiError::illegal_argument("requests_per_second is a required parameter"));
    };
    tasks::rethrottle(backend, &mut request, rate).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rest::testing::{FakeNode, call};

    #[test]
    fn slices_that_cannot_be_are_refused() {
        let node = FakeNode::new();
        call(&node, "PUT /i/_doc/1", "{\"a\": 1}");
        for (path, reason) in [
            ("slices=0", "[slices] must be a positive integer or the string \"auto\""),
            ("slices=x", "[slices] must be a positive integer or the string \"auto\""),
            ("slices=2", "Validation Failed: 1: can't specify both manual and automatic slicing at the same time;"),
            (
                "requests_per_second=0",
                "[requests_per_second] must be a float greater than 0. Use -1 to disable throttling.",
            ),
        ] {
            let body = "{\"slice\": {\"id\": 0, \"max\": 2}}";
            let (status, answer) = call(&node, &format!("POST /i/_update_by_query?{path}"), body);
            assert_eq!((status, &answer["error"]["reason"]), (400, &json!(reason)));
        }
    }

    #[test]
    fn answers_have_the_counts_that_can_be() {
        let node = FakeNode::new();
        for id in 0..3 {
            call(&node, &format!("PUT /i/_doc/{id}"), "{\"a\": 1}");
        }
        let (status, updated) = call(&node, "POST /i/_update_by_query?slices=auto&requests_per_second=500", "");
        assert_eq!(status, 200, "{updated}");
        assert_eq!((&updated["updated"], &updated["requests_per_second"]), (&json!(3), &json!(500.0)));
        assert!(
            updated.get("created").is_none() && updated.get("slices").is_none() && updated.get("canceled").is_none()
        );
        let (_, copied) =
            call(&node, "POST /_reindex", "{\"source\": {\"index\": \"i\"}, \"dest\": {\"index\": \"j\"}}");
        assert_eq!((&copied["created"], &copied["updated"], &copied["deleted"]), (&json!(3), &json!(0), &json!(0)));
    }
}
