//! A copy is made from its primary: the target asks, the source answers.
//!
//! ```text
//! target                                     source (the primary)
//!   what I have ---------------------------> history goes back so far?   operations from there
//!                                            else                         the files of a commit, which is held
//!   file chunks (those that differ) <------- read
//!   operations, in batches <---------------- from now on every new operation is sent to the target, too
//!   all of them are durable here ----------> in sync: no answer leaves without the target any more
//! ```
//!
//! The source holds the commit, and the history above it, as long as the session lives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_engine::copy::{CommitFile, CommitSnapshot};
use ringdex_engine::ids::SeqNo;
use ringdex_engine::translog::OperationReader;
use ringdex_net::cluster::ids::AllocationId;
use ringdex_net::wire::replicate::OperationsBatch;
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::error::{ApiError, ApiResult};
use crate::io::NodeIo;
use crate::shard::message::PeerRecovery;

/// How long a source waits until its state knows the target.
const KNOWN_WAIT: Duration = Duration::from_secs(10);

/// What a target needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Fetch {
    /// Only operations, from here on.
    Operations(i64),
    /// These files, then operations from here on.
    Files {
        /// Name, bytes and checksum of each.
        files: Vec<(String, u64, u32)>,
        /// First operation that is not in them.
        from: i64,
    },
}

/// The last word of a source.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// What every in-sync copy has.
    pub global_checkpoint: i64,
    /// The primary's term.
    pub term: u64,
}

/// What a batch of operations leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// There are more.
    More,
    /// That was all.
    All,
}

/// The source's end of one recovery.
pub struct Source<I: NodeIo> {
    shard: Rc<Shard<I>>,
    target: AllocationId,
    from: SeqNo,
    snapshot: Option<CommitSnapshot<I::Directory>>,
    reader: RefCell<Option<OperationReader<I::Directory>>>,
    /// Monotonic nanoseconds.
    used: Cell<u64>,
}

impl<I: NodeIo> Source<I> {
    /// Begins. `has`: everything up to here is in the target, and nothing that others do not have; none = nothing is of use.
    ///
    /// # Errors
    /// This copy is not the primary, or the state here does not know the target.
    pub async fn begin(
        shard: Rc<Shard<I>>,
        target: AllocationId,
        has: Option<SeqNo>,
    ) -> ApiResult<(Rc<Source<I>>, Fetch)> {
        shard.check_primary()?;
        let from_history = has.filter(|has| shard.engine.history_from() <= has.next());
        let (snapshot, fetch, from) = match from_history {
            Some(has) => {
                shard.engine.retain_from(has.next());
                (None, Fetch::Operations(has.next().0), has.next())
            }
            None => {
                shard.flush(false, true).await?;
                let snapshot = shard.engine.snapshot_files().await?;
                // What another copy may still go back behind, the target must have as operations, not only in its files.
                let from = snapshot.local_checkpoint().min(shard.global_checkpoint()).next();
                let files = snapshot.files().iter().map(|f| (f.name.clone(), f.size, f.checksum)).collect();
                (Some(snapshot), Fetch::Files { files, from: from.0 }, from)
            }
        };
        let used = Cell::new(shard.io.monotonic_ns());
        let source = Source { shard, target, from, snapshot, reader: RefCell::default(), used };
        Ok((Rc::new(source), fetch))
    }

    /// Whether nobody will ask it for more: its shard is closing, or it has not been used for `idle`.
    #[must_use]
    pub fn is_over(&self, idle: Duration) -> bool {
        let unused = self.shard.io.monotonic_ns().saturating_sub(self.used.get());
        self.shard.closing.get() || unused >= idle.as_nanos() as u64
    }

    /// Whether both are of one shard and for one copy.
    #[must_use]
    pub fn is_same_recovery(&self, other: &Source<I>) -> bool {
        Rc::ptr_eq(&self.shard, &other.shard) && self.target == other.target
    }

    /// A piece of a file.
    pub async fn chunk(&self, file: &str, offset: u64, size: u32) -> ApiResult<Vec<u8>> {
        self.used.set(self.shard.io.monotonic_ns());
        let Some(snapshot) = &self.snapshot else {
            return Err(ApiError::illegal_argument("this recovery has no files"));
        };
        Ok(snapshot.read(file, offset, size as usize).await?)
    }

    /// The next operations. With the first call the target begins to get new ones.
    pub async fn operations(&self, size: u32) -> ApiResult<(OperationsBatch, Fetched)> {
        self.used.set(self.shard.io.monotonic_ns());
        let taken = self.reader.borrow_mut().take();
        let mut reader = match taken {
            Some(reader) => reader,
            None => {
                let until = self.shard.io.monotonic_ns() + KNOWN_WAIT.as_nanos() as u64;
                while !self.shard.track(self.target) {
                    if self.shard.io.monotonic_ns() > until {
                        let reason = format!("copy [{}] is not known here", self.target);
                        return Err(ApiError::new(503, "delay_recovery_exception", reason));
                    }
                    self.shard.io.sleep(Duration::from_millis(5)).await;
                }
                self.shard.engine.operations(self.from).await?
            }
        };
        let (mut operations, mut bytes) = (Vec::new(), 0);
        let mut all = false;
        while bytes < size as usize {
            let Some(batch) = reader.next().await? else {
                all = true;
                break;
            };
            for (encoded, _) in batch.operations() {
                bytes += encoded.len();
                operations.push(Bytes::copy_from_slice(encoded));
            }
        }
        if !all {
            *self.reader.borrow_mut() = Some(reader);
        }
        let batch = OperationsBatch {
            next: (!all).then_some(self.from),
            global_checkpoint: self.shard.global_checkpoint(),
            term_max_seq_no: Some(self.shard.term_max_seq_no()),
            mapping_version: self.shard.index.borrow().mapping_version,
            operations,
        };
        Ok((batch, if all { Fetched::All } else { Fetched::More }))
    }

    /// The target has everything up to `local`, durably: from now on nothing is answered without it.
    pub async fn join(&self, local: SeqNo) -> ApiResult<Joined> {
        self.used.set(self.shard.io.monotonic_ns());
        self.shard.check_primary()?;
        if !self.shard.mark_in_sync(self.target, local).await {
            let reason = format!("copy [{}] did not come up with its primary", self.target);
            return Err(ApiError::new(503, "recovery_failed_exception", reason));
        }
        Ok(Joined { global_checkpoint: self.shard.global_checkpoint().0, term: self.shard.term().0 })
    }
}

impl<I: NodeIo> Shard<I> {
    /// What this copy brings into a recovery, once it is [taken back](Self::take_back_to) there. None if it must be made from
    /// files.
    pub fn recovery_base(&self) -> Option<SeqNo> {
        let known = self.engine.global_checkpoint().unwrap_or(SeqNo::NONE);
        let safe = known.min(self.engine.local_checkpoint());
        self.engine.can_roll_back(safe).then_some(safe)
    }

    /// Undoes what is above: above the global checkpoint it may never have happened. False if that cannot be any more.
    pub async fn take_back_to(&self, base: SeqNo) -> ApiResult<bool> {
        Ok(self.engine.max_seq_no() <= base || self.roll_back(base, SeqNo::NONE).await?)
    }

    /// Takes operations of a recovery.
    pub async fn take_recovered(&self, batch: &OperationsBatch) -> ApiResult<()> {
        self.until_mapping(batch.mapping_version).await?;
        self.apply_all(&batch.operations).await?;
        Ok(())
    }

    /// Makes everything durable; what this copy then has.
    pub async fn settle_recovery(&self) -> ApiResult<SeqNo> {
        self.engine.sync().await?;
        // Refreshes of the others have passed it by.
        self.refresh(true).await?;
        Ok(self.engine.persisted_checkpoint())
    }

    /// The recovery has ended.
    pub fn joined(&self, joined: Joined, made: PeerRecovery) {
        *self.made.borrow_mut() = Some(Box::new(made));
        self.engine.set_global_checkpoint(SeqNo(joined.global_checkpoint).min(self.engine.persisted_checkpoint()));
    }
}

/// A file of a list, as the engine has it.
#[must_use]
pub fn commit_file((name, size, crc): &(String, u64, u32)) -> CommitFile {
    CommitFile { name: name.clone(), size: *size, checksum: *crc }
}
