//! Making writes durable, on the disk that the build is on; beside it, what that disk gives by itself.

mod fixture;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::documents;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use ringdex_engine::commit::{CommitPoint, CommittedSegment};
use ringdex_engine::ids::{Generation, PrimaryTerm, SegmentId, SeqNo, Version};
use ringdex_engine::op::{Operation, OperationKind};
use ringdex_engine::segment::segment_file_name;
use ringdex_engine::store::BLOCK;
use ringdex_engine::store::dma::{DmaDirectory, iopoll_guard};
use ringdex_engine::translog::{Options, Position, Translog};

fn durability(c: &mut Criterion) {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    disk(c, place.path());
    let executor = executor();
    translog(c, &executor, &place.path().join("translog"));
    commit(c, &executor, &place.path().join("commits"));
}

/// As in a node: a heartbeat keeps it from sleeping on runnable tasks.
fn executor() -> LocalExecutor {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).make().expect("an executor");
    executor.run(async {
        for beat in [5, 50] {
            let beats = async move {
                loop {
                    glommio::timer::sleep(Duration::from_millis(beat)).await;
                }
            };
            glommio::spawn_local(beats).detach();
        }
    });
    executor
}

async fn directory(path: &Path) -> DmaDirectory {
    iopoll_guard(path).await.expect("direct I/O");
    DmaDirectory::open(path).await.expect("a directory")
}

/// Writes of a block in turns all over a file that was written before.
fn disk(c: &mut Criterion, path: &Path) {
    const BLOCKS: usize = 4096;
    let file = File::options().read(true).write(true).create_new(true).open(path.join("blocks")).expect("a file");
    file.write_all_at(&vec![0; BLOCKS * BLOCK], 0).and_then(|()| file.sync_all()).expect("space");
    let block = [7; BLOCK];
    let mut at = 0;
    let mut write = || {
        file.write_all_at(&block, (at % BLOCKS * BLOCK) as u64).and_then(|()| file.sync_data()).expect("a write");
        at += 1;
    };
    write();
    let mut read = [0; BLOCK];
    file.read_exact_at(&mut read, 0).expect("a read");
    assert!(read == block, "what is written is read");
    c.bench_function("disk/sync/4k", |b| b.iter(&mut write));
}

fn translog(c: &mut Criterion, executor: &LocalExecutor, path: &Path) {
    let mut log = executor.run(Log::create(path));
    executor.run(log.check());
    let mut group = c.benchmark_group("translog");
    for (name, documents, sync) in
        [("append/document", 1, false), ("sync/one-document", 1, true), ("sync/64-documents", 64, true)]
    {
        group.throughput(Throughput::Elements(documents));
        group.bench_function(name, |b| b.iter_custom(|iterations| executor.run(log.time(iterations, documents, sync))));
    }
    group.finish();
}

/// A translog that is appended the same document again and again.
struct Log {
    translog: Translog<DmaDirectory>,
    source: String,
    seq_no: SeqNo,
}

impl Log {
    /// What is appended before older generations are dropped: less than one has room for.
    const KEPT: u64 = 2_048;

    async fn create(path: &Path) -> Log {
        let options = Options { first_size: 32 << 20, ..Options::default() };
        let translog = Translog::create(directory(path).await, [7; 16], options).await.expect("a translog");
        Log { translog, source: documents(1).next().expect("a document"), seq_no: SeqNo(0) }
    }

    async fn append(&mut self) {
        let source = self.source.as_bytes();
        let kind = OperationKind::Index { id: "12345", version: Version(1), routing: None, source };
        self.translog.reserve(source.len() + 64).await.expect("room");
        self.translog.append(&Operation { seq_no: self.seq_no, term: PrimaryTerm(1), kind }).expect("an append");
        self.seq_no = self.seq_no.next();
    }

    /// Appends so many documents so many times, and makes them durable each time.
    async fn time(&mut self, iterations: u64, documents: u64, sync: bool) -> Duration {
        let (mut left, mut took) = (iterations, Duration::ZERO);
        while left > 0 {
            let now = left.min(Log::KEPT / documents);
            let began = Instant::now();
            for _ in 0..now {
                for _ in 0..documents {
                    self.append().await;
                }
                if sync {
                    self.translog.sync().await.expect("a sync");
                }
            }
            took += began.elapsed();
            self.drop_all().await;
            left -= now;
        }
        took
    }

    /// As after a commit of everything.
    async fn drop_all(&self) {
        let translog = &self.translog;
        translog.sync().await.expect("a sync");
        translog.roll().await.expect("a generation");
        translog.committed(translog.min_generation_for(self.seq_no));
        translog.trim(translog.generation()).await.expect("a trim");
    }

    /// What is synced can be read back.
    async fn check(&mut self) {
        for _ in 0..3 {
            self.append().await;
        }
        self.translog.sync().await.expect("a sync");
        assert!(self.translog.is_synced(self.translog.appended()), "a sync reaches the last operation");
        let mut reader = self.translog.read_range(SeqNo(0), SeqNo(i64::MAX));
        let mut read = 0;
        while let Some(batch) = reader.next().await.expect("a batch") {
            for (_, operation) in batch.operations() {
                let OperationKind::Index { source, .. } = operation.kind else { panic!("another operation") };
                assert!(
                    operation.seq_no == SeqNo(read) && source == self.source.as_bytes(),
                    "what is appended is read"
                );
                read += 1;
            }
        }
        assert!(read == self.seq_no.0, "{read} operations are read");
    }
}

fn commit(c: &mut Criterion, executor: &LocalExecutor, path: &Path) {
    let segment = |i| CommittedSegment {
        id: SegmentId(i),
        file: segment_file_name(SegmentId(i)),
        size: 1 << 20,
        crc: 7,
        doc_count: 1_000,
        deleted_count: 10,
        live_docs: Some(Generation(1)),
        min_seq_no: SeqNo(1_000 * i as i64),
        max_seq_no: SeqNo(1_000 * i as i64 + 999),
    };
    let point = CommitPoint {
        generation: Generation(1),
        shard_uuid: [7; 16],
        segments: (0..20).map(segment).collect(),
        local_checkpoint: SeqNo(19_999),
        max_seq_no: SeqNo(19_999),
        max_unsafe_auto_id_timestamp: -1,
        translog_uuid: [7; 16],
        translog_position: Position { generation: Generation(1), batch: 1 },
        user_data: BTreeMap::from([("history_uuid".to_owned(), "pLmXv8KqTt2b3n4c5d6e7f".to_owned())]),
    };
    let directory = executor.run(directory(path));
    let found = executor.run(async {
        point.write(&directory).await.expect("a commit");
        CommitPoint::load_newest(&directory).await.expect("a commit")
    });
    assert!(found.as_ref() == Some(&point), "what is committed is found");
    c.bench_function("commit/write/20-segments", |b| {
        b.iter_custom(|iterations| {
            executor.run(async {
                let began = Instant::now();
                for _ in 0..iterations {
                    point.write(&directory).await.expect("a commit");
                }
                began.elapsed()
            })
        });
    });
}

criterion_group!(benches, durability);
criterion_main!(benches);
