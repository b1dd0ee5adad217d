//! Bugs that tests plant, to see that they are found. Nothing of this is in a production build.

/// Whether one of these bugs is planted: always false outside of tests.
macro_rules! planted {
    ($($name:ident),+) => {{
        #[cfg(test)]
        let planted = $($crate::cluster::mutant::is_planted($crate::cluster::mutant::Mutant::$name))||+;
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}

#[cfg(test)]
pub use test::{Mutant, is_planted, plant};

#[cfg(test)]
mod test {
    use std::cell::Cell;

    /// A bug.
    ///
    /// Not here, for in this coordinator they change nothing that a cluster could show; `coordination.rs` tests the first two:
    /// - Commits of another term are taken: a commit goes only to who has accepted its state, and what that node accepts later
    ///   has a higher version.
    /// - A leader that steps down still counts votes in its term: it accepts what it publishes in the same step, so that,
    ///   elected again, it would go on with the next version.
    /// - Commits that are lost are not sent again: the next state, or the lag timeout, makes that good too.
    /// - A leader does not notice that a peer is in a later term: who starts a term has just had the pre-votes of a quorum, so
    ///   that hardly ever anybody is in a later term alone; in 500 seeds of each profile it did not happen.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mutant {
        /// Term and accepted state are not written.
        NoSync,
        /// A vote counts although the voter has accepted a newer state.
        VoteForOlderState,
        /// A state of an earlier term is accepted.
        PublicationOfOldTermAccepted,
        /// A majority of the committed configuration is not asked for.
        QuorumOnlyInNewConfiguration,
        /// Votes count after a restart, in a term in which the node may have led.
        NoJoinGuardAfterRestart,
        /// Votes are counted, not voters.
        JoinCountedTwice,
        /// A state is committed one answer early.
        CommitBeforeQuorum,
        /// The answer to a publication overtakes the disk.
        AckBeforePersisted,
        /// A leader publishes at the version it accepted last.
        VersionNotIncreased,
        /// The configuration changes while an earlier change is not committed.
        ReconfigureWhileReconfiguring,
        /// The new configuration need not have voted for the leader.
        ReconfigureWithoutJoins,
        /// The same term may be started twice.
        StartJoinOfSameTerm,
        /// An answer to an earlier publication counts for this one.
        AnswerToOlderPublicationCounts,
        /// An older version in the same term replaces a newer one.
        OlderVersionAccepted,
        /// Pre-votes are granted beside a living leader.
        PreVoteIgnoresLeader,
        /// Only nodes of the voting configuration stand for election.
        OnlyVotersStand,
        /// A new node starts without the committed configuration: it takes the accepted one for committed.
        AcceptedConfigTakenForCommitted,
    }

    impl Mutant {
        /// All of them.
        pub const ALL: &[Mutant] = &[
            Mutant::NoSync,
            Mutant::VoteForOlderState,
            Mutant::PublicationOfOldTermAccepted,
            Mutant::QuorumOnlyInNewConfiguration,
            Mutant::NoJoinGuardAfterRestart,
            Mutant::JoinCountedTwice,
            Mutant::CommitBeforeQuorum,
            Mutant::AckBeforePersisted,
            Mutant::VersionNotIncreased,
            Mutant::ReconfigureWhileReconfiguring,
            Mutant::ReconfigureWithoutJoins,
            Mutant::StartJoinOfSameTerm,
            Mutant::AnswerToOlderPublicationCounts,
            Mutant::OlderVersionAccepted,
            Mutant::PreVoteIgnoresLeader,
            Mutant::OnlyVotersStand,
            Mutant::AcceptedConfigTakenForCommitted,
        ];
    }

    thread_local!(static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) });

    /// Whether it is planted in this thread.
    pub fn is_planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Plants a bug in this thread, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }
}
