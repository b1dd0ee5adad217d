//! Versions, conditions and options of writes, as parameters give them.

use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};

use crate::coordinate::write::WriteOptions;
use crate::error::{ApiError, ApiResult};
use crate::rest::params::{self, long};
use crate::rest::request::Request;
use crate::shard::message::VersionMatch;

/// Versioning as the client wrote it.
#[derive(Clone, Copy, Debug, Default)]
pub struct VersionParams {
    /// `version`
    pub version: Option<i64>,
    /// `version_type`
    pub kind: VersionKind,
    /// `if_seq_no`
    pub if_seq_no: Option<i64>,
    /// `if_primary_term`
    pub if_primary_term: Option<i64>,
}

/// `version_type`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionKind {
    /// Counted by us.
    #[default]
    Internal,
    /// `external`, `external_gt`
    External,
    /// `external_gte`
    ExternalGte,
}

impl VersionKind {
    /// Reads `version_type`.
    pub fn parse(text: &str) -> ApiResult<VersionKind> {
        match text {
            "internal" => Ok(VersionKind::Internal),
            "external" | "external_gt" => Ok(VersionKind::External),
            "external_gte" => Ok(VersionKind::ExternalGte),
            other => Err(ApiError::illegal_argument(format!("No version type match [{other}]"))),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            VersionKind::Internal => "INTERNAL",
            VersionKind::External => "EXTERNAL",
            VersionKind::ExternalGte => "EXTERNAL_GTE",
        }
    }
}

impl VersionParams {
    /// From the query string.
    pub fn of(request: &Request) -> ApiResult<VersionParams> {
        Ok(VersionParams {
            version: long(request, "version")?,
            kind: request.param("version_type").map_or(Ok(VersionKind::Internal), VersionKind::parse)?,
            if_seq_no: non_negative(long(request, "if_seq_no")?, "sequence numbers must be non negative. got")?,
            if_primary_term: non_negative(long(request, "if_primary_term")?, "primary term must be non negative. got")?,
        })
    }

    /// Checks what a write may ask for; `problems` collects what it may not. `typed`: internal versions are compared.
    pub fn check(&self, typed: bool, problems: &mut Vec<String>) -> VersionMatch {
        let seq_no = self.if_seq_no;
        let term = self.if_primary_term.filter(|t| *t != 0);
        if let Some(version) = self.version {
            let legal = match self.kind {
                VersionKind::Internal => version > 0,
                VersionKind::External | VersionKind::ExternalGte => version >= 0,
            };
            if !legal {
                problems.push(format!("illegal version value [{version}] for version type [{}]", self.kind.name()));
            } else if self.kind == VersionKind::Internal && !typed {
                problems.push("internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and `if_primary_term` instead".to_owned());
            }
        } else if self.kind != VersionKind::Internal {
            problems.push(format!("illegal version value [-3] for version type [{}]", self.kind.name()));
        }
        if seq_no.is_some() && (self.version.is_some() || self.kind != VersionKind::Internal) {
            problems.push("compare and write operations can not use versioning".to_owned());
        }
        match (seq_no, term) {
            (Some(_), None) => problems.push("ifSeqNo is set, but primary term is [0]".to_owned()),
            (None, Some(term)) => problems.push(format!("ifSeqNo is unassigned, but primary term is [{term}]")),
            _ => {}
        }
        match (seq_no, term, self.version, self.kind) {
            (Some(seq_no), Some(term), ..) => VersionMatch::SeqNo(SeqNo(seq_no), PrimaryTerm(term as u64)),
            (_, _, Some(version), VersionKind::External) => VersionMatch::External(Version(version as u64)),
            (_, _, Some(version), VersionKind::ExternalGte) => VersionMatch::ExternalGte(Version(version as u64)),
            (_, _, Some(version), VersionKind::Internal) => VersionMatch::Internal(Version(version as u64)),
            _ => VersionMatch::Any,
        }
    }

    /// For reads every kind means equality.
    #[must_use]
    pub fn for_read(&self) -> VersionMatch {
        self.version.map_or(VersionMatch::Any, |v| VersionMatch::Internal(Version(v.max(0) as u64)))
    }
}

fn non_negative(value: Option<i64>, text: &str) -> ApiResult<Option<i64>> {
    match value {
        Some(v) if v < 0 => Err(ApiError::illegal_argument(format!("{text} [{v}]."))),
        other => Ok(other),
    }
}

/// Further checks of one index operation.
pub fn check_index_op(
    id: Option<&str>,
    create: bool,
    versions: &VersionParams,
    typed: bool,
    problems: &mut Vec<String>,
) -> VersionMatch {
    if create {
        if versions.kind != VersionKind::Internal {
            problems.push("create operations only support internal versioning. use index instead".to_owned());
            return VersionMatch::Any;
        }
        if versions.version.is_some() && !typed {
            problems.push("create operations do not support explicit versions. use index instead".to_owned());
            return VersionMatch::Any;
        }
        if versions.if_seq_no.is_some() || versions.if_primary_term.is_some_and(|t| t != 0) {
            problems.push("create operations do not support compare and set. use index instead".to_owned());
            return VersionMatch::Any;
        }
    }
    if id.is_none() && (versions.kind != VersionKind::Internal || versions.version.is_some()) {
        problems.push("an id must be provided if version type or value are set".to_owned());
    }
    let condition = versions.check(typed, problems);
    check_id(id, problems);
    condition
}

/// Ids have at most 512 bytes.
pub fn check_id(id: Option<&str>, problems: &mut Vec<String>) {
    if let Some(id) = id
        && id.len() > 512
    {
        problems.push(format!("id [{id}] is too long, must be no longer than 512 bytes but was: {}", id.len()));
    }
}

/// Everything about a write that stands in the query string.
pub fn write_options(request: &Request) -> ApiResult<WriteOptions> {
    let typed = request.param("type").is_some();
    let timeout_ms = match request.param("timeout") {
        None => 60_000,
        Some(text) if typed && text.parse::<u32>().is_ok() => text.parse::<i64>().unwrap_or(0) * 1000,
        Some(text) => params::parse_time(text, "timeout")?,
    };
    let mut active = params::active_shards(request)?;
    if let Some(word) = request.param("consistency") {
        active = match word {
            "default" => params::ActiveShards::Default,
            "one" => params::ActiveShards::Count(1),
            "quorum" => params::ActiveShards::Quorum,
            "all" => params::ActiveShards::All,
            other => return Err(ApiError::illegal_argument(format!("No write consistency match [{other}]"))),
        };
    }
    let wait_for_sync = match request.param("durability") {
        None => None,
        Some("request") => Some(true),
        // In the memory of every copy in sync, of which there is one.
        Some("async" | "replicated" | "none") => Some(false),
        Some(other) => {
            return Err(ApiError::illegal_argument(format!(
                "Unknown value for durability: [{other}], must be one of [request, async, replicated, none]"
            )));
        }
    };
    Ok(WriteOptions { refresh: params::refresh(request)?, active, timeout_ms, wait_for_sync })
}
