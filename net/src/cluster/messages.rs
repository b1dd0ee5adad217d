//! What coordinating nodes tell each other.
//!
//! All messages are one way, on the cluster lane, in order as long as a connection lasts. None needs to arrive: whatever is
//! lost, late or doubled is made good by a later one.
//!
//! | # | message | from | to | means |
//! |--:|---|---|---|---|
//! | 1 | PeersRequest | candidate | any | who do you know, and who leads? I am this node |
//! | 2 | PeersResponse | any | candidate | these I know; this one leads |
//! | 3 | PreVote | candidate | master-eligible | would you vote for me in a later term? |
//! | 4 | PreVoteResponse | master-eligible | candidate | yes, as I follow nobody; or no. My last accepted state is this |
//! | 5 | StartJoin | candidate | master-eligible | vote for `candidate` in this term |
//! | 6 | JoinRequest | any | candidate, leader | my vote, if I have one for you; make me a member |
//! | 7 | JoinRefused | leader | any | you are no member of this cluster, and why |
//! | 8 | PublishRequest | leader | member | phase one: accept this state |
//! | 9 | PublishResponse | member | leader | it is on my disk; and my vote for your term if you have it not yet |
//! | 10 | NeedFull | member | leader | the diff does not fit what I have |
//! | 11 | Commit | leader | member | phase two: a quorum has it, apply it |
//! | 12 | Applied | member | leader | I work with it now |
//! | 13 | FollowerCheck | leader | member | I lead this term; are you there? |
//! | 14 | FollowerCheckResponse | member | leader | yes, and this far I am; or no |
//! | 15 | LeaderCheck | follower | leader | do you lead, and am I a member? |
//! | 16 | LeaderCheckResponse | leader | follower | yes; or no |
//!
//! Names 5, 6, 8, 9 and 11 are the actions' of the ZenWithTerms model (there: `HandleStartJoin`, `Join`, ...).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::NodeId;
use super::state::DiscoveryNode;
use super::value::Position;

/// A vote: "I am in this term and follow nobody else in it; this is the last state I accepted."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The term it is a vote in.
    pub term: u64,
    /// `laTerm`, `laVersion`
    pub last_accepted: Position,
}

/// One message; see the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: serde::de::DeserializeOwned"))]
#[allow(missing_docs)] // the table above says it
pub enum Message<S> {
    PeersRequest { node: Arc<DiscoveryNode>, peers: Vec<Arc<DiscoveryNode>>, term: u64 },
    PeersResponse { leader: Option<Arc<DiscoveryNode>>, peers: Vec<Arc<DiscoveryNode>>, term: u64 },
    PreVote { term: u64 },
    PreVoteResponse { term: u64, last_accepted: Position, granted: bool },
    StartJoin { term: u64, candidate: NodeId },
    JoinRequest { node: Arc<DiscoveryNode>, term: u64, vote: Option<Join>, cluster: Option<String> },
    JoinRefused { reason: String },
    PublishRequest { state: S },
    PublishResponse { position: Position, vote: Option<Join> },
    NeedFull { position: Position },
    Commit { position: Position },
    Applied { position: Position },
    FollowerCheck { number: u64, term: u64 },
    FollowerCheckResponse { number: u64, term: u64, ok: bool, progress: Progress },
    LeaderCheck { number: u64, term: u64 },
    LeaderCheckResponse { number: u64, term: u64, ok: bool },
}

/// How far a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last state it accepted.
    pub accepted: Position,
    /// The last state it knows to be committed.
    pub committed: Position,
    /// The last state it works with.
    pub applied: Position,
}
