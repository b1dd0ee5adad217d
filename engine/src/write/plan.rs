//! Version-conflict logic as a pure function: (what is asked, what is there) -> accept with a new version, or conflict.
//!
//! The texts are Elasticsearch's. Deleted documents whose tombstone is still known count as "there" for version
//! arithmetic (their version goes on), and as missing for everything else.

use crate::error::{Error, Result};
use crate::ids::{PrimaryTerm, SeqNo, Version};

/// What an operation requires of the document it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// `if_seq_no` and `if_primary_term`: the last change is this one.
    SeqNo(SeqNo, PrimaryTerm),
    /// The seeds' internal `?version=N`: the version is this one.
    Internal(Version),
    /// `version_type=external`: the version is lower; it becomes this one.
    External(Version),
    /// `version_type=external_gte`: the version is not higher; it becomes this one.
    ExternalGte(Version),
}

/// The last known state of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// Version of the last change.
    pub version: Version,
    /// Place of the last change.
    pub seq_no: SeqNo,
    /// Term of the last change.
    pub term: PrimaryTerm,
    /// The last change was a delete.
    pub deleted: bool,
}

/// An accepted operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The document's version after it.
    pub version: Version,
    /// Whether a live document was there.
    pub existed: bool,
}

/// Decides an index (`create`: only if there is none) or a delete.
///
/// # Errors
/// `Error::VersionConflict` with the reason.
pub fn plan(id: &str, create: bool, condition: Condition, current: Option<Current>) -> Result<Plan> {
    let live = current.filter(|c| !c.deleted);
    let conflict = |reason: String| {
        Err(Error::VersionConflict {
            id: id.to_owned(),
            reason,
            current: current.map(|c| (c.version, c.seq_no, c.term)),
        })
    };
    match condition {
        Condition::SeqNo(seq_no, term) => match live {
            None => {
                return conflict(format!(
                    "required seqNo [{seq_no}], primary term [{term}]. but no document was found"
                ));
            }
            Some(c) if c.seq_no != seq_no || c.term != term => {
                return conflict(format!(
                    "required seqNo [{seq_no}], primary term [{term}]. current document has seqNo [{}] and primary term [{}]",
                    c.seq_no, c.term
                ));
            }
            Some(_) => {}
        },
        Condition::Internal(version) => match live {
            None => return conflict(format!("document does not exist (expected version [{version}])")),
            Some(c) if c.version != version => {
                return conflict(format!(
                    "current version [{}] is different than the one provided [{version}]",
                    c.version
                ));
            }
            Some(_) => {}
        },
        Condition::External(version) => {
            if let Some(c) = current.filter(|c| c.version >= version) {
                return conflict(format!(
                    "current version [{}] is higher or equal to the one provided [{version}]",
                    c.version
                ));
            }
        }
        Condition::ExternalGte(version) => {
            if let Some(c) = current.filter(|c| c.version > version) {
                return conflict(format!(
                    "current version [{}] is higher than the one provided [{version}]",
                    c.version
                ));
            }
        }
        Condition::Any => {}
    }
    if let (true, Some(c)) = (create, live) {
        return conflict(format!("document already exists (current version [{}])", c.version));
    }
    let version = match condition {
        Condition::External(version) | Condition::ExternalGte(version) => version,
        _ => Version(current.map_or(1, |c| c.version.0 + 1)),
    };
    Ok(Plan { version, existed: live.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: u64, seq_no: i64, deleted: bool) -> Option<Current> {
        Some(Current { version: Version(version), seq_no: SeqNo(seq_no), term: PrimaryTerm(1), deleted })
    }

    fn check(create: bool, condition: Condition, current: Option<Current>, want: Result<(u64, bool), &str>) {
        match (plan("1", create, condition, current), want) {
            (Ok(got), Ok((version, existed))) => {
                assert_eq!(got, Plan { version: Version(version), existed }, "{condition:?} on {current:?}");
            }
            (Err(e), Err(text)) => assert_eq!(e.to_string(), format!("[1]: version conflict, {text}")),
            (got, want) => panic!("{condition:?} on {current:?}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn unconditional_operations_count_versions_up() {
        check(false, Condition::Any, None, Ok((1, false)));
        check(false, Condition::Any, at(1, 0, false), Ok((2, true)));
        check(false, Condition::Any, at(2, 1, true), Ok((3, false)));
        check(true, Condition::Any, at(2, 1, true), Ok((3, false)));
        check(true, Condition::Any, at(4, 1, false), Err("document already exists (current version [4])"));
    }

    #[test]
    fn seq_no_must_be_the_last_change() {
        let when = |s, t| Condition::SeqNo(SeqNo(s), PrimaryTerm(t));
        check(false, when(5, 1), at(2, 5, false), Ok((3, true)));
        check(
            false,
            when(4, 1),
            at(2, 5, false),
            Err("required seqNo [4], primary term [1]. current document has seqNo [5] and primary term [1]"),
        );
        check(
            false,
            when(5, 2),
            at(2, 5, false),
            Err("required seqNo [5], primary term [2]. current document has seqNo [5] and primary term [1]"),
        );
        check(false, when(5, 1), None, Err("required seqNo [5], primary term [1]. but no document was found"));
        check(
            false,
            when(5, 1),
            at(2, 5, true),
            Err("required seqNo [5], primary term [1]. but no document was found"),
        );
    }

    #[test]
    fn external_versions_are_the_clients() {
        check(false, Condition::External(Version(5)), None, Ok((5, false)));
        check(false, Condition::External(Version(0)), None, Ok((0, false)));
        check(false, Condition::External(Version(6)), at(5, 0, false), Ok((6, true)));
        check(
            false,
            Condition::External(Version(5)),
            at(5, 0, false),
            Err("current version [5] is higher or equal to the one provided [5]"),
        );
        check(
            false,
            Condition::External(Version(5)),
            at(5, 0, true),
            Err("current version [5] is higher or equal to the one provided [5]"),
        );
        check(false, Condition::ExternalGte(Version(5)), at(5, 0, false), Ok((5, true)));
        check(
            false,
            Condition::ExternalGte(Version(4)),
            at(5, 0, false),
            Err("current version [5] is higher than the one provided [4]"),
        );
    }

    #[test]
    fn internal_version_must_be_equal() {
        check(false, Condition::Internal(Version(1)), at(1, 0, false), Ok((2, true)));
        check(
            false,
            Condition::Internal(Version(1)),
            at(2, 1, false),
            Err("current version [2] is different than the one provided [1]"),
        );
        check(false, Condition::Internal(Version(1)), None, Err("document does not exist (expected version [1])"));
    }
}
