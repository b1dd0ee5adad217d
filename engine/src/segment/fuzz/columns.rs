//! Columns of numbers.

use bytes::Bytes;

use super::{Choices, scatter};
use crate::ids::DocId;
use crate::segment::columns::{ColumnWriter, NumberColumn};

const DOCS_MAX: usize = 6000;
const VALUES_MAX: usize = 20_000;

/// Reads columns, written or arbitrary, in all ways.
#[doc(hidden)]
pub fn fuzz_columns(data: &[u8]) {
    let mut c = Choices(data);
    let mode = c.byte();
    if mode.is_multiple_of(4) {
        let doc_count = c.below(DOCS_MAX) as u32;
        survive(&c.rest().to_vec().into(), doc_count, &mut Choices(&[]));
    } else {
        let mut asks = Choices(c.bytes(16));
        let mut edits = if mode % 4 == 3 { Choices(c.bytes(64)) } else { Choices(&[]) };
        let docs = documents(&mut c);
        let drain = c.chance(30);
        let mut writer = ColumnWriter::new();
        let mut image = Vec::new();
        for values in &docs {
            writer.push(values);
            if drain && !writer.pending.is_empty() {
                writer.drained(writer.pending.len());
                image.append(&mut writer.pending);
            }
        }
        image.extend_from_slice(&writer.finish());
        if mode % 4 == 3 {
            edits.damage(&mut image);
            survive(&image.into(), docs.len() as u32, &mut asks);
        } else {
            compare(&image.into(), &docs, &mut asks);
        }
    }
}

/// Runs of documents: how many, how many values each, and what values.
fn documents(c: &mut Choices<'_>) -> Vec<Vec<u64>> {
    let (mut docs, mut count) = (Vec::new(), 0);
    let mut value = 0u64;
    while !c.done() && docs.len() < DOCS_MAX && count < VALUES_MAX {
        let run = 1 + c.below(256) * if c.chance(25) { 8 } else { 1 };
        let (kind, step, start) = (c.byte(), c.number(), c.number());
        let width = u32::from(c.byte() % 65);
        if kind & 0x80 != 0 {
            value = start;
        }
        for i in 0..run.min(DOCS_MAX - docs.len()) {
            let random = scatter(i as u64 ^ value);
            let n = match kind & 7 {
                0 => 0,
                1..=3 => 1,
                4 => random % 2,
                5 => random % 4,
                6 => u64::from(random.is_multiple_of(64)) * 200,
                _ => 2,
            };
            let mut values: Vec<u64> = (0..n)
                .map(|j| {
                    let noise = scatter(random ^ j).checked_shr(64 - width).unwrap_or(0);
                    match kind >> 3 & 3 {
                        0 => value,
                        1 => value.wrapping_add(noise),
                        2 => value.wrapping_add(noise.wrapping_mul(step)),
                        _ => value.wrapping_add(step.wrapping_mul(i as u64)),
                    }
                })
                .collect();
            values.sort_unstable();
            count += values.len();
            docs.push(values);
        }
    }
    docs
}

fn span(asks: &mut Choices<'_>, doc_count: u32) -> std::ops::Range<DocId> {
    let mut edge = || (asks.number() % (u64::from(doc_count) + 1)) as u32;
    let (a, b) = (edge(), edge());
    a.min(b)..a.max(b)
}

/// Of bytes that may mean anything: no more values than there can be, and blocks that are blocks.
fn survive(image: &Bytes, doc_count: u32, asks: &mut Choices<'_>) {
    let Ok(column) = NumberColumn::open(image, doc_count, "f") else { return };
    assert!(column.present_count() <= doc_count);
    let _ = (column.bounds(), column.value_count());
    let mut values = Vec::new();
    let mut left = 300_000usize;
    for doc in 0..doc_count {
        let _ = (column.has(doc), column.first(doc));
        if doc % 64 == 0 {
            let _ = column.presence_word(doc as usize / 64);
        }
        let (block, _, _) = column.block_bounds(doc);
        assert!(block.contains(&doc) && block.end <= doc_count);
        column.values(doc, &mut values);
        left = left.saturating_sub(values.len());
        if left == 0 {
            break;
        }
    }
    if column.is_single() && column.is_full() {
        let span = span(asks, doc_count);
        for docs in [0..doc_count, span] {
            column.range(docs.clone(), &mut values);
            assert_eq!(values.len(), docs.len());
            let some: Vec<DocId> = docs.step_by(3).collect();
            column.gather(&some, &mut values);
            assert_eq!(values.len(), some.len());
        }
    }
}

fn compare(image: &Bytes, docs: &[Vec<u64>], asks: &mut Choices<'_>) {
    let doc_count = docs.len() as u32;
    let column = NumberColumn::open(image, doc_count, "f").expect("it was written");
    let all: Vec<u64> = docs.iter().flatten().copied().collect();
    assert_eq!(column.is_single(), docs.iter().all(|v| v.len() <= 1));
    assert_eq!(column.is_full(), docs.iter().all(|v| !v.is_empty()));
    assert_eq!(column.bounds(), all.iter().min().map(|&min| (min, all.iter().copied().max().unwrap_or(min))));
    assert_eq!(column.value_count(), all.len() as u64);
    assert_eq!(column.present_count() as usize, docs.iter().filter(|v| !v.is_empty()).count());
    let mut values = Vec::new();
    for (doc, expected) in (0..).zip(docs) {
        assert_eq!(column.first(doc), expected.first().copied());
        assert_eq!(column.has(doc), !expected.is_empty());
        assert_eq!(column.presence_word(doc as usize / 64) >> (doc % 64) & 1 == 1, !expected.is_empty());
        column.values(doc, &mut values);
        assert_eq!(&values, expected);
    }
    let mut doc = 0;
    while doc < doc_count {
        let (block, low, high) = column.block_bounds(doc);
        assert!(block.start == doc && block.end > doc);
        let own = || docs[block.start as usize..block.end as usize].iter().flatten();
        assert_eq!(own().min().is_some(), low <= high);
        if let (Some(&min), Some(&max)) = (own().min(), own().max()) {
            assert_eq!((low, high), (min, max));
        }
        doc = block.end;
    }
    assert_eq!(doc, doc_count);
    if !(column.is_single() && column.is_full()) {
        return;
    }
    for docs in [0..doc_count, span(asks, doc_count), span(asks, doc_count)] {
        column.range(docs.clone(), &mut values);
        assert_eq!(values, all[docs.start as usize..docs.end as usize]);
        let every = 1 + asks.below(20) as u64;
        // Repeats are allowed.
        let some: Vec<DocId> = docs
            .flat_map(|d| vec![d; usize::from(scatter(d.into()).is_multiple_of(every)) * (1 + d as usize % 2)])
            .collect();
        column.gather(&some, &mut values);
        assert!(values.iter().eq(some.iter().map(|&d| &all[d as usize])));
    }
}
