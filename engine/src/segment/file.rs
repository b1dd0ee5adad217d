//! The segment file: header, sections, checksums, table of contents, footer.
//!
//! All integers are little-endian. The same bytes are an image in memory and a file `_N.seg`.
//!
//! ```text
//! 0        magic        8 bytes  "RDXSEG\r\n"
//! 8        version      u32      5
//! 12       reserved     u32      0
//! 16       segment id   u64
//! 24       sections, each at a multiple of 8, zeros between
//! B        checksums    u32 each: crc32 of every 64 KiB of the bytes 0 .. B (the last one shorter)
//! T        contents     varints, see `Contents`; T = B + 4 * ceil(B / 65536)
//! L - 40   B            u64
//! L - 32   L            u64      length of the file
//! L - 24   segment id   u64
//! L - 16   crc32        u32      of the bytes B .. L - 16: checksums, contents and footer so far
//! L - 12   version      u32      5
//! L - 8    magic        8 bytes  "RDXEND\r\n"
//! ```
//!
//! Valid when both magics, versions and ids agree, `L` is the length and the crc at `L - 16` matches; that crc covers the
//! checksum of every block and so names the whole content. Each 64 KiB block can be verified alone, when it is read.
//! A reader starts at the footer, then the contents, which say where every section is.
//! A crash while writing leaves a file without a valid footer, named by no commit point: it is removed.
//!
//! Contents: doc_count, min_seq_no and max_seq_no (zigzag), codec, shared section count, shared sections, field count,
//! then each field in the order of names: name (length, bytes), terms option, flags (1 norms, 2 points), column kind,
//! doc_count, sum_total_term_freq, sum_doc_freq, section count, sections. A section is: kind, offset, length.
//!
//! Section 20 of a field says how many occurrences of its terms each document has, so that what a deleted document added to
//! `sum_total_term_freq` can be taken off again, exactly. It is a packed sequence (`linear.rs`) of one number a document: the
//! occurrences less those that are known without it, modulo 2^64. Known is what the norm byte decodes to; without norms, the
//! number of the document's ordinals; without either, 0. Where all of them would be 0 there is no such section: in fields of
//! up to 40 terms with norms, and in keyword fields with an ordinal column. Terms count as in the sum: every occurrence, those
//! at one position, too, or one for each term of a field that stores documents only.

use bytes::Bytes;

use crate::codec::{Reader, crc32, put_bytes, put_varint, unzigzag, zigzag};
use crate::error::{Error, Result};
use crate::ids::{SegmentId, SeqNo};
use crate::segment::checks::Checks;
use crate::segment::{Codec, ColumnKind, FieldSpec, TermsOption};
use crate::store::FileBytes;

const MAGIC: &[u8; 8] = b"RDXSEG\r\n";
const END_MAGIC: &[u8; 8] = b"RDXEND\r\n";
const VERSION: u32 = 5;
pub(crate) const HEADER_LEN: usize = 24;
pub(crate) const FOOTER_LEN: usize = 40;
/// Bytes under one checksum.
pub(crate) const CHECKED_LEN: usize = 64 << 10;
/// Checksums of a segment file's blocks, made as its bytes come: so it is known to be whole without being read again.
#[derive(Debug, Default)]
pub(crate) struct BlockChecksums {
    whole: Vec<u32>,
    /// Of the block that is not whole yet, and how many of its bytes there are.
    current: crc32fast::Hasher,
    filled: usize,
}

impl BlockChecksums {
    /// The next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (some, rest) = bytes.split_at(bytes.len().min(CHECKED_LEN - self.filled));
            self.current.update(some);
            self.filled += some.len();
            if self.filled == CHECKED_LEN {
                self.whole.push(std::mem::take(&mut self.current).finalize());
                self.filled = 0;
            }
            bytes = rest;
        }
    }

    /// Where the part begins of a segment of `file_len` bytes that says what its blocks should be: `footer` is its last
    /// [`FOOTER_LEN`] bytes.
    pub fn tail_at(id: SegmentId, footer: &[u8], file_len: u64) -> Result<u64> {
        let footer = Footer::decode(&super::segment_file_name(id), id, footer, file_len)?;
        Ok(footer.body_len / CHECKED_LEN as u64 * CHECKED_LEN as u64)
    }

    /// Checks everything that was hashed: it was a whole segment file, of which `tail` is what begins at
    /// [`tail_at`](Self::tail_at). The file's checksum.
    pub fn verify(&self, id: SegmentId, tail: &[u8], file_len: u64) -> Result<u32> {
        let name = super::segment_file_name(id);
        let footer = Footer::decode(&name, id, &tail[tail.len().saturating_sub(FOOTER_LEN)..], file_len)?;
        let whole = (footer.body_len / CHECKED_LEN as u64) as usize;
        let tail_len = file_len - (whole * CHECKED_LEN) as u64;
        if tail.len() as u64 != tail_len || self.whole.len() < whole {
            let reason = format!("{} bytes of the last {tail_len}, {} blocks of {whole}", tail.len(), self.whole.len());
            return Err(Error::corrupt(name, footer.body_len, reason));
        }
        let (last, rest) = tail.split_at(footer.body_len as usize % CHECKED_LEN);
        footer.verify(&name, rest)?;
        let last = (!last.is_empty()).then(|| crc32(last));
        for (i, found) in self.whole[..whole].iter().copied().chain(last).enumerate() {
            compare_block(&name, rest, i, found)?;
        }
        Ok(footer.crc)
    }
}

/// `table` begins with the checksums of all blocks.
pub(crate) fn compare_block(name: &str, table: &[u8], i: usize, actual: u32) -> Result<()> {
    let expected = u32::from_le_bytes(table[4 * i..4 * i + 4].try_into().expect("4 bytes"));
    if actual != expected {
        let reason = format!("block checksum {expected:08x} expected, {actual:08x} found");
        return Err(Error::corrupt(name, (i * CHECKED_LEN) as u64, reason));
    }
    Ok(())
}

/// The end of a segment file.
struct Footer {
    body_len: u64,
    crc: u32,
}

impl Footer {
    fn decode(name: &str, id: SegmentId, bytes: &[u8], file_len: u64) -> Result<Footer> {
        let footer_at = file_len.saturating_sub(FOOTER_LEN as u64);
        let corrupt = |offset: u64, reason: String| Error::corrupt(name, offset, reason);
        let mut footer = Reader::new(name, bytes);
        let (body_len, len, footer_id) = (footer.u64()?, footer.u64()?, footer.u64()?);
        let (crc, version) = (footer.u32()?, footer.u32()?);
        if footer.take(8)? != END_MAGIC {
            return Err(corrupt(0, "not a segment file, or not written to its end".into()));
        }
        if version != VERSION {
            return Err(corrupt(8, format!("version {version} expected to be {VERSION}")));
        }
        if footer_id != id.0 {
            return Err(corrupt(footer_at, format!("segment {footer_id} expected to be {id}")));
        }
        if len != file_len {
            return Err(corrupt(footer_at, format!("length {len} expected, {file_len} found")));
        }
        let contents_at = body_len.saturating_add(body_len.div_ceil(CHECKED_LEN as u64).saturating_mul(4));
        if body_len < HEADER_LEN as u64 || contents_at > footer_at {
            return Err(corrupt(footer_at, format!("body of {body_len} bytes does not fit")));
        }
        Ok(Footer { body_len, crc })
    }

    /// `rest`: all from the checksums of the blocks on.
    fn verify(&self, name: &str, rest: &[u8]) -> Result<()> {
        let actual = crc32(&rest[..rest.len() - 16]);
        if actual != self.crc {
            let reason = format!("checksum {:08x} expected, {actual:08x} found", self.crc);
            return Err(Error::corrupt(name, self.body_len, reason));
        }
        Ok(())
    }
}

/// Documents a segment can have: the upper half of `DocId` is kept free.
pub const DOC_COUNT_MAX: u32 = i32::MAX as u32 - 1;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SectionKind {
    Ids = 1,
    IdIndex = 2,
    SeqNos = 3,
    PrimaryTerms = 4,
    Versions = 5,
    Routings = 6,
    Sources = 7,
    /// What the sources are compressed with, if they are with a dictionary.
    SourceDictionary = 8,
    /// Terms, postings, positions; also the dictionary of an ordinal column.
    Inverted = 16,
    Norms = 17,
    Column = 18,
    Points = 19,
    /// Occurrences of a field's terms by document, where other sections do not tell.
    Lengths = 20,
}

impl SectionKind {
    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            SectionKind::Ids => "ids",
            SectionKind::IdIndex => "id index",
            SectionKind::SeqNos => "sequence numbers",
            SectionKind::PrimaryTerms => "primary terms",
            SectionKind::Versions => "versions",
            SectionKind::Routings => "routings",
            SectionKind::Sources => "sources",
            SectionKind::SourceDictionary => "source dictionaries",
            SectionKind::Inverted => "inverted indices",
            SectionKind::Norms => "norms",
            SectionKind::Column => "columns",
            SectionKind::Points => "points",
            SectionKind::Lengths => "lengths",
        }
    }

    fn from_byte(byte: u8) -> Option<SectionKind> {
        use SectionKind::{
            Column, IdIndex, Ids, Inverted, Lengths, Norms, Points, PrimaryTerms, Routings, SeqNos, SourceDictionary,
            Sources, Versions,
        };
        let rows = [Ids, IdIndex, SeqNos, PrimaryTerms, Versions, Routings, Sources, SourceDictionary];
        rows.into_iter().chain([Inverted, Norms, Column, Points, Lengths]).find(|&kind| kind as u8 == byte)
    }
}

/// Where one section is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub kind: SectionKind,
    pub offset: u64,
    pub len: u64,
}

/// A field's entry in the contents.
#[derive(Clone, Debug)]
pub(crate) struct FieldEntry {
    pub spec: FieldSpec,
    pub stats: FieldStats,
    pub sections: Vec<Section>,
}

/// Statistics of one field of one segment, deleted documents included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldStats {
    /// Documents with at least one term or value.
    pub doc_count: u32,
    /// Occurrences of all terms.
    pub sum_total_term_freq: u64,
    /// Postings of all terms.
    pub sum_doc_freq: u64,
}

/// The table of contents.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub doc_count: u32,
    pub min_seq_no: SeqNo,
    pub max_seq_no: SeqNo,
    pub codec: Codec,
    pub sections: Vec<Section>,
    pub fields: Vec<FieldEntry>,
}

/// What the commit point keeps about a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Name.
    pub id: SegmentId,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Documents, deleted ones included.
    pub doc_count: u32,
    /// Smallest sequence number in it.
    pub min_seq_no: SeqNo,
    /// Largest.
    pub max_seq_no: SeqNo,
    /// The footer's crc, which covers all block checksums.
    pub crc: u32,
}

/// Where the bytes of a new segment go, in order.
#[allow(async_fn_in_trait)]
pub trait Sink {
    /// Appends.
    async fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Sink for Vec<u8> {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Writes the frame of a segment file around its sections.
pub(crate) struct FileWriter<'s, S> {
    sink: &'s mut S,
    id: SegmentId,
    position: u64,
    checksums: Vec<u8>,
    hasher: crc32fast::Hasher,
    section_start: u64,
}

impl<'s, S: Sink> FileWriter<'s, S> {
    /// Writes the header.
    pub async fn new(sink: &'s mut S, id: SegmentId) -> Result<FileWriter<'s, S>> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&0u32.to_le_bytes());
        header.extend_from_slice(&id.0.to_le_bytes());
        let mut writer = FileWriter {
            sink,
            id,
            position: 0,
            checksums: Vec::new(),
            hasher: crc32fast::Hasher::new(),
            section_start: 0,
        };
        writer.write(&header).await?;
        Ok(writer)
    }

    /// Appends to the current section.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = CHECKED_LEN - (self.position % CHECKED_LEN as u64) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.hasher.update(now);
            self.position += now.len() as u64;
            if self.position.is_multiple_of(CHECKED_LEN as u64) {
                self.end_block();
            }
            rest = later;
        }
        self.sink.write(bytes).await
    }

    /// Writes what a builder has ready once it is worth a write, and empties it.
    pub async fn drain(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        if bytes.len() >= CHECKED_LEN {
            self.write(bytes).await?;
            bytes.clear();
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let hasher = std::mem::replace(&mut self.hasher, crc32fast::Hasher::new());
        self.checksums.extend_from_slice(&hasher.finalize().to_le_bytes());
    }

    /// Bytes written since the section began.
    pub fn section_position(&self) -> u64 {
        self.position - self.section_start
    }

    /// Starts a section.
    pub async fn begin(&mut self) -> Result<()> {
        let padding = self.position.next_multiple_of(8) - self.position;
        self.write(&[0; 8][..padding as usize]).await?;
        self.section_start = self.position;
        Ok(())
    }

    /// Ends the section begun last.
    pub fn end(&mut self, kind: SectionKind) -> Section {
        Section { kind, offset: self.section_start, len: self.section_position() }
    }

    /// A section that is already complete.
    pub async fn section(&mut self, kind: SectionKind, bytes: &[u8]) -> Result<Section> {
        self.begin().await?;
        self.write(bytes).await?;
        Ok(self.end(kind))
    }

    /// Checksums, contents, footer.
    pub async fn finish(mut self, contents: &Contents) -> Result<SegmentMeta> {
        let body_len = self.position;
        if !body_len.is_multiple_of(CHECKED_LEN as u64) {
            self.end_block();
        }
        let mut tail = std::mem::take(&mut self.checksums);
        contents.encode(&mut tail);
        let file_len = body_len + (tail.len() + FOOTER_LEN) as u64;
        tail.extend_from_slice(&body_len.to_le_bytes());
        tail.extend_from_slice(&file_len.to_le_bytes());
        tail.extend_from_slice(&self.id.0.to_le_bytes());
        let crc = crc32(&tail);
        tail.extend_from_slice(&crc.to_le_bytes());
        tail.extend_from_slice(&VERSION.to_le_bytes());
        tail.extend_from_slice(END_MAGIC);
        self.sink.write(&tail).await?;
        Ok(SegmentMeta {
            id: self.id,
            size_bytes: file_len,
            doc_count: contents.doc_count,
            min_seq_no: contents.min_seq_no,
            max_seq_no: contents.max_seq_no,
            crc,
        })
    }
}

/// `bytes` with the header and the footer that they would have as a segment's file; for the fuzzer.
pub(crate) fn repaired(bytes: &[u8], id: SegmentId) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().max(HEADER_LEN + FOOTER_LEN), 0);
    let footer = out.len() - FOOTER_LEN;
    let file_len = out.len() as u64;
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].fill(0);
    out[16..HEADER_LEN].copy_from_slice(&id.0.to_le_bytes());
    let body_len = u64::from_le_bytes(out[footer..footer + 8].try_into().expect("8 bytes"));
    let body_len = body_len.clamp(HEADER_LEN as u64, footer as u64);
    out[footer..footer + 8].copy_from_slice(&body_len.to_le_bytes());
    out[footer + 8..footer + 16].copy_from_slice(&file_len.to_le_bytes());
    out[footer + 16..footer + 24].copy_from_slice(&id.0.to_le_bytes());
    let crc = crc32(&out[body_len as usize..footer + 24]);
    out[footer + 24..footer + 28].copy_from_slice(&crc.to_le_bytes());
    out[footer + 28..footer + 32].copy_from_slice(&VERSION.to_le_bytes());
    out[footer + 32..].copy_from_slice(END_MAGIC);
    out
}

impl Contents {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.doc_count));
        put_varint(out, zigzag(self.min_seq_no.0));
        put_varint(out, zigzag(self.max_seq_no.0));
        out.push(self.codec as u8);
        encode_sections(&self.sections, out);
        put_varint(out, self.fields.len() as u64);
        for field in &self.fields {
            put_bytes(out, field.spec.name.as_bytes());
            out.push(field.spec.terms as u8);
            out.push(u8::from(field.spec.norms) | u8::from(field.spec.points) << 1);
            out.push(field.spec.column as u8);
            put_varint(out, u64::from(field.stats.doc_count));
            put_varint(out, field.stats.sum_total_term_freq);
            put_varint(out, field.stats.sum_doc_freq);
            encode_sections(&field.sections, out);
        }
    }

    fn decode(r: &mut Reader<'_>, body_len: u64) -> Result<Contents> {
        let doc_count = r.varint()?;
        if doc_count > u64::from(DOC_COUNT_MAX) {
            return Err(r.corrupt(format!("{doc_count} documents")));
        }
        let doc_count = doc_count as u32;
        let min_seq_no = SeqNo(unzigzag(r.varint()?));
        let max_seq_no = SeqNo(unzigzag(r.varint()?));
        let codec = match r.u8()? {
            0 => Codec::Default,
            1 => Codec::BestCompression,
            other => return Err(r.corrupt(format!("unknown codec {other}"))),
        };
        let sections = decode_sections(r, body_len)?;
        let field_count = r.varint()?;
        let mut fields: Vec<FieldEntry> = Vec::new();
        for _ in 0..field_count {
            let name = r.str()?.to_owned();
            if fields.last().is_some_and(|last| last.spec.name >= name) {
                return Err(r.corrupt(format!("field [{name}] out of order")));
            }
            let terms = match r.u8()? {
                0 => TermsOption::None,
                1 => TermsOption::Docs,
                2 => TermsOption::Freqs,
                3 => TermsOption::Positions,
                other => return Err(r.corrupt(format!("unknown terms option {other}"))),
            };
            let flags = r.u8()?;
            let column = match r.u8()? {
                0 => ColumnKind::None,
                1 => ColumnKind::Numbers,
                2 => ColumnKind::Ordinals,
                other => return Err(r.corrupt(format!("unknown column kind {other}"))),
            };
            let spec = FieldSpec { name, terms, norms: flags & 1 != 0, column, points: flags & 2 != 0 };
            let stats = FieldStats {
                doc_count: r.varint()?.min(u64::from(doc_count)) as u32,
                sum_total_term_freq: r.varint()?,
                sum_doc_freq: r.varint()?,
            };
            fields.push(FieldEntry { spec, stats, sections: decode_sections(r, body_len)? });
        }
        r.finish()?;
        Ok(Contents { doc_count, min_seq_no, max_seq_no, codec, sections, fields })
    }
}

fn encode_sections(sections: &[Section], out: &mut Vec<u8>) {
    put_varint(out, sections.len() as u64);
    for section in sections {
        out.push(section.kind as u8);
        put_varint(out, section.offset);
        put_varint(out, section.len);
    }
}

fn decode_sections(r: &mut Reader<'_>, body_len: u64) -> Result<Vec<Section>> {
    let mut sections = Vec::new();
    for _ in 0..r.varint()? {
        let byte = r.u8()?;
        let kind = SectionKind::from_byte(byte).ok_or_else(|| r.corrupt(format!("unknown section kind {byte}")))?;
        let (offset, len) = (r.varint()?, r.varint()?);
        if offset < HEADER_LEN as u64 || offset.checked_add(len).is_none_or(|end| end > body_len) {
            return Err(r.corrupt(format!("section of {len} bytes at {offset} in a body of {body_len}")));
        }
        sections.push(Section { kind, offset, len });
    }
    Ok(sections)
}

/// An opened file: frame verified, sections addressable.
pub(crate) struct SegmentFile {
    pub name: String,
    pub bytes: Bytes,
    /// What holds them.
    pub held: FileBytes,
    pub contents: Contents,
    pub body_len: u64,
    pub crc: u32,
    pub checks: Checks,
}

/// Lets `Bytes` own a `FileBytes`.
struct Owner(FileBytes);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl SegmentFile {
    /// Verifies header, footer, contents.
    pub fn open(id: SegmentId, file: FileBytes) -> Result<SegmentFile> {
        let name = super::segment_file_name(id);
        let held = file.clone();
        let bytes = Bytes::from_owner(Owner(file));
        let corrupt = |offset: usize, reason: String| Error::corrupt(name.clone(), offset as u64, reason);
        if bytes.len() < HEADER_LEN + FOOTER_LEN {
            return Err(corrupt(0, format!("{} bytes are too few for a segment", bytes.len())));
        }
        let footer_at = bytes.len() - FOOTER_LEN;
        let mut header = Reader::new(&name, &bytes[..HEADER_LEN]);
        let (magic, version, _) = (header.take(8)?, header.u32()?, header.u32()?);
        let header_id = header.u64()?;
        if magic != MAGIC {
            return Err(corrupt(0, "not a segment file".into()));
        }
        if version != VERSION {
            return Err(corrupt(8, format!("version {version} expected to be {VERSION}")));
        }
        if header_id != id.0 {
            return Err(corrupt(16, format!("segment {header_id} expected to be {id}")));
        }
        let footer = Footer::decode(&name, id, &bytes[footer_at..], bytes.len() as u64)?;
        let Footer { body_len, crc } = footer;
        footer.verify(&name, &bytes[body_len as usize..])?;
        let contents_at = body_len + body_len.div_ceil(CHECKED_LEN as u64) * 4;
        let contents = Contents::decode(&mut Reader::new(&name, &bytes[contents_at as usize..footer_at]), body_len)?;
        let checks = Checks::new(&name, bytes.clone(), held.clone(), body_len);
        Ok(SegmentFile { name, bytes, held, contents, body_len, crc, checks })
    }

    /// Bytes of the section of this kind, if there is one.
    pub fn section(&self, sections: &[Section], kind: SectionKind) -> Option<Bytes> {
        let section = sections.iter().find(|s| s.kind == kind)?;
        Some(self.bytes.slice(section.offset as usize..(section.offset + section.len) as usize))
    }

    /// Blocks under a checksum.
    pub fn blocks(&self) -> usize {
        self.body_len.div_ceil(CHECKED_LEN as u64) as usize
    }

    /// Checks every block's checksum.
    pub fn verify(&self) -> Result<()> {
        (0..self.blocks()).try_for_each(|i| self.checks.verify(i))
    }
}
