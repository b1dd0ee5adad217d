//! The fetch phase: what the client sees of each hit.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::mapping::{FieldMapping, FieldType, Mapping};
use crate::pace::Pace;
use crate::query::{Query, QueryKind};
use crate::search::compile::{Compiled, compile};
use crate::search::explain::{explain_compiled, leaves_of};
use crate::search::leaf::Evaluated;
use crate::search::open::Segment;
use crate::search::{
    DocAddress, FetchRequest, FetchedHit, FieldRequest, IndexContext, Searcher, TopHit, source_filter,
};
use crate::segment::ColumnKind;
use crate::segment::reader::Numbering;
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

/// Fetches hits of the query phase on the same searcher, in their order; when stopped, only the first of them.
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
    if !request.fields.is_empty() && !mapping.source_enabled() {
        return Err(Error::illegal_argument(format!(
            "Unable to retrieve the requested [fields] since _source is disabled in the mappings for index [{}]",
            index.index
        )));
    }
    let segments = searcher.segments.len();
    let mut explained = match (&request.query, request.explain) {
        (Some(query), true) => {
            let compiled = compile(query, mapping, index, searcher, now_ms, true, pace).await?;
            Some(OnSegments::new(compiled, segments))
        }
        _ => None,
    };
    let mut named = Vec::new();
    let mut queries = Vec::new();
    if let Some(query) = &request.query {
        collect_named(query, &mut queries);
    }
    for (name, query) in queries {
        let compiled = compile(query, mapping, index, searcher, now_ms, false, pace).await?;
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
        let (id, routing) = reader.address(doc.doc)?;
        let (id, routing) = (id.to_owned(), routing.map(str::to_owned));
        let mut fetched = FetchedHit { id, routing, ..FetchedHit::default() };
        let mut source = Vec::new();
        let wants_source = !request.source.disabled || !request.fields.is_empty() || !request.stored_fields.is_empty();
        if mapping.source_enabled() && wants_source {
            reader.source(doc.doc, &mut caches[ordinal], &mut source)?;
        }
        let mut fields = Map::new();
        doc_values(mapping, reader, doc, &request.docvalue_fields, &mut fields)?;
        source_fields(mapping, &source, &request.fields, &mut fields)?;
        stored_fields(mapping, &source, &request.stored_fields, &mut fields)?;
        if !fields.is_empty() {
            fetched.fields = Some(fields);
        }
        if mapping.source_enabled() && !request.source.disabled {
            fetched.source = Some(match source_filter::filter(&source, &request.source)? {
                Cow::Borrowed(_) => source,
                Cow::Owned(part) => part,
            });
        }
        if request.version || request.seq_no_primary_term {
            let Numbering { version, seq_no, term } = reader.numbering(doc.doc)?;
            fetched.version = request.version.then_some(version);
            fetched.seq_no = request.seq_no_primary_term.then_some((seq_no, term));
        }
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
        // A named query that was stopped may have missed this document.
        if pace.stopped() {
            break;
        }
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
            // A field asked for twice, in two formats, gives all of them.
            match out.get_mut(path) {
                Some(Json::Array(known)) => known.extend(values),
                _ if values.is_empty() => {}
                _ => drop(out.insert(path.to_owned(), Json::Array(values))),
            }
        }
    }
    Ok(())
}

fn source_fields(
    mapping: &Mapping,
    source: &[u8],
    requests: &[FieldRequest],
    out: &mut Map<String, Json>,
) -> Result<()> {
    if requests.is_empty() || source.is_empty() {
        return Ok(());
    }
    let source: Json = serde_json::from_slice(source)
        .map_err(|e| Error::illegal_argument(format!("stored _source is not JSON: {e}")))?;
    for request in requests {
        for (path, field) in mapping.matching_paths(&request.field) {
            if !request.field.contains('*') {
                check_format(field, request)?;
            }
            insert_source_values(mapping, &source, path, field, request.format.as_deref(), out)?;
        }
    }
    Ok(())
}

/// The values that a field has in a document, as the mapping reads them; what it does not take is left out.
fn insert_source_values(
    mapping: &Mapping,
    source: &Json,
    path: &str,
    field: &FieldMapping,
    format: Option<&str>,
    out: &mut Map<String, Json>,
) -> Result<()> {
    // A multi-field has the values of its parent.
    let from = field.multi_field_of.map_or(path, |parent| mapping.by_id(parent).path.as_str());
    let from = if from == path && mapping.field(path).is_some_and(|f| f.path != path) { &field.path } else { from };
    let whole = matches!(field.kind, FieldType::GeoPoint | FieldType::Opaque(_));
    let mut found = Vec::new();
    values_at(source, from, whole, &mut found);
    let mut values = Vec::new();
    for value in found {
        values.extend(field.render_source(value, format)?);
    }
    if !values.is_empty() {
        out.insert(path.to_owned(), Json::Array(values));
    }
    Ok(())
}

/// All values at a path; objects may be written nested or with dots in their names. `whole`: an object, or an array
/// of numbers, is one value.
fn values_at<'a>(json: &'a Json, path: &str, whole: bool, out: &mut Vec<&'a Json>) {
    match json {
        Json::Array(items) if whole && path.is_empty() && items.first().is_some_and(Json::is_number) => out.push(json),
        Json::Array(items) => items.iter().for_each(|item| values_at(item, path, whole, out)),
        Json::Object(map) if !path.is_empty() => {
            if let Some(value) = map.get(path) {
                values_at(value, "", whole, out);
            }
            for (i, _) in path.match_indices('.') {
                if let Some(value) = map.get(&path[..i]) {
                    values_at(value, &path[i + 1..], whole, out);
                }
            }
        }
        Json::Object(_) if !whole => {}
        value if path.is_empty() => out.push(value),
        _ => {}
    }
}

/// A date or place can be written in several ways, other values in one.
fn check_format(field: &FieldMapping, request: &FieldRequest) -> Result<()> {
    let formats = matches!(field.kind, FieldType::Date | FieldType::DateNanos | FieldType::GeoPoint);
    if request.format.is_some() && !formats {
        return Err(Error::illegal_argument(format!(
            "Field [{}] of type [{}] doesn't support formats.",
            request.field, field.type_name
        )));
    }
    Ok(())
}

/// Fields that the mapping stores (`"store": true`), from `_source`.
fn stored_fields(mapping: &Mapping, source: &[u8], wanted: &[String], out: &mut Map<String, Json>) -> Result<()> {
    if wanted.is_empty() || source.is_empty() {
        return Ok(());
    }
    let source: Json = serde_json::from_slice(source)
        .map_err(|e| Error::illegal_argument(format!("stored _source is not JSON: {e}")))?;
    for pattern in wanted {
        for (path, field) in mapping.matching_paths(pattern) {
            if field.stored {
                insert_source_values(mapping, &source, path, field, None, out)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::SourceFilter;

    #[test]
    fn source_is_filtered_by_paths() {
        let source = br#"{"a":{"b":1,"c":{"d":2}},"e":[{"f":3,"g":4},{"g":5}],"h":"x"}"#;
        for (includes, excludes, expected) in [
            (&["a"][..], &[][..], r#"{"a":{"b":1,"c":{"d":2}}}"#),
            (&["a.c.d", "h"], &[], r#"{"a":{"c":{"d":2}},"h":"x"}"#),
            (&["e.g"], &[], r#"{"e":[{"g":4},{"g":5}]}"#),
            (&[], &["a.*", "e.g"], r#"{"a":{},"e":[{"f":3}],"h":"x"}"#),
            (&["a*"], &["*.d"], r#"{"a":{"b":1,"c":{}}}"#),
            (&["none"], &[], "{}"),
        ] {
            let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
            let filter = SourceFilter { disabled: false, includes: strings(includes), excludes: strings(excludes) };
            let got = source_filter::filter(source, &filter).unwrap();
            assert_eq!(String::from_utf8(got.into_owned()).unwrap(), expected, "{includes:?} {excludes:?}");
        }
    }
}
