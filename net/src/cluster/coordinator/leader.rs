//! Publishing states, and following up on those who should have them.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use super::super::liveness::{Due, Follower};
use super::super::publication::{Applying, Publication};
use super::super::quorum::Reconfigure;
use super::super::state::VotingConfig;
use super::{Coordinator, Effect, Join, Message, Mode, NodeChanges, NodeId, Own, Position, Progress};
use super::{StateValue, UpdateRejected};

impl<S: StateValue> Coordinator<S> {
    pub(super) fn leader_deadline(&self) -> Option<u64> {
        // Those that leave are not checked any more.
        let stay = self.followers.iter().filter(|(id, _)| !self.leaving.contains_key(id));
        let followers = stay.map(|(_, follower)| follower.deadline(&self.config.follower_check));
        let publication = self.publication.iter().map(|publication| publication.deadline);
        followers.chain(publication).chain(self.applying.iter().map(|applying| applying.deadline)).min()
    }

    pub(super) fn leader_due(&mut self, out: &mut Vec<Effect<S>>) {
        self.check_followers(out);
        let now = self.now;
        if let Some(publication) = &self.publication
            && (now >= publication.deadline || !self.can_be_committed())
        {
            return self.become_candidate(out);
        }
        self.finish_applying(|applying| now >= applying.deadline || applying.missing.is_empty(), out);
        if self.publication.is_some() {
            return;
        }
        if self.max_term_seen > self.term() {
            self.start_election(out);
        } else if !self.is_established() || self.nodes_change() || self.wants_reconfiguration() {
            self.publish(None, out);
        } else if !self.last_accepted().last_committed_config().contains(&self.me()) {
            self.abdicate(out);
        }
    }

    pub(super) fn on_update(&mut self, id: u64, base: Position, value: S, out: &mut Vec<Effect<S>>) {
        let why = if !self.is_established() {
            UpdateRejected::NotLeader
        } else if self.publication.is_some() {
            UpdateRejected::Busy
        } else if base != self.last_accepted().position() {
            UpdateRejected::Stale
        } else {
            return self.publish(Some((id, value)), out);
        };
        out.push(Effect::UpdateRejected { id, why });
    }

    /// `ClientRequest`: publishes an update, or the last state anew, with the nodes that came and went.
    fn publish(&mut self, update: Option<(u64, S)>, out: &mut Vec<Effect<S>>) {
        let last = self.last_accepted().clone();
        let (id, mut next) = update.map_or_else(|| (None, last.clone()), |(id, value)| (Some(id), value));
        let wanted = next.last_accepted_config().clone();
        let changes = self.change_nodes(&last, &mut next);
        if changes != NodeChanges::default() {
            next = (self.on_nodes_changed)(next, &changes);
        }
        let position = self.state.next_position();
        next.stamp(position, self.me(), u128::from(self.random.draw()) << 64 | u128::from(self.random.draw()));
        let config = self.next_config(&last, &next, wanted);
        next.set_configs(last.last_committed_config().clone(), config);
        let begun = self.state.handle_client_value(&next);
        assert!(begun.is_ok(), "a state made from the last accepted one is refused: {begun:?}");

        let first_check = self.now + self.config.follower_check.interval_ms;
        self.followers.retain(|id, _| next.nodes().contains_key(id));
        for to in next.nodes().keys().copied().filter(|id| *id != self.config.node.id) {
            let follower = self.followers.entry(to).or_insert_with(|| Follower::new(first_check));
            let base = (follower.sent == Some(last.position())).then(|| last.clone());
            follower.sent = Some(position);
            out.push(Effect::Publish { to, state: next.clone(), base });
        }
        let deadline = self.now + self.config.publish_timeout_ms;
        self.publication = Some(Publication { id, position, deadline, refused: BTreeSet::new() });
        let accepted = self.state.handle_publish_request(next);
        assert!(accepted.is_ok(), "a leader refuses its own state: {accepted:?}");
        self.persist(true, out);
        self.own.push_back((self.ticket, Own::Accepted(position)));
        if !self.can_be_committed() {
            self.become_candidate(out);
        }
    }

    /// Whether nodes wait to come or go.
    pub(super) fn nodes_change(&self) -> bool {
        let nodes = self.last_accepted().nodes();
        let comes = |(id, node): (&NodeId, &Arc<_>)| self.peers.is_connected(*id) && nodes.get(id) != Some(node);
        !self.leaving.is_empty() || self.joining.iter().any(comes)
    }

    fn change_nodes(&mut self, last: &S, next: &mut S) -> NodeChanges {
        let elected = last.position().term < self.term();
        let mut changes = NodeChanges { elected, ..NodeChanges::default() };
        let mut nodes = last.nodes().clone();
        for node in mem::take(&mut self.leaving).into_keys() {
            if nodes.remove(&node).is_some() {
                changes.left.push(node);
            }
        }
        let (come, wait) = mem::take(&mut self.joining).into_iter().partition(|(id, _)| self.peers.is_connected(*id));
        self.joining = wait;
        let mut come: super::super::value::Nodes = come;
        come.insert(self.me(), Arc::clone(&self.config.node));
        for (id, node) in come {
            match nodes.get(&id) {
                Some(there) if *there == node => continue,
                Some(_) => changes.left.push(id),
                None => {}
            }
            changes.joined.push(id);
            nodes.insert(id, node);
        }
        next.set_nodes(nodes);
        changes
    }

    /// The configuration of the next state: what an update asks for if it may, else what the nodes ask for if it may, else the last.
    fn next_config(&self, last: &S, next: &S, asked: VotingConfig) -> VotingConfig {
        let now = last.last_accepted_config();
        let wanted = if asked != *now || !self.config.reconfigures { asked } else { self.wanted_config(next) };
        if self.state.may_reconfigure(&wanted).is_ok() { wanted } else { now.clone() }
    }

    fn wanted_config(&self, state: &S) -> VotingConfig {
        let votes = self.state.join_votes();
        let may_vote = |id: &NodeId| votes.contains(id) && state.nodes()[id].is_master_eligible();
        let live: BTreeSet<NodeId> = state.nodes().keys().copied().filter(may_vote).collect();
        let (excluded, auto_shrink) = (state.voting_exclusions(), state.auto_shrink());
        let current = state.last_accepted_config();
        Reconfigure { live: &live, excluded: &excluded, master: self.me(), current, auto_shrink }.wanted()
    }

    pub(super) fn wants_reconfiguration(&self) -> bool {
        let state = self.last_accepted();
        if !self.config.reconfigures || state.last_accepted_config() != state.last_committed_config() {
            return false;
        }
        let wanted = self.wanted_config(state);
        wanted != *state.last_accepted_config() && self.state.may_reconfigure(&wanted).is_ok()
    }

    /// Whether those who have accepted, and those who can be reached and still may, are enough.
    fn can_be_committed(&self) -> bool {
        let refused =
            |id: &NodeId| self.publication.as_ref().is_some_and(|publication| publication.refused.contains(id));
        // A connection may stay open long after the node at its end has stopped to answer.
        let answers = |follower: &Follower| !follower.checks.have_failed(&self.config.follower_check);
        let may_accept =
            |(id, follower): &(&NodeId, &Follower)| self.peers.is_connected(**id) && !refused(id) && answers(follower);
        let mut votes: BTreeSet<NodeId> = self.followers.iter().filter(may_accept).map(|(id, _)| *id).collect();
        votes.extend(self.state.publish_votes());
        votes.insert(self.me());
        self.state.is_publish_quorum(&votes)
    }

    pub(super) fn on_publish_response(
        &mut self,
        from: NodeId,
        position: Position,
        vote: Option<Join>,
        out: &mut Vec<Effect<S>>,
    ) {
        if self.mode != Mode::Leader {
            return;
        }
        if let Some(vote) = vote {
            self.count_vote(from, vote, out);
        } else if !self.state.join_votes().contains(&from)
            && position.term == self.term()
            && self.node(from).is_some_and(|node| node.is_master_eligible())
        {
            // Its vote of this term went to another, or was forgotten: only in a later term can it be a voter.
            self.see_term(self.term() + 1);
        }
        self.count_acceptance(from, position, out);
    }

    /// `HandlePublishResponse`
    pub(super) fn count_acceptance(&mut self, from: NodeId, position: Position, out: &mut Vec<Effect<S>>) {
        if let Some(follower) = self.followers.get_mut(&from) {
            follower.progress.accepted = follower.progress.accepted.max(position);
        }
        match self.state.handle_publish_response(from, position) {
            Ok(true) => match self.publication.take() {
                Some(publication) => self.commit(publication, out),
                None if from != self.me() => out.push(Effect::Send { to: from, message: Message::Commit { position } }),
                None => {}
            },
            Ok(false) => {}
            Err(why) => out.push(Effect::Reject { from, why }),
        }
    }

    fn commit(&mut self, publication: Publication, out: &mut Vec<Effect<S>>) {
        let Publication { id, position, deadline, .. } = publication;
        for to in self.state.publish_votes().iter().copied().filter(|node| *node != self.config.node.id) {
            out.push(Effect::Send { to, message: Message::Commit { position } });
        }
        let changed = self.state.handle_commit(position);
        assert!(changed.is_ok(), "a leader refuses its own commit: {changed:?}");
        self.committed_now(changed == Ok(true), out);
        let lag_deadline = self.now + self.config.follower_lag_timeout_ms;
        for follower in self.followers.values_mut() {
            follower.expect_applied(position.version, lag_deadline);
        }
        let missing = self.last_accepted().nodes().keys().copied().collect();
        self.applying.push(Applying { id, version: position.version, deadline, missing, failed: BTreeSet::new() });
    }

    pub(super) fn on_need_full(&mut self, from: NodeId, position: Position, out: &mut Vec<Effect<S>>) {
        if self.mode == Mode::Leader && position == self.last_accepted().position() {
            self.send_full(from, out);
        }
    }

    fn send_full(&mut self, to: NodeId, out: &mut Vec<Effect<S>>) {
        let state = self.last_accepted().clone();
        let Some(follower) = self.followers.get_mut(&to) else { return };
        follower.sent = Some(state.position());
        out.push(Effect::Publish { to, state, base: None });
    }

    pub(super) fn on_applied_by(&mut self, from: NodeId, position: Position, out: &mut Vec<Effect<S>>) {
        if self.mode == Mode::Leader && position.term == self.term() && position <= self.last_accepted().position() {
            self.member_applied(from, position, out);
        }
    }

    pub(super) fn member_applied(&mut self, node: NodeId, position: Position, out: &mut Vec<Effect<S>>) {
        let committed = self.committed_position().version;
        let lag_deadline = self.now + self.config.follower_lag_timeout_ms;
        if let Some(follower) = self.followers.get_mut(&node) {
            follower.applied(position, committed, lag_deadline);
        }
        for applying in self.applying.iter_mut().filter(|applying| applying.version <= position.version) {
            applying.missing.remove(&node);
        }
        self.finish_applying(|applying| applying.missing.is_empty(), out);
    }

    fn finish_applying(&mut self, done: impl Fn(&Applying) -> bool, out: &mut Vec<Effect<S>>) {
        for Applying { id, version, missing, failed, .. } in self.applying.extract_if(.., |applying| done(applying)) {
            out.push(Effect::PublicationDone { id, version, unapplied: missing.union(&failed).copied().collect() });
        }
    }

    /// The leader steps down: nothing that it publishes is waited for any longer.
    pub(super) fn end_publications(&mut self, out: &mut Vec<Effect<S>>) {
        self.finish_applying(|_| true, out);
        if let Some(Publication { id, position, .. }) = self.publication.take() {
            out.push(Effect::PublicationFailed { id, version: position.version });
        }
    }

    pub(super) fn follower_failed(&mut self, node: NodeId, why: &'static str) {
        if let Some(follower) = self.followers.get_mut(&node) {
            follower.sent = None;
            self.leaving.insert(node, why);
        }
        self.applying.iter_mut().for_each(|applying| applying.give_up(node));
    }

    /// A member may have lost its leader: only a check tells it who leads.
    pub(super) fn hurry_check(&mut self, node: NodeId) {
        let Some(follower) = self.followers.get_mut(&node) else { return };
        if follower.checks.hurry(self.now, &self.config.follower_check) {
            self.follower_failed(node, "checks do not reach it");
        }
    }

    fn check_followers(&mut self, out: &mut Vec<Effect<S>>) {
        let term = self.term();
        let mut failed = Vec::new();
        for (id, follower) in &mut self.followers {
            if self.leaving.contains_key(id) {
                continue;
            }
            if follower.lags(self.now) {
                failed.push((*id, "lagging"));
            }
            match follower.checks.due(self.now, &self.config.follower_check) {
                Due::Nothing => {}
                Due::Failed => failed.push((*id, "followers check retry count exceeded")),
                Due::Check(number) if self.peers.is_connected(*id) => {
                    follower.sent_before_check = follower.sent;
                    out.push(Effect::Send { to: *id, message: Message::FollowerCheck { number, term } });
                }
                Due::Check(_) => {
                    if let Some(node) = self.state.last_accepted().nodes().get(id) {
                        out.push(Effect::Connect { address: node.transport_address.clone() });
                    }
                    if follower.checks.fail(self.now, &self.config.follower_check) {
                        failed.push((*id, "not connected"));
                    }
                }
            }
        }
        for (id, why) in failed {
            self.follower_failed(id, why);
        }
    }

    pub(super) fn on_follower_check_response(
        &mut self,
        from: NodeId,
        number: u64,
        term: u64,
        ok: bool,
        progress: Progress,
        out: &mut Vec<Effect<S>>,
    ) {
        self.see_term(term);
        if self.mode != Mode::Leader {
            return;
        }
        let Some(follower) = self.followers.get_mut(&from).filter(|follower| follower.checks.is_awaited(number)) else {
            return;
        };
        if !ok {
            if let Some(publication) = self.publication.as_mut().filter(|p| term > p.position.term) {
                publication.refused.insert(from);
            }
            if follower.checks.fail(self.now, &self.config.follower_check) {
                self.follower_failed(from, "follower refuses");
            }
            return;
        }
        follower.checks.succeed(self.now, &self.config.follower_check);
        let sent_before_check = follower.sent_before_check;
        if progress.applied.term == term && progress.applied <= self.state.last_accepted().position() {
            self.member_applied(from, progress.applied, out);
        }
        self.repair(from, sent_before_check, progress, out);
    }

    /// Sends again what was lost: what left before the check, and had not arrived before it.
    fn repair(&mut self, to: NodeId, sent: Option<Position>, progress: Progress, out: &mut Vec<Effect<S>>) {
        let position = self.last_accepted().position();
        if progress.accepted != position {
            if sent == Some(position) || sent.is_none() {
                self.send_full(to, out);
            }
        } else if self.publication.is_some() {
            self.count_acceptance(to, position, out);
        } else if progress.committed != position {
            out.push(Effect::Send { to, message: Message::Commit { position } });
        }
    }

    pub(super) fn on_leader_check(&mut self, from: NodeId, number: u64, term: u64, out: &mut Vec<Effect<S>>) {
        self.see_term(term);
        let member = self.last_accepted().nodes().contains_key(&from);
        let ok = self.mode == Mode::Leader && term == self.term() && member;
        let term = self.term();
        out.push(Effect::Send { to: from, message: Message::LeaderCheckResponse { number, term, ok } });
    }

    /// Hands over to a voter that can be reached. Whether there is one.
    pub(super) fn abdicate(&mut self, out: &mut Vec<Effect<S>>) -> bool {
        let position = self.last_accepted().position();
        let config = self.last_accepted().last_committed_config();
        let up_to_date = |id: &NodeId| self.followers.get(id).is_some_and(|f| f.progress.accepted == position);
        let heirs = self.peers.voters().map(|node| node.id).filter(|id| config.contains(id));
        let mut heirs: Vec<NodeId> = heirs.filter(|id| self.state.join_votes().contains(id)).collect();
        if heirs.iter().any(up_to_date) {
            heirs.retain(up_to_date);
        }
        if heirs.is_empty() {
            return false;
        }
        let candidate = heirs[self.random.below(heirs.len() as u64) as usize];
        let term = self.max_term_seen.max(self.term()) + 1;
        for node in self.peers.voters() {
            out.push(Effect::Send { to: node.id, message: Message::StartJoin { term, candidate } });
        }
        self.become_candidate(out);
        true
    }
}
