//! `ringdex check DIR`: reads everything a stopped node has on disk and verifies it; changes nothing.
//!
//! Small files are put into a simulated directory in memory and opened there by the code that opens them in
//! production: whatever recovery would do to them happens to the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_lite::future::block_on;
use ringdex_engine::commit::{CommitPoint, CommittedSegment};
use ringdex_engine::segment::live_docs::LiveDocs;
use ringdex_engine::segment::reader::SegmentReader;
use ringdex_engine::store::FileBytes;
use ringdex_engine::store::sim::SimDirectory;
use ringdex_engine::translog::{Options, Translog};
use ringdex_net::cluster::state::ClusterState;

use crate::metastore;
use crate::node::GRAVEYARD;
use crate::runtime::checks;

#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 all is well, 1 something is damaged or missing, 2 it could not be checked.")]
pub(super) struct CheckArgs {
    /// Data directory of a stopped node
    #[arg(value_name = "DIR")]
    data: PathBuf,
    /// Print only problems and the summary
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<i32, String> {
    if !args.data.is_dir() {
        return Err(format!("[{}] is no directory", args.data.display()));
    }
    // Also says so when a node is running there.
    let _lock = checks::lock_data(&args.data)?;
    let report = check(&args.data);
    for line in &report.facts {
        if !args.quiet {
            println!("{line}");
        }
    }
    for problem in &report.problems {
        println!("PROBLEM {problem}");
    }
    println!(
        "{} indices, {} shards, {} segments, {} documents, {} operations in logs: {}",
        report.indices,
        report.shards,
        report.segments,
        report.documents,
        report.operations,
        if report.problems.is_empty() {
            "all is well".to_owned()
        } else {
            format!("{} problems", report.problems.len())
        }
    );
    Ok(i32::from(!report.problems.is_empty()))
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    facts: Vec<String>,
    problems: Vec<String>,
    indices: usize,
    shards: usize,
    segments: usize,
    documents: u64,
    operations: u64,
    /// Of all segments, by what is in their sections.
    section_bytes: BTreeMap<&'static str, u64>,
}

fn check(data: &Path) -> Report {
    let mut report = Report::default();
    let Some(state) = check_state(data, &mut report) else { return report };
    let mut known = BTreeSet::new();
    for index in state.indices.values() {
        known.insert(index.uuid.clone());
        report.indices += 1;
        for shard in 0..index.number_of_shards {
            report.shards += 1;
            let name = format!("[{}][{shard}]", index.name);
            let path = data.join("indices").join(&index.uuid).join(shard.to_string());
            if let Err(problem) = check_shard(&name, &path, &mut report) {
                report.problems.push(format!("{name}: {problem}"));
            }
        }
    }
    let buried = state.custom.get(GRAVEYARD);
    for uuid in names(&data.join("indices")).unwrap_or_default() {
        if known.contains(&uuid) {
            continue;
        }
        let what = if buried.is_some_and(|b| b.contains_key(&uuid)) {
            "deleted index, will be removed at the next start"
        } else {
            "dangling index, not in the cluster state"
        };
        report.facts.push(format!("indices/{uuid}: {what}"));
    }
    if !report.section_bytes.is_empty() {
        let mut sizes: Vec<_> = report.section_bytes.iter().map(|(&name, &bytes)| (bytes, name)).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let sizes: Vec<String> = sizes.into_iter().map(|(bytes, name)| format!("{name} {bytes}")).collect();
        report.facts.push(format!("bytes in segments: {}", sizes.join(", ")));
    }
    report
}

fn check_state(data: &Path, report: &mut Report) -> Option<ClusterState> {
    let copy = SimDirectory::new(0);
    for name in ["state-0", "state-1"] {
        match std::fs::read(data.join(name)) {
            Ok(bytes) => copy.put(name, &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => report.problems.push(format!("{name}: {e}")),
        }
    }
    match block_on(metastore::inspect(&copy)) {
        Ok(loaded) => {
            // One slot cut short by a crash is no damage, but worth a word.
            report.facts.extend(loaded.unreadable.iter().map(|slot| format!("{slot} (the other slot holds)")));
            match loaded.persisted {
                Some(persisted) => {
                    let (version, node) = (persisted.state.version, persisted.node_id);
                    report.facts.push(format!("cluster state: version {version}, node {node}"));
                    Some(persisted.state)
                }
                None => {
                    report.facts.push("cluster state: none, a new node".into());
                    Some(ClusterState::default())
                }
            }
        }
        Err(e) => {
            report.problems.push(format!("cluster state: {e}"));
            None
        }
    }
}

fn check_shard(name: &str, path: &Path, report: &mut Report) -> Result<(), String> {
    let files = names(path).map_err(|e| format!("[{}]: {e}", path.display()))?;
    let copy = SimDirectory::new(0);
    for file in files.iter().filter(|f| f.starts_with("commit-") || f.starts_with("translog-")) {
        copy.put(file, &std::fs::read(path.join(file)).map_err(|e| format!("{file}: {e}"))?);
    }
    let commit = block_on(CommitPoint::load_newest(&copy)).map_err(|e| e.to_string())?;
    let Some(commit) = commit else {
        let empty = !files.iter().any(|f| f.starts_with("segment") || f.starts_with("translog-"));
        if empty {
            report.facts.push(format!("{name}: empty"));
            return Ok(());
        }
        return Err("files without a commit".into());
    };
    let mut fact = format!("{name}: commit {}, {} segments", commit.generation, commit.segments.len());
    let mut documents = 0;
    for segment in &commit.segments {
        report.segments += 1;
        match check_segment(path, segment, &mut report.section_bytes) {
            Ok(()) => documents += u64::from(segment.doc_count - segment.deleted_count),
            Err(problem) => report.problems.push(format!("{name}: {problem}")),
        }
    }
    report.documents += documents;
    let _ = write!(fact, ", {documents} documents");
    let operations = block_on(count_operations(&copy, &commit)).map_err(|e| e.to_string())?;
    report.operations += operations;
    let _ = write!(fact, ", {operations} operations to replay");
    let needed = commit.referenced_files();
    let other = files.iter().filter(|f| !needed.contains(*f) && !f.starts_with("translog-")).count();
    if other > 0 {
        let _ = write!(fact, ", {other} files that no commit needs");
    }
    report.facts.push(fact);
    Ok(())
}

/// Replays the log on a copy of its files.
async fn count_operations(copy: &SimDirectory, commit: &CommitPoint) -> ringdex_engine::Result<u64> {
    let (uuid, from) = (commit.translog_uuid, commit.translog_position);
    let translog = Translog::open(copy.clone(), uuid, from, Options::default()).await?;
    let mut replay = translog.replay();
    let mut count = 0;
    while let Some(batch) = replay.next().await? {
        count += batch.operations().len() as u64;
    }
    Ok(count)
}

fn check_segment(
    path: &Path,
    segment: &CommittedSegment,
    section_bytes: &mut BTreeMap<&'static str, u64>,
) -> Result<(), String> {
    let bytes = std::fs::read(path.join(&segment.file)).map_err(|e| format!("{}: {e}", segment.file))?;
    if bytes.len() as u64 != segment.size {
        return Err(format!("{}: {} bytes, the commit says {}", segment.file, bytes.len(), segment.size));
    }
    let reader = SegmentReader::open(segment.id, FileBytes::new(bytes)).map_err(|e| e.to_string())?;
    let crc = reader.meta().crc;
    if crc != segment.crc {
        return Err(format!("{}: checksum {crc:08x}, the commit says {:08x}", segment.file, segment.crc));
    }
    reader.verify().map_err(|e| e.to_string())?;
    if reader.doc_count() != segment.doc_count {
        return Err(format!(
            "{}: {} documents, the commit says {}",
            segment.file,
            reader.doc_count(),
            segment.doc_count
        ));
    }
    if let (Some(file), Some(generation)) = (segment.live_docs_file(), segment.live_docs) {
        let bytes = std::fs::read(path.join(&file)).map_err(|e| format!("{file}: {e}"))?;
        let live =
            LiveDocs::decode(&file, &bytes, segment.id, generation, segment.doc_count).map_err(|e| e.to_string())?;
        if live.deleted_count() != segment.deleted_count || live.doc_count() != segment.doc_count {
            return Err(format!(
                "{file}: {} of {} deleted, the commit says {} of {}",
                live.deleted_count(),
                live.doc_count(),
                segment.deleted_count,
                segment.doc_count
            ));
        }
    }
    for (name, bytes) in reader.section_sizes() {
        *section_bytes.entry(name).or_default() += bytes;
    }
    Ok(())
}

fn names(path: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdex_engine::store::Directory;

    /// Puts the files of a simulated directory on the disk.
    async fn spill(from: &SimDirectory, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for (name, _) in from.list().await.unwrap() {
            std::fs::write(to.join(&name), from.content(&name).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_shard_with_segments_is_well_and_says_how_large_they_are_until_one_is_damaged() {
        use ringdex_engine::document::{self, ParsedDocument};
        use ringdex_engine::engine::{Engine, EngineConfig, IndexOperation};
        use ringdex_engine::{analysis::AnalyzerRegistry, ids::PrimaryTerm, mapping::Mapping, pace::Unpaced};
        use ringdex_engine::{seed::HashSeed, segment::Codec, write::plan::Condition};

        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let disk = SimDirectory::new(0);
            let (shard_uuid, codec, hash_seed) = ([7; 16], Codec::Default, HashSeed::new(1));
            let config = EngineConfig { shard_uuid, codec, translog_generation_bytes: 1 << 20, hash_seed };
            let engine = Engine::open(disk.clone(), config).await.unwrap();
            let fields = serde_json::json!({"properties": {"title": {"type": "text"}}});
            let mapping = Mapping::parse(&fields, &AnalyzerRegistry::default()).unwrap();
            let (source, mut parsed) = (br#"{"title": "one two"}"#, ParsedDocument::default());
            document::parse(&mapping, "x", source, &mut parsed).unwrap();
            let operation = IndexOperation {
                id: "x",
                routing: None,
                source,
                condition: Condition::Any,
                create: false,
                auto_id: false,
            };
            engine.index(&mapping, &parsed, &operation, PrimaryTerm(1)).unwrap();
            engine.sync().await.unwrap();
            engine.flush(true, 0, &Unpaced).await.unwrap();
            spill(&disk, dir.path()).await;
        });
        let mut report = Report::default();
        check_shard("shard", dir.path(), &mut report).unwrap();
        assert!(report.problems.is_empty() && report.documents == 1, "{report:?}");
        assert!(report.section_bytes["sources"] > 0, "{report:?}");
        let segment = names(dir.path()).unwrap().into_iter().find(|n| n.ends_with(".seg")).unwrap();
        let mut bytes = std::fs::read(dir.path().join(&segment)).unwrap();
        bytes[30] ^= 1;
        std::fs::write(dir.path().join(&segment), bytes).unwrap();
        check_shard("shard", dir.path(), &mut report).unwrap();
        assert_eq!(report.problems.len(), 1, "{report:?}");
    }

    #[test]
    fn an_empty_directory_is_well_and_a_damaged_state_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path()).problems.is_empty());
        block_on(async {
            let disk = SimDirectory::new(0);
            let (mut store, _) = metastore::MetaStore::open(disk.clone()).await.unwrap();
            store.save(&metastore::Persisted::default()).await.unwrap();
            store.save(&metastore::Persisted::default()).await.unwrap();
            spill(&disk, dir.path()).await;
        });
        std::fs::create_dir_all(dir.path().join("indices/unknown")).unwrap();
        let report = check(dir.path());
        assert!(report.problems.is_empty(), "{report:?}");
        assert!(report.facts.iter().any(|f| f.contains("dangling")), "{report:?}");
        for slot in ["state-0", "state-1"] {
            let mut bytes = std::fs::read(dir.path().join(slot)).unwrap();
            bytes[40] ^= 1;
            std::fs::write(dir.path().join(slot), bytes).unwrap();
            assert_eq!(check(dir.path()).problems.is_empty(), slot == "state-0", "one good slot is enough");
        }
    }
}
