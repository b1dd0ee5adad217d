//! How long a term of a text can be, told without analyzing it.
//!
//! The index refuses immense terms, and a document must be refused before any of it is indexed. Of nearly all texts this
//! bound says at once that there can be none; only the others are analyzed once more to see.

use super::char_filter::CharFilter;
use super::lists::ListFilter;
use super::tokenizer::Tokenizer;
use super::words::WordFilter;
use super::{Analyzer, Step};

/// A case mapping or a folding makes at most twice the bytes of a character: `ⱥ`, `(20)`.
const FOLDING: usize = 2;

/// Bytes the index takes in a term, as Lucene.
pub const TERM_BYTES_MAX: usize = 32_766;

impl Analyzer {
    /// Whether a text of so many bytes could have a term of more than [`TERM_BYTES_MAX`].
    #[inline]
    #[must_use]
    pub fn may_be_immense(&self, text_bytes: usize) -> bool {
        text_bytes > self.safe_bytes
    }

    /// The longest text without immense terms. The bound never falls where the text grows, so it can be searched for.
    pub(super) fn safe_bytes(&self) -> usize {
        let (mut safe, mut beyond) = (0, usize::MAX);
        while beyond - safe > 1 {
            let middle = safe + (beyond - safe) / 2;
            if self.term_bytes_max(middle) <= TERM_BYTES_MAX {
                safe = middle;
            } else {
                beyond = middle;
            }
        }
        safe
    }

    /// No term of a text of so many bytes has more bytes than this.
    fn term_bytes_max(&self, text_bytes: usize) -> usize {
        let text = self.char_filters.iter().fold(text_bytes, |n, f| f.bytes_max(n));
        let token = self.tokenizer.bytes_max(text);
        let word = self.words.iter().fold(token, |n, f| f.bytes_max(n));
        self.lists.iter().fold(word, |n, step| match step {
            Step::Word(f) => f.bytes_max(n),
            Step::List(f) => f.bytes_max(n),
        })
    }
}

impl CharFilter {
    fn bytes_max(&self, n: usize) -> usize {
        match self {
            // An entity is longer than its character, a tag than the line end it may become.
            CharFilter::HtmlStrip { .. } => n,
            CharFilter::Mapping(mappings) => n.saturating_mul(mappings.growth()),
            CharFilter::PatternReplace { replacement, .. } => replacement.bytes_max(n),
        }
    }
}

impl Tokenizer {
    fn bytes_max(&self, n: usize) -> usize {
        match self {
            // A UTF-16 unit has at most three bytes of UTF-8, a character four.
            Tokenizer::Standard { max_token_length }
            | Tokenizer::Whitespace { max_token_length }
            | Tokenizer::CharGroup { max_token_length, .. } => {
                n.min(max_token_length.saturating_add(1).saturating_mul(3))
            }
            Tokenizer::Letter => n.min(256 * 3),
            Tokenizer::Lowercase => n.min(256 * 3) * FOLDING,
            Tokenizer::Ngram { max, .. } => n.min(max.saturating_mul(4)),
            Tokenizer::Keyword | Tokenizer::Pattern { .. } => n,
            Tokenizer::PathHierarchy { delimiter, replacement, .. } => {
                n.saturating_mul(replacement.len_utf8().div_ceil(delimiter.len_utf8()))
            }
        }
    }
}

impl WordFilter {
    fn bytes_max(&self, n: usize) -> usize {
        match self {
            WordFilter::Lowercase
            | WordFilter::GreekLowercase
            | WordFilter::TurkishLowercase
            | WordFilter::Uppercase
            | WordFilter::AsciiFolding
            | WordFilter::CjkWidth => n.saturating_mul(FOLDING),
            // And a hyphen.
            WordFilter::IrishLowercase => n.saturating_mul(FOLDING).saturating_add(1),
            WordFilter::StemmerOverride(rules) => rules.values().map(String::len).max().unwrap_or(0).max(n),
            WordFilter::PatternReplace { replacement, .. } => replacement.bytes_max(n),
            WordFilter::Stop(_)
            | WordFilter::Keep(_)
            | WordFilter::KeepTypes { .. }
            | WordFilter::PorterStem
            | WordFilter::MinimalEnglish
            | WordFilter::PossessiveEnglish
            | WordFilter::Length { .. }
            | WordFilter::Trim
            | WordFilter::Truncate(_)
            | WordFilter::Reverse
            | WordFilter::KeywordMarker(_)
            | WordFilter::KeywordPattern(_)
            | WordFilter::Apostrophe
            | WordFilter::Elision(_)
            | WordFilter::DecimalDigit
            | WordFilter::Classic => n,
        }
    }
}

impl ListFilter {
    fn bytes_max(&self, n: usize) -> usize {
        match self {
            ListFilter::FoldingPreserved => n.saturating_mul(FOLDING),
            ListFilter::Shingle(shingle) => {
                let between = shingle.separator.len();
                let word = n.max(shingle.filler.len()).saturating_add(between);
                shingle.max.saturating_mul(word).max(n)
            }
            ListFilter::Synonym(synonyms) => synonyms.longest_output().max(n),
            // Two characters.
            ListFilter::CjkBigram { .. } => n.max(8),
            ListFilter::Ngram { .. }
            | ListFilter::EdgeNgram { .. }
            | ListFilter::Unique { .. }
            | ListFilter::RemoveDuplicates
            | ListFilter::Limit(_)
            | ListFilter::KeywordRepeat => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{AnalyzerRegistry, Scratch};

    fn registry() -> AnalyzerRegistry {
        let analyzer =
            |tokenizer: &str, filters: &[&str]| json!({"type": "custom", "tokenizer": tokenizer, "filter": filters});
        AnalyzerRegistry::new(&json!({
            "char_filter": {
                "words": {"type": "mapping", "mappings": ["a => alphabet", "ab => b"]},
                "each": {"type": "pattern_replace", "pattern": "([ab])", "replacement": "<$1$1>"},
                "none": {"type": "pattern_replace", "pattern": "x*", "replacement": "-"}
            },
            "filter": {
                "pairs": {"type": "shingle", "token_separator": " and then ", "max_shingle_size": 3},
                "same": {"type": "synonym", "synonyms": ["a => antidisestablishmentarianism", "b, bee bumble"]},
                "stems": {"type": "stemmer_override", "rules": ["ab => something longer"]},
                "each": {"type": "pattern_replace", "pattern": "(b)", "replacement": "$1$1$1!"}
            },
            "analyzer": {
                "words": {"type": "custom", "tokenizer": "keyword", "char_filter": ["words"]},
                "each": {"type": "custom", "tokenizer": "keyword", "char_filter": ["each"], "filter": ["each"]},
                "none": {"type": "custom", "tokenizer": "keyword", "char_filter": ["none"]},
                "html": {"type": "custom", "tokenizer": "keyword", "char_filter": ["html_strip"]},
                "pairs": analyzer("standard", &["lowercase", "stop", "pairs"]),
                "same": analyzer("whitespace", &["same", "stems"]),
                "upper": analyzer("keyword", &["uppercase", "asciifolding"]),
                "lower": analyzer("keyword", &["lowercase", "porter_stem"]),
                "greek": analyzer("lowercase", &["cjk_width", "cjk_bigram", "classic"]),
                "paths": analyzer("path_hierarchy", &["reverse", "trim"])
            }
        }))
        .unwrap()
    }

    proptest! {
        #[test]
        fn no_term_is_longer_than_the_bound(text in "([ab <>&;x/]|[ȺẞİⒶ⒇ﬃ㍿ｶﾞ京]|\\PC|a|the ){0,40}") {
            let registry = registry();
            for name in ["words", "each", "none", "html", "pairs", "same", "upper", "lower", "greek", "paths", "standard", "english"] {
                let analyzer = registry.analyzer(name).unwrap();
                let bound = analyzer.term_bytes_max(text.len());
                analyzer.terms(&text, &mut Scratch::default(), &mut |term, _| {
                    assert!(term.len() <= bound, "{name}: {term:?} of {text:?} has {} bytes, over {bound}", term.len());
                });
            }
        }
    }

    #[test]
    fn common_analyzers_have_no_immense_terms() {
        let registry = registry();
        for name in ["standard", "english", "simple", "whitespace", "stop", "pairs", "same"] {
            assert!(!registry.analyzer(name).unwrap().may_be_immense(1 << 40), "{name}");
        }
        let immense = |name: &str, bytes: usize| registry.analyzer(name).unwrap().may_be_immense(bytes);
        assert!(!immense("keyword", 32_766) && immense("keyword", 32_767));
        assert!(!immense("lower", 16_383) && immense("lower", 16_384));
    }
}
