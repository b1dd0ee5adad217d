//! Numbers that must not mix.

use serde::{Deserialize, Serialize};

/// A document's position inside one segment, counting from 0. A plain alias: it lives in hot loops.
pub type DocId = u32;

/// The document after the last one: what a cursor answers when it has run out.
pub const NO_MORE_DOCS: DocId = u32::MAX;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// An operation's position in its shard's history; dense from 0.
    SeqNo(i64)
);
number!(
    /// Counts a shard's primaries, from 1; a higher term fences a lower one.
    PrimaryTerm(u64)
);
number!(
    /// Counts the changes of one document, from 1; with external versioning whatever the client says, from 0.
    Version(u64)
);
number!(
    /// Names a segment of one shard copy; never reused.
    SegmentId(u64)
);
number!(
    /// Names one file of a series (translog, commit point, live docs); grows.
    Generation(u64)
);

impl SeqNo {
    /// No operation has happened yet.
    pub const NONE: SeqNo = SeqNo(-1);
    /// The caller states no sequence number.
    pub const UNASSIGNED: SeqNo = SeqNo(-2);

    /// The next position.
    #[must_use]
    pub fn next(self) -> SeqNo {
        SeqNo(self.0 + 1)
    }
}
