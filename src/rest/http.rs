//! From an answer to bytes: `pretty`, `format`, `filter_path`, media types, warnings.

use bytes::Bytes;
use serde_json::Value;
use std::borrow::Cow;

use super::filter::PathFilter;
use super::request::{Content, Request, Response};
use super::{pretty, yaml};

/// The version we say we are; clients look at it.
pub const VERSION: &str = "7.10.2";
/// The build of that version, as in `GET /` and in warnings.
pub const BUILD_HASH: &str = "747e1cc71def077253878a59143c1f785afa92b9";

/// An answer as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`; none without a body.
    pub content_type: Option<Cow<'static, str>>,
    /// All further headers.
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// The body; empty for HEAD.
    pub body: Bytes,
    /// Length the body of the same GET would have had: the `Content-Length` of a HEAD answer.
    pub content_length: usize,
}

/// How the client wants its answer.
#[derive(Debug, Default)]
pub struct RenderOptions {
    pretty: bool,
    yaml: bool,
    filter: Option<PathFilter>,
    media_type: Option<String>,
    head: bool,
}

/// A body's or an answer's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json` and its vendor kind.
    Json,
    /// `application/x-ndjson` and its vendor kind.
    NdJson,
    /// `application/yaml`.
    Yaml,
}

/// Reads a media type; parameters (charset, compatible-with) are accepted and ignored.
#[must_use]
pub fn media_type(header: &str) -> Option<MediaType> {
    let essence = header.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "application/vnd.elasticsearch+json" | "application/*" | "*/*" => Some(MediaType::Json),
        "application/x-ndjson" | "application/vnd.elasticsearch+x-ndjson" => Some(MediaType::NdJson),
        "application/yaml" | "application/vnd.elasticsearch+yaml" => Some(MediaType::Yaml),
        _ => None,
    }
}

impl RenderOptions {
    /// Takes them from the request.
    #[must_use]
    pub fn of(request: &Request) -> RenderOptions {
        let flag = |name: &str| request.param(name).is_some_and(|v| v != "false");
        let accept = request.header("accept").unwrap_or("");
        let format = request.param("format").unwrap_or("");
        let accepts_yaml = media_type(accept.split(',').next().unwrap_or("")) == Some(MediaType::Yaml);
        let vendor = accept
            .split(',')
            .map(str::trim)
            .find(|part| part.to_ascii_lowercase().starts_with("application/vnd.elasticsearch+json"))
            .map(|part| part.replace("; ", ";"));
        RenderOptions {
            // The greeting is read by people.
            pretty: if request.segments.is_empty() { request.param("pretty") != Some("false") } else { flag("pretty") },
            yaml: format == "yaml" || (format.is_empty() && accepts_yaml),
            filter: request.param("filter_path").and_then(PathFilter::parse),
            media_type: vendor,
            head: request.method == super::request::Method::Head,
        }
    }
}

/// A `Warning` header as Elasticsearch writes it.
#[must_use]
pub fn warning(text: &str) -> (Cow<'static, str>, String) {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c if c.is_ascii() && !c.is_ascii_control() => escaped.push(c),
            c => {
                let mut bytes = [0; 4];
                for b in c.encode_utf8(&mut bytes).bytes() {
                    escaped.push_str(&format!("%{b:02X}"));
                }
            }
        }
    }
    ("Warning".into(), format!("299 Elasticsearch-{VERSION}-{BUILD_HASH} \"{escaped}\""))
}

/// Makes the bytes.
#[must_use]
pub fn render(response: Response, options: &RenderOptions) -> Rendered {
    let (content_type, body) = match response.content {
        Content::Empty => (None, Bytes::new()),
        Content::Text(text) => (Some("text/plain; charset=UTF-8".into()), Bytes::from(text)),
        Content::Json(value) => render_json(value, options),
        Content::RawJson(bytes) => {
            if options.filter.is_some() || options.yaml {
                match serde_json::from_slice::<Value>(&bytes) {
                    Ok(value) => render_json(value, options),
                    Err(_) => (Some(json_type(options)), bytes),
                }
            } else if options.pretty {
                (Some(json_type(options)), pretty::pretty(&bytes).into())
            } else {
                (Some(json_type(options)), bytes)
            }
        }
    };
    let headers = response.headers.into_iter().map(|(n, v)| (n, v.into())).collect();
    let content_length = body.len();
    let body = if options.head { Bytes::new() } else { body };
    Rendered { status: response.status, content_type, headers, body, content_length }
}

fn json_type(options: &RenderOptions) -> Cow<'static, str> {
    options.media_type.clone().map_or("application/json; charset=UTF-8".into(), Cow::Owned)
}

fn render_json(mut value: Value, options: &RenderOptions) -> (Option<Cow<'static, str>>, Bytes) {
    if let Some(filter) = &options.filter {
        value = filter.apply(value);
    }
    if options.yaml {
        return (Some("application/yaml".into()), yaml::to_yaml(&value).into());
    }
    // Writing a tree to memory cannot fail: its keys are strings and its numbers finite.
    let bytes = serde_json::to_vec(&value).unwrap_or_default();
    let bytes = if options.pretty { pretty::pretty(&bytes) } else { bytes };
    (Some(json_type(options)), bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_media_types_are_their_plain_kinds() {
        for (text, want) in [
            ("application/json", Some(MediaType::Json)),
            ("application/json; charset=UTF-8", Some(MediaType::Json)),
            ("application/vnd.elasticsearch+json; compatible-with=8", Some(MediaType::Json)),
            ("application/vnd.elasticsearch+x-ndjson;compatible-with=9", Some(MediaType::NdJson)),
            ("application/x-www-form-urlencoded", None),
            ("text/plain", None),
        ] {
            assert_eq!(media_type(text), want, "{text}");
        }
    }

    #[test]
    fn warnings_escape_quotes() {
        let (_, value) = warning("say \"hi\"");
        assert_eq!(value, format!("299 Elasticsearch-7.10.2-{BUILD_HASH} \"say \\\"hi\\\"\""));
    }
}
