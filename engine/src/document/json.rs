//! A pull reader of JSON text: strict RFC 8259, no allocation, positions for errors. The caller walks the nesting and
//! bounds its depth; [`Json::skip`] walks a whole value without recursion.

use crate::error::ParseError;

/// Nesting that is read. What else reads a document (partial updates, `_source` filters) must not meet deeper ones.
pub(crate) const DEPTH_MAX: usize = 120;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A reader over one text.
#[derive(Clone, Debug)]
pub(crate) struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    pub(crate) fn new(text: &'a str) -> Json<'a> {
        Json { text, at: 0 }
    }

    /// Byte offset of the next character.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The text between two positions.
    pub(crate) fn slice(&self, from: usize, to: usize) -> &'a str {
        &self.text[from..to]
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        let bytes = self.text.as_bytes();
        while self.at < bytes.len() && matches!(bytes[self.at], b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    /// An error at the current position.
    pub(crate) fn error(&self, what: impl std::fmt::Display) -> ParseError {
        let (line, column) = self.line_column(self.at);
        let shown = self.text.char_indices().nth(500).map_or(self.text, |(end, _)| &self.text[..end]);
        let more = self.text.len() - shown.len();
        let truncated = if more > 0 { format!("[truncated {more} bytes]") } else { String::new() };
        ParseError::new(
            "json_parse_exception",
            format!("{what}\n at [Source: (byte[])\"{shown}\"{truncated}; line: {line}, column: {column}]"),
        )
    }

    /// Line and column of a position, counted from 1.
    pub(crate) fn line_column(&self, at: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        (line, column)
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => {
                let mut error = self.error(format_args!("Unexpected end-of-input: {expected}"));
                error.kind = "json_e_o_f_exception";
                error
            }
            Some(c) => self.error(format_args!("Unexpected character ('{c}' (code {})): {expected}", c as u32)),
        }
    }

    /// Looks at the next value without reading it.
    pub(crate) fn peek(&mut self) -> Result<Next, ParseError> {
        self.space();
        match self.byte() {
            Some(b'{') => Ok(Next::Object),
            Some(b'[') => Ok(Next::Array),
            Some(b'"') => Ok(Next::String),
            Some(b'-' | b'0'..=b'9') => Ok(Next::Number),
            Some(b't') => Ok(Next::True),
            Some(b'f') => Ok(Next::False),
            Some(b'n') => Ok(Next::Null),
            _ => {
                Err(self
                    .unexpected("expected a valid value (number, String, array, object, 'true', 'false' or 'null')"))
            }
        }
    }

    /// `true`, `false` or `null`, as peeked.
    pub(crate) fn word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes())
            && !self.text.as_bytes().get(self.at + word.len()).is_some_and(u8::is_ascii_alphanumeric)
        {
            self.at += word.len();
            return Ok(());
        }
        let token: String = self.text[self.at..].chars().take_while(|c| c.is_alphanumeric()).take(40).collect();
        Err(self.error(format_args!("Unrecognized token '{token}': was expecting ('true', 'false' or 'null')")))
    }

    /// Enters an object or array, as peeked.
    pub(crate) fn open(&mut self) {
        debug_assert!(matches!(self.byte(), Some(b'{' | b'[')));
        self.at += 1;
    }

    /// The next key of an object and its colon, or the object's end. `first`: no comma is due.
    pub(crate) fn key<'b>(&mut self, first: bool, buffer: &'b mut String) -> Result<Option<&'b str>, ParseError>
    where
        'a: 'b,
    {
        self.space();
        match self.byte() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => {
                self.at += 1;
                self.space();
            }
            _ if !first => return Err(self.unexpected("was expecting comma to separate Object entries")),
            _ => {}
        }
        if self.byte() != Some(b'"') {
            return Err(self.unexpected("was expecting double-quote to start field name"));
        }
        let key = self.string(buffer)?;
        self.space();
        if self.byte() != Some(b':') {
            return Err(self.unexpected("was expecting a colon to separate field name and value"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// The same with the key as it stands in the text, quotes included.
    pub(crate) fn key_raw<'b>(
        &mut self,
        first: bool,
        buffer: &'b mut String,
    ) -> Result<Option<(&'b str, &'a str)>, ParseError>
    where
        'a: 'b,
    {
        self.space();
        let mut start = self.at;
        if !first && self.byte() == Some(b',') {
            let mut after = self.clone();
            after.at += 1;
            after.space();
            start = after.at;
        }
        let Some(key) = self.key(first, buffer)? else { return Ok(None) };
        // Between the key and here there are only spaces and the colon.
        let raw = self.text[start..self.at - 1].trim_end_matches([' ', '\n', '\t', '\r']);
        Ok(Some((key, raw)))
    }

    /// Whether an array has another element.
    pub(crate) fn element(&mut self, first: bool) -> Result<bool, ParseError> {
        self.space();
        match self.byte() {
            Some(b']') => {
                self.at += 1;
                // `[1,]` is refused by whoever peeks after the comma.
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                self.space();
                if self.byte() == Some(b']') {
                    return Err(self.unexpected("expected a valid value"));
                }
                Ok(true)
            }
            _ if !first => Err(self.unexpected("was expecting comma to separate Array entries")),
            _ => Ok(true),
        }
    }

    /// Nothing but space may follow.
    pub(crate) fn at_end(&mut self) -> bool {
        self.space();
        self.at == self.text.len()
    }

    /// A number, as written.
    pub(crate) fn number(&mut self) -> Result<&'a str, ParseError> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = self.at;
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > from
        };
        at += usize::from(bytes.get(at) == Some(&b'-'));
        let zero = bytes.get(at) == Some(&b'0');
        let integer = at;
        let mut valid = digits(&mut at);
        if zero && at - integer > 1 {
            self.at = at;
            return Err(self.error("Invalid numeric value: Leading zeroes not allowed"));
        }
        if valid && bytes.get(at) == Some(&b'.') {
            at += 1;
            valid = digits(&mut at);
        }
        if valid && matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            valid = digits(&mut at);
        }
        self.at = at;
        if !valid || bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'.') {
            return Err(self.unexpected("Expected space separating root-level values or a digit in a number"));
        }
        Ok(&self.text[start..at])
    }

    /// A string's content: a slice of the text, or unescaped in `buffer` if it has escapes.
    pub(crate) fn string<'b>(&mut self, buffer: &'b mut String) -> Result<&'b str, ParseError>
    where
        'a: 'b,
    {
        debug_assert_eq!(self.byte(), Some(b'"'));
        let text = self.text;
        let start = self.at + 1;
        self.at = plain_end(text.as_bytes(), start);
        if self.byte() == Some(b'"') {
            let content = &text[start..self.at];
            self.at += 1;
            return Ok(content);
        }
        buffer.clear();
        let mut from = start;
        loop {
            buffer.push_str(&text[from..self.at]);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(buffer);
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    buffer.push(c);
                    from = self.at;
                    self.at = plain_end(text.as_bytes(), from);
                }
                Some(control) => {
                    return Err(self.error(format_args!(
                        "Illegal unquoted character ((CTRL-CHAR, code {control})): has to be escaped using backslash \
                         to be included in string value"
                    )));
                }
                None => {
                    let mut error = self.error("Unexpected end-of-input in VALUE_STRING");
                    error.kind = "json_e_o_f_exception";
                    return Err(error);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex(self.at + 2)?;
                self.at += 6;
                let code = match first {
                    0xd800..0xdc00 => {
                        if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                            return Err(self.error("Incomplete surrogate pair in a character escape"));
                        }
                        let second = self.hex(self.at + 2)?;
                        if !(0xdc00..0xe000).contains(&second) {
                            return Err(self.error("Incomplete surrogate pair in a character escape"));
                        }
                        self.at += 6;
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                return char::from_u32(code)
                    .ok_or_else(|| self.error("Incomplete surrogate pair in a character escape"));
            }
            _ => {
                self.at += 1;
                return Err(self.unexpected("Unrecognized character escape"));
            }
        };
        self.at += 2;
        Ok(plain)
    }

    fn hex(&self, at: usize) -> Result<u32, ParseError> {
        let digits = self.text.as_bytes().get(at..at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(code) => Ok(code),
            None => Err(self.error("Unexpected character: expected a hex-digit for character escape sequence")),
        }
    }

    /// Reads over a whole value, checking it. `key` is called with every key inside: the depth of its object (from
    /// 1), whether it is that object's first, and the key.
    pub(crate) fn skip(
        &mut self,
        depth: usize,
        buffer: &mut String,
        mut key: impl FnMut(usize, bool, &str, &Json<'a>) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        // One bit a level: object or array. The bound on depth makes it fit.
        let mut is_object: u128 = 0;
        let mut level = 0usize;
        loop {
            let mut opened = false;
            match self.peek()? {
                Next::Object | Next::Array => {
                    let object = self.byte() == Some(b'{');
                    self.open();
                    level += 1;
                    if depth + level > DEPTH_MAX {
                        return Err(self.too_deep());
                    }
                    is_object = is_object & !(1 << level) | u128::from(object) << level;
                    opened = true;
                }
                Next::String => {
                    self.string(buffer)?;
                }
                Next::Number => {
                    self.number()?;
                }
                Next::True => self.word("true")?,
                Next::False => self.word("false")?,
                Next::Null => self.word("null")?,
            }
            // Up until something is open that goes on.
            loop {
                if level == 0 {
                    return Ok(());
                }
                let more = if is_object >> level & 1 == 1 {
                    match self.key(opened, buffer)? {
                        Some(name) => {
                            key(level, opened, name, self)?;
                            true
                        }
                        None => false,
                    }
                } else {
                    self.element(opened)?
                };
                if more {
                    break;
                }
                level -= 1;
                opened = false;
            }
        }
    }

    pub(crate) fn too_deep(&self) -> ParseError {
        self.error(format_args!("Document nesting depth exceeds the maximum allowed ({DEPTH_MAX})"))
    }
}

/// The first byte from `at` on that ends a plain run of a string: a quote, a backslash or a control character.
/// Eight bytes at a time.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let zero_in = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
        let special = zero_in(word ^ (ONES * u64::from(b'"')))
            | zero_in(word ^ (ONES * u64::from(b'\\')))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS);
        if special != 0 {
            // The lowest flag is exact; a borrow can only raise flags above it.
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|b| *b >= 0x20 && *b != b'"' && *b != b'\\') {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn valid(text: &str) -> bool {
        let mut json = Json::new(text);
        json.skip(0, &mut String::new(), |_, _, _, _| Ok(())).is_ok() && json.at_end()
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(valid(&nested(DEPTH_MAX)));
        assert!(!valid(&nested(DEPTH_MAX + 1)));
        assert!(!valid(&"[".repeat(1_000_000)));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in prop_oneof![
            "[\\[\\]{}\",:0-9.eE+\\-a\\\\untrfls \n\u{1}é]{0,24}",
            "\"[a-c\\\\\"u0-9d\u{2}é]{0,30}\"",
            "-?[0-9]{0,3}[.]?[0-9]{0,3}[eE]?[+-]?[0-9]{0,2}",
        ]) {
            let expected = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            // IgnoredAny does not look into escapes, so strings are compared by value.
            match serde_json::from_str::<String>(&text) {
                Ok(string) => {
                    let mut buffer = String::new();
                    let mut json = Json::new(text.trim());
                    prop_assert_eq!(json.string(&mut buffer).unwrap(), string);
                    prop_assert!(json.at_end());
                }
                Err(_) if text.contains('"') && expected => {}
                Err(_) => prop_assert_eq!(valid(&text), expected, "{}", text),
            }
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = valid(&text);
            let _ = valid(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn plain_runs_end_at_the_first_special(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), Just(b'!'), Just(0x1f)], 0..40)) {
            let naive = bytes.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').unwrap_or(bytes.len());
            prop_assert_eq!(plain_end(&bytes, 0), naive);
        }
    }
}
