//! Stop words by the names that settings give them.

/// Lucene's 33 English words.
pub(super) const ENGLISH: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
];

/// The words of a name such as `_english_`.
pub(super) fn named(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "_english_" => Some(&ENGLISH),
        "_none_" => Some(&[]),
        _ => None,
    }
}

/// Articles that French elides.
pub(super) const FRENCH_ARTICLES: [&str; 13] =
    ["l", "m", "t", "qu", "n", "s", "j", "d", "c", "jusqu", "quoiqu", "lorsqu", "puisqu"];
