//! `_validate/query`.

use ringdex_engine::query::{Query, QueryKind};
use ringdex_engine::search::SearchRequest;
use serde_json::{Value, json};

use super::{bare, query_only};
use crate::backend::SharedBackend;
use crate::coordinate::search::{SearchPlan, Target, search as run, targets};
use crate::dsl::SearchBody;
use crate::error::ApiResult;
use crate::metadata::resolve::IndicesOptions;
use crate::rest::params::{self, flag, indices_options};
use crate::rest::request::{Request, Response};

/// `GET|POST [/{index}]/_validate/query`
pub async fn validate(backend: &SharedBackend, mut request: Request) -> ApiResult<Response> {
    let explain = flag(&request, "explain", false)?;
    let rewrite = flag(&request, "rewrite", false)?;
    let all_shards = flag(&request, "all_shards", false)?;
    let options = indices_options(&request, IndicesOptions::OPEN_FORBID_CLOSED)?;
    let query = match query_only(backend, &mut request).await {
        Ok(query) => query,
        Err(error) if error.status == 400 => {
            let mut out = json!({ "valid": false });
            if explain {
                let kind = match error.kind.as_str() {
                    "parsing_exception" => "ParsingException",
                    other => other,
                };
                out["error"] = if error.kind == "parsing_exception" && !error.reason.starts_with("request does not") {
                    format!("org.elasticsearch.common.{kind}: {}; {}", error.reason, error.reason).into()
                } else {
                    error.reason.clone().into()
                };
            }
            return Ok(Response::ok(out));
        }
        Err(error) => return Err(error),
    };
    let state = backend.state();
    let list = targets(backend, &state, &params::indices(&request), options, None, None)?;
    let asked: Vec<Target> =
        if all_shards { list.clone() } else { list.iter().filter(|t| t.shard == 0).cloned().collect() };
    let plan = SearchPlan {
        request: SearchRequest { terminate_after: Some(1), ..bare(query.clone(), backend.now_ms()) },
        fetch: SearchBody::default().fetch,
        from: 0,
        size: 0,
        deadline_ms: None,
        keep_alive_ms: None,
        request_cache: None,
        targets: asked,
    };
    let outcome = run(backend, &plan).await;
    let total = plan.targets.len().max(usize::from(list.is_empty()));
    let (valid, error) = match &outcome {
        Ok(outcome) => (outcome.failures.is_empty(), outcome.failures.first().map(|f| f.error.clone())),
        Err(error) => (false, Some(error.root_causes.first().unwrap_or(error).clone())),
    };
    let mut out = json!({
        "_shards": { "total": total.max(1), "successful": total.max(1), "failed": 0 },
        "valid": valid,
    });
    if explain || rewrite {
        let text = explain_text(query.as_ref());
        let explanations: Vec<Value> = plan
            .targets
            .iter()
            .map(|t| {
                let mut one = json!({ "index": t.index.name });
                if all_shards {
                    one["shard"] = t.shard.into();
                }
                one["valid"] = valid.into();
                match &error {
                    Some(error) => {
                        one["error"] = format!("[{}/{}] {}", t.index.name, t.index.uuid, error.reason).into()
                    }
                    None => one["explanation"] = text.clone().into(),
                }
                one
            })
            .collect();
        out["explanations"] = explanations.into();
    }
    Ok(Response::ok(out))
}

/// The simplest queries as Lucene prints them; others by their name.
fn explain_text(query: Option<&Query>) -> String {
    match query.map(|q| &q.kind) {
        None | Some(QueryKind::MatchAll) => "*:*".to_owned(),
        Some(QueryKind::MatchNone) => "MatchNoDocsQuery(\"\")".to_owned(),
        Some(QueryKind::Term { field, value, .. }) => format!("{field}:{}", scalar(value)),
        Some(QueryKind::Match { field, text, .. }) => format!("{field}:{}", scalar(text)),
        Some(QueryKind::Exists { field }) => format!("ConstantScore(DocValuesFieldExistsQuery [field={field}])"),
        Some(QueryKind::QueryString(q)) => q.query.clone(),
        Some(other) => serde_json::to_value(other)
            .ok()
            .and_then(|v| v.as_object().and_then(|m| m.keys().next().cloned()))
            .unwrap_or_default(),
    }
}

fn scalar(value: &ringdex_engine::query::Value) -> String {
    use ringdex_engine::query::Value as V;
    match value {
        V::Bool(b) => b.to_string(),
        V::Int(n) => n.to_string(),
        V::UInt(n) => n.to_string(),
        V::Float(n) => n.to_string(),
        V::String(s) => s.clone(),
    }
}
