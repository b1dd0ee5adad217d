//! From an HTTP request to a REST request and back: paths, parameters, bodies, refusals.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringdex_engine::budget::{Exhausted, Pool, Taken};
use ringdex_net::http::{self as net, BodyError, BodyReader, Refusal};

use super::{Core, not_recovered, visits};
use crate::backend::{LocalFuture, SharedBackend};
use crate::error::{ApiError, ApiResult};
use crate::memory;
use crate::rest::http::{MediaType, Rendered, media_type};
use crate::rest::request::{Body, BodyStream, HEADERS, Method, Request};
use crate::rest::router;
use crate::rest::uri::{decode, query_params};
use crate::runtime::GlommioIo;
use crate::stats::timeline::{self, Account, Timeline};
use crate::stats::{self, Stage};

/// How long a request waits for a node that has just been started to know the cluster state.
const JOIN_WAIT: Duration = Duration::from_secs(5);

/// What answers HTTP on a core.
pub struct Api {
    core: Rc<Core<GlommioIo>>,
    backend: SharedBackend,
}

impl Api {
    /// For the connections of `core`.
    #[must_use]
    pub fn new(core: Rc<Core<GlommioIo>>) -> Api {
        let backend: SharedBackend = Rc::clone(&core) as SharedBackend;
        Api { core, backend }
    }
}

/// The budget's part for request bodies, as HTTP takes from it.
pub struct Bodies {
    /// What all bodies of this core hold.
    taken: RefCell<Taken>,
}

impl Bodies {
    /// Takes from `pool`.
    #[must_use]
    pub fn of(pool: &Arc<Pool>) -> Bodies {
        Bodies { taken: RefCell::new(pool.take(0).expect("nothing is always there")) }
    }
}

impl net::Budget for Bodies {
    fn take(&self, bytes: u64) -> Result<(), BodyError> {
        let mut taken = self.taken.borrow_mut();
        let all = taken.bytes().saturating_add(bytes);
        taken.resize(all).map_err(|e| BodyError::OutOfMemory { wanted: e.wanted, limit: e.limit })
    }

    fn give(&self, bytes: u64) {
        let mut taken = self.taken.borrow_mut();
        let rest = taken.bytes().checked_sub(bytes).expect("no more is given back than was taken");
        taken.resize(rest).expect("less is always there");
    }
}

impl net::Handler for Api {
    fn handle(&self, request: net::Request) -> Pin<Box<dyn Future<Output = net::Response>>> {
        let begun = request.head_complete;
        let parse = begun.duration_since(request.first_byte).as_nanos();
        stats::record(Stage::HttpParse, u64::try_from(parse).unwrap_or(u64::MAX));
        let is_head = request.method == net::Method::HEAD;
        let (backend, owner) = (Rc::clone(&self.backend), Rc::clone(&self.core));
        let (core, first_byte) = (self.core.number(), request.first_byte);
        Box::pin(async move {
            let answer = async {
                let recovered = owner.is_recovered() || owner.until_recovered(JOIN_WAIT).await;
                match convert(request) {
                    Ok(request) if is_metrics(&backend, &request) => metrics(&backend, is_head).await,
                    Ok(mut request) if recovered || request.segments.is_empty() => match wants_timing(&mut request) {
                        false => respond(router::handle(&backend, request).await),
                        true => {
                            let timeline = Timeline::new(core, None);
                            timeline.note(Stage::HttpParse, first_byte, begun);
                            let converted = Instant::now();
                            timeline.note(Stage::Route, begun, converted);
                            let work = router::handle(&backend, request);
                            let response = respond(timeline::within(Rc::clone(&timeline), work).await);
                            let answered = Instant::now();
                            timeline.note(Stage::Coordinate, converted, answered);
                            with_timing(response, &Account::new(first_byte, answered, timeline.take()))
                        }
                    },
                    Ok(_) => error_response(not_recovered(), is_head),
                    Err(e) => error_response(e, is_head),
                }
            };
            let (mut response, worked_on) = visits::noting(answer).await;
            response.worked_on = worked_on;
            stats::record_since(Stage::Request, begun);
            response
        })
    }

    fn refuse(&self, refusal: &Refusal) -> net::Response {
        error_response(refused(refusal), false)
    }

    fn sent(&self, took: Duration) {
        stats::record(Stage::WriteSocket, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Takes `profile=timing` (or `true`) off the parameters: no route need know it. Anything else it says is refused as unknown.
fn wants_timing(request: &mut Request) -> bool {
    let before = request.params.len();
    request.params.retain(|(name, value)| name != "profile" || !matches!(value.as_str(), "timing" | "true"));
    request.params.len() < before
}

/// The answer with what its time was spent on: a header on any, and `timing` in a JSON object.
fn with_timing(mut response: net::Response, account: &Account) -> net::Response {
    response.headers.push(("server-timing".into(), account.header().into()));
    let json = response
        .headers
        .iter()
        .any(|(name, value)| name == "content-type" && media_type(value) == Some(MediaType::Json));
    if json && let Some(body) = timeline::add_to_body(&response.body, &account.to_json()) {
        response.length = Some(body.len());
        response.body = body.into();
    }
    response
}

/// `GET /metrics`, unless an index has that name.
fn is_metrics(backend: &SharedBackend, request: &Request) -> bool {
    let state = backend.state();
    request.path == "/metrics"
        && matches!(request.method, Method::Get | Method::Head)
        && !state.indices.contains_key("metrics")
        && state.indices_of_alias("metrics").next().is_none()
}

async fn metrics(backend: &SharedBackend, is_head: bool) -> net::Response {
    let text = backend.metrics_text().await;
    let headers = vec![("content-type".into(), "text/plain; version=0.0.4; charset=utf-8".into())];
    let length = is_head.then_some(text.len());
    net::Response { status: 200, headers, body: text.into(), length, ..net::Response::default() }
}

fn refused(refusal: &Refusal) -> ApiError {
    match refusal {
        Refusal::LineTooLong { limit } => {
            ApiError::new(400, "too_long_frame_exception", format!("An HTTP line is larger than {limit} bytes."))
        }
        Refusal::HeadersTooLong { limit } => {
            ApiError::new(400, "too_long_frame_exception", format!("HTTP header is larger than {limit} bytes."))
        }
        Refusal::BodyTooLong { length, limit } => ApiError::new(
            413,
            "content_too_long_exception",
            format!("entity content is too long [{length}] for the configured limit [{limit}]"),
        ),
        Refusal::Expectation(text) => {
            ApiError::new(417, "illegal_argument_exception", format!("unsupported expectation [{text}]"))
        }
        Refusal::Panic(text) => ApiError::new(500, "exception", format!("internal error: {text}")),
    }
}

fn error_response(error: ApiError, is_head: bool) -> net::Response {
    let mut headers = vec![("content-type".into(), "application/json; charset=UTF-8".into())];
    headers.extend(error.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())));
    let body = Bytes::from(error.to_body().to_string());
    let length = is_head.then_some(body.len());
    net::Response { status: error.status, headers, body, length, ..net::Response::default() }
}

fn respond(rendered: Rendered) -> net::Response {
    let mut headers = rendered.headers;
    if let Some(content_type) = rendered.content_type {
        headers.push(("content-type".into(), content_type));
    }
    let length = Some(rendered.content_length);
    net::Response { status: rendered.status, headers, body: rendered.body, length, ..net::Response::default() }
}

fn convert(request: net::Request) -> ApiResult<Request> {
    let method = match request.method {
        net::Method::GET => Method::Get,
        net::Method::HEAD => Method::Head,
        net::Method::POST => Method::Post,
        net::Method::PUT => Method::Put,
        net::Method::DELETE => Method::Delete,
        net::Method::OPTIONS => Method::Options,
        net::Method::PATCH => Method::Patch,
        other => {
            let reason =
                format!("Unexpected HTTP method [{other}], allowed: [GET, HEAD, OPTIONS, PATCH, POST, PUT, DELETE]");
            return Err(ApiError::new(405, "illegal_argument_exception", reason));
        }
    };
    let path = request.uri.path().to_owned();
    let segments = path.split('/').filter(|s| !s.is_empty()).map(|s| decode(s, false)).collect::<ApiResult<_>>()?;
    let params = match request.uri.query() {
        Some(query) => query_params(query)?,
        None => Vec::new(),
    };
    let headers = request
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let known = HEADERS.into_iter().find(|known| name == known)?;
            Some((known, String::from_utf8_lossy(value.as_bytes()).into_owned()))
        })
        .collect();
    let body = match request.body {
        None => Body::Full(Bytes::new()),
        Some(reader) => Body::Stream(Box::new(Stream(reader))),
    };
    Ok(Request { method, segments, path, params, headers, body, task: None })
}

/// The body as REST reads it.
struct Stream(BodyReader);

impl BodyStream for Stream {
    fn next(&mut self) -> LocalFuture<'_, ApiResult<Option<Bytes>>> {
        Box::pin(async {
            let began = Instant::now();
            let piece = self.0.next().await;
            stats::record_since(Stage::Body, began);
            piece.map_err(body_error)
        })
    }
}

fn body_error(error: BodyError) -> ApiError {
    let text = error.to_string();
    match error {
        BodyError::TooLong { .. } => ApiError::new(413, "content_too_long_exception", text),
        BodyError::OutOfMemory { wanted, limit } => {
            memory::circuit_breaking("<http_request>", Exhausted { pool: "in_flight_requests", wanted, limit })
        }
        BodyError::Malformed(_) => ApiError::new(400, "parse_exception", text),
        BodyError::Disconnected(_) => ApiError::new(400, "node_disconnected_exception", text),
    }
}
