//! The query phase: which documents of a shard, in which order, how many.
//!
//! For each segment: evaluate the query's leaves (giving way to others between turns), open the cursors, then score in
//! windows of documents without waiting, giving way and looking at the deadline between windows.

use std::sync::Arc;

use crate::error::Result;
use crate::ids::{DocId, NO_MORE_DOCS};
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::{Query, QueryKind, Value};
use crate::search::aggs::top_hits::unfetched;
use crate::search::aggs::{AggCollector, AggContext, BATCH};
use crate::search::bulk::Plan;
use crate::search::collect::{Batch, FullSink, Ranking, Seen, TopSorted};
use crate::search::compile::{Compiled, Compiler, is_string};
use crate::search::feed::Feed;
use crate::search::fetch::fetch;
use crate::search::filter::{Filter, compile_filter};
use crate::search::leaf;
use crate::search::open::Segment;
use crate::search::rescore::rescore;
use crate::search::sink::{Count, CountSink, ScoreSink, Sink, TopScores};
use crate::search::sort::SortPlan;
use crate::search::weight::Weight;
use crate::search::{
    DocAddress, IndexContext, QueryResult, SearchRequest, Searcher, SegmentView, SortBy, SortKey, SortValue, TopHit,
    TrackTotalHits,
};
use crate::segment::TermsOption;

/// Documents between two questions to the pace. Most documents of a window are skipped, not scored.
const WINDOW: u32 = 8192;

/// Gives way but never stops: what is found until the deadline is still to be put together.
struct YieldOnly<'a, P>(&'a P);

impl<P: Pace> Pace for YieldOnly<'_, P> {
    async fn yield_if_needed(&self) {
        self.0.yield_if_needed().await;
    }

    fn stopped(&self) -> bool {
        false
    }
}

/// How the hits of a request are ranked.
enum Order {
    Score { below: Option<f32>, with_values: bool },
    Keys(SortPlan),
}

impl Order {
    fn new(request: &SearchRequest, mapping: &Mapping) -> Result<Order> {
        let by_score = matches!(&request.sort[..], [] | [SortKey { by: SortBy::Score, descending: true }]);
        if !by_score {
            return Ok(Order::Keys(SortPlan::new(&request.sort, mapping, request.now_ms)?));
        }
        let below = match request.search_after.as_deref() {
            None => None,
            Some(values) => {
                // The plan of one score key reads and checks the value.
                let key = [SortKey { by: SortBy::Score, descending: true }];
                let plan = SortPlan::new(&key, mapping, request.now_ms)?;
                let keys = plan.after(values, request.now_ms)?;
                match plan.values(&keys)?[..] {
                    [SortValue::Float(score)] => Some(score as f32),
                    _ => None,
                }
            }
        };
        Ok(Order::Score { below, with_values: !request.sort.is_empty() })
    }
}

/// Runs the query phase on a shard.
///
/// # Errors
/// Requests that do not fit the mapping, in Elasticsearch's words; damage; memory limits of aggregations.
pub async fn query<P: Pace>(
    searcher: &Searcher,
    mapping: &Mapping,
    index: &IndexContext,
    request: &SearchRequest,
    pace: &P,
) -> Result<QueryResult> {
    if let Some(total) = dictionary_total(searcher, mapping, request) {
        let (total, total_exact) = Count::new(request.track_total_hits, Some(total)).result();
        return Ok(QueryResult { total, total_exact, ..QueryResult::default() });
    }
    let order = Order::new(request, mapping)?;
    let context = AggContext {
        index: index.index.clone(),
        now_ms: request.now_ms,
        memory: Arc::clone(&index.memory),
        hash_seed: index.hash_seed,
    };
    let mut aggs = match &request.aggs[..] {
        [] => None,
        aggs => Some(AggCollector::new(aggs, mapping, context)?),
    };
    let scores = request.min_score.is_some()
        || request.track_scores
        || aggs.as_ref().is_some_and(AggCollector::needs_scores)
        || match &order {
            Order::Score { .. } => request.top > 0,
            Order::Keys(plan) => plan.needs_scores(),
        };
    let all = Query::from(QueryKind::MatchAll);
    let compiler = Compiler::new(mapping, index, searcher, request.now_ms, request.statistics.as_ref(), None).keeping();
    let compiled = compiler.compile_query(request.query.as_ref().unwrap_or(&all), scores, pace).await?;
    compiled.note_uses();
    let post_filter = match &request.post_filter {
        Some(q) => Some(compile_filter(q, mapping, index, searcher, request.now_ms, pace).await?),
        None => None,
    };
    let mut agg_filters: Vec<Filter> = Vec::new();
    for q in aggs.iter().flat_map(AggCollector::filters) {
        agg_filters.push(compile_filter(q, mapping, index, searcher, request.now_ms, pace).await?);
    }
    let plain = post_filter.is_none() && request.min_score.is_none() && request.terminate_after.is_none();
    let known = if plain { known_total(&compiled.weight, searcher) } else { None };
    let mut run = Run {
        searcher,
        compiled: &compiled,
        request,
        post_filter,
        agg_filters,
        scores,
        seen: Seen {
            count: Count::new(request.track_total_hits, known),
            max_score: f32::NEG_INFINITY,
            accepted: 0,
            terminated: false,
            error: None,
        },
        timed_out: false,
    };
    let mut result = QueryResult::default();
    match &order {
        Order::Score { below, with_values } => {
            let window = request.rescore.iter().map(|r| r.window_size).max().unwrap_or(0);
            let mut top = TopScores::new(request.top.max(window));
            if plain && aggs.is_none() && below.is_none() {
                run.plain(&mut top, pace).await?;
                run.seen.max_score = top.max;
            } else {
                run.full(&mut Best::Scores { top: &mut top, below: *below }, &mut aggs, pace).await?;
            }
            result.hits = top
                .into_sorted()
                .into_iter()
                .map(|hit| TopHit {
                    doc: DocAddress { segment: hit.segment, doc: hit.doc },
                    score: if scores { hit.score } else { f32::NAN },
                    sort: if *with_values { vec![SortValue::Float(f64::from(hit.score))] } else { Vec::new() },
                })
                .collect();
            for one in &request.rescore {
                let done = rescore(searcher, mapping, index, one, request.now_ms, &mut result.hits, pace).await?;
                run.timed_out |= !done;
            }
            if let (Some(best), false) = (result.hits.first(), request.rescore.is_empty()) {
                run.seen.max_score = best.score;
                result.hits.truncate(request.top);
            }
        }
        Order::Keys(plan) => {
            let after = request.search_after.as_ref().map(|v| plan.after(v, request.now_ms)).transpose()?;
            let mut top = TopSorted::new(plan, request.top, after);
            run.full(&mut Best::Keys { top: &mut top, plan }, &mut aggs, pace).await?;
            for hit in top.into_sorted() {
                result.hits.push(TopHit {
                    doc: DocAddress { segment: hit.segment, doc: hit.doc },
                    score: hit.score,
                    sort: plan.values(&hit.keys)?,
                });
            }
        }
    }
    if let Some(aggs) = aggs {
        result.aggs = aggs.finish(&YieldOnly(pace)).await?;
        let mut hits = Vec::new();
        unfetched(&request.aggs, &mut result.aggs, &mut hits);
        for (top, hit) in hits {
            let wanted = std::slice::from_ref(&hit.top);
            let fetched = fetch(searcher, mapping, index, &top.fetch, request.now_ms, wanted, &YieldOnly(pace)).await?;
            hit.fetched = fetched.into_iter().next().unwrap_or_default();
        }
    }
    let reports_scores = match &order {
        Order::Score { .. } => true,
        Order::Keys(plan) => request.track_scores || plan.needs_scores(),
    };
    result.max_score = (scores && reports_scores && !result.hits.is_empty() && run.seen.max_score >= 0.0)
        .then_some(run.seen.max_score);
    (result.total, result.total_exact) = run.seen.count.result();
    result.timed_out = run.timed_out;
    result.terminated_early = run.seen.terminated;
    Ok(result)
}

/// How many documents match. Cheaper than a query phase of no hits where the dictionary knows.
///
/// # Errors
/// As [`query`].
pub async fn count<P: Pace>(
    searcher: &Searcher,
    mapping: &Mapping,
    index: &IndexContext,
    request: &SearchRequest,
    pace: &P,
) -> Result<QueryResult> {
    let request = SearchRequest {
        top: 0,
        sort: Vec::new(),
        search_after: None,
        track_total_hits: TrackTotalHits::All,
        track_scores: false,
        rescore: Vec::new(),
        aggs: Vec::new(),
        ..request.clone()
    };
    query(searcher, mapping, index, &request, pace).await
}

/// The total of a request that asks for nothing else, about one term of which the dictionaries know all there is to know:
/// planning the query would take longer than looking it up.
fn dictionary_total(searcher: &Searcher, mapping: &Mapping, request: &SearchRequest) -> Option<u64> {
    let only_total = request.top == 0
        && request.sort.is_empty()
        && request.aggs.is_empty()
        && request.rescore.is_empty()
        && request.post_filter.is_none()
        && request.search_after.is_none()
        && request.min_score.is_none()
        && request.terminate_after.is_none();
    if !only_total || searcher.segments.iter().any(|s| s.deletes().is_some()) {
        return None;
    }
    let QueryKind::Term { field, value: Value::String(value), case_insensitive: false } = &request.query.as_ref()?.kind
    else {
        return None;
    };
    let mapped = mapping.field(field).filter(|mapped| !mapped.hidden && is_string(mapped))?;
    if !mapped.indexed || mapped.spec.terms == TermsOption::None {
        return None;
    }
    let term = mapped.normalize(value);
    let info = |s: &SegmentView| s.reader.field(&mapped.path)?.terms()?.get(term.as_bytes());
    Some(searcher.segments.iter().filter_map(info).map(|info| u64::from(info.doc_freq)).sum())
}

/// The exact total where no postings need be read for it.
fn known_total(weight: &Weight, searcher: &Searcher) -> Option<u64> {
    let live = |s: &SegmentView| u64::from(s.live.as_ref().map_or(s.reader.doc_count(), |l| l.live_count()));
    match weight {
        Weight::None => Some(0),
        Weight::All { .. } => Some(searcher.segments.iter().map(live).sum()),
        Weight::Term(term) => {
            let whole = searcher.segments.iter().all(|s| s.live.as_ref().is_none_or(|l| l.deleted_count() == 0));
            whole.then(|| term.doc_freq())
        }
        Weight::Constant { inner, .. } => known_total(inner, searcher),
        Weight::Kept(kept) => known_total(&kept.inner, searcher),
        Weight::Bool(weight) => known_total(weight.sole()?, searcher),
        _ => None,
    }
}

struct Run<'a> {
    searcher: &'a Searcher,
    compiled: &'a Compiled,
    request: &'a SearchRequest,
    post_filter: Option<Filter>,
    agg_filters: Vec<Filter>,
    scores: bool,
    seen: Seen,
    timed_out: bool,
}

enum Best<'s, 'a> {
    Scores { top: &'s mut TopScores, below: Option<f32> },
    Keys { top: &'s mut TopSorted<'a>, plan: &'a SortPlan },
}

impl Run<'_> {
    fn live(view: &SegmentView) -> Option<&[u64]> {
        view.live.as_ref().filter(|l| l.deleted_count() > 0).map(|l| l.words())
    }

    /// Best scores and a count.
    async fn plain<P: Pace>(&mut self, top: &mut TopScores, pace: &P) -> Result<()> {
        let searcher = self.searcher;
        for (ordinal, view) in searcher.segments.iter().enumerate() {
            if (top.wants_nothing() && self.seen.count.done()) || self.stopped(pace) {
                return Ok(());
            }
            let leaves = leaf::evaluate(self.compiled, ordinal, view, pace).await?;
            // What was not found in full would take for a match what is to be left out.
            if self.stopped(pace) {
                return Ok(());
            }
            let segment = Segment { ordinal, reader: &view.reader, leaves: &leaves };
            let live = Run::live(view);
            if self.scores {
                let mut plan = Plan::new(&segment, &self.compiled.weight, true);
                let mut sink = ScoreSink { count: &mut self.seen.count, top, live, segment: ordinal as u32 };
                self.timed_out |=
                    drive(|until, sink| plan.run(until, true, sink), &mut sink, view.reader.doc_count(), pace).await;
            } else {
                let mut feed = Feed::new(&segment, &self.compiled.weight, false);
                let mut sink = CountSink { count: &mut self.seen.count, live };
                self.timed_out |=
                    drive(|until, sink| feed.run(until, false, sink), &mut sink, view.reader.doc_count(), pace).await;
            }
        }
        Ok(())
    }

    /// Everything else.
    async fn full<P: Pace>(
        &mut self,
        best: &mut Best<'_, '_>,
        aggs: &mut Option<AggCollector>,
        pace: &P,
    ) -> Result<()> {
        let searcher = self.searcher;
        let mut doc_base = 0;
        for (ordinal, view) in searcher.segments.iter().enumerate() {
            if self.request.terminate_after.is_some_and(|limit| self.seen.accepted >= limit) {
                self.seen.terminated = true;
            }
            let mut skip = self.stopped(pace) || self.seen.terminated;
            let yield_only = YieldOnly(pace);
            let mut batch = None;
            // The same, where no document need be looked at.
            let mut whole = None;
            if let Some(aggs) = aggs.as_mut() {
                let mut filters = Vec::new();
                for filter in &self.agg_filters {
                    filters.push(filter.for_ordinal(ordinal, pace).await?);
                }
                let needs_scores = aggs.needs_scores();
                batch = Some(Batch {
                    aggs: aggs.segment(ordinal as u32, view, filters),
                    docs: Vec::with_capacity(BATCH),
                    scores: needs_scores.then(|| Vec::with_capacity(BATCH)),
                });
            }
            let leaves = if skip { Vec::new() } else { leaf::evaluate(self.compiled, ordinal, view, pace).await? };
            let post_filter = match &self.post_filter {
                Some(filter) if !skip => Some(filter.for_ordinal(ordinal, pace).await?),
                _ => None,
            };
            // What was not found in full would take for a match what is to be left out.
            skip |= self.stopped(pace);
            if skip && batch.is_none() {
                return Ok(());
            }
            let segment = Segment { ordinal, reader: &view.reader, leaves: &leaves };
            let mut feed =
                if skip { Feed::Plan(Plan::Done) } else { Feed::new(&segment, &self.compiled.weight, self.scores) };
            if let Some(one) = &mut batch
                && one.scores.is_none()
                && self.request.min_score.is_none()
                && self.request.terminate_after.is_none()
                && matches!(feed, Feed::All { .. })
                && one.aggs.collect_whole()
            {
                whole = batch.take();
            }
            let ranking = match best {
                Best::Scores { top, below } => Ranking::Scores { top, below: *below },
                Best::Keys { top, plan } => {
                    Ranking::keys(top, plan.open(&view.reader, doc_base), ordinal as u32, self.scores)
                }
            };
            let mut sink = FullSink {
                seen: &mut self.seen,
                ranking,
                live: Run::live(view),
                segment: ordinal as u32,
                min_score: self.request.min_score,
                post_filter,
                terminate_after: self.request.terminate_after,
                batch,
                scores: self.scores,
                alive: Vec::new(),
                kept: Vec::new(),
            };
            let timed_out =
                drive(|until, sink| feed.run(until, self.scores, sink), &mut sink, view.reader.doc_count(), pace).await;
            sink.finish();
            if let Some(error) = sink.seen.error.take() {
                return Err(error);
            }
            if let Some(mut batch) = sink.batch.take().or(whole) {
                batch.flush()?;
                batch.aggs.finish(&yield_only).await?;
            }
            self.timed_out |= timed_out;
            doc_base += view.reader.doc_count();
        }
        Ok(())
    }

    fn stopped<P: Pace>(&mut self, pace: &P) -> bool {
        self.timed_out |= pace.stopped();
        self.timed_out
    }
}

/// Runs a plan (`run` goes on until a document, and says whether there may be more) to its end, window by window; whether it
/// was stopped before.
async fn drive<S: Sink, P: Pace>(
    mut run: impl FnMut(DocId, &mut S) -> bool,
    sink: &mut S,
    doc_count: u32,
    pace: &P,
) -> bool {
    let mut until = 0;
    loop {
        until = if until >= doc_count { NO_MORE_DOCS } else { until + WINDOW };
        if !run(until, sink) || until == NO_MORE_DOCS {
            return false;
        }
        pace.yield_if_needed().await;
        if pace.stopped() {
            return true;
        }
    }
}
