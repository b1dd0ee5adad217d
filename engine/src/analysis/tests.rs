use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn global() -> AnalyzerRegistry {
    AnalyzerRegistry::default()
}

fn terms(analyzer: &Analyzer, text: &str) -> (Vec<(String, u32)>, u32) {
    let mut out = Vec::new();
    let end = analyzer.terms(text, &mut Scratch::default(), &mut |t, p| out.push((t.to_owned(), p)));
    let mut indexed = Vec::new();
    let indexed_end = analyzer.index_terms(text, &mut Scratch::default(), &mut |t, p| {
        assert_eq!(t.head, Term::new(t.bytes).head);
        indexed.push((String::from_utf8(t.bytes.to_vec()).unwrap(), p));
    });
    assert_eq!((&indexed, indexed_end), (&out, end), "what is indexed of {text:?}");
    (out, end)
}

fn check(analyzer: &str, text: &str, expected: &[(&str, u32)], end: u32) {
    let analyzer = global().analyzer(analyzer).unwrap();
    let (got, got_end) = terms(&analyzer, text);
    let got: Vec<_> = got.iter().map(|(t, p)| (t.as_str(), *p)).collect();
    assert_eq!((got.as_slice(), got_end), (expected, end), "{analyzer:?} on {text:?}");
}

#[test]
fn built_in_analyzers() {
    check("standard", "The QUICK-fox's", &[("the", 0), ("quick", 1), ("fox's", 2)], 3);
    check("simple", "The 2 QUICK-fox's", &[("the", 0), ("quick", 1), ("fox", 2), ("s", 3)], 4);
    check("whitespace", " The QUICK-fox ", &[("The", 0), ("QUICK-fox", 1)], 2);
    check("keyword", "The Fox", &[("The Fox", 0)], 1);
    check("keyword", "", &[], 0);
    check("stop", "the fox and the", &[("fox", 1)], 4);
    check("pattern", "Foo, bar_baz", &[("foo", 0), ("bar_baz", 1)], 2);
    check("english", "The foxes' Jumping, John’s of", &[("fox", 1), ("jump", 2), ("john", 3)], 5);
}

#[test]
fn settings_define_analyzers() {
    let registry = AnalyzerRegistry::new(&json!({
        "char_filter": {"amp": {"type": "mapping", "mappings": ["& => and"]}},
        "tokenizer": {"comma": {"type": "pattern", "pattern": ","}},
        "filter": {
            "stops": {"type": "stop", "stopwords": ["x", "_english_"]},
            "short": {"type": "length", "min": "2"}
        },
        "analyzer": {
            "mine": {"tokenizer": "comma", "char_filter": "amp", "filter": ["lowercase", "trim", "stops", "short"]},
            "std": {"type": "standard", "stopwords": "_english_"},
            "default": {"type": "whitespace"}
        },
        "normalizer": {"n": {"type": "custom", "filter": "lowercase,asciifolding"}}
    }))
    .unwrap();
    let (got, _) = terms(&registry.analyzer("mine").unwrap(), "Q&A, the ,X,i, Öl");
    assert_eq!(got, [("qanda".to_owned(), 0), ("öl".to_owned(), 4)]);
    assert_eq!(terms(&registry.analyzer("std").unwrap(), "to be").1, 2);
    assert_eq!(registry.analyzer("default").unwrap().name(), "default");
    assert_eq!(registry.normalizer("n").unwrap().normalize("ÀB c"), "ab c");
    assert!(registry.analyzer("none").is_none());
}

#[test]
fn wrong_settings_have_elasticsearchs_words() {
    for (settings, reason) in [
        (
            json!({"analyzer": {"a": {"tokenizer": "nope"}}}),
            "Custom Analyzer [a] failed to find tokenizer under name [nope]",
        ),
        (
            json!({"analyzer": {"a": {"tokenizer": "standard", "filter": ["lowercase", "y"]}}}),
            "Custom Analyzer [a] failed to find filter under name [y]",
        ),
        (
            json!({"analyzer": {"a": {"tokenizer": "standard", "char_filter": ["y"]}}}),
            "Custom Analyzer [a] failed to find char_filter under name [y]",
        ),
        (json!({"analyzer": {"a": {"type": "custom"}}}), "Custom Analyzer [a] must be configured with a tokenizer"),
        (json!({"analyzer": {"a": {}}}), "analyzer [a] must specify either an analyzer type, or a tokenizer"),
        (json!({"analyzer": {"a": {"type": "klingon"}}}), "Unknown analyzer type [klingon] for [a]"),
        (json!({"filter": {"f": {"type": "foo"}}}), "Unknown filter type [foo] for [f]"),
        (json!({"normalizer": {"n": {"tokenizer": "keyword"}}}), "Custom normalizer [n] cannot configure a tokenizer"),
        (json!({"normalizer": {"n": {"filter": ["stop"]}}}), "Custom normalizer [n] may not use filter [stop]"),
    ] {
        let error = AnalyzerRegistry::new(&settings).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), reason);
    }
    let error =
        AnalyzerRegistry::with_limits(&json!({"filter": {"g": {"type": "ngram", "min_gram": 1, "max_gram": 9}}}), 1, 3)
            .map(|_| ())
            .unwrap_err();
    assert!(error.to_string().contains("[1] but was [8]"), "{error}");
}

#[test]
fn components_by_name_or_definition() {
    let error = |tokenizer: Value, filters: Value| {
        global().custom(Some(&tokenizer), filters.as_array().unwrap(), &[]).unwrap_err().to_string()
    };
    assert_eq!(error(json!("x"), json!([])), "failed to find global tokenizer under [x]");
    assert_eq!(error(json!("standard"), json!(["x"])), "failed to find global filter under [x]");
    assert_eq!(
        error(json!("standard"), json!([{"stopwords": []}])),
        "Missing [type] setting for anonymous filter: {\"stopwords\":[]}"
    );
    let a = global()
        .custom(Some(&json!({"type": "ngram", "min_gram": 2, "max_gram": 2})), &[json!("uppercase")], &[])
        .unwrap();
    assert_eq!(terms(&a, "abc").0, [("AB".to_owned(), 0), ("BC".to_owned(), 1)]);
}

#[test]
fn streaming_and_list_paths_agree() {
    let text = "The Foxes and THE dogs, of 2 foxes";
    let streaming = global().custom(Some(&json!("standard")), &[json!("lowercase"), json!("stop")], &[]).unwrap();
    // A limit that limits nothing puts everything through the list.
    let limit = json!({"type": "limit", "max_token_count": 1000});
    let listed = global().custom(Some(&json!("standard")), &[limit, json!("lowercase"), json!("stop")], &[]).unwrap();
    assert_eq!(terms(&streaming, text), terms(&listed, text));
    let collect = |a: &Analyzer| {
        let mut out = Vec::new();
        a.tokens(text, &mut |t| out.push((t.term.to_owned(), t.position, t.start_offset, t.end_offset, t.kind)));
        out
    };
    assert_eq!(collect(&streaming), collect(&listed));
}

/// Lines of the form {"case", "request": {...}, "tokens": [...]}.
fn run_cases(lines: impl Iterator<Item = String>) -> (BTreeMapOf, Vec<String>) {
    let mut counts = BTreeMapOf::new();
    let mut failures = Vec::new();
    for line in lines {
        let case: Value = serde_json::from_str(&line).unwrap();
        let name = case["case"].as_str().unwrap();
        let request = &case["request"];
        let entry = counts.entry(name.to_owned()).or_default();
        let list = |key: &str| request[key].as_array().cloned().unwrap_or_default();
        let analyzer = match global().custom(request.get("tokenizer"), &list("filter"), &list("char_filter")) {
            Ok(a) => a,
            Err(e) => {
                entry.2 += 1;
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let mut got = Vec::new();
        analyzer.tokens(request["text"].as_str().unwrap(), &mut |t| {
            let mut token = json!({
                "token": t.term, "start_offset": t.start_offset, "end_offset": t.end_offset, "type": t.kind,
                "position": t.position,
            });
            if t.position_length > 1 {
                token["positionLength"] = t.position_length.into();
            }
            got.push(token);
        });
        if Some(&got) == case["tokens"].as_array() {
            entry.0 += 1;
        } else {
            entry.1 += 1;
            let expected = case["tokens"].as_array().unwrap();
            let at = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(got.len().min(expected.len()));
            failures.push(format!(
                "{name}: {} at {at}: got {:?} expected {:?}",
                request["text"],
                got.get(at).map(Value::to_string),
                expected.get(at).map(Value::to_string)
            ));
        }
    }
    (counts, failures)
}

/// Passed, failed, not supported.
type BTreeMapOf = std::collections::BTreeMap<String, (u32, u32, u32)>;

/// The whole collection, by hand: `ANALYZE_CASES=file cargo test analysis -- --ignored --nocapture`.
#[test]
#[ignore = "needs the full collection of cases"]
fn all_cases() {
    let path = std::env::var("ANALYZE_CASES").unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (counts, failures) = run_cases(text.lines().map(str::to_owned));
    for f in &failures {
        println!("{f}");
    }
    for (name, (ok, bad, unsupported)) in &counts {
        println!("{name}: {ok} ok, {bad} bad, {unsupported} unsupported");
    }
    let sum = counts.values().fold((0, 0, 0), |a, c| (a.0 + c.0, a.1 + c.1, a.2 + c.2));
    println!("{sum:?}");
}

proptest! {
    #[test]
    fn terms_and_tokens_agree(text in "\\PC{0,80}", which in 0usize..7) {
        let name = ["standard", "simple", "whitespace", "keyword", "stop", "english", "pattern"][which];
        let analyzer = global().analyzer(name).unwrap();
        let mut tokens = Vec::new();
        let units = text.encode_utf16().count() as u32;
        analyzer.tokens(&text, &mut |t| {
            assert!(t.start_offset < t.end_offset && t.end_offset <= units);
            tokens.push((t.term.to_owned(), t.position));
        });
        let (terms, end) = terms(&analyzer, &text);
        prop_assert!(terms.last().is_none_or(|t| t.1 < end));
        prop_assert_eq!(terms, tokens);
    }
}
