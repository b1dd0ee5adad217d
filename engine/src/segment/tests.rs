//! What a segment promises, against the model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::error::Error;
use crate::ids::SegmentId;
use crate::segment::Codec;
use crate::segment::file::{BlockChecksums, FOOTER_LEN};
use crate::segment::model::{Random, build, check, open, random_docs};
use crate::segment::reader::{Numbering, SegmentReader};
use crate::segment::walk::walk;
use crate::store::FileBytes;

fn round_trip(seed: u64, count: usize) {
    let mut r = Random(seed);
    let docs = random_docs(&mut r, count, 10);
    let codec = if seed.is_multiple_of(3) { Codec::BestCompression } else { Codec::Default };
    let (image, live) = build(&docs, 3, codec);
    let reader = open(image, 3);
    check(&reader, &docs, &mut r);
    walk(&reader);
    assert_eq!(live.is_some(), docs.iter().any(|d| d.deleted));
    if let Some(live) = live {
        assert!(docs.iter().enumerate().all(|(i, d)| live.is_live(i as u32) != d.deleted));
    }
}

#[test]
fn empty_segment_opens() {
    let (image, live) = build(&[], 1, Codec::Default);
    let reader = open(image, 1);
    assert!(live.is_none() && reader.doc_count() == 0 && reader.lookup_id(b"x") == Ok(None));
    walk(&reader);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn small_segments_answer_like_the_model(seed in any::<u64>(), count in 1usize..150) {
        round_trip(seed, count);
    }

    #[test]
    fn damage_is_an_error_or_a_wrong_answer_but_never_a_panic(seed in any::<u64>(), count in 1usize..300, cut in any::<u32>()) {
        let mut r = Random(seed);
        let (image, _) = build(&random_docs(&mut r, count, 0), 1, Codec::Default);
        let cut = cut as usize % image.len();
        prop_assert!(SegmentReader::open(SegmentId(1), FileBytes::new(image[..cut].to_vec())).is_err());
        for _ in 0..40 {
            let mut bad = image.clone();
            let mut at = r.below(image.len() as u64) as usize;
            for _ in 0..1 + r.below(8) {
                bad[at] = r.below(256) as u8;
                at = (at + 1).min(image.len() - 1);
            }
            if let Ok(reader) = SegmentReader::open(SegmentId(1), FileBytes::new(bad.clone())) {
                prop_assert!(bad == image || reader.verify().is_err());
                walk(&reader);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn segments_of_many_blocks_answer_like_the_model(seed in any::<u64>(), count in 1000usize..3000) {
        round_trip(seed, count);
    }

    #[test]
    fn one_damaged_bit_never_makes_another_document(seed in any::<u64>(), count in 1000usize..2000) {
        let mut r = Random(seed);
        let docs = random_docs(&mut r, count, 0);
        let (image, _) = build(&docs, 1, Codec::Default);
        let newest: BTreeMap<&str, u32> = docs.iter().zip(0..).map(|(doc, at)| (doc.id.as_str(), at)).collect();
        let (mut found, mut right) = (0, 0);
        for _ in 0..300 {
            let mut bad = image.clone();
            bad[r.below(image.len() as u64) as usize] ^= 1 << r.below(8);
            let Ok(reader) = SegmentReader::open(SegmentId(1), FileBytes::new(bad)) else {
                found += 1;
                continue;
            };
            let mut damaged = 0;
            for _ in 0..20 {
                let (id, at) = newest.iter().nth(r.below(newest.len() as u64) as usize).unwrap();
                let doc = &docs[*at as usize];
                let mut source = Vec::new();
                let mut read = || {
                    assert_eq!(reader.lookup_id(id.as_bytes())?, Some(*at));
                    assert_eq!(reader.lookup_id(format!("{id}x").as_bytes())?, None);
                    assert_eq!(reader.address(*at)?, (*id, doc.routing.as_deref()));
                    let Numbering { version, seq_no, term } = reader.numbering(*at)?;
                    assert_eq!((version.0, seq_no.0, term.0), (doc.version, doc.seq_no, doc.term));
                    reader.source_once(*at, &mut source)?;
                    assert_eq!(source, doc.source);
                    Ok::<(), Error>(())
                };
                damaged += u32::from(read().is_err());
            }
            prop_assert_eq!(reader.damage().is_some(), damaged > 0);
            found += u32::from(damaged > 0);
            right += u32::from(damaged == 0);
        }
        prop_assert!(found > 0 && right > 0, "{} {}", found, right);
    }

    #[test]
    fn bytes_hashed_as_they_come_are_as_good_as_read_again(seed in any::<u64>(), count in 1000usize..2000) {
        let mut r = Random(seed);
        let (image, _) = build(&random_docs(&mut r, count, 0), 1, Codec::Default);
        let reader = open(image.clone(), 1);
        prop_assert!(reader.blocks() > 3);
        let (id, len) = (SegmentId(1), image.len() as u64);
        for damaged in [false, true, true, true, true] {
            let mut came = image.clone();
            let at = r.below(len) as usize;
            came[at] ^= u8::from(damaged) << r.below(8);
            let (mut hashed, mut rest) = (BlockChecksums::default(), &came[..]);
            while !rest.is_empty() {
                let (some, more) = rest.split_at(rest.len().min(1 + r.below(200_000) as usize));
                hashed.update(some);
                rest = more;
            }
            let found = BlockChecksums::tail_at(id, &came[came.len() - FOOTER_LEN..], len)
                .and_then(|tail_at| hashed.verify(id, &came[tail_at as usize..], len));
            prop_assert_eq!(found.ok(), (!damaged).then_some(reader.meta().crc), "at {}", at);
        }
        let tail = &image[BlockChecksums::tail_at(id, &image[image.len() - FOOTER_LEN..], len).unwrap() as usize..];
        prop_assert!(BlockChecksums::default().verify(id, tail, len).is_err(), "nothing was hashed");
    }
}
