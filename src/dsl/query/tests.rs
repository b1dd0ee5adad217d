use proptest::prelude::*;
use ringdex_engine::query::MultiMatchKind;
use serde_json::json;

use super::*;

fn kind(json: Value) -> QueryKind {
    parse_query(&json).unwrap_or_else(|e| panic!("{json}: {e}")).kind
}

fn error(json: &Value) -> (String, String) {
    match parse_query(json) {
        Ok(q) => panic!("{json} is {q:?}"),
        Err(e) => (e.kind, e.reason),
    }
}

#[test]
fn short_and_long_forms_are_one() {
    for (short, long) in [
        (json!({"match": {"f": "a b"}}), json!({"match": {"f": {"query": "a b"}}})),
        (json!({"term": {"f": 1}}), json!({"term": {"f": {"value": 1}}})),
        (json!({"prefix": {"f": "a"}}), json!({"prefix": {"f": {"value": "a"}}})),
        (json!({"wildcard": {"f": "a*"}}), json!({"wildcard": {"f": {"wildcard": "a*"}}})),
        (json!({"regexp": {"f": "a."}}), json!({"regexp": {"f": {"value": "a.", "flags": "ALL"}}})),
        (json!({"fuzzy": {"f": "a"}}), json!({"fuzzy": {"f": {"value": "a", "fuzziness": "AUTO"}}})),
        (json!({"match_phrase": {"f": "a"}}), json!({"match_phrase": {"f": {"query": "a", "slop": 0}}})),
        (json!({"bool": {"must": {"match_all": {}}}}), json!({"bool": {"must": [{"match_all": {}}]}})),
        (
            json!({"range": {"f": {"from": 1, "to": 5, "include_lower": false}}}),
            json!({"range": {"f": {"gt": 1, "lte": 5}}}),
        ),
    ] {
        assert_eq!(kind(short), kind(long));
    }
}

#[test]
fn options_reach_the_tree() {
    let QueryKind::Match { options, .. } = kind(json!({"match": {"f": {
        "query": "x", "operator": "AND", "minimum_should_match": 2, "fuzziness": "AUTO:4,7", "prefix_length": 1,
        "max_expansions": 9, "fuzzy_transpositions": false, "zero_terms_query": "all", "lenient": true,
        "analyzer": "simple"
    }}})) else {
        panic!()
    };
    let fuzziness = options.fuzziness.unwrap();
    assert_eq!((fuzziness.edits, fuzziness.auto_low, fuzziness.auto_high), (None, 4, 7));
    assert_eq!((fuzziness.prefix_length, fuzziness.max_expansions, fuzziness.transpositions), (1, 9, false));
    assert_eq!(options.minimum_should_match.as_deref(), Some("2"));
    assert!(options.zero_terms_all && options.lenient);
    let q = parse_query(&json!({"terms": {"f": ["a", 1, true], "boost": 2, "_name": "n"}})).unwrap();
    assert_eq!((q.boost, q.name.as_deref()), (2.0, Some("n")));
    let QueryKind::MultiMatch { fields, kind: MultiMatchKind::CrossFields, .. } =
        kind(json!({"multi_match": {"query": "x", "fields": ["a^2.5", "b*"], "type": "cross_fields"}}))
    else {
        panic!()
    };
    assert_eq!(fields, [("a".to_owned(), 2.5), ("b*".to_owned(), 1.0)]);
    let QueryKind::SimpleQueryString { flags, .. } =
        kind(json!({"simple_query_string": {"query": "x", "flags": "OR|AND|NEAR"}}))
    else {
        panic!()
    };
    assert_eq!(flags, 0b10_0000_0101);
    let QueryKind::QueryString(q) = kind(json!({"query_string": {"query": "a:b", "escape": true}})) else { panic!() };
    assert_eq!(q.query, "a\\:b");
    let wrapped = kind(json!({"wrapper": {"query": "eyJ0ZXJtIjp7ImYiOjF9fQ=="}}));
    assert_eq!(wrapped, kind(json!({"term": {"f": 1}})));
}

#[test]
fn compound_queries() {
    let QueryKind::Bool { must, filter, should, must_not, minimum_should_match } = kind(json!({"bool": {
        "must": [{"match_all": {}}, {"match_none": {}}], "filter": {"exists": {"field": "f"}},
        "should": [{"ids": {"values": ["1"]}}], "must_not": null, "minimum_should_match": "75%"
    }})) else {
        panic!()
    };
    assert_eq!((must.len(), filter.len(), should.len(), must_not.len()), (2, 1, 1, 0));
    assert_eq!(minimum_should_match.as_deref(), Some("75%"));
    kind(json!({"constant_score": {"filter": {"term": {"f": 1}}, "boost": 1.5}}));
    kind(json!({"dis_max": {"queries": [{"term": {"f": 1}}], "tie_breaker": 0.3}}));
    kind(json!({"boosting": {"positive": {"match_all": {}}, "negative": {"term": {"f": 1}}, "negative_boost": 0.2}}));
}

#[test]
fn errors_have_elasticsearchs_words() {
    for (json, kind, reason) in [
        (json!({"mtch": {}}), "parsing_exception", "unknown query [mtch] did you mean [match]?"),
        (json!({}), "illegal_argument_exception", "query malformed, empty clause found"),
        (json!([]), "parsing_exception", "[_na] query malformed, must start with start_object"),
        (json!({"term": "x"}), "parsing_exception", "[term] query malformed, no start_object after query name"),
        (
            json!({"match_all": {}, "term": {}}),
            "parsing_exception",
            "[match_all] malformed query, expected [END_OBJECT] but found [FIELD_NAME]",
        ),
        (json!({"match": {"f": {"query": 1, "foo": 1}}}), "parsing_exception", "[match] query does not support [foo]"),
        (json!({"match": {"f": []}}), "parsing_exception", "[match] unknown token [START_ARRAY] after [f]"),
        (
            json!({"match": {"a": 1, "b": 2}}),
            "parsing_exception",
            "[match] query doesn't support multiple fields, found [a] and [b]",
        ),
        (json!({"match": {"f": null}}), "illegal_argument_exception", "[match] requires query value"),
        (json!({"term": {"f": [1]}}), "parsing_exception", "[term] query does not support array of values"),
        (json!({"term": {"f": null}}), "illegal_argument_exception", "value cannot be null"),
        (json!({"terms": {"a": [1], "b": [2]}}), "parsing_exception", "[terms] query does not support multiple fields"),
        (json!({"range": {"f": {"foo": 1}}}), "parsing_exception", "[range] query does not support [foo]"),
        (json!({"exists": {}}), "parsing_exception", "[exists] must be provided with a [field]"),
        (json!({"match_all": {"foo": 1}}), "x_content_parse_exception", "[match_all] unknown field [foo]"),
        (
            json!({"bool": {"musst": []}}),
            "x_content_parse_exception",
            "[bool] unknown field [musst] did you mean [must]?",
        ),
        (json!({"dis_max": {}}), "parsing_exception", "[dis_max] requires 'queries' field with at least one clause"),
        (json!({"constant_score": {}}), "parsing_exception", "[constant_score] requires a 'filter' element"),
        (
            json!({"match": {"f": {"query": 1, "operator": "xor"}}}),
            "illegal_argument_exception",
            "No enum constant org.elasticsearch.index.query.Operator.XOR",
        ),
        (
            json!({"match_all": {"boost": -1}}),
            "illegal_argument_exception",
            "negative [boost] are not allowed in [match_all], use a value between 0 and 1 to deboost",
        ),
    ] {
        assert_eq!(error(&json), (kind.to_owned(), reason.to_owned()), "{json}");
    }
}

#[test]
fn the_innermost_cause_is_the_root() {
    let e = parse_query(&json!({"bool": {"must": [{"bool": {"filter": {"trm": {}}}}]}})).unwrap_err();
    assert_eq!(e.reason, "[bool] failed to parse field [must]");
    let body = e.to_body();
    assert_eq!(body["error"]["root_cause"][0]["reason"], "unknown query [trm] did you mean any of [term, terms]?");
    assert_eq!(body["error"]["caused_by"]["reason"], "[bool] failed to parse field [filter]");
    assert_eq!(body["status"], 400);
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        let mut q = json!({"match_all": {}});
        for i in 0..levels {
            q = if i % 2 == 0 { json!({"bool": {"must": q}}) } else { json!({"constant_score": {"filter": q}}) };
        }
        q
    };
    assert!(parse_query(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(parse_query(&nested(DEPTH_MAX + 1)).unwrap_err().status, 400);
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let words = [
        "bool",
        "must",
        "filter",
        "should",
        "match",
        "term",
        "terms",
        "range",
        "query",
        "fields",
        "value",
        "boost",
        "gte",
        "from",
        "fuzziness",
        "sort",
        "_source",
        "size",
        "aggs",
        "query_string",
        "wrapper",
        "ids",
        "values",
    ];
    let key = prop_oneof![proptest::sample::select(words.to_vec()).prop_map(str::to_owned), "[a-z]{0,4}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![key.clone(), "\\PC{0,6}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_json_never_panics(json in arbitrary_json(), name in 0usize..NAMES.len()) {
        crate::dsl::fuzz_query_dsl(json.to_string().as_bytes());
        // Below a real name, to get past the first look.
        let named = json!({ NAMES[name]: json });
        if let Err(e) = parse_query(&named) {
            prop_assert_eq!(e.status, 400);
        }
        crate::dsl::fuzz_query_dsl(json!({"query": named}).to_string().as_bytes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        crate::dsl::fuzz_query_dsl(&bytes);
    }
}
