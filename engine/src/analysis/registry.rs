//! The analyzers of an index: built-in ones and those that its settings define.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::definition::{self, Definition, Limits};
use super::lists::ListFilter;
use super::pattern::Pattern;
use super::synonym::Synonyms;
use super::tokenizer::Tokenizer;
use super::words::{WordFilter, WordSet};
use super::{Analyzer, CharFilter, Step, stop_words};
use crate::error::{Error, Result};

/// The analyzers of one index: built-in ones and those of `settings.analysis`.
#[derive(Debug, Default)]
pub struct AnalyzerRegistry {
    /// Whether these are an index's; the default is what every node has.
    of_index: bool,
    limits: Limits,
    char_filters: BTreeMap<String, Value>,
    tokenizers: BTreeMap<String, Value>,
    filters: BTreeMap<String, Value>,
    analyzers: BTreeMap<String, Arc<Analyzer>>,
    normalizers: BTreeMap<String, Arc<Analyzer>>,
}

/// The analyzers that exist without a definition, made once for all.
fn built_in(name: &str) -> Option<Arc<Analyzer>> {
    static BUILT_IN: LazyLock<BTreeMap<&'static str, Arc<Analyzer>>> = LazyLock::new(|| {
        let names = ["standard", "simple", "whitespace", "keyword", "stop", "english", "pattern"];
        let none = Value::Object(serde_json::Map::new());
        let make = |name| {
            let analyzer = analyzer_of_type(name, name, &Definition::new(name, &none));
            (name, Arc::new(analyzer.expect("built-in analyzers have no settings to refuse")))
        };
        names.into_iter().map(make).collect()
    });
    BUILT_IN.get(name).cloned()
}

impl AnalyzerRegistry {
    /// From the index's `analysis` settings (the object under `settings.analysis`, may be null).
    pub fn new(analysis: &Value) -> Result<AnalyzerRegistry, Error> {
        AnalyzerRegistry::with_limits(analysis, u64::MAX, u64::MAX)
    }

    /// The same where `index.max_ngram_diff` (1) and `index.max_shingle_diff` (3) hold.
    pub fn with_limits(
        analysis: &Value,
        max_ngram_diff: u64,
        max_shingle_diff: u64,
    ) -> Result<AnalyzerRegistry, Error> {
        let mut registry = AnalyzerRegistry {
            of_index: true,
            limits: Limits { ngram_diff: max_ngram_diff, shingle_diff: max_shingle_diff },
            char_filters: section(analysis, "char_filter")?,
            tokenizers: section(analysis, "tokenizer")?,
            filters: section(analysis, "filter")?,
            ..AnalyzerRegistry::default()
        };
        for (name, def) in &registry.char_filters {
            definition::char_filter(name, type_of("char_filter", name, def)?, def)?;
        }
        for (name, def) in &registry.tokenizers {
            definition::tokenizer(name, type_of("tokenizer", name, def)?, def, &registry.limits)?;
        }
        for (name, def) in &registry.filters {
            registry.defined_filter(name, def)?;
        }
        let mut analyzers = BTreeMap::new();
        for (name, def) in section(analysis, "analyzer")? {
            analyzers.insert(name.clone(), Arc::new(registry.define_analyzer(&name, &def)?));
        }
        let mut normalizers = BTreeMap::new();
        for (name, def) in section(analysis, "normalizer")? {
            normalizers.insert(name.clone(), Arc::new(registry.define_normalizer(&name, &def)?));
        }
        registry.analyzers = analyzers;
        registry.normalizers = normalizers;
        Ok(registry)
    }

    /// An analyzer of the index or a built-in one; `default` is `standard` unless the index defines it.
    pub fn analyzer(&self, name: &str) -> Option<Arc<Analyzer>> {
        if let Some(found) = self.analyzers.get(name) {
            return Some(found.clone());
        }
        built_in(if name == "default" { "standard" } else { name })
    }

    /// A normalizer of the index, or `lowercase`.
    pub fn normalizer(&self, name: &str) -> Option<Arc<Analyzer>> {
        if let Some(found) = self.normalizers.get(name) {
            return Some(found.clone());
        }
        (name == "lowercase")
            .then(|| Arc::new(Analyzer::new(name, vec![], Tokenizer::Keyword, vec![Step::Word(WordFilter::Lowercase)])))
    }

    /// For `_analyze` bodies: tokenizer, filter and char_filter given by name or definition. Without a tokenizer the
    /// text is one token, as a normalizer takes it.
    pub fn custom(
        &self,
        tokenizer: Option<&Value>,
        filters: &[Value],
        char_filters: &[Value],
    ) -> Result<Arc<Analyzer>, Error> {
        let tokenizer_given = tokenizer;
        let mut chars = Vec::new();
        for given in char_filters {
            chars.push(self.given("char_filter", given, &self.char_filters, |name, kind, def| {
                definition::char_filter(name, kind, def)
            })?);
        }
        let tokenizer = match tokenizer {
            None => Tokenizer::Keyword,
            Some(given) => self.given("tokenizer", given, &self.tokenizers, |name, kind, def| {
                definition::tokenizer(name, kind, def, &self.limits)
            })?,
        };
        let mut steps = Vec::new();
        for (n, given) in filters.iter().enumerate() {
            steps.extend(self.given("filter", given, &self.filters, |name, kind, def| {
                if is_synonym(kind) {
                    let before = self.custom(tokenizer_given, &self.without_synonyms(&filters[..n]), char_filters)?;
                    return synonyms(name, kind, def, &before).map(Some);
                }
                self.filter_of_type(name, kind, def)
            })?);
        }
        Ok(Arc::new(Analyzer::new("__custom__", chars, tokenizer, steps)))
    }

    /// A component of an `_analyze` body: a name, or an object with `type`.
    fn given<T>(
        &self,
        component: &str,
        given: &Value,
        defined: &BTreeMap<String, Value>,
        build: impl Fn(&str, &str, &Value) -> Result<Option<T>>,
    ) -> Result<T> {
        let scope = if self.of_index { "" } else { "global " };
        match given {
            Value::String(name) => {
                if let Some(def) = defined.get(name) {
                    let kind = type_of(component, name, def)?;
                    return build(name, kind, def)?.ok_or_else(|| unknown_type(component, kind, name));
                }
                build(name, definition::PREBUILT, &Value::String(name.clone()))?
                    .ok_or_else(|| Error::illegal_argument(format!("failed to find {scope}{component} under [{name}]")))
            }
            Value::Object(def) => {
                let Some(kind) = def.get("type").and_then(Value::as_str) else {
                    return Err(Error::illegal_argument(format!(
                        "Missing [type] setting for anonymous {component}: {given}"
                    )));
                };
                build(&format!("_anonymous_{component}_"), kind, given)?
                    .ok_or_else(|| Error::illegal_argument(format!("failed to find global {component} under [{kind}]")))
            }
            _ => Err(Error::illegal_argument(format!("[{component}] should be a name or an object"))),
        }
    }

    /// Rules do not apply to the rules of a later filter.
    fn without_synonyms(&self, filters: &[Value]) -> Vec<Value> {
        let kind = |f: &Value| match f {
            Value::String(name) => self.filters.get(name).and_then(|def| def["type"].as_str()).map(is_synonym),
            other => other["type"].as_str().map(is_synonym),
        };
        filters.iter().filter(|f| kind(f) != Some(true)).cloned().collect()
    }

    fn defined_filter(&self, name: &str, def: &Value) -> Result<Vec<Step>> {
        let kind = type_of("filter", name, def)?;
        self.filter_of_type(name, kind, def)?.ok_or_else(|| unknown_type("filter", kind, name))
    }

    fn filter_of_type(&self, name: &str, kind: &str, def: &Value) -> Result<Option<Vec<Step>>> {
        if is_synonym(kind) {
            // Rules are read where the analyzer is known.
            return definition::synonym_rules(name, def).map(|_| Some(Vec::new()));
        }
        definition::filter(name, kind, def, &self.limits)
    }

    fn define_analyzer(&self, name: &str, def: &Value) -> Result<Analyzer> {
        let settings = Definition::new(name, def);
        let kind = settings.text("type");
        if kind.is_none() && def.get("tokenizer").is_none() {
            return Err(Error::illegal_argument(format!(
                "analyzer [{name}] must specify either an analyzer type, or a tokenizer"
            )));
        }
        match kind.as_deref() {
            None | Some("custom") => self.custom_analyzer(name, &settings),
            Some(kind) => analyzer_of_type(name, kind, &settings),
        }
    }

    fn custom_analyzer(&self, name: &str, settings: &Definition<'_>) -> Result<Analyzer> {
        let Some(tokenizer_name) = settings.text("tokenizer") else {
            return Err(Error::illegal_argument(format!(
                "Custom Analyzer [{name}] must be configured with a tokenizer"
            )));
        };
        let missing = |component: &str, which: &str| {
            Error::illegal_argument(format!("Custom Analyzer [{name}] failed to find {component} under name [{which}]"))
        };
        let tokenizer = match self.tokenizers.get(&tokenizer_name) {
            Some(def) => {
                definition::tokenizer(&tokenizer_name, type_of("tokenizer", &tokenizer_name, def)?, def, &self.limits)?
            }
            None => definition::tokenizer(&tokenizer_name, definition::PREBUILT, &Value::Null, &self.limits)?,
        }
        .ok_or_else(|| missing("tokenizer", &tokenizer_name))?;
        let mut chars = Vec::new();
        for which in settings.list("char_filter").unwrap_or_default() {
            chars.push(self.char_filter_named(&which)?.ok_or_else(|| missing("char_filter", &which))?);
        }
        let names = settings.list("filter").unwrap_or_default();
        let mut steps = Vec::new();
        for (n, which) in names.iter().enumerate() {
            match self.filters.get(which).filter(|def| is_synonym(def["type"].as_str().unwrap_or_default())) {
                Some(def) => {
                    let named = |names: &[String]| names.iter().cloned().map(Value::String).collect::<Vec<_>>();
                    let tokenizer = Value::String(tokenizer_name.clone());
                    let char_names = settings.list("char_filter").unwrap_or_default();
                    let before = self.custom(
                        Some(&tokenizer),
                        &self.without_synonyms(&named(&names[..n])),
                        &named(&char_names),
                    )?;
                    steps.extend(synonyms(which, type_of("filter", which, def)?, def, &before)?);
                }
                None => steps.extend(self.filter_named(which)?.ok_or_else(|| missing("filter", which))?),
            }
        }
        let mut analyzer = Analyzer::new(name, chars, tokenizer, steps);
        analyzer.position_increment_gap = settings.number("position_increment_gap", 100)? as u32;
        Ok(analyzer)
    }

    fn define_normalizer(&self, name: &str, def: &Value) -> Result<Analyzer> {
        let settings = Definition::new(name, def);
        match settings.text("type").as_deref() {
            None | Some("custom") => {}
            Some("lowercase") => {
                return Ok(Analyzer::new(name, vec![], Tokenizer::Keyword, vec![Step::Word(WordFilter::Lowercase)]));
            }
            Some(kind) => return Err(unknown_type("normalizer", kind, name)),
        }
        if def.get("tokenizer").is_some() {
            return Err(Error::illegal_argument(format!("Custom normalizer [{name}] cannot configure a tokenizer")));
        }
        let missing = |component: &str, which: &str| {
            Error::illegal_argument(format!(
                "Custom normalizer [{name}] failed to find {component} under name [{which}]"
            ))
        };
        let unfit = |component: &str, which: &str| {
            Error::illegal_argument(format!("Custom normalizer [{name}] may not use {component} [{which}]"))
        };
        let mut chars = Vec::new();
        for which in settings.list("char_filter").unwrap_or_default() {
            let f = self.char_filter_named(&which)?.ok_or_else(|| missing("char_filter", &which))?;
            if !f.normalizes() {
                return Err(unfit("char filter", &which));
            }
            chars.push(f);
        }
        let mut steps = Vec::new();
        for which in settings.list("filter").unwrap_or_default() {
            let f = self.filter_named(&which)?.ok_or_else(|| missing("filter", &which))?;
            if !f.iter().all(|s| matches!(s, Step::Word(w) if w.normalizes())) {
                return Err(unfit("filter", &which));
            }
            steps.extend(f);
        }
        Ok(Analyzer::new(name, chars, Tokenizer::Keyword, steps))
    }

    fn char_filter_named(&self, name: &str) -> Result<Option<CharFilter>> {
        match self.char_filters.get(name) {
            Some(def) => definition::char_filter(name, type_of("char_filter", name, def)?, def),
            None => definition::char_filter(name, definition::PREBUILT, &Value::Null),
        }
    }

    fn filter_named(&self, name: &str) -> Result<Option<Vec<Step>>> {
        match self.filters.get(name) {
            Some(def) => self.defined_filter(name, def).map(Some),
            None => self.filter_of_type(name, definition::PREBUILT, &Value::Null),
        }
    }
}

fn unknown_type(component: &str, kind: &str, name: &str) -> Error {
    Error::illegal_argument(format!("Unknown {component} type [{kind}] for [{name}]"))
}

fn type_of<'a>(component: &str, name: &str, def: &'a Value) -> Result<&'a str> {
    def.get("type").and_then(Value::as_str).ok_or_else(|| {
        Error::illegal_argument(format!("{component} [{name}] must specify either an analyzer type, or a tokenizer"))
    })
}

fn is_synonym(kind: &str) -> bool {
    matches!(kind, "synonym" | "synonym_graph")
}

fn synonyms(name: &str, kind: &str, def: &Value, before: &Analyzer) -> Result<Vec<Step>> {
    let (lines, expand, lenient) = definition::synonym_rules(name, def)?;
    let rules = Synonyms::parse(&lines, expand, lenient, kind == "synonym_graph", before)?;
    Ok(list(ListFilter::Synonym(rules)))
}

/// The named definitions of one kind of component.
fn section(analysis: &Value, component: &str) -> Result<BTreeMap<String, Value>> {
    match analysis.get(component) {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(map)) => Ok(map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
        Some(other) => {
            Err(Error::illegal_argument(format!("[index.analysis.{component}] should be an object, but was [{other}]")))
        }
    }
}

/// An analyzer by its type.
fn analyzer_of_type(name: &str, kind: &str, settings: &Definition<'_>) -> Result<Analyzer> {
    let lowercase = || Step::Word(WordFilter::Lowercase);
    let stop = |default: &[&str]| -> Result<Option<Step>> {
        let words = settings.words("stopwords", default)?;
        Ok((!words.is_empty()).then(|| Step::Word(WordFilter::Stop(WordSet::new(words, false)))))
    };
    let built = match kind {
        "standard" => {
            let max_token_length = settings.number("max_token_length", 255)?.max(1) as usize;
            let steps = std::iter::once(lowercase()).chain(stop(&[])?).collect();
            Analyzer::new(name, vec![], Tokenizer::Standard { max_token_length }, steps)
        }
        "simple" => Analyzer::new(name, vec![], Tokenizer::Lowercase, vec![]),
        "whitespace" => Analyzer::new(name, vec![], Tokenizer::Whitespace { max_token_length: 255 }, vec![]),
        "keyword" => Analyzer::new(name, vec![], Tokenizer::Keyword, vec![]),
        "stop" => {
            let steps = stop(&stop_words::ENGLISH)?.into_iter().collect();
            Analyzer::new(name, vec![], Tokenizer::Lowercase, steps)
        }
        "pattern" => {
            let pattern = Pattern::new(
                &settings.text("pattern").unwrap_or_else(|| "\\W+".to_owned()),
                &settings.text("flags").unwrap_or_default(),
            )?;
            let mut steps = Vec::new();
            if settings.flag("lowercase", true)? {
                steps.push(lowercase());
            }
            steps.extend(stop(&[])?);
            Analyzer::new(name, vec![], Tokenizer::Pattern { pattern, group: None }, steps)
        }
        "english" => {
            let mut steps = vec![Step::Word(WordFilter::PossessiveEnglish), lowercase()];
            steps.extend(stop(&stop_words::ENGLISH)?);
            if let Some(kept) = settings.list("stem_exclusion").filter(|k| !k.is_empty()) {
                steps.push(Step::Word(WordFilter::KeywordMarker(WordSet::new(kept, false))));
            }
            steps.push(Step::Word(WordFilter::PorterStem));
            Analyzer::new(name, vec![], Tokenizer::Standard { max_token_length: 255 }, steps)
        }
        _ => return Err(unknown_type("analyzer", kind, name)),
    };
    Ok(built)
}

/// Shorthand for filters that are one step.
pub(super) fn word(filter: WordFilter) -> Vec<Step> {
    vec![Step::Word(filter)]
}

/// The same for filters of the list.
pub(super) fn list(filter: ListFilter) -> Vec<Step> {
    vec![Step::List(filter)]
}
