//! A node of two cores on a simulated machine: what is answered is applied, what is saved survives, what fails is said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ringdex_net::cluster::routing::{CopyState, RecoverySource, UnassignedInfo, UnassignedReason};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Value, json};

use super::*;
use crate::backend::{Backend, StateUpdate};
use crate::io::Lane;
use crate::mesh::Desk;
use crate::metastore::MetaStore;
use crate::shard::ShardOwner;
use crate::shard::message::{
    RefreshPolicy, ShardId, ShardRequest, ShardResponse, VersionMatch, WriteKind, WriteOp, WriteRequest,
};
use crate::sim::SimWorld;

const DATA: &str = "/data";

pub(super) fn index(name: &str, date: i64, shards: u32) -> Arc<IndexMetadata> {
    Arc::new(IndexMetadata {
        name: name.into(),
        uuid: format!("uuid-{name}"),
        open: true,
        creation_date: date,
        number_of_shards: shards,
        number_of_replicas: 0,
        routing_num_shards: shards,
        settings: serde_json::Map::new(),
        mapping: json!({}),
        mapping_version: 1,
        settings_version: 1,
        aliases_version: 1,
        aliases: BTreeMap::new(),
        primary_terms: vec![1; shards as usize],
        in_sync: Vec::new(),
    })
}

/// Starts a node on `world`'s disks; its cores.
async fn start(world: &SimWorld, directories: Vec<String>) -> ApiResult<Vec<Rc<Core<SimWorld>>>> {
    let (store, loaded) = MetaStore::open(world.disk(Path::new(DATA))).await?;
    let id = loaded.persisted.as_ref().map_or("AAAAAAAAAAAAAAAAAAAAAQ".into(), |p| p.node_id.clone());
    let ephemeral_id = world.random().to_string();
    let info = NodeInfo { id, ephemeral_id, cores: 2, ..NodeInfo::default() };
    let shared = Shared::new(info, Config { data: DATA.into(), ..Config::default() }, 2);
    let desk = || {
        let desk = Desk::new();
        world.spawn(Lane::Write, Box::pin(Rc::clone(&desk).serve()));
        desk
    };
    let mut cores = Vec::new();
    for number in 0..2 {
        let core = Core::new(world.clone(), number, Arc::clone(&shared), desk());
        let (mailbox, state, io) = (Arc::clone(&shared.cores[number]), Rc::clone(&core), world.clone());
        let serve = async move { mailbox.serve(state, 1000, |lane, task| io.spawn(lane, task)).await };
        world.spawn(Lane::Search, Box::pin(serve));
        cores.push(core);
    }
    let found = Found { indices: directories, shards: None };
    let master = start_master(world.clone(), Arc::clone(&shared), desk(), store, loaded, found, None).await?;
    let io = world.clone();
    let serve = async move { Arc::clone(&shared.master).serve(master, 1000, |lane, task| io.spawn(lane, task)).await };
    world.spawn(Lane::Write, Box::pin(serve));
    Ok(cores)
}

pub(super) fn put(index: Arc<IndexMetadata>) -> StateUpdate {
    Box::new(move |state| {
        let mut next = state.clone();
        next.indices.insert(index.name.clone(), Arc::clone(&index));
        Ok(Some(next))
    })
}

fn remove(name: &'static str) -> StateUpdate {
    Box::new(move |state| {
        let mut next = state.clone();
        next.indices.remove(name);
        Ok(Some(next))
    })
}

pub(super) fn shard(name: &str, shard: u32) -> ShardId {
    ShardId { index: name.into(), uuid: format!("uuid-{name}").as_str().into(), shard }
}

fn write(id: &str, source: impl Into<bytes::Bytes>) -> ShardRequest {
    ShardRequest::Write(WriteRequest {
        ops: vec![WriteOp {
            id: id.into(),
            routing: None,
            condition: VersionMatch::Any,
            kind: WriteKind::Index { source: source.into(), create: false, auto_id: false },
        }],
        refresh: RefreshPolicy::None,
        wait_for_sync: Some(true),
        timeout_ms: 60_000,
    })
}

#[test]
fn an_answered_creation_has_its_shards_started_on_both_cores() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        let before = cores[0].state().version;
        let state = cores[0].update_state("create", put(index("a", 1, 4))).await.unwrap();
        assert!(state.version > before);
        for core in &cores {
            assert_eq!(core.state().version, state.version);
            assert_eq!(core.report().shards, 2);
            for n in 0..4 {
                assert_eq!(core.shard_health(&shard("a", n)), ShardHealth::Started);
                assert!(matches!(core.shard(&shard("a", n), ShardRequest::Stats).await, Ok(ShardResponse::Stats(_))));
            }
            assert_eq!(core.shard_health(&shard("a", 4)), ShardHealth::Missing);
        }
        cores[1].update_state("delete", remove("a")).await.unwrap();
        for core in &cores {
            assert_eq!(core.report().shards, 0);
            let gone = core.shard(&shard("a", 0), ShardRequest::Stats).await.unwrap_err();
            assert_eq!((gone.status, gone.kind.as_str()), (503, "no_shard_available_action_exception"));
            let gone = core.shard(&shard("a", 0), write("1", "{}")).await.unwrap_err();
            assert_eq!((gone.status, gone.kind.as_str()), (503, "unavailable_shards_exception"));
        }
        assert!(cores[0].state().custom[GRAVEYARD].contains_key("uuid-a"));
    });
}

#[test]
fn documents_bring_their_fields_and_survive_power_loss() {
    let world = SimWorld::new(2);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        cores[0].update_state("create", put(index("a", 1, 2))).await.unwrap();
        // Both shards, from one core: one of the calls crosses.
        for n in 0..2 {
            let answer = cores[0].shard(&shard("a", n), write("x", "{\"field\":5}")).await.unwrap();
            let ShardResponse::Write(answer) = answer else { panic!("{answer:?}") };
            assert!(answer.items[0].is_ok(), "{:?}", answer.items[0]);
        }
        let state = cores[1].state();
        assert_eq!(state.indices["a"].mapping["properties"]["field"]["type"], "long");
        assert_eq!(state.indices["a"].mapping_version, 2, "the second document brought nothing new");
    });
    world.crash();
    world.block_on(async {
        let cores = start(&world, vec!["uuid-a".into()]).await.unwrap();
        cores[0].until_settled(vec![]).await;
        for n in 0..2u32 {
            // Waits for the recovering shard.
            let answer = cores[1].shard(&shard("a", n), write("y", "{\"field\":6}")).await.unwrap();
            let ShardResponse::Write(answer) = answer else { panic!("{answer:?}") };
            assert_eq!(answer.items[0].as_ref().unwrap().seq_no.0, 1, "after the first document");
            assert!(answer.items[0].as_ref().unwrap().term.0 > 1, "every start begins a new primary term");
        }
    });
}

#[test]
fn fields_that_documents_bring_are_limited_as_those_of_a_request() {
    let world = SimWorld::new(12);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        let mut full = IndexMetadata::clone(&index("x", 1, 1));
        let fields: serde_json::Map<String, Value> =
            (0..999).map(|n| (format!("f{n}"), json!({"type": "long"}))).collect();
        full.mapping = json!({ "properties": fields });
        let mut small = IndexMetadata::clone(&index("small", 1, 1));
        small.settings.insert("index.mapping.total_fields.limit".into(), "4".into());
        small.settings.insert("index.mapping.depth.limit".into(), "2".into());
        cores[0].update_state("create", put(Arc::new(full))).await.unwrap();
        cores[0].update_state("create", put(Arc::new(small))).await.unwrap();
        let cores = &cores;
        let item = |name: &'static str, source: Value| async move {
            let answer = cores[0].shard(&shard(name, 0), write("d", source.to_string())).await.unwrap();
            let ShardResponse::Write(mut answer) = answer else { panic!("{answer:?}") };
            answer.items.remove(0)
        };
        let refused = |name: &'static str, source: Value, reason: &'static str| async move {
            let mapping = cores[0].state().indices[name].mapping.clone();
            let error = item(name, source).await.unwrap_err();
            assert_eq!(
                (error.status, error.kind.as_str(), error.reason.as_str()),
                (400, "illegal_argument_exception", reason)
            );
            assert_eq!(cores[0].state().indices[name].mapping, mapping);
        };
        const FULL: &str = "Limit of total fields [1000] has been exceeded";
        // A string brings two fields, `s` and `s.keyword`, and an object counts, too.
        refused("x", json!({"s": "text"}), FULL).await;
        refused("x", json!({"o": {"n": 1}}), FULL).await;
        assert_eq!(item("x", json!({"f0": 1, "last": 1})).await.unwrap().seq_no.0, 0, "nothing refused took a number");
        refused("x", json!({"more": 1}), FULL).await;
        assert_eq!(item("x", json!({"f1": 1})).await.unwrap().seq_no.0, 1, "what needs no field is welcome");

        let deep = "Limit of mapping depth [2] has been exceeded due to object field [a.b]";
        refused("small", json!({"a": {"b": {"c": 1}}}), deep).await;
        refused("small", json!({"s": "a", "t": "b", "n": 1}), "Limit of total fields [4] has been exceeded").await;
        assert_eq!(item("small", json!({"s": "a", "a": {"n": 1}})).await.unwrap().seq_no.0, 0);
    });
}

#[test]
fn wrong_and_panicking_updates_harm_nobody() {
    let world = SimWorld::new(3);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        let version = cores[0].state().version;
        let panics: StateUpdate = Box::new(|_| panic!("on purpose"));
        assert_eq!(cores[0].update_state("p", panics).await.unwrap_err().status, 500);
        let refused: StateUpdate = Box::new(|_| Err(ApiError::illegal_argument("no")));
        assert_eq!(cores[0].update_state("r", refused).await.unwrap_err().reason, "no");
        let mut bad = IndexMetadata::clone(&index("b", 1, 1));
        bad.mapping = json!({"properties": {"f": {"type": "no-such-type"}}});
        assert_eq!(cores[0].update_state("m", put(Arc::new(bad))).await.unwrap_err().status, 400);
        let mut escaping = IndexMetadata::clone(&index("b", 1, 1));
        escaping.uuid = "../..".into();
        assert_eq!(cores[0].update_state("u", put(Arc::new(escaping))).await.unwrap_err().status, 400);
        assert_eq!(cores[1].state().version, version);
        let same = cores[0].update_state("nothing", Box::new(|_| Ok(None))).await.unwrap();
        assert_eq!(same.version, version, "nothing to change, nothing published");
        cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap();
    });
}

#[test]
fn updates_that_wait_together_see_each_other() {
    let world = SimWorld::new(4);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        let count: fn() -> StateUpdate = || {
            Box::new(|state: &ClusterState| {
                let mut next = state.clone();
                let n = next.persistent_settings.get("n").and_then(Value::as_u64).unwrap_or(0);
                next.persistent_settings.insert("n".into(), (n + 1).into());
                Ok(Some(next))
            })
        };
        let before = cores[0].state().version;
        let all: Vec<_> = (0..100).map(|n| cores[n % 2].update_state("count", count())).collect();
        for update in all {
            update.await.unwrap();
        }
        let state = cores[0].state();
        assert_eq!(state.persistent_settings["n"], 100);
        assert!(state.version < before + 100, "batched: {} saves", state.version - before);
    });
}

#[test]
fn after_a_failed_save_the_state_stays_as_it_is() {
    let world = SimWorld::new(5);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        let version = cores[0].state().version;
        world.disk(Path::new(DATA)).fail_sync(1);
        for _ in 0..2 {
            let error = cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap_err();
            assert_eq!((error.status, error.kind.as_str()), (503, "cluster_block_exception"));
        }
        assert_eq!(cores[1].state().version, version);
        assert_eq!(cores[1].shard_health(&shard("a", 0)), ShardHealth::Missing);
    });
}

#[test]
fn a_failed_shard_recovers_what_it_acknowledged() {
    let world = SimWorld::new(6);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap();
        let id = shard("a", 0);
        cores[0].shard(&id, write("x", "{}")).await.unwrap();
        let owner = if cores[0].report().shards == 1 { &cores[0] } else { &cores[1] };
        owner.shard_failed(&id, "told to");
        assert_eq!(cores[0].shard_health(&id), ShardHealth::Failed("told to".into()));
        let refused = cores[0].shard(&id, ShardRequest::Stats).await.unwrap_err();
        assert_eq!(refused.caused_by.unwrap().reason, "told to");
        let mut states = BTreeSet::new();
        while cores[0].shard_health(&id) != ShardHealth::Started {
            states.insert(cores[0].state().routing["uuid-a"].copies(0)[0].state.name());
            world.sleep(Duration::from_micros(100)).await;
        }
        assert_eq!(states, BTreeSet::from(["INITIALIZING", "STARTED"]), "everybody sees it");
        let answer = cores[0].shard(&id, write("x", "{}")).await.unwrap();
        let ShardResponse::Write(answer) = answer else { panic!("{answer:?}") };
        assert_eq!(answer.items[0].as_ref().unwrap().version.0, 2, "the first one is still there");
        assert_eq!(answer.items[0].as_ref().unwrap().term.0, 2, "a new primary term after the failure");
        cores[0].sleep_ms(100).await;
        assert_eq!(cores[0].state().routing["uuid-a"].copies(0)[0].state, CopyState::Started);
    });
}

#[test]
fn nothing_idle_holds_up_a_deletion() {
    let world = SimWorld::new(8);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        for _ in 0..20 {
            cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap();
            cores[0].shard(&shard("a", 0), write("x", "{}")).await.unwrap();
            cores[0].sleep_ms(world.random() % 3000).await;
            let began = world.monotonic_ns();
            cores[0].update_state("delete", remove("a")).await.unwrap();
            let ms = (world.monotonic_ns() - began) / 1_000_000;
            assert!(ms < 50, "a deletion waited {ms} ms");
        }
    });
}

/// A copy that has no others is its own global checkpoint: what is committed needs no translog.
#[test]
fn a_forced_merge_ends_though_new_segments_keep_coming() {
    let world = SimWorld::new(11);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap();
        let id = shard("a", 0);
        let segment = async |n: u64| {
            cores[0].shard(&id, write(&n.to_string(), r#"{"n":1}"#)).await.unwrap();
            cores[0].shard(&id, ShardRequest::Refresh).await.unwrap();
        };
        for n in 0..5 {
            segment(n).await;
        }
        let merged = std::cell::Cell::new(false);
        let force = async {
            let wanted = ShardRequest::ForceMerge { max_segments: Some(1), only_expunge_deletes: false, flush: false };
            cores[0].shard(&id, wanted).await.unwrap();
            merged.set(true);
        };
        let writes = async {
            let mut n = 5;
            while !merged.get() {
                segment(n).await;
                n += 1;
                assert!(n < 200, "it merges what comes after it");
            }
        };
        futures_lite::future::zip(force, writes).await;
        let Ok(ShardResponse::Stats(stats)) = cores[0].shard(&id, ShardRequest::Stats).await else { panic!("stats") };
        assert_eq!(stats.merges_current, 0);
        assert!(stats.merges_total >= 1);
    });
}

#[test]
fn a_lone_copy_keeps_no_history() {
    let world = SimWorld::new(9);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap();
        let id = shard("a", 0);
        for round in 0..5 {
            for n in 0..10 {
                cores[0].shard(&id, write(&format!("{round}-{n}"), "{}")).await.unwrap();
            }
            cores[0].shard(&id, ShardRequest::Flush { force: false, wait_if_ongoing: true }).await.unwrap();
            let ShardResponse::Stats(stats) = cores[0].shard(&id, ShardRequest::Stats).await.unwrap() else { panic!() };
            assert_eq!((stats.translog_operations, stats.global_checkpoint), (0, round * 10 + 9));
        }
    });
}

/// The node was away while its copy failed, and comes back to a state that has the same copy recovering.
#[test]
fn a_copy_that_is_to_recover_again_does() {
    let world = SimWorld::new(7);
    world.block_on(async {
        let cores = start(&world, Vec::new()).await.unwrap();
        cores[0].update_state("create", put(index("a", 1, 1))).await.unwrap();
        let id = shard("a", 0);
        cores[0].shard(&id, write("x", "{}")).await.unwrap();
        let again: StateUpdate = Box::new(|state| {
            let mut next = state.clone();
            let mut index = IndexMetadata::clone(&next.indices["a"]);
            index.primary_terms[0] += 1;
            next.indices.insert("a".into(), Arc::new(index));
            let copy = &mut Arc::make_mut(next.routing.get_mut("uuid-a").unwrap()).shards[0][0];
            assert_eq!(copy.state, CopyState::Started);
            copy.state = CopyState::Initializing;
            copy.recovery_source = RecoverySource::ExistingStore;
            copy.unassigned = Some(UnassignedInfo::new(UnassignedReason::NodeLeft, 1));
            Ok(Some(next))
        });
        cores[0].update_state("again", again).await.unwrap();
        for _ in 0..100 {
            cores[0].sleep_ms(100).await;
        }
        assert_eq!(cores[0].state().routing["uuid-a"].copies(0)[0].state, CopyState::Started);
        let ShardResponse::Write(answer) = cores[0].shard(&id, write("x", "{}")).await.unwrap() else { panic!() };
        let item = answer.items[0].as_ref().unwrap();
        assert_eq!((item.version.0, item.term.0), (2, 2), "what was there, in the new term");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Creations and deletions, the power going at some step of the disk that holds the state: what was answered is there
    /// after a restart, and every index that is there has shards that start.
    #[test]
    fn power_loss_keeps_every_answered_change(seed: u64, step in 1u64..40, kinds in proptest::collection::vec(any::<bool>(), 1..8)) {
        use ringdex_engine::store::sim::Stop;
        let world = SimWorld::new(seed);
        const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut answered: BTreeMap<&str, bool> = BTreeMap::new();
        let mut open: Option<(&str, bool)> = None;
        world.block_on(async {
            let cores = start(&world, Vec::new()).await.unwrap();
            world.disk(Path::new(DATA)).fail_after(step, Stop::After);
            for (n, create) in kinds.iter().enumerate() {
                let name = if *create { NAMES[n] } else { NAMES[n / 2] };
                let update = if *create { put(index(name, n as i64, 2)) } else { remove(name) };
                match cores[n % 2].update_state("x", update).await {
                    Ok(_) => { answered.insert(name, *create); }
                    Err(_) => { open = Some((name, *create)); break; }
                }
            }
        });
        world.crash();
        world.block_on(async {
            let cores = start(&world, Vec::new()).await.unwrap();
            let state = cores[0].state();
            for (name, there) in &answered {
                let undecided = open.is_some_and(|(n, _)| n == *name);
                assert!(undecided || state.indices.contains_key(*name) == *there, "{name}: {there}");
            }
            for index in state.indices.values() {
                for n in 0..2 {
                    let id = shard(&index.name, n);
                    // A few primaries recover at a time; a world where nothing happens any more would be found out.
                    let started = async {
                        while cores[0].shard_health(&id) != ShardHealth::Started {
                            cores[0].sleep_ms(1).await;
                        }
                        true
                    };
                    let late = async {
                        cores[0].sleep_ms(60_000).await;
                        false
                    };
                    assert!(futures_lite::future::or(started, late).await, "{id:?} did not start");
                }
            }
        });
    }
}

#[cfg(feature = "glommio")]
#[test]
fn a_real_node_starts_stops_and_starts_again() {
    use std::io::{Read, Write};

    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp");
    std::fs::create_dir_all(&target).unwrap();
    let dir = tempfile::tempdir_in(target).unwrap();
    let layer = |data: &Path, http: &str| {
        let pairs = [("path.data", data.to_string_lossy().into_owned()), ("http", http.to_owned())];
        Config::from_layers(&[pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()]).unwrap()
    };
    let ask = |address: std::net::SocketAddr, request: &str| {
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let get =
        |address, path: &str| ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
    let recovered = |node: &Node| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !node.is_recovered() {
            assert!(std::time::Instant::now() < deadline, "the state is loaded");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };

    let node = Node::start(layer(dir.path(), "127.0.0.1:0")).unwrap();
    let (id, address) = (node.id().to_owned(), node.address());
    recovered(&node);
    assert!(get(address, "/").starts_with("HTTP/1.1 200"), "{}", get(address, "/"));
    assert!(get(address, "/metrics").contains("ringdex_http_requests_total"));
    let created = ask(address, "PUT /i HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(created.contains("\"acknowledged\":true"), "{created}");
    let error = Node::start(layer(dir.path(), "127.0.0.1:0")).err().unwrap();
    assert!(error.contains("in use by another node"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let error = Node::start(layer(other.path(), &address.to_string())).err().unwrap();
    assert!(error.contains("Address already in use") && error.contains("--http"), "{error}");
    assert!(!node.is_broken());
    assert!(node.stop(), "a clean stop");
    assert!(std::net::TcpStream::connect(address).is_err());

    let left = dir.path().join("indices/left-behind/0");
    std::fs::create_dir_all(&left).unwrap();
    let node = Node::start(layer(dir.path(), &address.to_string())).unwrap();
    recovered(&node);
    assert_eq!(node.id(), id, "it is the same node");
    assert!(node.shared.health(&("none".into(), 0)) == ShardHealth::Missing);
    assert_eq!(std::fs::read_dir(dir.path().join("indices")).unwrap().count(), 2, "the index and the dangling one");
    assert!(left.exists(), "what nobody knows is not touched");
    assert!(node.stop());
}
