//! Filters that look at one word alone: they change it or drop it.

use rustc_hash::FxHashSet;

use super::pattern::{Pattern, Replacement};
use super::token::{Word, utf16_len};
use super::{case, folding, porter};

/// A set of words, with a quick answer for lengths that no word has.
#[derive(Debug, Default)]
pub(super) struct WordSet {
    words: FxHashSet<Box<str>>,
    lengths: u64,
    ignore_case: bool,
}

impl WordSet {
    pub(super) fn new<S: AsRef<str>>(words: impl IntoIterator<Item = S>, ignore_case: bool) -> WordSet {
        let mut set = WordSet { ignore_case, ..WordSet::default() };
        for word in words {
            let word: Box<str> = if ignore_case {
                word.as_ref().chars().map(case::lower).collect::<String>().into()
            } else {
                word.as_ref().into()
            };
            set.lengths |= 1 << word.len().min(63);
            set.words.insert(word);
        }
        set
    }

    #[inline]
    pub(super) fn contains(&self, word: &str) -> bool {
        if self.ignore_case && word.bytes().any(|b| b.is_ascii_uppercase() || b >= 0x80) {
            let lower: String = word.chars().map(case::lower).collect();
            return self.words.contains(lower.as_str());
        }
        self.lengths & (1 << word.len().min(63)) != 0 && self.words.contains(word)
    }
}

/// A filter of single words.
#[derive(Debug)]
pub(super) enum WordFilter {
    Lowercase,
    GreekLowercase,
    TurkishLowercase,
    IrishLowercase,
    Uppercase,
    AsciiFolding,
    Stop(WordSet),
    Keep(WordSet),
    KeepTypes { types: Vec<String>, exclude: bool },
    PorterStem,
    MinimalEnglish,
    PossessiveEnglish,
    Length { min: usize, max: usize },
    Trim,
    Truncate(usize),
    Reverse,
    KeywordMarker(WordSet),
    KeywordPattern(Pattern),
    StemmerOverride(rustc_hash::FxHashMap<String, String>),
    PatternReplace { pattern: Pattern, replacement: Replacement, all: bool },
    Apostrophe,
    Elision(WordSet),
    DecimalDigit,
    Classic,
    CjkWidth,
}

impl WordFilter {
    /// Changes the word; false = drop it.
    #[inline]
    pub(super) fn apply(&self, word: &mut Word<'_, '_>) -> bool {
        match self {
            WordFilter::Lowercase => lowercase(word),
            WordFilter::Stop(set) => return !set.contains(word.as_str()),
            WordFilter::PorterStem => {
                if !word.keyword {
                    porter::stem_word(word);
                }
            }
            WordFilter::PossessiveEnglish => porter::drop_possessive(word),
            other => return other.apply_rare(word),
        }
        true
    }

    fn apply_rare(&self, word: &mut Word<'_, '_>) -> bool {
        match self {
            WordFilter::Lowercase | WordFilter::Stop(_) | WordFilter::PorterStem | WordFilter::PossessiveEnglish => {
                unreachable!("handled by apply")
            }
            WordFilter::GreekLowercase => map(word, greek_lower),
            WordFilter::TurkishLowercase => turkish_lowercase(word),
            WordFilter::IrishLowercase => irish_lowercase(word),
            WordFilter::Uppercase => map(word, case::upper),
            WordFilter::AsciiFolding => {
                if !word.as_str().is_ascii() {
                    let folded = folding::fold(word.as_str());
                    word.set(&folded);
                }
            }
            WordFilter::Keep(set) => return set.contains(word.as_str()),
            WordFilter::KeepTypes { types, exclude } => return types.iter().any(|t| t == word.kind) != *exclude,
            WordFilter::MinimalEnglish => {
                if !word.keyword {
                    porter::minimal_stem(word);
                }
            }
            WordFilter::Length { min, max } => {
                let length = utf16_len(word.as_str());
                return length >= *min && length <= *max;
            }
            WordFilter::Trim => {
                // Java's trim: everything up to U+0020.
                let text = word.as_str();
                let from = text.len() - text.trim_start_matches(|c| c <= ' ').len();
                let to = text.trim_end_matches(|c| c <= ' ').len();
                word.slice(from.min(to), to);
            }
            WordFilter::Truncate(length) => truncate(word, *length),
            WordFilter::Reverse => {
                let reversed: String = word.as_str().chars().rev().collect();
                word.set(&reversed);
            }
            WordFilter::KeywordMarker(set) => word.keyword |= set.contains(word.as_str()),
            WordFilter::KeywordPattern(pattern) => word.keyword |= pattern.matches_whole(word.as_str()),
            WordFilter::StemmerOverride(rules) => {
                if let Some(stem) = rules.get(word.as_str()).filter(|_| !word.keyword) {
                    word.set(stem);
                    word.keyword = true;
                }
            }
            WordFilter::PatternReplace { pattern, replacement, all } => {
                let text = word.as_str();
                if pattern.is_match(text) {
                    let mut out = String::with_capacity(text.len());
                    let mut from = 0;
                    pattern.for_each_replacement(text, replacement, !all, &mut |start, end, by| {
                        out.push_str(&text[from..start]);
                        out.push_str(by);
                        from = end;
                    });
                    out.push_str(&text[from..]);
                    word.set(&out);
                }
            }
            WordFilter::Apostrophe => {
                if let Some(at) = word.as_str().find(['\'', '\u{2019}']) {
                    word.slice(0, at);
                }
            }
            WordFilter::Elision(articles) => {
                let text = word.as_str();
                if let Some(at) = text.find(['\'', '\u{2019}'])
                    && articles.contains(&text[..at])
                {
                    let quote = text[at..].chars().next().map_or(1, char::len_utf8);
                    let end = text.len();
                    word.slice(at + quote, end);
                }
            }
            WordFilter::DecimalDigit => map(word, decimal_digit),
            WordFilter::Classic => classic(word),
            WordFilter::CjkWidth => cjk_width(word),
        }
        true
    }

    /// Whether it belongs to a normalizer: one word in, one word out, nothing language-specific.
    pub(super) fn normalizes(&self) -> bool {
        matches!(
            self,
            WordFilter::Lowercase
                | WordFilter::GreekLowercase
                | WordFilter::TurkishLowercase
                | WordFilter::IrishLowercase
                | WordFilter::Uppercase
                | WordFilter::AsciiFolding
                | WordFilter::Trim
                | WordFilter::Elision(_)
                | WordFilter::DecimalDigit
                | WordFilter::CjkWidth
                | WordFilter::PatternReplace { .. }
        )
    }
}

#[inline]
fn lowercase(word: &mut Word<'_, '_>) {
    let text = word.as_str();
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            word.make_mut().make_ascii_lowercase();
        }
        return;
    }
    map(word, case::lower);
}

/// Maps every character; a word that stays the same is not copied.
fn map(word: &mut Word<'_, '_>, f: fn(char) -> char) {
    let text = word.as_str();
    let Some(first) = text.char_indices().find(|(_, c)| f(*c) != *c).map(|(i, _)| i) else { return };
    let mapped: String = text[first..].chars().map(f).collect();
    let buf = word.make_mut();
    buf.truncate(first);
    buf.push_str(&mapped);
}

fn greek_lower(c: char) -> char {
    match c {
        '\u{3c2}' => '\u{3c3}',
        '\u{386}' | '\u{3ac}' => '\u{3b1}',
        '\u{388}' | '\u{3ad}' => '\u{3b5}',
        '\u{389}' | '\u{3ae}' => '\u{3b7}',
        '\u{38a}' | '\u{3aa}' | '\u{3af}' | '\u{3ca}' | '\u{390}' => '\u{3b9}',
        '\u{38e}' | '\u{3ab}' | '\u{3cd}' | '\u{3cb}' | '\u{3b0}' => '\u{3c5}',
        '\u{38c}' | '\u{3cc}' => '\u{3bf}',
        '\u{38f}' | '\u{3ce}' => '\u{3c9}',
        '\u{3a2}' => '\u{3c2}',
        _ => case::lower(c),
    }
}

/// I without a dot becomes a dotless i; I with one (composed or combining) a dotted.
fn turkish_lowercase(word: &mut Word<'_, '_>) {
    let mut out = String::with_capacity(word.as_str().len());
    let mut chars = word.as_str().chars().peekable();
    let mut after_i = false;
    while let Some(c) = chars.next() {
        if after_i && c == '\u{307}' {
            after_i = false;
            continue;
        }
        if c == 'I' {
            let dotted = chars.peek() == Some(&'\u{307}');
            out.push(if dotted { 'i' } else { '\u{131}' });
            after_i = true;
        } else {
            out.push(case::lower(c));
            after_i = false;
        }
    }
    word.set(&out);
}

/// nAthair and tUasal are n-athair and t-uasal.
fn irish_lowercase(word: &mut Word<'_, '_>) {
    let text = word.as_str();
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    if matches!(first, Some('n' | 't'))
        && matches!(second, Some('A' | 'E' | 'I' | 'O' | 'U' | 'Á' | 'É' | 'Í' | 'Ó' | 'Ú'))
    {
        word.make_mut().insert(1, '-');
    }
    map(word, case::lower);
}

/// At most `length` UTF-16 units; a surrogate pair is not halved.
fn truncate(word: &mut Word<'_, '_>, length: usize) {
    let text = word.as_str();
    if text.len() <= length {
        return;
    }
    let mut units = 0;
    let end = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > length
    });
    if let Some((end, _)) = end {
        word.slice(0, end);
    }
}

fn decimal_digit(c: char) -> char {
    if c.is_ascii() || !c.is_numeric() || !super::pattern::is_decimal(c) {
        return c;
    }
    // Decimal digits come in runs of ten, zero first; the digits of mathematics follow one another from U+1D7CE.
    let value = if ('\u{1d7ce}'..='\u{1d7ff}').contains(&c) {
        (c as u32 - 0x1d7ce) % 10
    } else {
        (1..10).take_while(|n| char::from_u32(c as u32 - n).is_some_and(super::pattern::is_decimal)).count() as u32
    };
    char::from_digit(value, 10).unwrap_or(c)
}

/// Possessives and the dots of acronyms, as the classic tokenizer marks them.
fn classic(word: &mut Word<'_, '_>) {
    if word.kind == "<APOSTROPHE>" && (word.as_str().ends_with("'s") || word.as_str().ends_with("'S")) {
        let end = word.as_str().len() - 2;
        word.slice(0, end);
    } else if word.kind == "<ACRONYM>" {
        word.make_mut().retain(|c| c != '.');
    }
}

/// Full-width ASCII to ASCII, half-width Katakana to Katakana, voice marks joined.
fn cjk_width(word: &mut Word<'_, '_>) {
    if !word.as_str().chars().any(|c| ('\u{ff01}'..='\u{ff9f}').contains(&c)) {
        return;
    }
    const KANA: [char; 59] = [
        '・', 'ヲ', 'ァ', 'ィ', 'ゥ', 'ェ', 'ォ', 'ャ', 'ュ', 'ョ', 'ッ', 'ー', 'ア', 'イ', 'ウ', 'エ', 'オ', 'カ',
        'キ', 'ク', 'ケ', 'コ', 'サ', 'シ', 'ス', 'セ', 'ソ', 'タ', 'チ', 'ツ', 'テ', 'ト', 'ナ', 'ニ', 'ヌ', 'ネ',
        'ノ', 'ハ', 'ヒ', 'フ', 'ヘ', 'ホ', 'マ', 'ミ', 'ム', 'メ', 'モ', 'ヤ', 'ユ', 'ヨ', 'ラ', 'リ', 'ル', 'レ',
        'ロ', 'ワ', 'ン', '\u{3099}', '\u{309a}',
    ];
    let mut out = String::with_capacity(word.as_str().len());
    for c in word.as_str().chars() {
        match c {
            '\u{ff01}'..='\u{ff5e}' => out.push(char::from_u32(c as u32 - 0xfee0).unwrap_or(c)),
            '\u{ff9e}' | '\u{ff9f}' => {
                let joined = out.chars().next_back().and_then(|before| voiced(before, c == '\u{ff9f}'));
                if let Some(joined) = joined {
                    out.pop();
                    out.push(joined);
                } else {
                    out.push(KANA[c as usize - 0xff65]);
                }
            }
            '\u{ff65}'..='\u{ff9d}' => out.push(KANA[c as usize - 0xff65]),
            _ => out.push(c),
        }
    }
    word.set(&out);
}

/// Katakana with a voiced or half-voiced mark.
fn voiced(c: char, half: bool) -> Option<char> {
    let by = match c {
        'ウ' if !half => return Some('ヴ'),
        'ワ' if !half => return Some('ヷ'),
        'ヲ' if !half => return Some('ヺ'),
        'ハ' | 'ヒ' | 'フ' | 'ヘ' | 'ホ' => 1 + u32::from(half),
        'カ' | 'キ' | 'ク' | 'ケ' | 'コ' | 'サ' | 'シ' | 'ス' | 'セ' | 'ソ' | 'タ' | 'チ' | 'ツ' | 'テ' | 'ト'
            if !half =>
        {
            1
        }
        _ => return None,
    };
    char::from_u32(c as u32 + by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &WordFilter, input: &str, expected: Option<&str>) {
        let mut buf = String::new();
        let mut word = Word::new(input, &mut buf, "word");
        let kept = filter.apply(&mut word);
        assert_eq!(kept.then(|| word.as_str()), expected, "{filter:?} on {input:?}");
    }

    #[test]
    fn each_filter_does_its_part() {
        check(&WordFilter::Lowercase, "ÀbC", Some("àbc"));
        check(&WordFilter::Lowercase, "İ", Some("i"));
        check(&WordFilter::TurkishLowercase, "Iİ", Some("ıi"));
        check(&WordFilter::GreekLowercase, "ΆΣς", Some("ασσ"));
        check(&WordFilter::IrishLowercase, "nAthair", Some("n-athair"));
        check(&WordFilter::Uppercase, "straße", Some("STRAßE"));
        check(&WordFilter::Trim, " \ta b ", Some("a b"));
        check(&WordFilter::Trim, "  ", Some(""));
        check(&WordFilter::Truncate(3), "a😀b", Some("a😀"));
        check(&WordFilter::Truncate(2), "a😀b", Some("a"));
        check(&WordFilter::Reverse, "abc", Some("cba"));
        check(&WordFilter::Length { min: 2, max: 3 }, "abcd", None);
        check(&WordFilter::Apostrophe, "Türkiye'de", Some("Türkiye"));
        check(&WordFilter::DecimalDigit, "٣४𝟗", Some("349"));
        check(&WordFilter::CjkWidth, "ＡｶﾞﾊﾟＢ", Some("AガパB"));
        let articles = WordSet::new(["l", "qu"], true);
        check(&WordFilter::Elision(articles), "L’avion", Some("avion"));
        let stop = WordSet::new(["The"], true);
        check(&WordFilter::Stop(stop), "tHE", None);
        let stop = WordSet::new(["The"], false);
        check(&WordFilter::Stop(stop), "the", Some("the"));
    }
}
