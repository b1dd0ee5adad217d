//! The fetch phase: what the client sees of each hit.

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::mapping::encode::Encoded;
use crate::mapping::{FieldMapping, FieldType, Mapping};
use crate::pace::Pace;
use crate::query::{Query, QueryKind, Value};
use crate::search::automaton::Wildcard;
use crate::search::compile::{Compiled, compile};
use crate::search::explain::{explain_compiled, leaves_of};
use crate::search::leaf::Evaluated;
use crate::search::open::Segment;
use crate::search::{DocAddress, FetchRequest, FetchedHit, FieldRequest, IndexContext, Searcher, SourceFilter, TopHit};
use crate::segment::ColumnKind;
use crate::segment::reader::{SegmentReader, SourceCache};

/// A query with its leaves evaluated on the segments that hits were in so far.
struct OnSegments {
    compiled: Compiled,
    leaves: Vec<Option<Vec<Evaluated>>>,
}

impl OnSegments {
    fn new(compiled: Compiled, segments: usize) -> OnSegments {
        OnSegments { compiled, leaves: (0..segments).map(|_| None).collect() }
    }

    async fn leaves<P: Pace>(&mut self, searcher: &Searcher, ordinal: usize, pace: &P) -> Result<&[Evaluated]> {
        if self.leaves[ordinal].is_none() {
            self.leaves[ordinal] = Some(leaves_of(&self.compiled, searcher, ordinal, pace).await?);
        }
        Ok(self.leaves[ordinal].as_deref().expect("just evaluated"))
    }

    async fn matches<P: Pace>(&mut self, searcher: &Searcher, doc: DocAddress, pace: &P) -> Result<bool> {
        let ordinal = doc.segment as usize;
        self.leaves(searcher, ordinal, pace).await?;
        let leaves = self.leaves[ordinal].as_deref().expect("evaluated");
        let segment = Segment { ordinal, reader: &searcher.segments[ordinal].reader, leaves };
        let mut cursor = segment.open(&self.compiled.weight, false);
        Ok(cursor.seek(doc.doc) == doc.doc && cursor.matches())
    }
}

/// Fetches hits of the query phase on the same searcher, in their order.
///
/// # Errors
/// Fields that cannot be given as asked, in Elasticsearch's words; damage.
pub async fn fetch<P: Pace>(
    searcher: &Searcher,
    mapping: &Mapping,
    index: &IndexContext,
    request: &FetchRequest,
    now_ms: i64,
    hits: &[TopHit],
    pace: &P,
) -> Result<Vec<FetchedHit>> {
    let segments = searcher.segments.len();
    let mut explained = match (&request.query, request.explain) {
        (Some(query), true) => Some(OnSegments::new(compile(query, mapping, index, searcher, now_ms, true)?, segments)),
        _ => None,
    };
    let mut named = Vec::new();
    let mut queries = Vec::new();
    if let Some(query) = &request.query {
        collect_named(query, &mut queries);
    }
    for (name, query) in queries {
        let compiled = compile(query, mapping, index, searcher, now_ms, false)?;
        named.push((name, OnSegments::new(compiled, segments)));
    }
    let mut caches: Vec<SourceCache> = Vec::new();
    caches.resize_with(segments, SourceCache::default);
    let mut out = Vec::with_capacity(hits.len());
    for hit in hits {
        let doc = hit.doc;
        let ordinal = doc.segment as usize;
        let Some(view) = searcher.segments.get(ordinal) else {
            return Err(Error::illegal_argument(format!("no segment {ordinal} in this searcher")));
        };
        let reader = &view.reader;
        let mut fetched = FetchedHit {
            id: reader.id(doc.doc).to_owned(),
            routing: reader.routing(doc.doc).map(str::to_owned),
            ..FetchedHit::default()
        };
        let mut source = Vec::new();
        if mapping.source_enabled() && (!request.source.disabled || !request.fields.is_empty()) {
            reader.source(doc.doc, &mut caches[ordinal], &mut source)?;
        }
        let mut fields = Map::new();
        doc_values(mapping, reader, doc, &request.docvalue_fields, &mut fields)?;
        source_fields(mapping, &source, &request.fields, now_ms, &mut fields)?;
        if !fields.is_empty() {
            fetched.fields = Some(fields);
        }
        if mapping.source_enabled() && !request.source.disabled {
            fetched.source = Some(filter_source(source, &request.source)?);
        }
        fetched.version = request.version.then(|| reader.version(doc.doc));
        fetched.seq_no = request.seq_no_primary_term.then(|| (reader.seq_no(doc.doc), reader.primary_term(doc.doc)));
        if let Some(query) = &mut explained {
            query.leaves(searcher, ordinal, pace).await?;
            let leaves = query.leaves[ordinal].as_deref().expect("evaluated");
            fetched.explanation = Some(explain_compiled(&query.compiled, searcher, doc, leaves).to_json());
        }
        for (name, query) in &mut named {
            if query.matches(searcher, doc, pace).await? {
                fetched.matched_queries.push(name.clone());
            }
        }
        fetched.ignored = ignored(mapping, reader, doc);
        out.push(fetched);
        pace.yield_if_needed().await;
    }
    Ok(out)
}

/// Every query of the tree that has a name. The DSL parser bounds the depth.
fn collect_named<'a>(query: &'a Query, out: &mut Vec<(String, &'a Query)>) {
    if let Some(name) = &query.name {
        out.push((name.clone(), query));
    }
    match &query.kind {
        QueryKind::Bool { must, filter, should, must_not, .. } => {
            for q in must.iter().chain(filter).chain(should).chain(must_not) {
                collect_named(q, out);
            }
        }
        QueryKind::ConstantScore { filter } => collect_named(filter, out),
        QueryKind::DisMax { queries, .. } => queries.iter().for_each(|q| collect_named(q, out)),
        QueryKind::Boosting { positive, negative, .. } => {
            collect_named(positive, out);
            collect_named(negative, out);
        }
        _ => {}
    }
}

fn ignored(mapping: &Mapping, reader: &SegmentReader, doc: DocAddress) -> Vec<String> {
    let Some(column) = reader.field(&mapping.ignored().path).and_then(|f| f.ordinals()) else { return Vec::new() };
    let (mut ordinals, mut term) = (Vec::new(), Vec::new());
    column.values(doc.doc, &mut ordinals);
    ordinals
        .iter()
        .map(|&ordinal| {
            column.term(ordinal, &mut term);
            String::from_utf8_lossy(&term).into_owned()
        })
        .collect()
}

fn doc_values(
    mapping: &Mapping,
    reader: &SegmentReader,
    doc: DocAddress,
    requests: &[FieldRequest],
    out: &mut Map<String, Json>,
) -> Result<()> {
    for request in requests {
        let format = request.format.as_deref().filter(|f| *f != "use_field_mapping");
        let pattern = request.field.contains('*');
        for (path, field) in mapping.matching_paths(&request.field) {
            let stored = reader.field(&field.path);
            let mut values = Vec::new();
            match field.spec.column {
                ColumnKind::Numbers => {
                    let mut numbers = Vec::new();
                    if let Some(column) = stored.and_then(|f| f.numbers()) {
                        column.values(doc.doc, &mut numbers);
                    }
                    for n in numbers {
                        values.push(field.render_number(n, format)?);
                    }
                }
                ColumnKind::Ordinals => {
                    let (mut ordinals, mut term) = (Vec::new(), Vec::new());
                    if let Some(column) = stored.and_then(|f| f.ordinals()) {
                        column.values(doc.doc, &mut ordinals);
                        for ordinal in ordinals {
                            column.term(ordinal, &mut term);
                            values.push(field.render_term(&term));
                        }
                    }
                }
                ColumnKind::None if pattern => {}
                ColumnKind::None => return Err(crate::search::sort::no_column(&request.field, field)),
            }
            if !values.is_empty() {
                out.insert(path.to_owned(), Json::Array(values));
            }
        }
    }
    Ok(())
}

fn source_fields(
    mapping: &Mapping,
    source: &[u8],
    requests: &[FieldRequest],
    now_ms: i64,
    out: &mut Map<String, Json>,
) -> Result<()> {
    if requests.is_empty() || source.is_empty() {
        return Ok(());
    }
    let source: Json = serde_json::from_slice(source)
        .map_err(|e| Error::illegal_argument(format!("stored _source is not JSON: {e}")))?;
    for request in requests {
        for (path, field) in mapping.matching_paths(&request.field) {
            // A multi-field has the values of its parent.
            let from = field.multi_field_of.map_or(path, |parent| mapping.by_id(parent).path.as_str());
            let from =
                if from == path && mapping.field(path).is_some_and(|f| f.path != path) { &field.path } else { from };
            let mut found = Vec::new();
            values_at(&source, from, &mut found);
            let mut values = Vec::new();
            for value in found {
                if let Some(value) = render(field, value, request.format.as_deref(), now_ms)? {
                    values.push(value);
                }
            }
            if !values.is_empty() {
                out.insert(path.to_owned(), Json::Array(values));
            }
        }
    }
    Ok(())
}

/// All scalars at a path; objects may be written nested or with dots in their names.
fn values_at<'a>(json: &'a Json, path: &str, out: &mut Vec<&'a Json>) {
    match json {
        Json::Array(items) => items.iter().for_each(|item| values_at(item, path, out)),
        Json::Object(map) if !path.is_empty() => {
            if let Some(value) = map.get(path) {
                values_at(value, "", out);
            }
            for (i, _) in path.match_indices('.') {
                if let Some(value) = map.get(&path[..i]) {
                    values_at(value, &path[i + 1..], out);
                }
            }
        }
        Json::Null => {}
        value if path.is_empty() => out.push(value),
        _ => {}
    }
}

/// A value of `_source` as the mapping reads it; none where the mapping does not take it.
fn render(field: &FieldMapping, value: &Json, format: Option<&str>, now_ms: i64) -> Result<Option<Json>> {
    if matches!(
        field.kind,
        FieldType::Text | FieldType::Keyword | FieldType::Binary | FieldType::GeoPoint | FieldType::Opaque(_)
    ) {
        return Ok(Some(match value {
            Json::Number(_) | Json::Bool(_) if matches!(field.kind, FieldType::Text | FieldType::Keyword) => {
                Json::String(value.to_string())
            }
            value => value.clone(),
        }));
    }
    let scalar = match value {
        Json::Bool(b) => Value::Bool(*b),
        Json::String(s) => Value::String(s.clone()),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(i), _, _) => Value::Int(i),
            (_, Some(u), _) => Value::UInt(u),
            (_, _, Some(f)) => Value::Float(f),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(match field.encode_term(&scalar, now_ms) {
        Ok(Encoded::Number(n)) => Some(field.render_number(n, format)?),
        Ok(Encoded::Numbers(range)) => Some(field.render_number(*range.start(), format)?),
        Ok(Encoded::Term(term)) => Some(field.render_term(&term)),
        Ok(Encoded::Terms(_) | Encoded::Nothing) | Err(_) => None,
    })
}

/// The parts of `_source` asked for.
fn filter_source(source: Vec<u8>, filter: &SourceFilter) -> Result<Vec<u8>> {
    if filter.includes.is_empty() && filter.excludes.is_empty() {
        return Ok(source);
    }
    let json: Json = serde_json::from_slice(&source)
        .map_err(|e| Error::illegal_argument(format!("stored _source is not JSON: {e}")))?;
    let patterns = |list: &[String]| list.iter().map(|p| Wildcard::new(p, false)).collect::<Vec<_>>();
    let (includes, excludes) = (patterns(&filter.includes), patterns(&filter.excludes));
    let kept = keep(json, "", includes.is_empty(), &includes, &excludes).unwrap_or_else(|| Json::Object(Map::new()));
    serde_json::to_vec(&kept).map_err(|e| Error::illegal_argument(e.to_string()))
}

/// What of `json` at `path` is asked for; `included` if all of it is but what is excluded. As deep as the JSON parser goes.
fn keep(json: Json, path: &str, included: bool, includes: &[Wildcard], excludes: &[Wildcard]) -> Option<Json> {
    match json {
        Json::Object(map) => {
            let mut out = Map::new();
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if excludes.iter().any(|p| p.matches(&path)) {
                    continue;
                }
                let included = included || includes.iter().any(|p| p.matches(&path));
                if let Some(value) = keep(value, &path, included, includes, excludes) {
                    out.insert(name, value);
                }
            }
            (included || !out.is_empty()).then_some(Json::Object(out))
        }
        Json::Array(items) => {
            let out: Vec<Json> =
                items.into_iter().filter_map(|item| keep(item, path, included, includes, excludes)).collect();
            (included || !out.is_empty()).then_some(Json::Array(out))
        }
        scalar => included.then_some(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_filtered_by_paths() {
        let source = br#"{"a":{"b":1,"c":{"d":2}},"e":[{"f":3,"g":4},{"g":5}],"h":"x"}"#;
        for (includes, excludes, expected) in [
            (&["a"][..], &[][..], r#"{"a":{"b":1,"c":{"d":2}}}"#),
            (&["a.c.d", "h"], &[], r#"{"a":{"c":{"d":2}},"h":"x"}"#),
            (&["e.g"], &[], r#"{"e":[{"g":4},{"g":5}]}"#),
            (&[], &["a.*", "e.g"], r#"{"a":{},"e":[{"f":3},{}],"h":"x"}"#),
            (&["a*"], &["*.d"], r#"{"a":{"b":1,"c":{}}}"#),
            (&["none"], &[], "{}"),
        ] {
            let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
            let filter = SourceFilter { disabled: false, includes: strings(includes), excludes: strings(excludes) };
            let got = filter_source(source.to_vec(), &filter).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), expected, "{includes:?} {excludes:?}");
        }
    }
}
