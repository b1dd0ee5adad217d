//! The grammar of `simple_query_string`: it never fails, what makes no sense is dropped.
//!
//! ```text
//! +  and      |  or      -  not      "..."  phrase      *  prefix at the end of a word
//! ( )  group      ~N  edits after a word, slop after a phrase      \  escapes
//! ```

use crate::search::query_string::{Expr, Leaf, Occur};

/// Which operators are read; the others are text.
pub mod flags {
    /// `+`
    pub const AND: u32 = 1;
    /// `-`
    pub const NOT: u32 = 1 << 1;
    /// `|`
    pub const OR: u32 = 1 << 2;
    /// `*`
    pub const PREFIX: u32 = 1 << 3;
    /// `"`
    pub const PHRASE: u32 = 1 << 4;
    /// `(` and `)`
    pub const PRECEDENCE: u32 = 1 << 5;
    /// `\`
    pub const ESCAPE: u32 = 1 << 6;
    /// Blanks separate words.
    pub const WHITESPACE: u32 = 1 << 7;
    /// `~N` after a word.
    pub const FUZZY: u32 = 1 << 8;
    /// `~N` after a phrase.
    pub const NEAR: u32 = 1 << 9;
    /// All of them.
    pub const ALL: u32 = u32::MAX;
}

/// Groups inside one another; deeper ones are read as text of this level.
const DEPTH_MAX: usize = 100;

/// Parses `text`; `and` is whether clauses are required by default.
#[must_use]
pub fn parse(text: &str, and: bool, flags: u32) -> Option<Expr> {
    let mut parser =
        Parser { chars: text.chars().collect(), at: 0, default: if and { Occur::Must } else { Occur::Should }, flags };
    parser.group(0)
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    default: Occur,
    flags: u32,
}

/// The clauses of a group so far. One operator governs all before it: a change of operator makes them one clause.
#[derive(Default)]
struct Clauses {
    list: Vec<(Occur, Expr)>,
    joined: Option<Occur>,
    next: Option<Occur>,
    negated: bool,
}

impl Clauses {
    fn add(&mut self, expr: Expr, default: Occur) {
        let mut expr = expr;
        if std::mem::take(&mut self.negated) {
            let all = Expr::Leaf(None, Leaf::All, 1.0);
            expr = Expr::Bool(vec![(Occur::MustNot, expr), (Occur::Should, all)], 1.0);
        }
        let occur = self.next.take().unwrap_or(default);
        if self.list.is_empty() {
            // The operator behind the first clause tells what it is.
            self.list.push((occur, expr));
            return;
        }
        if self.joined != Some(occur) {
            if self.list.len() == 1 {
                self.list[0].0 = occur;
            } else {
                let inner = Expr::Bool(std::mem::take(&mut self.list), 1.0);
                self.list.push((occur, inner));
            }
            self.joined = Some(occur);
        }
        self.list.push((occur, expr));
    }

    fn finish(mut self) -> Option<Expr> {
        match self.list.len() {
            0 => None,
            1 => self.list.pop().map(|c| c.1),
            _ => Some(Expr::Bool(self.list, 1.0)),
        }
    }
}

impl Parser {
    fn on(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn group(&mut self, depth: usize) -> Option<Expr> {
        let mut clauses = Clauses::default();
        while let Some(&c) = self.chars.get(self.at) {
            match c {
                '(' if self.on(flags::PRECEDENCE) && depth < DEPTH_MAX && self.closes() => {
                    self.at += 1;
                    if let Some(inner) = self.group(depth + 1) {
                        clauses.add(inner, self.default);
                    }
                }
                ')' if self.on(flags::PRECEDENCE) => {
                    self.at += 1;
                    if depth > 0 {
                        return clauses.finish();
                    }
                }
                '(' if self.on(flags::PRECEDENCE) => self.at += 1,
                '"' if self.on(flags::PHRASE) => self.phrase(&mut clauses),
                '+' if self.on(flags::AND) => {
                    self.at += 1;
                    if !clauses.list.is_empty() {
                        clauses.next = Some(Occur::Must);
                    }
                }
                '|' if self.on(flags::OR) => {
                    self.at += 1;
                    if !clauses.list.is_empty() {
                        clauses.next = Some(Occur::Should);
                    }
                }
                '-' if self.on(flags::NOT) => {
                    self.at += 1;
                    clauses.negated = !clauses.negated;
                }
                c if is_space(c) && self.on(flags::WHITESPACE) => {
                    self.at += 1;
                    clauses.negated = false;
                }
                _ => self.word(&mut clauses),
            }
        }
        clauses.finish()
    }

    /// Whether the group that opens here is closed somewhere.
    fn closes(&self) -> bool {
        self.chars[self.at..].contains(&')')
    }

    fn distance(&mut self) -> Option<u32> {
        if self.chars.get(self.at) != Some(&'~') {
            return None;
        }
        let end = (self.at + 1..).take_while(|&i| self.chars.get(i).is_some_and(char::is_ascii_digit)).last();
        let digits: String = end.map_or(String::new(), |end| self.chars[self.at + 1..=end].iter().collect());
        self.at += 1 + digits.len();
        Some(if digits.is_empty() { 2 } else { digits.parse().unwrap_or(2) })
    }

    fn phrase(&mut self, clauses: &mut Clauses) {
        let start = self.at + 1;
        let mut text = String::new();
        let mut at = start;
        loop {
            match self.chars.get(at) {
                Some('"') => break,
                Some('\\') if self.on(flags::ESCAPE) && at + 1 < self.chars.len() => {
                    text.push(self.chars[at + 1]);
                    at += 2;
                }
                Some(&c) => {
                    text.push(c);
                    at += 1;
                }
                None => {
                    // Not closed: the quote is nothing.
                    self.at = start;
                    return;
                }
            }
        }
        self.at = at + 1;
        let slop = if self.on(flags::NEAR) { self.distance() } else { None };
        if !text.is_empty() {
            clauses.add(Expr::Leaf(None, Leaf::Phrase(text, slop), 1.0), self.default);
        }
    }

    fn word(&mut self, clauses: &mut Clauses) {
        let mut text = String::new();
        let mut prefix = false;
        let mut edits = None;
        while let Some(&c) = self.chars.get(self.at) {
            let ends = match c {
                '"' => self.on(flags::PHRASE),
                '|' => self.on(flags::OR),
                '+' => self.on(flags::AND),
                '(' | ')' => self.on(flags::PRECEDENCE),
                c => is_space(c) && self.on(flags::WHITESPACE),
            };
            if ends {
                break;
            }
            prefix = false;
            if c == '\\' && self.on(flags::ESCAPE) {
                if let Some(&next) = self.chars.get(self.at + 1) {
                    text.push(next);
                }
                self.at += 2;
                continue;
            }
            if c == '~' && self.on(flags::FUZZY) && !text.is_empty() {
                let at = self.at;
                let distance = self.distance();
                let next = self.chars.get(self.at).copied();
                if next.is_none_or(|c| is_space(c) || matches!(c, '"' | '|' | '+' | '(' | ')')) {
                    edits = distance;
                    break;
                }
                self.at = at;
            }
            prefix = c == '*' && self.on(flags::PREFIX) && !text.is_empty();
            text.push(c);
            self.at += 1;
        }
        if text.is_empty() {
            return;
        }
        let leaf = if prefix {
            text.pop();
            Leaf::Prefix(text)
        } else if let Some(edits) = edits {
            Leaf::Fuzzy(text, Some(edits as f32))
        } else {
            Leaf::Text(text)
        };
        clauses.add(Expr::Leaf(None, leaf, 1.0), self.default);
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(expr: &Expr) -> String {
        match expr {
            Expr::Bool(clauses, _) => {
                let part = |(occur, e): &(Occur, Expr)| match occur {
                    Occur::Must => format!("+{}", show(e)),
                    Occur::Should => show(e),
                    Occur::MustNot => format!("-{}", show(e)),
                };
                format!("({})", clauses.iter().map(part).collect::<Vec<_>>().join(" "))
            }
            Expr::Leaf(_, Leaf::Text(t), _) => t.clone(),
            Expr::Leaf(_, Leaf::Phrase(t, slop), _) => {
                format!("\"{t}\"{}", slop.map_or(String::new(), |s| format!("~{s}")))
            }
            Expr::Leaf(_, Leaf::Prefix(t), _) => format!("{t}*"),
            Expr::Leaf(_, Leaf::Fuzzy(t, e), _) => format!("{t}~{}", e.unwrap_or(-1.0)),
            Expr::Leaf(_, Leaf::All, _) => "*:*".to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn grammar() {
        for (text, and, expected) in [
            ("", false, ""),
            ("foo", false, "foo"),
            ("foo bar", false, "(foo bar)"),
            ("foo bar", true, "(+foo +bar)"),
            ("foo + bar", false, "(+foo +bar)"),
            ("foo | bar", true, "(foo bar)"),
            ("foo bar + baz", false, "(+(foo bar) +baz)"),
            ("foo -bar", false, "(foo (-bar *:*))"),
            ("\"a b\"~2 c*", false, "(\"a b\"~2 c*)"),
            ("qick~1 (a | b)", true, "(+qick~1 +(a b))"),
            ("(((", false, ""),
            ("foo)", false, "foo"),
            ("\"open", false, "open"),
            (r"a\+b", false, "a+b"),
            ("a-b", false, "a-b"),
        ] {
            assert_eq!(parse(text, and, flags::ALL).as_ref().map(show).unwrap_or_default(), expected, "{text}");
        }
        assert_eq!(parse("a + b*", false, flags::WHITESPACE).as_ref().map(show).unwrap(), "(a + b*)");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[ab\\\\()\"~*+|0-9 -]{0,40}", and: bool, flags: u32) {
            let _ = parse(&text, and, flags);
        }
    }
}
