//! The corpus: one passage a line, as JSON. A passage's id is the number of its line.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Result};
use std::path::Path;

use serde::Deserialize;

/// One passage.
#[derive(Deserialize)]
#[cfg_attr(not(feature = "tantivy"), expect(dead_code, reason = "some fields are only indexed by the peer"))]
pub struct Passage<'a> {
    #[serde(borrow)]
    pub title: Cow<'a, str>,
    #[serde(borrow)]
    pub body: Cow<'a, str>,
    #[serde(borrow)]
    pub pkg: Cow<'a, str>,
    #[serde(borrow)]
    pub dir: Cow<'a, str>,
    pub words: i64,
    pub bytes: i64,
    pub pop: f64,
    pub ts: i64,
}

/// Reads the lines of a corpus, one after the other, into the same memory.
pub struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
    /// Read so far, line ends included.
    pub bytes: u64,
}

impl Lines {
    pub fn open(path: &Path) -> Result<Lines> {
        Ok(Lines { file: BufReader::with_capacity(1 << 20, File::open(path)?), line: Vec::new(), bytes: 0 })
    }

    /// The next passage's JSON; none at the end.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.file.read_until(b'\n', &mut self.line)?;
        self.bytes += read as u64;
        Ok((read > 0).then(|| self.line.trim_ascii_end()))
    }
}
