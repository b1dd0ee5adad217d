//! Lucene's query grammar: what `query_string` and `q=` take.
//!
//! ```text
//! query   := clause ((AND | OR | && | '||')? clause)*
//! clause  := (+ | - | ! | NOT)? (field ':')? ( '(' query ')' | term ) ('^' number)?
//! term    := word+ | word '~' number? | prefix* | w?ld*c?rd | /regexp/ | "phrase" ('~' number)?
//!          | ('[' | '{') bound TO bound (']' | '}') | '>' bound ...
//! ```
//!
//! AND and OR have no precedence: they make the clauses beside them required or optional, as Lucene's parser does.
//! Words that follow each other without an operator are one text, analyzed together.

/// Groups inside one another.
const DEPTH_MAX: usize = 100;

/// Whether a clause must, may or must not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occur {
    /// Must match.
    Must,
    /// Adds to the score.
    Should,
    /// Must not match.
    MustNot,
}

/// What a leaf looks for. Texts are unescaped, patterns keep their escapes.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// Words to analyze.
    Text(String),
    /// Quoted text and its slop, if given.
    Phrase(String, Option<u32>),
    /// A word and its edits; none = the default.
    Fuzzy(String, Option<f32>),
    /// Text before a final `*`.
    Prefix(String),
    /// A pattern.
    Wildcard(String),
    /// Between slashes.
    Regexp(String),
    /// Bounds; none = open. Second: inclusive.
    Range(Option<(String, bool)>, Option<(String, bool)>),
    /// `*:*`
    All,
    /// `field:*`, `_exists_:field`
    Exists,
}

/// A parsed query.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Clauses.
    Bool(Vec<(Occur, Expr)>, f32),
    /// A leaf: its field (none = the default ones; may be a pattern), and its boost.
    Leaf(Option<String>, Leaf, f32),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    And,
    Or,
    Not,
    Plus,
    Minus,
    Open,
    Close,
    Colon,
    Boost(f32),
    Fuzzy(Option<f32>),
    Quoted(String),
    /// As written, escapes included.
    Term(String),
    Star,
    Prefix(String),
    Wildcard(String),
    Regexp(String),
    Range(Option<(String, bool)>, Option<(String, bool)>),
}

/// Parses `text`; `and` is whether clauses are required by default. An empty text is no clause at all.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(text: &str, and: bool) -> Result<Option<Expr>, String> {
    let tokens = lex(text)?;
    let mut parser = Parser { tokens, at: 0, and, depth: 0 };
    let expr = parser.query(None)?;
    match parser.tokens.get(parser.at) {
        None => Ok(expr),
        Some(token) => Err(format!("unexpected {token:?}")),
    }
}

/// Takes backslashes away: `\:` is `:`, `\u0041` is `A`.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('u') => {
                let hex: String = chars.clone().take(4).collect();
                match (hex.len() == 4).then(|| u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)).flatten() {
                    Some(c) => {
                        out.push(c);
                        chars.nth(3);
                    }
                    None => out.push('u'),
                }
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    out
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{3000}')
}

/// Characters that end a word unless escaped.
fn ends_word(c: char) -> bool {
    is_space(c) || matches!(c, '!' | '(' | ')' | ':' | '^' | '[' | ']' | '"' | '{' | '}' | '~' | '/')
}

fn lex(text: &str) -> Result<Vec<Token>, String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let number = |at: &mut usize| -> Option<f32> {
        let start = *at;
        while chars.get(*at).is_some_and(|c| c.is_ascii_digit() || *c == '.' && *at > start) {
            *at += 1;
        }
        chars[start..*at].iter().collect::<String>().parse().ok()
    };
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied();
        if is_space(c) {
            at += 1;
            continue;
        }
        let single = match c {
            '+' => Some(Token::Plus),
            '-' => Some(Token::Minus),
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ':' => Some(Token::Colon),
            '!' => Some(Token::Not),
            _ => None,
        };
        if let Some(token) = single {
            tokens.push(token);
            at += 1;
            continue;
        }
        match c {
            '&' if next == Some('&') => {
                tokens.push(Token::And);
                at += 2;
            }
            '|' if next == Some('|') => {
                tokens.push(Token::Or);
                at += 2;
            }
            '^' => {
                at += 1;
                let Some(boost) = number(&mut at) else { return Err("a number must follow '^'".to_owned()) };
                tokens.push(Token::Boost(boost));
            }
            '~' => {
                at += 1;
                tokens.push(Token::Fuzzy(number(&mut at)));
            }
            '"' => {
                let start = at + 1;
                at = start;
                while chars.get(at).is_some_and(|&c| c != '"') {
                    at += if chars[at] == '\\' { 2 } else { 1 };
                }
                if at >= chars.len() {
                    return Err("a quote is not closed".to_owned());
                }
                tokens.push(Token::Quoted(unescape(&chars[start..at].iter().collect::<String>())));
                at += 1;
            }
            '/' => {
                let start = at + 1;
                at = start;
                let mut pattern = String::new();
                while chars.get(at).is_some_and(|&c| c != '/') {
                    if chars[at] == '\\' && chars.get(at + 1) == Some(&'/') {
                        at += 1;
                    } else if chars[at] == '\\' && at + 1 < chars.len() {
                        pattern.push('\\');
                        at += 1;
                    }
                    pattern.push(chars[at]);
                    at += 1;
                }
                if at >= chars.len() {
                    return Err("a regular expression is not closed".to_owned());
                }
                tokens.push(Token::Regexp(pattern));
                at += 1;
            }
            '[' | '{' => {
                let (lower, upper, end) = range(&chars, at)?;
                tokens.push(Token::Range(lower, upper));
                at = end;
            }
            ']' | '}' => return Err(format!("unexpected '{c}'")),
            _ => {
                let start = at;
                let (mut stars, mut marks) = (0, 0);
                while chars.get(at).is_some_and(|&c| !ends_word(c)) {
                    match chars[at] {
                        '\\' => at += 1,
                        '*' => stars += 1,
                        '?' => marks += 1,
                        _ => {}
                    }
                    at += 1;
                }
                if at > chars.len() {
                    return Err("nothing follows the last '\\'".to_owned());
                }
                let word: String = chars[start..at].iter().collect();
                // The last character is a bare star only if no backslash is before it.
                let ends_with_star = chars[at - 1] == '*' && (at < start + 2 || chars[at - 2] != '\\');
                tokens.push(match word.as_str() {
                    "AND" => Token::And,
                    "OR" => Token::Or,
                    "NOT" => Token::Not,
                    "*" => Token::Star,
                    _ if stars == 1 && marks == 0 && ends_with_star => Token::Prefix(unescape(&word[..word.len() - 1])),
                    _ if stars + marks > 0 => Token::Wildcard(word),
                    _ => Token::Term(word),
                });
            }
        }
    }
    Ok(tokens)
}

type RangeEnd = Option<(String, bool)>;

fn range(chars: &[char], open: usize) -> Result<(RangeEnd, RangeEnd, usize), String> {
    let mut at = open + 1;
    let mut parts: Vec<(String, bool)> = Vec::new();
    loop {
        while chars.get(at).copied().is_some_and(is_space) {
            at += 1;
        }
        let Some(&c) = chars.get(at) else { return Err("a range is not closed".to_owned()) };
        if c == ']' || c == '}' {
            break;
        }
        let start = at;
        if c == '"' {
            at += 1;
            while chars.get(at).is_some_and(|&c| c != '"') {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            if at >= chars.len() {
                return Err("a quote is not closed".to_owned());
            }
            parts.push((unescape(&chars[start + 1..at].iter().collect::<String>()), true));
            at += 1;
        } else {
            while chars.get(at).is_some_and(|&c| !is_space(c) && c != ']' && c != '}') {
                at += 1;
            }
            parts.push((unescape(&chars[start..at].iter().collect::<String>()), false));
        }
        if parts.len() > 3 {
            return Err("a range has two ends".to_owned());
        }
    }
    let inclusive = (chars[open] == '[', chars[at] == ']');
    let (lower, upper) = match &parts[..] {
        [lower, (to, false), upper] if to == "TO" => (lower, upper),
        [lower, upper] if *upper != ("TO".to_owned(), false) => (lower, upper),
        _ => return Err("a range reads [a TO b]".to_owned()),
    };
    let end = |(text, quoted): &(String, bool), inclusive| (*quoted || text != "*").then(|| (text.clone(), inclusive));
    Ok((end(lower, inclusive.0), end(upper, inclusive.1), at + 1))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    and: bool,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Conjunction {
    None,
    And,
    Or,
}

impl Parser {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    fn query(&mut self, field: Option<&str>) -> Result<Option<Expr>, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("too many groups inside one another".to_owned());
        }
        let mut clauses: Vec<(Occur, Expr)> = Vec::new();
        let mut bare = true;
        let mut conjunction = Conjunction::None;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Close => break,
                Token::And | Token::Or if clauses.is_empty() || conjunction != Conjunction::None => {
                    return Err(format!("unexpected {token:?}"));
                }
                Token::And => conjunction = Conjunction::And,
                Token::Or => conjunction = Conjunction::Or,
                _ => {
                    let modifier = match token {
                        Token::Plus => Some(Occur::Must),
                        Token::Minus | Token::Not => Some(Occur::MustNot),
                        _ => None,
                    };
                    self.at += usize::from(modifier.is_some());
                    bare &= modifier.is_none();
                    let run = modifier.is_none() && conjunction == Conjunction::None;
                    let expr = self.clause(field, run)?;
                    self.add(&mut clauses, conjunction, modifier, expr);
                    conjunction = Conjunction::None;
                    continue;
                }
            }
            self.at += 1;
        }
        if conjunction != Conjunction::None {
            return Err("an operand is missing at the end".to_owned());
        }
        self.depth -= 1;
        Ok(match clauses.len() {
            0 => None,
            1 if bare => clauses.pop().map(|c| c.1),
            _ => Some(Expr::Bool(clauses, 1.0)),
        })
    }

    fn add(&self, clauses: &mut Vec<(Occur, Expr)>, conjunction: Conjunction, modifier: Option<Occur>, expr: Expr) {
        if let Some(last) = clauses.last_mut()
            && last.0 != Occur::MustNot
        {
            match conjunction {
                Conjunction::And => last.0 = Occur::Must,
                Conjunction::Or if self.and => last.0 = Occur::Should,
                _ => {}
            }
        }
        let occur = match modifier {
            Some(occur) => occur,
            None if self.and && conjunction != Conjunction::Or => Occur::Must,
            None if !self.and && conjunction == Conjunction::And => Occur::Must,
            None => Occur::Should,
        };
        clauses.push((occur, expr));
    }

    /// `run`: words that follow belong to the clause, too. Those after `+a`, `x AND a` or `field:a` do not.
    fn clause(&mut self, outer: Option<&str>, mut run: bool) -> Result<Expr, String> {
        let mut field = outer.map(str::to_owned);
        if self.peek(1) == Some(&Token::Colon) {
            match self.peek(0) {
                Some(Token::Term(name)) => field = Some(unescape(name)),
                Some(Token::Star) if self.peek(2) == Some(&Token::Star) => {
                    self.at += 3;
                    return Ok(Expr::Leaf(None, Leaf::All, self.boost()));
                }
                Some(Token::Star) => field = Some("*".to_owned()),
                Some(Token::Prefix(name)) => field = Some(format!("{name}*")),
                Some(Token::Wildcard(name)) => field = Some(unescape(name)),
                other => return Err(format!("unexpected {other:?} before ':'")),
            }
            self.at += 2;
            run = false;
        }
        let Some(token) = self.peek(0).cloned() else { return Err("unexpected end".to_owned()) };
        self.at += 1;
        let leaf = match token {
            Token::Open => {
                let inner = self.query(field.as_deref())?;
                if self.peek(0) != Some(&Token::Close) {
                    return Err("')' is missing".to_owned());
                }
                self.at += 1;
                let boost = self.boost();
                return match inner {
                    Some(Expr::Leaf(f, leaf, b)) => Ok(Expr::Leaf(f, leaf, b * boost)),
                    Some(Expr::Bool(clauses, b)) => Ok(Expr::Bool(clauses, b * boost)),
                    None => Err("a group is empty".to_owned()),
                };
            }
            Token::Term(word) => self.word(field.as_deref(), word, run),
            Token::Quoted(text) => {
                let slop = match self.peek(0) {
                    Some(&Token::Fuzzy(slop)) => {
                        self.at += 1;
                        slop.map(|s| s as u32)
                    }
                    _ => None,
                };
                Leaf::Phrase(text, slop)
            }
            Token::Star => Leaf::Exists,
            Token::Prefix(text) => Leaf::Prefix(text),
            Token::Wildcard(text) => Leaf::Wildcard(text),
            Token::Regexp(text) => Leaf::Regexp(text),
            Token::Range(lower, upper) => Leaf::Range(lower, upper),
            other => return Err(format!("unexpected {other:?}")),
        };
        let boost = self.boost();
        if field.as_deref() == Some("_exists_")
            && let Leaf::Text(name) | Leaf::Phrase(name, _) = leaf
        {
            return Ok(Expr::Leaf(Some(name), Leaf::Exists, boost));
        }
        Ok(Expr::Leaf(field, leaf, boost))
    }

    fn word(&mut self, field: Option<&str>, word: String, run: bool) -> Leaf {
        if let Some(&Token::Fuzzy(edits)) = self.peek(0) {
            self.at += 1;
            return Leaf::Fuzzy(unescape(&word), edits);
        }
        let open = |text: &str| (!text.is_empty()).then(|| unescape(text));
        for (sign, upper, inclusive) in
            [(">=", false, true), ("<=", true, true), (">", false, false), ("<", true, false)]
        {
            if let Some(bound) = word.strip_prefix(sign).and_then(open) {
                let bound = Some((bound, inclusive));
                return if upper { Leaf::Range(None, bound) } else { Leaf::Range(bound, None) };
            }
        }
        let mut text = unescape(&word);
        while run && field != Some("_exists_") {
            let Some(Token::Term(next)) = self.peek(0) else { break };
            // The last word before an operator belongs to the operator.
            let bound = matches!(
                self.peek(1),
                Some(
                    Token::Colon
                        | Token::Star
                        | Token::Fuzzy(_)
                        | Token::Boost(_)
                        | Token::And
                        | Token::Or
                        | Token::Not
                )
            );
            if bound || next.starts_with(['<', '>']) {
                break;
            }
            text.push(' ');
            text.push_str(&unescape(next));
            self.at += 1;
        }
        Leaf::Text(text)
    }

    fn boost(&mut self) -> f32 {
        match self.peek(0) {
            Some(&Token::Boost(boost)) => {
                self.at += 1;
                boost
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lucene's notation, with phrases and texts in brackets.
    fn show(expr: &Expr) -> String {
        let boosted = |text: String, boost: f32| if boost == 1.0 { text } else { format!("{text}^{boost}") };
        match expr {
            Expr::Bool(clauses, boost) => {
                let parts: Vec<String> = clauses
                    .iter()
                    .map(|(occur, e)| {
                        let sign = match occur {
                            Occur::Must => "+",
                            Occur::Should => "",
                            Occur::MustNot => "-",
                        };
                        format!("{sign}{}", show(e))
                    })
                    .collect();
                boosted(format!("({})", parts.join(" ")), *boost)
            }
            Expr::Leaf(field, leaf, boost) => {
                let text = match leaf {
                    Leaf::Text(t) => t.clone(),
                    Leaf::Phrase(t, slop) => format!("\"{t}\"{}", slop.map_or(String::new(), |s| format!("~{s}"))),
                    Leaf::Fuzzy(t, edits) => format!("{t}~{}", edits.map_or(String::new(), |e| e.to_string())),
                    Leaf::Prefix(t) => format!("{t}*"),
                    Leaf::Wildcard(t) => format!("w({t})"),
                    Leaf::Regexp(t) => format!("/{t}/"),
                    Leaf::Range(a, b) => format!("range({a:?}, {b:?})").replace("Some((", "(").replace("))", ")"),
                    Leaf::All => "*:*".to_owned(),
                    Leaf::Exists => "exists".to_owned(),
                };
                boosted(field.as_ref().map_or(text.clone(), |f| format!("{f}:{text}")), *boost)
            }
        }
    }

    fn check(text: &str, and: bool, expected: &str) {
        let parsed = parse(text, and).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(parsed.as_ref().map(show).unwrap_or_default(), expected, "{text}");
    }

    #[test]
    fn grammar() {
        check("", false, "");
        check("foo", false, "foo");
        check("foo bar", false, "foo bar");
        check("foo bar baz:x", false, "(foo bar baz:x)");
        check("a AND b", false, "(+a +b)");
        check("a && b || c", false, "(+a +b c)");
        check("a OR b AND c", false, "(a +b +c)");
        check("a OR b AND c", true, "(a +b +c)");
        check("a b OR c", true, "(+a b c)");
        check("+a -b !c NOT d", false, "(+a -b -c -d)");
        check("-a", false, "(-a)");
        check("title:(quick OR brown)^2", false, "(title:quick title:brown)^2");
        check("title:\"a b\"~3^1.5", false, "title:\"a b\"~3^1.5");
        check("qu?ck bro*", false, "(w(qu?ck) bro*)");
        check("*foo", false, "w(*foo)");
        check("quikc~ brwn~1", false, "(quikc~ brwn~1)");
        check("a quikc~", false, "(a quikc~)");
        check("/joh?n(ath[oa]n)/", false, "/joh?n(ath[oa]n)/");
        check(r"/a\/b/", false, "/a/b/");
        check("n:[1 TO 5}", false, "n:range((\"1\", true), (\"5\", false))");
        check("n:[* TO 5]", false, "n:range(None, (\"5\", true))");
        check("n:>=10", false, "n:range((\"10\", true), None)");
        check("d:{2012-01-01 TO *}", false, "d:range((\"2012-01-01\", false), None)");
        check("_exists_:a.b", false, "a.b:exists");
        check("a:*", false, "a:exists");
        check("*:*", false, "*:*");
        check(r"book.\*:(x y)", false, "book.*:x y");
        check(r"a\:b \(c\)", false, "a:b (c)");
        check(r"caf\u00e9", false, "café");
        check("a-b c+d", false, "a-b c+d");
    }

    #[test]
    fn words_run_on_only_where_nothing_marks_the_first() {
        let words = |text: &str| match parse(text, false).unwrap() {
            Some(Expr::Bool(clauses, _)) => clauses.iter().map(|c| show(&c.1)).collect(),
            one => vec![one.as_ref().map(show).unwrap_or_default()],
        };
        assert_eq!(words("a b +c"), ["a b", "c"]);
        assert_eq!(words("+a b c"), ["a", "b c"]);
        assert_eq!(words("+a -b c"), ["a", "b", "c"]);
        assert_eq!(words("x AND a b c"), ["x", "a", "b c"]);
        assert_eq!(words("x OR a b"), ["x", "a", "b"]);
        assert_eq!(words("f:a b c"), ["f:a", "b c"]);
        assert_eq!(words("f:(a b) c"), ["f:a b", "c"]);
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in ["(", ")", "a AND", "AND a", "a:", "\"a", "[1 TO", "a^", "()", "a OR OR b", "\\", "]", "/a", ":a"] {
            assert!(parse(text, false).is_err(), "{text}");
        }
        assert!(parse(&"(".repeat(10_000), false).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[ab\\\\:\\[\\]{}()\"~^*?/+!<>=&|. AONDRT-]{0,40}", and: bool) {
            let _ = parse(&text, and);
        }
    }
}
