//! The naive model that segments are tested against: documents as lists of values, answers by looking at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_lite::future::block_on;

use crate::ids::{DocId, NO_MORE_DOCS, PrimaryTerm, SegmentId, SeqNo, Version};
use crate::pace::Unpaced;
use crate::seed::HashSeed;
use crate::segment::bounds::{B, K1};
use crate::segment::live_docs::LiveDocs;
use crate::segment::norms::{norm_decode, norm_encode};
use crate::segment::reader::{SegmentReader, SourceCache, Want};
use crate::segment::{Codec, ColumnKind, FieldSpec, TermsOption};
use crate::store::FileBytes;
use crate::write::buffer::raw::{GAP, RawValue};
use crate::write::buffer::{IndexingBuffer, build_image};

/// A small generator, so that a failing seed is a whole test case.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Small numbers often, large ones seldom.
    fn skewed(&mut self, n: u64) -> u64 {
        let bound = 1 + self.below(n);
        let bound = 1 + self.below(bound);
        self.below(bound)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelDoc {
    pub id: String,
    pub routing: Option<String>,
    pub seq_no: i64,
    pub term: u64,
    pub version: u64,
    pub source: Vec<u8>,
    /// Per field: values of tokens with positions.
    pub texts: BTreeMap<usize, Vec<Vec<(String, u32)>>>,
    pub terms: BTreeMap<usize, Vec<String>>,
    pub numbers: BTreeMap<usize, Vec<u64>>,
    pub deleted: bool,
}

pub(crate) fn specs() -> Vec<FieldSpec> {
    let spec = |name: &str, terms, norms, column, points| FieldSpec { name: name.into(), terms, norms, column, points };
    use ColumnKind::{Numbers, Ordinals};
    vec![
        spec("zz.body", TermsOption::Positions, true, ColumnKind::None, false),
        spec("freqs", TermsOption::Freqs, true, ColumnKind::None, false),
        spec("docs", TermsOption::Docs, false, ColumnKind::None, false),
        spec("tag", TermsOption::Docs, false, Ordinals, false),
        spec("ordinals", TermsOption::None, false, Ordinals, false),
        spec("number", TermsOption::None, false, Numbers, true),
        spec("constant", TermsOption::None, false, Numbers, false),
        spec("points", TermsOption::None, false, ColumnKind::None, true),
        spec("never", TermsOption::Positions, true, Ordinals, false),
    ]
}

/// Documents that use every field, densely or seldom.
pub(crate) fn random_docs(r: &mut Random, count: usize, first_seq_no: i64) -> Vec<ModelDoc> {
    let vocabulary = 1 + r.below(3000);
    let density = [2, 50, 95, 100][r.below(4) as usize];
    let many = r.chance(50);
    let term_len = if r.chance(10) { 40 } else { 1 };
    let word = |r: &mut Random| format!("{}{}", "x".repeat(term_len - 1), r.skewed(vocabulary) * 7919 % 10_007);
    let (unit, shift) = (1 + r.below(1000), r.below(40));
    (0..count)
        .map(|i| {
            let mut doc = ModelDoc {
                id: format!("{}", r.below(1 << 40)),
                routing: r.chance(10).then(|| format!("r{}", r.below(9))),
                seq_no: first_seq_no + i as i64 + r.below(3) as i64,
                term: 1 + r.below(2),
                version: 1 + r.skewed(5),
                source: Vec::new(),
                deleted: r.chance(5),
                ..ModelDoc::default()
            };
            let len = if r.chance(1) { 100_000 } else { r.below(900) };
            doc.source = (0..len).map(|_| b'a' + r.skewed(26) as u8).collect();
            let values = |r: &mut Random| if many && r.chance(30) { 1 + r.below(4) } else { 1 };
            for field in [0usize, 1, 2] {
                if !r.chance(density) {
                    continue;
                }
                let n = values(r);
                let texts = (0..n).map(|_| {
                    let mut position = 0;
                    let len = r.skewed(if field == 0 { 120 } else { 20 });
                    let mut tokens = Vec::new();
                    for _ in 0..len {
                        position += if r.chance(5) { r.below(4) as u32 } else { 1 };
                        tokens.push((word(r), position));
                    }
                    tokens
                });
                doc.texts.insert(field, texts.collect());
            }
            for field in [3usize, 4] {
                if r.chance(density) {
                    doc.terms.insert(field, (0..values(r)).map(|_| word(r)).collect());
                }
            }
            for field in [5usize, 7] {
                if r.chance(density) {
                    let number = |r: &mut Random| match field {
                        5 => (r.skewed(100_000) * unit) << shift,
                        _ => i as u64 / 3,
                    };
                    doc.numbers.insert(field, (0..values(r)).map(|_| number(r)).collect());
                }
            }
            doc.numbers.insert(6, vec![42]);
            doc
        })
        .collect()
}

/// The documents as a buffer makes a segment of them.
pub(crate) fn build(docs: &[ModelDoc], id: u64, codec: Codec) -> (Vec<u8>, Option<LiveDocs>) {
    build_beside(&[], docs, id, codec)
}

/// The same beside other segments.
pub(crate) fn build_beside(
    others: &[&Arc<SegmentReader>],
    docs: &[ModelDoc],
    id: u64,
    codec: Codec,
) -> (Vec<u8>, Option<LiveDocs>) {
    let dictionaries = others.iter().filter_map(|s| s.source_dictionary().cloned()).collect();
    let specs = specs();
    let mut buffer = IndexingBuffer::new(HashSeed::new(1));
    for doc in docs {
        let texts: Vec<(usize, Vec<(&str, u32)>)> = doc
            .texts
            .iter()
            .flat_map(|(f, v)| v.iter().map(|t| (*f, t.iter().map(|(s, p)| (s.as_str(), *p)).collect())))
            .collect();
        let after = |t: &[(&str, u32)]| t.last().map_or(0, |l| l.1 + 1);
        let texts = texts.iter().map(|(f, t)| (*f, RawValue::Tokens(t, after(t))));
        let terms = doc.terms.iter().flat_map(|(f, v)| v.iter().map(|t| (*f, RawValue::Term(t))));
        let numbers = doc.numbers.iter().flat_map(|(f, v)| v.iter().map(|n| (*f, RawValue::Number(*n))));
        let numbering = (SeqNo(doc.seq_no), PrimaryTerm(doc.term), Version(doc.version));
        let at = buffer.add_raw(
            &specs,
            &doc.id,
            doc.routing.as_deref(),
            numbering,
            &doc.source,
            texts.chain(terms).chain(numbers),
        );
        let mut source = Vec::new();
        buffer.source(at, &mut source).unwrap();
        assert_eq!(source, doc.source);
        assert_eq!(buffer.id(at), doc.id);
        if doc.deleted {
            buffer.delete(at);
        }
    }
    assert!(buffer.memory_bytes() > 0 || docs.is_empty());
    block_on(build_image(&buffer.freeze(), SegmentId(id), codec, dictionaries, &Unpaced))
}

pub(crate) fn open(image: Vec<u8>, id: u64) -> Arc<SegmentReader> {
    Arc::new(SegmentReader::open(SegmentId(id), FileBytes::new(image)).expect("a whole image opens"))
}

/// Per document that has the term: positions (0 where there are none), in order.
type TermModel = BTreeMap<String, BTreeMap<DocId, Vec<u32>>>;

fn term_model(docs: &[ModelDoc], field: usize) -> (TermModel, Vec<u8>) {
    let mut terms = TermModel::new();
    let mut norms = vec![0; docs.len()];
    for (doc, d) in docs.iter().enumerate() {
        let (mut base, mut length) = (0, 0);
        for value in d.texts.get(&field).into_iter().flatten() {
            let mut last = None;
            for (token, position) in value {
                terms.entry(token.clone()).or_default().entry(doc as u32).or_default().push(base + position);
                length += u32::from(last != Some(*position));
                last = Some(*position);
            }
            base += value.last().map_or(0, |l| l.1 + 1) + GAP;
        }
        norms[doc] = norm_encode(length);
        for value in d.terms.get(&field).into_iter().flatten() {
            terms.entry(value.clone()).or_default().entry(doc as u32).or_default().push(0);
        }
    }
    (terms, norms)
}

/// Asks a segment everything and compares with the documents it was made of.
pub(crate) fn check(reader: &SegmentReader, docs: &[ModelDoc], r: &mut Random) {
    reader.verify().unwrap();
    assert_eq!(reader.doc_count() as usize, docs.len());
    assert_eq!(reader.min_seq_no().0, docs.iter().map(|d| d.seq_no).min().unwrap_or(-1));
    assert_eq!(reader.max_seq_no().0, docs.iter().map(|d| d.seq_no).max().unwrap_or(-1));
    let mut cache = SourceCache::default();
    let mut by_id = BTreeMap::new();
    for (i, doc) in docs.iter().enumerate() {
        let at = i as u32;
        assert_eq!(reader.id(at), doc.id);
        assert_eq!(reader.seq_no(at).0, doc.seq_no);
        assert_eq!(reader.primary_term(at).0, doc.term);
        assert_eq!(reader.version(at).0, doc.version);
        assert_eq!(reader.routing(at), doc.routing.as_deref());
        let mut source = b"before".to_vec();
        reader.source(at, &mut cache, &mut source).unwrap();
        assert_eq!(source[6..], doc.source);
        by_id.insert(doc.id.clone(), at);
    }
    for (id, doc) in &by_id {
        assert_eq!(reader.lookup_id(id.as_bytes()), Ok(Some(*doc)));
        assert_eq!(reader.lookup_id(format!("{id}x").as_bytes()), Ok(None));
    }
    for (number, spec) in specs().iter().enumerate() {
        let used = |d: &ModelDoc| {
            d.texts.contains_key(&number) || d.terms.contains_key(&number) || d.numbers.contains_key(&number)
        };
        let Some(field) = reader.field(&spec.name) else {
            assert!(!docs.iter().any(used), "{} is missing", spec.name);
            continue;
        };
        assert_eq!(field.spec(), spec);
        check_terms(reader, docs, number, spec, r);
        check_numbers(reader, docs, number, spec, r);
        check_ordinals(reader, docs, number, spec);
    }
}

fn check_terms(reader: &SegmentReader, docs: &[ModelDoc], number: usize, spec: &FieldSpec, r: &mut Random) {
    let field = reader.field(&spec.name).unwrap();
    let (terms, norms) = term_model(docs, number);
    if spec.norms {
        assert_eq!(field.norms().unwrap(), norms);
    }
    let Some(index) = field.terms() else {
        assert!(spec.terms == TermsOption::None);
        return;
    };
    assert_eq!(index.term_count(), terms.len() as u64);
    let with_terms: BTreeSet<DocId> = terms.values().flat_map(|d| d.keys().copied()).collect();
    assert_eq!(field.doc_count() as usize, with_terms.len());
    assert_eq!(field.sum_doc_freq(), terms.values().map(|d| d.len() as u64).sum::<u64>());
    let freq_of = |p: &Vec<u32>| if spec.terms == TermsOption::Docs { 1 } else { p.len() as u32 };
    let total: u64 = terms.values().flat_map(|d| d.values()).map(|p| u64::from(freq_of(p))).sum();
    assert_eq!(field.sum_total_term_freq(), total);
    for doc in 0..docs.len() as DocId {
        let of_doc = terms.values().filter_map(|d| d.get(&doc)).map(|p| u64::from(freq_of(p))).sum::<u64>();
        assert_eq!(field.occurrences(doc), of_doc, "document {doc} of {}", spec.name);
    }

    let mut listed = Vec::new();
    index.visit_from(b"", &mut |term, info| {
        listed.push((String::from_utf8(term.to_vec()).unwrap(), info));
        true
    });
    assert!(listed.iter().map(|(t, _)| t).eq(terms.keys()));
    let from = format!("{}", r.below(10_000));
    let mut after = Vec::new();
    index.visit_from(from.as_bytes(), &mut |term, _| {
        after.push(String::from_utf8(term.to_vec()).unwrap());
        after.len() < 50
    });
    assert!(after.iter().eq(terms.range(from.clone()..).map(|(t, _)| t).take(50)));
    assert_eq!(index.get(b""), None);
    for absent in ["5x", "\u{7f}", "000", &format!("{from}.")] {
        assert_eq!(index.get(absent.as_bytes()), None);
    }
    {
        use fst::Automaton;
        use fst::automaton::{Levenshtein, Str, Subsequence};
        let prefix = &from[..1];
        let mut found = Vec::new();
        let mut collect = |term: &[u8], _| {
            found.push(String::from_utf8(term.to_vec()).unwrap());
            true
        };
        index.visit_matching(Str::new(prefix).starts_with(), &mut collect);
        assert!(found.iter().eq(terms.keys().filter(|t| t.starts_with(prefix))));
        let mut found = 0;
        index.visit_matching(Subsequence::new(prefix), &mut |term, info| {
            assert!(term.contains(&prefix.as_bytes()[0]) && index.get(term) == Some(info));
            found += 1;
            true
        });
        assert_eq!(found, terms.keys().filter(|t| t.contains(prefix)).count());
        let mut found = BTreeSet::new();
        index.visit_matching(Levenshtein::new(&from, 1).unwrap(), &mut |term, _| {
            found.insert(String::from_utf8(term.to_vec()).unwrap());
            true
        });
        assert!(found.iter().all(|t| terms.contains_key(t)));
        assert_eq!(found.contains(&from), terms.contains_key(&from));
        let one_off =
            |t: &&String| t.len() == from.len() && t.bytes().zip(from.bytes()).filter(|(a, b)| a != b).count() == 1;
        assert!(terms.keys().filter(one_off).all(|t| found.contains(t)));
    }

    let norm_of = |doc: DocId| if spec.norms { norms[doc as usize] } else { 1 };
    for (term, info) in listed {
        let model = &terms[&term];
        assert_eq!(index.get(term.as_bytes()), Some(info), "{term}");
        assert_eq!(info.doc_freq as usize, model.len());
        assert_eq!(info.total_term_freq, model.values().map(|p| u64::from(freq_of(p))).sum::<u64>());
        // All documents at once.
        let mut all = BTreeSet::new();
        let short = index.visit_short(&info, &mut |doc| assert!(all.insert(doc)));
        assert_eq!(short, model.len() < 128);
        let mut words = vec![0u64; docs.len().div_ceil(64)];
        let mut whole = index.postings(&info, Want::Docs);
        assert_ne!(whole.next(), NO_MORE_DOCS);
        while whole.union_block(&mut words) {}
        let set = |doc: &DocId| words[(*doc / 64) as usize] >> (doc % 64) & 1 == 1;
        assert!((0..docs.len() as DocId).filter(set).eq(model.keys().copied()));
        assert!(!short || all.iter().eq(model.keys()));
        // Everything, in order.
        let mut cursor = index.postings(&info, Want::Positions);
        let mut positions = Vec::new();
        for (doc, expected) in model {
            assert_eq!(cursor.next(), *doc);
            assert_eq!(cursor.doc(), *doc);
            assert_eq!(cursor.freq(), freq_of(expected));
            if spec.terms == TermsOption::Positions && r.chance(70) {
                cursor.positions(&mut positions);
                assert_eq!(&positions, expected, "{term} in {doc}");
                if r.chance(10) {
                    cursor.positions(&mut positions);
                    assert_eq!(&positions, expected, "{term} in {doc} again");
                }
            }
        }
        assert_eq!(cursor.next(), NO_MORE_DOCS);
        assert_eq!(cursor.next(), NO_MORE_DOCS);
        // Leaps.
        for want in [Want::Docs, Want::Freqs, Want::Positions] {
            let mut cursor = index.postings(&info, want);
            let average = cursor.bound_average();
            let mut at = 0u32;
            let mut started = false;
            let stride = 1 + r.below(docs.len() as u64);
            loop {
                let share_bound = |doc: DocId, p: &Vec<u32>| {
                    let k = K1 * ((1.0 - B) + B * norm_decode(norm_of(doc)) as f32 / average);
                    (freq_of(p) as f32 / (freq_of(p) as f32 + k) * 65_535.0) as u16
                };
                if let Some((bound_doc, bound)) = cursor.block_bound(at) {
                    let list = cursor.list_bound().unwrap();
                    let to = at.saturating_add(r.below(300) as u32);
                    let range = cursor.range_bound(at, to).unwrap();
                    let floor = r.below(65_536) as u16;
                    let next = cursor.next_above(at, floor, |_, _| false);
                    // A best document is one of the block, and nothing in the block is better.
                    let mut bests = Vec::new();
                    cursor.next_above(at, 0, |freq, norm| {
                        bests.push((u32::from(freq), norm));
                        false
                    });
                    let block = || model.range(at..=bound_doc).map(|(&doc, p)| (freq_of(p), norm_of(doc)));
                    if let Some(best) = bests.first() {
                        assert!(block().all(|(f, n)| f <= best.0 && n >= best.1), "{term}: {best:?} is not the best");
                    }
                    assert!(next >= at);
                    for (&doc, p) in model.range(at..) {
                        let share = share_bound(doc, p);
                        assert!(share <= list, "{term}: {doc} is above the list's bound");
                        assert!(
                            doc > bound_doc || share <= bound,
                            "{term}: {doc} is above the bound up to {bound_doc}"
                        );
                        assert!(doc > to || share <= range, "{term}: {doc} is above the bound from {at} to {to}");
                        assert!(doc >= next || share <= floor, "{term}: {doc} is left out");
                    }
                } else {
                    assert!(model.len() < 128);
                    let behind = started && cursor.doc() != NO_MORE_DOCS && model.range(at..).next().is_none();
                    let next = cursor.next_above(at, 0, |_, _| false);
                    assert_eq!(next, if behind { NO_MORE_DOCS } else { at }, "{term}");
                }
                let step_by_next = started && r.chance(30);
                let expected = if step_by_next {
                    let current = cursor.doc();
                    if current == NO_MORE_DOCS { None } else { model.range(current + 1..).next() }
                } else {
                    model.range(at.max(if started { cursor.doc() } else { 0 })..).next()
                };
                let found = if step_by_next { cursor.next() } else { cursor.seek(at) };
                started = true;
                assert_eq!(found, expected.map_or(NO_MORE_DOCS, |e| *e.0));
                let Some((doc, p)) = expected else { break };
                if want >= Want::Freqs {
                    assert_eq!(cursor.freq(), freq_of(p));
                }
                if want == Want::Positions && spec.terms == TermsOption::Positions && r.chance(50) {
                    cursor.positions(&mut positions);
                    assert_eq!(&positions, p);
                }
                at = doc + r.below(stride) as u32;
            }
            assert_eq!(cursor.seek(NO_MORE_DOCS - 1), NO_MORE_DOCS);
        }
    }
}

fn check_numbers(reader: &SegmentReader, docs: &[ModelDoc], number: usize, spec: &FieldSpec, r: &mut Random) {
    let field = reader.field(&spec.name).unwrap();
    let values_of = |d: &ModelDoc| {
        let mut values = d.numbers.get(&number).cloned().unwrap_or_default();
        values.sort_unstable();
        values
    };
    let all: Vec<u64> = docs.iter().flat_map(values_of).collect();
    if spec.column == ColumnKind::Numbers {
        let column = field.numbers().unwrap();
        assert_eq!(column.is_single(), docs.iter().all(|d| values_of(d).len() <= 1));
        assert_eq!(column.is_full(), docs.iter().all(|d| !values_of(d).is_empty()));
        assert_eq!(column.bounds(), all.iter().min().map(|min| (*min, *all.iter().max().unwrap())));
        assert_eq!(field.doc_count() as usize, docs.iter().filter(|d| !values_of(d).is_empty()).count());
        let mut values = Vec::new();
        for (doc, d) in docs.iter().enumerate() {
            let expected = values_of(d);
            assert_eq!(column.first(doc as u32), expected.first().copied());
            assert_eq!(column.has(doc as u32), !expected.is_empty());
            assert_eq!(column.presence_word(doc / 64) >> (doc % 64) & 1 == 1, !expected.is_empty());
            column.values(doc as u32, &mut values);
            assert_eq!(values, expected);
            let (block, low, high) = column.block_bounds(doc as u32);
            assert!(block.contains(&(doc as u32)) && block.end as usize <= docs.len());
            assert!(expected.iter().all(|v| (low..=high).contains(v)));
        }
        if column.is_single() && column.is_full() {
            column.range(0..docs.len() as u32, &mut values);
            assert_eq!(values, all);
            let some: Vec<u32> = (0..docs.len() as u32).filter(|_| r.below(3) == 0).collect();
            column.gather(&some, &mut values);
            assert_eq!(values, some.iter().map(|&d| all[d as usize]).collect::<Vec<_>>());
            let (a, b) = (r.below(docs.len() as u64 + 1) as usize, r.below(docs.len() as u64 + 1) as usize);
            column.range(a.min(b) as u32..a.max(b) as u32, &mut values);
            assert_eq!(values, all[a.min(b)..a.max(b)]);
        }
    }
    if spec.points {
        let points = field.points().unwrap();
        for _ in 0..10 {
            let mut edge = || if all.is_empty() { 0 } else { all[r.below(all.len() as u64) as usize] + r.below(2) };
            let (a, b) = (edge(), edge());
            let range = if r.chance(10) { 0..=u64::MAX } else { a.min(b)..=a.max(b) };
            let mut found = BTreeSet::new();
            points.visit(range.clone(), &mut |doc| {
                found.insert(doc);
            });
            let matches = |d: &ModelDoc| values_of(d).iter().any(|v| range.contains(v));
            let expected: BTreeSet<DocId> =
                docs.iter().enumerate().filter(|(_, d)| matches(d)).map(|(i, _)| i as u32).collect();
            assert_eq!(found, expected);
            assert!(points.estimate(range) >= expected.len() as u64);
        }
    }
}

fn check_ordinals(reader: &SegmentReader, docs: &[ModelDoc], number: usize, spec: &FieldSpec) {
    let Some(column) = reader.field(&spec.name).unwrap().ordinals() else {
        assert!(spec.column != ColumnKind::Ordinals);
        return;
    };
    let values_of = |d: &ModelDoc| d.terms.get(&number).into_iter().flatten().cloned().collect::<BTreeSet<String>>();
    let dictionary: Vec<String> = docs.iter().flat_map(values_of).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(column.ordinal_count() as usize, dictionary.len());
    let mut term = Vec::new();
    for (ordinal, expected) in dictionary.iter().enumerate() {
        column.term(ordinal as u32, &mut term);
        assert_eq!(term, expected.as_bytes());
        assert_eq!(column.lookup(expected.as_bytes()), Ok(ordinal as u32));
        assert_eq!(column.lookup(format!("{expected}\0").as_bytes()), Err(ordinal as u32 + 1));
    }
    assert_eq!(column.is_single(), docs.iter().all(|d| values_of(d).len() <= 1));
    let mut found = Vec::new();
    for (doc, d) in docs.iter().enumerate() {
        let expected: Vec<u32> = values_of(d).iter().map(|v| dictionary.binary_search(v).unwrap() as u32).collect();
        column.values(doc as u32, &mut found);
        assert_eq!(found, expected);
        assert_eq!(column.first(doc as u32), expected.first().copied());
    }
}
