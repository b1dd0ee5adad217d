//! `terms`: strings by segment ordinal, numbers by value; the best buckets of each owner survive.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::pace::Pace;
use crate::search::aggs::buckets::BucketTable;
use crate::search::aggs::format::ValueFormat;
use crate::search::aggs::leaf::Leaf;
use crate::search::aggs::leaf::turn;
use crate::search::aggs::metric::owner;
use crate::search::aggs::partial::{TermKey, TermsKind};
use crate::search::aggs::resolve::{Resolved, Source, encode, parse_ip, text_of};
use crate::search::aggs::values::{Batch, Number, NumberKind};
use crate::search::aggs::{AggContext, OrderBy, TermSet, TermsRequest};
use crate::seed::{HashSeed, SeededMap, SeededSet};
use crate::segment::columns::TermTable;

/// Ordinal not seen in this segment yet.
const NEW: u32 = u32::MAX;
/// Ordinal whose term the request does not want.
const UNWANTED: u32 = u32::MAX - 1;

/// Collects buckets; see `node.rs` for what comes of them.
pub(crate) struct TermsNode {
    pub request: TermsRequest,
    pub values: Resolved,
    pub table: BucketTable,
    pub terms: Interner,
    wanted: Wanted,
    /// Of this segment: ordinal to term number.
    term_of: Vec<u32>,
    /// Of this segment: documents per ordinal, while they all go to owner 0 and nothing is below.
    dense: Vec<u32>,
    /// Whether counts of segments wait to be merged by term, without a table.
    merges: bool,
    /// Of segments that are done.
    counted: Vec<Counted>,
    /// With `min_doc_count: 0`: every number of the field, found or not.
    pub all_numbers: SeededSet<u64>,
    raw: Batch<u64>,
    ordinals: Batch<u32>,
}

/// Counters of an ordinal while they are few: neighbours with one ordinal do not wait for each other.
const COUNTERS: usize = 4;
/// Ordinals up to this have so many.
const COUNTERS_ORDINALS: usize = 4096;

/// The best terms of the shard, by key; documents of all.
pub(crate) struct TermsBuilt {
    pub terms: Vec<(TermKey, u64)>,
    pub all_docs: u64,
    pub left_out: bool,
}

/// Documents per ordinal of a segment.
struct Counted {
    terms: Arc<TermTable>,
    counts: Vec<u32>,
}

/// Terms and their numbers.
pub(crate) struct Interner {
    numbers: SeededMap<Arc<[u8]>, u32>,
    terms: Vec<Arc<[u8]>>,
    bytes: usize,
}

impl Interner {
    fn new(seed: HashSeed) -> Interner {
        Interner { numbers: SeededMap::with_hasher(seed), terms: Vec::new(), bytes: 0 }
    }

    fn number(&mut self, term: &[u8]) -> u32 {
        if let Some(&number) = self.numbers.get(term) {
            return number;
        }
        let number = self.terms.len() as u32;
        assert!(number < UNWANTED, "term numbers have 32 bits");
        let term: Arc<[u8]> = term.into();
        self.bytes += term.len() + 80;
        self.terms.push(term.clone());
        self.numbers.insert(term, number);
        number
    }

    pub fn term(&self, number: u64) -> &[u8] {
        &self.terms[number as usize]
    }

    pub fn len(&self) -> usize {
        self.terms.len()
    }
}

/// What `include` and `exclude` say.
struct Wanted {
    include: Option<Matcher>,
    exclude: Option<Matcher>,
}

enum Matcher {
    Terms(HashSet<Vec<u8>>),
    Numbers(HashSet<u64>),
    Regex(Box<regex::bytes::Regex>),
    Partition { partition: u32, count: u32 },
}

impl Matcher {
    fn new(set: &TermSet, values: &Resolved, agg: &str, context: &AggContext) -> Result<Option<Matcher>> {
        Ok(Some(match (set, &values.source) {
            (_, Source::Unmapped) => return Ok(None),
            (TermSet::Partition { partition, partition_count }, _) => {
                Matcher::Partition { partition: *partition, count: (*partition_count).max(1) }
            }
            (TermSet::Values(list), Source::Numbers { kind, .. }) => {
                Matcher::Numbers(list.iter().map(|v| encode(v, *kind, &values.format, context)).collect::<Result<_>>()?)
            }
            (TermSet::Values(list), Source::Terms { ip, .. }) => Matcher::Terms(
                list.iter()
                    .map(|v| {
                        let text = text_of(v);
                        if !ip {
                            return Ok(text.into_bytes());
                        }
                        parse_ip(&text)
                            .map(|ip| ip.to_vec())
                            .ok_or_else(|| Error::illegal_argument(format!("'{text}' is not an IP string literal.")))
                    })
                    .collect::<Result<_>>()?,
            ),
            (TermSet::Regex(pattern), Source::Terms { ip: false, .. }) => {
                Matcher::Regex(Box::new(lucene_regex(pattern)?))
            }
            (TermSet::Regex(_), Source::Terms { .. }) => {
                return Err(Error::request(
                    "aggregation_execution_exception",
                    format!(
                        "Aggregation [{agg}] cannot support regular expression style include/exclude settings as they \
                     can only be applied to string fields. Use an array of values for include/exclude clauses"
                    ),
                ));
            }
            (TermSet::Regex(_), Source::Numbers { .. }) => {
                return Err(Error::request(
                    "aggregation_execution_exception",
                    format!(
                        "Aggregation [{agg}] cannot support regular expression style include/exclude settings as they \
                     can only be applied to string fields. Use an array of numeric values for include/exclude clauses \
                     used to filter numeric fields"
                    ),
                ));
            }
        }))
    }

    fn accepts_term(&self, term: &[u8]) -> bool {
        match self {
            Matcher::Terms(set) => set.contains(term),
            Matcher::Regex(regex) => regex.is_match(term),
            Matcher::Partition { partition, count } => {
                i64::from(murmur3_32(term, 31) as i32).rem_euclid(i64::from(*count)) == i64::from(*partition)
            }
            Matcher::Numbers(_) => false,
        }
    }

    fn accepts_number(&self, raw: u64, kind: NumberKind) -> bool {
        match self {
            Matcher::Numbers(set) => set.contains(&raw),
            Matcher::Partition { partition, count } => {
                let bits = match kind.key(raw) {
                    Number::Long(v) => v as u64,
                    Number::Unsigned(v) => v,
                    Number::Double(v) => v.to_bits(),
                };
                (mix64(bits) as i64).rem_euclid(i64::from(*count)) == i64::from(*partition)
            }
            Matcher::Terms(_) | Matcher::Regex(_) => false,
        }
    }
}

/// A Lucene regular expression: always anchored, `@` any string, `"..."` literal, `#` nothing. Intersection,
/// complement and numeric intervals are refused.
fn lucene_regex(pattern: &str) -> Result<regex::bytes::Regex> {
    let mut out = String::from("(?s)^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next) => out.push_str(&regex::escape(next.encode_utf8(&mut [0; 4]))),
                None => return Err(Error::illegal_argument("unexpected end-of-string")),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.as_str().starts_with('^') {
                    chars.next();
                    out.push('^');
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            _ if in_class => out.push(c),
            '"' => {
                let rest = chars.as_str();
                let end = rest
                    .find('"')
                    .ok_or_else(|| Error::illegal_argument(format!("expected '\"' at position {}", pattern.len())))?;
                out.push_str(&regex::escape(&rest[..end]));
                chars = rest[end + 1..].chars();
            }
            '@' => out.push_str(".*"),
            '#' => out.push_str("[^\\x{0}-\\x{10ffff}]"),
            '^' | '$' => out.extend(['\\', c]),
            '&' | '~' | '<' => {
                return Err(Error::illegal_argument(format!(
                    "operator [{c}] of regular expressions is not supported in include and exclude"
                )));
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    regex::bytes::RegexBuilder::new(&out)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .build()
        .map_err(|_| Error::illegal_argument(format!("invalid regular expression [{pattern}]")))
}

/// MurmurHash3, 32 bits: what assigns terms to partitions, so that clients see the partitions they know.
fn murmur3_32(bytes: &[u8], seed: u32) -> u32 {
    let mix = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut h = seed;
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        h ^= mix(u32::from_le_bytes(chunk.try_into().expect("4 bytes")));
        h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        h ^= mix(u32::from_le_bytes(last));
    }
    h ^= bytes.len() as u32;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

fn mix64(z: u64) -> u64 {
    let z = (z ^ z >> 32).wrapping_mul(0x4cd6_944c_5cc2_0b6d);
    let z = (z ^ z >> 29).wrapping_mul(0xfc12_c5b1_9d32_59e9);
    z ^ z >> 32
}

impl Wanted {
    fn term(&self, term: &[u8]) -> bool {
        self.include.as_ref().is_none_or(|m| m.accepts_term(term))
            && !self.exclude.as_ref().is_some_and(|m| m.accepts_term(term))
    }

    fn number(&self, raw: u64, kind: NumberKind) -> bool {
        self.include.as_ref().is_none_or(|m| m.accepts_number(raw, kind))
            && !self.exclude.as_ref().is_some_and(|m| m.accepts_number(raw, kind))
    }

    fn all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

impl TermsNode {
    pub fn new(request: &TermsRequest, values: Resolved, agg: &str, context: &AggContext) -> Result<TermsNode> {
        let matcher = |set: &Option<TermSet>| match set {
            Some(set) => Matcher::new(set, &values, agg, context),
            None => Ok(None),
        };
        let wanted = Wanted { include: matcher(&request.include)?, exclude: matcher(&request.exclude)? };
        let merges = wanted.all()
            && request.min_doc_count > 0
            && matches!(&values.source, Source::Terms { missing: None, .. })
            && !request.order.iter().any(|o| matches!(o.by, OrderBy::Path(_)));
        Ok(TermsNode {
            request: request.clone(),
            values,
            table: BucketTable::new(context.hash_seed),
            terms: Interner::new(context.hash_seed),
            wanted,
            term_of: Vec::new(),
            dense: Vec::new(),
            merges,
            counted: Vec::new(),
            all_numbers: SeededSet::with_hasher(context.hash_seed),
            raw: Batch::default(),
            ordinals: Batch::default(),
        })
    }

    pub fn begin_segment(&mut self, leaf: &Leaf<'_>) {
        self.term_of.clear();
        self.dense.clear();
        if let Source::Terms { field, .. } = &self.values.source {
            let count = leaf.ordinals(field).map_or(0, |c| c.ordinal_count());
            // One more: the ordinal of what stands for a missing value.
            self.term_of.resize(count as usize + 1, NEW);
        }
    }

    /// Term number of an ordinal of this segment.
    fn term_number(&mut self, leaf: &Leaf<'_>, ordinal: u32) -> u32 {
        let known = self.term_of[ordinal as usize];
        if known != NEW {
            return known;
        }
        let Source::Terms { field, missing, .. } = &self.values.source else { unreachable!("ordinals are of terms") };
        let mut term = Vec::new();
        if ordinal as usize + 1 < self.term_of.len() {
            leaf.ordinals(field).expect("the column that gave the ordinal").term(ordinal, &mut term);
        } else {
            missing.as_deref().unwrap_or_default().clone_into(&mut term);
        }
        let number = if self.wanted.term(&term) { self.terms.number(&term) } else { UNWANTED };
        self.term_of[ordinal as usize] = number;
        number
    }

    /// Assigns buckets. With `emit` (there are sub-aggregations), appends position in `docs` and bucket number.
    pub fn collect(
        &mut self,
        leaf: &Leaf<'_>,
        docs: &[DocId],
        owners: Option<&[u32]>,
        mut emit: Option<&mut Vec<(u32, u32)>>,
    ) {
        match self.values.source.clone() {
            Source::Unmapped => {}
            Source::Terms { field, missing, .. } => {
                let absent = self.term_of.len() as u32 - 1;
                let mut ordinals = std::mem::take(&mut self.ordinals);
                ordinals.read(leaf.ordinals(&field), docs, missing.map(|_| absent));
                if owners.is_none() && emit.is_none() {
                    self.open_dense();
                    count_dense(&mut self.dense, self.term_of.len(), &ordinals.values);
                } else {
                    for i in 0..ordinals.values.len() {
                        let term = self.term_number(leaf, ordinals.values[i]);
                        if term == UNWANTED {
                            continue;
                        }
                        let position = ordinals.position(i);
                        let number = self.table.number(owner(owners, position) as u32, u64::from(term));
                        self.table.count(number, 1);
                        if let Some(emit) = &mut emit {
                            emit.push((position as u32, number));
                        }
                    }
                }
                self.ordinals = ordinals;
            }
            Source::Numbers { field, kind, missing } => {
                self.raw.read(leaf.numbers(&field), docs, missing);
                let all = self.wanted.all();
                let mut before = None;
                for i in 0..self.raw.values.len() {
                    let position = self.raw.position(i);
                    let mut value = self.raw.values[i];
                    if kind == NumberKind::DateNanos {
                        // Keys are milliseconds.
                        value = crate::mapping::number::from_i64(kind.to_i64(value));
                    }
                    // A document counts once, however often it has the value.
                    if before.replace((position, value)) == Some((position, value)) {
                        continue;
                    }
                    if !all && !self.wanted.number(self.raw.values[i], kind) {
                        continue;
                    }
                    let number = self.table.number(owner(owners, position) as u32, value);
                    self.table.count(number, 1);
                    if let Some(emit) = &mut emit {
                        emit.push((position as u32, number));
                    }
                }
            }
        }
    }

    /// Consecutive documents to owner 0; whether each has exactly one term.
    pub fn collect_run(&mut self, leaf: &Leaf<'_>, docs: Range<DocId>) -> bool {
        let Source::Terms { field, .. } = &self.values.source else { return false };
        let Some(column) = leaf.ordinals(field) else { return false };
        self.open_dense();
        if let Some(ordinal) = column.run_constant(&docs) {
            self.dense[ordinal as usize] += docs.len() as u32;
            return true;
        }
        if !self.ordinals.read_run(Some(column), docs) {
            return false;
        }
        count_dense(&mut self.dense, self.term_of.len(), &self.ordinals.values);
        true
    }

    fn open_dense(&mut self) {
        let counters = if self.term_of.len() <= COUNTERS_ORDINALS { COUNTERS } else { 1 };
        self.dense.resize(self.term_of.len() * counters, 0);
    }

    /// All documents of a segment, to owner 0, if its dictionary has counted them.
    pub fn collect_whole(&mut self, leaf: &Leaf<'_>) -> bool {
        let Source::Terms { field, missing: None, .. } = &self.values.source else { return false };
        if !leaf.doc_freqs(field, &mut self.dense) {
            self.dense.clear();
            return false;
        }
        self.dense.resize(self.term_of.len(), 0);
        true
    }

    /// Moves this segment's dense counts into the table, or keeps them to be merged, and finds the terms that no document had.
    ///
    /// # Errors
    /// `Stopped` after the deadline.
    pub async fn end_segment<P: Pace>(&mut self, leaf: &Leaf<'_>, pace: &P) -> Result<()> {
        let ordinals = self.term_of.len();
        if self.dense.len() > ordinals {
            let (counts, others) = self.dense.split_at_mut(ordinals);
            for other in others.chunks(ordinals) {
                counts.iter_mut().zip(other).for_each(|(n, &more)| *n += more);
            }
            self.dense.truncate(ordinals);
        }
        if self.merges && !self.dense.is_empty() {
            let Source::Terms { field, .. } = &self.values.source else { unreachable!("only terms are merged") };
            match leaf.ordinals(field).map(|c| c.small_dictionary()) {
                None => self.dense.clear(),
                Some(Some(terms)) => self.counted.push(Counted { terms, counts: std::mem::take(&mut self.dense) }),
                Some(None) => {
                    // One dictionary is large: all go through the table.
                    self.merges = false;
                    for counted in std::mem::take(&mut self.counted) {
                        for (ordinal, &docs) in counted.counts.iter().enumerate().filter(|(_, docs)| **docs > 0) {
                            let term = self.terms.number(counted.terms.term(ordinal));
                            let number = self.table.number(0, u64::from(term));
                            self.table.count(number, u64::from(docs));
                        }
                        turn(pace).await?;
                    }
                }
            }
        }
        for ordinal in 0..self.dense.len() {
            if ordinal % 1024 == 1023 {
                turn(pace).await?;
            }
            let docs = self.dense[ordinal];
            if docs > 0 {
                let term = self.term_number(leaf, ordinal as u32);
                if term != UNWANTED {
                    let number = self.table.number(0, u64::from(term));
                    self.table.count(number, u64::from(docs));
                }
            }
        }
        self.dense.clear();
        if self.request.min_doc_count > 0 {
            return Ok(());
        }
        match self.values.source.clone() {
            Source::Unmapped => {}
            Source::Terms { .. } => {
                for ordinal in 0..self.term_of.len() as u32 - 1 {
                    if ordinal % 1024 == 1023 {
                        turn(pace).await?;
                    }
                    self.term_number(leaf, ordinal);
                }
            }
            Source::Numbers { field, kind, .. } => {
                let mut docs: Vec<DocId> = Vec::new();
                for start in (0..leaf.doc_count()).step_by(super::BATCH) {
                    turn(pace).await?;
                    docs.clear();
                    docs.extend(start..leaf.doc_count().min(start + super::BATCH as u32));
                    self.raw.read(leaf.numbers(&field), &docs, None);
                    for &value in &self.raw.values {
                        if self.wanted.number(value, kind) {
                            let key = if kind == NumberKind::DateNanos {
                                crate::mapping::number::from_i64(kind.to_i64(value))
                            } else {
                                value
                            };
                            self.all_numbers.insert(key);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the answer is in counts to be merged.
    pub fn has_counted(&self) -> bool {
        !self.counted.is_empty()
    }

    /// The partial result, from the counts of the segments: their terms are walked side by side.
    ///
    /// # Errors
    /// `Stopped` after the deadline.
    pub async fn build_counted<P: Pace>(&self, pace: &P) -> Result<TermsBuilt> {
        struct Head<'t> {
            term: &'t [u8],
            at: usize,
        }
        fn advance<'t>(counted: &'t Counted, from: usize) -> Option<Head<'t>> {
            let at = from + counted.counts.get(from..)?.iter().position(|&docs| docs > 0)?;
            Some(Head { term: counted.terms.term(at), at })
        }
        // Positions in this list are in the order of keys.
        let mut found: Vec<(u64, &[u8])> = Vec::new();
        let mut heads: Vec<(Option<Head<'_>>, &Counted)> = self.counted.iter().map(|c| (advance(c, 0), c)).collect();
        let mut all_docs = 0;
        while let Some(term) = heads.iter().filter_map(|(h, _)| h.as_ref().map(|h| h.term)).min() {
            let mut docs = 0;
            for (head, counted) in &mut heads {
                if let Some(h) = head
                    && h.term == term
                {
                    docs += u64::from(counted.counts[h.at]);
                    *head = advance(counted, h.at + 1);
                }
            }
            all_docs += docs;
            found.push((docs, term));
            if found.len() % 256 == 255 {
                turn(pace).await?;
            }
        }
        let mut chosen: Vec<u32> =
            (0..found.len() as u32).filter(|&i| found[i as usize].0 >= self.request.shard_min_doc_count).collect();
        let size = self.request.shard_size();
        let left_out = chosen.len() > size;
        if left_out {
            chosen.select_nth_unstable_by(size, |&a, &b| {
                for order in &self.request.order {
                    let ordering = match order.by {
                        OrderBy::Count => found[a as usize].0.cmp(&found[b as usize].0),
                        OrderBy::Key | OrderBy::Path(_) => a.cmp(&b),
                    };
                    let ordering = if order.ascending { ordering } else { ordering.reverse() };
                    if ordering != Ordering::Equal {
                        return ordering;
                    }
                }
                a.cmp(&b)
            });
            chosen.truncate(size);
        }
        chosen.sort_unstable();
        let terms = chosen.into_iter().map(|i| found[i as usize]).map(|(docs, term)| (self.term_key(term), docs));
        Ok(TermsBuilt { terms: terms.collect(), all_docs, left_out })
    }

    /// Order of two keys (of the table): bytes of terms, or the sortable encoding itself.
    pub fn compare_keys(&self, a: u64, b: u64) -> Ordering {
        match &self.values.source {
            Source::Terms { .. } => self.terms.term(a).cmp(self.terms.term(b)),
            _ => a.cmp(&b),
        }
    }

    fn term_key(&self, term: &[u8]) -> TermKey {
        let ip = matches!(self.values.source, Source::Terms { ip: true, .. });
        match <[u8; 16]>::try_from(term) {
            Ok(bytes) if ip => TermKey::Ip(bytes),
            _ => TermKey::String(String::from_utf8_lossy(term).into_owned()),
        }
    }

    /// A key of the table as it travels.
    pub fn key(&self, key: u64) -> TermKey {
        match &self.values.source {
            Source::Terms { .. } => self.term_key(self.terms.term(key)),
            Source::Numbers { kind: NumberKind::DateNanos, .. } => TermKey::Number(NumberKind::Date.key(key)),
            Source::Numbers { kind, .. } => TermKey::Number(kind.key(key)),
            Source::Unmapped => unreachable!("an unmapped field has no keys"),
        }
    }

    pub fn kind(&self) -> TermsKind {
        match &self.values.source {
            Source::Unmapped => TermsKind::Unmapped,
            Source::Terms { .. } => TermsKind::String,
            Source::Numbers { kind, .. } if kind.is_floating() => TermsKind::Double,
            Source::Numbers { .. } => TermsKind::Long,
        }
    }

    pub fn format(&self) -> ValueFormat {
        self.values.format.clone()
    }

    pub fn bytes(&self) -> usize {
        self.table.bytes()
            + self.terms.bytes
            + (self.term_of.capacity() + self.dense.capacity()) * 4
            + self.counted.iter().map(|c| c.counts.capacity() * 4).sum::<usize>()
            + self.all_numbers.capacity() * 9
            + self.raw.bytes()
            + self.ordinals.bytes()
    }
}

/// Counts ordinals in one or more rows of counters, one row after the other.
fn count_dense(counts: &mut [u32], row: usize, ordinals: &[u32]) {
    if counts.len() == row * COUNTERS {
        let (first, second) = counts.split_at_mut(row * 2);
        let ((a, b), (c, d)) = (first.split_at_mut(row), second.split_at_mut(row));
        let (fours, rest) = ordinals.as_chunks::<COUNTERS>();
        for four in fours {
            a[four[0] as usize] += 1;
            b[four[1] as usize] += 1;
            c[four[2] as usize] += 1;
            d[four[3] as usize] += 1;
        }
        rest.iter().for_each(|&o| a[o as usize] += 1);
    } else {
        ordinals.iter().for_each(|&o| counts[o as usize] += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_elasticsearchs() {
        let partition = |term: &str| i64::from(murmur3_32(term.as_bytes(), 31) as i32).rem_euclid(2);
        assert_eq!(partition("abc"), 1);
        assert_eq!(partition("bcd"), 0);
        assert_eq!(murmur3_32(b"", 0), 0);
        assert_eq!(murmur3_32(b"hello", 0), 0x248b_fa47);
    }

    #[test]
    fn lucene_patterns_translate() {
        for (pattern, text, expected) in [
            ("a.*", "abc", true),
            ("a.*", "xabc", false),
            ("abc|de", "de", true),
            ("\"a.c\"", "abc", false),
            ("\"a.c\"", "a.c", true),
            ("[^a-c]x", "dx", true),
            ("[^a-c]x", "ax", false),
            ("ab@", "abanything", true),
            ("a#", "a", false),
            ("a^b$", "a^b$", true),
            ("\\d", "d", true),
            ("a{2,3}", "aaa", true),
        ] {
            let regex = lucene_regex(pattern).unwrap();
            assert_eq!(regex.is_match(text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(lucene_regex("a~b").is_err());
        assert!(lucene_regex("(").is_err());
        assert!(lucene_regex("\\").is_err());
    }
}
