//! Dictionaries.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use fst::Automaton;
use fst::automaton::{Str, Subsequence};

use super::{Choices, scatter};
use crate::segment::dictionary::{Dictionary, DictionaryWriter};
use crate::segment::extents::Stream;
use crate::segment::postings::TermInfo;
use crate::segment::term_walk::{Plain, TermWalk};

const TERMS_MAX: usize = 3000;
const BYTES_MAX: usize = 100_000;
/// Terms of an arbitrary dictionary that are looked at.
const LOOKS_MAX: usize = 500;

/// Asks dictionaries, written or arbitrary, for terms that are there and for some that are not.
#[doc(hidden)]
pub fn fuzz_dictionary(data: &[u8]) {
    let mut c = Choices(data);
    let mode = c.byte();
    let with_infos = mode & 64 != 0;
    if mode.is_multiple_of(3) {
        arbitrary(&mut c, with_infos);
    } else {
        written(&mut c, with_infos, mode % 3 == 2);
    }
}

fn arbitrary(c: &mut Choices<'_>, with_infos: bool) {
    let probes = probes(c);
    let mut index = c.number().to_le_bytes().to_vec();
    let index_len = c.below(600);
    index.extend_from_slice(c.bytes(index_len));
    let extents = c.below(4);
    let mut table = (extents as u32).to_le_bytes().to_vec();
    let mut logical = 0u64;
    for _ in 0..extents {
        let (place, len) = (c.number(), c.number());
        [logical, place, len].iter().for_each(|n| table.extend_from_slice(&n.to_le_bytes()));
        logical = logical.wrapping_add(len);
    }
    let section = c.rest().to_vec().into();
    let Some(stream) = Stream::open(&section, &table) else { return };
    survive(stream, index, with_infos, &probes);
}

/// Strings to ask for.
fn probes(c: &mut Choices<'_>) -> Vec<Vec<u8>> {
    let count = c.below(6);
    let mut probe = || {
        let len = c.below(20);
        c.bytes(len).to_vec()
    };
    (0..count).map(|_| probe()).collect()
}

/// Of bytes that may mean anything: answers that do not contradict themselves.
fn survive(stream: Stream, index: Vec<u8>, with_infos: bool, probes: &[Vec<u8>]) {
    let Some(dictionary) = Dictionary::open(stream, index.into(), with_infos) else { return };
    let mut left = LOOKS_MAX;
    let mut term = Vec::new();
    dictionary.visit_ordinals(0, &mut |ordinal, found| {
        assert!(ordinal < dictionary.len());
        if let Some((ordinal, info)) = dictionary.get(found) {
            assert!(ordinal < dictionary.len() && (info.doc_freq > 0 || !with_infos));
            assert!(info.total_term_freq >= u64::from(info.doc_freq));
        }
        dictionary.term(ordinal, &mut term);
        left -= 1;
        left > 0
    });
    for probe in probes {
        let (Ok(ordinal) | Err(ordinal)) = dictionary.lookup(probe);
        assert!(ordinal <= dictionary.len());
        if let Some((_, found)) = dictionary.seek(probe).peek() {
            assert!(found >= probe.as_slice());
        }
        let _ = dictionary.get(probe);
        let Ok(text) = std::str::from_utf8(probe) else { continue };
        let mut left = LOOKS_MAX;
        let mut visit = |_: &[u8], _: TermInfo| {
            left -= 1;
            left > 0
        };
        matching(&dictionary, &Str::new(text).starts_with(), &mut visit);
        let mut left = LOOKS_MAX;
        matching(&dictionary, &Subsequence::new(text), &mut |found, _| {
            let mut rest = found.iter();
            assert!(text.bytes().all(|b| rest.any(|&r| r == b)));
            left -= 1;
            left > 0
        });
    }
    for from in [dictionary.len() / 2, dictionary.len().saturating_sub(1), dictionary.len(), u64::MAX] {
        dictionary.visit_ordinals(from, &mut |ordinal, _| {
            assert!(ordinal >= from);
            false
        });
        dictionary.term(from, &mut term);
    }
}

fn matching<A: Automaton>(dictionary: &Dictionary, automaton: &A, visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) {
    TermWalk::new(dictionary).run(&mut Plain::new(automaton), usize::MAX, visit);
}

fn written(c: &mut Choices<'_>, with_infos: bool, damaged: bool) {
    let probes = probes(c);
    let mut edits = if damaged { Choices(c.bytes(64)) } else { Choices(&[]) };
    let extent_len = 64 + c.below(4096);
    let terms = terms(c);
    let mut model: BTreeMap<Vec<u8>, TermInfo> = BTreeMap::new();
    let (mut postings, mut positions) = (c.number() >> 8, c.number() >> 8);
    let widths = [c.byte() % 31, c.byte() % 40, c.byte() % 40, c.byte() % 40];
    for (n, term) in terms.into_iter().enumerate() {
        let random = widths.map(|width| scatter(n as u64 ^ u64::from(width) << 40) & ((1 << width) - 1));
        let doc_freq = random[0] as u32 + 1;
        let info = TermInfo { doc_freq, total_term_freq: u64::from(doc_freq) + random[1], postings, positions };
        postings += random[2];
        positions += random[3];
        model.insert(term, if with_infos { info } else { TermInfo::default() });
    }
    let mut writer = DictionaryWriter::new(with_infos);
    let mut bytes = Vec::new();
    // Where a block begins an extent may.
    let mut starts = vec![0];
    let mut cut = |len: usize| {
        if len >= starts[starts.len() - 1] + extent_len {
            starts.push(len);
        }
    };
    for (term, &info) in &model {
        writer.push(term, info, bytes.len() as u64, &mut bytes);
        cut(bytes.len());
    }
    writer.finish(bytes.len() as u64, &mut bytes);
    let mut index = Vec::new();
    writer.write_index(&mut index);
    if damaged {
        edits.damage(&mut bytes);
        edits.damage(&mut index);
        starts.truncate(1);
    }
    let stream = scattered(&bytes, &starts);
    if damaged {
        return survive(stream, index, with_infos, &probes);
    }
    let dictionary = Dictionary::open(stream, index.into(), with_infos).expect("it was written");
    compare(&dictionary, &model, with_infos);
    let mut asked = probes;
    for n in 0..6 {
        let Some(term) = model.keys().nth(scatter(n) as usize % model.len().max(1)) else { break };
        asked.push([&term[..], &[0]].concat());
        asked.push(term[..term.len() - term.len().min(1)].to_vec());
        asked.push(term.iter().enumerate().map(|(i, &b)| if i + 1 == term.len() { b ^ 1 } else { b }).collect());
    }
    for probe in &asked {
        ask(&dictionary, &model, probe);
    }
}

/// The extents of a stream, the last one first in the section, with a gap before each.
fn scattered(bytes: &[u8], starts: &[usize]) -> Stream {
    let (mut section, mut entries) = (Vec::new(), Vec::new());
    for (i, &start) in starts.iter().enumerate().rev() {
        let end = starts.get(i + 1).copied().unwrap_or(bytes.len());
        section.extend_from_slice(b"gap");
        entries.push([start, section.len(), end - start]);
        section.extend_from_slice(&bytes[start..end]);
    }
    let mut table = (starts.len() as u32).to_le_bytes().to_vec();
    entries.iter().rev().flatten().for_each(|&n| table.extend_from_slice(&(n as u64).to_le_bytes()));
    Stream::open(&section.into(), &table).expect("it was written")
}

/// Every term is where it should be.
fn compare(dictionary: &Dictionary, model: &BTreeMap<Vec<u8>, TermInfo>, with_infos: bool) {
    assert_eq!(dictionary.len(), model.len() as u64);
    let mut visited = model.keys().zip(0u64..);
    dictionary.visit_ordinals(0, &mut |ordinal, term| {
        assert_eq!(visited.next(), Some((&term.to_vec(), ordinal)));
        true
    });
    assert!(visited.next().is_none());
    let mut found = Vec::new();
    let mut cursor = dictionary.iter();
    for (ordinal, (term, &info)) in (0..).zip(model) {
        assert_eq!(dictionary.lookup(term), Ok(ordinal));
        dictionary.term(ordinal, &mut found);
        assert_eq!(&found, term);
        let (at, own) = dictionary.get(term).expect("it was written");
        assert_eq!(at, ordinal);
        assert_eq!(cursor.peek(), Some((ordinal, term.as_slice())));
        let stepped = cursor.consume();
        if with_infos {
            assert_eq!((own, stepped), (info, info));
        }
    }
    assert_eq!(cursor.peek(), None);
}

fn from<'a>(model: &'a BTreeMap<Vec<u8>, TermInfo>, term: &[u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a TermInfo)> {
    model.range::<[u8], _>((Included(term), Unbounded))
}

/// Whatever is asked, the answer is the model's.
fn ask(dictionary: &Dictionary, model: &BTreeMap<Vec<u8>, TermInfo>, probe: &[u8]) {
    let below = model.range::<[u8], _>((Unbounded, Excluded(probe))).count() as u64;
    let there = model.contains_key(probe);
    assert_eq!(dictionary.get(probe).map(|(ordinal, _)| ordinal), there.then_some(below));
    assert_eq!(dictionary.lookup(probe), if there { Ok(below) } else { Err(below) });
    let mut cursor = dictionary.seek(probe);
    for (ordinal, (term, _)) in (below..).zip(from(model, probe)).take(70) {
        assert_eq!(cursor.peek(), Some((ordinal, term.as_slice())));
        cursor.consume();
    }
    let mut rest = (below..).zip(from(model, probe)).take(70);
    dictionary.visit_ordinals(below, &mut |ordinal, term| {
        rest.next().is_some_and(|expected| {
            assert_eq!(expected.0, ordinal);
            assert_eq!(expected.1.0, term);
            true
        })
    });
    let Ok(text) = std::str::from_utf8(probe) else { return };
    let mut expected = model.keys().filter(|t| t.starts_with(probe));
    matching(dictionary, &Str::new(text).starts_with(), &mut |term, _| {
        assert_eq!(expected.next().map(Vec::as_slice), Some(term));
        true
    });
    assert!(expected.next().is_none());
    let within = |term: &&Vec<u8>| {
        let mut rest = term.iter();
        probe.iter().all(|b| rest.any(|r| r == b))
    };
    let mut expected = model.keys().filter(within);
    matching(dictionary, &Subsequence::new(text), &mut |term, _| {
        assert_eq!(expected.next().map(Vec::as_slice), Some(term));
        true
    });
    assert!(expected.next().is_none());
}

/// Runs of strings, each of a few bytes: a part of the string before, something new, and a count.
fn terms(c: &mut Choices<'_>) -> Vec<Vec<u8>> {
    let mut terms: Vec<Vec<u8>> = Vec::new();
    let (mut before, mut bytes) = (Vec::new(), 0);
    while !c.done() && terms.len() < TERMS_MAX && bytes < BYTES_MAX {
        let kept = c.below(before.len() + 1);
        before.truncate(kept);
        let new = c.below(12);
        before.extend_from_slice(c.bytes(new));
        if c.chance(10) {
            let filler = [c.byte()].repeat(c.below(1000));
            before.extend_from_slice(&filler);
        }
        before.truncate(3000);
        let count = if c.chance(60) { c.below(100) } else { 1 };
        let digits = 1 + c.below(3);
        for i in 0..count {
            let mut term = before.clone();
            if count > 1 {
                let number = scatter(i as u64).to_be_bytes();
                term.extend_from_slice(if kept.is_multiple_of(2) { &number[..digits] } else { &number[8 - digits..] });
            }
            bytes += term.len();
            terms.push(term);
        }
    }
    terms.sort();
    terms.dedup();
    terms
}
