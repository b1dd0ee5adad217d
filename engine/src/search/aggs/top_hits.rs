//! `top_hits`: the best documents of each bucket. Collecting notes where they are; they are fetched once the shard's
//! buckets are chosen.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::error::Result;
use crate::ids::DocId;
use crate::mapping::Mapping;
use crate::search::aggs::format::java_double;
use crate::search::aggs::leaf::{Leaf, SegmentRef};
use crate::search::aggs::metric::owner;
use crate::search::aggs::partial::AggPartial;
use crate::search::aggs::{AggContext, AggKind, AggRequest, TopHitsRequest};
use crate::search::sort::{Keys, SortPlan};
use crate::search::{DocAddress, FetchedHit, Missing, SortBy, SortKey, SortValue, TopHit};

/// Of `top_hits`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TopHitsPartial {
    /// Documents of the bucket.
    pub total: u64,
    /// Best score.
    pub max_score: Option<f32>,
    /// Best first.
    pub hits: Vec<FoundHit>,
    /// How many are kept.
    pub top: usize,
    /// Of each sort key: whether it descends, and whether documents without a value come first.
    pub order: Vec<(bool, bool)>,
}

/// One of the best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundHit {
    /// Its index.
    pub index: String,
    /// Rank.
    pub top: TopHit,
    /// Its parts, once fetched.
    pub fetched: FetchedHit,
}

struct Kept {
    keys: Keys,
    segment: u32,
    doc: DocId,
    score: f32,
}

#[derive(Default)]
struct Best {
    total: u64,
    max_score: Option<f32>,
    hits: Vec<Kept>,
}

/// Collects hits; see `node.rs` for what comes of them.
pub(crate) struct TopHitsNode {
    plan: SortPlan,
    order: Vec<(bool, bool)>,
    scored: bool,
    index: String,
    top: usize,
    owners: Vec<Best>,
    /// Of this segment: its position, and the documents of those before.
    segment: Option<u32>,
    base: u32,
    next_base: u32,
    bytes: usize,
}

/// The keys that hits are ranked by.
fn keys_of(request: &TopHitsRequest) -> Vec<SortKey> {
    if request.sort.is_empty() {
        return vec![SortKey { by: SortBy::Score, descending: true }];
    }
    request.sort.clone()
}

impl TopHitsNode {
    pub fn new(request: &TopHitsRequest, mapping: &Mapping, context: &AggContext) -> Result<TopHitsNode> {
        let keys = keys_of(request);
        let first = |key: &SortKey| matches!(&key.by, SortBy::Field { missing: Missing::First, .. });
        let order = keys.iter().map(|key| (key.descending, first(key))).collect();
        let plan = SortPlan::new(&keys, mapping, context.now_ms)?;
        Ok(TopHitsNode {
            scored: request.track_scores || plan.needs_scores(),
            plan,
            order,
            index: context.index.clone(),
            top: request.from.saturating_add(request.size),
            owners: Vec::new(),
            segment: None,
            base: 0,
            next_base: 0,
            bytes: 0,
        })
    }

    pub fn needs_scores(&self) -> bool {
        self.scored
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        self.segment = Some(self.segment.map_or(0, |s| s + 1));
        self.base = self.next_base;
        self.next_base += leaf.doc_count();
    }

    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        owner_count: usize,
        scores: Option<&[f32]>,
    ) {
        if self.owners.len() < owner_count {
            self.owners.resize_with(owner_count, Best::default);
        }
        #[allow(clippy::infallible_destructuring_match)] // tests have another kind
        let view = match leaf.segment {
            SegmentRef::View(view) => view,
            #[cfg(test)]
            SegmentRef::Plain(_) => return,
        };
        let segment = self.segment.expect("a segment began");
        let readers = self.plan.open(&view.reader, self.base);
        let mut scratch = Vec::new();
        for (at, &doc) in docs.iter().enumerate() {
            // Documents that no query scored, as those of `global`, count as equal.
            let score = scores.map_or(1.0, |s| s[at]);
            let best = &mut self.owners[owner(owners, at)];
            best.total += 1;
            if self.scored {
                best.max_score = Some(best.max_score.map_or(score, |m| m.max(score)));
            }
            if self.top == 0 {
                continue;
            }
            let keys: Keys = readers.iter().map(|r| r.key(doc, score, &mut scratch)).collect();
            // Of equal documents the one before stays before.
            let place = best.hits.partition_point(|h| self.plan.compare(&h.keys, &keys) != Ordering::Greater);
            if place >= self.top {
                continue;
            }
            if best.hits.len() == self.top {
                best.hits.pop();
            } else {
                self.bytes += 96;
            }
            let score = if self.scored { score } else { f32::NAN };
            best.hits.insert(place, Kept { keys, segment, doc, score });
        }
    }

    pub fn build(&self, owner: u32) -> Result<AggPartial> {
        let Some(best) = self.owners.get(owner as usize) else {
            return Ok(AggPartial::TopHits(TopHitsPartial::default()));
        };
        let mut hits = Vec::with_capacity(best.hits.len());
        for hit in &best.hits {
            let top = TopHit {
                doc: DocAddress { segment: hit.segment, doc: hit.doc },
                score: hit.score,
                sort: self.plan.values(&hit.keys)?,
            };
            hits.push(FoundHit { index: self.index.clone(), top, fetched: FetchedHit::default() });
        }
        let (top, order) = (self.top, self.order.clone());
        Ok(AggPartial::TopHits(TopHitsPartial { total: best.total, max_score: best.max_score, hits, top, order }))
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.owners.capacity() * size_of::<Best>()
    }
}

/// Order of two values by a key; `order` as in [`TopHitsPartial`].
fn compare_values(a: &SortValue, b: &SortValue, (descending, missing_first): (bool, bool)) -> Ordering {
    use SortValue::{Float, Int, Null, String, UInt};
    let order = match (a, b) {
        (Null, Null) => return Ordering::Equal,
        (Null, _) | (_, Null) => {
            return if matches!(a, Null) == missing_first { Ordering::Less } else { Ordering::Greater };
        }
        (Int(a), Int(b)) => a.cmp(b),
        (UInt(a), UInt(b)) => a.cmp(b),
        (String(a), String(b)) => a.cmp(b),
        // Fields of different types under one name: numbers before texts.
        (String(_), _) => Ordering::Greater,
        (_, String(_)) => Ordering::Less,
        (a, b) => {
            let double = |v: &SortValue| match v {
                Int(n) => *n as f64,
                UInt(n) => *n as f64,
                Float(n) => *n,
                Null | String(_) => f64::NAN,
            };
            double(a).total_cmp(&double(b))
        }
    };
    if descending { order.reverse() } else { order }
}

impl TopHitsPartial {
    pub(crate) fn merge(&mut self, other: TopHitsPartial) {
        self.total += other.total;
        self.max_score = [self.max_score, other.max_score].into_iter().flatten().reduce(f32::max);
        if self.order.is_empty() {
            (self.order, self.top) = (other.order, other.top);
        }
        self.hits.extend(other.hits);
        let order = &self.order;
        self.hits.sort_by(|a, b| {
            let keys = a.top.sort.iter().zip(&b.top.sort).zip(order);
            keys.map(|((a, b), order)| compare_values(a, b, *order)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        });
        self.hits.truncate(self.top);
    }

    /// As a search shows its hits.
    pub(crate) fn render(&self, request: &TopHitsRequest, total_as_int: bool) -> Json {
        let score = |s: f32| if s.is_finite() { super::super::explain::float(s) } else { Json::Null };
        let hits: Vec<Json> = self
            .hits
            .iter()
            .skip(request.from)
            .take(request.size)
            .map(|hit| {
                let mut out = Map::new();
                out.insert("_index".into(), hit.index.clone().into());
                out.insert("_type".into(), "_doc".into());
                out.insert("_id".into(), hit.fetched.id.clone().into());
                if let Some(version) = hit.fetched.version {
                    out.insert("_version".into(), json!(version));
                }
                if let Some((seq_no, term)) = hit.fetched.seq_no {
                    out.insert("_seq_no".into(), json!(seq_no));
                    out.insert("_primary_term".into(), json!(term));
                }
                out.insert("_score".into(), score(hit.top.score));
                if let Some(routing) = &hit.fetched.routing {
                    out.insert("_routing".into(), routing.clone().into());
                }
                if let Some(source) = &hit.fetched.source {
                    out.insert("_source".into(), serde_json::from_slice(source).unwrap_or_default());
                }
                if let Some(fields) = hit.fetched.fields.as_ref().filter(|f| !f.is_empty()) {
                    out.insert("fields".into(), Json::Object(fields.clone()));
                }
                if !request.sort.is_empty() {
                    let sort: Vec<Json> = hit.top.sort.iter().map(sort_json).collect();
                    out.insert("sort".into(), Json::Array(sort));
                }
                Json::Object(out)
            })
            .collect();
        let total = if total_as_int { json!(self.total) } else { json!({"value": self.total, "relation": "eq"}) };
        json!({"total": total, "max_score": self.max_score.map_or(Json::Null, score), "hits": hits})
    }
}

fn sort_json(value: &SortValue) -> Json {
    match value {
        SortValue::Null => Json::Null,
        SortValue::Int(n) => json!(n),
        SortValue::UInt(n) => json!(n),
        SortValue::Float(n) if n.is_finite() => json!(n),
        SortValue::Float(n) => java_double(*n).into(),
        SortValue::String(s) => s.clone().into(),
    }
}

/// The hits of a tree of partial results that are still to be fetched. As deep as aggregations nest.
pub(crate) fn unfetched<'a>(
    requests: &'a [AggRequest],
    partials: &'a mut [AggPartial],
    out: &mut Vec<(&'a TopHitsRequest, &'a mut FoundHit)>,
) {
    for (request, partial) in requests.iter().zip(partials) {
        match (partial, &request.kind) {
            (AggPartial::TopHits(partial), AggKind::TopHits(top)) => {
                out.extend(partial.hits.iter_mut().map(|hit| (&**top, hit)));
            }
            (AggPartial::Fixed { buckets, .. }, _) => {
                buckets.iter_mut().for_each(|b| unfetched(&request.subs, &mut b.subs, out));
            }
            (AggPartial::Terms(terms), _) => {
                terms.buckets.iter_mut().for_each(|b| unfetched(&request.subs, &mut b.subs, out));
            }
            (AggPartial::Histogram(histogram), _) => {
                histogram.buckets.iter_mut().for_each(|b| unfetched(&request.subs, &mut b.1.subs, out));
            }
            (AggPartial::Composite(composite), _) => {
                composite.buckets.iter_mut().for_each(|b| unfetched(&request.subs, &mut b.1.subs, out));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(values: &[Option<i64>], order: (bool, bool)) -> TopHitsPartial {
        let hit = |v: &Option<i64>| FoundHit {
            index: "i".to_owned(),
            top: TopHit {
                doc: DocAddress { segment: 0, doc: 0 },
                score: 1.0,
                sort: vec![v.map_or(SortValue::Null, SortValue::Int)],
            },
            fetched: FetchedHit::default(),
        };
        let (hits, total) = (values.iter().map(hit).collect(), values.len() as u64);
        TopHitsPartial { total, max_score: Some(total as f32), hits, top: 3, order: vec![order] }
    }

    #[test]
    fn merging_keeps_the_best_of_both() {
        let values = |p: &TopHitsPartial| -> Vec<SortValue> { p.hits.iter().map(|h| h.top.sort[0].clone()).collect() };
        let mut down = partial(&[Some(9), Some(2), None], (true, false));
        down.merge(partial(&[Some(5), None], (true, false)));
        assert_eq!(values(&down), [SortValue::Int(9), SortValue::Int(5), SortValue::Int(2)]);
        assert_eq!((down.total, down.max_score), (5, Some(3.0)));
        let mut up = TopHitsPartial::default();
        up.merge(partial(&[None, Some(1)], (false, true)));
        up.merge(partial(&[Some(0)], (false, true)));
        assert_eq!(values(&up), [SortValue::Null, SortValue::Int(0), SortValue::Int(1)]);
    }
}
