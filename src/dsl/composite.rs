//! `composite` in a search body.

use ringdex_engine::search::aggs::{AggKind, CompositeKind, CompositeRequest, CompositeSource};
use serde_json::{Map, Value};

use super::DslResult;
use super::aggs::{Params, bad, date_interval, offset_ms, parsing, scalar};

pub(super) fn parse(p: &mut Params<'_>) -> DslResult<AggKind> {
    let name = p.name;
    let mut sources = Vec::new();
    let mut add = |map: &Map<String, Value>| -> DslResult<()> {
        for (source, body) in map {
            sources.push(one(source, body)?);
        }
        Ok(())
    };
    match p.get("sources") {
        Some(Value::Array(list)) => {
            for item in list {
                match item {
                    Value::Object(map) if map.len() == 1 => add(map)?,
                    other => return Err(p.wrong("sources", other)),
                }
            }
        }
        Some(Value::Object(map)) => add(map)?,
        Some(other) => return Err(p.wrong("sources", other)),
        None => return Err(bad("Required [sources]")),
    }
    if sources.is_empty() {
        return Err(bad("Composite [sources] cannot be null or empty"));
    }
    for (i, source) in sources.iter().enumerate() {
        if sources[..i].iter().any(|s: &CompositeSource| s.name == source.name) {
            return Err(bad(format!("Composite source names must be unique, found duplicates: [{}]", source.name)));
        }
    }
    let size = p.whole("size")?.unwrap_or(10);
    let size = usize::try_from(size)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| bad(format!("[size] must be greater than 0. Found [{size}] in [{name}]")))?;
    let after = match p.get("after") {
        None => None,
        Some(Value::Object(map)) => {
            if map.len() != sources.len() {
                return Err(bad(format!("[after] has {} value(s) but [sources] has {}", map.len(), sources.len())));
            }
            let mut after = Vec::with_capacity(sources.len());
            for source in &sources {
                after.push(match map.get(&source.name) {
                    None => return Err(bad(format!("Missing value for [after.{}]", source.name))),
                    Some(Value::Null) if source.missing_bucket => None,
                    Some(Value::Null) => {
                        return Err(bad(format!(
                            "Invalid value, expected string, got null for [after.{}]",
                            source.name
                        )));
                    }
                    Some(value) => Some(scalar(value).ok_or_else(|| p.wrong("after", value))?),
                });
            }
            Some(after)
        }
        Some(other) => return Err(p.wrong("after", other)),
    };
    Ok(AggKind::Composite(CompositeRequest { sources, size, after }))
}

fn one(name: &str, body: &Value) -> DslResult<CompositeSource> {
    let Some((kind, params)) = body.as_object().filter(|m| m.len() == 1).and_then(|m| m.iter().next()) else {
        return Err(parsing(format!("Expected [START_OBJECT] with one source type under [{name}]")));
    };
    let Some(map) = params.as_object() else {
        return Err(parsing(format!("Expected [START_OBJECT] under [{kind}]")));
    };
    let mut p = Params { name, kind, map, known: Vec::new() };
    let parsed = match kind.as_str() {
        "terms" => CompositeKind::Terms,
        "histogram" => {
            let interval = p.number("interval")?.filter(|&i| i > 0.0);
            CompositeKind::Histogram {
                interval: interval.ok_or_else(|| bad("[interval] must be greater than 0 for [histogram] source"))?,
            }
        }
        "date_histogram" => {
            CompositeKind::DateHistogram { interval: date_interval(&mut p)?, offset_ms: offset_ms(&mut p)? }
        }
        other => return Err(parsing(format!("invalid source type: {other}"))),
    };
    let ascending = match p.text("order")?.map(|o| o.to_ascii_lowercase()).as_deref() {
        None | Some("asc") => true,
        Some("desc") => false,
        Some(other) => return Err(bad(format!("Unknown SortOrder [{other}]"))),
    };
    let missing_bucket = p.flag("missing_bucket")?.unwrap_or(false);
    let source = p.source()?;
    p.finish()?;
    Ok(CompositeSource { name: name.to_owned(), kind: parsed, source, ascending, missing_bucket })
}
