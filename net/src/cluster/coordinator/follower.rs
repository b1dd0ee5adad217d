//! Accepting what the leader publishes, and seeing that it is there.

use super::super::liveness::{Checks, Due};
use super::{COUNT_MAX, Coordinator, Effect, Message, Mode, NodeId, Position, StateValue};

impl<S: StateValue> Coordinator<S> {
    pub(super) fn follower_due(&mut self, out: &mut Vec<Effect<S>>) {
        let Some(leader) = self.leader else { return };
        match self.leader_checks.due(self.now, &self.config.leader_check) {
            Due::Nothing => {}
            Due::Check(number) => {
                if let Some(node) = self.node(leader)
                    && !self.peers.is_connected(leader)
                {
                    out.push(Effect::Connect { address: node.transport_address.clone() });
                }
                let term = self.term();
                out.push(Effect::Send { to: leader, message: Message::LeaderCheck { number, term } });
            }
            Due::Failed => self.become_candidate(out),
        }
    }

    fn become_follower(&mut self, leader: NodeId, out: &mut Vec<Effect<S>>) {
        if self.mode == Mode::Follower && self.leader == Some(leader) {
            return;
        }
        self.mode = Mode::Follower;
        self.leader = Some(leader);
        self.election.stop();
        self.joining.clear();
        self.peers.forget_known();
        self.leader_checks = Checks::new(self.now + self.config.leader_check.interval_ms);
        out.push(Effect::BecameFollower { term: self.term(), leader });
    }

    /// Whether `from` may lead this node in `term`, which it has caught up with.
    fn may_be_led_by(&self, from: NodeId, term: u64) -> bool {
        term == self.term()
            && match self.mode {
                Mode::Candidate => true,
                Mode::Follower => self.leader == Some(from),
                Mode::Leader => false,
            }
    }

    /// `HandlePublishRequest`
    pub(super) fn on_publish_request(&mut self, from: NodeId, state: S, out: &mut Vec<Effect<S>>) {
        let position = state.position();
        if position.term > COUNT_MAX || position.version > COUNT_MAX {
            return;
        }
        if let (Some(ours), Some(theirs)) = (self.last_accepted().committed_cluster(), state.committed_cluster())
            && ours != theirs
        {
            let reason = format!("the cluster [{theirs}] published to a node of the cluster [{ours}]");
            return out.push(Effect::JoinRefused { by: from, reason });
        }
        self.ensure_term(from, position.term, false, out);
        let of_old_term = planted!(PublicationOfOldTermAccepted) && self.mode != Mode::Leader;
        if !self.may_be_led_by(from, position.term) && !of_old_term {
            return;
        }
        if position != self.last_accepted().position() {
            if let Err(why) = self.state.handle_publish_request(state) {
                return out.push(Effect::Reject { from, why });
            }
            if !planted!(AckBeforePersisted) {
                self.persist(true, out);
            }
        }
        self.become_follower(from, out);
        let vote = self.vote_for(from);
        out.push(Effect::Send { to: from, message: Message::PublishResponse { position, vote } });
        if planted!(AckBeforePersisted) {
            self.persist(true, out);
        }
    }

    /// `HandleCommitRequest`
    pub(super) fn on_commit(&mut self, from: NodeId, position: Position, out: &mut Vec<Effect<S>>) {
        if self.mode == Mode::Leader {
            return;
        }
        match self.state.handle_commit(position) {
            Ok(changed) => self.committed_now(changed, out),
            Err(why) => out.push(Effect::Reject { from, why }),
        }
    }

    /// The last accepted state is known to be committed.
    pub(super) fn committed_now(&mut self, changed: bool, out: &mut Vec<Effect<S>>) {
        if changed {
            self.persist(true, out);
        }
        let state = self.last_accepted().clone();
        if self.committed_position() != state.position() {
            self.committed = Some(state.clone());
            out.push(Effect::Commit(state));
        }
    }

    pub(super) fn on_applied(&mut self, position: Position, out: &mut Vec<Effect<S>>) {
        if position <= self.applied || position > self.committed_position() {
            return;
        }
        self.applied = position;
        match (self.mode, self.leader) {
            (Mode::Follower, Some(to)) => out.push(Effect::Send { to, message: Message::Applied { position } }),
            (Mode::Leader, Some(me)) => self.member_applied(me, position, out),
            _ => {}
        }
    }

    pub(super) fn on_follower_check(&mut self, from: NodeId, number: u64, term: u64, out: &mut Vec<Effect<S>>) {
        if term > COUNT_MAX {
            return;
        }
        self.ensure_term(from, term, true, out);
        let ok = self.may_be_led_by(from, term);
        if ok {
            self.become_follower(from, out);
        }
        let (term, progress) = (self.term(), self.progress());
        out.push(Effect::Send { to: from, message: Message::FollowerCheckResponse { number, term, ok, progress } });
        // The leader takes this node for one that it was in an earlier life, or for none.
        let listed = self.last_accepted().nodes().get(&self.me());
        if ok && listed.is_none_or(|node| *node != self.config.node) && self.now >= self.next_join_at {
            self.send_join(from, out);
        }
    }

    pub(super) fn on_leader_check_response(
        &mut self,
        from: NodeId,
        number: u64,
        term: u64,
        ok: bool,
        out: &mut Vec<Effect<S>>,
    ) {
        self.see_term(term);
        if self.leader != Some(from) || self.mode != Mode::Follower || !self.leader_checks.is_awaited(number) {
            return;
        }
        if ok {
            self.leader_checks.succeed(self.now, &self.config.leader_check);
        } else if self.leader_checks.fail(self.now, &self.config.leader_check) {
            self.become_candidate(out);
        }
    }
}
