//! Searches: the query phase on every shard at once, one merged ranking, the fetch phase on the shards that made it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringdex_engine::query::{Query, QueryKind};
use ringdex_engine::search::aggs::AggPartial;
use ringdex_engine::search::statistics::Statistics;
use ringdex_engine::search::{
    FetchRequest, FetchedHit, Missing, QueryResult, SearchRequest, SortBy, SortKey, SortValue, TopHit, TrackTotalHits,
};
use ringdex_net::cluster::state::{ClusterState, IndexMetadata};
use serde_json::{Value, json};

use super::{join, routing};
use crate::backend::{LocalFuture, SharedBackend};
use crate::dsl::parse_query;
use crate::error::{ApiError, ApiResult};
use crate::metadata::block::{self, Level};
use crate::metadata::resolve::{self, IndicesOptions};
use crate::shard::message::{SearchShardRequest, SearchShardResponse, ShardId, ShardRequest, ShardResponse};
use crate::stats::{self, Stage};

/// A shard that takes part, and what is special about it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its index.
    pub index: Arc<IndexMetadata>,
    /// Its number.
    pub shard: u32,
    /// Filter of the alias it is searched through.
    pub filter: Option<Query>,
    /// Multiplies its scores.
    pub boost: f32,
    /// Point in time to search in.
    pub context: Option<u64>,
    /// Where this shard goes on, when each has its own place (scroll).
    pub after: Option<Vec<SortValue>>,
    /// Which part of its documents, of a sliced scroll.
    pub slice: Option<Query>,
}

impl Target {
    /// Whether its part of a sliced search is nothing of this shard.
    #[must_use]
    pub fn is_empty_slice(&self) -> bool {
        matches!(&self.slice, Some(Query { kind: QueryKind::MatchNone, .. }))
    }

    /// The shard's id.
    #[must_use]
    pub fn id(&self) -> ShardId {
        ShardId { index: self.index.name.as_str().into(), uuid: self.index.uuid.as_str().into(), shard: self.shard }
    }
}

/// What to search for.
#[derive(Clone, Debug)]
pub struct SearchPlan {
    /// Query phase; `top` is what each shard gives.
    pub request: SearchRequest,
    /// Fetch phase.
    pub fetch: FetchRequest,
    /// Hits to skip after merging.
    pub from: usize,
    /// Hits to give.
    pub size: usize,
    /// Milliseconds since 1970 after which partial results are given.
    pub deadline_ms: Option<i64>,
    /// New life time of the contexts.
    pub keep_alive_ms: Option<i64>,
    /// Whether shards may answer from their request caches; none = as they are set.
    pub request_cache: Option<bool>,
    /// Shards.
    pub targets: Vec<Target>,
}

/// One hit of the answer.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Which target it came from.
    pub target: usize,
    /// Rank, score, sort values.
    pub top: TopHit,
    /// Its parts.
    pub fetched: FetchedHit,
}

/// A shard that could not answer.
#[derive(Clone, Debug)]
pub struct ShardFailure {
    /// Which target.
    pub target: usize,
    /// Why.
    pub error: ApiError,
}

/// Everything an answer needs.
#[derive(Clone, Debug, Default)]
pub struct SearchOutcome {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Matching documents and whether that is exact; none when not tracked.
    pub total: Option<(u64, bool)>,
    /// Best score.
    pub max_score: Option<f32>,
    /// The deadline passed.
    pub timed_out: bool,
    /// `terminate_after` took effect.
    pub terminated_early: bool,
    /// Partial aggregations of each shard.
    pub aggs: Vec<Vec<AggPartial>>,
    /// Shards that failed.
    pub failures: Vec<ShardFailure>,
    /// Shards asked.
    pub total_shards: usize,
}

/// The shards a search goes to.
pub fn targets(
    backend: &SharedBackend,
    state: &ClusterState,
    expressions: &[String],
    options: IndicesOptions,
    routing_param: Option<&str>,
    preference: Option<&str>,
) -> ApiResult<Vec<Target>> {
    let now_ms = backend.now_ms();
    let mut indices = resolve::resolve(state, expressions, options, now_ms)?;
    indices.sort_by(|a, b| a.name.cmp(&b.name));
    let names = resolve::resolve_names(state, expressions, options, now_ms)?;
    let only: Option<Vec<u32>> = preference
        .and_then(|p| p.strip_prefix("_shards:"))
        .map(|list| list.split('|').next().unwrap_or("").split(',').filter_map(|n| n.parse().ok()).collect());
    let mut out = Vec::new();
    for index in indices {
        block::check(state, &index, Level::Read)?;
        let filter = alias_filter(&index, &names)?;
        let shards: Vec<u32> = match resolve::search_routing(&index, &names, routing_param) {
            None => (0..index.number_of_shards).collect(),
            Some(values) => {
                let mut shards: Vec<u32> =
                    values.iter().flat_map(|value| routing::shards_of_routing(&index, value)).collect();
                shards.sort_unstable();
                shards.dedup();
                shards
            }
        };
        for shard in shards {
            if only.as_ref().is_none_or(|only| only.contains(&shard)) {
                out.push(Target {
                    index: index.clone(),
                    shard,
                    filter: filter.clone(),
                    boost: 1.0,
                    context: None,
                    after: None,
                    slice: None,
                });
            }
        }
    }
    Ok(out)
}

/// The filter through which `names` see an index: none if one of them is the index itself or an unfiltered alias.
pub fn alias_filter(index: &IndexMetadata, names: &[String]) -> ApiResult<Option<Query>> {
    if names.contains(&index.name) {
        return Ok(None);
    }
    let mut filters = Vec::new();
    for alias in names.iter().filter_map(|name| index.aliases.get(name)) {
        match &alias.filter {
            None => return Ok(None),
            Some(filter) => filters.push(parse_query(filter)?),
        }
    }
    if filters.len() <= 1 {
        return Ok(filters.pop());
    }
    Ok(Some(
        QueryKind::Bool {
            must: Vec::new(),
            filter: Vec::new(),
            should: filters,
            must_not: Vec::new(),
            minimum_should_match: Some("1".to_owned()),
        }
        .into(),
    ))
}

/// What one shard is asked: the request with its alias filter, slice and boost.
fn request_of(request: &Arc<SearchRequest>, target: &Target) -> Arc<SearchRequest> {
    if target.filter.is_none() && target.slice.is_none() && target.boost == 1.0 && target.after.is_none() {
        return request.clone();
    }
    let mut own = (**request).clone();
    let filter: Vec<Query> = target.filter.iter().chain(&target.slice).cloned().collect();
    if !filter.is_empty() {
        let must = vec![own.query.take().unwrap_or_else(|| QueryKind::MatchAll.into())];
        own.query = Some(
            QueryKind::Bool { must, filter, should: Vec::new(), must_not: Vec::new(), minimum_should_match: None }
                .into(),
        );
    }
    if target.boost != 1.0 {
        let query = own.query.get_or_insert_with(|| QueryKind::MatchAll.into());
        query.boost *= target.boost;
    }
    if target.after.is_some() {
        own.search_after.clone_from(&target.after);
    }
    Arc::new(own)
}

/// The statistics that make all shards score alike (`dfs_query_then_fetch`). A shard that fails is left out: the search
/// itself will say why.
pub async fn statistics(backend: &SharedBackend, targets: &[Target], query: &Query, now_ms: i64) -> Statistics {
    let query = Arc::new(query.clone());
    let futures: Vec<LocalFuture<'_, ApiResult<ShardResponse>>> = targets
        .iter()
        .map(|target| {
            let message = ShardRequest::Statistics { query: query.clone(), context: target.context, now_ms };
            Box::pin(async move { backend.shard(&target.id(), message).await }) as LocalFuture<'_, _>
        })
        .collect();
    let mut all = Statistics::default();
    for answer in join::all(futures).await {
        if let Ok(ShardResponse::TermStatistics(own)) = answer {
            all.add(&own);
        }
    }
    all
}

/// A context that a shard opened for the fetch phase. Dropped with a search that nobody waits for any more, it is freed.
struct Opened<'a> {
    backend: &'a SharedBackend,
    id: ShardId,
    context: u64,
}

impl Opened<'_> {
    /// It is gone already.
    fn freed(mut self) {
        self.context = 0;
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.context != 0 {
            let (backend, id, context) = (Rc::clone(self.backend), self.id.clone(), self.context);
            self.backend.spawn(Box::pin(async move {
                let _ = backend.shard(&id, ShardRequest::Free { context }).await;
            }));
        }
    }
}

/// Runs a search. Shards that fail are listed; when all do, that is the error.
pub async fn search(backend: &SharedBackend, plan: &SearchPlan) -> ApiResult<SearchOutcome> {
    let mut outcome = SearchOutcome { total_shards: plan.targets.len(), ..SearchOutcome::default() };
    if plan.targets.is_empty() {
        outcome.total = (plan.request.track_total_hits != TrackTotalHits::None).then_some((0, true));
        outcome.max_score = Some(0.0);
        return Ok(outcome);
    }
    let request = Arc::new(plan.request.clone());
    let fetch = Arc::new(plan.fetch.clone());
    // A search of one shard fetches at once. Otherwise who is fetched from is known only after merging.
    let at_once = (plan.targets.len() == 1 && plan.size > 0).then(|| (plan.from, fetch.clone()));
    let futures: Vec<LocalFuture<'_, ApiResult<(SearchShardResponse, Option<Opened<'_>>)>>> = plan
        .targets
        .iter()
        .map(|target| {
            let message = ShardRequest::Search(SearchShardRequest {
                query: request_of(&request, target),
                fetch: at_once.clone(),
                deadline_ms: plan.deadline_ms,
                context: target.context,
                keep_alive_ms: plan.keep_alive_ms,
                request_cache: plan.request_cache,
            });
            Box::pin(async move {
                match backend.shard(&target.id(), message).await? {
                    ShardResponse::Search(response) => {
                        // One that a scroll or a point in time holds stays.
                        let own = response.context != 0 && target.context.is_none();
                        let opened = own.then(|| Opened { backend, id: target.id(), context: response.context });
                        Ok((response, opened))
                    }
                    _ => Err(unexpected()),
                }
            }) as LocalFuture<'_, _>
        })
        .collect();
    let mut answers: Vec<Option<SearchShardResponse>> = Vec::new();
    let mut contexts: Vec<Option<Opened<'_>>> = Vec::new();
    for (target, answer) in join::all(futures).await.into_iter().enumerate() {
        match answer {
            Ok((answer, opened)) => {
                answers.push(Some(answer));
                contexts.push(opened);
            }
            Err(error) => {
                outcome.failures.push(ShardFailure { target, error });
                answers.push(None);
                contexts.push(None);
            }
        }
    }
    if outcome.failures.len() == plan.targets.len() {
        return Err(all_failed(backend, plan, &outcome.failures, "query"));
    }
    let began = Instant::now();
    summarise(plan, &answers, &mut outcome);
    let ranking = rank(plan, &answers);
    stats::record_since(Stage::Reduce, began);
    fetch_phase(backend, plan, &fetch, answers, contexts, ranking, &mut outcome).await?;
    Ok(outcome)
}

/// What the parts of a search cost each of its shards; a shard that does not answer is left out.
pub async fn profile(backend: &SharedBackend, plan: &SearchPlan) -> Vec<Value> {
    let request = Arc::new(plan.request.clone());
    let futures: Vec<LocalFuture<'_, Option<Value>>> = plan
        .targets
        .iter()
        .map(|target| {
            let query = request_of(&request, target);
            Box::pin(async move {
                let message = ShardRequest::Profile { query, context: target.context, deadline_ms: plan.deadline_ms };
                let Ok(ShardResponse::Profile(mut shown)) = backend.shard(&target.id(), message).await else {
                    return None;
                };
                shown["id"] = format!("[{}][{}][{}]", backend.node().id, target.index.name, target.shard).into();
                Some(*shown)
            }) as LocalFuture<'_, _>
        })
        .collect();
    join::all(futures).await.into_iter().flatten().collect()
}

fn unexpected() -> ApiError {
    ApiError::new(500, "illegal_state_exception", "a search was answered by something else")
}

fn summarise(plan: &SearchPlan, answers: &[Option<SearchShardResponse>], outcome: &mut SearchOutcome) {
    let mut total = 0u64;
    let mut exact = true;
    for QueryResult { total: own, total_exact, max_score, timed_out, terminated_early, aggs, .. } in
        answers.iter().flatten().map(|a| &a.result)
    {
        total += own;
        exact &= total_exact;
        outcome.timed_out |= timed_out;
        outcome.terminated_early |= terminated_early;
        if let Some(score) = max_score.filter(|s| !s.is_nan()) {
            outcome.max_score = Some(outcome.max_score.map_or(score, |known| known.max(score)));
        }
        outcome.aggs.push(aggs.clone());
    }
    outcome.total = match plan.request.track_total_hits {
        TrackTotalHits::None => None,
        TrackTotalHits::All => Some((total, true)),
        TrackTotalHits::Limit(limit) if total > limit => Some((limit, false)),
        TrackTotalHits::Limit(_) => Some((total, exact)),
    };
}

/// The page: target and position in that target's hits, best first.
fn rank(plan: &SearchPlan, answers: &[Option<SearchShardResponse>]) -> Vec<(usize, usize)> {
    let lists: Vec<&[TopHit]> = answers.iter().map(|a| a.as_ref().map_or(&[][..], |a| &a.result.hits)).collect();
    let mut heads: Vec<usize> = vec![0; lists.len()];
    let mut page = Vec::new();
    let end = plan.from.saturating_add(plan.size);
    // Every list is sorted, so the best of the heads is next. Shards are few; pages are short.
    for position in 0..end {
        let mut best: Option<usize> = None;
        for (target, list) in lists.iter().enumerate() {
            let Some(hit) = list.get(heads[target]) else { continue };
            let better = match best {
                None => true,
                Some(other) => compare(&plan.request.sort, hit, &lists[other][heads[other]]) == Ordering::Less,
            };
            if better {
                best = Some(target);
            }
        }
        let Some(target) = best else { break };
        if position >= plan.from {
            page.push((target, heads[target]));
        }
        heads[target] += 1;
    }
    page
}

/// `Less` = comes before. Equal hits keep the order of their shards.
fn compare(sort: &[SortKey], a: &TopHit, b: &TopHit) -> Ordering {
    if sort.is_empty() {
        return b.score.total_cmp(&a.score);
    }
    for ((key, x), y) in sort.iter().zip(&a.sort).zip(&b.sort) {
        let order = match (x, y) {
            (SortValue::Null, SortValue::Null) => Ordering::Equal,
            (SortValue::Null, _) => null_first(key),
            (_, SortValue::Null) => null_first(key).reverse(),
            (x, y) if key.descending => compare_values(y, x),
            (x, y) => compare_values(x, y),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn null_first(key: &SortKey) -> Ordering {
    match &key.by {
        SortBy::Field { missing: Missing::First, .. } => Ordering::Less,
        _ => Ordering::Greater,
    }
}

fn compare_values(a: &SortValue, b: &SortValue) -> Ordering {
    use SortValue::{Float, Int, String, UInt};
    match (a, b) {
        (Int(a), Int(b)) => a.cmp(b),
        (UInt(a), UInt(b)) => a.cmp(b),
        (Int(a), UInt(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (UInt(a), Int(b)) => i128::from(*a).cmp(&i128::from(*b)),
        (Float(a), Float(b)) => a.total_cmp(b),
        (Float(a), Int(b)) => a.total_cmp(&(*b as f64)),
        (Int(a), Float(b)) => (*a as f64).total_cmp(b),
        (Float(a), UInt(b)) => a.total_cmp(&(*b as f64)),
        (UInt(a), Float(b)) => (*a as f64).total_cmp(b),
        (String(a), String(b)) => a.as_bytes().cmp(b.as_bytes()),
        // Fields of different types under one name: numbers before texts.
        (String(_), _) => Ordering::Greater,
        (_, String(_)) => Ordering::Less,
        _ => Ordering::Equal,
    }
}

async fn fetch_phase(
    backend: &SharedBackend,
    plan: &SearchPlan,
    fetch: &Arc<FetchRequest>,
    answers: Vec<Option<SearchShardResponse>>,
    contexts: Vec<Option<Opened<'_>>>,
    page: Vec<(usize, usize)>,
    outcome: &mut SearchOutcome,
) -> ApiResult<()> {
    if plan.targets.len() == 1 && plan.size > 0 {
        let Some(answer) = answers.into_iter().flatten().next() else { return Ok(()) };
        let tops = answer.result.hits.into_iter().skip(plan.from).take(plan.size);
        outcome.hits = tops.zip(answer.fetched).map(|(top, fetched)| Hit { target: 0, top, fetched }).collect();
        return Ok(());
    }
    let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, (target, _)) in page.iter().enumerate() {
        wanted.entry(*target).or_default().push(place);
    }
    let mut futures: Vec<LocalFuture<'_, (Vec<usize>, usize, ApiResult<Vec<FetchedHit>>)>> = Vec::new();
    for (target, (answer, opened)) in answers.iter().zip(contexts).enumerate() {
        let Some(answer) = answer else { continue };
        let id = plan.targets[target].id();
        match wanted.remove(&target) {
            Some(places) => {
                let hits: Vec<TopHit> = places.iter().map(|place| answer.result.hits[page[*place].1].clone()).collect();
                let (fetch, deadline_ms) = (fetch.clone(), plan.deadline_ms);
                let message = ShardRequest::Fetch { context: answer.context, hits, fetch, deadline_ms };
                futures.push(Box::pin(async move {
                    let fetched = match backend.shard(&id, message).await {
                        Ok(ShardResponse::Fetch(fetched)) => Ok(fetched),
                        Ok(_) => Err(unexpected()),
                        Err(error) => Err(error),
                    };
                    if fetched.is_ok() {
                        opened.into_iter().for_each(Opened::freed);
                    }
                    (places, target, fetched)
                }));
            }
            // A context that is not fetched from goes now.
            None if opened.is_some() => {
                let message = ShardRequest::Free { context: answer.context };
                futures.push(Box::pin(async move {
                    let _ = backend.shard(&id, message).await;
                    opened.into_iter().for_each(Opened::freed);
                    (Vec::new(), target, Ok(Vec::new()))
                }));
            }
            None => {}
        }
    }
    let mut slots: Vec<Option<Hit>> = page.iter().map(|_| None).collect();
    for (places, target, fetched) in join::all(futures).await {
        match fetched {
            Ok(fetched) => {
                // The deadline passed in between.
                outcome.timed_out |= fetched.len() < places.len();
                for (place, fetched) in places.into_iter().zip(fetched) {
                    let top = answers[target].as_ref().expect("it answered").result.hits[page[place].1].clone();
                    slots[place] = Some(Hit { target, top, fetched });
                }
            }
            Err(error) => outcome.failures.push(ShardFailure { target, error }),
        }
    }
    if outcome.failures.len() == plan.targets.len() {
        return Err(all_failed(backend, plan, &outcome.failures, "fetch"));
    }
    outcome.hits = slots.into_iter().flatten().collect();
    Ok(())
}

/// The list of failed shards as answers show it; the same reason from several shards of an index once.
#[must_use]
pub fn failures_shown(backend: &SharedBackend, targets: &[Target], failures: &[ShardFailure]) -> Vec<Value> {
    grouped(targets, failures)
        .into_iter()
        .map(|failure| {
            let target = &targets[failure.target];
            json!({
                "shard": target.shard,
                "index": target.index.name,
                "node": backend.node().id,
                "reason": failure.error.to_cause(),
            })
        })
        .collect()
}

fn grouped<'a>(targets: &[Target], failures: &'a [ShardFailure]) -> Vec<&'a ShardFailure> {
    let mut out: Vec<&ShardFailure> = Vec::new();
    for failure in failures {
        let index = &targets[failure.target].index.name;
        let known = out.iter().any(|o| {
            targets[o.target].index.name == *index
                && o.error.kind == failure.error.kind
                && o.error.reason == failure.error.reason
        });
        if !known {
            out.push(failure);
        }
    }
    out
}

/// The error of a search that no shard could answer.
#[must_use]
pub fn all_failed(backend: &SharedBackend, plan: &SearchPlan, failures: &[ShardFailure], phase: &str) -> ApiError {
    failed(backend, &plan.targets, failures, phase, "all shards failed")
}

/// A `search_phase_execution_exception`.
#[must_use]
pub fn failed(
    backend: &SharedBackend,
    targets: &[Target],
    failures: &[ShardFailure],
    phase: &str,
    reason: &str,
) -> ApiError {
    let worst = failures.iter().map(|f| f.error.status).max().unwrap_or(503);
    let first = failures.first().map_or(503, |f| f.error.status);
    let mut error = ApiError::new(if worst >= 500 { worst } else { first }, "search_phase_execution_exception", reason)
        .with("phase", phase)
        .with("grouped", true)
        .with("failed_shards", failures_shown(backend, targets, failures));
    error.root_causes = grouped(targets, failures)
        .into_iter()
        .map(|f| {
            let mut root = &f.error;
            while root.kind != "query_shard_exception"
                && let Some(cause) = &root.caused_by
            {
                root = cause;
            }
            let mut root = root.clone();
            root.caused_by = None;
            root
        })
        .collect();
    if let Some(cause) = failures.first() {
        let mut cause = cause.error.clone();
        cause.root_causes.clear();
        error.caused_by = Some(Box::new(cause));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdex_engine::search::DocAddress;

    fn hit(score: f32, sort: Vec<SortValue>) -> TopHit {
        TopHit { doc: DocAddress { segment: 0, doc: 0 }, score, sort }
    }

    #[test]
    fn hits_are_ordered_by_score_or_by_their_keys() {
        assert_eq!(compare(&[], &hit(2.0, vec![]), &hit(1.0, vec![])), Ordering::Less);
        let key = |descending, missing| SortKey {
            by: SortBy::Field { field: "f".into(), mode: None, missing, unmapped_type: None, format: None },
            descending,
        };
        let a = hit(0.0, vec![SortValue::Int(1)]);
        let b = hit(0.0, vec![SortValue::Float(1.5)]);
        let none = hit(0.0, vec![SortValue::Null]);
        assert_eq!(compare(&[key(false, Missing::Last)], &a, &b), Ordering::Less);
        assert_eq!(compare(&[key(true, Missing::Last)], &a, &b), Ordering::Greater);
        for descending in [false, true] {
            assert_eq!(compare(&[key(descending, Missing::Last)], &none, &a), Ordering::Greater);
            assert_eq!(compare(&[key(descending, Missing::First)], &none, &a), Ordering::Less);
        }
    }
}
