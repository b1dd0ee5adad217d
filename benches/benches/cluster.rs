//! Between nodes: messages, cluster states and the machines that decide. No sockets, disks or waiting.

mod fixture;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::documents;
use ringdex_engine::ids::{PrimaryTerm, SeqNo, Version};
use ringdex_engine::op::{Operation, OperationKind};
use ringdex_net::cluster::allocation::{self, AllocationInputs};
use ringdex_net::cluster::coordinator::{self, Coordinator, Persisted};
use ringdex_net::cluster::diff::{self, Diff};
use ringdex_net::cluster::ids::{AllocationId, NodeId};
use ringdex_net::cluster::messages::Message;
use ringdex_net::cluster::replication::group::{self, Group};
use ringdex_net::cluster::replication::tracker::{self, Tracker};
use ringdex_net::cluster::routing::{CopyState, ShardRouting};
use ringdex_net::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata, Role};
use ringdex_net::cluster::value::StateValue;
use ringdex_net::wire::codec;
use ringdex_net::wire::frame::{Decoder, Encoder, Flags, Header, PAYLOAD_BYTES_MAX};
use ringdex_net::wire::replicate::Replicate;
use ringdex_net::wire::{MessageKind, Payload};
use serde_json::{Map, json};

const INDICES: usize = 100;
const NODES: u128 = 3;

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    for count in [1, 100] {
        let message = replicate(count);
        let encoded = message.encode().into_bytes();
        assert!(Replicate::decode(encoded.clone()) == Ok(message.clone()), "what is sent is received");
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(format!("encode/replicate-{count}"), |b| b.iter(|| black_box(&message).encode()));
        group.bench_function(format!("decode/replicate-{count}"), |b| {
            b.iter(|| Replicate::decode(black_box(&encoded).clone()).expect("a message"));
        });
    }

    let payload = Payload::from(Bytes::from(vec![7; 64 << 10]));
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(PAYLOAD_BYTES_MAX));
    assert!(send(&payload, &mut encoder, &mut decoder) == payload.clone().into_bytes(), "what is sent is received");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("frame/64k", |b| b.iter(|| send(black_box(&payload), &mut encoder, &mut decoder)));
    group.finish();
}

fn replicate(count: u64) -> Replicate {
    let operations = (0..).zip(documents(count)).map(|(i, source)| {
        let (id, source) = (&*i.to_string(), source.as_bytes());
        let kind = OperationKind::Index { id, version: Version(1), routing: None, source };
        let mut encoded = Vec::new();
        Operation { seq_no: SeqNo(i), term: PrimaryTerm(1), kind }.encode(&mut encoded);
        Bytes::from(encoded)
    });
    Replicate {
        index_uuid: "pLmXv8KqTt2b3n4c5d6e7f".to_owned(),
        shard: 0,
        allocation_id: AllocationId(2),
        primary_term: PrimaryTerm(1),
        global_checkpoint: SeqNo(41),
        term_max_seq_no: None,
        mapping_version: 1,
        operations: operations.collect(),
    }
}

/// Through an encoder's buffers into a decoder's, as a socket would carry it.
fn send(payload: &Payload, encoder: &mut Encoder, decoder: &mut Decoder) -> Bytes {
    encoder.push(&Header { kind: MessageKind::Replicate.number(), flags: Flags::REQUEST, id: 1 }, payload);
    let room = decoder.room();
    encoder.slices().iter().for_each(|slice| room.extend_from_slice(slice));
    encoder.advance(encoder.len());
    decoder.next().expect("a valid frame").expect("a whole frame").payload
}

fn state(c: &mut Criterion) {
    let state = cluster();
    let encoded = codec::encode(&state).expect("a state");
    assert!(codec::decode::<ClusterState>(&encoded).expect("a state") == state, "what is encoded is decoded");
    let mut group = c.benchmark_group("state");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("encode/100-indices", |b| b.iter(|| codec::encode(black_box(&state)).expect("a state")));
    group.finish();

    let mut changed = ClusterState { version: state.version + 1, state_uuid: "next".to_owned(), ..state.clone() };
    let index = Arc::make_mut(changed.indices.values_mut().next().expect("an index"));
    index.settings.insert("index.refresh_interval".to_owned(), json!("30s"));
    index.settings_version += 1;
    let follow = |state, changed| diff::apply(state, &Diff::between(state, changed)).expect("a diff of this state");
    assert!(follow(&state, &changed) == changed, "a diff makes the one of the other");
    c.bench_function("state/diff/one-change-of-100-indices", |b| {
        b.iter(|| follow(black_box(&state), black_box(&changed)));
    });

    let (inputs, mut created) = (inputs(), state.clone());
    let index = index_metadata("new");
    created.indices.insert(index.name.clone(), Arc::new(index));
    let created = allocation::follow_metadata(&created, 0);
    let placed = allocation::reroute(&created, &inputs).state.expect("a change");
    assert!(allocation::check(&placed).is_ok() && starting(&placed).len() == 1, "the new primary is placed");
    c.bench_function("state/reroute/100-indices-3-nodes", |b| {
        b.iter(|| allocation::reroute(black_box(&created), &inputs).state.expect("a change"));
    });
}

fn node(n: u128) -> DiscoveryNode {
    DiscoveryNode {
        id: NodeId(n),
        name: format!("node-{n}"),
        ephemeral_id: format!("life-{n}"),
        transport_address: format!("10.0.0.{n}:9300"),
        http_address: format!("10.0.0.{n}:9200"),
        roles: [Role::Master, Role::Data].into(),
        attributes: BTreeMap::new(),
        cores: 4,
    }
}

/// One shard with a replica, 20 fields.
fn index_metadata(name: &str) -> IndexMetadata {
    let fields: Map<_, _> = (0..20).map(|i| (format!("field{i}"), json!({"type": "keyword"}))).collect();
    let settings = json!({"index.number_of_shards": "1", "index.number_of_replicas": "1"});
    IndexMetadata {
        name: name.to_owned(),
        uuid: format!("uuid-{name}"),
        open: true,
        creation_date: 0,
        number_of_shards: 1,
        number_of_replicas: 1,
        routing_num_shards: 1024,
        settings: settings.as_object().expect("an object").clone(),
        mapping: json!({ "properties": fields }),
        mapping_version: 1,
        settings_version: 1,
        aliases_version: 1,
        aliases: BTreeMap::new(),
        primary_terms: vec![1],
        in_sync: Vec::new(),
    }
}

/// All nodes have said that their disks are empty.
fn inputs() -> AllocationInputs {
    AllocationInputs {
        now_ms: 1_600_000_000_000,
        stored_copies: (1..=NODES).map(|n| (NodeId(n), BTreeMap::new())).collect(),
        ..AllocationInputs::default()
    }
}

/// Every copy of every index in service.
fn cluster() -> ClusterState {
    let mut state = ClusterState { version: 1, state_uuid: "first".to_owned(), ..ClusterState::default() };
    for n in 1..=NODES {
        state = allocation::node_joined(&state, node(n));
    }
    let indices = (0..INDICES).map(|i| index_metadata(&format!("index-{i}")));
    state.indices = indices.map(|index| (index.name.clone(), Arc::new(index))).collect();
    state = allocation::follow_metadata(&state, 0);
    let mut inputs = inputs();
    while let Some(next) = allocation::reroute(&state, &inputs).state {
        inputs.seed += 1;
        state = next;
        for (uuid, copy) in starting(&state) {
            let started = allocation::shard_started(&state, &uuid, 0, copy, None);
            state = started.expect("a copy of this state").expect("a change");
        }
    }
    let in_service = copies(&state).filter(|(_, copy)| copy.state == CopyState::Started).count();
    assert!(in_service == 2 * INDICES, "{in_service} copies are in service");
    state
}

fn copies(state: &ClusterState) -> impl Iterator<Item = (&String, &ShardRouting)> {
    state.routing.iter().flat_map(|(uuid, index)| index.shards.iter().flatten().map(move |copy| (uuid, copy)))
}

fn starting(state: &ClusterState) -> Vec<(String, AllocationId)> {
    let starting = copies(state).filter(|(_, copy)| copy.state == CopyState::Initializing);
    starting.map(|(uuid, copy)| (uuid.clone(), copy.allocation_id.expect("it has a place"))).collect()
}

fn coordination(c: &mut Criterion) {
    let mut masters = Masters::elected();
    let indices = cluster().indices;
    masters.publish(|state| state.indices.clone_from(&indices));
    let version = masters.publish(|state| state.metadata_version += 1);
    for node in &masters.nodes {
        let applied = node.applied().version;
        assert!(applied == version, "a node works with version {applied}, not {version}");
    }
    c.bench_function("coordination/publish/3-nodes", |b| {
        b.iter(|| masters.publish(|state| state.metadata_version += 1));
    });
}

type State = Arc<ClusterState>;

/// Nodes whose disks and network are done at once.
struct Masters {
    nodes: Vec<Coordinator<State>>,
    events: VecDeque<(usize, coordinator::Event<State>)>,
    effects: Vec<coordinator::Effect<State>>,
    now: u64,
    done: u64,
}

impl Masters {
    /// With a master that publishes.
    fn elected() -> Masters {
        let all: Vec<_> = (1..=NODES).map(|n| Arc::new(node(n))).collect();
        let coordinator = |own: &Arc<DiscoveryNode>| {
            let mut config = coordinator::Config::new(own.clone());
            config.initial_masters = all.iter().map(|node| node.name.clone()).collect();
            let persisted = Persisted { current_term: 0, last_accepted: State::default() };
            Coordinator::new(config, persisted, Box::new(|state, _| state), 0, own.id.0 as u64)
        };
        let nodes = all.iter().map(coordinator).collect();
        let mut masters = Masters { nodes, events: VecDeque::new(), effects: Vec::new(), now: 0, done: 0 };
        for i in 0..all.len() {
            let others = all.iter().filter(|node| node.id != all[i].id);
            masters.events.extend(others.map(|node| (i, coordinator::Event::PeerConnected(node.clone()))));
        }
        masters.settle();
        for _ in 0..1000 {
            if masters.master().is_some_and(|m| masters.nodes[m].last_accepted().nodes.len() == all.len()) {
                return masters;
            }
            masters.now = masters.nodes.iter().filter_map(Coordinator::deadline).min().expect("somebody waits");
            masters.events.extend((0..all.len()).map(|i| (i, coordinator::Event::Tick)));
            masters.settle();
        }
        panic!("no master was elected");
    }

    fn master(&self) -> Option<usize> {
        self.nodes.iter().position(Coordinator::accepts_updates)
    }

    /// From the wish to the answer that all nodes work with it; the version.
    fn publish(&mut self, change: impl FnOnce(&mut ClusterState)) -> u64 {
        let master = self.master().expect("a master that publishes");
        let mut value = self.nodes[master].last_accepted().clone();
        let (base, done) = (value.position(), self.done);
        change(Arc::make_mut(&mut value));
        self.events.push_back((master, coordinator::Event::Update { id: 1, base, value }));
        self.settle();
        assert!(self.done == done + 1, "one publication is done");
        base.version + 1
    }

    fn settle(&mut self) {
        while let Some((i, event)) = self.events.pop_front() {
            self.nodes[i].step(self.now, event, &mut self.effects);
            for effect in self.effects.drain(..) {
                let from = NodeId(i as u128 + 1);
                let mut send = |to: NodeId, message| {
                    self.events.push_back((to.0 as usize - 1, coordinator::Event::Message { from, message }));
                };
                match effect {
                    coordinator::Effect::Send { to, message } => send(to, message),
                    coordinator::Effect::Publish { to, state, .. } => send(to, Message::PublishRequest { state }),
                    coordinator::Effect::Persist { ticket, .. } => {
                        self.events.push_back((i, coordinator::Event::Persisted(ticket)));
                    }
                    coordinator::Effect::Commit(state) => {
                        self.events.push_back((i, coordinator::Event::Applied(state.position())));
                    }
                    coordinator::Effect::PublicationDone { unapplied, .. } => {
                        assert!(unapplied.is_empty(), "all nodes work with it");
                        self.done += 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

fn replication(c: &mut Criterion) {
    let copies: BTreeSet<_> = [1, 2, 3].map(AllocationId).into();
    let (mut tracker, mut effects) = (Tracker::new(AllocationId(1), SeqNo::NONE), Vec::new());
    let (in_sync, routed) = (copies.clone(), copies.clone());
    tracker.step(0, tracker::Event::FromMaster { version: 1, in_sync, routed }, &mut effects);
    tracker.step(0, tracker::Event::Activate(SeqNo::NONE), &mut effects);
    let mut checkpoint = |local: SeqNo| {
        effects.clear();
        for &copy in &copies {
            tracker.step(0, tracker::Event::Checkpoint { copy, local, retain_after: local }, &mut effects);
        }
        tracker.global_checkpoint()
    };
    let mut local = SeqNo(0);
    assert!(checkpoint(local) == local, "what all have is the global checkpoint");
    c.bench_function("tracker/step/checkpoint-of-3", |b| {
        b.iter(|| {
            local = local.next();
            checkpoint(local)
        });
    });

    let (mut group, mut effects, targets) = (Group::new(PrimaryTerm(1)), Vec::new(), tracker.group());
    let mut batch = |id| {
        effects.clear();
        group.step(group::Event::Begin(id, targets.clone()), &mut effects);
        group.step(group::Event::Synced(id), &mut effects);
        for &copy in &targets.targets {
            group.step(group::Event::Ack(id, copy), &mut effects);
        }
        effects.last() == Some(&group::Effect::Reply(id))
    };
    let mut id = 1;
    assert!(targets.targets.len() == 2 && batch(id), "a batch that both others have is answered");
    c.bench_function("group/step/batch-of-3", |b| {
        b.iter(|| {
            id += 1;
            batch(id)
        });
    });
}

criterion_group!(benches, wire, state, coordination, replication);
criterion_main!(benches);
