//! The operations that a copy can give to others, and how long it keeps them.
//!
//! They are read from the translog: what no commit needs is kept as long as a lease does ([`Engine::retain_from`]). How
//! long a lease may last, and how much it may keep, is the caller's to decide ([`Engine::seq_no_within`]).

use crate::engine::Engine;
use crate::error::Result;
use crate::ids::{Generation, SeqNo};
use crate::store::Directory;
use crate::translog::OperationReader;

impl<D: Directory> Engine<D> {
    /// Everything appended so far with a sequence number of `from` or more, each number once, in no certain order; files
    /// stay readable while the reader lives. Complete from [`history_from`](Self::history_from) on.
    ///
    /// # Errors
    /// Those of [`sync`](Self::sync), which it begins with.
    pub async fn operations(&self, from: SeqNo) -> Result<OperationReader<D>> {
        self.sync().await?;
        Ok(self.translog.read_range(from, SeqNo(i64::MAX)))
    }

    /// From here on every operation up to the local checkpoint can be read back; one above it when none can.
    #[must_use]
    pub fn history_from(&self) -> SeqNo {
        self.translog.complete_from(self.local_checkpoint())
    }

    /// Keeps operations from `seq_no` on: the least of what leases ask for. Takes effect with the next trim; what is gone
    /// does not come back.
    pub fn retain_from(&self, seq_no: SeqNo) {
        self.state.borrow_mut().copy.retain_from = seq_no;
    }

    /// The lowest argument of [`retain_from`](Self::retain_from) that keeps at most `bytes` of translog, as it is now.
    #[must_use]
    pub fn seq_no_within(&self, bytes: u64) -> SeqNo {
        self.translog.seq_no_within(bytes)
    }

    /// Drops history that neither a commit nor a lease needs. A flush does the same.
    ///
    /// # Errors
    /// Any fails the shard.
    pub async fn trim_history(&self) -> Result<()> {
        let _no_flush = self.flush_lock.lock().await;
        self.noting(self.trim_locked().await)
    }

    /// The same for who holds the flush lock.
    pub(crate) async fn trim_locked(&self) -> Result<()> {
        let generation = {
            let state = &mut *self.state.borrow_mut();
            state.copy.retire_commits();
            let commits = state.copy.commits.iter().map(|c| c.translog_position.generation);
            let needed = commits.min().unwrap_or(Generation(0));
            // Until every copy has what came in their place, or themselves.
            let global = state.copy.global_checkpoint.unwrap_or(SeqNo(i64::MAX));
            let suspended = self.translog.oldest_suspended_above(global).unwrap_or(needed);
            needed.min(suspended).min(self.translog.oldest_generation_with(state.copy.retain_from))
        };
        self.translog.trim(generation).await
    }
}
