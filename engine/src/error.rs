//! What can go wrong, told by what the caller can do about it.

use crate::budget::Exhausted;
use crate::ids::{PrimaryTerm, SeqNo, Version};

/// The result of every fallible engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An engine error. Each variant tells the caller what to do; texts are lowercase, with facts, without a full stop.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// Answer the client: the document is not at the version the operation expects.
    VersionConflict {
        /// The document's id.
        id: String,
        /// Elasticsearch's explanation, such as `required seqNo [1], primary term [1]. current document has seqNo [2] and primary term [1]`.
        reason: String,
        /// The document's version now, if it exists.
        current: Option<(Version, SeqNo, PrimaryTerm)>,
    },
    /// Answer the client: the document does not fit the mapping.
    Parse(ParseError),
    /// Answer the client: the request itself is wrong. `kind` is Elasticsearch's snake-case exception type.
    Request {
        /// Such as `illegal_argument_exception` or `query_shard_exception`.
        kind: &'static str,
        /// What is wrong, in Elasticsearch's words where it has some.
        reason: String,
    },
    /// The operation may be tried again later: memory, disk space, or a queue is full.
    Rejected {
        /// What is full.
        reason: String,
    },
    /// The request needs more memory than there is for requests like it now; nothing was changed.
    OutOfMemory {
        /// What the memory was for, such as `<agg>`.
        purpose: &'static str,
        /// What was wanted and what there is.
        exhausted: Exhausted,
    },
    /// The disk has no space for this write; nothing was changed. Reads go on.
    DiskFull {
        /// File and size that did not fit.
        reason: String,
    },
    /// The shard must fail: bytes on the disk are not what was written.
    Corrupt {
        /// File name.
        file: String,
        /// Byte offset of the damage.
        offset: u64,
        /// Expected against found.
        reason: String,
    },
    /// The shard must fail: a read, write or sync failed.
    Io {
        /// File name and operation.
        context: String,
        /// The operating system's words.
        reason: String,
    },
    /// A file that should be there is not.
    NotFound {
        /// File name.
        file: String,
    },
    /// The shard failed earlier and takes no more operations.
    Failed {
        /// The first failure.
        reason: String,
    },
    /// The deadline passed or the client went away; the caller decides whether partial results are useful.
    Stopped,
}

/// Why a document or mapping was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// Elasticsearch's exception type: `mapper_parsing_exception`, `strict_dynamic_mapping_exception`, ...
    pub kind: &'static str,
    /// The outer reason, such as `failed to parse field [age] of type [long] in document with id '1'`.
    pub reason: String,
    /// The inner cause: exception type and reason.
    pub caused_by: Option<Box<ParseError>>,
}

impl Error {
    /// Whether the shard must stop after this error (a failed sync is never retried).
    #[must_use]
    pub fn fails_shard(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Io { .. } | Error::Failed { .. })
    }

    /// A wrong request.
    pub fn request(kind: &'static str, reason: impl Into<String>) -> Error {
        Error::Request { kind, reason: reason.into() }
    }

    /// `illegal_argument_exception`.
    pub fn illegal_argument(reason: impl Into<String>) -> Error {
        Error::request("illegal_argument_exception", reason)
    }

    /// Damage in a file.
    pub fn corrupt(file: impl Into<String>, offset: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: file.into(), offset, reason: reason.into() }
    }
}

impl ParseError {
    /// An error without an inner cause.
    pub fn new(kind: &'static str, reason: impl Into<String>) -> ParseError {
        ParseError { kind, reason: reason.into(), caused_by: None }
    }

    /// The same with an inner cause.
    #[must_use]
    pub fn because(mut self, kind: &'static str, reason: impl Into<String>) -> ParseError {
        self.caused_by = Some(Box::new(ParseError::new(kind, reason)));
        self
    }
}

impl From<ParseError> for Error {
    fn from(e: ParseError) -> Error {
        Error::Parse(e)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::VersionConflict { id, reason, .. } => write!(f, "[{id}]: version conflict, {reason}"),
            Error::Parse(e) => e.fmt(f),
            Error::Request { reason, .. } | Error::Rejected { reason } | Error::DiskFull { reason } => {
                f.write_str(reason)
            }
            Error::OutOfMemory { purpose, exhausted } => write!(f, "too much memory for {purpose}: {exhausted}"),
            Error::Corrupt { file, offset, reason } => write!(f, "{file}: corrupt at offset {offset}: {reason}"),
            Error::Io { context, reason } => write!(f, "{context}: {reason}"),
            Error::NotFound { file } => write!(f, "{file}: no such file"),
            Error::Failed { reason } => write!(f, "shard has failed: {reason}"),
            Error::Stopped => f.write_str("stopped before the end"),
        }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Error {}
impl std::error::Error for ParseError {}
