//! Reading everything a segment has, in every way: the body of the fuzz target and of the damage tests.

use fst::Automaton;
use fst::automaton::Str;

use crate::ids::{NO_MORE_DOCS, SegmentId};
use crate::segment::file::repaired;
use crate::segment::reader::{PostingsCursor, SegmentReader, SourceCache, Want};
use crate::store::FileBytes;

/// Opens arbitrary bytes and walks whatever opens. Must not panic. With an odd first byte, header and footer are put right
/// around the others, for a fuzzer does not guess them.
#[doc(hidden)]
pub fn fuzz_segment_open(data: &[u8]) {
    let Some((&mode, bytes)) = data.split_first() else { return };
    let bytes = if mode & 1 == 1 { repaired(bytes, SegmentId(1)) } else { bytes.to_vec() };
    if let Ok(reader) = SegmentReader::open(SegmentId(1), FileBytes::new(bytes)) {
        let _ = reader.verify();
        // All the same: what is damaged must do no harm.
        reader.trust();
        walk(&reader);
    }
}

/// Reads every document, term, posting, position and value.
pub(crate) fn walk(reader: &SegmentReader) {
    let mut cache = SourceCache::default();
    let mut source = Vec::new();
    for doc in 0..reader.doc_count() {
        let _ = reader.lookup_id(reader.id(doc).as_bytes());
        let _ = (reader.seq_no(doc), reader.primary_term(doc), reader.version(doc), reader.routing(doc));
        source.clear();
        let _ = reader.source(doc, &mut cache, &mut source);
    }
    for field in reader.fields() {
        if let Some(index) = field.terms() {
            index.visit_from(b"", &mut |term, info| {
                let _ = index.get(term);
                walk_postings(index.postings(&info, Want::Positions), reader.doc_count());
                true
            });
            index.visit_matching(Str::new("1").starts_with(), &mut |_, _| true);
        }
        let mut values = Vec::new();
        if let Some(column) = field.numbers() {
            for doc in 0..reader.doc_count() {
                let _ = (column.first(doc), column.block_bounds(doc), column.has(doc));
                column.values(doc, &mut values);
            }
            if column.is_single() && column.is_full() {
                column.range(0..reader.doc_count(), &mut values);
                column.gather(&(0..reader.doc_count()).step_by(3).collect::<Vec<_>>(), &mut values);
            }
        }
        let mut ordinals = Vec::new();
        if let Some(column) = field.ordinals() {
            let mut term = Vec::new();
            if column.is_single() && column.is_full() && column.ordinal_count() > 0 {
                column.range(0..reader.doc_count(), &mut ordinals);
                assert!(ordinals.iter().all(|&o| o < column.ordinal_count()));
            }
            for doc in 0..reader.doc_count() {
                column.values(doc, &mut ordinals);
                if let Some(first) = column.first(doc) {
                    assert!(first < column.ordinal_count());
                    column.term(first, &mut term);
                    let _ = column.lookup(&term);
                }
                assert!(ordinals.iter().all(|&o| o < column.ordinal_count()));
            }
        }
        if let Some(points) = field.points() {
            for range in [0..=u64::MAX, 5..=1000] {
                let _ = points.estimate(range.clone());
                points.visit(range, &mut |doc| assert!(doc < reader.doc_count()));
            }
        }
    }
}

fn walk_postings(mut cursor: PostingsCursor<'_>, doc_count: u32) {
    let mut positions = Vec::new();
    let mut steps = 0u32;
    loop {
        let at = cursor.doc();
        let _ = (
            cursor.block_bound(at),
            cursor.next_above(at, 9, |f, _| f == 1),
            cursor.range_bound(at, at.saturating_add(999)),
        );
        let doc = if steps % 7 == 6 { cursor.seek(cursor.doc().saturating_add(steps)) } else { cursor.next() };
        if doc == NO_MORE_DOCS {
            return;
        }
        assert!(doc < doc_count);
        let _ = (cursor.freq(), cursor.list_bound());
        if steps < 1000 {
            cursor.positions(&mut positions);
        }
        steps += 1;
    }
}
