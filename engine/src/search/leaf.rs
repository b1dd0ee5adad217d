//! Evaluates the leaves of a compiled query on one segment: terms of a pattern, ranges, ids and the like become sets
//! of documents before scoring starts, so that the loops that score never wait and never do unbounded work at once.

use std::ops::{Bound, RangeInclusive};
use std::rc::Rc;

use crate::error::Result;
use crate::ids::{DocId, NO_MORE_DOCS};
use crate::pace::Pace;
use crate::search::SegmentView;
use crate::search::compile::Compiled;
use crate::search::cursor::Cursor;
use crate::search::determinized::{ByteAutomaton, Determinized};
use crate::search::doc_set::DocSet;
use crate::search::open::Segment;
use crate::search::weight::{BoolWeight, KeptWeight, Leaf, LeafWeight, Pattern, Weight};
use crate::segment::reader::{FieldReader, InvertedIndex, SegmentReader, TermInfo, Want};
use crate::store::bitpack::BLOCK_LEN;

/// Postings walked between two questions to the pace.
const POSTINGS_PER_TURN: u64 = 16_384;
/// Candidates of clauses looked at between two questions to the pace.
const CANDIDATES_PER_TURN: u32 = 8192;
/// Terms visited between two questions to the pace.
const TERMS_PER_TURN: usize = 512;
/// What opening a list costs, in postings.
const LIST_COST: u64 = 16;
/// Blocks of terms walked between two questions to the pace.
pub(crate) const BLOCKS_PER_TURN: usize = 512;
/// Below this part of the segment a sorted list is smaller and faster than a bitmap.
const LIST_PART: u64 = 64;
/// The same, where the list would have to be sorted first.
const UNION_PART: u64 = 512;

/// To fill the cache, a search may find so many times the documents that it looks at.
const KEEP_FACTOR: u64 = 10;

/// A leaf's documents in one segment.
#[derive(Clone, Debug, Default)]
pub(crate) enum Evaluated {
    #[default]
    Nothing,
    Everything,
    /// With how many there are.
    Set(Rc<DocSet>, u64),
    /// Sorted.
    List(Rc<Vec<DocId>>),
    /// To be looked up in the field's number column, document by document.
    Column,
    /// Not a leaf, and not in the cache: its clauses tell.
    Clauses,
}

/// Evaluates all leaves of a query (by slot) on segment `ordinal`, or takes them from the cache.
///
/// # Errors
/// Damage.
pub(crate) async fn evaluate<P: Pace>(
    compiled: &Compiled,
    ordinal: usize,
    view: &SegmentView,
    pace: &P,
) -> Result<Vec<Evaluated>> {
    let mut out: Vec<Evaluated> = Vec::new();
    out.resize_with(compiled.slots, Evaluated::default);
    let mut planned = Vec::new();
    plan(&compiled.weight, ordinal, u64::MAX, &mut planned);
    let reader = &view.reader;
    // What stands before this in the plan belongs to clauses that are known as a whole.
    let mut skip = 0;
    for (at, one) in planned.iter().enumerate() {
        if at < skip {
            continue;
        }
        // Leaves that are too small to give way themselves are many.
        if turn(pace).await {
            break;
        }
        match *one {
            Planned::Leaf(leaf, lead) => out[leaf.slot] = of_leaf(compiled, leaf, reader, lead, pace).await?,
            Planned::Clauses { kept, lead, leaves } => {
                let filter = compiled.filters.as_ref().and_then(|f| f.on(kept.slot, reader));
                out[kept.slot] = match filter {
                    None => Evaluated::Clauses,
                    Some((cache, key)) => match cache.get(reader.segment_id(), key) {
                        Some(known) => {
                            skip = at + 1 + leaves;
                            known
                        }
                        None if cache.wants(key)
                            && cost(&kept.inner, ordinal).min(u64::from(reader.doc_count())) / KEEP_FACTOR <= lead =>
                        {
                            for one in &planned[at + 1..][..leaves] {
                                let Planned::Leaf(leaf, _) = *one else { unreachable!("kept is not inside kept") };
                                if turn(pace).await {
                                    return Ok(out);
                                }
                                out[leaf.slot] = of_leaf(compiled, leaf, reader, u64::MAX, pace).await?;
                            }
                            let docs = of_clauses(&kept.inner, ordinal, reader, &out, pace).await;
                            if pace.stopped() {
                                break;
                            }
                            cache.keep(reader.segment_id(), key, &docs);
                            skip = at + 1 + leaves;
                            docs
                        }
                        None => Evaluated::Clauses,
                    },
                }
            }
        }
    }
    Ok(out)
}

/// The documents of clauses whose leaves have been evaluated; incomplete when stopped.
async fn of_clauses<P: Pace>(
    weight: &Weight,
    ordinal: usize,
    reader: &SegmentReader,
    leaves: &[Evaluated],
    pace: &P,
) -> Evaluated {
    let segment = Segment { ordinal, reader, leaves };
    let mut gather = Gather::new(reader.doc_count());
    matches(segment.open(weight, false), pace, |doc| gather.add(doc)).await;
    gather.finish()
}

/// All matches of a cursor, until stopped.
pub(crate) async fn matches<P: Pace>(mut cursor: Cursor<'_>, pace: &P, mut each: impl FnMut(DocId)) {
    let mut doc = cursor.doc();
    let mut turn_end = CANDIDATES_PER_TURN;
    while doc != NO_MORE_DOCS {
        if doc >= turn_end {
            turn_end = doc.saturating_add(CANDIDATES_PER_TURN);
            pace.yield_if_needed().await;
            if pace.stopped() {
                return;
            }
        }
        if cursor.matches() {
            each(doc);
        }
        doc = cursor.next();
    }
}

/// The documents of one leaf, from the cache or not.
async fn of_leaf<P: Pace>(
    compiled: &Compiled,
    leaf: &LeafWeight,
    reader: &SegmentReader,
    lead: u64,
    pace: &P,
) -> Result<Evaluated> {
    let Some((cache, key)) = compiled.filters.as_ref().and_then(|f| f.on(leaf.slot, reader)) else {
        return evaluate_leaf(&leaf.leaf, reader, lead, pace).await;
    };
    if let Some(known) = cache.get(reader.segment_id(), key) {
        return Ok(known);
    }
    if !cache.wants(key) || !worth_keeping(&leaf.leaf, reader, lead) {
        return evaluate_leaf(&leaf.leaf, reader, lead, pace).await;
    }
    let docs = evaluate_leaf(&leaf.leaf, reader, u64::MAX, pace).await?;
    // What was stopped is not complete.
    if !pace.stopped() {
        cache.keep(reader.segment_id(), key, &docs);
    }
    Ok(docs)
}

/// Whether finding all documents of a leaf is not out of proportion to a search that has at most `lead` to look at.
fn worth_keeping(leaf: &Leaf, reader: &SegmentReader, lead: u64) -> bool {
    match leaf {
        Leaf::Numbers { field, ranges } => {
            let Some(field) = reader.field(field) else { return true };
            let docs = u64::from(reader.doc_count());
            let found = field.points().map_or(docs, |p| ranges.iter().map(|r| p.estimate(r.clone())).sum());
            found.min(docs) / KEEP_FACTOR <= lead
        }
        // These are found in full anyway.
        _ => true,
    }
}

/// Something to evaluate, with how many documents another required clause leaves of the segment.
#[derive(Clone, Copy)]
enum Planned<'a> {
    Leaf(&'a LeafWeight, u64),
    /// Followed by so many leaves.
    Clauses {
        kept: &'a KeptWeight,
        lead: u64,
        leaves: usize,
    },
}

fn plan<'a>(weight: &'a Weight, ordinal: usize, lead: u64, out: &mut Vec<Planned<'a>>) {
    match weight {
        Weight::Leaf(leaf) => out.push(Planned::Leaf(leaf, lead)),
        Weight::Kept(kept) => {
            let at = out.len();
            out.push(Planned::Clauses { kept, lead, leaves: 0 });
            plan(&kept.inner, ordinal, lead, out);
            out[at] = Planned::Clauses { kept, lead, leaves: out.len() - at - 1 };
        }
        Weight::Bool(BoolWeight { must, filter, should, must_not, .. }) => {
            let lead = must.iter().chain(filter).map(|w| cost(w, ordinal)).min().unwrap_or(u64::MAX).min(lead);
            must.iter().chain(filter).chain(must_not).for_each(|w| plan(w, ordinal, lead, out));
            should.iter().for_each(|w| plan(w, ordinal, u64::MAX, out));
        }
        Weight::DisMax { parts, .. } => parts.iter().for_each(|w| plan(w, ordinal, u64::MAX, out)),
        Weight::Boosting { positive, negative, .. } => {
            plan(positive, ordinal, lead, out);
            plan(negative, ordinal, u64::MAX, out);
        }
        Weight::Constant { inner, .. } => plan(inner, ordinal, lead, out),
        Weight::None | Weight::All { .. } | Weight::Term(_) | Weight::Synonyms(_) | Weight::Phrase(_) => {}
    }
}

/// Documents that a clause lets through at most, as far as the dictionary tells.
fn cost(weight: &Weight, ordinal: usize) -> u64 {
    let freq = |info: &Option<TermInfo>| info.map_or(0, |i| u64::from(i.doc_freq));
    match weight {
        Weight::None => 0,
        Weight::Term(t) => freq(&t.infos[ordinal]),
        Weight::Synonyms(s) => s.terms.iter().map(|t| freq(&t.infos[ordinal])).sum(),
        Weight::Phrase(p) => {
            p.slots.iter().map(|s| s.terms.iter().map(|t| freq(&t.infos[ordinal])).sum()).min().unwrap_or(0)
        }
        Weight::Bool(b) => b.must.iter().chain(&b.filter).map(|w| cost(w, ordinal)).min().unwrap_or(u64::MAX),
        Weight::Constant { inner, .. } => cost(inner, ordinal),
        Weight::Kept(kept) => cost(&kept.inner, ordinal),
        Weight::All { .. } | Weight::Leaf(_) | Weight::DisMax { .. } | Weight::Boosting { .. } => u64::MAX,
    }
}

/// Gathers documents in any order: few as a list, many as a bitmap.
struct Gather {
    doc_count: u32,
    list: Vec<DocId>,
    set: Option<DocSet>,
    /// Postings until the pace is asked.
    left: u64,
}

impl Gather {
    fn new(doc_count: u32) -> Gather {
        Gather { doc_count, list: Vec::new(), set: None, left: POSTINGS_PER_TURN }
    }

    #[inline]
    fn add(&mut self, doc: DocId) {
        match &mut self.set {
            Some(set) => set.insert(doc),
            None => {
                self.list.push(doc);
                if self.list.len() as u64 > u64::from(self.doc_count) / LIST_PART {
                    self.become_set();
                }
            }
        }
    }

    fn become_set(&mut self) {
        let list = std::mem::take(&mut self.list);
        let doc_count = self.doc_count;
        let set = self.set.get_or_insert_with(|| DocSet::empty(doc_count));
        list.into_iter().for_each(|d| set.insert(d));
    }

    fn finish(mut self) -> Evaluated {
        if let Some(set) = self.set {
            let count = u64::from(set.len());
            return if count == u64::from(self.doc_count) {
                Evaluated::Everything
            } else {
                Evaluated::Set(Rc::new(set), count)
            };
        }
        self.list.sort_unstable();
        self.list.dedup();
        if self.list.is_empty() { Evaluated::Nothing } else { Evaluated::List(Rc::new(self.list)) }
    }

    /// Adds what has any of these terms.
    async fn terms<P: Pace>(&mut self, index: &InvertedIndex, terms: &[TermInfo], pace: &P) {
        let sum: u64 = terms.iter().map(|term| u64::from(term.doc_freq)).sum();
        if terms.len() > 1 && sum > u64::from(self.doc_count) / UNION_PART && self.set.is_none() {
            self.become_set();
        }
        for term in terms {
            self.postings(index, term, pace).await;
            if pace.stopped() {
                return;
            }
        }
    }

    /// Adds a whole postings list.
    async fn postings<P: Pace>(&mut self, index: &InvertedIndex, info: &TermInfo, pace: &P) {
        if index.visit_short(info, &mut |doc| self.add(doc)) {
            return self.took(u64::from(info.doc_freq), pace).await;
        }
        let mut cursor = Box::new(index.postings(info, Want::Docs));
        let mut more = cursor.next() != NO_MORE_DOCS;
        while more {
            let docs = match &mut self.set {
                Some(set) => {
                    more = cursor.union_block(set.words_mut());
                    BLOCK_LEN
                }
                None => {
                    let docs = cursor.block_docs();
                    let count = docs.len();
                    docs.iter().for_each(|&doc| self.add(doc));
                    more = cursor.advance(count) != NO_MORE_DOCS;
                    count
                }
            };
            self.took(docs as u64, pace).await;
            if pace.stopped() {
                return;
            }
        }
    }

    /// Counts postings that were walked, and gives way after many.
    #[inline]
    async fn took<P: Pace>(&mut self, postings: u64, pace: &P) {
        match self.left.checked_sub(postings + LIST_COST) {
            Some(left) => self.left = left,
            None => {
                self.left = POSTINGS_PER_TURN;
                pace.yield_if_needed().await;
            }
        }
    }
}

async fn evaluate_leaf<P: Pace>(leaf: &Leaf, reader: &SegmentReader, lead: u64, pace: &P) -> Result<Evaluated> {
    let doc_count = reader.doc_count();
    let mut gather = Gather::new(doc_count);
    match leaf {
        Leaf::Terms { field, terms } => {
            let Some(index) = inverted(reader, field) else { return Ok(Evaluated::Nothing) };
            for (i, term) in terms.iter().enumerate() {
                if i % TERMS_PER_TURN == 0 && turn(pace).await {
                    break;
                }
                if let Some(info) = index.get(term) {
                    gather.postings(index, &info, pace).await;
                }
            }
        }
        Leaf::Pattern { field, pattern } => {
            let Some(index) = inverted(reader, field) else { return Ok(Evaluated::Nothing) };
            gather.terms(index, &matching_terms(index, pattern, pace).await, pace).await;
        }
        Leaf::TermRange { field, lower, upper } => {
            let Some(index) = inverted(reader, field) else { return Ok(Evaluated::Nothing) };
            gather.terms(index, &terms_between(index, lower, upper, pace).await, pace).await;
        }
        Leaf::Numbers { field, ranges } => {
            let Some(field) = reader.field(field) else { return Ok(Evaluated::Nothing) };
            return numbers(field, ranges, doc_count, lead, pace).await;
        }
        Leaf::Exists { fields } => {
            for name in fields {
                let Some(field) = reader.field(name) else { continue };
                if field.doc_count() == doc_count {
                    return Ok(Evaluated::Everything);
                }
                exists(field, &mut gather, pace).await;
            }
        }
        Leaf::Ids { ids } => {
            for (i, id) in ids.iter().enumerate() {
                if i % TERMS_PER_TURN == 0 && turn(pace).await {
                    break;
                }
                if let Some(doc) = reader.lookup_id(id.as_bytes())? {
                    gather.add(doc);
                }
            }
        }
        Leaf::Routing { values } => {
            for doc in 0..doc_count {
                if u64::from(doc).is_multiple_of(POSTINGS_PER_TURN) && turn(pace).await {
                    break;
                }
                if reader.routing(doc).is_some_and(|r| values.as_ref().is_none_or(|v| v.iter().any(|v| v == r))) {
                    gather.add(doc);
                }
            }
        }
        Leaf::SeqNo { range } => {
            for doc in 0..doc_count {
                if u64::from(doc).is_multiple_of(POSTINGS_PER_TURN) && turn(pace).await {
                    break;
                }
                if range.contains(&reader.seq_no(doc).0) {
                    gather.add(doc);
                }
            }
        }
        Leaf::Slice { field: None, id, max } => {
            for doc in 0..doc_count {
                if u64::from(doc).is_multiple_of(POSTINGS_PER_TURN / 8) && turn(pace).await {
                    break;
                }
                if slice_of(reader.id(doc).as_bytes(), *max) == *id {
                    gather.add(doc);
                }
            }
        }
        Leaf::Slice { field: Some(name), id, max } => {
            let column = reader.field(name).and_then(FieldReader::numbers);
            let mut values = Vec::new();
            for doc in 0..doc_count {
                if u64::from(doc).is_multiple_of(POSTINGS_PER_TURN / 8) && turn(pace).await {
                    break;
                }
                values.clear();
                if let Some(column) = column {
                    column.values(doc, &mut values);
                }
                // Documents without a value are in the first slice, so that the slices together are everything.
                let slice = values.first().map_or(0, |v| slice_of(&v.to_be_bytes(), *max));
                if slice == *id {
                    gather.add(doc);
                }
            }
        }
    }
    Ok(gather.finish())
}

/// Gives way; whether to stop.
pub(crate) async fn turn<P: Pace>(pace: &P) -> bool {
    pace.yield_if_needed().await;
    pace.stopped()
}

/// Which of `max` slices a key is in: the same on every shard and for every request.
fn slice_of(key: &[u8], max: u32) -> u32 {
    // FNV-1a, with its bits mixed: modulo a small number, its low bits alone would be poor.
    let mut hash = key.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((hash >> 32) % u64::from(max.max(1))) as u32
}

fn inverted<'a>(reader: &'a SegmentReader, field: &str) -> Option<&'a InvertedIndex> {
    reader.field(field)?.terms()
}

/// Terms from `from` on while `wanted`, a turn's worth at a time.
async fn walk_terms<P: Pace>(
    index: &InvertedIndex,
    from: &[u8],
    pace: &P,
    mut wanted: impl FnMut(&[u8]) -> bool,
) -> Vec<TermInfo> {
    let mut infos = Vec::new();
    let mut next = from.to_vec();
    loop {
        let mut left = TERMS_PER_TURN;
        let mut more = false;
        let mut resume = Vec::new();
        index.visit_from(&next, &mut |term, info| {
            if !wanted(term) {
                return false;
            }
            if left == 0 {
                more = true;
                resume.extend_from_slice(term);
                return false;
            }
            left -= 1;
            infos.push(info);
            true
        });
        if !more {
            return infos;
        }
        next = resume;
        pace.yield_if_needed().await;
        if pace.stopped() {
            return infos;
        }
    }
}

async fn matching_terms<P: Pace>(index: &InvertedIndex, pattern: &Pattern, pace: &P) -> Vec<TermInfo> {
    match pattern {
        Pattern::Prefix(prefix) => walk_terms(index, prefix, pace, |term| term.starts_with(prefix)).await,
        Pattern::Wildcard(a) => accepted_terms(index, Determinized::new(a), pace).await,
        Pattern::Regexp(a) => accepted_terms(index, Determinized::new(a), pace).await,
    }
}

async fn accepted_terms<A: ByteAutomaton, P: Pace>(
    index: &InvertedIndex,
    mut states: Determinized<'_, A>,
    pace: &P,
) -> Vec<TermInfo> {
    let mut infos = Vec::new();
    let mut visit = |_: &[u8], info| {
        infos.push(info);
        true
    };
    let mut walk = index.walk();
    while walk.run(&mut states, BLOCKS_PER_TURN, &mut visit) {
        pace.yield_if_needed().await;
        if pace.stopped() {
            break;
        }
    }
    states.keep();
    infos
}

async fn terms_between<P: Pace>(
    index: &InvertedIndex,
    lower: &Bound<Vec<u8>>,
    upper: &Bound<Vec<u8>>,
    pace: &P,
) -> Vec<TermInfo> {
    let mut from = match lower {
        Bound::Unbounded => Vec::new(),
        Bound::Included(t) | Bound::Excluded(t) => t.clone(),
    };
    if matches!(lower, Bound::Excluded(_)) {
        // The next string in byte order.
        from.push(0);
    }
    walk_terms(index, &from, pace, |term| match upper {
        Bound::Unbounded => true,
        Bound::Included(t) => term <= &t[..],
        Bound::Excluded(t) => term < &t[..],
    })
    .await
}

async fn numbers<P: Pace>(
    field: &FieldReader,
    ranges: &[RangeInclusive<u64>],
    doc_count: u32,
    lead: u64,
    pace: &P,
) -> Result<Evaluated> {
    if let Some(column) = field.numbers() {
        let Some((min, max)) = column.bounds() else { return Ok(Evaluated::Nothing) };
        if ranges.iter().any(|r| *r.start() <= min && max <= *r.end()) && field.doc_count() == doc_count {
            return Ok(Evaluated::Everything);
        }
        if ranges.iter().all(|r| *r.end() < min || max < *r.start()) {
            return Ok(Evaluated::Nothing);
        }
    }
    let estimate = field.points().map(|p| ranges.iter().map(|r| p.estimate(r.clone())).sum::<u64>());
    match (field.numbers(), estimate) {
        (Some(_), estimate) if lead < estimate.unwrap_or(u64::from(doc_count)) => return Ok(Evaluated::Column),
        (column, Some(estimate)) if column.is_none() || estimate <= u64::from(doc_count) / 2 => {
            let points = field.points().expect("estimated");
            let mut gather = Gather::new(doc_count);
            for range in ranges {
                visit_points(points, range.clone(), &mut gather, pace).await;
            }
            return Ok(gather.finish());
        }
        _ => {}
    }
    let Some(column) = field.numbers() else { return Ok(Evaluated::Nothing) };
    let mut set = DocSet::empty(doc_count);
    let within = |v: u64| in_ranges(ranges, v);
    let mut values = Vec::new();
    let mut doc = 0;
    while doc < doc_count {
        let (block, min, max) = column.block_bounds(doc);
        let possible = min <= max && ranges.iter().any(|r| *r.start() <= max && min <= *r.end());
        if possible && column.is_single() && column.is_full() {
            column.range(block.clone(), &mut values);
            for (i, &v) in values.iter().enumerate() {
                if within(v) {
                    set.insert(block.start + i as u32);
                }
            }
        } else if possible {
            for d in block.clone() {
                column.values(d, &mut values);
                if values.iter().any(|&v| within(v)) {
                    set.insert(d);
                }
            }
        }
        doc = block.end;
        pace.yield_if_needed().await;
        if pace.stopped() {
            break;
        }
    }
    let count = u64::from(set.len());
    Ok(if count == 0 { Evaluated::Nothing } else { Evaluated::Set(Rc::new(set), count) })
}

/// Whether one of the ranges, sorted and apart, has the value.
#[inline]
pub(crate) fn in_ranges(ranges: &[RangeInclusive<u64>], value: u64) -> bool {
    if let [only] = ranges {
        return only.contains(&value);
    }
    let at = ranges.partition_point(|r| *r.end() < value);
    ranges.get(at).is_some_and(|r| *r.start() <= value)
}

/// A large range is visited in parts, halved until each is a turn's work.
async fn visit_points<P: Pace>(
    points: &crate::segment::reader::Points,
    range: RangeInclusive<u64>,
    gather: &mut Gather,
    pace: &P,
) {
    let mut parts = vec![range];
    while let Some(part) = parts.pop() {
        let (low, high) = (*part.start(), *part.end());
        if points.estimate(part.clone()) > 4 * POSTINGS_PER_TURN && low < high && parts.len() < 64 {
            let middle = low + (high - low) / 2;
            parts.push(middle + 1..=high);
            parts.push(low..=middle);
            continue;
        }
        points.visit(part, &mut |doc| gather.add(doc));
        pace.yield_if_needed().await;
        if pace.stopped() {
            return;
        }
    }
}

async fn exists<P: Pace>(field: &FieldReader, gather: &mut Gather, pace: &P) {
    let doc_count = gather.doc_count;
    if let Some(column) = field.numbers() {
        for doc in 0..doc_count {
            if u64::from(doc).is_multiple_of(POSTINGS_PER_TURN) && turn(pace).await {
                return;
            }
            if column.has(doc) {
                gather.add(doc);
            }
        }
    } else if let Some(column) = field.ordinals() {
        for doc in 0..doc_count {
            if u64::from(doc).is_multiple_of(POSTINGS_PER_TURN) && turn(pace).await {
                return;
            }
            if column.has(doc) {
                gather.add(doc);
            }
        }
    } else if let Some(norms) = field.norms() {
        for (doc, &norm) in norms.iter().enumerate() {
            if (doc as u64).is_multiple_of(POSTINGS_PER_TURN) && turn(pace).await {
                return;
            }
            if norm != 0 {
                gather.add(doc as DocId);
            }
        }
    } else if let Some(index) = field.terms() {
        gather.terms(index, &walk_terms(index, b"", pace, |_| true).await, pace).await;
    }
}
