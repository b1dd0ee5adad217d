use std::ops::Bound;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::encode::{Encoded, RangeBounds};
use super::*;
use crate::query;
use crate::segment::{ColumnKind, TermsOption};

fn registry() -> AnalyzerRegistry {
    let lower = json!({"normalizer": {"lower": {"type": "custom", "filter": ["lowercase"]}}});
    AnalyzerRegistry::new(&lower).unwrap()
}

fn mapping(json: Value) -> Mapping {
    Mapping::parse(&json, &registry()).unwrap()
}

fn refused(json: Value) -> ParseError {
    Mapping::parse(&json, &registry()).unwrap_err()
}

fn one(definition: Value) -> Mapping {
    mapping(json!({"properties": {"f": definition}}))
}

#[test]
fn a_mapping_is_shown_sorted_without_defaults() {
    let shown = mapping(json!({
        "dynamic": "strict", "_source": {"excludes": ["x"]}, "_routing": {"required": true}, "_meta": {"a": 1},
        "date_detection": false, "dynamic_templates": [{"t": {"match": "*", "mapping": {"type": "keyword"}}}],
        "properties": {
            "z": {"type": "keyword", "index": "false", "doc_values": true, "ignore_above": "10"},
            "o.p": {"type": "long", "coerce": false, "store": "false"},
            "n": {"type": "nested", "dynamic": false, "properties": {}},
            "t": {"type": "text", "analyzer": "standard", "norms": true, "copy_to": "z",
                  "fields": {"raw": {"type": "keyword"}}},
            "e": {"type": "object", "enabled": false}
        }
    }))
    .to_json();
    let expected = json!({
        "_meta": {"a": 1}, "_routing": {"required": true}, "_source": {"excludes": ["x"]}, "dynamic": "strict",
        "dynamic_templates": [{"t": {"match": "*", "mapping": {"type": "keyword"}}}], "date_detection": false,
        "properties": {
            "e": {"type": "object", "enabled": false},
            "n": {"type": "nested", "dynamic": "false"},
            "o": {"properties": {"p": {"type": "long", "coerce": false}}},
            "t": {"type": "text", "analyzer": "standard", "copy_to": ["z"], "fields": {"raw": {"type": "keyword"}}},
            "z": {"type": "keyword", "ignore_above": 10, "index": false}
        }
    });
    assert_eq!(shown.to_string(), expected.to_string());
    assert_eq!(mapping(shown.clone()).to_json(), shown);
}

#[test]
fn each_type_stores_what_its_queries_need() {
    let check = |definition: Value, terms, norms, column, points| {
        let mapping = one(definition.clone());
        let spec = &mapping.field("f").unwrap().spec;
        assert_eq!((spec.terms, spec.norms, spec.column, spec.points), (terms, norms, column, points), "{definition}");
    };
    use ColumnKind::{None as NoColumn, Numbers, Ordinals};
    use TermsOption::{Docs, None as NoTerms, Positions};
    check(json!({"type": "text"}), Positions, true, NoColumn, false);
    check(json!({"type": "text", "norms": false, "index_options": "docs"}), Docs, false, NoColumn, false);
    check(json!({"type": "text", "index": false}), NoTerms, false, NoColumn, false);
    check(json!({"type": "keyword"}), Docs, false, Ordinals, false);
    check(json!({"type": "keyword", "doc_values": false, "norms": true}), Docs, true, NoColumn, false);
    check(json!({"type": "long"}), NoTerms, false, Numbers, true);
    check(json!({"type": "date", "index": false}), NoTerms, false, Numbers, false);
    check(json!({"type": "boolean", "doc_values": false}), NoTerms, false, NoColumn, true);
    check(json!({"type": "ip"}), Docs, false, Ordinals, false);
    check(json!({"type": "geo_point"}), NoTerms, false, Numbers, false);
    check(json!({"type": "binary"}), NoTerms, false, NoColumn, false);
    check(json!({"type": "completion", "anything": [1]}), NoTerms, false, NoColumn, false);
    let names = |definition: Value| one(definition).field("f").unwrap().in_field_names;
    assert!(names(json!({"type": "text", "norms": false})) && names(json!({"type": "long", "doc_values": false})));
    assert!(!names(json!({"type": "text"})) && !names(json!({"type": "keyword"})));
    assert!(!names(json!({"type": "keyword", "index": false, "doc_values": false})));
}

#[test]
fn wrong_mappings_are_refused_in_elasticsearchs_words() {
    let check = |definition: Value, kind: &str, reason: &str| {
        let error = refused(json!({"properties": {"f": definition}}));
        assert_eq!((error.kind, error.reason.as_str()), (kind, reason));
    };
    let parsing = "mapper_parsing_exception";
    check(json!({"type": "strin"}), parsing, "No handler for type [strin] declared on field [f]");
    check(json!({}), parsing, "No type specified for field [f]");
    check(json!({"type": "long", "foo": 1}), parsing, "unknown parameter [foo] on mapper [f] of type [long]");
    check(
        json!({"type": "text", "foo": {"a": 1}}),
        parsing,
        "Mapping definition for [f] has unsupported parameters:  [foo : {a=1}]",
    );
    check(
        json!({"type": "object", "foo": 1}),
        parsing,
        "Mapping definition for [f] has unsupported parameters:  [foo : 1]",
    );
    check(json!({"type": "text", "analyzer": "nope"}), parsing, "analyzer [nope] not found for field [f]");
    check(json!({"type": "keyword", "normalizer": "nope"}), parsing, "normalizer [nope] not found for field [f]");
    check(json!({"type": "scaled_float"}), parsing, "Field [scaling_factor] is required");
    check(
        json!({"type": "alias", "path": "g"}),
        parsing,
        "Invalid [path] value [g] for field alias [f]: an alias must refer to an existing field in the mappings.",
    );
    check(
        json!({"type": "date", "format": "yyyy-qq"}),
        parsing,
        "Error parsing [format] on field [f]: Invalid format: [yyyy-qq]: Unknown pattern letter: q",
    );
    check(
        json!({"type": "long", "null_value": "x"}),
        parsing,
        "Error parsing [null_value] on field [f]: For input string: \"x\"",
    );
    check(
        json!({"type": "text", "fields": {"a": {"type": "nested"}}}),
        parsing,
        "Type [nested] cannot be used in multi field",
    );
    let error = refused(json!({"foo": [1, "a"], "properties": {}}));
    assert_eq!(error.reason, "Root mapping definition has unsupported parameters:  [foo : [1, a]]");
    assert_eq!(refused(json!({"properties": {"": {"type": "long"}}})).reason, "field name cannot be an empty string");
    assert!(refused(json!({"properties": {"a..b": {"type": "long"}}})).reason.contains("ambiguous"));
    assert!(refused(json!({"properties": {"_id": {"type": "long"}}})).reason.contains("defined more than once"));
    assert!(Mapping::parse(&json!("x"), &registry()).is_err());
}

#[test]
fn merging_adds_and_keeps_ids() {
    let before =
        mapping(json!({"properties": {"b": {"type": "long"}, "o": {"properties": {"x": {"type": "keyword"}}}}}));
    let update = json!({"dynamic": "false", "properties": {
        "a": {"type": "text"}, "b": {"type": "long", "fields": {"k": {"type": "keyword"}}, "coerce": false},
        "o": {"properties": {"y": {"type": "date"}}}, "al": {"type": "alias", "path": "o.y"}
    }});
    let after = before.merge(&update, &registry()).unwrap();
    for field in before.fields() {
        assert_eq!(after.by_id(field.id).path, field.path);
    }
    for (i, field) in after.fields().iter().enumerate() {
        assert_eq!(field.id.0 as usize, i);
    }
    assert_eq!(after.field("al").unwrap().path, "o.y");
    assert_eq!(after.field("b.k").unwrap().multi_field_of, Some(after.field("b").unwrap().id));
    assert!(!after.field("b").unwrap().coerce);
    assert!(after.is_object("o") && !after.is_object("o.x") && after.field("o").is_none());
    let paths = |pattern| after.matching(pattern).iter().map(|f| f.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths("o.*"), ["o.x", "o.y"]);
    assert_eq!(paths("*"), ["b", "o.x", "a", "b.k", "o.y"]);
    assert_eq!(paths("nope"), [""; 0]);
    assert_eq!(after.matching_paths("al")[0].1.path, "o.y");
    assert_eq!(after.merge(&update, &registry()).unwrap().to_json(), after.to_json());
}

#[test]
fn conflicting_merges_are_refused() {
    let before = mapping(json!({"properties": {
        "l": {"type": "long"}, "t": {"type": "text"}, "o": {"properties": {"x": {"type": "keyword"}}}, "n": {"type": "nested"}
    }}));
    let check = |definition: Value, kind: &str, reason: &str| {
        let error = before.merge(&json!({"properties": definition}), &registry()).unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (kind, reason));
    };
    let illegal = "illegal_argument_exception";
    check(json!({"l": {"type": "text"}}), illegal, "mapper [l] cannot be changed from type [long] to [text]");
    check(
        json!({"o": {"properties": {"x": {"type": "ip"}}}}),
        illegal,
        "mapper [o.x] cannot be changed from type [keyword] to [ip]",
    );
    check(json!({"l": {"properties": {}}}), illegal, "mapper [l] cannot be changed from type [long] to [ObjectMapper]");
    check(json!({"o": {"type": "long"}}), illegal, "can't merge a non object mapping [o] with an object mapping");
    check(json!({"n": {"type": "object"}}), illegal, "object mapping [n] can't be changed from nested to non-nested");
    check(
        json!({"l": {"type": "long", "index": false, "doc_values": false}}),
        illegal,
        "Mapper for [l] conflicts with existing mapper:\n\tCannot update parameter [index] from [true] to [false]\n\t\
           Cannot update parameter [doc_values] from [true] to [false]",
    );
    check(
        json!({"t": {"type": "text", "analyzer": "simple"}}),
        illegal,
        "Mapper for [t] conflicts with existing mapper:\n\tCannot update parameter [analyzer] from [default] to [simple]",
    );
    check(
        json!({"o": {"enabled": false}}),
        "mapper_exception",
        "the [enabled] parameter can't be updated for the object mapping [o]",
    );
    // Norms may go, but segments go on having them.
    let after = before.merge(&json!({"properties": {"t": {"type": "text", "norms": false}}}), &registry()).unwrap();
    assert!(after.field("t").unwrap().spec.norms && !after.field("t").unwrap().in_field_names);
    assert!(after.merge(&json!({"properties": {"t": {"type": "text"}}}), &registry()).is_err());
}

#[test]
fn limits_are_kept() {
    let limited = |json: Value, limits: Limits| Mapping::parse_with(&json, &registry(), &limits).unwrap_err().reason;
    let fields: serde_json::Map<String, Value> =
        (0..1001).map(|i| (format!("f{i}"), json!({"type": "long"}))).collect();
    assert_eq!(
        limited(json!({"properties": fields}), Limits::default()),
        "Limit of total fields [1000] has been exceeded"
    );
    let deep = "a.".repeat(20) + "b";
    assert_eq!(
        limited(json!({"properties": {deep: {"type": "long"}}}), Limits::default()),
        format!("Limit of mapping depth [20] has been exceeded due to object field [{}a]", "a.".repeat(19))
    );
    let fits = "a.".repeat(19) + "b";
    assert!(Mapping::parse(&json!({"properties": {fits: {"type": "long"}}}), &registry()).is_ok());
    assert_eq!(
        limited(
            json!({"properties": {"abcd": {"type": "long"}}}),
            Limits { field_name_length: 3, ..Limits::default() }
        ),
        "Field name [abcd] is longer than the limit of [3] characters"
    );
    assert!(refused(json!({"properties": {"a.".repeat(5000) + "b": {"type": "long"}}})).reason.contains("deeper"));
}

const NOW: i64 = 1_582_982_055_678;

fn term(definition: Value, value: query::Value) -> Result<Encoded, String> {
    one(definition).field("f").unwrap().encode_term(&value, NOW).map_err(|e| e.to_string())
}

fn text(s: &str) -> query::Value {
    query::Value::String(s.to_owned())
}

#[test]
fn terms_are_what_the_index_has() {
    let long = json!({"type": "long"});
    assert_eq!(term(long.clone(), query::Value::Int(-5)).unwrap(), Encoded::Number(number::from_i64(-5)));
    assert_eq!(term(long.clone(), text("5.0")).unwrap(), Encoded::Number(number::from_i64(5)));
    assert_eq!(term(long.clone(), query::Value::Float(5.5)).unwrap(), Encoded::Nothing);
    assert_eq!(term(long.clone(), text("abc")).unwrap_err(), "failed to create query: For input string: \"abc\"");
    assert_eq!(
        term(json!({"type": "byte"}), query::Value::Int(300)).unwrap_err(),
        "failed to create query: Value [300] is out of range for a byte"
    );
    assert_eq!(
        term(json!({"type": "float"}), query::Value::Float(0.1)).unwrap(),
        Encoded::Number(number::from_f32(0.1))
    );
    assert_eq!(
        term(json!({"type": "scaled_float", "scaling_factor": 100}), query::Value::Float(1.234)).unwrap(),
        Encoded::Number(number::from_i64(123))
    );
    assert_eq!(
        term(json!({"type": "unsigned_long"}), query::Value::UInt(u64::MAX)).unwrap(),
        Encoded::Number(u64::MAX)
    );
    assert_eq!(term(json!({"type": "unsigned_long"}), query::Value::Int(-1)).unwrap(), Encoded::Nothing);
    assert_eq!(term(json!({"type": "boolean"}), query::Value::Bool(true)).unwrap(), Encoded::Number(1));
    assert_eq!(
        term(json!({"type": "boolean"}), text("x")).unwrap_err(),
        "failed to create query: Can't parse boolean value [x], expected [true] or [false]"
    );
    assert_eq!(term(json!({"type": "keyword"}), query::Value::Int(7)).unwrap(), Encoded::Term(b"7".to_vec()));
    assert_eq!(
        term(json!({"type": "keyword", "normalizer": "lower"}), text("AB c")).unwrap(),
        Encoded::Term(b"ab c".to_vec())
    );
    let Encoded::Terms(range) = term(json!({"type": "ip"}), text("10.0.0.0/30")).unwrap() else { panic!() };
    assert_eq!(&range.end()[12..], [10, 0, 0, 3]);
    assert_eq!(
        term(json!({"type": "ip"}), text("x")).unwrap_err(),
        "failed to create query: 'x' is not an IP string literal."
    );
    let day = number::from_i64(1_582_934_400_000);
    assert_eq!(term(json!({"type": "date"}), text("2020-02-29")).unwrap(), Encoded::Numbers(day..=day + 86_399_999));
    assert_eq!(term(json!({"type": "date"}), query::Value::Int(NOW)).unwrap(), Encoded::Number(number::from_i64(NOW)));
    assert_eq!(
        term(json!({"type": "date"}), text("x")).unwrap_err(),
        "failed to create query: failed to parse date field [x] with format [strict_date_optional_time||epoch_millis]: \
         [failed to parse date field [x] with format [strict_date_optional_time||epoch_millis]]"
    );
    assert_eq!(
        term(json!({"type": "long", "index": false}), query::Value::Int(1)).unwrap_err(),
        "failed to create query: Cannot search on field [f] since it is not indexed."
    );
}

fn range(definition: Value, low: Option<(query::Value, bool)>, high: Option<(query::Value, bool)>) -> RangeBounds {
    let bound = |end: Option<(query::Value, bool)>| end.map(|(value, inclusive)| query::Bound { value, inclusive });
    let (low, high) = (bound(low), bound(high));
    one(definition).field("f").unwrap().encode_range(low.as_ref(), high.as_ref(), None, None, NOW).unwrap()
}

#[test]
fn ranges_have_inclusive_ends() {
    use query::Value::{Float, Int};
    let longs = |low, high| range(json!({"type": "long"}), low, high);
    let encoded = |a: i64, b: i64| RangeBounds::Numbers(number::from_i64(a)..=number::from_i64(b));
    assert_eq!(longs(Some((Int(1), true)), Some((Int(5), false))), encoded(1, 4));
    assert_eq!(longs(Some((Int(1), false)), None), encoded(2, i64::MAX));
    assert_eq!(longs(Some((Float(1.5), true)), Some((Float(4.5), true))), encoded(2, 4));
    assert_eq!(longs(Some((Float(-1.5), false)), Some((Float(-0.5), false))), encoded(-1, -1));
    assert_eq!(longs(Some((Int(i64::MAX), false)), None), RangeBounds::Nothing);
    assert_eq!(longs(Some((Int(5), true)), Some((Int(4), true))), RangeBounds::Nothing);
    assert_eq!(longs(Some((Float(1e30), true)), None), RangeBounds::Nothing);
    assert_eq!(longs(Some((Float(-1e30), true)), Some((Int(0), true))), encoded(i64::MIN, 0));
    assert_eq!(
        range(json!({"type": "byte"}), None, Some((Int(1000), true))),
        RangeBounds::Numbers(0..=number::from_i64(127))
    );
    let scaled = json!({"type": "scaled_float", "scaling_factor": 10});
    assert_eq!(range(scaled, Some((Float(1.25), true)), Some((Float(1.5), false))), encoded(13, 14));
    let floats = range(json!({"type": "float"}), Some((Float(0.1), false)), Some((Float(1e300), true)));
    assert_eq!(floats, RangeBounds::Numbers(number::from_f32(0.1) + 1..=u64::MAX));
    let dates = |low: (&str, bool), high: (&str, bool)| {
        range(json!({"type": "date"}), Some((text(low.0), low.1)), Some((text(high.0), high.1)))
    };
    let day = 86_400_000;
    let start = 1_582_934_400_000i64;
    assert_eq!(dates(("2020-02-29", true), ("2020-02-29", true)), encoded(start, start + day - 1));
    assert_eq!(dates(("2020-02-28", false), ("2020-03-01", false)), encoded(start, start + day - 1));
    assert_eq!(dates(("now/d", true), ("now/d", true)), encoded(start, start + day - 1));
    assert_eq!(
        range(json!({"type": "keyword"}), Some((text("a"), true)), Some((text("b"), false))),
        RangeBounds::Terms(Bound::Included(b"a".to_vec()), Bound::Excluded(b"b".to_vec()))
    );
    assert_eq!(
        range(json!({"type": "keyword"}), Some((text("a"), true)), Some((text("a"), false))),
        RangeBounds::Nothing
    );
}

#[test]
fn values_are_shown_as_written() {
    let shown = |definition: Value, sortable: u64, format: Option<&str>| {
        one(definition).field("f").unwrap().render_number(sortable, format).unwrap()
    };
    assert_eq!(shown(json!({"type": "date"}), number::from_i64(NOW), None), json!("2020-02-29T13:14:15.678Z"));
    assert_eq!(shown(json!({"type": "date"}), number::from_i64(NOW), Some("yyyy")), json!("2020"));
    assert_eq!(
        shown(json!({"type": "date_nanos"}), number::from_i64(1), None),
        json!("1970-01-01T00:00:00.000000001Z")
    );
    assert_eq!(shown(json!({"type": "boolean"}), 1, None), json!(true));
    assert_eq!(shown(json!({"type": "half_float"}), number::from_f16_bits(0x3c00), None), json!(1.0));
    assert_eq!(shown(json!({"type": "scaled_float", "scaling_factor": 100}), number::from_i64(123), None), json!(1.23));
    assert_eq!(shown(json!({"type": "unsigned_long"}), u64::MAX, None), json!(u64::MAX));
    assert_eq!(shown(json!({"type": "long"}), number::from_i64(1234), Some("#,##0.0")), json!("1,234.0"));
    let ip = one(json!({"type": "ip"}));
    assert_eq!(ip.field("f").unwrap().render_term(&ip::parse("10.0.0.1").unwrap()), json!("10.0.0.1"));
}

#[test]
fn fields_show_what_the_source_says_in_the_fields_form() {
    let check = |definition: Value, value: Value, format: Option<&str>, expected: Option<Value>| {
        let mapping = one(definition.clone());
        let shown = mapping.field("f").unwrap().render_source(&value, format).unwrap();
        assert_eq!(shown, expected, "{definition} {value}");
    };
    check(json!({"type": "long", "index": false}), json!("5.7"), None, Some(json!(5)));
    check(json!({"type": "long"}), json!("x"), None, None);
    check(json!({"type": "float"}), json!(0.1), None, Some(json!(0.1)));
    check(json!({"type": "integer", "null_value": 3}), json!(null), None, Some(json!(3)));
    check(json!({"type": "date"}), json!("2020-02-29"), Some("yyyy/MM"), Some(json!("2020/02")));
    check(json!({"type": "date"}), json!("now"), None, None);
    check(json!({"type": "keyword", "normalizer": "lower"}), json!("AB"), None, Some(json!("ab")));
    check(json!({"type": "keyword", "ignore_above": 1}), json!("AB"), None, None);
    check(json!({"type": "text"}), json!(true), None, Some(json!("true")));
    check(json!({"type": "boolean"}), json!("false"), None, Some(json!(false)));
    check(json!({"type": "ip"}), json!("::ffff:1.2.3.4"), None, Some(json!("1.2.3.4")));
    let point = json!({"type": "Point", "coordinates": [-71.5, 41.0]});
    check(json!({"type": "geo_point"}), json!("41,-71.5"), None, Some(point.clone()));
    check(json!({"type": "geo_point"}), json!({"lat": 41, "lon": -71.5}), None, Some(point));
    check(json!({"type": "geo_point"}), json!([-71.5, 41]), Some("wkt"), Some(json!("POINT (-71.5 41.0)")));
    check(json!({"type": "flattened"}), json!({"a": 1}), None, Some(json!({"a": 1})));
}

prop_compose! {
    fn any_field()(kind in prop::sample::select(vec!["text", "keyword", "long", "date", "boolean", "object", "nested", "ip", "bad", "flattened", "scaled_float"]),
                   flags in prop::collection::btree_map(prop::sample::select(vec!["index", "doc_values", "norms", "store", "coerce", "enabled", "dynamic", "ignore_malformed"]), any::<bool>(), 0..3),
                   inner in prop::option::of(prop::sample::select(vec!["a", "b"]))) -> Value {
        let mut field = json!({"type": kind});
        if kind == "scaled_float" {
            field["scaling_factor"] = json!(10);
        }
        for (flag, on) in flags {
            field[flag] = json!(on);
        }
        if let Some(name) = inner {
            let place = if kind == "object" || kind == "nested" { "properties" } else { "fields" };
            field[place] = json!({name: {"type": "keyword"}});
        }
        field
    }
}

proptest! {
    #[test]
    fn merging_is_stable(first in prop::collection::btree_map("[ab](\\.[ab]){0,2}", any_field(), 0..4),
                         second in prop::collection::btree_map("[ab](\\.[ab]){0,2}", any_field(), 0..4)) {
        let registry = registry();
        let Ok(before) = Mapping::parse(&json!({"properties": first}), &registry) else { return Ok(()) };
        prop_assert_eq!(Mapping::parse(&before.to_json(), &registry).unwrap().to_json(), before.to_json());
        // A mapping merged with itself is itself.
        prop_assert_eq!(before.merge(&before.to_json(), &registry).unwrap().to_json(), before.to_json());
        if let Ok(after) = before.merge(&json!({"properties": second}), &registry) {
            for field in before.fields() {
                prop_assert_eq!(&after.by_id(field.id).path, &field.path);
                prop_assert_eq!(&after.by_id(field.id).spec, &field.spec);
            }
            prop_assert_eq!(Mapping::parse(&after.to_json(), &registry).unwrap().to_json(), after.to_json());
        }
    }
}
