//! A walk over everything a query finds.

use ringdex_engine::search::{SortBy, SortKey, SortValue, TrackTotalHits};

use crate::backend::SharedBackend;
use crate::coordinate::search::{Hit, SearchPlan, Target, search};
use crate::dsl::SearchBody;
use crate::error::{ApiError, ApiResult};
use crate::shard::message::{ShardRequest, ShardResponse};

/// How long a page's context waits for the next page, in milliseconds.
const KEEP_ALIVE_MS: i64 = 300_000;

/// Pages through a fixed point in time, in index order.
pub(crate) struct Walk<'a> {
    backend: &'a SharedBackend,
    plan: SearchPlan,
    total: u64,
    done: bool,
}

impl<'a> Walk<'a> {
    pub(crate) async fn open(
        backend: &'a SharedBackend,
        mut list: Vec<Target>,
        mut body: SearchBody,
        page: usize,
    ) -> ApiResult<Walk<'a>> {
        for at in 0..list.len() {
            let opened = backend.shard(&list[at].id(), ShardRequest::Open { keep_alive_ms: KEEP_ALIVE_MS }).await;
            let error = match opened {
                Ok(ShardResponse::Opened { context }) => {
                    list[at].context = Some(context);
                    continue;
                }
                Ok(_) => ApiError::new(500, "illegal_state_exception", "a context was answered by something else"),
                Err(error) => error,
            };
            free(backend, &list[..at]).await;
            return Err(error);
        }
        body.request.sort.push(SortKey { by: SortBy::Doc, descending: false });
        body.request.top = page;
        body.request.track_total_hits = TrackTotalHits::All;
        body.request.now_ms = backend.now_ms();
        body.fetch.version = true;
        body.fetch.seq_no_primary_term = true;
        let plan = SearchPlan {
            request: body.request,
            fetch: body.fetch,
            from: 0,
            size: page,
            deadline_ms: None,
            keep_alive_ms: Some(KEEP_ALIVE_MS),
            request_cache: Some(false),
            targets: list,
        };
        Ok(Walk { backend, plan, total: 0, done: false })
    }

    /// The next hits, with the names of their indices; empty at the end.
    pub(crate) async fn next(&mut self) -> ApiResult<Vec<(String, Hit)>> {
        if self.done {
            return Ok(Vec::new());
        }
        let outcome = search(self.backend, &self.plan).await?;
        if let Some(failure) = outcome.failures.first() {
            return Err(failure.error.clone());
        }
        self.total = self.total.max(outcome.total.map_or(0, |(n, _)| n));
        self.done = outcome.hits.len() < self.plan.size;
        for hit in &outcome.hits {
            let after: Vec<SortValue> = hit.top.sort.clone();
            self.plan.targets[hit.target].after = Some(after);
        }
        let names: Vec<String> = self.plan.targets.iter().map(|t| t.index.name.clone()).collect();
        Ok(outcome.hits.into_iter().map(|hit| (names[hit.target].clone(), hit)).collect())
    }

    /// Documents the query finds, once the first page is there.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Keeps the contexts while no page is asked for; never ends.
    pub(super) async fn keep_alive(&self) {
        loop {
            self.backend.sleep_ms(KEEP_ALIVE_MS as u64 / 3).await;
            for target in &self.plan.targets {
                let message = ShardRequest::Note { context: target.context.unwrap_or(0), note: None };
                // One that is gone is found missing by the next page.
                let _ = self.backend.shard(&target.id(), message).await;
            }
        }
    }

    pub(crate) async fn close(&self) {
        free(self.backend, &self.plan.targets).await;
    }
}

async fn free(backend: &SharedBackend, targets: &[Target]) {
    for target in targets {
        let message = ShardRequest::Free { context: target.context.unwrap_or(0) };
        let _ = backend.shard(&target.id(), message).await;
    }
}
