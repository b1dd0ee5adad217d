//! Definitions of tokenizers and filters in index settings, by type; and the components that exist by name alone.

use serde_json::Value;

use super::char_filter::{CharFilter, Mappings};
use super::lists::{ListFilter, Shingle};
use super::pattern::{Pattern, Replacement};
use super::registry::{list, word};
use super::tokenizer::{TokenChars, Tokenizer};
use super::words::{WordFilter, WordSet};
use super::{Step, stop_words};
use crate::error::{Error, Result};

/// In place of a type: the component is known by its name, without settings.
pub(super) const PREBUILT: &str = "";

/// Limits that an index sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `index.max_ngram_diff`
    pub ngram_diff: u64,
    /// `index.max_shingle_diff`
    pub shingle_diff: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { ngram_diff: 1, shingle_diff: 3 }
    }
}

/// A component's settings: values may be JSON or, as flat settings have them, strings.
pub(super) struct Definition<'a> {
    name: &'a str,
    json: &'a Value,
}

impl<'a> Definition<'a> {
    pub(super) fn new(name: &'a str, json: &'a Value) -> Definition<'a> {
        Definition { name, json }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.json.get(key)? {
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str, default: i64) -> Result<i64> {
        let Some(text) = self.text(key) else { return Ok(default) };
        text.parse().map_err(|_| Error::illegal_argument(format!("Failed to parse value [{text}] for setting [{key}]")))
    }

    fn size(&self, key: &str, default: i64) -> Result<usize> {
        let n = self.number(key, default)?;
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= 1 << 31)
            .ok_or_else(|| Error::illegal_argument(format!("[{key}] of [{}] is out of range: [{n}]", self.name)))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.text(key).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false" | "") => Ok(false),
            Some(other) => Err(Error::illegal_argument(format!(
                "Failed to parse value [{other}] as only [true] or [false] are allowed."
            ))),
        }
    }

    /// An array, or a string with commas.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.json.get(key)? {
            Value::Array(items) => {
                Some(items.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect())
            }
            Value::String(s) => Some(s.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect()),
            _ => None,
        }
    }

    /// Words given as a list in which names such as `_english_` stand for their words.
    pub(super) fn words(&self, key: &str, default: &[&str]) -> Result<Vec<String>> {
        let Some(given) = self.list(key) else {
            if self.json.get(format!("{key}_path")).is_some() {
                return Err(Error::illegal_argument(format!("[{}]: files are not read here: [{key}_path]", self.name)));
            }
            return Ok(default.iter().map(|w| (*w).to_owned()).collect());
        };
        let mut words = Vec::with_capacity(given.len());
        for w in given {
            match stop_words::named(&w) {
                Some(list) => words.extend(list.iter().map(|w| (*w).to_owned())),
                None => words.push(w),
            }
        }
        Ok(words)
    }

    /// Words that a filter cannot do without.
    fn required_words(&self, key: &str) -> Result<Vec<String>> {
        let words = self.words(key, &[])?;
        if self.json.get(key).is_none() {
            return Err(Error::illegal_argument(format!(
                "{} requires either `{key}` or `{key}_path` to be configured",
                self.name
            )));
        }
        Ok(words)
    }

    fn character(&self, key: &str, default: char) -> Result<char> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(Error::illegal_argument(format!("{key} must be a one char value"))),
        }
    }
}

/// A character filter; none if the type (or the name, for [`PREBUILT`]) is unknown.
pub(super) fn char_filter(name: &str, kind: &str, def: &Value) -> Result<Option<CharFilter>> {
    let d = Definition::new(name, def);
    let effective = if kind == PREBUILT { name } else { kind };
    Ok(Some(match effective {
        "html_strip" | "htmlStrip" => {
            CharFilter::HtmlStrip { escaped_tags: d.list("escaped_tags").unwrap_or_default() }
        }
        "mapping" if kind != PREBUILT => {
            let Some(rules) = d.list_of_rules("mappings") else {
                return Err(Error::illegal_argument(
                    "mapping requires either `mappings` or `mappings_path` to be configured",
                ));
            };
            CharFilter::Mapping(Mappings::new(rules.iter().map(|rule| mapping_rule(rule)).collect::<Result<Vec<_>>>()?))
        }
        "pattern_replace" if kind != PREBUILT => {
            let pattern = pattern(&d, "pattern is missing for [", "] char filter of type 'pattern_replace'")?;
            let replacement = Replacement::new(&d.text("replacement").unwrap_or_default(), pattern.group_count())?;
            CharFilter::PatternReplace { pattern, replacement }
        }
        _ => return Ok(None),
    }))
}

impl Definition<'_> {
    /// Rules may have commas of their own: a string is one rule.
    fn list_of_rules(&self, key: &str) -> Option<Vec<String>> {
        match self.json.get(key)? {
            Value::String(s) => Some(vec![s.clone()]),
            _ => self.list(key),
        }
    }
}

fn pattern(d: &Definition<'_>, before: &str, after: &str) -> Result<Pattern> {
    let Some(java) = d.text("pattern") else {
        return Err(Error::illegal_argument(format!("{before}{}{after}", d.name)));
    };
    Pattern::new(&java, &d.text("flags").unwrap_or_default())
}

/// `ph => f`, with `\uXXXX` and the usual escapes.
fn mapping_rule(rule: &str) -> Result<(String, String)> {
    let Some((from, to)) = rule.rsplit_once("=>") else {
        return Err(Error::request("runtime_exception", format!("Invalid Mapping Rule : [{rule}]")));
    };
    let (from, to) = (unescape(from.trim(), rule)?, unescape(to.trim(), rule)?);
    if from.is_empty() {
        return Err(Error::illegal_argument("cannot match the empty string"));
    }
    Ok((from, to))
}

fn unescape(text: &str, rule: &str) -> Result<String> {
    let bad = || Error::request("runtime_exception", format!("Invalid escaped char in [{rule}]"));
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next().ok_or_else(bad)? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let hex: String = chars.by_ref().take(4).collect();
                out.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).ok_or_else(bad)?);
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// A tokenizer; none if the type or name is unknown.
pub(super) fn tokenizer(name: &str, kind: &str, def: &Value, limits: &Limits) -> Result<Option<Tokenizer>> {
    let d = Definition::new(name, def);
    let effective = if kind == PREBUILT { name } else { kind };
    let max_token_length = d.size("max_token_length", 255)?;
    if max_token_length == 0 || max_token_length > 1 << 20 {
        return Err(Error::illegal_argument("maxTokenLength must be greater than zero"));
    }
    Ok(Some(match effective {
        "standard" => Tokenizer::Standard { max_token_length },
        "whitespace" => Tokenizer::Whitespace { max_token_length },
        "keyword" => Tokenizer::Keyword,
        "letter" => Tokenizer::Letter,
        "lowercase" => Tokenizer::Lowercase,
        "pattern" => {
            let pattern = Pattern::new(
                &d.text("pattern").unwrap_or_else(|| "\\W+".to_owned()),
                &d.text("flags").unwrap_or_default(),
            )?;
            let group = d.number("group", -1)?;
            if group > pattern.group_count() as i64 {
                return Err(Error::illegal_argument(format!(
                    "invalid group specified: pattern only has: {} capturing groups",
                    pattern.group_count()
                )));
            }
            Tokenizer::Pattern { pattern, group: usize::try_from(group).ok() }
        }
        "ngram" | "nGram" | "edge_ngram" | "edgeNGram" => {
            let edge = effective.starts_with("edge");
            let (min, max) = gram_sizes(&d)?;
            if !edge && (max - min) as u64 > limits.ngram_diff {
                return Err(ngram_diff_error("NGram Tokenizer", (max - min) as u64, limits));
            }
            Tokenizer::Ngram { min, max, chars: token_chars(&d)?, edge }
        }
        "path_hierarchy" | "PathHierarchy" => {
            let delimiter = d.character("delimiter", '/')?;
            Tokenizer::PathHierarchy {
                delimiter,
                replacement: d.character("replacement", delimiter)?,
                skip: d.size("skip", 0)?,
                reverse: d.flag("reverse", false)?,
            }
        }
        "char_group" if kind != PREBUILT => Tokenizer::CharGroup { chars: char_group(&d)?, max_token_length },
        _ => return Ok(None),
    }))
}

fn gram_sizes(d: &Definition<'_>) -> Result<(usize, usize)> {
    let (min, max) = (d.size("min_gram", 1)?, d.size("max_gram", 2)?);
    if min < 1 {
        return Err(Error::illegal_argument("minGram must be greater than zero"));
    }
    if min > max {
        return Err(Error::illegal_argument("minGram must not be greater than maxGram"));
    }
    Ok((min, max))
}

fn ngram_diff_error(what: &str, diff: u64, limits: &Limits) -> Error {
    Error::illegal_argument(format!(
        "The difference between max_gram and min_gram in {what} must be less than or equal to: [{}] but was [{diff}]. \
         This limit can be set by changing the [index.max_ngram_diff] index level setting.",
        limits.ngram_diff
    ))
}

fn token_chars(d: &Definition<'_>) -> Result<TokenChars> {
    let Some(classes) = d.list("token_chars").filter(|c| !c.is_empty()) else {
        return Ok(TokenChars { all: true, ..TokenChars::default() });
    };
    let mut chars = TokenChars::default();
    for class in classes {
        match class.to_ascii_lowercase().trim() {
            "letter" => chars.letter = true,
            "digit" => chars.digit = true,
            "whitespace" => chars.whitespace = true,
            "punctuation" => chars.punctuation = true,
            "symbol" => chars.symbol = true,
            "custom" => {
                let Some(custom) = d.text("custom_token_chars") else {
                    return Err(Error::illegal_argument("Token type: 'custom' requires setting `custom_token_chars`"));
                };
                chars.custom = custom.chars().collect();
            }
            _ => {
                return Err(Error::illegal_argument(format!(
                    "Unknown token type: '{}', must be one of [letter, digit, whitespace, punctuation, symbol, custom]",
                    class.to_ascii_lowercase()
                )));
            }
        }
    }
    Ok(chars)
}

fn char_group(d: &Definition<'_>) -> Result<TokenChars> {
    let mut chars = TokenChars::default();
    for given in d.list("tokenize_on_chars").unwrap_or_default() {
        match given.as_str() {
            "letter" => chars.letter = true,
            "digit" => chars.digit = true,
            "whitespace" => chars.whitespace = true,
            "punctuation" => chars.punctuation = true,
            "symbol" => chars.symbol = true,
            other => {
                let c = match other.strip_prefix('\\') {
                    Some(_) => unescape(other, other)?,
                    None => other.to_owned(),
                };
                let mut c = c.chars();
                match (c.next(), c.next()) {
                    (Some(one), None) => chars.custom.push(one),
                    _ => return Err(Error::request("runtime_exception", format!("Invalid escaped char in [{other}]"))),
                }
            }
        }
    }
    Ok(chars)
}

/// The steps of a token filter; none if the type or name is unknown.
pub(super) fn filter(name: &str, kind: &str, def: &Value, limits: &Limits) -> Result<Option<Vec<Step>>> {
    let d = Definition::new(name, def);
    let prebuilt = kind == PREBUILT;
    let effective = if prebuilt { name } else { kind };
    Ok(Some(match effective {
        "lowercase" => word(match d.text("language").as_deref() {
            None | Some("") => WordFilter::Lowercase,
            Some("greek") => WordFilter::GreekLowercase,
            Some("turkish") => WordFilter::TurkishLowercase,
            Some("irish") => WordFilter::IrishLowercase,
            Some(lang) => {
                return Err(Error::illegal_argument(format!("language [{lang}] not support for lower case")));
            }
        }),
        "uppercase" => word(WordFilter::Uppercase),
        "asciifolding" => {
            if d.flag("preserve_original", false)? {
                list(ListFilter::FoldingPreserved)
            } else {
                word(WordFilter::AsciiFolding)
            }
        }
        "stop" => {
            let words = d.words("stopwords", &stop_words::ENGLISH)?;
            word(WordFilter::Stop(WordSet::new(words, d.flag("ignore_case", false)?)))
        }
        "porter_stem" | "porterStem" => word(WordFilter::PorterStem),
        "stemmer" => stemmer(&d)?,
        "length" => word(WordFilter::Length { min: d.size("min", 0)?, max: d.size("max", i64::from(i32::MAX))? }),
        "trim" => word(WordFilter::Trim),
        "truncate" => {
            let length = d.number("length", if prebuilt { 10 } else { -1 })?;
            if length <= 0 {
                return Err(Error::illegal_argument("length parameter must be provided"));
            }
            word(WordFilter::Truncate(length as usize))
        }
        "reverse" => word(WordFilter::Reverse),
        "unique" => list(ListFilter::Unique { only_on_same_position: d.flag("only_on_same_position", false)? }),
        "remove_duplicates" => list(ListFilter::RemoveDuplicates),
        "keyword_repeat" => list(ListFilter::KeywordRepeat),
        "keyword_marker" if !prebuilt => {
            let ignore_case = d.flag("ignore_case", false)?;
            if let Some(java) = d.text("keywords_pattern") {
                if d.json.get("keywords").is_some() {
                    return Err(Error::illegal_argument(
                        "cannot specify both `keywords_pattern` and `keywords` or `keywords_path`",
                    ));
                }
                return Ok(Some(word(WordFilter::KeywordPattern(Pattern::new(&java, "")?))));
            }
            if d.json.get("keywords").is_none() {
                return Err(Error::illegal_argument(
                    "keyword filter requires either `keywords`, `keywords_path`, or `keywords_pattern` to be configured",
                ));
            }
            word(WordFilter::KeywordMarker(WordSet::new(d.words("keywords", &[])?, ignore_case)))
        }
        "stemmer_override" if !prebuilt => {
            let Some(rules) = d.list_of_rules("rules") else {
                return Err(Error::illegal_argument(
                    "stemmer override filter requires either `rules` or `rules_path` to be configured",
                ));
            };
            let mut map = rustc_hash::FxHashMap::default();
            for rule in &rules {
                let bad = || Error::request("runtime_exception", format!("Invalid Keyword override Rule:{rule}"));
                let (from, to) = rule.split_once("=>").ok_or_else(bad)?;
                let to = to.trim();
                if to.is_empty() || to.contains("=>") {
                    return Err(bad());
                }
                for word in from.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                    map.insert(word.to_owned(), to.to_owned());
                }
            }
            word(WordFilter::StemmerOverride(map))
        }
        "keep" if !prebuilt => {
            let words = d.required_words("keep_words")?;
            let ignore_case = d.flag("keep_words_case", false)?;
            word(WordFilter::Keep(WordSet::new(words, ignore_case)))
        }
        "keep_types" if !prebuilt => {
            let types = d.list("types").filter(|t| !t.is_empty());
            let types = types.ok_or_else(|| Error::illegal_argument("keep_types requires `types` to be configured"))?;
            let exclude = match d.text("mode").as_deref() {
                None | Some("include") => false,
                Some("exclude") => true,
                Some(mode) => {
                    return Err(Error::illegal_argument(format!(
                        "`keep_types` tokenfilter mode can only be [include] or [exclude] but was [{mode}]."
                    )));
                }
            };
            word(WordFilter::KeepTypes { types, exclude })
        }
        "limit" => list(ListFilter::Limit(d.size("max_token_count", 1)?)),
        "apostrophe" => word(WordFilter::Apostrophe),
        "elision" => {
            let articles = d.words("articles", &stop_words::FRENCH_ARTICLES)?;
            // The French articles of the prebuilt filter match in any case.
            let any_case = d.flag("articles_case", d.json.get("articles").is_none())?;
            word(WordFilter::Elision(WordSet::new(articles, any_case)))
        }
        "decimal_digit" => word(WordFilter::DecimalDigit),
        "classic" => word(WordFilter::Classic),
        "cjk_width" => word(WordFilter::CjkWidth),
        "cjk_bigram" => list(ListFilter::CjkBigram { output_unigrams: d.flag("output_unigrams", false)? }),
        "pattern_replace" if !prebuilt => {
            let pattern = pattern(&d, "pattern is missing for [", "] token filter of type 'pattern_replace'")?;
            let replacement = Replacement::new(&d.text("replacement").unwrap_or_default(), pattern.group_count())?;
            word(WordFilter::PatternReplace { pattern, replacement, all: d.flag("all", true)? })
        }
        "ngram" | "nGram" => {
            let (min, max) = gram_sizes(&d)?;
            if (max - min) as u64 > limits.ngram_diff {
                return Err(ngram_diff_error("NGram Tokenizer", (max - min) as u64, limits));
            }
            list(ListFilter::Ngram { min, max, preserve_original: d.flag("preserve_original", false)? })
        }
        "edge_ngram" | "edgeNGram" => {
            // Without a definition there is only the first letter.
            let (min, max) = if prebuilt { (1, 1) } else { gram_sizes(&d)? };
            let back = match d.text("side").as_deref() {
                None | Some("front") => false,
                Some("back") => true,
                Some(side) => return Err(Error::illegal_argument(format!("invalid side: {side}"))),
            };
            list(ListFilter::EdgeNgram { min, max, preserve_original: d.flag("preserve_original", false)?, back })
        }
        "shingle" => list(ListFilter::Shingle(shingle(&d, limits)?)),
        _ => return Ok(None),
    }))
}

fn shingle(d: &Definition<'_>, limits: &Limits) -> Result<Shingle> {
    let (min, max) = (d.size("min_shingle_size", 2)?, d.size("max_shingle_size", 2)?);
    let output_unigrams = d.flag("output_unigrams", true)?;
    let diff = max as i64 - min as i64 + i64::from(output_unigrams);
    if diff > 0 && diff as u64 > limits.shingle_diff {
        return Err(Error::illegal_argument(format!(
            "In Shingle TokenFilter the difference between max_shingle_size and min_shingle_size (and +1 if outputting \
             unigrams) must be less than or equal to: [{}] but was [{diff}]. This limit can be set by changing the \
             [index.max_shingle_diff] index level setting.",
            limits.shingle_diff
        )));
    }
    if max < 2 {
        return Err(Error::illegal_argument("Max shingle size must be >= 2"));
    }
    if min < 2 {
        return Err(Error::illegal_argument("Min shingle size must be >= 2"));
    }
    if min > max {
        return Err(Error::illegal_argument("Min shingle size must be <= max shingle size"));
    }
    Ok(Shingle {
        min,
        max,
        output_unigrams,
        output_unigrams_if_no_shingles: d.flag("output_unigrams_if_no_shingles", false)?,
        separator: d.text("token_separator").unwrap_or_else(|| " ".to_owned()),
        filler: d.text("filler_token").unwrap_or_else(|| "_".to_owned()),
    })
}

/// The rules of a synonym filter, whether equivalent words expand, and whether bad rules are left out.
pub(super) fn synonym_rules(name: &str, def: &Value) -> Result<(Vec<String>, bool, bool)> {
    let d = Definition::new(name, def);
    let Some(lines) = d.list_of_rules("synonyms") else {
        return Err(Error::illegal_argument("synonym requires either `synonyms` or `synonyms_path` to be configured"));
    };
    match d.text("format").as_deref() {
        None | Some("solr" | "") => {}
        Some(other) => {
            return Err(Error::illegal_argument(format!("[{name}]: synonym format [{other}] is not supported")));
        }
    }
    Ok((lines, d.flag("expand", true)?, d.flag("lenient", false)?))
}

fn stemmer(d: &Definition<'_>) -> Result<Vec<Step>> {
    let language = d.text("language").or_else(|| d.text("name")).unwrap_or_else(|| "porter".to_owned());
    Ok(word(match language.to_ascii_lowercase().as_str() {
        "english" | "porter" => WordFilter::PorterStem,
        "minimal_english" | "minimalenglish" => WordFilter::MinimalEnglish,
        "possessive_english" | "possessiveenglish" => WordFilter::PossessiveEnglish,
        _ => {
            return Err(Error::illegal_argument(format!("Invalid stemmer class specified: {language}")));
        }
    }))
}
