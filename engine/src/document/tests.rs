use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::analysis::AnalyzerRegistry;
use crate::mapping::number;

fn registry() -> AnalyzerRegistry {
    let lower = json!({"normalizer": {"lower": {"type": "custom", "filter": ["lowercase"]}}});
    AnalyzerRegistry::new(&lower).unwrap()
}

fn mapping(properties: Value) -> Mapping {
    Mapping::parse(&json!({"dynamic": "strict", "properties": properties}), &registry()).unwrap()
}

/// The values as `path=value`, in order.
fn shown(mapping: &Mapping, out: &ParsedDocument) -> Vec<String> {
    out.values
        .iter()
        .map(|(id, value)| {
            let field = mapping.by_id(*id);
            let text = match value {
                ParsedValue::Number(n) => format!("#{}", field.render_number(*n, None).unwrap()),
                ParsedValue::Text(_) => format!("~{}", String::from_utf8_lossy(out.bytes(value).unwrap())),
                ParsedValue::Term(_) => field.render_term(out.bytes(value).unwrap()).as_str().unwrap().to_owned(),
            };
            format!("{}={text}", field.path)
        })
        .collect()
}

fn check(properties: Value, source: &str, expected: &[&str]) {
    let mapping = mapping(properties);
    let mut out = ParsedDocument::default();
    // Twice: what is kept from one document to the next must not show.
    for _ in 0..2 {
        parse(&mapping, "1", source.as_bytes(), &mut out).unwrap_or_else(|e| panic!("{source}: {e:?}"));
        assert_eq!(shown(&mapping, &out), expected, "{source}");
        assert_eq!(out.mapping_update, None);
    }
}

fn refused(mapping: &Mapping, source: &str) -> ParseError {
    parse(mapping, "1", source.as_bytes(), &mut ParsedDocument::default()).expect_err(source)
}

#[test]
fn values_come_in_document_order() {
    let properties = json!({
        "k": {"type": "keyword"}, "n": {"type": "long"},
        "t": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 3}}},
        "o": {"properties": {"x": {"type": "boolean"}, "p": {"type": "nested", "properties": {"y": {"type": "double"}}}}}
    });
    check(
        properties.clone(),
        r#"{"n": [1, "2", [3.7, null]], "t": ["abc", "a\nb\u00e9d"], "k": [true, 1.50, null, []], "o": {"x": "false"}}"#,
        &[
            "n=#1",
            "n=#2",
            "n=#3",
            "t=~abc",
            "t.raw=abc",
            "t=~a\nbéd",
            "_ignored=t.raw",
            "k=true",
            "k=1.50",
            "o.x=#false",
        ],
    );
    check(
        properties,
        r#"{"o.p": [{"y": 1}, null, [{"y": "2.5"}]], "o.x": true, "o": {"p.y": 3, "p": {"y": 4}}}"#,
        &["o.p.y=#1.0", "o.p.y=#2.5", "o.x=#true", "o.p.y=#3.0", "o.p.y=#4.0"],
    );
}

#[test]
fn every_type_reads_its_forms() {
    check(
        json!({"d": {"type": "date", "format": "yyyy/MM/dd||epoch_second"}, "n": {"type": "date_nanos"}}),
        r#"{"d": ["2020/02/29", 1582982055, "1582982055"], "n": "2020-02-29T13:14:15.123456789Z"}"#,
        &["d=#\"2020/02/29\"", "d=#\"2020/02/29\"", "d=#\"2020/02/29\"", "n=#\"2020-02-29T13:14:15.123456789Z\""],
    );
    check(
        json!({"i": {"type": "ip"}, "b": {"type": "binary"}, "f": {"type": "flattened"}, "h": {"type": "half_float"}}),
        r#"{"i": ["10.0.0.1", "2001:DB8::1"], "b": "AAAA", "f": {"a": [{"b": 1}]}, "h": 1.1}"#,
        &["i=10.0.0.1", "i=2001:db8::1", "_field_names=f", "h=#1.099609375"],
    );
    check(
        json!({"k": {"type": "keyword", "normalizer": "lower", "null_value": "NONE"}, "n": {"type": "integer", "null_value": 7}}),
        r#"{"k": ["ABC", null], "n": [null, "", 8]}"#,
        &["k=abc", "k=none", "n=#7", "n=#7", "n=#8"],
    );
    check(
        json!({"u": {"type": "unsigned_long"}, "s": {"type": "scaled_float", "scaling_factor": 100}}),
        r#"{"u": 18446744073709551615, "s": ["1.239", -0.005]}"#,
        &["u=#18446744073709551615", "s=#1.24", "s=#0.0"],
    );
    check(
        json!({"g": {"type": "geo_point"}}),
        r#"{"g": [{"lat": 41.12, "lon": -71.34}, "41.12,-71.34", [-71.34, 41.12], "POINT (-71.34 41.12)"]}"#,
        &["g=#\"41.1199999647215, -71.34000004269183\""; 4],
    );
    check(
        json!({"g": {"type": "geo_point"}}),
        r#"{"g": [-71.34, 41.12, 5]}"#,
        &["g=#\"41.1199999647215, -71.34000004269183\""],
    );
}

#[test]
fn copies_multi_fields_and_field_names() {
    check(
        json!({
            "a": {"type": "keyword", "copy_to": ["all", "o.n"], "doc_values": false},
            "all": {"type": "text", "norms": false}, "o": {"properties": {"n": {"type": "long", "ignore_malformed": true}}}
        }),
        r#"{"a": ["5", "x"]}"#,
        &["a=5", "_field_names=a", "all=~5", "_field_names=all", "o.n=#5", "a=x", "all=~x", "_ignored=o.n"],
    );
}

#[test]
fn objects_that_are_off_are_not_read_but_checked() {
    let off = json!({"o": {"enabled": false}, "f": {"dynamic": false, "properties": {"k": {"type": "keyword"}}}});
    check(off.clone(), r#"{"o": {"a": {"b": [1, {"c": null}]}}, "f": {"x": {"y": 1}, "k": "v"}}"#, &["f.k=v"]);
    check(off.clone(), r#"{"o": 5, "f": {"x.y": [{}, {"a": 1}, {"a": 2}]}}"#, &[]);
    for twice in
        [r#"{"o": {"a": 1, "a": 2}}"#, r#"{"f": {"x": {"y": {"z": 1}, "y": 2}}}"#, r#"{"f": {"k": "1", "k": "2"}}"#]
    {
        let error = refused(&mapping(off.clone()), twice);
        assert_eq!(error.reason, "failed to parse");
        assert!(error.caused_by.unwrap().reason.starts_with("Duplicate field '"), "{twice}");
    }
}

#[test]
fn refusals_have_elasticsearchs_words() {
    let mapping = mapping(json!({
        "l": {"type": "long"}, "i": {"type": "integer", "coerce": false}, "d": {"type": "date"}, "b": {"type": "boolean"},
        "o": {"properties": {"x": {"type": "keyword"}}}, "k": {"type": "keyword"}, "ip": {"type": "ip"},
        "al": {"type": "alias", "path": "k"}, "dn": {"type": "date_nanos"}, "fl": {"type": "float"}, "g": {"type": "geo_point"}
    }));
    let check = |source: &str, reason: &str, cause: &str| {
        let error = refused(&mapping, source);
        assert_eq!(error.reason, reason, "{source}");
        let found = error.caused_by.map(|c| format!("{}: {}", c.kind, c.reason)).unwrap_or_default();
        let found = found.split("\n at [Source").next().unwrap();
        assert_eq!(found, cause, "{source}");
    };
    let field = |name: &str, kind: &str, value: &str| {
        format!(
            "failed to parse field [{name}] of type [{kind}] in document with id '1'. Preview of field's value: '{value}'"
        )
    };
    let illegal = |why: &str| format!("illegal_argument_exception: {why}");
    check(r#"{"l": "abc"}"#, &field("l", "long", "abc"), &illegal("For input string: \"abc\""));
    check(
        r#"{"l": 9223372036854775808}"#,
        &field("l", "long", "9223372036854775808"),
        &illegal("Value [9223372036854775808] is out of range for a long"),
    );
    check(r#"{"i": "1"}"#, &field("i", "integer", "1"), &illegal("Integer value passed as String"));
    check(r#"{"i": 1.5}"#, &field("i", "integer", "1.5"), &illegal("Value [1.5] has a decimal part"));
    check(
        r#"{"l": {"a": 1}}"#,
        &field("l", "long", "{a=1}"),
        "json_parse_exception: Current token (START_OBJECT) not numeric, can not use numeric value accessors",
    );
    check(
        r#"{"k": {"a": [1]}}"#,
        &field("k", "keyword", "{a=[1]}"),
        "illegal_state_exception: Can't get text on a START_OBJECT at 1:7",
    );
    check(
        r#"{"d": "x"}"#,
        &field("d", "date", "x"),
        &illegal("failed to parse date field [x] with format [strict_date_optional_time||epoch_millis]"),
    );
    check(
        r#"{"dn": "1969-01-01"}"#,
        &field("dn", "date_nanos", "1969-01-01"),
        &illegal(
            "date[1969-01-01T00:00:00Z] is before the epoch in 1970 and cannot be stored in nanosecond resolution",
        ),
    );
    check(
        r#"{"b": "x"}"#,
        &field("b", "boolean", "x"),
        &illegal("Failed to parse value [x] as only [true] or [false] are allowed."),
    );
    check(
        r#"{"b": 1}"#,
        &field("b", "boolean", "1"),
        "json_parse_exception: Current token (VALUE_NUMBER_INT) not of boolean type",
    );
    check(r#"{"ip": "x"}"#, &field("ip", "ip", "x"), &illegal("'x' is not an IP string literal."));
    check(
        r#"{"fl": 1e39}"#,
        &field("fl", "float", "1e39"),
        &illegal("[float] supports only finite values, but got [1e39]"),
    );
    check(
        r#"{"g": {"lat": 91, "lon": 0}}"#,
        &field("g", "geo_point", "{lat=91, lon=0}"),
        "parse_exception: illegal latitude value [91.0] for g",
    );
    check(r#"{"o": 5}"#, "object mapping for [o] tried to parse field [o] as object, but found a concrete value", "");
    check(r#"{"x": 5}"#, "mapping set to strict, dynamic introduction of [x] within [_doc] is not allowed", "");
    check(r#"{"o": {"y": null}}"#, "mapping set to strict, dynamic introduction of [y] within [o] is not allowed", "");
    check(
        r#"{"_id": "5"}"#,
        "Field [_id] is a metadata field and cannot be added inside a document. Use the index API request parameters.",
        "",
    );
    check(r#"{"": 1}"#, "failed to parse", &illegal("field name cannot be an empty string"));
    check(
        r#"{"a..b": 1}"#,
        "failed to parse",
        &illegal("object field starting or ending with a [.] makes object resolution ambiguous: [a..b]"),
    );
    check(r#"{"a. .b": 1}"#, "failed to parse", &illegal("object field cannot contain only whitespace: ['a. .b']"));
    check(r#"{"al": 1}"#, "failed to parse", &illegal("Cannot write to a field alias [al]."));
    check(
        r#"{"k": 1} {"#,
        "failed to parse",
        &illegal("Malformed content, found extra data after parsing: START_OBJECT"),
    );
    check(
        r#"{"k": tru}"#,
        "failed to parse",
        "json_parse_exception: Unrecognized token 'tru': was expecting ('true', 'false' or 'null')",
    );
    check(
        r#"{k: 1}"#,
        "failed to parse",
        "json_parse_exception: Unexpected character ('k' (code 107)): was expecting double-quote to start field name",
    );
    check(
        "[1]",
        "failed to parse",
        "not_x_content_exception: Compressor detection can only be called on some xcontent bytes or compressed xcontent bytes",
    );
    check("", "failed to parse, document is empty", "");
    check(
        r#"{"k": "#,
        "failed to parse",
        "json_e_o_f_exception: Unexpected end-of-input: expected a valid value (number, String, array, object, 'true', 'false' or 'null')",
    );
    check(r#"{"k": "a", "k": "b"}"#, "failed to parse", "json_parse_exception: Duplicate field 'k'");
    let immense = refused(&mapping, &format!(r#"{{"k": "{}"}}"#, "a".repeat(32_767)));
    assert_eq!(immense.kind, "illegal_argument_exception");
    assert!(immense.reason.starts_with("Document contains at least one immense term in field=\"k\" (whose UTF8"));
    assert_eq!(immense.caused_by.unwrap().reason, "bytes can be at most 32766 in length; got 32767");
    let below = refused(&mapping, r#"{"o.x.y": 1}"#);
    assert_eq!(
        below.reason,
        "Could not dynamically add mapping for field [o.x.y]. Existing mapping for [o.x] must be of type object but found [keyword]."
    );
}

#[test]
fn immense_terms_of_texts_are_told_too() {
    let mapping =
        mapping(json!({"w": {"type": "text", "analyzer": "whitespace"}, "k": {"type": "text", "analyzer": "keyword"}}));
    let words = "word ".repeat(10_000);
    let mut out = ParsedDocument::default();
    assert!(parse(&mapping, "1", json!({"w": words}).to_string().as_bytes(), &mut out).is_ok());
    assert!(refused(&mapping, &json!({"k": words}).to_string()).reason.contains("immense term in field=\"k\""));
    // The standard tokenizer cuts a word at 255 characters.
    let standard = self::mapping(json!({"t": {"type": "text"}}));
    assert!(parse(&standard, "1", json!({"t": "x".repeat(100_000)}).to_string().as_bytes(), &mut out).is_ok());
    // What is longer than `ignore_above` is not a term at all; below it, bytes count.
    let ignoring = self::mapping(json!({"k": {"type": "keyword", "ignore_above": 20_000}}));
    assert!(parse(&ignoring, "1", json!({"k": "x".repeat(40_000)}).to_string().as_bytes(), &mut out).is_ok());
    assert_eq!(out.ignored, ["k"]);
    assert!(refused(&ignoring, &json!({"k": "€".repeat(11_000)}).to_string()).reason.contains("got 33000"));
}

#[test]
fn immense_terms_that_filters_make_of_short_texts_are_told_too() {
    let custom =
        |filter: Value| json!({"type": "custom", "tokenizer": "keyword", "filter": filter, "char_filter": ["long"]});
    let registry = AnalyzerRegistry::new(&json!({
        "char_filter": {"long": {"type": "mapping", "mappings": ["~ => twenty-four bytes in all."]}},
        "analyzer": {"long": custom(json!([])), "low": custom(json!(["lowercase"]))}
    }))
    .unwrap();
    let fields = json!({"long": {"type": "text", "analyzer": "long"}, "low": {"type": "text", "analyzer": "low"}});
    let mapping = Mapping::parse(&json!({ "properties": fields }), &registry).unwrap();
    let reason = |field: &str, text: String| {
        let mut out = ParsedDocument::default();
        let source = json!({ field: text }).to_string();
        parse(&mapping, "1", source.as_bytes(), &mut out).err().map(|e| e.reason)
    };
    assert!(reason("long", "~".repeat(2_000)).unwrap().contains("immense term in field=\"long\""));
    assert_eq!(reason("long", "~".repeat(1_000)), None);
    // Two bytes in upper case, three in lower case.
    assert!(reason("low", "Ⱥ".repeat(11_000)).unwrap().contains("got 33000"));
    assert_eq!(reason("low", "Ⱥ".repeat(10_000)), None);
}

/// Parses and updates until the document fits.
fn settle(mut mapping: Mapping, source: &str) -> Result<(Mapping, ParsedDocument), ParseError> {
    let mut out = ParsedDocument::default();
    for _ in 0..16 {
        parse(&mapping, "1", source.as_bytes(), &mut out)?;
        match &out.mapping_update {
            None => return Ok((mapping, out)),
            Some(update) => mapping = mapping.merge(update, &registry())?,
        }
    }
    panic!("{source} never fits");
}

fn dynamic(root: Value, source: &str) -> Value {
    let (mapping, _) = settle(Mapping::parse(&root, &registry()).unwrap(), source).unwrap();
    mapping.to_json()["properties"].clone()
}

#[test]
fn unknown_fields_are_mapped_by_their_values() {
    let text = json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}});
    assert_eq!(
        dynamic(
            json!({}),
            r#"{"s": "x", "l": [1, 2], "f": 1.5, "b": true, "d": "2020-01-01", "e": "2020/01/01", "n": null,
                           "a": [], "o": {"p": {"q": "1"}, "r": {}}, "x.y": 1, "x": {"z": 2.0}}"#
        ),
        json!({
            "b": {"type": "boolean"}, "d": {"type": "date"},
            "e": {"type": "date", "format": "yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis"},
            "f": {"type": "float"}, "l": {"type": "long"},
            "o": {"properties": {"p": {"properties": {"q": text}}, "r": {"type": "object"}}}, "s": text,
            "x": {"properties": {"y": {"type": "long"}, "z": {"type": "float"}}}
        })
    );
    assert_eq!(
        dynamic(
            json!({"numeric_detection": true, "date_detection": false}),
            r#"{"l": "12", "f": "1.5", "d": "2020-01-01"}"#
        ),
        json!({"d": text, "f": {"type": "float"}, "l": {"type": "long"}})
    );
    assert_eq!(
        dynamic(json!({"dynamic_date_formats": ["MM/dd/yyyy"]}), r#"{"d": "02/29/2020", "t": "2020-01-01"}"#),
        json!({"d": {"type": "date", "format": "MM/dd/yyyy"}, "t": text})
    );
    let nested = json!({"dynamic": false, "properties": {"n": {"type": "nested", "dynamic": true}}});
    assert_eq!(
        dynamic(nested, r#"{"x": 1, "n": {"a": {"b": 1}}}"#),
        json!({"n": {"type": "nested", "dynamic": "true", "properties": {"a": {"properties": {"b": {"type": "long"}}}}}})
    );
}

#[test]
fn templates_decide_first() {
    let root = json!({"dynamic_templates": [
        {"ids": {"match": "*_id", "unmatch": "all_*", "match_mapping_type": "string", "mapping": {"type": "keyword", "copy_to": "all_{name}"}}},
        {"geo": {"path_match": "*.location", "mapping": {"type": "geo_point"}}},
        {"tags": {"match": "tags", "match_mapping_type": "object", "mapping": {"type": "nested", "properties": {"k": {"type": "keyword"}}}}},
        {"dates": {"match_mapping_type": "date", "mapping": {"type": "date"}}},
        {"rest": {"match_mapping_type": "long", "mapping": {"type": "{dynamic_type}", "index": false}}}
    ]});
    let shown =
        dynamic(root, r#"{"a_id": "x", "a": {"location": "1,2"}, "tags": {"k": "v", "n": 5}, "d": "2020/01/01"}"#);
    let text = json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}});
    assert_eq!(
        shown,
        json!({
            "a": {"properties": {"location": {"type": "geo_point"}}},
            "a_id": {"type": "keyword", "copy_to": ["all_a_id"]}, "all_a_id": text,
            "d": {"type": "date", "format": "yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis"},
            "tags": {"type": "nested", "properties": {"k": {"type": "keyword"}, "n": {"type": "long", "index": false}}}
        })
    );
}

#[test]
fn one_document_may_not_contradict_itself() {
    let why = |source: &str| {
        let error = settle(Mapping::empty(), source).unwrap_err();
        assert_eq!(error.kind, "illegal_argument_exception", "{source}");
        error.reason
    };
    assert_eq!(why(r#"{"a": [1, 1.5]}"#), "mapper [a] cannot be changed from type [long] to [float]");
    assert_eq!(why(r#"{"a": ["2020-01-01", "x"]}"#), "mapper [a] cannot be changed from type [date] to [text]");
    assert_eq!(why(r#"{"a": [1, {"b": 1}]}"#), "mapper [a] cannot be changed from type [long] to [ObjectMapper]");
    assert_eq!(why(r#"{"a": [{"b": 1}, 1]}"#), "can't merge a non object mapping [a] with an object mapping");
}

prop_compose! {
    fn leaf()(pick in 0..9u8, n in any::<i64>(), x in any::<f32>(), s in "[a-c ]{0,4}") -> Value {
        match pick {
            0 => Value::Null,
            1 => json!(n),
            2 if x.is_finite() => json!(x),
            3 => json!(n % 2 == 0),
            4 => json!("2020-01-01"),
            5 => json!([]),
            6 => json!(n.to_string()),
            _ => json!(s),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c](\\.[ab])?", inner, 0..4)
                .prop_map(|m| m.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn a_document_fits_the_mapping_it_asked_for(first in any_json(), second in any_json()) {
        let mut mapping = Mapping::empty();
        for json in [json!({"x": first}), json!({"x": second})] {
            // Whatever one round accepts, the next must: errors come before any update.
            let mut out = ParsedDocument::default();
            if parse(&mapping, "1", json.to_string().as_bytes(), &mut out).is_err() {
                return Ok(());
            }
            let Some(update) = out.mapping_update.clone() else { continue };
            mapping = match mapping.merge(&update, &registry()) {
                Ok(merged) => merged,
                Err(error) => return Err(TestCaseError::fail(format!("{update} {error:?}"))),
            };
            prop_assert!(parse(&mapping, "1", json.to_string().as_bytes(), &mut out).is_ok(), "{}", json);
            prop_assert_eq!(&out.mapping_update, &None);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]:,\"a.0-9e\\-tn ul]{0,60}") {
        let mapping = mapping(json!({"a": {"type": "long"}, "e": {"type": "geo_point"}, "t": {"properties": {"a": {"type": "text"}}}}));
        let loose = Mapping::empty();
        let braces = format!("{{{text}}}");
        for source in [&bytes[..], text.as_bytes(), braces.as_bytes()] {
            let mut out = ParsedDocument::default();
            let _ = parse(&mapping, "1", source, &mut out);
            if parse(&loose, "1", source, &mut out).is_ok() {
                prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(source).is_ok());
            }
            fuzz(source, &AnalyzerRegistry::default());
        }
    }

    #[test]
    fn numbers_in_are_numbers_out(n in any::<i64>(), x in any::<f64>()) {
        let mapping = mapping(json!({"l": {"type": "long"}, "d": {"type": "double"}}));
        let x = if x.is_finite() { x } else { 0.5 };
        let mut out = ParsedDocument::default();
        parse(&mapping, "1", json!({"l": n, "d": x}).to_string().as_bytes(), &mut out).unwrap();
        prop_assert_eq!(&out.values[0].1, &ParsedValue::Number(number::from_i64(n)));
        prop_assert_eq!(&out.values[1].1, &ParsedValue::Number(number::from_f64(x)));
    }
}
