//! A REST request and its answer, independent of the HTTP library.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::Value;

use crate::backend::LocalFuture;
use crate::error::{ApiError, ApiResult};
use crate::tasks::Task;

/// HTTP methods we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
}

/// The headers that routes and answers look at; no other is kept of a request.
pub const HEADERS: [&str; 3] = ["accept", "content-type", "x-opaque-id"];

/// One request. Path segments and parameters are percent-decoded.
pub struct Request {
    /// Method.
    pub method: Method,
    /// Decoded path segments: `/a/_doc/x%2Fy` is `["a", "_doc", "x/y"]`.
    pub segments: Vec<String>,
    /// The path as sent, for texts.
    pub path: String,
    /// Query parameters in order; a parameter without `=` has an empty value.
    pub params: Vec<(String, String)>,
    /// Of [`HEADERS`], those that it has.
    pub headers: Vec<(&'static str, String)>,
    /// The body, not read yet.
    pub body: Body,
    /// What it is listed as, once a route was found.
    pub task: Option<Rc<Task>>,
}

/// A body that arrives in pieces, already gunzipped, already limited to `http.max_content_length` (beyond it reading
/// answers 413).
pub enum Body {
    /// All there (possibly empty).
    Full(Bytes),
    /// Still arriving.
    Stream(Box<dyn BodyStream>),
}

/// Pieces of a body.
pub trait BodyStream {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> LocalFuture<'_, ApiResult<Option<Bytes>>>;
}

impl Body {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> ApiResult<Option<Bytes>> {
        match self {
            Body::Full(bytes) => Ok(Some(std::mem::take(bytes)).filter(|b| !b.is_empty())),
            Body::Stream(stream) => stream.next().await,
        }
    }

    /// All of it.
    pub async fn collect(&mut self) -> ApiResult<Bytes> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await? else { return Ok(first) };
        let mut all = Vec::with_capacity(first.len() + second.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }
}

impl Request {
    /// A header's value by lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// A parameter's value; the last one wins.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `GET` of another path by the same client, with some of the parameters.
    #[must_use]
    pub fn instead(&self, path: &[&str], params: &[&str]) -> Request {
        Request {
            method: Method::Get,
            segments: path.iter().map(|part| (*part).to_owned()).collect(),
            path: format!("/{}", path.join("/")),
            params: self.params.iter().filter(|(name, _)| params.contains(&name.as_str())).cloned().collect(),
            headers: self.headers.clone(),
            body: Body::Full(Bytes::new()),
            task: self.task.clone(),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Content.
    pub content: Content,
    /// Further headers.
    pub headers: Vec<(Cow<'static, str>, String)>,
}

/// What an answer carries.
#[derive(Debug)]
pub enum Content {
    /// Rendered according to `pretty`, `filter_path`, `format` and `Accept`.
    Json(Value),
    /// JSON bytes already rendered (large search answers); rendered again only when a parameter asks for it.
    RawJson(Bytes),
    /// `text/plain; charset=UTF-8`
    Text(String),
    /// Nothing (HEAD).
    Empty,
}

impl Response {
    /// JSON with a status.
    #[must_use]
    pub fn json(status: u16, value: Value) -> Response {
        Response { status, content: Content::Json(value), headers: Vec::new() }
    }

    /// 200 with JSON.
    #[must_use]
    pub fn ok(value: Value) -> Response {
        Response::json(200, value)
    }

    /// 200 with text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Response {
        Response { status: 200, content: Content::Text(text.into()), headers: Vec::new() }
    }

    /// What it says, if that is JSON.
    #[must_use]
    pub fn into_json(self) -> Value {
        match self.content {
            Content::Json(value) => value,
            _ => Value::Null,
        }
    }

    /// A bare status (HEAD answers).
    #[must_use]
    pub fn empty(status: u16) -> Response {
        Response { status, content: Content::Empty, headers: Vec::new() }
    }
}

impl From<ApiError> for Response {
    fn from(mut error: ApiError) -> Response {
        let headers = std::mem::take(&mut error.headers);
        Response { status: error.status, content: Content::Json(error.to_body()), headers }
    }
}
