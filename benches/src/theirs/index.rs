//! Indexing and merging.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tantivy::merge_policy::NoMergePolicy;
use tantivy::schema::Field;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument};

use super::{ENGINE, Failure, Outcome, schema};
use crate::corpus::{Lines, Passage};
use crate::job::{IndexOptions, MergeOptions};
use crate::process::{self, Watch};
use crate::report::{self, Indexed, Merged};

/// An index being filled.
struct Filling {
    index: Index,
    writer: IndexWriter,
    reader: IndexReader,
    fields: Fields,
    docs: u64,
}

struct Fields {
    id: Field,
    title: Field,
    body: Field,
    pkg: Field,
    dir: Field,
    words: Field,
    bytes: Field,
    pop: Field,
    ts: Field,
    source: Field,
}

impl Filling {
    /// An empty one, in place of what `dir` has.
    fn create(dir: &Path, options: &IndexOptions) -> Result<Filling, Failure> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        let schema = schema();
        let field = |name: &str| schema.get_field(name);
        let fields = Fields {
            id: field("id")?,
            title: field("title")?,
            body: field("body")?,
            pkg: field("pkg")?,
            dir: field("dir")?,
            words: field("words")?,
            bytes: field("bytes")?,
            pop: field("pop")?,
            ts: field("ts")?,
            source: field("_source")?,
        };
        let index = Index::create_in_dir(dir, schema)?;
        let writer: IndexWriter = index.writer_with_num_threads(1, options.heap_mb << 20)?;
        if options.no_merge {
            writer.set_merge_policy(Box::new(NoMergePolicy));
        }
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Filling { index, writer, reader, fields, docs: 0 })
    }

    fn put(&mut self, json: &[u8]) -> Outcome {
        let passage: Passage<'_> = serde_json::from_slice(json)?;
        let f = &self.fields;
        let mut document = TantivyDocument::new();
        document.add_text(f.id, self.docs.to_string());
        document.add_text(f.title, &passage.title);
        document.add_text(f.body, &passage.body);
        document.add_text(f.pkg, &passage.pkg);
        document.add_text(f.dir, &passage.dir);
        document.add_i64(f.words, passage.words);
        document.add_i64(f.bytes, passage.bytes);
        document.add_f64(f.pop, passage.pop);
        document.add_i64(f.ts, passage.ts);
        document.add_bytes(f.source, json);
        self.writer.add_document(document)?;
        self.docs += 1;
        Ok(())
    }

    /// Makes everything so far searchable, and makes sure that it is. tantivy can only do it by a commit.
    fn refresh(&mut self) -> Outcome {
        self.writer.commit()?;
        self.reader.reload()?;
        let visible = self.reader.searcher().num_docs();
        if visible != self.docs {
            return Err(format!("{visible} of {} documents are searchable after a commit", self.docs).into());
        }
        Ok(())
    }
}

pub fn index(corpus: &Path, dir: &Path, options: &IndexOptions) -> Outcome {
    let mut lines = Lines::open(corpus)?;
    let mut filling = Filling::create(dir, options)?;
    let watch = Watch::start();
    let (disk, written, preemptions) = (process::disk_bytes(), process::written_bytes(), process::preemptions());
    let (mut refreshes, mut refreshed, mut refresh_time) = (0u64, Instant::now(), Duration::ZERO);
    let mut anonymous_mb = 0;
    while filling.docs < options.limit {
        let Some(source) = lines.next()? else { break };
        filling.put(source)?;
        if filling.docs.is_multiple_of(options.bulk) {
            anonymous_mb = anonymous_mb.max(process::anonymous_mb());
        }
        let interval = Duration::from_millis(options.refresh_ms);
        if !interval.is_zero() && filling.docs.is_multiple_of(64) && refreshed.elapsed() >= interval {
            let began = Instant::now();
            filling.refresh()?;
            refreshes += 1;
            refreshed = Instant::now();
            refresh_time += began.elapsed();
        }
    }
    filling.writer.commit()?;
    let Filling { index, writer, docs, .. } = filling;
    writer.wait_merging_threads()?;
    if options.force_merge {
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 32 << 20)?;
        writer.merge(&index.searchable_segment_ids()?).wait()?;
        writer.wait_merging_threads()?;
    }
    let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
    let (disk, written) = (process::disk_bytes() - disk, process::written_bytes() - written);
    let writer: IndexWriter = index.writer_with_num_threads(1, 32 << 20)?;
    writer.garbage_collect_files().wait()?;
    let segments = index.searchable_segments()?.len();
    let index_bytes = report::size_of(dir, |_| true)?;
    let mut more = Map::new();
    more.insert("refresh_wall_s".to_owned(), json!(refresh_time.as_secs_f64()));
    more.insert("disk_mb".to_owned(), json!(disk as f64 / 1e6));
    more.insert("written_mb".to_owned(), json!(written as f64 / 1e6));
    more.insert("write_amplification".to_owned(), json!(written as f64 / index_bytes as f64));
    more.insert("write_amplification_index".to_owned(), json!(written as f64 / index_bytes as f64));
    more.insert("peak_anonymous_mb".to_owned(), json!(anonymous_mb));
    more.insert("preemptions".to_owned(), json!(process::preemptions().saturating_sub(preemptions)));
    Indexed { docs, input_bytes: lines.bytes, index_bytes, refreshes, segments, wall_s, cpu_s, more }
        .print(ENGINE, options);
    Ok(())
}

/// Equal segments, then one merge of them to one.
pub fn merge(corpus: &Path, dir: &Path, options: &MergeOptions) -> Outcome {
    let mut lines = Lines::open(corpus)?;
    let mut filling = Filling::create(dir, &options.unmerged())?;
    for _ in 0..options.segments {
        for _ in 0..options.docs {
            let Some(source) = lines.next()? else { return Err("the corpus has too few documents".into()) };
            filling.put(source)?;
        }
        filling.writer.commit()?;
    }
    let Filling { index, mut writer, docs, .. } = filling;
    writer.garbage_collect_files().wait()?;
    let sources = index.searchable_segment_ids()?;
    assert!(sources.len() as u64 == options.segments, "one segment per commit");
    let segment_bytes = report::size_of(dir, |_| true)?;
    let watch = Watch::start();
    writer.merge(&sources).wait()?;
    let (wall_s, cpu_s) = (watch.wall_s(), watch.cpu_s());
    writer.garbage_collect_files().wait()?;
    assert!(index.searchable_segment_ids()?.len() == 1, "one segment is left");
    let merged_bytes = report::size_of(dir, |_| true)?;
    Merged { docs, input_bytes: lines.bytes, segment_bytes, merged_bytes, wall_s, cpu_s }.print(ENGINE, options);
    Ok(())
}
