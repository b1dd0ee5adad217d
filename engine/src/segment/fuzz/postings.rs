//! Postings lists.

use super::{Choices, scatter};
use crate::ids::{DocId, NO_MORE_DOCS};
use crate::segment::TermsOption;
use crate::segment::bounds::Shares;
use crate::segment::cursor::{ListContext, PostingsCursor, Want};
use crate::segment::file::DOC_COUNT_MAX;
use crate::segment::postings::{PostingsWriter, TermInfo};

const DOCS_MAX: usize = 6000;
const POSITIONS_MAX: usize = 20_000;
const STEPS_MAX: usize = 1000;

/// A document of a list.
struct Entry {
    doc: DocId,
    freq: u32,
    norm: u8,
    positions: Vec<u32>,
}

/// What a list was written from.
struct Model {
    entries: Vec<Entry>,
    shares: Shares,
}

impl Model {
    /// The entry at `doc` or behind.
    fn index(&self, doc: DocId) -> usize {
        self.entries.partition_point(|e| e.doc < doc)
    }

    fn doc(&self, index: usize) -> DocId {
        self.entries.get(index).map_or(NO_MORE_DOCS, |e| e.doc)
    }

    /// The largest bound of single documents from `from` to `to`.
    fn bound(&self, from: DocId, to: DocId) -> u16 {
        let behind = self.entries.partition_point(|e| e.doc <= to);
        let own = |e: &Entry| self.shares.bound(&[e.freq - 1], &[e.norm]);
        self.entries[self.index(from).min(behind)..behind].iter().map(own).max().unwrap_or(0)
    }
}

/// Walks a list, written or arbitrary, in all ways mixed. Whatever the bytes, documents ascend and stay below the segment's
/// count; of a list that was written, everything is right.
#[doc(hidden)]
pub fn fuzz_postings(data: &[u8]) {
    let mut c = Choices(data);
    let mode = c.byte();
    let option = [TermsOption::Docs, TermsOption::Freqs, TermsOption::Positions][c.below(3)];
    let want = [Want::Docs, Want::Freqs, Want::Positions][c.below(3)];
    if mode.is_multiple_of(3) {
        arbitrary(&mut c, option, want);
    } else {
        written(&mut c, option, want, mode % 3 == 2);
    }
}

fn arbitrary(c: &mut Choices<'_>, option: TermsOption, want: Want) {
    let doc_limit = c.number().min(u64::from(DOC_COUNT_MAX)) as u32;
    let doc_freq = (c.number() as u32).max(1);
    let total_term_freq = u64::from(doc_freq).saturating_add(c.number());
    let steps = c.byte().into();
    let steps = c.bytes(steps);
    let positions = c.below(512);
    let positions = c.bytes(positions);
    let info = TermInfo { doc_freq, total_term_freq, postings: 0, positions: 0 };
    let cursor = PostingsCursor::new(ListContext { option, doc_limit, average: 1.0 }, &info, want, c.rest(), positions);
    walk(cursor, steps, doc_limit, want, None);
}

fn written(c: &mut Choices<'_>, option: TermsOption, want: Want, damaged: bool) {
    let steps = c.byte().into();
    let steps = c.bytes(steps);
    let (lead, position_lead) = (c.below(4), c.below(200));
    let mut edits = if damaged { Choices(c.bytes(64)) } else { Choices(&[]) };
    let entries = entries(c, option);
    let Some(last) = entries.last() else { return };
    let doc_limit = (last.doc + 1 + c.number().min(1000) as u32).min(DOC_COUNT_MAX);
    let norms: Vec<u8> = entries.iter().map(|e| e.norm).collect();
    let shares = Shares::new(Some(&norms));
    let average = shares.average();
    let mut writer = PostingsWriter::new(option, Shares::new(Some(&norms)));
    // Another term's before and behind.
    let (mut list, mut positions) = (vec![0xee; lead], vec![0xee; position_lead]);
    writer.start(positions.len() as u64);
    for e in &entries {
        writer.push(e.doc, e.freq, e.norm, positions.len() as u64);
        if option == TermsOption::Positions {
            let mut before = 0;
            for &position in &e.positions {
                writer.push_position(position - before, &mut positions);
                before = position;
            }
        }
    }
    let position = positions.len() as u64;
    let mut info = writer.finish(lead as u64, &mut list, position, &mut positions);
    assert_eq!(info.doc_freq as usize, entries.len());
    assert_eq!((info.postings, info.positions), (lead as u64, position_lead as u64));
    if damaged {
        edits.damage(&mut list);
        edits.damage(&mut positions);
        if edits.chance(30) {
            info.doc_freq = (edits.number() as u32).max(1);
            info.total_term_freq = u64::from(info.doc_freq).saturating_add(edits.number());
        }
    } else {
        list.extend_from_slice(&[0xdd; 3]);
        positions.extend_from_slice(&[0xdd; 3]);
    }
    let context = ListContext { option, doc_limit, average };
    let at = |bytes: &'_ [u8], start: u64| start.min(bytes.len() as u64) as usize;
    let (list, positions) = (&list[at(&list, info.postings)..], &positions[at(&positions, info.positions)..]);
    let model = Model { entries, shares };
    let cursor = || PostingsCursor::new(context, &info, want, list, positions);
    if damaged {
        return walk(cursor(), steps, doc_limit, want, None);
    }
    walk(cursor(), steps, doc_limit, want, Some((&model, option)));
    let mut by_next = cursor();
    for e in &model.entries {
        assert_eq!(by_next.next(), e.doc);
    }
    assert_eq!(by_next.next(), NO_MORE_DOCS);
    let bound = by_next.list_bound();
    assert!(bound.is_none_or(|bound| bound >= model.bound(0, NO_MORE_DOCS)));
}

/// Runs of documents, each of a few bytes.
fn entries(c: &mut Choices<'_>, option: TermsOption) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (mut next, mut positions_left) = (0u64, POSITIONS_MAX);
    while !c.done() && entries.len() < DOCS_MAX {
        let count = 1 + c.below(256) * if c.chance(20) { 8 } else { 1 };
        let (gap, gaps) = (c.number() % (1 << 28), mask(c));
        let (freqs, norms, norm) = (mask(c), c.byte(), c.byte().max(1));
        let steps = mask(c);
        for i in 0..count.min(DOCS_MAX - entries.len()) {
            let random = scatter(next << 16 | i as u64);
            let doc = next + gap + (random & gaps);
            if doc >= u64::from(DOC_COUNT_MAX) {
                return entries;
            }
            let freq = match option {
                TermsOption::Freqs => 1 + (random >> 8 & freqs) as u32,
                TermsOption::Positions => 1 + (random >> 8 & freqs & 0xfff).min(positions_left as u64) as u32,
                _ => 1,
            };
            let mut positions = Vec::new();
            if option == TermsOption::Positions {
                positions_left = positions_left.saturating_sub(freq as usize);
                let mut at = 0u32;
                for p in 0..freq {
                    at = at.saturating_add((scatter(random ^ u64::from(p)) & steps.min(0x7fff_ffff)) as u32);
                    positions.push(at);
                }
            }
            let norm = (norm ^ ((random >> 40) as u8 & norms)).max(1);
            entries.push(Entry { doc: doc as u32, freq, norm, positions });
            next = doc + 1;
        }
    }
    entries
}

/// Some low bits, at most 27, usually few; at times with a few values far above the others.
fn mask(c: &mut Choices<'_>) -> u64 {
    match c.byte() {
        b @ 0..128 => (1 << (b % 6)) - 1,
        b => (1 << (b % 28)) - 1,
    }
}

/// Checks what every answer must be.
struct Watched<'a, 'm> {
    cursor: PostingsCursor<'a>,
    limit: DocId,
    model: Option<(&'m Model, TermsOption)>,
    /// Where the cursor stands, once it stands somewhere.
    at: Option<DocId>,
}

impl Watched<'_, '_> {
    /// The cursor moved on to `doc`; of all that were possible, `target` was the least.
    fn moved(&mut self, doc: DocId, target: DocId) {
        assert!(doc == NO_MORE_DOCS || doc < self.limit, "{doc} is not below {}", self.limit);
        assert!(doc >= target, "{doc} is before {target}");
        assert_eq!(doc, self.cursor.doc());
        if let Some((model, _)) = self.model {
            assert_eq!(doc, model.doc(model.index(target)));
        }
        self.at = Some(doc);
    }

    fn next(&mut self) {
        let target = self.at.map_or(0, |d| d.saturating_add(1));
        let doc = self.cursor.next();
        self.moved(doc, target);
    }

    fn seek(&mut self, target: DocId) {
        let doc = self.cursor.seek(target);
        self.moved(doc, target.max(self.at.unwrap_or(0)));
    }

    fn set_bits<const LANES: usize, const WORDS: usize>(&mut self, back: u32) {
        let at = self.at.expect("it stands somewhere");
        let base = (at & !63).saturating_sub(back * 64);
        let end = base.saturating_add(WORDS as u32 * 64);
        let mut words = [[0u64; WORDS]; LANES];
        self.cursor.set_bits(base, &mut words);
        let doc = self.cursor.doc();
        for i in 0..WORDS {
            let word = words.iter().fold(0, |all, lane| all | lane[i]);
            let start = base + i as u32 * 64;
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                assert!(start + bit >= at && start + bit < self.limit);
            }
            if let Some((model, _)) = self.model {
                let from = model.index(start.max(at));
                let docs = model.entries[from..].iter().map(|e| e.doc).take_while(|&d| d < start.saturating_add(64));
                assert_eq!(word, docs.fold(0, |word, d| word | 1 << (d % 64)));
            }
        }
        self.moved(doc, at.max(end));
    }

    fn block(&mut self, with_freqs: bool, on: usize) {
        let at = self.at.expect("it stands somewhere");
        let docs = if with_freqs {
            let (docs, freqs) = self.cursor.block();
            assert_eq!(docs.len(), freqs.len());
            if let Some((model, option)) = self.model
                && option >= TermsOption::Freqs
            {
                let from = model.index(at);
                assert!(freqs.iter().eq(model.entries[from..from + freqs.len()].iter().map(|e| &e.freq)));
            }
            docs
        } else {
            self.cursor.block_docs()
        };
        let docs = docs.to_vec();
        assert_eq!(docs.is_empty(), at == NO_MORE_DOCS);
        assert!(docs.is_sorted_by(|a, b| a < b) && docs.first().is_none_or(|&d| d == at));
        assert!(docs.last().is_none_or(|&d| d < self.limit));
        assert_eq!(self.cursor.block_last(), docs.last().copied());
        if let Some((model, _)) = self.model {
            let from = model.index(at);
            assert!(docs.iter().eq(model.entries[from..from + docs.len()].iter().map(|e| &e.doc)));
        }
        if let Some(&last) = docs.last() {
            let count = on % (docs.len() + 1);
            let target = docs.get(count).copied().unwrap_or(last + 1);
            let doc = self.cursor.advance(count);
            self.moved(doc, target);
        }
    }

    /// What is known of the current document.
    fn here(&mut self, want: Want, out: &mut Vec<u32>) {
        let at = self.at.expect("it stands somewhere");
        if at == NO_MORE_DOCS {
            return;
        }
        if let Some(bitmap) = self.cursor.bitmap() {
            let (found, index) = bitmap.find(at);
            assert!(found && usize::from(index) == self.cursor.block_index());
        }
        let index = self.cursor.block_index();
        assert_eq!(self.cursor.whole_block()[index], at);
        if want == Want::Docs {
            return;
        }
        let freq = self.cursor.freq();
        assert_eq!(freq, self.cursor.block_freqs()[index]);
        if want == Want::Positions {
            self.cursor.positions(out);
        }
        if let Some((model, option)) = self.model {
            let entry = &model.entries[model.index(at)];
            assert_eq!(freq, entry.freq);
            if want == Want::Positions && option == TermsOption::Positions {
                assert_eq!(*out, entry.positions);
            }
        }
    }

    /// Bounds from `target` on.
    fn bounds(&mut self, target: DocId, ahead: u32, floor: u16, few: u8) {
        let to = target.saturating_add(ahead);
        let range = self.cursor.range_bound(target, to);
        let block = self.cursor.block_bound(target);
        let next = self.cursor.next_above(target, floor, |freq, _| freq <= few);
        assert!(next >= target);
        let Some((model, _)) = self.model else { return };
        assert!(range.is_none_or(|bound| bound >= model.bound(target, to)));
        if let Some((last, bound)) = block {
            assert!(last >= target && bound >= model.bound(target, last));
        } else {
            assert!(next == target || model.index(target) == model.entries.len());
        }
        let skipped = model.index(target)..model.index(next);
        for e in &model.entries[skipped] {
            assert!(model.shares.bound(&[e.freq - 1], &[e.norm]) <= floor || e.freq <= few.into());
        }
    }
}

fn walk(cursor: PostingsCursor<'_>, steps: &[u8], limit: DocId, want: Want, model: Option<(&Model, TermsOption)>) {
    let mut watched = Watched { cursor, limit, model, at: None };
    let mut positions = Vec::new();
    for round in 0..STEPS_MAX {
        let (Some(&step), at) = (steps.get(round % steps.len().max(1)).or(Some(&0)), watched.at) else { return };
        let random = scatter(round as u64) >> 20;
        let far = match step >> 4 & 3 {
            0 => 1,
            1 => (random % 100) as u32,
            2 => (random % 5000) as u32,
            _ => (random % 5_000_000) as u32,
        };
        match (step & 15, at) {
            (5..=7, _) => watched.seek(at.unwrap_or(0).saturating_add(far).min(NO_MORE_DOCS - 1)),
            (8, Some(at)) if at != NO_MORE_DOCS => watched.set_bits::<1, 64>(step as u32 >> 6),
            (9, Some(at)) if at != NO_MORE_DOCS => watched.set_bits::<4, 16>(step as u32 >> 6),
            (10, Some(_)) => watched.block(true, random as usize),
            (11, Some(_)) => watched.block(false, random as usize),
            (12, Some(_)) => watched.here(want, &mut positions),
            (13 | 14, Some(at)) if at != NO_MORE_DOCS => {
                let few = if step & 15 == 14 { step >> 6 } else { 0 };
                watched.bounds(at, far, (random >> 16) as u16, few);
            }
            _ => watched.next(),
        }
        if watched.at == Some(NO_MORE_DOCS) && round % 8 == 7 {
            return;
        }
    }
}
