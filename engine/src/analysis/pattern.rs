//! Java's regular expressions, as far as a linear-time engine goes.
//!
//! `\d`, `\w`, `\s` and their opposites mean ASCII as in Java; flags are Java's names. Look-around and
//! back-references are refused: they need backtracking, which a text from outside could drive for hours.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

use crate::error::Error;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// Compiles Java syntax; `flags` such as `CASE_INSENSITIVE|COMMENTS`.
    pub(super) fn new(java: &str, flags: &str) -> Result<Pattern, Error> {
        let mut builder = RegexBuilder::new(&translate(java));
        builder.size_limit(4 << 20);
        for flag in flags.split('|').map(str::trim).filter(|f| !f.is_empty()) {
            match flag.to_ascii_uppercase().as_str() {
                "CASE_INSENSITIVE" => builder.case_insensitive(true),
                "MULTILINE" => builder.multi_line(true),
                "DOTALL" => builder.dot_matches_new_line(true),
                "COMMENTS" => builder.ignore_whitespace(true),
                "UNICODE_CASE" | "CANON_EQ" | "UNIX_LINES" | "UNICODE_CHAR_CLASS" | "UNICODE_CHARACTER_CLASS" => {
                    &mut builder
                }
                "LITERAL" => {
                    builder = RegexBuilder::new(&regex::escape(java));
                    &mut builder
                }
                _ => return Err(Error::illegal_argument(format!("Unknown regex flag [{flag}]"))),
            };
        }
        let regex = builder
            .build()
            .map_err(|e| Error::illegal_argument(format!("cannot use the regular expression [{java}]: {e}")))?;
        Ok(Pattern { regex })
    }

    /// Byte range of a group of every match, in order.
    pub(super) fn for_each_group(&self, text: &str, group: usize, visit: &mut impl FnMut(usize, usize)) {
        if group == 0 {
            self.regex.find_iter(text).for_each(|m| visit(m.start(), m.end()));
            return;
        }
        for found in self.regex.captures_iter(text) {
            if let Some(m) = found.get(group) {
                visit(m.start(), m.end());
            }
        }
    }

    pub(super) fn group_count(&self) -> usize {
        self.regex.captures_len() - 1
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Whether it matches from the first to the last character.
    pub(super) fn matches_whole(&self, text: &str) -> bool {
        self.regex.find(text).is_some_and(|m| m.start() == 0 && m.end() == text.len())
    }

    /// Every match (start, end) with what a replacement makes of it.
    pub(super) fn for_each_replacement(
        &self,
        text: &str,
        replacement: &Replacement,
        first_only: bool,
        visit: &mut impl FnMut(usize, usize, &str),
    ) {
        let mut buf = String::new();
        for found in self.regex.captures_iter(text) {
            buf.clear();
            for part in &replacement.parts {
                match part {
                    Part::Text(t) => buf.push_str(t),
                    Part::Group(n) => buf.push_str(found.get(*n).map_or("", |m| m.as_str())),
                    Part::Named(n) => buf.push_str(found.name(n).map_or("", |m| m.as_str())),
                }
            }
            if let Some(whole) = found.get(0) {
                visit(whole.start(), whole.end(), &buf);
            }
            if first_only {
                break;
            }
        }
    }
}

#[derive(Debug)]
enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

/// A replacement in Java's syntax: `$1`, `${name}`, `\$`.
#[derive(Debug)]
pub(super) struct Replacement {
    parts: Vec<Part>,
}

impl Replacement {
    /// How long a text of so many bytes can become: every match lies apart from the others, and one may be empty.
    pub(super) fn bytes_max(&self, n: usize) -> usize {
        let text: usize = self.parts.iter().map(|p| if let Part::Text(text) = p { text.len() } else { 0 }).sum();
        let groups = self.parts.iter().filter(|p| !matches!(p, Part::Text(_))).count();
        n.saturating_mul(groups + 1).saturating_add(n.saturating_add(1).saturating_mul(text))
    }

    /// `groups`: how many the pattern has; a digit that would go beyond them is text.
    pub(super) fn new(java: &str, groups: usize) -> Result<Replacement, Error> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = java.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => text
                    .push(chars.next().ok_or_else(|| Error::illegal_argument("character to be escaped is missing"))?),
                '$' => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    if chars.next_if_eq(&'{').is_some() {
                        let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                        parts.push(Part::Named(name));
                        continue;
                    }
                    let digit = chars.next().and_then(|c| c.to_digit(10));
                    let mut n = digit.ok_or_else(|| Error::illegal_argument("Illegal group reference"))? as usize;
                    if n > groups {
                        return Err(Error::request("index_out_of_bounds_exception", format!("No group {n}")));
                    }
                    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                        if n * 10 + d as usize > groups {
                            break;
                        }
                        n = n * 10 + d as usize;
                        chars.next();
                    }
                    parts.push(Part::Group(n));
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Replacement { parts })
    }
}

/// Java's escapes that mean something else here.
fn translate(java: &str) -> String {
    let mut out = String::with_capacity(java.len() + 16);
    let mut chars = java.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str("[ \\t\\n\\x0B\\f\\r]"),
            Some('S') => out.push_str("[^ \\t\\n\\x0B\\f\\r]"),
            Some('h') => out.push_str("[ \\t\\u{A0}\\u{1680}\\u{180e}\\u{2000}-\\u{200a}\\u{202f}\\u{205f}\\u{3000}]"),
            Some('e') => out.push_str("\\x1B"),
            Some('Z') => out.push_str("(?:\\n?\\z)"),
            Some('u') => {
                let hex: String = chars.by_ref().take(4).collect();
                out.push_str(&format!("\\u{{{hex}}}"));
            }
            Some('Q') => {
                let rest = chars.as_str();
                let end = rest.find("\\E").unwrap_or(rest.len());
                out.push_str(&regex::escape(&rest[..end]));
                chars = rest[(end + 2).min(rest.len())..].chars();
            }
            Some('p' | 'P') if chars.as_str().starts_with('{') => {
                let rest = chars.as_str();
                let end = rest.find('}').map_or(rest.len(), |i| i + 1);
                let negated = java.as_bytes()[java.len() - rest.len() - 1] == b'P';
                out.push_str(&property(&rest[..end], negated));
                chars = rest[end..].chars();
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// Java's POSIX and `Is`/`In` property names.
fn property(braced: &str, negated: bool) -> String {
    let name = braced.trim_start_matches('{').trim_end_matches('}');
    let posix = match name {
        "Lower" | "javaLowerCase" => "a-z",
        "Upper" | "javaUpperCase" => "A-Z",
        "ASCII" => "\\x00-\\x7F",
        "Alpha" => "a-zA-Z",
        "Digit" => "0-9",
        "Alnum" => "0-9a-zA-Z",
        "Punct" => "!-/:-@\\[-`\\{-~",
        "Graph" => "!-~",
        "Print" => " -~",
        "Blank" => " \\t",
        "Cntrl" => "\\x00-\\x1F\\x7F",
        "XDigit" => "0-9a-fA-F",
        "Space" => " \\t\\n\\x0B\\f\\r",
        _ => "",
    };
    let p = if negated { 'P' } else { 'p' };
    if posix.is_empty() {
        format!("\\{p}{{{}}}", name.strip_prefix("Is").unwrap_or(name))
    } else {
        format!("[{}{posix}]", if negated { "^" } else { "" })
    }
}

macro_rules! category {
    ($name:ident, $pattern:literal, $doc:literal) => {
        #[doc = $doc]
        pub(super) fn $name(c: char) -> bool {
            static CLASS: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a constant pattern"));
            CLASS.is_match(c.encode_utf8(&mut [0; 4]))
        }
    };
}

category!(is_letter, r"^\p{L}", "General category L.");
category!(is_decimal, r"^\p{Nd}", "General category Nd.");
category!(is_punctuation, r"^\p{P}", "General category P.");
category!(is_symbol, r"^\p{S}", "General category S.");

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(java: &str, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        Pattern::new(java, "").unwrap().for_each_group(text, 0, &mut |a, b| out.push(text[a..b].to_owned()));
        out
    }

    #[test]
    fn classes_are_ascii_as_in_java() {
        assert_eq!(groups("\\w+", "aé1"), ["a", "1"]);
        assert_eq!(groups("[\\d.]+", "1.2٣"), ["1.2"]);
        assert_eq!(groups("\\p{Punct}", "a[b"), ["["]);
        assert_eq!(groups("\\Qa.b\\E+", "a.bb axb"), ["a.bb"]);
        assert_eq!(groups("\\p{L}+", "né 1"), ["né"]);
        assert_eq!(groups("[^\\p{L}\\d]", "é1-"), ["-"]);
    }

    #[test]
    fn replacements_are_javas() {
        let p = Pattern::new("(\\d)(x?)", "").unwrap();
        let r = Replacement::new("<$1\\$$12>", p.group_count()).unwrap();
        let mut out = String::new();
        p.for_each_replacement("7x", &r, false, &mut |_, _, by| out.push_str(by));
        assert_eq!(out, "<7$72>");
        assert!(Replacement::new("$3", 2).is_err());
        assert!(Replacement::new("$", 2).is_err());
    }

    #[test]
    fn bad_patterns_are_errors() {
        for java in ["(", "a{", "(?<=a)b", "\\", "\\p{", "[", "\\uzz", "(a{1000}){1000}"] {
            assert!(Pattern::new(java, "").is_err(), "{java}");
        }
        assert!(Pattern::new("(?<=a)b", "").is_err());
        assert!(Pattern::new("a", "NO_SUCH").is_err());
    }
}
