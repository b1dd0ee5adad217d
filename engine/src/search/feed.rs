//! A segment's matches on their way to a sink that takes many at once: everything, a term's documents, an evaluated set.
//! Scored or not; what is none of these comes match by match from a [`Plan`].

use crate::ids::{DocId, NO_MORE_DOCS};
use crate::search::bulk::Plan;
use crate::search::cursor::TermCursor;
use crate::search::doc_set::DocSet;
use crate::search::leaf::Evaluated;
use crate::search::open::Segment;
use crate::search::sink::Sink;
use crate::search::weight::Weight;

/// How a segment's matches are found.
pub(crate) enum Feed<'a> {
    /// All documents from `next` on, with one score.
    All {
        next: DocId,
        doc_count: u32,
        score: f32,
    },
    /// Postings, without scores.
    Term(TermCursor<'a>),
    /// A bitmap from `next` (a multiple of 64) on, without scores.
    Set {
        set: &'a DocSet,
        next: DocId,
    },
    /// A sorted list, without scores.
    List(&'a [DocId]),
    Plan(Plan<'a>),
}

impl<'a> Feed<'a> {
    pub(crate) fn new(segment: &Segment<'a>, weight: &'a Weight, scores: bool) -> Feed<'a> {
        let doc_count = segment.reader.doc_count();
        match weight {
            Weight::All { score } => Feed::All { next: 0, doc_count, score: if scores { *score } else { 0.0 } },
            Weight::Constant { inner, score } if matches!(**inner, Weight::All { .. }) => {
                Feed::All { next: 0, doc_count, score: if scores { *score } else { 0.0 } }
            }
            Weight::Constant { inner, .. } if !scores => Feed::new(segment, inner, false),
            Weight::Bool(b) if !scores && b.sole().is_some() => Feed::new(segment, b.sole().expect("asked"), false),
            Weight::Term(term) if !scores => match segment.term(term, false) {
                Some(cursor) => Feed::Term(cursor),
                None => Feed::Plan(Plan::Done),
            },
            Weight::Leaf(_) | Weight::Kept(_) => match (segment.evaluated(weight), weight) {
                (Some(Evaluated::Everything), Weight::Leaf(leaf)) if scores => {
                    Feed::All { next: 0, doc_count, score: leaf.score }
                }
                (Some(Evaluated::Everything), _) => Feed::All { next: 0, doc_count, score: 0.0 },
                (Some(Evaluated::Set(set, _)), _) if !scores => Feed::Set { set, next: 0 },
                (Some(Evaluated::List(list)), _) if !scores => Feed::List(list),
                (None, Weight::Kept(kept)) => Feed::new(segment, &kept.inner, false),
                _ => Feed::Plan(Plan::new(segment, weight, scores)),
            },
            _ => Feed::Plan(Plan::new(segment, weight, scores)),
        }
    }

    /// Gives the sink all matches before `until` that it may want; whether there may be more behind.
    pub(crate) fn run<S: Sink>(&mut self, until: DocId, scores: bool, sink: &mut S) -> bool {
        if let Feed::Plan(plan) = self {
            return plan.run(until, scores, sink);
        }
        if sink.full() {
            return false;
        }
        match self {
            Feed::All { next, doc_count, score } => {
                let start = sink.skip(*next).max(*next);
                let end = until.min(*doc_count);
                *next = start.max(end);
                if start < end {
                    sink.range(start..end, *score);
                }
                *next < *doc_count
            }
            Feed::Term(cursor) => {
                let wanted = sink.skip(cursor.doc());
                if wanted > cursor.doc() {
                    cursor.postings.seek(wanted);
                }
                while cursor.doc() < until {
                    let docs = cursor.postings.block_docs();
                    let count = match docs.last() {
                        Some(&last) if last < until => docs.len(),
                        _ => docs.partition_point(|&d| d < until),
                    };
                    sink.hits(&docs[..count]);
                    cursor.postings.advance(count);
                }
                cursor.doc() != NO_MORE_DOCS
            }
            Feed::Set { set, next } => {
                let start = (sink.skip(*next).max(*next) / 64) as usize;
                let words = set.words();
                let end = (until.div_ceil(64) as usize).min(words.len());
                if start < end {
                    sink.set(start as u32 * 64, &words[start..end]);
                }
                *next = start.max(end) as u32 * 64;
                start.max(end) < words.len()
            }
            Feed::List(list) => {
                let wanted = list.first().map_or(0, |&first| sink.skip(first));
                let start = if wanted > 0 { list.partition_point(|&d| d < wanted) } else { 0 };
                let end = list.partition_point(|&d| d < until).max(start);
                sink.hits(&list[start..end]);
                *list = &list[end..];
                !list.is_empty()
            }
            Feed::Plan(_) => unreachable!("run above"),
        }
    }
}
