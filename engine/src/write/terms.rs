//! The terms of one field of the indexing buffer: a hash table over an arena, each term with its growing postings.
//!
//! What a term's list holds, as varints:
//!
//! - Docs: difference to the document before.
//! - Freqs: per document `difference << 1 | (freq == 1)`, and unless 1 the freq; the last document is still in the record.
//! - Positions: per occurrence `difference << 1 | 1`, then its position, where a document begins; else
//!   `difference to the position before << 1`.

use crate::analysis::{HEAD, Term};
use crate::ids::DocId;
use crate::seed::HashSeed;
use crate::segment::TermsOption;
use crate::write::pool::{ListReader, Pool, Tail, prefetch};

/// Terms longer than this are not indexed; parsing refuses documents that have such terms.
pub(crate) const TERM_LEN_MAX: usize = crate::analysis::TERM_BYTES_MAX;
/// Highest position, as in Lucene.
const POSITION_MAX: u32 = i32::MAX as u32 - 128;

/// How many tokens ahead of their turn a batch asks the memory for a term's record, and for the end of its list.
const RECORD_AHEAD: usize = 16;
const LIST_AHEAD: usize = 8;

/// Half a cache line. Only what an occurrence needs.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Record {
    /// The term's first bytes, zeros behind its end.
    head: [u8; HEAD],
    /// Where the whole term is, if it is longer than `head`.
    text: u32,
    len: u16,
    list_state: u16,
    list_head: u32,
    list_next: u32,
    last_doc: DocId,
    /// Freqs: the document before the last.
    last_position: u32,
}

const _: () = assert!(size_of::<Record>() == 32);

impl Record {
    #[inline]
    fn tail(&self) -> Tail {
        Tail::from_parts(self.list_next, self.list_state)
    }

    #[inline]
    fn set_tail(&mut self, tail: Tail) {
        (self.list_next, self.list_state) = (tail.next(), tail.state());
    }
}

/// Whether terms longer than their heads are the same, if their heads and lengths are.
#[inline]
fn same_tail(a: &[u8], b: &[u8]) -> bool {
    if a.len() <= 2 * HEAD { a.last_chunk::<HEAD>() == b.last_chunk::<HEAD>() } else { a[HEAD..] == b[HEAD..] }
}

/// Tokens of one value on their way into the table.
#[derive(Debug, Default)]
pub(crate) struct TokenBatch {
    text: Vec<u8>,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    head: u64,
    len: u32,
    /// Where the whole term is in `text`, if it is longer than `head`.
    text: u32,
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
    /// Terms of documents, each term of a document counted once.
    postings: u64,
}

impl TermTable {
    pub fn new(option: TermsOption, seed: HashSeed) -> TermTable {
        TermTable {
            option,
            seed,
            slots: vec![0; 16],
            records: Vec::new(),
            freqs: Vec::new(),
            text: Vec::new(),
            postings: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Postings so far; of a field whose terms are only counted (no inverted index), less.
    pub fn postings_count(&self) -> u64 {
        self.postings
    }

    pub fn memory_bytes(&self) -> usize {
        self.slots.len() * 8 + self.records.len() * size_of::<Record>() + self.freqs.len() * 4 + self.text.len()
    }

    /// Bytes of a term.
    #[inline]
    pub fn term(&self, index: u32) -> &[u8] {
        let record = &self.records[index as usize];
        let len = record.len as usize;
        if len <= HEAD { &record.head[..len] } else { &self.text[record.text as usize..record.text as usize + len] }
    }

    /// First eight bytes of a term as a number that sorts like them.
    #[inline]
    pub fn sort_key(&self, index: u32) -> u64 {
        u64::from_be_bytes(self.records[index as usize].head)
    }

    #[inline]
    fn hash(&self, term: Term<'_>) -> u32 {
        let len = term.bytes.len();
        let hash = if len <= HEAD { self.seed.hash_short(term.head, len) } else { self.seed.hash(term.bytes) };
        (hash >> 32) as u32
    }

    /// Puts a token into `batch`; [`add_batch`](Self::add_batch) notes it.
    #[inline]
    pub fn enqueue(&self, batch: &mut TokenBatch, term: Term<'_>, position: u32) {
        debug_assert!(term.bytes.len() <= TERM_LEN_MAX);
        let hash = self.hash(term);
        prefetch(&self.slots, hash as usize & (self.slots.len() - 1));
        let text = batch.text.len() as u32;
        if term.bytes.len() > HEAD {
            batch.text.extend_from_slice(term.bytes);
        }
        batch.tokens.push(Token { head: term.head, len: term.bytes.len() as u32, text, hash, position });
    }

    /// Notes the occurrences of a batch, and empties it. As [`add`](Self::add), only that waiting for memory overlaps.
    pub fn add_batch(&mut self, batch: &mut TokenBatch, doc: DocId, base: u32, pool: &mut Pool) {
        let record_of = |table: &TermTable, token: &Token| {
            let slot = table.slots[token.hash as usize & (table.slots.len() - 1)];
            (slot as u32).checked_sub(1)
        };
        for (i, token) in batch.tokens.iter().enumerate() {
            if let Some(index) = batch.tokens.get(i + RECORD_AHEAD).and_then(|t| record_of(self, t)) {
                prefetch(&self.records, index as usize);
            }
            if let Some(index) = batch.tokens.get(i + LIST_AHEAD).and_then(|t| record_of(self, t)) {
                let record = &self.records[index as usize];
                pool.prefetch(record.list_next);
                if record.len as usize > HEAD {
                    prefetch(&self.text, record.text as usize);
                }
            }
            let head = token.head.to_le_bytes();
            let len = token.len as usize;
            let bytes = if len <= HEAD { &head[..len] } else { &batch.text[token.text as usize..][..len] };
            let position = base.saturating_add(token.position);
            self.add_hashed(Term { bytes, head: token.head }, token.hash, doc, position, pool);
        }
        batch.tokens.clear();
        batch.text.clear();
    }

    /// Notes an occurrence. Documents never go down, nor positions within one. The term's index.
    #[inline]
    pub fn add(&mut self, term: &[u8], doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        debug_assert!(term.len() <= TERM_LEN_MAX);
        let term = Term::new(term);
        self.add_hashed(term, self.hash(term), doc, position, pool)
    }

    #[inline]
    fn add_hashed(&mut self, term: Term<'_>, hash: u32, doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        let len = term.bytes.len();
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
                if u64::from_le_bytes(record.head) == term.head
                    && record.len as usize == len
                    && (len <= HEAD || same_tail(self.term(index), term.bytes))
                {
                    self.append(index, doc, position, pool);
                    return index;
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn insert(&mut self, term: Term<'_>, hash: u32, slot: usize, doc: DocId, position: u32, pool: &mut Pool) -> u32 {
        let index = self.records.len() as u32;
        self.postings += 1;
        let text = u32::try_from(self.text.len()).expect("an indexing buffer of 4 GiB");
        if term.bytes.len() > HEAD {
            self.text.extend_from_slice(term.bytes);
        }
        let position = position.min(POSITION_MAX);
        let mut tail = if self.option == TermsOption::None { Tail::default() } else { pool.new_list() };
        let list_head = tail.next();
        match self.option {
            TermsOption::None => {}
            TermsOption::Freqs => self.freqs.push(1),
            TermsOption::Docs => tail = pool.put_varint(tail, doc),
            TermsOption::Positions => {
                tail = pool.put_varint(tail, doc << 1 | 1);
                tail = pool.put_varint(tail, position);
            }
        }
        self.records.push(Record {
            head: term.head.to_le_bytes(),
            text,
            len: term.bytes.len() as u16,
            list_state: tail.state(),
            list_head,
            list_next: tail.next(),
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
        let mut tail = record.tail();
        match self.option {
            TermsOption::None => {}
            TermsOption::Docs => {
                if record.last_doc != doc {
                    tail = pool.put_varint(tail, doc - record.last_doc);
                    record.last_doc = doc;
                    self.postings += 1;
                }
            }
            TermsOption::Freqs => {
                let freq = &mut self.freqs[index as usize];
                if record.last_doc == doc {
                    *freq += 1;
                } else {
                    let delta = record.last_doc - record.last_position;
                    tail = put_freq(tail, delta, *freq, pool);
                    record.last_position = record.last_doc;
                    record.last_doc = doc;
                    *freq = 1;
                    self.postings += 1;
                }
            }
            TermsOption::Positions => {
                let position = position.min(POSITION_MAX);
                if record.last_doc == doc {
                    let difference = position.saturating_sub(record.last_position);
                    tail = pool.put_varint(tail, difference << 1);
                    record.last_position += difference;
                } else {
                    tail = pool.put_varint(tail, (doc - record.last_doc) << 1 | 1);
                    tail = pool.put_varint(tail, position);
                    record.last_doc = doc;
                    record.last_position = position;
                    self.postings += 1;
                }
            }
        }
        record.set_tail(tail);
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
    #[inline]
    pub fn postings<'a>(&self, index: u32, pool: &'a Pool) -> TermPostings<'a> {
        let record = &self.records[index as usize];
        TermPostings {
            option: self.option,
            list: pool.read(record.list_head, record.tail()),
            doc: 0,
            pending: (self.option == TermsOption::Freqs).then(|| (record.last_doc, self.freqs[index as usize])),
            peeked: None,
        }
    }

    /// Asks for the memory of terms that follow `order[at]`, whose postings are about to be walked.
    #[inline]
    pub fn prefetch_after(&self, order: &[u32], at: usize, pool: &Pool) {
        if let Some(&index) = order.get(at + RECORD_AHEAD) {
            prefetch(&self.records, index as usize);
        }
        if let Some(&index) = order.get(at + LIST_AHEAD) {
            let record = &self.records[index as usize];
            pool.prefetch(record.list_head);
            if record.len as usize > HEAD {
                prefetch(&self.text, record.text as usize);
            }
        }
    }
}

#[inline]
fn put_freq(tail: Tail, delta: u32, freq: u32, pool: &mut Pool) -> Tail {
    let tail = pool.put_varint(tail, delta << 1 | u32::from(freq == 1));
    if freq == 1 { tail } else { pool.put_varint(tail, freq) }
}

/// Postings of one term, document by document.
pub(crate) struct TermPostings<'a> {
    option: TermsOption,
    list: ListReader<'a>,
    doc: DocId,
    pending: Option<(DocId, u32)>,
    /// Code of the next document's first occurrence.
    peeked: Option<u32>,
}

impl TermPostings<'_> {
    /// The next document and its frequency, after its positions: the first as it is, then differences.
    #[inline]
    pub fn next(&mut self, mut position: impl FnMut(u32)) -> Option<(DocId, u32)> {
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
                position(self.list.next().expect("a position follows"));
                let mut freq = 1;
                for code in self.list.by_ref() {
                    if code & 1 == 1 {
                        self.peeked = Some(code);
                        break;
                    }
                    position(code >> 1);
                    freq += 1;
                }
                Some((self.doc, freq))
            }
        }
    }
}
