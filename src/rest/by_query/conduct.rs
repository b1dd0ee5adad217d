//! Doing a by-query operation: in the background of its request, slice by slice, batch by batch.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_lite::FutureExt;
use serde_json::{Map, Value, json};

use super::progress::Progress;
use super::walk::Walk;
use super::{Job, Work};
use crate::backend::{LocalFuture, SharedBackend};
use crate::coordinate::join;
use crate::coordinate::search::{Hit, Target};
use crate::coordinate::write::{ClientOp, Written, write};
use crate::dsl::SearchBody;
use crate::dsl::search::Slice;
use crate::error::{ApiError, ApiResult};
use crate::mesh::{OneShot, panic_text};
use crate::rest::indices::upkeep::broadcast;
use crate::rest::request::{Request, Response};
use crate::rest::search::slice_targets;
use crate::rest::tasks;
use crate::shard::message::{ShardRequest, WriteOutcome};
use crate::stats::timeline;

/// Times that writes a shard had no room for are tried again, and how long is waited before the first.
const RETRIES_MAX: u32 = 10;
const RETRY_MS: u64 = 50;
/// Slices at most that are chosen by us.
const AUTO_SLICES_MAX: u32 = 20;

/// What a slice leaves beside its counts.
#[derive(Default)]
struct Ended {
    failures: Vec<Value>,
    /// The worst status of these.
    worst: u16,
    written_to: Vec<String>,
}

/// Begins the work, which goes on even if its client leaves, and waits for its end if it is to.
pub(super) async fn launch(backend: &SharedBackend, request: &Request, work: Work) -> ApiResult<Response> {
    let task = request.task.clone().expect("what is routed is a task");
    let progress = Progress::new(backend, Rc::clone(&task), None, work.job.rate);
    progress.shows();
    let (waits, id) = (work.job.waits, task.info().id(&backend.node().id));
    let done: OneShot<ApiResult<Response>> = OneShot::default();
    let (own, told) = (Rc::clone(backend), done.clone());
    let conducted = async move {
        let result = AssertUnwindSafe(conduct(&own, &work, &progress)).catch_unwind().await;
        let result = result.unwrap_or_else(|panic| {
            Err(ApiError::new(500, "exception", format!("internal error: {}", panic_text(&*panic))))
        });
        if waits {
            return told.set(result.map(|(status, answer)| Response::json(status, answer)));
        }
        // The task is listed until its result is kept, so that there is always one of the two.
        let result = result.map(|(_, answer)| answer);
        if let Err(error) = tasks::store(&own, &task.info(), &result).await {
            tracing::warn!(task = task.number(), %error, "the result of a task is lost");
        }
    };
    backend.spawn(Box::pin(timeline::within_any(timeline::current().filter(|_| waits), conducted)));
    if waits { done.get().await } else { Ok(Response::ok(json!({ "task": id }))) }
}

/// The whole work: status and body of the answer.
async fn conduct(backend: &SharedBackend, work: &Work, progress: &Progress) -> ApiResult<(u16, Value)> {
    let job = &work.job;
    let slices = match job.slices {
        Some(slices) => slices,
        // One a shard, of the index that has the fewest.
        None => {
            let shards = work.targets.iter().map(|t| t.index.number_of_shards).min();
            shards.unwrap_or(1).clamp(1, AUTO_SLICES_MAX)
        }
    };
    let ended = if slices <= 1 {
        vec![walk(backend, work, progress, work.targets.clone(), job.max_docs).await]
    } else {
        let max_docs = job.max_docs.map(|most| most / u64::from(slices));
        let parts = progress.split(slices);
        let walks = parts.iter().zip(0..).map(|(part, id)| {
            let mut targets = work.targets.clone();
            slice_targets(&mut targets, &Slice { field: "_id".to_owned(), id, max: slices });
            Box::pin(async move {
                let ended = walk(backend, work, part, targets, max_docs).await;
                part.task().ends();
                ended
            }) as LocalFuture<'_, _>
        });
        join::all(walks.collect()).await
    };
    let mut all = Ended::default();
    for one in ended {
        let one = one?;
        all.failures.extend(one.failures);
        all.worst = all.worst.max(one.worst);
        all.written_to.extend(one.written_to);
    }
    if job.refresh && !progress.is_cancelled() {
        let state = backend.state();
        let mut indices: Vec<_> = work.targets.iter().map(|t| t.index.clone()).collect();
        indices.extend(all.written_to.iter().filter_map(|n| state.indices.get(n).cloned()));
        indices.sort_by(|a, b| a.name.cmp(&b.name));
        indices.dedup_by(|a, b| a.name == b.name);
        broadcast(backend, &indices, &ShardRequest::Refresh).await;
    }
    let mut out = Map::new();
    out.insert("took".into(), ((backend.monotonic_ns() - work.start) / 1_000_000).into());
    out.insert("timed_out".into(), false.into());
    // What is kept for later has all counts; an answer those that can be.
    let all_counts = !job.waits;
    progress.put(&mut out, job.shows_updated || all_counts, job.shows_created || all_counts);
    out.insert("failures".into(), all.failures.into());
    Ok((if all.worst == 0 { 200 } else { all.worst }, Value::Object(out)))
}

/// One slice, or all of it.
async fn walk(
    backend: &SharedBackend,
    work: &Work,
    progress: &Progress,
    targets: Vec<Target>,
    max_docs: Option<u64>,
) -> ApiResult<Ended> {
    let mut ended = Ended::default();
    let targets: Vec<Target> = targets.into_iter().filter(|target| !target.is_empty_slice()).collect();
    if targets.is_empty() {
        return Ok(ended);
    }
    let body =
        SearchBody { request: work.body.request.clone(), fetch: work.body.fetch.clone(), ..SearchBody::default() };
    let mut walk = Walk::open(backend, targets, body, work.job.page).await?;
    let walked = batches(backend, work, progress, &mut walk, max_docs, &mut ended).await;
    walk.close().await;
    walked.map(|()| ended)
}

async fn batches(
    backend: &SharedBackend,
    work: &Work,
    progress: &Progress,
    walk: &mut Walk<'_>,
    max_docs: Option<u64>,
    ended: &mut Ended,
) -> ApiResult<()> {
    let job = &work.job;
    let most = max_docs.unwrap_or(u64::MAX);
    let mut left = most;
    let (mut last_batch, mut began) = (0, work.start);
    while left > 0 && ended.failures.is_empty() && !progress.is_cancelled() {
        // A search may take long; a batch that is found is written.
        let stop = async {
            progress.task().until_cancelled().await;
            Ok(Vec::new())
        };
        let mut hits = futures_lite::future::or(walk.next(), stop).await?;
        progress.count(|counts| counts.total = counts.total.max(walk.total().min(most)));
        hits.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= hits.len() as u64;
        if hits.is_empty() {
            break;
        }
        if job.needs_source
            && let Some((index, hit)) = hits.iter().find(|(_, hit)| hit.fetched.source.is_none())
        {
            let id = &hit.fetched.id;
            return Err(ApiError::illegal_argument(format!("[{index}][_doc][{id}] didn't store _source")));
        }
        // The batch before has used up its time before this one begins.
        futures_lite::future::or(progress.throttle(last_batch, began), walk.keep_alive()).await;
        if progress.is_cancelled() {
            break;
        }
        began = backend.monotonic_ns();
        last_batch = hits.len();
        progress.count(|counts| counts.batches += 1);
        for written in write_batch(backend, work, progress, hits).await {
            note(job, progress, ended, written);
        }
    }
    Ok(())
}

/// Writes a batch; what a shard has no room for now is tried again.
async fn write_batch(
    backend: &SharedBackend,
    work: &Work,
    progress: &Progress,
    hits: Vec<(String, Hit)>,
) -> Vec<Written> {
    let mut ops: Vec<ClientOp> = hits.into_iter().map(|(index, hit)| (work.make)(index, hit)).collect();
    let mut all = Vec::with_capacity(ops.len());
    let mut pause = RETRY_MS;
    for attempt in 0.. {
        let kept = ops.clone();
        let results = write(backend, std::mem::take(&mut ops), &work.job.options).await;
        for (written, op) in results.into_iter().zip(kept) {
            let rejected = matches!(&written.result, Err(e) if e.status == 429 && e.kind.contains("rejected"));
            if rejected && attempt < RETRIES_MAX && !progress.is_cancelled() {
                ops.push(op);
            } else {
                all.push(written);
            }
        }
        if ops.is_empty() {
            break;
        }
        progress.count(|counts| counts.retries += 1);
        backend.sleep_ms(pause).await;
        pause *= 2;
    }
    all
}

fn note(job: &Job, progress: &Progress, ended: &mut Ended, written: Written) {
    if !ended.written_to.contains(&written.index) {
        ended.written_to.push(written.index.clone());
    }
    match written.result {
        Ok(result) => progress.count(|counts| match result.outcome {
            WriteOutcome::Created => counts.created += 1,
            WriteOutcome::Updated | WriteOutcome::Noop => counts.updated += 1,
            WriteOutcome::Deleted => counts.deleted += 1,
            WriteOutcome::NotFound => {}
        }),
        Err(error) => {
            if error.status == 409 {
                progress.count(|counts| counts.conflicts += 1);
                if job.proceed {
                    return;
                }
            }
            ended.worst = ended.worst.max(error.status);
            ended.failures.push(json!({
                "index": written.index, "type": "_doc", "id": written.id, "cause": error.to_cause(), "status": error.status,
            }));
        }
    }
}
