//! The job done by the engine.

pub mod index;
mod merging;
pub mod scale;
pub mod search;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use ringdex_engine::analysis::AnalyzerRegistry;
use ringdex_engine::engine::{Engine, EngineConfig};
use ringdex_engine::mapping::Mapping;
use ringdex_engine::seed::HashSeed;
use ringdex_engine::store::dma::{DmaDirectory, iopoll_guard};
use ringdex_engine::store::ledger::{Ledger, Ledgered, Purpose};

use crate::job;

type Failure = Box<dyn Error>;
type Outcome = Result<(), Failure>;
type ShardEngine = Engine<Ledgered<DmaDirectory>>;

const ENGINE: &str = "ringdex";

/// Runs `job` on an executor of this thread, which a heartbeat keeps from sleeping on runnable tasks.
pub fn on_executor<T>(job: impl Future<Output = T>) -> Result<T, Failure> {
    executor(Placement::Unbound, job)
}

fn executor<T>(placement: Placement, job: impl Future<Output = T>) -> Result<T, Failure> {
    let executor = LocalExecutorBuilder::new(placement).io_memory(1 << 20).make()?;
    Ok(executor.run(async {
        for beat in [5, 50] {
            glommio::spawn_local(async move {
                loop {
                    glommio::timer::sleep(Duration::from_millis(beat)).await;
                }
            })
            .detach();
        }
        job.await
    }))
}

pub fn mapping() -> Result<Mapping, Failure> {
    Ok(Mapping::parse(&job::mapping(), &AnalyzerRegistry::default())?)
}

/// Opens a shard's directory, counting what is written to it.
async fn directory(
    path: &Path,
    written: &Arc<Ledger>,
    segments_for: Purpose,
) -> Result<Ledgered<DmaDirectory>, Failure> {
    iopoll_guard(path).await?;
    Ok(Ledgered::new(DmaDirectory::open(path).await?, written.clone(), segments_for))
}

/// Opens what `dir` has, or an empty shard.
pub async fn open(dir: &Path, written: &Arc<Ledger>) -> Result<ShardEngine, Failure> {
    let config = EngineConfig {
        shard_uuid: [7; 16],
        codec: Default::default(),
        translog_generation_bytes: 64 << 20,
        hash_seed: HashSeed::new(1),
    };
    Ok(Engine::open(directory(dir, written, Purpose::Segments).await?, config).await?)
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
