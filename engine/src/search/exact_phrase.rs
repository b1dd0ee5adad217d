//! Phrases of single terms, each at its place: found a block of documents at a time, each document decoded once.
//!
//! The rarest term leads, as in a conjunction. Documents of its block that the next term has are checked for places where
//! the two agree while that term's block is at hand; only what is left is looked up in the term after it, so that a frequent
//! word costs nothing where the rarer ones are not neighbours. Positions are compared as they are stored, as differences.

use std::ops::ControlFlow;

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::bm25::{self, Bm25};
use crate::search::conjunction::{Batch, Member, Trial};
use crate::search::cursor::{TermCursor, block_score, score_bounds, up_to};
use crate::search::sink::Sink;
use crate::segment::bounds::Scale;
use crate::segment::reader::PostingsCursor;
use crate::store::bitpack::BLOCK_LEN;

/// A term of a phrase.
pub(crate) struct Word<'a> {
    pub offset: u32,
    pub postings: Box<PostingsCursor<'a>>,
}

/// See the module.
pub(crate) struct ExactPhrase<'a> {
    lead: TermCursor<'a>,
    lead_offset: u32,
    /// By ascending frequency, with their offsets.
    others: Vec<(u32, Member<'a>)>,
    norms: Option<&'a [u8]>,
    bm25: Option<&'a Bm25>,
    /// What makes the lead's bounds ones of scores.
    scale: Scale,
    /// No phrase scores more.
    max: f32,
    batch: Box<Batch>,
    starts: Starts,
    /// The lead's frequencies, before the other terms are looked up.
    lead_first: Trial,
}

/// Places of the lead where all terms looked at so far agree, for each candidate by its place in the batch.
struct Starts {
    places: Vec<u32>,
    /// Where in `places`, how many.
    spans: Box<[(u32, u32); BLOCK_LEN]>,
}

/// What a phrase must score.
struct Floor<'a> {
    floor: f32,
    norms: Option<&'a [u8]>,
    /// None: anything is good enough.
    bm25: Option<&'a Bm25>,
}

impl Floor<'_> {
    /// Whether so many occurrences are enough.
    #[inline]
    fn is_beaten(&self, doc: DocId, freq: u32) -> bool {
        self.bm25.is_none_or(|bm25| bm25.score(freq as f32, norm(self.norms, doc)) > self.floor)
    }
}

/// Without norms every field counts as one term long.
#[inline]
fn norm(norms: Option<&[u8]>, doc: DocId) -> u8 {
    norms.map_or(1, |n| n[doc as usize])
}

impl<'a> ExactPhrase<'a> {
    /// `words` must be at least two.
    pub(crate) fn new(mut words: Vec<Word<'a>>, norms: Option<&'a [u8]>, bm25: Option<&'a Bm25>) -> ExactPhrase<'a> {
        words.sort_by_key(|w| w.postings.doc_freq());
        let mut words = words.into_iter().map(|w| (w.offset, TermCursor::new(w.postings, norms, None)));
        let (lead_offset, mut lead) = words.next().expect("not empty");
        // A phrase is at most as frequent as its rarest term.
        let (scale, max) = bm25.map_or((Scale::default(), 0.0), |b| score_bounds(&mut lead.postings, norms, b));
        ExactPhrase {
            lead,
            lead_offset,
            others: words.map(|(offset, term)| (offset, Member::new(term, false))).collect(),
            norms,
            bm25,
            scale,
            max,
            batch: Batch::new(),
            starts: Starts { places: Vec::new(), spans: Box::new([(0, 0); BLOCK_LEN]) },
            lead_first: Trial::default(),
        }
    }

    /// The lead's block around `target`, which must not fall from call to call: its last document, and a bound on scores.
    fn block(&mut self, target: DocId) -> (DocId, f32) {
        block_score(&mut self.lead.postings, self.scale, self.max, target)
    }

    /// As `Plan::run`.
    pub(crate) fn run<S: Sink>(&mut self, until: DocId, sink: &mut S) -> bool {
        loop {
            let doc = self.lead.doc();
            if doc >= until {
                return doc != NO_MORE_DOCS;
            }
            if sink.full() {
                return false;
            }
            let mut wanted = sink.skip(doc);
            let floor = sink.floor();
            let pruning = self.bm25.filter(|_| floor >= 0.0);
            let mut end = until - 1;
            if pruning.is_some() {
                while wanted < until {
                    let (last, bound) = self.block(wanted);
                    if bound > floor {
                        end = end.min(last);
                        break;
                    }
                    wanted = last.saturating_add(1);
                }
            }
            if wanted > doc {
                self.lead.postings.seek(wanted);
                continue;
            }
            let docs = self.lead.postings.block_docs();
            let count = up_to(docs, end);
            self.batch.fill(&docs[..count]);
            let floor = Floor { floor, norms: self.norms, bm25: pruning };
            if pruning.is_some() && self.lead_first.worth() {
                let at = self.lead.postings.block_index();
                let mut freqs = self.lead.postings.block_freqs()[at.min(BLOCK_LEN)..].iter();
                self.batch.retain(|doc| usize::from(floor.is_beaten(doc, freqs.next().copied().unwrap_or(0))));
                self.lead_first.note(self.batch.len * 2 <= count);
            }
            self.check(&floor);
            self.pass_on(sink);
            self.lead.postings.advance(count);
        }
    }

    /// Keeps candidates that have the phrase, and how often.
    fn check(&mut self, floor: &Floor<'_>) {
        let ExactPhrase { lead, lead_offset, others, batch, starts, bm25, .. } = self;
        let Starts { places, spans } = starts;
        let lead = &mut lead.postings;
        let at = lead.block_index();
        let behind = others.len() - 1;
        places.clear();
        for (i, (offset, member)) in others.iter_mut().enumerate() {
            if batch.len == 0 {
                return;
            }
            // Added to the places of either, they are the same number where the terms agree.
            let (shift, their_shift) = (offset.saturating_sub(*lead_offset), lead_offset.saturating_sub(*offset));
            let (is_last, count_all) = (i == behind, bm25.is_some());
            member.retain_if(batch, |term, batch, range, found| {
                let mut kept = range.start;
                for k in range {
                    const MASK: usize = BLOCK_LEN - 1;
                    let (doc, place) = (batch.docs[k & MASK], batch.places[k & MASK]);
                    let index = found[k & MASK] as usize & MASK;
                    let span = &mut spans[place as usize & MASK];
                    let freq = term.postings.block_freqs()[index];
                    let freq_max = if i == 0 { lead.block_freqs()[(at + place as usize) & MASK] } else { span.1 };
                    if !floor.is_beaten(doc, freq.min(freq_max)) {
                        continue;
                    }
                    let theirs = term.postings.differences(index);
                    let mut count = 0;
                    if i > 0 {
                        let from = span.0 as usize;
                        let mine = &mut places[from..from + span.1 as usize];
                        count = narrow(mine, theirs, shift, their_shift, is_last && !count_all);
                    } else {
                        let mine = lead.differences((at + place as usize) & MASK);
                        span.0 = places.len() as u32;
                        meet(mine, theirs, shift, their_shift, |place| {
                            count += 1;
                            if !is_last {
                                places.push(place);
                            } else if !count_all {
                                return ControlFlow::Break(());
                            }
                            ControlFlow::Continue(())
                        });
                    }
                    span.1 = count;
                    batch.docs[kept & MASK] = doc;
                    batch.places[kept & MASK] = place;
                    kept += usize::from(count > 0);
                }
                kept
            });
        }
    }

    fn pass_on<S: Sink>(&mut self, sink: &mut S) {
        let docs = &self.batch.docs[..self.batch.len];
        let Some(bm25) = self.bm25 else {
            sink.hits(docs);
            return;
        };
        for (&doc, &place) in docs.iter().zip(&self.batch.places) {
            let (_, freq) = self.starts.spans[place as usize & (BLOCK_LEN - 1)];
            let score = bm25::score(bm25.weight, freq as f32, bm25.norms.0[norm(self.norms, doc) as usize]);
            if score > sink.floor() {
                sink.hit(doc, score);
            }
        }
    }
}

/// Calls `hit` with the places of `mine` that, with `shift` added, are places of `theirs` with `their_shift` added. Both are
/// stored as a first place, then differences.
#[inline(always)]
fn meet(mine: &[u32], theirs: &[u32], shift: u32, their_shift: u32, mut hit: impl FnMut(u32) -> ControlFlow<()>) {
    let (mut mine, mut theirs) = (mine.iter(), theirs.iter());
    let (Some(a), Some(b)) = (mine.next(), theirs.next()) else { return };
    let (mut a, mut b) = (a.wrapping_add(shift), b.wrapping_add(their_shift));
    loop {
        if a == b && hit(a.wrapping_sub(shift)).is_break() {
            return;
        }
        if a <= b {
            let Some(difference) = mine.next() else { return };
            a = a.wrapping_add(*difference);
        } else {
            let Some(difference) = theirs.next() else { return };
            b = b.wrapping_add(*difference);
        }
    }
}

/// Keeps, in front, the places of `mine` that are also places of `theirs`; how many, or 1 if one is enough.
#[inline(always)]
fn narrow(mine: &mut [u32], theirs: &[u32], shift: u32, their_shift: u32, one: bool) -> u32 {
    let mut theirs = theirs.iter();
    let Some(mut b) = theirs.next().map(|b| b.wrapping_add(their_shift)) else { return 0 };
    let mut kept = 0;
    for i in 0..mine.len() {
        let a = mine[i].wrapping_add(shift);
        while b < a {
            let Some(difference) = theirs.next() else { return kept as u32 };
            b = b.wrapping_add(*difference);
        }
        if a == b {
            mine[kept] = mine[i];
            kept += 1;
            if one {
                break;
            }
        }
    }
    kept as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use crate::query::{MatchKind, Query, QueryKind, TextOptions, Value};
    use crate::search::tests::{Dice, Shard, everything, request};
    use crate::search::{DocAddress, SearchRequest, TrackTotalHits};

    /// Words, and how many in a thousand tokens are each: some in all documents several times, some in few.
    const WORDS: [(&str, u64); 6] = [("aa", 400), ("bb", 200), ("cc", 80), ("dd", 15), ("ee", 3), ("ff", 1)];

    struct Doc {
        words: Vec<&'static str>,
        live: bool,
    }

    fn world(seed: u64, sizes: &[usize], delete: bool) -> (Vec<Vec<Doc>>, Shard) {
        let mut dice = Dice(seed | 1);
        let mut deleted = Vec::new();
        let mut docs: Vec<Vec<Doc>> = Vec::new();
        for (s, &size) in sizes.iter().enumerate() {
            let mut segment = Vec::new();
            for d in 0..size {
                // Most are short; some fill blocks of positions alone.
                let length = match dice.roll(60) {
                    0 => dice.roll(900),
                    1..20 => dice.roll(60),
                    _ => dice.roll(8),
                };
                let word = |dice: &mut Dice| {
                    let mut at = dice.roll(1000);
                    let found = WORDS.iter().find(|w| {
                        let hit = at < w.1;
                        at = at.wrapping_sub(w.1);
                        hit
                    });
                    found.map_or("zz", |w| w.0)
                };
                let words = (0..length).map(|_| word(&mut dice)).collect();
                let live = !(delete && dice.roll(4) == 0);
                if !live {
                    deleted.push((s, d as u32));
                }
                segment.push(Doc { words, live });
            }
            docs.push(segment);
        }
        let mapping = json!({"properties": {"t": {"type": "text"}}});
        let json: Vec<Vec<Json>> =
            docs.iter().map(|s| s.iter().map(|d| json!({"t": d.words.join(" ")})).collect()).collect();
        (docs, Shard::new(&mapping, &json, &deleted))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

        /// Matches are those of a scan; equal counts in equal lengths score the same and more score more, as document by
        /// document; the best few are the best of all.
        #[test]
        fn phrases_are_where_a_scan_finds_them(
            seed in any::<u64>(), sizes in proptest::collection::vec(1usize..5000, 1..3), delete: bool,
            queries in proptest::collection::vec(
                (proptest::collection::vec(0usize..WORDS.len(), 2..5), 1usize..30), 40),
        ) {
            let (docs, shard) = world(seed, &sizes, delete);
            for (picked, top) in queries {
                let words: Vec<&str> = picked.iter().map(|&i| WORDS[i].0).collect();
                let query: Query = QueryKind::Match {
                    field: "t".to_owned(),
                    text: Value::String(words.join(" ")),
                    kind: MatchKind::Phrase,
                    options: TextOptions::default(),
                }.into();
                let mut expected = BTreeMap::new();
                for (s, docs) in docs.iter().enumerate() {
                    for (d, doc) in docs.iter().enumerate() {
                        let freq = doc.words.windows(words.len()).filter(|w| *w == words).count();
                        if doc.live && freq > 0 {
                            expected.insert(DocAddress { segment: s as u32, doc: d as u32 }, (doc.words.len(), freq));
                        }
                    }
                }
                let all = everything(&shard, &query);
                prop_assert!(all.keys().eq(expected.keys()), "{:?}", words);
                let counted = shard.search(&request(query.clone(), 0)).unwrap();
                prop_assert_eq!(counted.total, expected.len() as u64);

                // Short lengths are kept exactly.
                let mut scores: Vec<((usize, usize), f32)> =
                    all.iter().map(|(doc, &score)| (expected[doc], score)).filter(|s| s.0.0 < 24).collect();
                scores.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
                for pair in scores.windows(2) {
                    if pair[0].0.0 == pair[1].0.0 {
                        let same = pair[0].0.1 == pair[1].0.1;
                        prop_assert!(if same { pair[0].1 == pair[1].1 } else { pair[0].1 < pair[1].1 }, "{:?}", pair);
                    }
                }
                let one_by_one = QueryKind::DisMax { queries: vec![query.clone(), query.clone()], tie_breaker: 0.0 }.into();
                prop_assert_eq!(&everything(&shard, &one_by_one), &all);

                let mut ranked: Vec<(DocAddress, f32)> = all.into_iter().collect();
                ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                ranked.truncate(top);
                let pruned = SearchRequest { track_total_hits: TrackTotalHits::None, ..request(query, top) };
                let pruned: Vec<(DocAddress, f32)> =
                    shard.search(&pruned).unwrap().hits.iter().map(|h| (h.doc, h.score)).collect();
                prop_assert_eq!(pruned, ranked, "{:?}", words);
            }
        }
    }
}
