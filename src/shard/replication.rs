//! A copy among the copies of its shard: the primary sends every operation to the others and answers when all have it; a replica
//! takes what its primary sends.
//!
//! ```text
//! write: engine.index -> bytes --+--> own sync ------------------+--> Group: all have it -> answer
//!                                +--> each copy: apply, sync, ack +
//! ```
//!
//! Decisions are those of `net::cluster::replication`: `Tracker` (who is in sync, the global checkpoint), `Group` (when a
//! batch is answered), `Replica` (whom to obey). This file carries out what they say.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringdex_engine::document::ParsedDocument;
use ringdex_engine::ids::{PrimaryTerm, SeqNo};
use ringdex_engine::op::{Operation, OperationKind};
use ringdex_engine::pace::Pace;
use ringdex_engine::replica::RollBackStart;
use ringdex_engine::translog::Location;
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::replication::group::{self, Group};
use ringdex_net::cluster::replication::replica::{self, Replica, Request};
use ringdex_net::cluster::replication::tracker::{self, ReplicationGroup, Tracker};
use ringdex_net::cluster::routing::ShardRouting;
use ringdex_net::wire::replicate::{Replicate, ReplicateAck};

use super::Shard;
use crate::error::{ApiError, ApiResult};
use crate::io::{Lane, NodeIo};
use crate::mesh::OneShot;

/// The type of the answer of a copy that follows a later primary. The term is a member.
pub const STALE_TERM: &str = "stale_primary_term_exception";
/// The type of the answer of a copy that is not the primary.
pub const NOT_PRIMARY: &str = "shard_not_in_primary_mode_exception";
/// How long a replica waits for the mapping that its primary used.
const MAPPING_WAIT: Duration = Duration::from_secs(30);
/// The master is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often copies that have heard of no newer global checkpoint are told it.
const CHECKPOINT_BEAT: Duration = Duration::from_secs(1);
/// How long a copy that has moved may take for an operation before it is taken for closed.
const LEAVING_WAIT: Duration = Duration::from_millis(2_500);
/// Bytes of operations in one batch of a resync.
const RESYNC_BYTES: usize = 1 << 20;
/// How often it is looked whether something short has ended.
const TURN_LOOK: Duration = Duration::from_millis(1);

/// Which copy a shard is opened as.
#[derive(Clone, Debug)]
pub struct CopySpec {
    /// Its routing.
    pub routing: ShardRouting,
    /// Copies that may be promoted.
    pub in_sync: BTreeSet<AllocationId>,
    /// All copies of the shard.
    pub copies: Vec<ShardRouting>,
    /// Of the state all this is from.
    pub version: u64,
    /// The shard's primary term there.
    pub term: PrimaryTerm,
}

/// What a copy does for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Takes what the primary sends.
    Replica,
    /// On its way to be the primary.
    Promoting,
    /// Takes writes.
    Primary,
    /// Another is.
    Demoted,
}

/// A request's right to be applied. Until it is dropped, what is here is not rolled back, nor made a primary's history.
struct Turn(Rc<Cell<u32>>);

impl Turn {
    fn new(applying: &Rc<Cell<u32>>) -> Turn {
        applying.set(applying.get() + 1);
        Turn(Rc::clone(applying))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// See the module. One per shard; none where there is no routing.
pub(super) struct Copies {
    own: AllocationId,
    role: Cell<Role>,
    /// Whether it has been in service.
    served: Cell<bool>,
    tracker: RefCell<Tracker>,
    group: RefCell<Group>,
    replica: RefCell<Replica>,
    nodes: RefCell<BTreeMap<AllocationId, NodeId>>,
    /// The copies of the last state.
    routing: RefCell<Vec<ShardRouting>>,
    /// Copies that have moved, and where they were. Until its node has heard of it, one still answers reads, and no answer
    /// leaves without it.
    leaving: RefCell<BTreeMap<AllocationId, NodeId>>,
    /// Copies that take part in writes, beside this one.
    others: Cell<bool>,
    next: Cell<u64>,
    /// Batches in work: their operations, and who waits.
    batches: RefCell<BTreeMap<u64, (Rc<Vec<Bytes>>, OneShot<ApiResult<()>>)>>,
    /// Requests of a primary that wait to be applied.
    requests: RefCell<BTreeMap<u64, OneShot<ApiResult<Turn>>>>,
    /// Requests that are being applied.
    applying: Rc<Cell<u32>>,
    /// What each copy has been told last of the global checkpoint.
    told: RefCell<BTreeMap<AllocationId, SeqNo>>,
    /// Recoveries that wait until their copy is in sync.
    joining: RefCell<BTreeMap<AllocationId, OneShot<()>>>,
    /// The highest sequence number when this primary's term began.
    term_max_seq_no: Cell<SeqNo>,
    /// Up to where its new primary sends again what a roll-back took out: clients may know of all of it.
    whole_from: Cell<SeqNo>,
    /// The last operation that could not be taken here, and of which term's primary.
    missing: Cell<(PrimaryTerm, SeqNo)>,
}

impl Copies {
    pub(super) fn new(spec: &CopySpec, global: SeqNo) -> Copies {
        let own = spec.routing.allocation_id.unwrap_or(AllocationId(0));
        let copies = Copies {
            own,
            role: Cell::new(Role::Replica),
            served: Cell::new(false),
            tracker: RefCell::new(Tracker::new(own, global)),
            group: RefCell::new(Group::new(spec.term)),
            replica: RefCell::new(Replica::new(spec.term, global)),
            nodes: RefCell::default(),
            routing: RefCell::default(),
            leaving: RefCell::default(),
            others: Cell::new(false),
            next: Cell::new(1),
            batches: RefCell::default(),
            requests: RefCell::default(),
            applying: Rc::default(),
            told: RefCell::default(),
            joining: RefCell::default(),
            term_max_seq_no: Cell::new(SeqNo::NONE),
            whole_from: Cell::new(SeqNo::NONE),
            missing: Cell::new((PrimaryTerm(0), SeqNo::NONE)),
        };
        copies.follow(spec);
        copies
    }

    /// Takes over which copies there are.
    fn follow(&self, spec: &CopySpec) {
        let routed: BTreeSet<AllocationId> = spec.copies.iter().filter_map(|copy| copy.allocation_id).collect();
        let nodes = spec.copies.iter().filter_map(|copy| Some((copy.allocation_id?, copy.node?)));
        *self.nodes.borrow_mut() = nodes.collect();
        let before = self.routing.replace(spec.copies.clone());
        let arrived = |to: NodeId| spec.copies.iter().any(|copy| copy.active() && copy.node == Some(to));
        for copy in before.iter().filter(|copy| copy.relocating_node.is_some_and(arrived)) {
            if let (Some(id), Some(node)) = (copy.allocation_id, copy.node)
                && copy.active()
                && id != self.own
                && !routed.contains(&id)
            {
                self.leaving.borrow_mut().insert(id, node);
            }
        }
        let event = tracker::Event::FromMaster { version: spec.version, in_sync: spec.in_sync.clone(), routed };
        // Consequences come with the next event of the shard.
        self.tracker.borrow_mut().step(0, event, &mut Vec::new());
        self.count();
    }

    /// The shard ends: what waits for its turn has not been done, and is told so.
    pub(super) fn close(&self, refused: &ApiError) {
        for (_, turn) in std::mem::take(&mut *self.requests.borrow_mut()) {
            turn.set(Err(refused.clone()));
        }
        std::mem::take(&mut *self.joining.borrow_mut()).into_values().for_each(|waiting| waiting.set(()));
    }

    /// Other copies have had their time: nobody waits for them any longer.
    pub(super) fn give_up(&self, unknown: &ApiError) {
        for (_, (_, done)) in std::mem::take(&mut *self.batches.borrow_mut()) {
            done.set(Err(unknown.clone()));
        }
    }

    fn count(&self) {
        let group = self.group();
        self.others.set(!group.targets.is_empty() || !group.unavailable.is_empty());
    }

    /// Whom a batch that is begun now goes to.
    fn group(&self) -> ReplicationGroup {
        let mut group = self.tracker.borrow().group();
        group.targets.extend(self.leaving.borrow().keys());
        group
    }

    fn node_of(&self, copy: AllocationId) -> Option<NodeId> {
        self.nodes.borrow().get(&copy).or(self.leaving.borrow().get(&copy)).copied()
    }
}

impl<I: NodeIo> Shard<I> {
    /// Whether operations must go to others: then writers keep the bytes of what they did.
    pub(super) fn replicates(&self) -> bool {
        self.copies.as_ref().is_some_and(|copies| copies.others.get())
    }

    /// Whether no other copy has what this one has.
    pub(super) fn is_only_copy(&self) -> bool {
        let only = |copies: &Copies| copies.role.get() == Role::Primary && !copies.others.get();
        self.copies.as_ref().is_none_or(only)
    }

    /// Refuses writes unless this copy is the primary.
    pub(super) fn check_primary(&self) -> ApiResult<()> {
        match &self.copies {
            Some(copies) if copies.role.get() != Role::Primary => Err(ApiError::new(
                503,
                NOT_PRIMARY,
                format!("[{}][{}] this copy is not the primary", self.id.index, self.id.shard),
            )),
            _ => Ok(()),
        }
    }

    /// The term operations are numbered in.
    pub(super) fn term(&self) -> PrimaryTerm {
        self.term.get()
    }

    /// The state has changed: other copies, another primary, a new term.
    pub fn follow_copies(self: &Rc<Self>, spec: &CopySpec) {
        let Some(copies) = &self.copies else { return };
        copies.follow(spec);
        // A copy that the master has removed is waited for no longer.
        let known: BTreeSet<AllocationId> =
            copies.nodes.borrow().keys().chain(copies.leaving.borrow().keys()).chain(&spec.in_sync).copied().collect();
        let told: Vec<AllocationId> = copies.told.borrow().keys().copied().collect();
        for gone in told.into_iter().filter(|copy| !known.contains(copy)) {
            copies.told.borrow_mut().remove(&gone);
            self.step_group(group::Event::Removed(gone));
        }
        match copies.role.get() {
            Role::Replica if spec.routing.primary && !spec.routing.relocation_target() => {
                self.term.set(spec.term);
                self.promote(spec.term);
            }
            Role::Replica => {
                self.step_replica(replica::Event::Term(spec.term));
                if spec.routing.active() && !copies.served.replace(true) {
                    // What came while nobody sent it refreshes.
                    let shard = Rc::clone(self);
                    self.keep(Lane::Background, async move {
                        let _ = shard.refresh(true).await;
                    });
                }
            }
            Role::Primary if spec.term > self.term.get() && !spec.routing.primary => {
                self.step_group(group::Event::Demoted(spec.term));
            }
            _ => {}
        }
    }

    /// Makes this copy the primary of `term`: completes its history, then sends the others what they may lack.
    pub(super) fn promote(self: &Rc<Self>, term: PrimaryTerm) {
        let Some(copies) = &self.copies else { return };
        copies.role.set(Role::Promoting);
        // Nobody of an earlier term is obeyed any more, whatever it sent before.
        self.step_replica(replica::Event::Term(term));
        let shard = Rc::clone(self);
        self.keep(Lane::Write, async move {
            if let Err(e) = shard.take_over(term).await {
                tracing::error!(index = %shard.id.index, shard = shard.id.shard, error = %e, "a copy cannot become primary");
                shard.owner.shard_failed(&shard.id, &e.to_string());
            }
        });
    }

    async fn take_over(self: &Rc<Self>, term: PrimaryTerm) -> ApiResult<()> {
        let Some(copies) = &self.copies else { return Ok(()) };
        // What an earlier primary sent may still be applied, or taken back: that comes to its end before this history begins.
        while copies.replica.borrow().rolling_back() {
            self.io.sleep(TURN_LOOK).await;
        }
        self.until_applied().await;
        let mut suspended = self.engine.suspended();
        while let Some(batch) = suspended.next().await? {
            for (encoded, operation) in batch.operations() {
                if !self.engine.contains(operation.seq_no) {
                    self.apply_one(&operation, encoded).await?;
                }
            }
        }
        let (filled, location) = self.engine.fill_gaps(term).await?;
        self.sync_now.raise();
        self.engine.wait_durable(location).await?;
        // History is dropped below a global checkpoint that was known then, whatever the last commit remembers of it.
        let dropped = SeqNo(self.engine.history_from().0 - 1);
        if dropped > copies.tracker.borrow().global_checkpoint() {
            self.engine.set_global_checkpoint(dropped);
            self.step_tracker(tracker::Event::GlobalCheckpoint(dropped));
        }
        self.term.set(term);
        copies.term_max_seq_no.set(self.engine.max_seq_no());
        *copies.group.borrow_mut() = Group::new(term);
        copies.role.set(Role::Primary);
        copies.whole_from.set(SeqNo::NONE);
        self.step_tracker(tracker::Event::Activate(self.engine.persisted_checkpoint()));
        copies.count();
        if copies.others.get() {
            let global = copies.tracker.borrow().global_checkpoint();
            let sent = self.resync(global).await?;
            tracing::info!(index = %self.id.index, shard = self.id.shard, term = term.0, filled, sent, "this copy is the primary now");
        }
        Ok(())
    }

    /// Waits until a promotion has come to its end.
    pub(super) async fn until_primary(&self) -> ApiResult<()> {
        let Some(copies) = &self.copies else { return Ok(()) };
        while copies.role.get() == Role::Promoting {
            if let Some(reason) = self.engine.failure() {
                return Err(self.failed(&reason));
            }
            self.io.sleep(TURN_LOOK).await;
        }
        Ok(())
    }

    /// Sends everything above the global checkpoint to the others. Not waited for: it is a batch like others.
    async fn resync(self: &Rc<Self>, global: SeqNo) -> ApiResult<usize> {
        let (mut operations, mut bytes, mut sent) = (Vec::new(), 0, 0);
        let mut reader = self.engine.operations(global.next()).await?;
        while let Some(batch) = reader.next().await? {
            for (encoded, operation) in batch.operations() {
                if operation.seq_no <= global {
                    continue;
                }
                bytes += encoded.len();
                sent += 1;
                operations.push(Bytes::copy_from_slice(encoded));
                if bytes >= RESYNC_BYTES {
                    let (id, _) = self.begin(std::mem::take(&mut operations));
                    self.step_group(group::Event::Synced(id));
                    bytes = 0;
                }
            }
        }
        // Also without any: the others learn the term, and where it began.
        let (id, _) = self.begin(operations);
        self.step_group(group::Event::Synced(id));
        Ok(sent)
    }

    /// Sends operations that are appended here to the others. To be followed by `Synced` when they are durable here.
    pub(super) fn begin(self: &Rc<Self>, operations: Vec<Bytes>) -> (u64, OneShot<ApiResult<()>>) {
        let done = OneShot::default();
        let Some(copies) = &self.copies else {
            done.set(Ok(()));
            return (0, done);
        };
        let id = copies.next.get();
        copies.next.set(id + 1);
        copies.batches.borrow_mut().insert(id, (Rc::new(operations), done.clone()));
        self.step_group(group::Event::Begin(id, copies.group()));
        (id, done)
    }

    /// How many copies take part in writes now.
    pub(super) fn copies_in_writes(&self) -> u32 {
        let others = |copies: &Copies| copies.tracker.borrow().group().targets.len() as u32;
        1 + self.copies.as_ref().map_or(0, others)
    }

    /// The batch is durable here.
    pub(super) fn synced(self: &Rc<Self>, id: u64) {
        self.step_group(group::Event::Synced(id));
    }

    /// More is durable here.
    pub(super) fn own_checkpoint(self: &Rc<Self>) {
        let Some(copies) = &self.copies else { return };
        let local = self.engine.persisted_checkpoint();
        let retain_after = copies.tracker.borrow().global_checkpoint();
        self.step_tracker(tracker::Event::Checkpoint { copy: copies.own, local, retain_after });
    }

    fn step_tracker(self: &Rc<Self>, event: tracker::Event) {
        let Some(copies) = &self.copies else { return };
        let mut effects = Vec::new();
        copies.tracker.borrow_mut().step(self.io.monotonic_ns() / 1_000_000, event, &mut effects);
        for effect in effects {
            match effect {
                tracker::Effect::GlobalCheckpoint(global) => self.engine.set_global_checkpoint(global),
                tracker::Effect::RetainFrom(seq_no) => self.engine.retain_from(seq_no),
                tracker::Effect::InSync(copy) => {
                    if let Some(waiting) = copies.joining.borrow_mut().remove(&copy) {
                        waiting.set(());
                    }
                }
                tracker::Effect::HandOff(..) => {}
            }
        }
        copies.count();
    }

    fn step_group(self: &Rc<Self>, event: group::Event) {
        let Some(copies) = &self.copies else { return };
        let mut effects = Vec::new();
        copies.group.borrow_mut().step(event, &mut effects);
        for effect in effects {
            match effect {
                group::Effect::Send(id, copy) => self.send(id, copy),
                group::Effect::FailCopy(copy) => self.fail_copy(copy),
                group::Effect::Reply(id) => {
                    if let Some((_, done)) = copies.batches.borrow_mut().remove(&id) {
                        done.set(Ok(()));
                    }
                }
                group::Effect::Reject(id) => {
                    if let Some((_, done)) = copies.batches.borrow_mut().remove(&id) {
                        done.set(Err(self.outcome_unknown()));
                    }
                }
                group::Effect::StepDown(term) => {
                    tracing::warn!(index = %self.id.index, shard = self.id.shard, term = term.0, "another copy is the primary");
                    copies.role.set(Role::Demoted);
                }
            }
        }
    }

    pub(super) fn outcome_unknown(&self) -> ApiError {
        ApiError::new(
            503,
            "primary_demoted_exception",
            format!(
                "[{}][{}] another copy became primary while the operation was under way; it may or may not be kept",
                self.id.index, self.id.shard
            ),
        )
    }

    fn send(self: &Rc<Self>, id: u64, copy: AllocationId) {
        let shard = Rc::clone(self);
        self.io.spawn(
            Lane::Write,
            Box::pin(async move {
                let Some(copies) = &shard.copies else { return };
                let operations = copies.batches.borrow().get(&id).map(|(operations, _)| Rc::clone(operations));
                let Some(operations) = operations else { return };
                if copies.leaving.borrow().contains_key(&copy) {
                    return shard.send_to_leaving(id, copy, operations.to_vec()).await;
                }
                match shard.send_to(copy, operations.to_vec()).await {
                    Ok(()) => shard.step_group(group::Event::Ack(id, copy)),
                    Err(e) if e.kind == STALE_TERM => {
                        let term = newer_term(&e).unwrap_or(PrimaryTerm(shard.term.get().0 + 1));
                        shard.step_group(group::Event::StaleTerm(term));
                    }
                    Err(_) if copies.leaving.borrow().contains_key(&copy) => shard.has_left(copy),
                    Err(e) => {
                        tracing::warn!(index = %shard.id.index, shard = shard.id.shard, copy = %copy, error = %e, "a copy did not take an operation");
                        shard.step_group(group::Event::Failed(id, copy));
                    }
                }
            }),
        );
    }

    /// To a copy that has moved: once it refuses, nobody reads there any longer, and nothing is to be failed.
    async fn send_to_leaving(self: &Rc<Self>, id: u64, copy: AllocationId, operations: Vec<Bytes>) {
        let bound = async {
            self.io.sleep(LEAVING_WAIT).await;
            Err(self.unavailable("has not closed a copy that has moved"))
        };
        match futures_lite::future::or(self.send_to(copy, operations), bound).await {
            Ok(()) => self.step_group(group::Event::Ack(id, copy)),
            Err(e) => match newer_term(&e) {
                Some(term) if term > self.term.get() => self.step_group(group::Event::StaleTerm(term)),
                _ => self.has_left(copy),
            },
        }
    }

    fn has_left(self: &Rc<Self>, copy: AllocationId) {
        let Some(copies) = &self.copies else { return };
        copies.leaving.borrow_mut().remove(&copy);
        copies.told.borrow_mut().remove(&copy);
        copies.count();
        self.step_group(group::Event::Removed(copy));
    }

    /// Sends operations (or none) to a copy; what it answers is noted.
    async fn send_to(self: &Rc<Self>, copy: AllocationId, operations: Vec<Bytes>) -> ApiResult<()> {
        let Some(copies) = &self.copies else { return Ok(()) };
        let gone = || ApiError::new(503, "node_not_connected_exception", format!("copy [{copy}] is on no node"));
        let node = copies.node_of(copy).ok_or_else(gone)?;
        let global = copies.tracker.borrow().global_checkpoint();
        let message = Replicate {
            index_uuid: self.id.uuid.to_string(),
            shard: self.id.shard,
            allocation_id: copy,
            primary_term: self.term.get(),
            global_checkpoint: global,
            term_max_seq_no: Some(copies.term_max_seq_no.get()),
            mapping_version: self.index.borrow().mapping_version,
            operations,
        };
        let ack = self.owner.replicate(node, message).await?;
        copies.told.borrow_mut().insert(copy, global);
        self.step_tracker(tracker::Event::Checkpoint {
            copy,
            local: ack.local_checkpoint,
            retain_after: ack.global_checkpoint,
        });
        Ok(())
    }

    /// Asks the master to remove a copy; nothing that it lacks is acknowledged before.
    fn fail_copy(self: &Rc<Self>, copy: AllocationId) {
        let shard = Rc::clone(self);
        self.io.spawn(
            Lane::Write,
            Box::pin(async move {
                let asked = shard.owner.fail_copy(&shard.id, copy, shard.term.get()).await;
                let event = match asked {
                    Ok(()) => group::Event::Removed(copy),
                    Err(e) if e.status == 409 => group::Event::Demoted(PrimaryTerm(shard.term.get().0 + 1)),
                    Err(e) => {
                        tracing::warn!(index = %shard.id.index, shard = shard.id.shard, copy = %copy, error = %e, "the master did not remove a copy");
                        shard.io.sleep(ASK_AGAIN).await;
                        if shard.closing.get() {
                            return;
                        }
                        group::Event::NotRemoved(copy)
                    }
                };
                shard.step_group(event);
            }),
        );
    }

    /// Tells copies the global checkpoint when no operation does.
    pub(super) async fn checkpoint_task(self: Rc<Self>) {
        while !self.closing.get() && self.engine.failure().is_none() {
            let beat = async {
                self.io.sleep(CHECKPOINT_BEAT).await;
                self.tell_checkpoint().await;
            };
            // Whoever closes the shard waits for neither.
            futures_lite::future::or(beat, self.beat_now.wait()).await;
        }
    }

    async fn tell_checkpoint(self: &Rc<Self>) {
        let Some(copies) = &self.copies else { return };
        if copies.role.get() != Role::Primary || !copies.others.get() || copies.group.borrow().in_progress() > 0 {
            return;
        }
        self.own_checkpoint();
        let global = copies.tracker.borrow().global_checkpoint();
        let targets = copies.tracker.borrow().group().targets;
        for copy in targets {
            if copies.told.borrow().get(&copy).is_none_or(|told| *told < global)
                && let Err(e) = self.send_to(copy, Vec::new()).await
            {
                tracing::debug!(index = %self.id.index, shard = self.id.shard, copy = %copy, error = %e, "a copy was not told the global checkpoint");
            }
        }
    }

    /// Takes what the primary sends; answers when it is durable here.
    ///
    /// # Errors
    /// [`STALE_TERM`] to a primary of the past; whatever keeps the operations from being applied.
    pub async fn replicate(self: &Rc<Self>, message: Replicate) -> ApiResult<ReplicateAck> {
        let Some(copies) = &self.copies else { return Err(self.unavailable("has no other copies")) };
        if message.allocation_id != copies.own {
            let reason = format!("copy [{}] is here, not [{}]", copies.own, message.allocation_id);
            return Err(ApiError::new(404, "shard_not_found_exception", reason));
        }
        if matches!(copies.role.get(), Role::Primary | Role::Promoting) {
            let mine = self.term.get();
            if message.primary_term <= mine {
                return Err(stale(mine));
            }
            // The state that says so is on its way.
            self.step_group(group::Event::StaleTerm(message.primary_term));
            return Err(self.unavailable("was the primary until now"));
        }
        let taken = self.take(copies, &message).await;
        if taken.as_ref().is_err_and(|e| e.kind != STALE_TERM)
            && let Some(last) = message.operations.last()
            && let Ok(last) = Operation::decode(last)
        {
            // Its primary goes on without it: clients may hear of this before it is told.
            copies.missing.set(copies.missing.get().max((message.primary_term, last.seq_no)));
        }
        taken
    }

    async fn take(self: &Rc<Self>, copies: &Copies, message: &Replicate) -> ApiResult<ReplicateAck> {
        self.until_mapping(message.mapping_version).await?;
        let id = copies.next.get();
        copies.next.set(id + 1);
        if self.closing.get() {
            return Err(self.unavailable("is closing"));
        }
        let turn = OneShot::default();
        copies.requests.borrow_mut().insert(id, turn.clone());
        let request = Request {
            id,
            term: message.primary_term,
            global_checkpoint: message.global_checkpoint,
            term_max_seq_no: message.term_max_seq_no.unwrap_or(SeqNo::NONE),
        };
        self.step_replica(replica::Event::Request(request, self.engine.max_seq_no()));
        let turn = turn.get().await?;
        if let Some(max) = message.term_max_seq_no {
            // What an earlier primary was to send again, and this one has not, was never acknowledged.
            copies.whole_from.set(copies.whole_from.get().min(max));
        }
        let location = self.apply_all(&message.operations).await?;
        drop(turn);
        if let Some(location) = location
            && self.settings.borrow().sync_each_request
        {
            self.engine.wait_durable(location).await.map_err(|e| self.failed(&e.to_string()))?;
        }
        Ok(ReplicateAck {
            local_checkpoint: self.engine.persisted_checkpoint(),
            // Not what it knows: what it would go back to if it ended now, and come to ask for.
            global_checkpoint: self.engine.committed_global_checkpoint(),
        })
    }

    /// Applies operations of another copy.
    pub(super) async fn apply_all(&self, operations: &[Bytes]) -> ApiResult<Option<Location>> {
        let mut last = None;
        let pace = self.io.pace(None);
        for encoded in operations {
            let operation = Operation::decode(encoded)?;
            last = last.max(Some(self.apply_one(&operation, encoded).await?));
            pace.yield_if_needed().await;
        }
        Ok(last)
    }

    async fn apply_one(&self, operation: &Operation<'_>, encoded: &[u8]) -> ApiResult<Location> {
        let mut parsed = self.scratch.borrow_mut().pop().unwrap_or_default();
        self.buffer.set(self.engine.indexing_bytes());
        if self.buffer.wants_refresh() {
            self.refresh_now.raise();
        }
        self.engine.translog().reserve(encoded.len() + 128).await.map_err(|e| self.here(e))?;
        parsed.clear();
        if let OperationKind::Index { id, source, .. } = operation.kind {
            self.parse(id, source, &mut parsed).await?;
        }
        self.engine.translog().reserve(encoded.len() + 128).await.map_err(|e| self.here(e))?;
        let compiled = self.compiled.borrow().clone();
        let now_ms = self.io.now_ms();
        let applied = self.engine.apply(&compiled.mapping, operation, encoded, &parsed, now_ms);
        self.scratch.borrow_mut().push(parsed);
        self.look_for_damage();
        applied.map_err(|e| self.here(e))
    }

    /// Waits until the mapping is the one that the primary used, or later.
    pub(super) async fn until_mapping(&self, version: u64) -> ApiResult<()> {
        let until = self.io.monotonic_ns() + MAPPING_WAIT.as_nanos() as u64;
        while self.index.borrow().mapping_version < version {
            if self.closing.get() || self.io.monotonic_ns() > until {
                return Err(self.unavailable("has not heard of the mapping that its primary uses"));
            }
            self.io.sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    fn step_replica(self: &Rc<Self>, event: replica::Event) {
        let Some(copies) = &self.copies else { return };
        let mut effects = Vec::new();
        copies.replica.borrow_mut().step(event, &mut effects);
        let answer = |id: u64, with: ApiResult<Turn>| {
            if let Some(turn) = copies.requests.borrow_mut().remove(&id) {
                turn.set(with);
            }
        };
        for effect in effects {
            match effect {
                replica::Effect::GlobalCheckpoint(global) => {
                    self.engine.set_global_checkpoint(global);
                    self.step_tracker(tracker::Event::GlobalCheckpoint(global));
                }
                replica::Effect::Apply(id) => answer(id, Ok(Turn::new(&copies.applying))),
                replica::Effect::RefuseTerm(id, term) => answer(id, Err(stale(term))),
                replica::Effect::Refuse(id) => answer(id, Err(self.unavailable("cannot take operations now"))),
                replica::Effect::RollBack { to, suspended_to } => {
                    let shard = Rc::clone(self);
                    copies.whole_from.set(suspended_to);
                    let max = self.engine.max_seq_no();
                    tracing::info!(index = %self.id.index, shard = self.id.shard, %to, %suspended_to, %max, "this copy goes back to what all have");
                    self.keep(Lane::Write, async move {
                        shard.until_applied().await;
                        let done = shard.roll_back(to, suspended_to).await;
                        if let Err(e) = &done {
                            tracing::error!(index = %shard.id.index, shard = shard.id.shard, error = %e, "a copy cannot be rolled back");
                        }
                        // A primary need not go back, if it cannot: the others get what it has.
                        let follows = shard.copies.as_ref().is_some_and(|copies| copies.role.get() == Role::Replica);
                        shard.step_replica(match done {
                            Ok(false) | Err(_) if follows => replica::Event::RollBackFailed,
                            _ => replica::Event::RolledBack,
                        });
                    });
                }
                replica::Effect::FailCopy => {
                    self.owner.shard_failed(&self.id, "cannot follow its new primary: it must be recovered anew");
                }
            }
        }
    }

    /// Waits until nothing that a primary sent is being applied.
    async fn until_applied(&self) {
        while self.copies.as_ref().is_some_and(|copies| copies.applying.get() > 0) {
            self.io.sleep(TURN_LOOK).await;
        }
    }

    /// Refuses reads while what was rolled back has not come again, after an operation could not be taken, and once another
    /// is the primary: other copies have what is new.
    pub(super) fn check_whole(&self) -> ApiResult<()> {
        let Some(copies) = &self.copies else { return Ok(()) };
        if copies.role.get() == Role::Demoted {
            return Err(self.unavailable("was the primary until now"));
        }
        let here = self.engine.local_checkpoint();
        let (term, missing) = copies.missing.get();
        if here < copies.whole_from.get() {
            return Err(self.unavailable("catches up with its new primary"));
        }
        if here < missing && copies.replica.borrow().term() <= term {
            return Err(self.unavailable("could not take an operation of its primary"));
        }
        Ok(())
    }

    /// Undoes what the new primary may not have. False if no commit goes back so far.
    pub(super) async fn roll_back(&self, to: SeqNo, suspended_to: SeqNo) -> ApiResult<bool> {
        let mut begun = match self.engine.roll_back(to, suspended_to).await? {
            RollBackStart::Nothing => return Ok(true),
            RollBackStart::NeedsRecovery => return Ok(false),
            RollBackStart::Begun(begun) => begun,
        };
        let mut parsed = ParsedDocument::default();
        let pace = self.io.pace(None);
        while let Some(batch) = begun.next().await? {
            for (_, operation) in batch.operations() {
                self.parse_replayed(&operation, &mut parsed).await?;
                let compiled = self.compiled.borrow().clone();
                begun.recover(&compiled.mapping, &operation, &parsed, self.io.now_ms())?;
                pace.yield_if_needed().await;
            }
        }
        begun.finish(self.io.now_ms(), &pace).await?;
        self.visible.advance(self.engine.visible_seq_no().0);
        self.refresh_now.raise();
        // Segments that have not been in use are.
        self.scrub_now.raise();
        Ok(true)
    }

    /// A recovery's last step: from now on no answer leaves without this copy. False if it is no copy of this shard.
    pub(super) async fn mark_in_sync(self: &Rc<Self>, copy: AllocationId, local: SeqNo) -> bool {
        let Some(copies) = &self.copies else { return false };
        let done = OneShot::default();
        copies.joining.borrow_mut().insert(copy, done.clone());
        self.own_checkpoint();
        self.step_tracker(tracker::Event::MarkInSync(copy, local));
        let bound = async {
            self.io.sleep(MAPPING_WAIT).await;
        };
        futures_lite::future::or(done.get(), bound).await;
        copies.joining.borrow_mut().remove(&copy);
        copies.tracker.borrow().copy(copy).is_some_and(|progress| progress.in_sync)
    }

    /// A recovery's target gets every operation from now on. False while the state here does not know it.
    pub(super) fn track(self: &Rc<Self>, copy: AllocationId) -> bool {
        let Some(copies) = &self.copies else { return false };
        self.step_tracker(tracker::Event::InitTracking(copy));
        copies.tracker.borrow().copy(copy).is_some_and(|progress| progress.tracked)
    }

    /// What every in-sync copy has, as far as this one knows.
    pub(super) fn global_checkpoint(&self) -> SeqNo {
        match &self.copies {
            Some(copies) if copies.role.get() == Role::Primary => copies.tracker.borrow().global_checkpoint(),
            _ => self.engine.global_checkpoint().unwrap_or(SeqNo::NONE),
        }
    }

    /// See [`Copies::term_max_seq_no`].
    pub(super) fn term_max_seq_no(&self) -> SeqNo {
        self.copies.as_ref().map_or(SeqNo::NONE, |copies| copies.term_max_seq_no.get())
    }
}

/// The term that a refusal names.
fn newer_term(refusal: &ApiError) -> Option<PrimaryTerm> {
    refusal.extra.get("term").and_then(serde_json::Value::as_u64).map(PrimaryTerm)
}

fn stale(term: PrimaryTerm) -> ApiError {
    ApiError::new(409, STALE_TERM, format!("this copy follows the primary of term [{}]", term.0)).with("term", term.0)
}
