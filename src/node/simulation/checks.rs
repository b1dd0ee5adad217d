//! What must hold when all is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use ringdex_engine::search::SourceFilter;
use ringdex_net::cluster::allocation;
use ringdex_net::cluster::ids::NodeId;
use ringdex_net::cluster::routing::CopyState;

use super::data;
use super::history::{self, Call, Outcome, Reads, Rule, Violation};
use super::workload::DOCUMENTS;
use super::{NODES, Run};
use crate::backend::Backend;
use crate::io::NodeIo;
use crate::node::Core;
use crate::node::tests::shard;
use crate::shard::message::{GetRequest, ShardRequest, ShardResponse, VersionMatch};
use crate::sim::SimWorld;

/// Sequence number, term and source of each document: as it was written last, and as searches see it.
type Held = Vec<(i64, u64, Option<bytes::Bytes>)>;

impl Run {
    /// Waits until all copies are there; false if that takes too long.
    pub async fn settled(&self) -> bool {
        for _ in 0..3000 {
            self.world.sleep(Duration::from_millis(100)).await;
            let cores: Vec<_> = self.cores.borrow().values().cloned().collect();
            let whole = |core: &Rc<Core<SimWorld>>| {
                let state = core.state();
                let routing = state.routing.get("uuid-a");
                let started = |n| {
                    let copies = routing.map_or(&[][..], |routing| routing.copies(n));
                    copies.len() == self.copies && copies.iter().all(|copy| copy.state == CopyState::Started)
                };
                state.nodes.len() == NODES && (0..self.shards).all(started)
            };
            let same = cores.windows(2).all(|two| two[0].state().version == two[1].state().version);
            if cores.len() == NODES && same && cores.iter().all(whole) {
                return true;
            }
        }
        false
    }

    /// What every node thinks, for a run that does not settle.
    pub fn describe(&self) -> Vec<String> {
        let cores = self.cores.borrow();
        let describe = |core: &Rc<Core<SimWorld>>| {
            let state = core.state();
            let (term, version, nodes) = (state.term, state.version, state.nodes.len());
            format!("term {term} version {version} nodes {nodes} {:?}", state.routing.get("uuid-a"))
        };
        cores.values().map(describe).collect()
    }

    /// All checks, when everything has settled.
    pub async fn check(&self, seed: u64) {
        let node = self.any_node().expect("a node");
        for document in 0..DOCUMENTS {
            let read = self.one(node, document, Call::Read).await;
            assert!(matches!(read, Outcome::Found(..) | Outcome::Missing), "seed {seed}: final read: {read:?}");
        }
        let broken = self.violations();
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        let core = self.cores.borrow()[&node].clone();
        let state = core.state();
        if let Err(broken) = allocation::check(&state) {
            panic!("seed {seed}: {broken}");
        }
        for number in 0..self.shards {
            let copies = state.routing["uuid-a"].copies(number);
            let ids: Vec<NodeId> = copies.iter().filter_map(|copy| copy.node).collect();
            assert_eq!(ids.len(), self.copies, "seed {seed}");
            let mut contents = BTreeMap::new();
            for id in &ids {
                contents.insert(*id, self.content(seed, &core, number, *id).await);
            }
            let same = contents.values().collect::<BTreeSet<_>>().len() == 1;
            assert!(same, "seed {seed}: copies differ: {contents:?} {copies:?}");
        }
        for (path, disk) in (0..NODES).flat_map(|node| self.world.disks(&data(node))) {
            assert!(!disk.was_claimed_twice(), "seed {seed}: two engines at a time in {}", path.display());
        }
        self.check_reports(seed).await;
    }

    /// What clients were told and no order of the writes explains.
    fn violations(&self) -> Vec<Violation> {
        let hidden = self.hidden.borrow();
        let mut broken = history::check(&self.history.borrow(), Reads::AnyCopy);
        // A node that is cut off and does not know it answers from what it has: reads, and writes that it refuses.
        broken.retain(|violation| {
            let read = matches!(violation.rule, Rule::StaleRead | Rule::LostDocument | Rule::FalseConflict);
            let op = &violation.op;
            !(read && hidden.iter().any(|(begin, end)| op.begin < *end && op.end > *begin))
        });
        broken
    }

    /// Statistics and documents of one copy.
    async fn content(&self, seed: u64, core: &Rc<Core<SimWorld>>, number: u32, node: NodeId) -> (u64, i64, i64, Held) {
        let shard = shard("a", number);
        let asked = core.copy(&shard, node, ShardRequest::Refresh).await;
        assert!(asked.is_ok(), "seed {seed}: {asked:?}");
        let Ok(ShardResponse::Stats(stats)) = core.copy(&shard, node, ShardRequest::Stats).await else {
            panic!("seed {seed}: a copy does not answer");
        };
        let mut held = Vec::new();
        for (document, realtime) in (0..DOCUMENTS).flat_map(|document| [(document, true), (document, false)]) {
            let answers = match core.copy(&shard, node, get(document, realtime)).await {
                Ok(ShardResponse::Get(answers)) => answers,
                other => panic!("seed {seed}: a copy does not answer: {other:?} {stats:?}"),
            };
            let got = answers.into_iter().next().expect("one").expect("readable");
            held.push((got.seq_no.0, got.term.0, got.source));
        }
        let shown = held.chunks(2).all(|pair| pair[0] == pair[1]);
        assert!(shown, "seed {seed}: {node} does not show what it has: {held:?}");
        (stats.docs_count, stats.max_seq_no, stats.local_checkpoint, held)
    }

    /// Whatever node is asked, all speak of themselves; the master answers for the disks.
    async fn check_reports(&self, seed: u64) {
        for node in 0..NODES {
            let told = self.ask(node, "GET /_nodes/stats/indices", "").await;
            let (_, told) = told.unwrap_or_else(|| panic!("seed {seed}: no statistics"));
            assert_eq!(told["_nodes"]["successful"], NODES, "seed {seed}: {told}");
            assert!(told["nodes"].as_object().expect("nodes").values().all(|node| node["indices"]["docs"].is_object()));
            let stores = self.ask(node, "GET /a/_shard_stores?status=all", "").await;
            let (status, stores) = stores.unwrap_or_else(|| panic!("seed {seed}: no stores"));
            assert_eq!(status, 200, "seed {seed}: {stores}");
            let stores = &stores["indices"]["a"]["shards"]["0"]["stores"];
            let count = stores.as_array().map_or(0, Vec::len);
            assert!((self.copies..=NODES).contains(&count), "seed {seed}: {stores}");
        }
    }
}

fn get(document: u32, realtime: bool) -> ShardRequest {
    ShardRequest::Get(vec![GetRequest {
        id: format!("d{document}"),
        routing: None,
        realtime,
        refresh: false,
        version: VersionMatch::Any,
        source: SourceFilter::default(),
        stored_fields: Vec::new(),
    }])
}
