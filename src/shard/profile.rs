//! `"profile": true`: what each part of a query and each aggregation costs this shard.
//!
//! Every part is run once more on its own and timed from outside, so that a search that is not profiled pays nothing. A
//! part's time is that of a search for nothing but it; where parts help each other (a rare term leads, the others are
//! only asked about its documents) the whole takes less than its parts.

use ringdex_engine::pace::Pace;
use ringdex_engine::query::{Query, QueryKind};
use ringdex_engine::search::aggs::{AggRequest, type_name};
use ringdex_engine::search::{IndexContext, SearchRequest, Searcher, TrackTotalHits, describe, execute};
use serde_json::{Value, json};

use crate::backend::CompiledIndex;
use crate::error::ApiResult;
use crate::io::NodeIo;
use crate::shard::Shard;

/// Parts of a query that are timed; of more the first.
const PARTS_MAX: usize = 64;

/// What all parts are run on.
struct Bench<'a> {
    searcher: &'a Searcher,
    compiled: &'a CompiledIndex,
    context: IndexContext,
    request: &'a SearchRequest,
    /// Parts that come later are stopped.
    deadline_ns: Option<u64>,
}

impl<I: NodeIo> Shard<I> {
    /// The member of `profile.shards` for this shard, but for its id.
    pub(super) async fn profile(
        &self,
        request: &SearchRequest,
        context: Option<u64>,
        deadline_ms: Option<i64>,
    ) -> ApiResult<Value> {
        let (searcher, compiled) = self.view(context, None).await?;
        // Without the cache: what a query costs, not what it cost before.
        let context = IndexContext { filter_cache: None, ..self.context_of(&compiled) };
        let bench =
            Bench { searcher: &searcher, compiled: &compiled, context, request, deadline_ns: self.grace(deadline_ms) };
        let all = Query::from(QueryKind::MatchAll);
        let query = request.query.as_ref().unwrap_or(&all);
        let scores = request.sort.is_empty() && request.top > 0;
        let whole = SearchRequest { aggs: Vec::new(), ..request.clone() };
        let (collected, _) = self.timed_query(&bench, &whole).await?;
        let mut left = PARTS_MAX;
        let tree = self.profile_query(&bench, query, scores, &mut left).await?;
        let mut aggregations = Vec::new();
        let bare = SearchRequest { top: 0, sort: Vec::new(), ..whole.clone() };
        let (without, _) = self.timed_query(&bench, &bare).await?;
        for agg in &request.aggs {
            let with = SearchRequest { aggs: vec![agg.clone()], ..bare.clone() };
            let (took, _) = self.timed_query(&bench, &with).await?;
            aggregations.push(profile_agg(agg, took.saturating_sub(without)));
        }
        let collector = json!({
            "name": if scores { "SimpleTopScoreDocCollector" } else { "SimpleFieldCollector" },
            "reason": if request.top > 0 { "search_top_hits" } else { "search_count" },
            "time_in_nanos": collected,
        });
        Ok(json!({
            "searches": [{ "query": [tree], "rewrite_time": 0, "collector": [collector] }],
            "aggregations": aggregations,
        }))
    }

    /// Nanoseconds of a query phase, and documents it found.
    async fn timed_query(&self, bench: &Bench<'_>, request: &SearchRequest) -> ApiResult<(u64, u64)> {
        let pace = self.io.pace(bench.deadline_ns);
        let began = self.io.monotonic_ns();
        let mapping = &bench.compiled.mapping;
        let result = execute::query(bench.searcher, mapping, &bench.context, request, &pace).await;
        let took = self.io.monotonic_ns() - began;
        pace.yield_if_needed().await;
        Ok((took, result.map_err(|e| self.here(e))?.total))
    }

    async fn profile_query(
        &self,
        bench: &Bench<'_>,
        query: &Query,
        scores: bool,
        left: &mut usize,
    ) -> ApiResult<Value> {
        *left = left.saturating_sub(1);
        let now_ms = bench.request.now_ms;
        let began = self.io.monotonic_ns();
        let mapping = &bench.compiled.mapping;
        let pace = self.io.pace(bench.deadline_ns);
        describe::compile_only(query, mapping, &bench.context, bench.searcher, now_ms, scores, &pace)
            .await
            .map_err(|e| self.here(e))?;
        let create = self.io.monotonic_ns() - began;
        let request = SearchRequest {
            query: Some(query.clone()),
            post_filter: None,
            top: if scores { bench.request.top } else { 0 },
            sort: Vec::new(),
            search_after: None,
            track_scores: false,
            rescore: Vec::new(),
            min_score: None,
            terminate_after: None,
            aggs: Vec::new(),
            ..bench.request.clone()
        };
        let (took, _) = self.timed_query(bench, &request).await?;
        let counted = SearchRequest { top: 0, track_total_hits: TrackTotalHits::All, ..request };
        let (_, matched) = self.timed_query(bench, &counted).await?;
        let mut children = Vec::new();
        for (child, scores) in describe::children(query, scores) {
            if *left > 0 {
                children.push(Box::pin(self.profile_query(bench, child, scores, left)).await?);
            }
        }
        let mut out = json!({
            "type": describe::kind(query),
            "description": describe::description(query),
            "time_in_nanos": took.max(create),
            "matched": matched,
            "breakdown": {
                "create_weight": create, "create_weight_count": 1,
                "build_scorer": 0, "build_scorer_count": bench.searcher.segments.len(),
                "next_doc": took.saturating_sub(create), "next_doc_count": matched,
                "match": 0, "match_count": 0, "score": 0, "score_count": 0, "advance": 0, "advance_count": 0,
                "shallow_advance": 0, "shallow_advance_count": 0,
                "compute_max_score": 0, "compute_max_score_count": 0,
                "set_min_competitive_score": 0, "set_min_competitive_score_count": 0,
            },
        });
        if !children.is_empty() {
            out["children"] = children.into();
        }
        Ok(out)
    }
}

fn profile_agg(agg: &AggRequest, took: u64) -> Value {
    json!({
        "type": type_name(&agg.kind),
        "description": agg.name,
        "time_in_nanos": took,
        "breakdown": {
            "initialize": 0, "initialize_count": 1, "collect": took, "collect_count": 1,
            "build_aggregation": 0, "build_aggregation_count": 1, "reduce": 0, "reduce_count": 0,
        },
    })
}
