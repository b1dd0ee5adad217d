//! Templates: literal text with `{{source}}` and `{{source.field}}` in it.

use super::source::{Field, Place, Source};

/// A template, its mentions resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Value { source: usize, field: Field, escape: Escape },
}

/// Where a template's text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Paths, ids and parameters in a URL.
    Url,
    /// JSON bodies, and ids in bulk lines.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Percent,
    Json,
}

impl Template {
    /// `index` is what `{{index}}` stands for.
    pub(super) fn parse(text: &str, target: Target, sources: &mut [Source], index: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            // A JSON body may have `{{` nowhere but in a mention: an object's first member is a string.
            let (before, from) = rest.split_at(open);
            let close = from.find("}}").ok_or_else(|| format!("[{{{{]: no }}}} after it in [{text}]"))?;
            let mention = from[2..close].trim();
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Template::mention(mention, target, sources, index)?);
            rest = &from[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    fn mention(mention: &str, target: Target, sources: &mut [Source], index: &str) -> Result<Part, String> {
        if mention == "index" {
            let mut text = String::new();
            let escape = if target == Target::Url { Escape::Percent } else { Escape::Json };
            escape.write(index, &mut text);
            return Ok(Part::Text(text));
        }
        let (name, field) = mention.split_once('.').map_or((mention, None), |(name, field)| (name, Some(field)));
        let source = sources.iter().position(|s| s.name == name);
        let source = source.ok_or_else(|| format!("{{{{{mention}}}}}: there is no [source.{name}]"))?;
        let field = field.map_or(Ok(Field::Whole), |field| sources[source].column(field))?;
        let escape = match target {
            Target::Url => Escape::Percent,
            Target::Body if sources[source].is_document(field) => Escape::None,
            Target::Body => Escape::Json,
        };
        Ok(Part::Value { source, field, escape })
    }

    /// Indices of the sources it mentions, each once.
    pub(super) fn sources(&self) -> std::collections::BTreeSet<usize> {
        let used = self.parts.iter().filter_map(|part| match part {
            Part::Value { source, .. } => Some(*source),
            Part::Text(_) => None,
        });
        used.collect()
    }

    /// Appends the text for what was drawn, `drawn[source]`.
    pub(super) fn write(&self, sources: &[Source], drawn: &[Vec<u64>], place: Place, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value { source, field, escape } => {
                    sources[*source].write(&drawn[*source], *field, place, |piece| escape.write(piece, out));
                }
            }
        }
    }
}

impl Escape {
    fn write(self, text: &str, out: &mut String) {
        match self {
            Escape::None => out.push_str(text),
            Escape::Percent => {
                for byte in text.bytes() {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                            out.push(char::from(byte));
                        }
                        byte => {
                            out.push('%');
                            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
                            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
                        }
                    }
                }
            }
            // Most values need nothing.
            Escape::Json if !text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') => out.push_str(text),
            Escape::Json => {
                let quoted = serde_json::Value::String(text.to_owned()).to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn sources() -> Vec<Source> {
        let spec = toml::from_str("kind = 'list'\nvalues = ['a/ü \"x\"']").unwrap();
        let n = toml::from_str("kind = 'integers'\nfrom = 5\nto = 5").unwrap();
        vec![
            Source::new("t", &spec, None, Path::new(".")).unwrap(),
            Source::new("n", &n, None, Path::new(".")).unwrap(),
        ]
    }

    fn render(text: &str, target: Target) -> Result<String, String> {
        let mut sources = sources();
        let template = Template::parse(text, target, &mut sources, "my index")?;
        let mut out = String::new();
        template.write(&sources, &[vec![0], vec![0]], Place::default(), &mut out);
        Ok(out)
    }

    #[test]
    fn values_are_escaped_for_where_they_go() {
        let check = |text: &str, target, expected: &str| assert_eq!(render(text, target).unwrap(), expected);
        check("/{{index}}/_doc/{{t}}", Target::Url, "/my%20index/_doc/a%2F%C3%BC%20%22x%22");
        check(r#"{"q":{"m":{"f":"{{ t }}"},"n":{{n}}}}"#, Target::Body, r#"{"q":{"m":{"f":"a/ü \"x\""},"n":5}}"#);
        check("no mention }}", Target::Body, "no mention }}");
        check("{{n}}{{n}}", Target::Body, "55");
        check("", Target::Body, "");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(render("{{x}}", Target::Body).unwrap_err().contains("there is no [source.x]"));
        assert!(render("{{t", Target::Body).unwrap_err().contains("no }} after it"));
        assert!(render("{{t.f}}", Target::Body).unwrap_err().contains("[t] has no fields"));
    }
}
