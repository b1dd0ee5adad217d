//! What tokenizers give, what filters work on, and where tokens lie in the original text.

/// A tokenizer's token: a piece of the filtered text.
pub(super) struct Raw<'a> {
    pub text: &'a str,
    /// Bytes of the filtered text.
    pub start: usize,
    pub end: usize,
    pub kind: &'static str,
    /// Positions since the token before.
    pub increment: u32,
}

impl<'a> Raw<'a> {
    #[inline]
    pub(super) fn new(text: &'a str, start: usize, end: usize, kind: &'static str) -> Raw<'a> {
        Raw { text, start, end, kind, increment: 1 }
    }
}

/// A term on its way through the filters that look at one word alone. It is copied only when a filter changes it.
pub(super) struct Word<'t, 'b> {
    text: &'t str,
    buf: &'b mut String,
    changed: bool,
    /// Stemmers leave it alone.
    pub keyword: bool,
    pub kind: &'static str,
}

impl<'t, 'b> Word<'t, 'b> {
    #[inline]
    pub(super) fn new(text: &'t str, buf: &'b mut String, kind: &'static str) -> Word<'t, 'b> {
        Word { text, buf, changed: false, keyword: false, kind }
    }

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        if self.changed { self.buf } else { self.text }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// The term as an owned string to change in place.
    #[inline]
    pub(super) fn make_mut(&mut self) -> &mut String {
        if !self.changed {
            self.buf.clear();
            self.buf.push_str(self.text);
            self.changed = true;
        }
        self.buf
    }

    /// Keeps bytes `from..to`.
    pub(super) fn slice(&mut self, from: usize, to: usize) {
        if self.changed {
            self.buf.truncate(to);
            self.buf.drain(..from);
        } else {
            self.text = &self.text[from..to];
        }
    }

    /// Another term in its place.
    pub(super) fn set(&mut self, term: &str) {
        self.buf.clear();
        self.buf.push_str(term);
        self.changed = true;
    }
}

/// One token of a [`TokenList`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Bytes of the arena.
    pub at: u32,
    pub len: u32,
    pub increment: u32,
    pub position_length: u32,
    /// In the original text, UTF-16 units.
    pub start: u32,
    pub end: u32,
    pub kind: &'static str,
    pub keyword: bool,
}

/// All tokens of a text: what filters work on that make several tokens of one, or one of several.
#[derive(Debug, Default)]
pub(super) struct TokenList {
    arena: String,
    pub entries: Vec<Entry>,
    spare: Vec<Entry>,
    /// Positions of removed tokens after the last one.
    pub trailing: u32,
    /// Offset of the end of the text.
    pub text_end: u32,
}

impl TokenList {
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.trailing = 0;
    }

    #[inline]
    pub(super) fn text(&self, e: &Entry) -> &str {
        &self.arena[e.at as usize..(e.at + e.len) as usize]
    }

    /// Puts a term into the arena: its place.
    pub(super) fn store(&mut self, term: &str) -> (u32, u32) {
        let at = self.arena.len() as u32;
        self.arena.push_str(term);
        (at, term.len() as u32)
    }

    /// The same for the pieces of a term, some of which may lie in the arena already.
    pub(super) fn store_with(&mut self, write: impl FnOnce(&mut String)) -> (u32, u32) {
        let at = self.arena.len();
        write(&mut self.arena);
        (at as u32, (self.arena.len() - at) as u32)
    }

    /// Hands every entry to `step`, which pushes what should stand in its place.
    pub(super) fn rewrite(&mut self, mut step: impl FnMut(&mut TokenList, Entry, &mut Vec<Entry>)) {
        let mut from = std::mem::take(&mut self.entries);
        let mut into = std::mem::take(&mut self.spare);
        into.clear();
        for e in from.drain(..) {
            step(self, e, &mut into);
        }
        self.entries = into;
        self.spare = from;
    }
}

/// Byte offsets of a text to UTF-16 units; near steps are cheap in both directions.
pub(super) struct Utf16<'a> {
    text: &'a str,
    ascii: bool,
    byte: usize,
    unit: usize,
}

impl<'a> Utf16<'a> {
    pub(super) fn new(text: &'a str) -> Utf16<'a> {
        Utf16 { text, ascii: text.is_ascii(), byte: 0, unit: 0 }
    }

    /// UTF-16 units before byte `at`, a character boundary.
    pub(super) fn at(&mut self, at: usize) -> u32 {
        if self.ascii {
            return at as u32;
        }
        if at >= self.byte {
            self.unit += utf16_len(&self.text[self.byte..at]);
        } else {
            self.unit -= utf16_len(&self.text[at..self.byte]);
        }
        self.byte = at;
        self.unit as u32
    }
}

/// Length in UTF-16 units.
pub(super) fn utf16_len(text: &str) -> usize {
    text.bytes().map(|b| usize::from(b & 0xc0 != 0x80) + usize::from(b >= 0xf0)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn utf16_offsets_equal_encoding(text in "\\PC{0,30}", jumps in proptest::collection::vec(0usize..31, 1..10)) {
            let ends: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
            let mut cursor = Utf16::new(&text);
            for j in jumps {
                let at = ends[j % ends.len()];
                prop_assert_eq!(cursor.at(at) as usize, text[..at].encode_utf16().count());
            }
        }
    }

    #[test]
    fn a_word_is_copied_only_when_changed() {
        let mut buf = String::new();
        let mut w = Word::new("running", &mut buf, "word");
        w.slice(0, 3);
        assert!(!w.is_changed());
        assert_eq!(w.as_str(), "run");
        w.make_mut().push('s');
        assert_eq!(w.as_str(), "runs");
        w.slice(1, 4);
        assert_eq!(w.as_str(), "uns");
    }
}
