//! `_analyze`: what analysis makes of a text.

use std::sync::Arc;

use ringdex_engine::analysis::{Analyzer, AnalyzerRegistry};
use serde_json::{Value, json};

use crate::backend::SharedBackend;
use crate::error::{ApiError, ApiResult};
use crate::metadata::resolve::resolve_single;
use crate::metadata::settings;
use crate::rest::params::{self, boolean, strings};
use crate::rest::request::{Request, Response};

/// `GET|POST [/{index}]/_analyze`
pub async fn analyze(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let body = params::body_json(&mut request).await?.unwrap_or(Value::Null);
    let mut text = Vec::new();
    let mut parts = Parts::default();
    let mut explain = false;
    if let Value::Object(map) = &body {
        for (key, value) in map {
            match key.as_str() {
                "text" => text = strings(value),
                "analyzer" => parts.analyzer = Some(params::text(value)),
                "field" => parts.field = Some(params::text(value)),
                "tokenizer" => parts.tokenizer = Some(value.clone()),
                "normalizer" => parts.normalizer = Some(params::text(value)),
                "filter" => parts.filters = list(value),
                "char_filter" => parts.char_filters = list(value),
                "explain" => explain = boolean(value)?,
                "attributes" => {}
                other => {
                    return Err(ApiError::illegal_argument(format!(
                        "Unknown parameter [{other}] in request body or parameter is of the wrong type[{}] ",
                        if value.is_object() { "START_OBJECT" } else { "VALUE_STRING" }
                    )));
                }
            }
        }
    }
    if text.is_empty() {
        return Err(ApiError::validation(&["text is missing".to_owned()]));
    }
    let index = match request.param("index") {
        Some(name) => Some(resolve_single(&backend.state(), name, backend.now_ms())?),
        None => None,
    };
    let max_tokens: usize =
        index.as_ref().and_then(|i| settings::get(i, "index.analyze.max_token_count").parse().ok()).unwrap_or(10_000);
    let (registry, mapping) = match &index {
        Some(index) => {
            let compiled = backend.compiled(index)?;
            (compiled.analyzers, Some(compiled.mapping))
        }
        None => (Arc::new(AnalyzerRegistry::new(&Value::Null).map_err(ApiError::from)?), None),
    };
    let mut analyzer = parts.choose(&registry, index.is_some())?;
    if let (Some(field), Some(mapping)) = (&parts.field, &mapping)
        && analyzer.is_none()
        && let Some(field) = mapping.field(field)
    {
        match &field.analyzer {
            Some(own) => analyzer = Some(own.clone()),
            None if field.kind == ringdex_engine::mapping::FieldType::Keyword => {
                analyzer = registry.analyzer("keyword");
            }
            None => {
                return Err(ApiError::illegal_argument(format!(
                    "Can't process field [{}], Analysis requests are only supported on tokenized fields",
                    field.path
                )));
            }
        }
    }
    let analyzer = analyzer
        .or_else(|| registry.analyzer("default"))
        .or_else(|| registry.analyzer("standard"))
        .ok_or_else(|| ApiError::new(500, "illegal_state_exception", "there is no standard analyzer"))?;
    let tokens = run(&analyzer, &text, max_tokens)?;
    if explain {
        let named = parts.tokenizer.is_none();
        let detail = if named {
            json!({ "custom_analyzer": false, "analyzer": { "name": analyzer.name(), "tokens": tokens } })
        } else {
            explained(&parts, &registry, &text, max_tokens)?
        };
        return Ok(Response::ok(json!({ "detail": detail })));
    }
    Ok(Response::ok(json!({ "tokens": tokens })))
}

#[derive(Default)]
struct Parts {
    analyzer: Option<String>,
    field: Option<String>,
    tokenizer: Option<Value>,
    normalizer: Option<String>,
    filters: Vec<Value>,
    char_filters: Vec<Value>,
}

impl Parts {
    /// The analyzer that the parts name or make; none when they say nothing.
    fn choose(&self, registry: &AnalyzerRegistry, has_index: bool) -> ApiResult<Option<Arc<Analyzer>>> {
        if let Some(name) = &self.analyzer {
            return registry.analyzer(name).map(Some).ok_or_else(|| {
                ApiError::illegal_argument(if has_index {
                    format!("failed to find analyzer [{name}]")
                } else {
                    format!("failed to find global analyzer [{name}]")
                })
            });
        }
        if let Some(name) = &self.normalizer {
            if !has_index {
                return Err(ApiError::illegal_argument("analysis based on a normalizer requires an index"));
            }
            return registry
                .normalizer(name)
                .map(Some)
                .ok_or_else(|| ApiError::illegal_argument(format!("failed to find normalizer under [{name}]")));
        }
        if self.tokenizer.is_some() || !self.filters.is_empty() || !self.char_filters.is_empty() {
            // Filters without a tokenizer make a normalizer: the whole text is one token.
            let keyword = json!("keyword");
            let tokenizer = self.tokenizer.as_ref().unwrap_or(&keyword);
            return registry
                .custom(Some(tokenizer), &self.filters, &self.char_filters)
                .map(Some)
                .map_err(ApiError::from);
        }
        Ok(None)
    }
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

/// Several texts are positions and offsets apart as values of one field are.
fn run(analyzer: &Analyzer, texts: &[String], max_tokens: usize) -> ApiResult<Vec<Value>> {
    let mut tokens = Vec::new();
    let mut position_base = 0u64;
    let mut offset_base = 0u64;
    let mut too_many = false;
    for text in texts {
        let mut last: Option<u64> = None;
        analyzer.tokens(text, &mut |token| {
            if tokens.len() >= max_tokens {
                too_many = true;
                return;
            }
            let position = position_base + u64::from(token.position);
            last = Some(position);
            let mut shown = json!({
                "token": token.term,
                "start_offset": offset_base + u64::from(token.start_offset),
                "end_offset": offset_base + u64::from(token.end_offset),
                "type": token.kind,
                "position": position,
            });
            if token.position_length > 1 {
                shown["positionLength"] = token.position_length.into();
            }
            tokens.push(shown);
        });
        if too_many {
            return Err(ApiError::new(
                500,
                "illegal_state_exception",
                format!(
                    "The number of tokens produced by calling _analyze has exceeded the allowed maximum of [{max_tokens}]. This limit can be set by changing the [index.analyze.max_token_count] index level setting."
                ),
            ));
        }
        position_base = last.map_or(position_base, |p| p + 1) + 100;
        offset_base += text.encode_utf16().count() as u64 + 1;
    }
    Ok(tokens)
}

/// The tokens after the tokenizer and after each filter.
fn explained(parts: &Parts, registry: &AnalyzerRegistry, texts: &[String], max_tokens: usize) -> ApiResult<Value> {
    let name = |value: &Value, fallback: &str| value.as_str().map_or_else(|| fallback.to_owned(), str::to_owned);
    let mut detail = json!({ "custom_analyzer": true });
    let tokenizer = parts.tokenizer.as_ref();
    let after = |filters: &[Value]| -> ApiResult<Vec<Value>> {
        let analyzer = registry.custom(tokenizer, filters, &parts.char_filters).map_err(ApiError::from)?;
        run(&analyzer, texts, max_tokens)
    };
    if !parts.char_filters.is_empty() {
        let keyword = json!("keyword");
        let mut shown = Vec::new();
        for i in 0..parts.char_filters.len() {
            let analyzer = registry.custom(Some(&keyword), &[], &parts.char_filters[..=i]).map_err(ApiError::from)?;
            let mut filtered = Vec::new();
            for text in texts {
                let mut whole = String::new();
                analyzer.tokens(text, &mut |token| whole.push_str(token.term));
                filtered.push(whole);
            }
            shown.push(json!({
                "name": name(&parts.char_filters[i], &format!("__anonymous__{}", parts.char_filters[i]["type"].as_str().unwrap_or(""))),
                "filtered_text": filtered,
            }));
        }
        detail["charfilters"] = shown.into();
    }
    if let Some(tokenizer) = tokenizer {
        let fallback = format!("__anonymous__{}", tokenizer["type"].as_str().unwrap_or(""));
        detail["tokenizer"] = json!({ "name": name(tokenizer, &fallback), "tokens": after(&[])? });
    }
    if !parts.filters.is_empty() {
        let mut shown = Vec::new();
        for i in 0..parts.filters.len() {
            let fallback = format!("__anonymous__{}", parts.filters[i]["type"].as_str().unwrap_or(""));
            shown.push(json!({ "name": name(&parts.filters[i], &fallback), "tokens": after(&parts.filters[..=i])? }));
        }
        detail["tokenfilters"] = shown.into();
    }
    Ok(detail)
}
