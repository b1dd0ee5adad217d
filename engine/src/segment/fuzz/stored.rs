//! Stored rows.

use std::sync::Arc;

use super::{Choices, scatter};
use crate::segment::Codec;
use crate::segment::checks::Checks;
use crate::segment::source_dictionary::SourceDictionary;
use crate::segment::stored::{Packer, SourceCache, SourceWriter, Sources};

const BYTES_MAX: usize = 200_000;
const DOCS_MAX: usize = 2000;

/// Writes rows and reads them back, with both codecs, with a dictionary or without, some taken over as blocks; and reads
/// arbitrary bytes as rows.
#[doc(hidden)]
pub fn fuzz_stored(data: &[u8]) {
    let mut c = Choices(data);
    let mode = c.byte();
    let codec = if mode & 64 != 0 { Codec::BestCompression } else { Codec::Default };
    // What is no dictionary in zstd's format serves as one without tables.
    let content: Vec<u8> = c.bytes(if mode & 32 != 0 { 48 } else { 0 }).to_vec();
    let dictionary = (mode & 32 != 0).then(|| Arc::new(SourceDictionary::new(1, content)));
    match mode % 4 {
        0 => {
            let doc_count = c.number().min(1 << 20) as u32;
            survive(c.rest().to_vec(), codec, dictionary, doc_count, c.clone());
        }
        1 => {
            let asks = Choices(c.bytes(16));
            let mut edits = Choices(c.bytes(64));
            let documents = documents(&mut c);
            let mut image = pack(&documents, codec, dictionary.as_ref());
            edits.damage(&mut image);
            survive(image, codec, dictionary, documents.len() as u32, asks);
        }
        _ => {
            let mut asks = Choices(c.bytes(32));
            let documents = documents(&mut c);
            let rows = open(pack(&documents, codec, dictionary.as_ref()), codec, dictionary.clone(), documents.len());
            compare(&rows, &documents, &mut asks);
            taken_over(&rows, &documents, codec, dictionary, &mut asks);
        }
    }
}

/// Runs of documents: how many, how long, and how alike.
fn documents(c: &mut Choices<'_>) -> Vec<Vec<u8>> {
    let (mut documents, mut bytes) = (Vec::new(), 0);
    while !c.done() && documents.len() < DOCS_MAX && bytes < BYTES_MAX {
        let count = 1 + if c.chance(40) { c.below(300) } else { 0 };
        let len = if c.chance(10) { c.below(60_000) } else { c.below(200) };
        let (kind, text) = (c.byte(), c.below(24));
        let text = c.bytes(text);
        for i in 0..count {
            let random = scatter(i as u64 ^ u64::from(kind) << 32);
            let len = if kind & 1 == 0 { len } else { random as usize % (len + 1) };
            let mut document = Vec::with_capacity(len);
            while document.len() < len {
                let at = document.len() as u64;
                match kind >> 1 & 3 {
                    0 if !text.is_empty() => document.extend_from_slice(text),
                    1 => document.push(b'a' + (scatter(random ^ at) % 4) as u8),
                    2 => document.extend_from_slice(&scatter(random ^ at).to_le_bytes()),
                    _ => document.push(b' '),
                }
            }
            document.truncate(len);
            bytes += len;
            documents.push(document);
            if bytes >= BYTES_MAX {
                break;
            }
        }
    }
    documents
}

fn pack(documents: &[Vec<u8>], codec: Codec, dictionary: Option<&Arc<SourceDictionary>>) -> Vec<u8> {
    let mut writer = SourceWriter::new(Packer::new(codec, dictionary.cloned()));
    let mut image = Vec::new();
    for (i, document) in documents.iter().enumerate() {
        if writer.push(document) && i % 3 == 0 {
            writer.drained(writer.pending.len());
            image.append(&mut writer.pending);
        }
    }
    image.extend_from_slice(&writer.finish());
    image
}

fn open(image: Vec<u8>, codec: Codec, dictionary: Option<Arc<SourceDictionary>>, docs: usize) -> Sources {
    // As the writer does: one that cannot be used is none.
    let usable = Packer::new(codec, dictionary.clone()).packing().dictionary.is_some();
    let dictionary = dictionary.filter(|_| usable);
    Sources::open(&image.into(), codec, dictionary, docs as u32, Checks::default(), "t").expect("it was written")
}

/// Of bytes that may mean anything: an error or some document.
fn survive(
    image: Vec<u8>,
    codec: Codec,
    dictionary: Option<Arc<SourceDictionary>>,
    doc_count: u32,
    mut asks: Choices<'_>,
) {
    let Ok(rows) = Sources::open(&image.into(), codec, dictionary, doc_count, Checks::default(), "t") else { return };
    let mut cache = SourceCache::default();
    let mut out = Vec::new();
    let _ = rows.raw_len();
    let some = (0..doc_count.min(40)).chain((0..20).map(|_| (asks.number() % u64::from(doc_count.max(1))) as u32));
    for doc in some.filter(|&doc| doc < doc_count) {
        let kept = rows.get(doc, &mut cache, &mut out).is_ok().then(|| std::mem::take(&mut out));
        out.clear();
        let alone = rows.get_one(doc, &mut out).is_ok().then(|| std::mem::take(&mut out));
        out.clear();
        assert_eq!(kept, alone);
        if let Ok(Some(block)) = rows.packed_block(doc) {
            assert!(block.docs > 0 && block.docs <= doc_count - doc);
        }
    }
}

fn compare(rows: &Sources, documents: &[Vec<u8>], asks: &mut Choices<'_>) {
    assert_eq!(rows.raw_len(), documents.iter().map(|d| d.len() as u64).sum::<u64>());
    let mut cache = SourceCache::default();
    let mut out = Vec::new();
    for (doc, expected) in (0..).zip(documents) {
        out.clear();
        rows.get(doc, &mut cache, &mut out).expect("it was written");
        assert_eq!(&out, expected);
    }
    for _ in 0..10.min(documents.len()) {
        let doc = asks.number() as usize % documents.len();
        out.clear();
        rows.get_one(doc as u32, &mut out).expect("it was written");
        rows.get(doc as u32, &mut cache, &mut out).expect("it was written");
        assert_eq!(out, documents[doc].repeat(2));
    }
}

/// As a merge does: blocks as they are where they can be, documents where they cannot, some left out.
fn taken_over(
    rows: &Sources,
    documents: &[Vec<u8>],
    codec: Codec,
    dictionary: Option<Arc<SourceDictionary>>,
    asks: &mut Choices<'_>,
) {
    let salt = asks.number();
    let one_in = 1 + asks.number() % 1000;
    let live = |doc: usize| !scatter(doc as u64 ^ salt).is_multiple_of(one_in);
    let mut writer = SourceWriter::new(Packer::new(codec, dictionary.clone()));
    let (mut expected, mut doc) = (Vec::new(), 0);
    while doc < documents.len() {
        if let Some(block) = rows.packed_block(doc as u32).expect("it was written")
            && (doc..doc + block.docs as usize).all(live)
            && writer.takes(rows.packing(), &block)
        {
            writer.push_block(&block);
            expected.extend_from_slice(&documents[doc..doc + block.docs as usize]);
            doc += block.docs as usize;
            continue;
        }
        if live(doc) {
            writer.push(&documents[doc]);
            expected.push(documents[doc].clone());
        }
        doc += 1;
    }
    compare(&open(writer.finish(), codec, dictionary, expected.len()), &expected, asks);
}
