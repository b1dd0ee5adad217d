//! The terms of one field of the indexing buffer: a hash table over an arena, each term with its growing postings.
//!
//! What a term's list holds, as varints:
//!
//! - Docs: difference to the document before.
//! - Freqs: per document `difference << 1 | (freq == 1)`, and unless 1 the freq; the last document is still in the record.
//! - Positions: per occurrence `difference << 1 | 1`, then its position, where a document begins; else
//!   `difference to the position before << 1`.

use crate::ids::DocId;
use crate::seed::HashSeed;
use crate::segment::TermsOption;
use crate::write::pool::{List, ListReader, Pool};

/// Terms longer than this are not indexed; parsing refuses documents that have such terms.
pub(crate) const TERM_LEN_MAX: usize = crate::analysis::TERM_BYTES_MAX;
/// Highest position, as in Lucene.
const POSITION_MAX: u32 = i32::MAX as u32 - 128;

#[derive(Clone, Copy, Debug)]
struct Record {
    text: u32,
    len: u16,
    hash: u32,
    list: List,
    last_doc: DocId,
    last_position: u32,
    freq: u32,
    doc_freq: u32,
}

/// Terms in order of arrival.
#[derive(Debug)]
pub(crate) struct TermTable {
    option: TermsOption,
    seed: HashSeed,
    /// Upper half: hash; lower: index of the record + 1, or 0.
    slots: Vec<u64>,
    records: Vec<Record>,
    text: Vec<u8>,
}

impl TermTable {
    pub fn new(option: TermsOption, seed: HashSeed) -> TermTable {
        TermTable { option, seed, slots: vec![0; 16], records: Vec::new(), text: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn memory_bytes(&self) -> usize {
        self.slots.len() * 8 + self.records.capacity() * size_of::<Record>() + self.text.capacity()
    }

    /// Bytes of a term.
    #[inline]
    pub fn term(&self, index: u32) -> &[u8] {
        let record = &self.records[index as usize];
        &self.text[record.text as usize..record.text as usize + record.len as usize]
    }

    /// First eight bytes of a term as a number that sorts like them.
    #[inline]
    pub fn sort_key(&self, index: u32) -> u64 {
        let term = self.term(index);
        let mut key = [0u8; 8];
        let n = term.len().min(8);
        key[..n].copy_from_slice(&term[..n]);
        u64::from_be_bytes(key)
    }

    /// Notes an occurrence. Documents never go down, nor positions within one. The term's index.
    #[inline]
    pub fn add(&mut self, term: &[u8], doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        debug_assert!(term.len() <= TERM_LEN_MAX);
        let hash = (self.seed.hash(term) >> 32) as u32;
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let found = self.slots[slot];
            if found == 0 {
                return self.insert(term, hash, slot, doc, position, pool);
            }
            if (found >> 32) as u32 == hash {
                let index = found as u32 - 1;
                if self.term(index) == term {
                    self.append(index, doc, position, pool);
                    return index;
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn insert(&mut self, term: &[u8], hash: u32, slot: usize, doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        let index = self.records.len() as u32;
        let text = u32::try_from(self.text.len()).expect("an indexing buffer of 4 GiB");
        self.text.extend_from_slice(term);
        let list = if self.option == TermsOption::None { List::default() } else { pool.new_list() };
        let position = position.min(POSITION_MAX);
        self.records.push(Record {
            text,
            len: term.len() as u16,
            hash,
            list,
            last_doc: doc,
            last_position: if self.option == TermsOption::Freqs { 0 } else { position },
            freq: 1,
            doc_freq: 1,
        });
        let list = &mut self.records[index as usize].list;
        match self.option {
            TermsOption::None | TermsOption::Freqs => {}
            TermsOption::Docs => pool.put_varint(list, doc),
            TermsOption::Positions => {
                pool.put_varint(list, doc << 1 | 1);
                pool.put_varint(list, position);
            }
        }
        self.slots[slot] = u64::from(hash) << 32 | u64::from(index + 1);
        if self.records.len() * 2 > self.slots.len() {
            self.grow();
        }
        index
    }

    #[inline]
    fn append(&mut self, index: u32, doc: DocId, position: u32, pool: &mut Pool) {
        let record = &mut self.records[index as usize];
        match self.option {
            TermsOption::None => {}
            TermsOption::Docs => {
                if record.last_doc != doc {
                    pool.put_varint(&mut record.list, doc - record.last_doc);
                    record.last_doc = doc;
                    record.doc_freq += 1;
                }
            }
            TermsOption::Freqs => {
                if record.last_doc == doc {
                    record.freq += 1;
                } else {
                    let delta = record.last_doc - record.last_position;
                    put_freq(&mut record.list, delta, record.freq, pool);
                    // The document before the last; positions are not used.
                    record.last_position = record.last_doc;
                    record.last_doc = doc;
                    record.freq = 1;
                    record.doc_freq += 1;
                }
            }
            TermsOption::Positions => {
                let position = position.min(POSITION_MAX);
                if record.last_doc == doc {
                    let difference = position.saturating_sub(record.last_position);
                    pool.put_varint(&mut record.list, difference << 1);
                    record.last_position += difference;
                } else {
                    pool.put_varint(&mut record.list, (doc - record.last_doc) << 1 | 1);
                    pool.put_varint(&mut record.list, position);
                    record.last_doc = doc;
                    record.last_position = position;
                    record.doc_freq += 1;
                }
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for (i, record) in self.records.iter().enumerate() {
            let mut slot = record.hash as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = u64::from(record.hash) << 32 | (i as u64 + 1);
        }
        self.slots = slots;
    }

    /// Walks the postings of a term.
    pub fn postings<'a>(&self, index: u32, pool: &'a Pool) -> TermPostings<'a> {
        let record = self.records[index as usize];
        TermPostings {
            option: self.option,
            list: pool.read(&record.list),
            doc: 0,
            pending: (self.option == TermsOption::Freqs).then_some((record.last_doc, record.freq)),
            peeked: None,
            positions: Vec::new(),
        }
    }
}

fn put_freq(list: &mut List, delta: u32, freq: u32, pool: &mut Pool) {
    pool.put_varint(list, delta << 1 | u32::from(freq == 1));
    if freq != 1 {
        pool.put_varint(list, freq);
    }
}

/// Postings of one term, document by document.
pub(crate) struct TermPostings<'a> {
    option: TermsOption,
    list: ListReader<'a>,
    doc: DocId,
    pending: Option<(DocId, u32)>,
    /// Code of the next document's first occurrence.
    peeked: Option<u32>,
    /// Of the current document: the first as it is, then differences.
    pub positions: Vec<u32>,
}

impl TermPostings<'_> {
    /// The next document and its frequency; `positions` are its positions.
    #[inline]
    pub fn next(&mut self) -> Option<(DocId, u32)> {
        match self.option {
            TermsOption::None => None,
            TermsOption::Docs => {
                self.doc += self.list.next()?;
                Some((self.doc, 1))
            }
            TermsOption::Freqs => {
                let Some(code) = self.list.next() else { return self.pending.take() };
                self.doc += code >> 1;
                let freq = if code & 1 == 1 { 1 } else { self.list.next().expect("a freq follows") };
                Some((self.doc, freq))
            }
            TermsOption::Positions => {
                let code = self.peeked.take().or_else(|| self.list.next())?;
                self.doc += code >> 1;
                self.positions.clear();
                self.positions.push(self.list.next().expect("a position follows"));
                for code in self.list.by_ref() {
                    if code & 1 == 1 {
                        self.peeked = Some(code);
                        break;
                    }
                    self.positions.push(code >> 1);
                }
                Some((self.doc, self.positions.len() as u32))
            }
        }
    }
}
