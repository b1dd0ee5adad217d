//! `html_strip`: tags and comments go, entities are decoded, block tags become line feeds.

use super::{Output, entities};
use crate::analysis::token::utf16_len;

/// Tags inside running text: a word may go on across them.
const INLINE: [&str; 33] = [
    "a", "abbr", "acronym", "b", "basefont", "bdo", "big", "cite", "code", "dfn", "em", "font", "i", "img", "input",
    "kbd", "label", "q", "s", "samp", "select", "small", "span", "strike", "strong", "sub", "sup", "textarea", "tt",
    "u", "var", "ins", "del",
];

/// What a piece of markup is: its end, and what stands in its place.
enum Markup {
    Replace(usize, &'static str),
    Character(usize, char),
    /// A CDATA section: its text is kept.
    Keep {
        from: usize,
        to: usize,
        end: usize,
    },
    /// Not markup after all.
    Text,
}

pub(super) fn strip(text: &str, escaped_tags: &[String], out: &mut Output) {
    let mut from = 0;
    let mut at = 0;
    // Where no closing `-->`, `?>` or `]]>` follows, do not look for it again.
    let mut unclosed: [usize; 3] = [usize::MAX; 3];
    while let Some(i) = text[at..].find(['<', '&']) {
        let start = at + i;
        let markup = if text.as_bytes()[start] == b'<' {
            tag(text, start, escaped_tags, &mut unclosed)
        } else {
            entity(text, start)
        };
        match markup {
            Markup::Text => at = start + 1,
            Markup::Replace(end, by) => {
                out.keep(&text[from..start]);
                out.replace(utf16_len(&text[start..end]), by);
                (from, at) = (end, end);
            }
            Markup::Character(end, c) => {
                out.keep(&text[from..start]);
                out.replace(utf16_len(&text[start..end]), c.encode_utf8(&mut [0; 4]));
                (from, at) = (end, end);
            }
            Markup::Keep { from: inner, to, end } => {
                out.keep(&text[from..start]);
                out.replace(utf16_len(&text[start..inner]), "");
                out.keep(&text[inner..to]);
                out.replace(utf16_len(&text[to..end]), "");
                (from, at) = (end, end);
            }
        }
    }
    out.keep(&text[from..]);
}

fn entity(text: &str, start: usize) -> Markup {
    let rest = &text[start + 1..];
    let semicolon = |end: usize| end + usize::from(text.as_bytes().get(end) == Some(&b';'));
    if let Some(number) = rest.strip_prefix('#') {
        let (digits, radix, prefix) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16, 3),
            None => (number, 10, 2),
        };
        let n = digits.bytes().take(8).take_while(|b| (*b as char).is_digit(radix)).count();
        let c = u32::from_str_radix(&digits[..n], radix).ok().and_then(char::from_u32);
        return match c {
            Some(c) => Markup::Character(semicolon(start + prefix + n), c),
            None => Markup::Text,
        };
    }
    let n = rest.bytes().take(10).take_while(u8::is_ascii_alphanumeric).count();
    match entities::named(&rest[..n]) {
        Some(c) => Markup::Character(semicolon(start + 1 + n), c),
        None => Markup::Text,
    }
}

fn tag(text: &str, start: usize, escaped_tags: &[String], unclosed: &mut [usize; 3]) -> Markup {
    let rest = &text[start..];
    let mut close = |slot: usize, open: usize, mark: &str| -> Option<usize> {
        if start >= unclosed[slot] {
            return None;
        }
        match rest[open..].find(mark) {
            Some(i) => Some(start + open + i),
            None => {
                unclosed[slot] = start;
                None
            }
        }
    };
    if rest.starts_with("<!--") {
        return close(0, 4, "-->").map_or(Markup::Text, |i| Markup::Replace(i + 3, ""));
    }
    if rest.starts_with("<![CDATA[") {
        return match close(1, 9, "]]>") {
            Some(i) => Markup::Keep { from: start + 9, to: i, end: i + 3 },
            None => Markup::Text,
        };
    }
    if rest.starts_with("<?") {
        return close(2, 2, "?>").map_or(Markup::Text, |i| Markup::Replace(i + 2, ""));
    }
    let mut name_at = 1;
    if rest[1..].starts_with(['/', '!']) {
        name_at = 2;
    }
    let n =
        rest[name_at..].bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-')).count();
    if n == 0 || !rest.as_bytes()[name_at].is_ascii_alphabetic() {
        return Markup::Text;
    }
    let Some(end) = tag_end(rest, name_at + n) else { return Markup::Text };
    if rest.as_bytes()[1] == b'!' {
        return Markup::Replace(start + end, "");
    }
    let name = rest[name_at..name_at + n].to_ascii_lowercase();
    if escaped_tags.iter().any(|t| t.eq_ignore_ascii_case(&name)) {
        return Markup::Text;
    }
    if name_at == 1 && (name == "script" || name == "style") && rest.as_bytes()[end - 2] != b'/' {
        return Markup::Replace(start + raw_text_end(rest, end, &name), "\n");
    }
    let inline = INLINE.contains(&name.as_str());
    Markup::Replace(start + end, if inline { "" } else { "\n" })
}

/// After the `>` of a tag; quoted attribute values may contain one. A tag longer than 8 KiB is taken for text.
fn tag_end(rest: &str, from: usize) -> Option<usize> {
    let mut quote = None;
    for (i, b) in rest.bytes().enumerate().skip(from).take(8192) {
        match (quote, b) {
            (None, b'>') => return Some(i + 1),
            (None, b'"' | b'\'') => quote = Some(b),
            (None, b'<') => return None,
            (Some(q), b) if q == b => quote = None,
            _ => {}
        }
    }
    None
}

/// After `</script>` or `</style>`, or the end of the text.
fn raw_text_end(rest: &str, from: usize, name: &str) -> usize {
    let mut at = from;
    while let Some(i) = rest[at..].find("</") {
        let close = at + i + 2;
        if rest.as_bytes().get(close..close + name.len()).is_some_and(|b| b.eq_ignore_ascii_case(name.as_bytes())) {
            return rest[close..].find('>').map_or(rest.len(), |i| close + i + 1);
        }
        at = close;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CharFilter, Corrections};

    fn strip(text: &str) -> (String, Corrections) {
        CharFilter::HtmlStrip { escaped_tags: Vec::new() }.apply(text)
    }

    #[test]
    fn markup_goes_and_text_stays() {
        for (html, text) in [
            ("<p>a<b>b</b></p>", "\nab\n"),
            ("a &lt; b &eacute;&#233;&#xe9; &nope; 1 < 2 &", "a < b ééé &nope; 1 < 2 &"),
            ("x<!-- <b> -->y<?php ?>z<!DOCTYPE html>", "xyz"),
            ("<script>if (a<b) {}</SCRIPT >c<style>d", "\nc\n"),
            ("<a href=\"x>y\">z</a>", "z"),
            ("<![CDATA[<b>]]>", "<b>"),
            ("<!-- open", "<!-- open"),
        ] {
            assert_eq!(strip(html).0, text, "{html}");
        }
    }

    #[test]
    fn offsets_point_into_the_html() {
        let (text, c) = strip("<b>ab</b> &amp; c");
        assert_eq!(text, "ab & c");
        assert_eq!(c.correct(0), 3);
        assert_eq!(c.correct(5), 16);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[<>&;#x/!?\\-a-c1é\"' \\[\\]]{0,60}") {
            let (out, c) = strip(&text);
            let end = out.encode_utf16().count() as u32;
            prop_assert!(c.correct(end) as usize <= text.encode_utf16().count());
        }
    }
}
