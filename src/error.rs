//! The error a client sees: Elasticsearch's shape, made from whatever went wrong.

use ringdex_engine::Error;
use ringdex_engine::error::ParseError;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Snake-case exception type.
    pub kind: String,
    /// One sentence.
    pub reason: String,
    /// `index`, `index_uuid`, `shard`, `resource.id`, `line`, `col`, ...: printed beside type and reason.
    pub extra: Map<String, Value>,
    /// Inner cause.
    pub caused_by: Option<Box<ApiError>>,
    /// What `root_cause` lists; empty = the error itself.
    pub root_causes: Vec<ApiError>,
    /// Response headers, such as `Allow` or `Retry-After`.
    pub headers: Vec<(Cow<'static, str>, String)>,
}

/// The result of everything a client can cause.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// Any error.
    pub fn new(status: u16, kind: impl Into<String>, reason: impl Into<String>) -> ApiError {
        ApiError {
            status,
            kind: kind.into(),
            reason: reason.into(),
            extra: Map::new(),
            caused_by: None,
            root_causes: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// 400 `illegal_argument_exception`.
    pub fn illegal_argument(reason: impl Into<String>) -> ApiError {
        ApiError::new(400, "illegal_argument_exception", reason)
    }

    /// 400 `action_request_validation_exception` with its usual wording.
    pub fn validation(problems: &[String]) -> ApiError {
        let list: Vec<String> = problems.iter().enumerate().map(|(i, p)| format!("{}: {p};", i + 1)).collect();
        ApiError::new(400, "action_request_validation_exception", format!("Validation Failed: {}", list.join("")))
    }

    /// 404 `index_not_found_exception`.
    pub fn index_not_found(index: &str) -> ApiError {
        ApiError::new(404, "index_not_found_exception", format!("no such index [{index}]"))
            .with("resource.type", "index_or_alias")
            .with("resource.id", index)
            .with("index_uuid", "_na_")
            .with("index", index)
    }

    /// Adds a member beside type and reason.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> ApiError {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> ApiError {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the inner cause.
    #[must_use]
    pub fn because(mut self, cause: ApiError) -> ApiError {
        self.caused_by = Some(Box::new(cause));
        self
    }

    /// An engine error of a shard: where it happened is added as Elasticsearch does.
    #[must_use]
    pub fn of_engine(error: Error, index: &str, uuid: &str, shard: u32) -> ApiError {
        let api = ApiError::from(error);
        match api.kind.as_str() {
            "version_conflict_engine_exception" => {
                api.with("index_uuid", uuid).with("shard", shard.to_string()).with("index", index)
            }
            "query_shard_exception" => api.with("index_uuid", uuid).with("index", index),
            _ => api,
        }
    }

    /// `{"type":...,"reason":...,...}` without root causes: also what bulk items and shard failures carry.
    #[must_use]
    pub fn to_cause(&self) -> Value {
        let mut out = Map::new();
        out.insert("type".into(), self.kind.clone().into());
        // An error whose kind says everything has no reason.
        let reason = Some(&self.reason).filter(|reason| !reason.is_empty());
        out.insert("reason".into(), reason.cloned().into());
        for (k, v) in &self.extra {
            out.insert(k.clone(), v.clone());
        }
        if let Some(cause) = &self.caused_by {
            out.insert("caused_by".into(), cause.to_cause());
        }
        Value::Object(out)
    }

    /// The whole body: `{"error":{"root_cause":[...],"type":...},"status":...}`.
    #[must_use]
    pub fn to_body(&self) -> Value {
        let roots: Vec<Value> = if self.root_causes.is_empty() {
            let mut bare = self.clone();
            bare.caused_by = None;
            vec![bare.to_cause()]
        } else {
            self.root_causes.iter().map(ApiError::to_cause).collect()
        };
        let mut error = Map::new();
        error.insert("root_cause".into(), Value::Array(roots));
        if let Value::Object(own) = self.to_cause() {
            error.extend(own);
        }
        json!({ "error": error, "status": self.status })
    }
}

impl From<ParseError> for ApiError {
    fn from(e: ParseError) -> ApiError {
        let mut api = ApiError::new(400, e.kind, e.reason);
        api.caused_by = e.caused_by.map(|c| Box::new(ApiError::from(*c)));
        api
    }
}

impl From<Error> for ApiError {
    fn from(e: Error) -> ApiError {
        let text = e.to_string();
        match e {
            Error::VersionConflict { .. } => ApiError::new(409, "version_conflict_engine_exception", text),
            Error::Parse(p) => p.into(),
            Error::Request { kind, reason } => {
                let status = match kind {
                    "too_many_buckets_exception" => 503,
                    "aggregation_execution_exception"
                    | "aggregation_initialization_exception"
                    | "invalid_aggregation_path_exception" => 500,
                    _ => 400,
                };
                ApiError::new(status, kind, reason)
            }
            Error::Rejected { reason } => {
                ApiError::new(429, "es_rejected_execution_exception", reason).header("Retry-After", "1")
            }
            Error::OutOfMemory { purpose, exhausted } => crate::memory::circuit_breaking(purpose, exhausted),
            Error::DiskFull { reason } => ApiError::new(
                429,
                "cluster_block_exception",
                format!("disk usage exceeded flood-stage watermark, no space for this write: {reason}"),
            )
            .header("Retry-After", "5"),
            Error::Stopped => ApiError::new(408, "timeout_exception", text),
            Error::Corrupt { .. } | Error::Io { .. } | Error::NotFound { .. } | Error::Failed { .. } => {
                ApiError::new(503, "shard_failed_exception", text)
            }
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.reason)
    }
}

impl std::error::Error for ApiError {}
