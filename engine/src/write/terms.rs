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
use crate::write::pool::{List, ListReader, ListState, Pool, prefetch};

/// Terms longer than this are not indexed; parsing refuses documents that have such terms.
pub(crate) const TERM_LEN_MAX: usize = crate::analysis::TERM_BYTES_MAX;
/// Highest position, as in Lucene.
const POSITION_MAX: u32 = i32::MAX as u32 - 128;

/// Bytes of a term that its record holds itself.
const PREFIX: usize = 8;
/// How many tokens ahead of their turn a batch asks the memory for a term's record, and for the end of its list.
const RECORD_AHEAD: usize = 8;
const LIST_AHEAD: usize = 4;

/// Half a cache line. Only what an occurrence needs.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Record {
    /// The term's first bytes, zeros behind its end.
    prefix: [u8; PREFIX],
    /// Where the whole term is, if it is longer than `prefix`.
    text: u32,
    len: u16,
    list_state: ListState,
    list_head: u32,
    list_next: u32,
    last_doc: DocId,
    /// Freqs: the document before the last.
    last_position: u32,
}

const _: () = assert!(size_of::<Record>() == 32);

impl Record {
    #[inline]
    fn list(&self) -> List {
        List { head: self.list_head, next: self.list_next, state: self.list_state }
    }

    #[inline]
    fn set_list(&mut self, list: List) {
        (self.list_head, self.list_next, self.list_state) = (list.head, list.next, list.state);
    }
}

/// The first bytes of a term, zeros behind its end.
#[inline]
fn prefix_of(term: &[u8]) -> [u8; PREFIX] {
    if let Some(first) = term.first_chunk::<PREFIX>() {
        return *first;
    }
    let n = term.len();
    let word = if let (Some(low), Some(high)) = (term.first_chunk::<4>(), term.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << ((n - 4) * 8)
    } else if n > 0 {
        u64::from(term[0]) | u64::from(term[n / 2]) << (n / 2 * 8) | u64::from(term[n - 1]) << ((n - 1) * 8)
    } else {
        0
    };
    word.to_le_bytes()
}

/// Tokens of one value on their way into the table.
#[derive(Debug, Default)]
pub(crate) struct TokenBatch {
    text: Vec<u8>,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    /// In `text`.
    end: u32,
    hash: u32,
    position: u32,
}

impl TokenBatch {
    /// Tokens after which a batch should be added to the table: its tokens' records fit the first-level cache.
    pub const LEN: usize = 256;

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.tokens.capacity() * size_of::<Token>()
    }
}

/// Terms in order of arrival.
#[derive(Debug)]
pub(crate) struct TermTable {
    option: TermsOption,
    seed: HashSeed,
    /// Upper half: hash; lower: index of the record + 1, or 0.
    slots: Vec<u64>,
    records: Vec<Record>,
    /// Freqs: occurrences in each term's last document.
    freqs: Vec<u32>,
    text: Vec<u8>,
}

impl TermTable {
    pub fn new(option: TermsOption, seed: HashSeed) -> TermTable {
        TermTable { option, seed, slots: vec![0; 16], records: Vec::new(), freqs: Vec::new(), text: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn memory_bytes(&self) -> usize {
        self.slots.len() * 8
            + self.records.capacity() * size_of::<Record>()
            + self.freqs.capacity() * 4
            + self.text.capacity()
    }

    /// Bytes of a term.
    #[inline]
    pub fn term(&self, index: u32) -> &[u8] {
        let record = &self.records[index as usize];
        let len = record.len as usize;
        if len <= PREFIX { &record.prefix[..len] } else { &self.text[record.text as usize..record.text as usize + len] }
    }

    /// First eight bytes of a term as a number that sorts like them.
    #[inline]
    pub fn sort_key(&self, index: u32) -> u64 {
        u64::from_be_bytes(self.records[index as usize].prefix)
    }

    #[inline]
    fn hash(&self, term: &[u8]) -> u32 {
        (self.seed.hash(term) >> 32) as u32
    }

    /// Puts a token into `batch`; [`add_batch`](Self::add_batch) notes it.
    #[inline]
    pub fn enqueue(&self, batch: &mut TokenBatch, term: &[u8], position: u32) {
        debug_assert!(term.len() <= TERM_LEN_MAX);
        let hash = self.hash(term);
        prefetch(&self.slots, hash as usize & (self.slots.len() - 1));
        batch.text.extend_from_slice(term);
        batch.tokens.push(Token { end: batch.text.len() as u32, hash, position });
    }

    /// Notes the occurrences of a batch, and empties it. As [`add`](Self::add), only that waiting for memory overlaps.
    pub fn add_batch(&mut self, batch: &mut TokenBatch, doc: DocId, base: u32, pool: &mut Pool) {
        let record_of = |table: &TermTable, token: &Token| {
            let slot = table.slots[token.hash as usize & (table.slots.len() - 1)];
            (slot as u32).checked_sub(1)
        };
        let mut start = 0;
        for (i, token) in batch.tokens.iter().enumerate() {
            if let Some(index) = batch.tokens.get(i + RECORD_AHEAD).and_then(|t| record_of(self, t)) {
                prefetch(&self.records, index as usize);
            }
            if let Some(index) = batch.tokens.get(i + LIST_AHEAD).and_then(|t| record_of(self, t)) {
                pool.prefetch(self.records[index as usize].list_next);
            }
            let term = &batch.text[start..token.end as usize];
            self.add_hashed(term, token.hash, doc, base.saturating_add(token.position), pool);
            start = token.end as usize;
        }
        batch.tokens.clear();
        batch.text.clear();
    }

    /// Notes an occurrence. Documents never go down, nor positions within one. The term's index.
    #[inline]
    pub fn add(&mut self, term: &[u8], doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        debug_assert!(term.len() <= TERM_LEN_MAX);
        self.add_hashed(term, self.hash(term), doc, position, pool)
    }

    #[inline]
    fn add_hashed(&mut self, term: &[u8], hash: u32, doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        let prefix = prefix_of(term);
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let found = self.slots[slot];
            if found == 0 {
                return self.insert(term, hash, slot, doc, position, pool);
            }
            if (found >> 32) as u32 == hash {
                let index = found as u32 - 1;
                let record = &self.records[index as usize];
                if record.prefix == prefix
                    && record.len as usize == term.len()
                    && (term.len() <= PREFIX || self.term(index) == term)
                {
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
        if term.len() > PREFIX {
            self.text.extend_from_slice(term);
        }
        let position = position.min(POSITION_MAX);
        let mut list = if self.option == TermsOption::None { List::default() } else { pool.new_list() };
        match self.option {
            TermsOption::None => {}
            TermsOption::Freqs => self.freqs.push(1),
            TermsOption::Docs => pool.put_varint(&mut list, doc),
            TermsOption::Positions => {
                pool.put_varint(&mut list, doc << 1 | 1);
                pool.put_varint(&mut list, position);
            }
        }
        self.records.push(Record {
            prefix: prefix_of(term),
            text,
            len: term.len() as u16,
            list_state: list.state,
            list_head: list.head,
            list_next: list.next,
            last_doc: doc,
            last_position: if self.option == TermsOption::Freqs { 0 } else { position },
        });
        self.slots[slot] = u64::from(hash) << 32 | u64::from(index + 1);
        if self.records.len() * 2 > self.slots.len() {
            self.grow();
        }
        index
    }

    #[inline]
    fn append(&mut self, index: u32, doc: DocId, position: u32, pool: &mut Pool) {
        let record = &mut self.records[index as usize];
        let mut list = record.list();
        match self.option {
            TermsOption::None => {}
            TermsOption::Docs => {
                if record.last_doc != doc {
                    pool.put_varint(&mut list, doc - record.last_doc);
                    record.last_doc = doc;
                }
            }
            TermsOption::Freqs => {
                let freq = &mut self.freqs[index as usize];
                if record.last_doc == doc {
                    *freq += 1;
                } else {
                    let delta = record.last_doc - record.last_position;
                    put_freq(&mut list, delta, *freq, pool);
                    record.last_position = record.last_doc;
                    record.last_doc = doc;
                    *freq = 1;
                }
            }
            TermsOption::Positions => {
                let position = position.min(POSITION_MAX);
                if record.last_doc == doc {
                    let difference = position.saturating_sub(record.last_position);
                    pool.put_varint(&mut list, difference << 1);
                    record.last_position += difference;
                } else {
                    pool.put_varint(&mut list, (doc - record.last_doc) << 1 | 1);
                    pool.put_varint(&mut list, position);
                    record.last_doc = doc;
                    record.last_position = position;
                }
            }
        }
        record.set_list(list);
    }

    #[cold]
    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for &slot in self.slots.iter().filter(|&&s| s != 0) {
            let mut at = (slot >> 32) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
        }
        self.slots = slots;
    }

    /// Walks the postings of a term.
    pub fn postings<'a>(&self, index: u32, pool: &'a Pool) -> TermPostings<'a> {
        let record = self.records[index as usize];
        TermPostings {
            option: self.option,
            list: pool.read(&record.list()),
            doc: 0,
            pending: (self.option == TermsOption::Freqs).then(|| (record.last_doc, self.freqs[index as usize])),
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
