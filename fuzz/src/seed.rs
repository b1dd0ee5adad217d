//! The corpus of the binary formats: files that the engine itself wrote, on a simulated disk.

use std::path::Path;

use futures_lite::future::block_on;
use ringdex::metastore::{MetaStore, Persisted};
use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::document::{self, ParsedDocument};
use ringdex_engine::engine::{Engine, EngineConfig, IndexOperation};
use ringdex_engine::ids::{Generation, PrimaryTerm, SegmentId, SeqNo, Version};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::op::{Operation, OperationKind};
use ringdex_engine::pace::Unpaced;
use ringdex_engine::seed::HashSeed;
use ringdex_engine::segment::Codec;
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::store::sim::SimDirectory;
use ringdex_engine::store::{BLOCK, Directory};
use ringdex_engine::write::plan::Condition;
use ringdex_net::cluster::state::ClusterState;
use serde_json::json;

use crate::mutate::Random;

/// The first byte of an input: "put header and checksums right".
const REPAIRED: u8 = 3;

/// Writes them into `corpus`.
///
/// # Panics
/// When a file cannot be written.
pub fn write_corpus() {
    block_on(async {
        shard("default", Codec::Default, 40).await;
        shard("best", Codec::BestCompression, 300).await;
        metastore().await;
    });
    scripts();
    crate::wire::write_corpus();
    let mut live = LiveDocs::all(100);
    save("live_docs", "none", 0, &live.encode(SegmentId(1), Generation(1)));
    (0..100).filter(|d| d % 7 == 0 || *d > 90).for_each(|d| {
        live.delete(d);
    });
    save("live_docs", "some", 1, &live.encode(SegmentId(1), Generation(1)));
    for (name, kind) in [
        ("index", OperationKind::Index { id: "a", version: Version(3), routing: None, source: b"{\"a\": 1}" }),
        ("routed", OperationKind::Index { id: "é", version: Version(300), routing: Some("r"), source: &[b' '; 200] }),
        ("delete", OperationKind::Delete { id: "a", version: Version(u64::MAX) }),
        ("no-op", OperationKind::NoOp { reason: "filled" }),
    ] {
        let mut bytes = Vec::new();
        Operation { seq_no: SeqNo(7), term: PrimaryTerm(2), kind }.encode(&mut bytes);
        write("operation", name, &bytes);
    }
}

/// Scripts that were thrown with dice, of every mode of the bodies that read scripts.
fn scripts() {
    for (body, len) in [("columns", 60), ("dictionary", 150), ("differential", 100), ("postings", 150), ("stored", 100)]
    {
        for mode in 0..12u8 {
            let mut random = Random(u64::from(mode) + 1);
            let bytes: Vec<u8> = (0..len + random.below(len)).map(|_| random.bits() as u8).collect();
            save(body, &format!("script-{mode}"), mode * 17, &bytes);
        }
    }
}

/// Index, delete, flush, index again: a segment, a commit point with it, a translog.
async fn shard(name: &str, codec: Codec, docs: u64) {
    let disk = SimDirectory::new(1);
    let config =
        EngineConfig { shard_uuid: [7; 16], codec, translog_generation_bytes: 64 << 20, hash_seed: HashSeed::new(7) };
    let engine = Engine::open(disk.clone(), config).await.expect("an empty disk");
    let registry = AnalyzerRegistry::default();
    let fields = json!({"properties": {
        "title": {"type": "text"}, "tag": {"type": "keyword"}, "n": {"type": "long"}, "d": {"type": "date"},
        "f": {"type": "float"}, "where": {"type": "geo_point"}, "ip": {"type": "ip"}, "ok": {"type": "boolean"}}});
    let mapping = Mapping::parse(&fields, &registry).expect("a mapping");
    let mut parsed = ParsedDocument::default();
    let mut put = |n: u64| {
        let source = json!({
            "title": format!("the quick brown fox {} jumps over the lazy dog {}", n % 5, "fox ".repeat(n as usize % 4)),
            "tag": ["a", format!("t{}", n % 11)], "n": n * 1000, "d": 1_600_000_000_000u64 + n * 86_400_000,
            "f": n as f64 / 3.0, "where": {"lat": (n % 90) as f64, "lon": -(n as f64 % 180.0)}, "ip": "10.0.0.1", "ok": n % 2 == 0,
        })
        .to_string();
        document::parse(&mapping, "x", source.as_bytes(), &mut parsed).expect("a document");
        let (id, routing) = (n.to_string(), if n % 3 == 0 { Some("r") } else { None });
        let operation = IndexOperation {
            id: &id,
            routing,
            source: source.as_bytes(),
            condition: Condition::Any,
            create: false,
            auto_id: false,
        };
        engine.index(&mapping, &parsed, &operation, PrimaryTerm(1)).expect("indexed");
    };
    (0..docs.min(50)).for_each(&mut put);
    engine.sync().await.expect("synced");
    translog(name, &disk).await;
    (0..docs).for_each(&mut put);
    engine.flush(true, 0, &Unpaced).await.expect("flushed");
    (docs - 5..docs + 5).for_each(&mut put);
    engine.sync().await.expect("synced");
    engine.delete("1", Condition::Any, PrimaryTerm(1), 0).expect("deleted");
    engine.sync().await.expect("synced");
    engine.refresh(0, &Unpaced).await.expect("refreshed");
    engine.flush(true, 0, &Unpaced).await.expect("flushed");
    put(0);
    put(docs + 9);
    engine.sync().await.expect("synced");
    translog(name, &disk).await;
    for (file, _) in disk.list().await.expect("listed") {
        let content = disk.content(&file).expect("listed");
        if file.ends_with(".seg") {
            save("segment", &format!("{name}{file}"), REPAIRED, &content);
        } else if file.starts_with("commit-") {
            save("commit", &format!("{name}-{file}"), 0, &content);
            save("commit", &format!("{name}-{file}-body"), 1, &content[32..]);
        }
    }
}

/// Its files without their headers, which the body makes, and without the zeros at their ends.
async fn translog(name: &str, disk: &SimDirectory) {
    for (file, _) in disk.list().await.expect("listed") {
        let content = disk.content(&file).expect("listed");
        let end = content.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
        if file.ends_with(".tlog") && end > BLOCK {
            save("translog", &format!("{name}-{file}"), REPAIRED, &content[BLOCK..end]);
        }
    }
}

async fn metastore() {
    let disk = SimDirectory::new(1);
    let (mut store, _) = MetaStore::open(disk.clone()).await.expect("an empty disk");
    let mut state = ClusterState { version: 3, cluster_name: "c".into(), ..ClusterState::default() };
    state.persistent_settings.insert("action.auto_create_index".into(), json!("false"));
    store.save(&Persisted { node_id: "n".into(), state: state.clone(), ..Persisted::default() }).await.expect("saved");
    let mut content = disk.content("state-0").expect("saved");
    content.truncate(content.iter().rposition(|b| *b != 0).expect("a body") + 1);
    save("metastore", "whole", 0, &content);
    save("metastore", "body", 1, &content[32..]);
    state.custom.entry("index-graveyard".into()).or_default().insert("uuid".into(), std::sync::Arc::new(json!(1)));
    let index = json!({"name": "i", "uuid": "u", "open": true, "creation_date": 1, "number_of_shards": 1,
        "number_of_replicas": 0, "routing_num_shards": 1024, "settings": {}, "mapping": {"properties": {"a": {"type": "text"}}},
        "mapping_version": 1, "settings_version": 1, "aliases_version": 1, "aliases": {"x": {}}, "primary_terms": [1]});
    let mut body = json!({"node_id": "n", "state": serde_json::to_value(&state).expect("JSON")});
    body["state"]["indices"]["i"] = index;
    save("metastore", "index", 1, body.to_string().as_bytes());
}

fn save(body: &str, name: &str, mode: u8, bytes: &[u8]) {
    write(body, name, &[&[mode], bytes].concat());
}

pub(crate) fn write(body: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(body);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(name), bytes).expect("a file");
}
