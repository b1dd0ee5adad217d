//! The inverted index of a field: dictionary, postings and positions in one section.
//!
//! ```text
//! extents   of three streams in turns: dictionary blocks, postings, positions; see `extents`
//! tables    extent table of each stream
//! index     of the dictionary; see `dictionary`
//! tail      40 bytes: length of each of the three extent tables u64, length of the index u64, average field length
//!           f32 that the score bounds are made with, 4 bytes 0
//! ```
//!
//! A field with an ordinal column and no inverted index has the same section with infos left out.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::segment::TermsOption;
use crate::segment::bounds::Shares;
use crate::segment::cursor::{ListContext, PostingsCursor, Want, visit_tail};
use crate::segment::dictionary::{Dictionary, DictionaryWriter};
use crate::segment::extents::{Stream, StreamWriter};
use crate::segment::file::{FileWriter, Section, SectionKind, Sink};
use crate::segment::postings::{PostingsWriter, TermInfo};
use crate::segment::term_walk::{Plain, TermWalk};
use crate::store::bitpack::BLOCK_LEN;

/// Terms in ascending order, each with its documents in ascending order.
pub(crate) struct InvertedWriter {
    dictionary: DictionaryWriter,
    blocks: StreamWriter,
    postings: StreamWriter,
    positions: StreamWriter,
    list: PostingsWriter,
    average: f32,
    option: TermsOption,
    /// Sums over all terms.
    pub sum_doc_freq: u64,
    pub sum_total_term_freq: u64,
}

impl InvertedWriter {
    /// `norms` of the field, where it has some.
    pub fn new(option: TermsOption, norms: Option<&[u8]>) -> InvertedWriter {
        let shares = Shares::new(norms);
        InvertedWriter {
            average: shares.average(),
            dictionary: DictionaryWriter::new(option != TermsOption::None),
            blocks: StreamWriter::default(),
            postings: StreamWriter::default(),
            positions: StreamWriter::default(),
            list: PostingsWriter::new(option, shares),
            option,
            sum_doc_freq: 0,
            sum_total_term_freq: 0,
        }
    }

    /// Starts the postings of a term.
    pub fn start_term(&mut self) {
        self.list.start(self.positions.position());
    }

    /// Adds a document, whose positions follow. Fields without frequencies give 1.
    #[inline]
    pub fn push(&mut self, doc: DocId, freq: u32, norm: u8) {
        self.start_doc();
        self.end_doc(doc, freq, norm);
    }

    /// Starts a document that is known only after its positions, with `end_doc`.
    #[inline]
    pub fn start_doc(&mut self) {
        self.list.start_doc(self.positions.position());
    }

    /// Adds a position of the document: the first as it is, then differences.
    #[inline]
    pub fn push_position(&mut self, difference: u32) {
        self.list.push_position(difference, &mut self.positions.pending);
    }

    /// Adds the document. Fields without frequencies give 1.
    #[inline]
    pub fn end_doc(&mut self, doc: DocId, freq: u32, norm: u8) {
        self.list.end_doc(doc, freq, norm);
    }

    /// Inside a long term: writes what waits too long.
    pub async fn flush_partial<S: Sink>(&mut self, file: &mut FileWriter<'_, S>) -> Result<()> {
        self.positions.flush_partial(file).await
    }

    /// Ends a term with postings.
    pub fn finish_term(&mut self, term: &[u8]) {
        let info = self.list.finish(
            self.postings.position(),
            &mut self.postings.pending,
            self.positions.position(),
            &mut self.positions.pending,
        );
        self.sum_doc_freq += u64::from(info.doc_freq);
        self.sum_total_term_freq += info.total_term_freq;
        let position = self.blocks.position();
        self.dictionary.push(term, info, position, &mut self.blocks.pending);
    }

    /// Adds a term without postings, to a dictionary without infos.
    pub fn push_term(&mut self, term: &[u8]) {
        assert!(self.option == TermsOption::None);
        let position = self.blocks.position();
        self.dictionary.push(term, TermInfo::default(), position, &mut self.blocks.pending);
    }

    /// Between terms: writes full extents.
    pub async fn flush<S: Sink>(&mut self, file: &mut FileWriter<'_, S>) -> Result<()> {
        // First the one that may have been begun inside the term.
        self.positions.flush(file, false).await?;
        self.postings.flush(file, false).await?;
        self.blocks.flush(file, false).await
    }

    /// Writes the rest and ends the section.
    pub async fn finish<S: Sink>(mut self, file: &mut FileWriter<'_, S>) -> Result<Section> {
        let position = self.blocks.position();
        self.dictionary.finish(position, &mut self.blocks.pending);
        self.positions.flush(file, true).await?;
        self.postings.flush(file, true).await?;
        self.blocks.flush(file, true).await?;
        let mut tail = Vec::new();
        let mut lengths = Vec::with_capacity(4);
        for stream in [&self.blocks, &self.postings, &self.positions] {
            let before = tail.len();
            stream.finish(&mut tail);
            lengths.push(tail.len() - before);
        }
        let before = tail.len();
        self.dictionary.write_index(&mut tail);
        lengths.push(tail.len() - before);
        lengths.iter().for_each(|&n| tail.extend_from_slice(&(n as u64).to_le_bytes()));
        tail.extend_from_slice(&self.average.to_le_bytes());
        tail.extend_from_slice(&[0; 4]);
        file.write(&tail).await?;
        Ok(file.end(SectionKind::Inverted))
    }
}

/// Terms of a field and their postings.
#[derive(Clone, Debug)]
pub struct InvertedIndex {
    dictionary: Dictionary,
    postings: Stream,
    positions: Stream,
    /// Field length that score bounds are made with.
    average: f32,
    option: TermsOption,
    doc_limit: DocId,
}

impl InvertedIndex {
    pub(crate) fn open(section: &Bytes, option: TermsOption, doc_limit: DocId, name: &str) -> Result<InvertedIndex> {
        let open = || {
            let mut at = section.len().checked_sub(40)?;
            let tail = section[at..].as_chunks::<8>().0;
            let lengths: [u64; 4] = std::array::from_fn(|i| u64::from_le_bytes(tail[i]));
            let average = f32::from_bits(u64::from_le_bytes(tail[4]) as u32);
            if !(average >= 1.0 && average.is_finite()) {
                return None;
            }
            let mut parts: [Bytes; 4] = Default::default();
            for (part, len) in parts.iter_mut().zip(lengths).rev() {
                let start = at.checked_sub(usize::try_from(len).ok()?)?;
                *part = section.slice(start..at);
                at = start;
            }
            let [blocks, postings, positions, index] = parts;
            let dictionary = Dictionary::open(Stream::open(section, &blocks)?, index, option != TermsOption::None)?;
            Some(InvertedIndex {
                dictionary,
                postings: Stream::open(section, &postings)?,
                positions: Stream::open(section, &positions)?,
                average,
                option,
                doc_limit,
            })
        };
        open().ok_or_else(|| Error::corrupt(name, 0, "inverted index does not add up"))
    }

    pub(crate) fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// Bytes of postings and of positions; what else the section has is dictionary.
    pub(crate) fn list_bytes(&self) -> (u64, u64) {
        (self.postings.len(), self.positions.len())
    }

    /// Terms in the dictionary.
    #[must_use]
    pub fn term_count(&self) -> u64 {
        self.dictionary.len()
    }

    /// What is indexed of each term.
    #[must_use]
    pub fn option(&self) -> TermsOption {
        self.option
    }

    /// Looks a term up.
    #[must_use]
    pub fn get(&self, term: &[u8]) -> Option<TermInfo> {
        self.dictionary.get(term).map(|(_, info)| info)
    }

    /// Terms in byte order: from the first one >= `from`, as long as `visit` answers true.
    pub fn visit_from(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) {
        let mut cursor = self.dictionary.seek(from);
        while cursor.peek().is_some() {
            let info = cursor.consume();
            if !visit(cursor.last_term(), info) {
                return;
            }
        }
    }

    /// Terms that the automaton accepts, in byte order, as long as `visit` answers true.
    pub fn visit_matching<A: fst::Automaton>(&self, automaton: A, visit: &mut dyn FnMut(&[u8], TermInfo) -> bool) {
        self.walk().run(&mut Plain::new(&automaton), usize::MAX, visit);
    }

    /// A walk through the terms, before the first.
    pub(crate) fn walk(&self) -> TermWalk<'_> {
        TermWalk::new(&self.dictionary)
    }

    /// Gives all documents of a term whose list is one short piece; false, and none, if it is not.
    #[inline]
    pub(crate) fn visit_short(&self, term: &TermInfo, visit: &mut impl FnMut(DocId)) -> bool {
        let short = (term.doc_freq as usize) < BLOCK_LEN;
        if short {
            visit_tail(self.postings.at(term.postings), self.option, term.doc_freq, self.doc_limit, visit);
        }
        short
    }

    /// Opens the postings of a term that this index answered.
    #[must_use]
    pub fn postings(&self, term: &TermInfo, want: Want) -> PostingsCursor<'_> {
        let context = ListContext { option: self.option, doc_limit: self.doc_limit, average: self.average };
        let positions = if want == Want::Positions { self.positions.at(term.positions) } else { &[] };
        PostingsCursor::new(context, term, want, self.postings.at(term.postings), positions)
    }
}
