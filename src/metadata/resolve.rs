//! From index expressions (names, aliases, wildcards, exclusions, date math) to indices.

use std::sync::Arc;

use ringdex_net::cluster::state::{ClusterState, IndexMetadata};

use crate::error::{ApiError, ApiResult};
use crate::rest::filter::glob;

/// What to do about names that are missing, closed, hidden, or aliases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct IndicesOptions {
    /// Leave out missing (and closed) indices silently.
    pub ignore_unavailable: bool,
    /// Wildcards (or none) that match nothing are fine.
    pub allow_no_indices: bool,
    /// Wildcards match open indices.
    pub expand_open: bool,
    /// Wildcards match closed indices.
    pub expand_closed: bool,
    /// Wildcards match hidden indices.
    pub expand_hidden: bool,
    /// A closed index is an error.
    pub forbid_closed: bool,
    /// Aliases are not what is meant (deleting an index).
    pub ignore_aliases: bool,
}

impl IndicesOptions {
    /// Searches and most others.
    pub const OPEN_FORBID_CLOSED: IndicesOptions = IndicesOptions {
        ignore_unavailable: false,
        allow_no_indices: true,
        expand_open: true,
        expand_closed: false,
        expand_hidden: false,
        forbid_closed: true,
        ignore_aliases: false,
    };
    /// Reading metadata.
    pub const OPEN: IndicesOptions = IndicesOptions { forbid_closed: false, ..IndicesOptions::OPEN_FORBID_CLOSED };
    /// Metadata of closed indices too.
    pub const OPEN_CLOSED: IndicesOptions = IndicesOptions { expand_closed: true, ..IndicesOptions::OPEN };
    /// Everything, and nothing missing is an error.
    pub const LENIENT_ALL: IndicesOptions =
        IndicesOptions { ignore_unavailable: true, expand_hidden: true, ..IndicesOptions::OPEN_CLOSED };
    /// Deleting indices.
    pub const DELETE: IndicesOptions = IndicesOptions { ignore_aliases: true, ..IndicesOptions::OPEN_CLOSED };
    /// Opening indices.
    pub const CLOSED: IndicesOptions = IndicesOptions { expand_open: false, ..IndicesOptions::OPEN_CLOSED };

    /// Sets what wildcards match from the words of `expand_wildcards`.
    pub fn expand<'a>(&mut self, words: impl Iterator<Item = &'a str>) -> ApiResult<()> {
        (self.expand_open, self.expand_closed, self.expand_hidden) = (false, false, false);
        for word in words {
            match word {
                "open" => self.expand_open = true,
                "closed" => self.expand_closed = true,
                "hidden" => self.expand_hidden = true,
                "none" => (self.expand_open, self.expand_closed, self.expand_hidden) = (false, false, false),
                "all" => (self.expand_open, self.expand_closed, self.expand_hidden) = (true, true, true),
                other => {
                    return Err(ApiError::illegal_argument(format!("No valid expand wildcard value [{other}]")));
                }
            }
        }
        Ok(())
    }
}

/// Whether an index is hidden from wildcards.
#[must_use]
pub fn is_hidden(index: &IndexMetadata) -> bool {
    index.settings.get("index.hidden").and_then(|v| v.as_str()) == Some("true")
}

/// The indices that expressions mean, by name, each once, in the order of first mention (wildcards by name).
pub fn resolve(
    state: &ClusterState,
    expressions: &[String],
    options: IndicesOptions,
    now_ms: i64,
) -> ApiResult<Vec<Arc<IndexMetadata>>> {
    let names = resolve_names(state, expressions, options, now_ms)?;
    let mut out: Vec<Arc<IndexMetadata>> = Vec::new();
    let mut add = |index: &Arc<IndexMetadata>| {
        if !out.iter().any(|known| known.name == index.name) {
            out.push(index.clone());
        }
    };
    let explicit_failure = options.forbid_closed && !options.ignore_unavailable;
    for name in &names {
        if let Some(index) = state.indices.get(name) {
            if !index.open && options.forbid_closed {
                if explicit_failure {
                    return Err(index_closed(index));
                }
                continue;
            }
            add(index);
            continue;
        }
        let members: Vec<_> = state.indices_of_alias(name).collect();
        if members.is_empty() {
            if options.ignore_unavailable {
                continue;
            }
            return Err(ApiError::index_not_found(name));
        }
        for index in members {
            if !index.open && options.forbid_closed {
                if explicit_failure {
                    return Err(index_closed(index));
                }
                continue;
            }
            add(index);
        }
    }
    if out.is_empty() && !options.allow_no_indices {
        return Err(not_found_of(expressions));
    }
    Ok(out)
}

fn not_found_of(expressions: &[String]) -> ApiError {
    let text = if expressions.is_empty() { "_all".to_owned() } else { expressions.join(",") };
    ApiError::index_not_found(&text)
}

/// 400 `index_closed_exception`.
#[must_use]
pub fn index_closed(index: &IndexMetadata) -> ApiError {
    ApiError::new(400, "index_closed_exception", "closed")
        .with("index_uuid", index.uuid.clone())
        .with("index", index.name.clone())
}

/// The names (indices or aliases) that expressions mean.
pub fn resolve_names(
    state: &ClusterState,
    expressions: &[String],
    options: IndicesOptions,
    now_ms: i64,
) -> ApiResult<Vec<String>> {
    if expressions.is_empty() || (expressions.len() == 1 && matches!(expressions[0].as_str(), "_all" | "*")) {
        return Ok(state
            .indices
            .values()
            .filter(|index| expands(index, options, "*"))
            .map(|index| index.name.clone())
            .collect());
    }
    let mut result: Vec<String> = Vec::new();
    let mut wildcard_seen = false;
    for expression in expressions {
        let expression = date_math(expression, now_ms)?;
        if expression.is_empty() {
            return Err(ApiError::index_not_found(""));
        }
        if expression.starts_with('_') && expression != "_all" {
            return Err(ApiError::new(
                400,
                "invalid_index_name_exception",
                format!("Invalid index name [{expression}], must not start with '_'."),
            )
            .with("index_uuid", "_na_")
            .with("index", expression));
        }
        if state.indices.contains_key(&expression) || (!options.ignore_aliases && is_alias(state, &expression)) {
            push(&mut result, expression);
            continue;
        }
        let (add, expression) = match expression.strip_prefix('-') {
            Some(rest) if wildcard_seen => (false, rest.to_owned()),
            _ => (true, expression),
        };
        if !expression.contains('*') && expression != "_all" {
            if !options.ignore_unavailable {
                if is_alias(state, &expression) {
                    return Err(ApiError::illegal_argument(format!(
                        "The provided expression [{expression}] matches an alias, specify the corresponding concrete indices instead."
                    )));
                }
                if add && !state.indices.contains_key(&expression) {
                    return Err(ApiError::index_not_found(&expression));
                }
            }
            if add {
                if state.indices.contains_key(&expression) {
                    push(&mut result, expression);
                }
            } else {
                result.retain(|known| *known != expression);
            }
            continue;
        }
        wildcard_seen = true;
        let pattern = if expression == "_all" { "*" } else { expression.as_str() };
        let mut matched: Vec<String> = Vec::new();
        for index in state.indices.values() {
            let by_alias = !options.ignore_aliases
                && index.aliases.iter().any(|(alias, meta)| {
                    glob(pattern, alias) && (meta.is_hidden != Some(true) || options.expand_hidden)
                });
            let state_fits = if index.open { options.expand_open } else { options.expand_closed };
            if (by_alias && state_fits && (!is_hidden(index) || options.expand_hidden || pattern.starts_with('.')))
                || (glob(pattern, &index.name) && expands(index, options, pattern))
            {
                matched.push(index.name.clone());
            }
        }
        if matched.is_empty() && !options.allow_no_indices {
            return Err(ApiError::index_not_found(&expression));
        }
        for name in matched {
            if add {
                push(&mut result, name);
            } else {
                result.retain(|known| *known != name);
            }
        }
    }
    if result.is_empty() && !options.allow_no_indices {
        return Err(not_found_of(expressions));
    }
    Ok(result)
}

fn push(list: &mut Vec<String>, name: String) {
    if !list.contains(&name) {
        list.push(name);
    }
}

fn expands(index: &IndexMetadata, options: IndicesOptions, pattern: &str) -> bool {
    let by_state = if index.open { options.expand_open } else { options.expand_closed };
    let visible =
        !is_hidden(index) || options.expand_hidden || (pattern.starts_with('.') && index.name.starts_with('.'));
    by_state && visible
}

/// Whether some index carries this alias.
#[must_use]
pub fn is_alias(state: &ClusterState, name: &str) -> bool {
    state.indices_of_alias(name).next().is_some()
}

/// The one index a document request reads from.
pub fn resolve_single(state: &ClusterState, name: &str, now_ms: i64) -> ApiResult<Arc<IndexMetadata>> {
    let name = date_math(name, now_ms)?;
    if let Some(index) = state.indices.get(&name) {
        return open(index);
    }
    let members: Vec<_> = state.indices_of_alias(&name).collect();
    match members.as_slice() {
        [] => Err(ApiError::index_not_found(&name)),
        [one] => open(one),
        many => {
            let names: Vec<&str> = many.iter().map(|i| i.name.as_str()).collect();
            Err(ApiError::illegal_argument(format!(
                "Alias [{name}] has more than one index associated with it [{}], can't execute a single index op",
                names.join(", ")
            )))
        }
    }
}

fn open(index: &Arc<IndexMetadata>) -> ApiResult<Arc<IndexMetadata>> {
    if index.open { Ok(index.clone()) } else { Err(index_closed(index)) }
}

/// The one index a document request writes to, if there is one of that name.
pub fn resolve_write(state: &ClusterState, name: &str, now_ms: i64) -> ApiResult<Arc<IndexMetadata>> {
    let name = date_math(name, now_ms)?;
    if let Some(index) = state.indices.get(&name) {
        return open(index);
    }
    let members: Vec<_> = state.indices_of_alias(&name).collect();
    if members.is_empty() {
        return Err(ApiError::index_not_found(&name));
    }
    open(&write_index(&name, &members)?)
}

fn write_index(alias: &str, members: &[&Arc<IndexMetadata>]) -> ApiResult<Arc<IndexMetadata>> {
    let flag = |index: &Arc<IndexMetadata>| index.aliases.get(alias).and_then(|a| a.is_write_index);
    if let Some(index) = members.iter().find(|i| flag(i) == Some(true)) {
        return Ok((*index).clone());
    }
    match members {
        [one] if flag(one) != Some(false) => Ok((*one).clone()),
        _ => Err(ApiError::illegal_argument(format!(
            "no write index is defined for alias [{alias}]. The write index may be explicitly disabled using is_write_index=false or the alias points to multiple indices without one being designated as a write index"
        ))),
    }
}

/// Routing that aliases of a search add: routing values per index; `None` = all shards.
#[must_use]
pub fn search_routing(index: &IndexMetadata, names: &[String], routing: Option<&str>) -> Option<Vec<String>> {
    let given: Option<Vec<&str>> = routing.map(|r| r.split(',').filter(|s| !s.is_empty()).collect());
    let through: Vec<_> = names.iter().filter_map(|n| index.aliases.get(n)).collect();
    let plain = names.contains(&index.name) || through.is_empty();
    let mut out: Vec<String> = Vec::new();
    let mut everywhere = plain && given.is_none();
    if plain && let Some(given) = &given {
        out.extend(given.iter().map(|s| (*s).to_owned()));
    }
    for alias in through {
        match (&alias.search_routing, &given) {
            (None, None) => everywhere = true,
            (None, Some(given)) => out.extend(given.iter().map(|s| (*s).to_owned())),
            (Some(own), given) => {
                out.extend(own.split(',').filter(|r| given.as_ref().is_none_or(|g| g.contains(r))).map(str::to_owned))
            }
        }
    }
    (!everywhere).then_some(out)
}

/// Turns `<logstash-{now/d{yyyy.MM.dd|+01:00}}>` into a name; other texts stay.
pub fn date_math(expression: &str, now_ms: i64) -> ApiResult<String> {
    let (sign, body) = match expression.strip_prefix('-') {
        Some(rest) if rest.starts_with('<') => ("-", rest),
        _ => ("", expression),
    };
    let Some(inner) = body.strip_prefix('<').and_then(|b| b.strip_suffix('>')) else {
        return Ok(expression.to_owned());
    };
    let bad =
        |why: &str| ApiError::new(400, "parse_exception", format!("invalid dynamic name expression [{inner}]. {why}"));
    let mut out = sign.to_owned();
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            '{' => {
                let mut depth = 1;
                let mut text = String::new();
                for c in chars.by_ref() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    text.push(c);
                }
                if depth != 0 {
                    return Err(bad("date math placeholder is open ended"));
                }
                out.push_str(&placeholder(&text, now_ms).map_err(|why| bad(&why))?);
            }
            '}' => {
                return Err(bad(
                    "invalid character at position [0]. `{` and `}` are reserved characters and should be escaped when used as part of the index name using `\\` (e.g. `\\{text\\}`)",
                ));
            }
            c => out.push(c),
        }
    }
    if out.is_empty() {
        return Err(bad("nothing captured"));
    }
    Ok(out)
}

/// `now/d{yyyy.MM.dd|+01:00}` as text.
fn placeholder(text: &str, now_ms: i64) -> Result<String, String> {
    let (math, format) = match text.split_once('{') {
        Some((math, rest)) => (math, rest.strip_suffix('}').ok_or("missing closing `}` for date math format")?),
        None => (text, "yyyy.MM.dd"),
    };
    let (format, zone) = match format.split_once('|') {
        Some((format, zone)) => (format, zone),
        None => (format, "UTC"),
    };
    let format = if format.is_empty() { "yyyy.MM.dd" } else { format };
    let zone = jiff::tz::TimeZone::get(zone)
        .or_else(|_| fixed_offset(zone).ok_or(()))
        .map_err(|()| format!("unknown time zone [{zone}]"))?;
    let now = jiff::Timestamp::from_millisecond(now_ms).map_err(|e| e.to_string())?.to_zoned(zone);
    let rest = math.strip_prefix("now").ok_or_else(|| format!("failed to parse date field [{math}]"))?;
    let time = apply_math(now, rest)?;
    Ok(format_java(&time, format))
}

fn fixed_offset(text: &str) -> Option<jiff::tz::TimeZone> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
    jiff::tz::Offset::from_seconds(sign * seconds).ok().map(jiff::tz::TimeZone::fixed)
}

fn apply_math(mut time: jiff::Zoned, mut math: &str) -> Result<jiff::Zoned, String> {
    use jiff::{ToSpan, Unit, ZonedRound};
    while let Some(op) = math.chars().next() {
        math = &math[op.len_utf8()..];
        let digits = math.len() - math.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = if digits == 0 { 1 } else { math[..digits].parse().map_err(|_| "number too large")? };
        math = &math[digits..];
        let unit = math.chars().next().ok_or("truncated date math")?;
        math = &math[unit.len_utf8()..];
        let fail = |e: jiff::Error| e.to_string();
        time = match op {
            '+' | '-' => {
                let n = if op == '+' { number } else { -number };
                let span = match unit {
                    'y' => jiff::Span::new().try_years(n),
                    'M' => jiff::Span::new().try_months(n),
                    'w' => jiff::Span::new().try_weeks(n),
                    'd' => jiff::Span::new().try_days(n),
                    'h' | 'H' => jiff::Span::new().try_hours(n),
                    'm' => jiff::Span::new().try_minutes(n),
                    's' => jiff::Span::new().try_seconds(n),
                    other => return Err(format!("unit [{other}] not supported for date math")),
                }
                .map_err(fail)?;
                time.checked_add(span).map_err(fail)?
            }
            '/' => match unit {
                'y' => time.first_of_year().and_then(|t| t.start_of_day()).map_err(fail)?,
                'M' => time.first_of_month().and_then(|t| t.start_of_day()).map_err(fail)?,
                'w' => {
                    let back = i64::from(time.weekday().to_monday_zero_offset());
                    time.checked_sub(back.days()).and_then(|t| t.start_of_day()).map_err(fail)?
                }
                'd' => time.start_of_day().map_err(fail)?,
                'h' | 'H' => {
                    time.round(ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc)).map_err(fail)?
                }
                'm' => {
                    time.round(ZonedRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc)).map_err(fail)?
                }
                's' => {
                    time.round(ZonedRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc)).map_err(fail)?
                }
                other => return Err(format!("unit [{other}] not supported for date math")),
            },
            other => return Err(format!("operator not supported for date math [{other}]")),
        };
    }
    Ok(time)
}

/// The letters of Java's date patterns that make sense in a name.
fn format_java(time: &jiff::Zoned, pattern: &str) -> String {
    let mut out = String::new();
    let chars: Vec<char> = pattern.chars().collect();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '\'' {
            i += 1;
            while i < chars.len() && chars[i] != '\'' {
                out.push(chars[i]);
                i += 1;
            }
            i += 1;
            continue;
        }
        let run = chars[i..].iter().take_while(|x| **x == c).count();
        let width = run;
        let number = match c {
            'y' | 'u' | 'Y' => {
                let year = i64::from(time.year());
                Some(if run == 2 { year % 100 } else { year })
            }
            'x' => Some(i64::from(time.date().iso_week_date().year())),
            'M' => Some(i64::from(time.month())),
            'd' => Some(i64::from(time.day())),
            'D' => Some(i64::from(time.day_of_year())),
            'w' => Some(i64::from(time.date().iso_week_date().week())),
            'H' => Some(i64::from(time.hour())),
            'm' => Some(i64::from(time.minute())),
            's' => Some(i64::from(time.second())),
            'S' => Some(i64::from(time.millisecond())),
            _ => None,
        };
        match number {
            Some(n) => out.push_str(&format!("{n:0width$}")),
            None => out.extend(std::iter::repeat_n(c, run)),
        }
        i += run;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdex_net::cluster::state::AliasMetadata;

    fn state() -> ClusterState {
        let mut state = ClusterState::default();
        for (name, open, hidden, aliases) in [
            ("a1", true, false, &["x"][..]),
            ("a2", true, false, &["x", "only2"]),
            ("b1", false, false, &["x"]),
            ("h1", true, true, &[]),
            (".dot", true, true, &[]),
        ] {
            let mut index = IndexMetadata {
                name: name.into(),
                uuid: format!("uuid-{name}"),
                open,
                creation_date: 0,
                number_of_shards: 1,
                number_of_replicas: 1,
                routing_num_shards: 1024,
                settings: Default::default(),
                mapping: serde_json::json!({}),
                mapping_version: 1,
                settings_version: 1,
                aliases_version: 1,
                aliases: aliases.iter().map(|a| ((*a).to_owned(), AliasMetadata::default())).collect(),
                primary_terms: vec![1],
                in_sync: Vec::new(),
            };
            if hidden {
                index.settings.insert("index.hidden".into(), "true".into());
            }
            state.indices.insert(name.into(), Arc::new(index));
        }
        state
    }

    fn check(expressions: &str, options: IndicesOptions, want: Result<&str, &str>) {
        let list: Vec<String> = expressions.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let got = resolve(&state(), &list, options, 0)
            .map(|v| v.iter().map(|i| i.name.clone()).collect::<Vec<_>>().join(","))
            .map_err(|e| e.reason);
        assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{expressions}");
    }

    #[test]
    fn expressions_mean_indices() {
        let open = IndicesOptions::OPEN_FORBID_CLOSED;
        check("", open, Ok("a1,a2"));
        check("_all", open, Ok("a1,a2"));
        check("a*", open, Ok("a1,a2"));
        check("*,-a1", open, Ok("a2"));
        check("-a1", open, Err("no such index [-a1]"));
        check("a2,a1", open, Ok("a2,a1"));
        check("only2", open, Ok("a2"));
        check("x", open, Err("closed"));
        check("x", IndicesOptions { ignore_unavailable: true, ..open }, Ok("a1,a2"));
        check("b1", open, Err("closed"));
        check("nope", open, Err("no such index [nope]"));
        check("nope*", open, Ok(""));
        check("nope*", IndicesOptions { allow_no_indices: false, ..open }, Err("no such index [nope*]"));
        check("nope,a1", IndicesOptions { ignore_unavailable: true, ..open }, Ok("a1"));
        check("*", IndicesOptions::OPEN_CLOSED, Ok("a1,a2,b1"));
        check("*", IndicesOptions::LENIENT_ALL, Ok(".dot,a1,a2,b1,h1"));
        check(".d*", open, Ok(".dot"));
        check("_x", open, Err("Invalid index name [_x], must not start with '_'."));
        check(
            "x",
            IndicesOptions::DELETE,
            Err("The provided expression [x] matches an alias, specify the corresponding concrete indices instead."),
        );
    }

    #[test]
    fn date_math_names_are_resolved() {
        let now = 1_710_988_200_000; // 2024-03-21T02:30:00Z
        for (text, want) in [
            ("<logs-{now/d}>", "logs-2024.03.21"),
            ("<logs-{now/M}>", "logs-2024.03.01"),
            ("<logs-{now/M{yyyy.MM}}>", "logs-2024.03"),
            ("<logs-{now/M-1M{yyyy.MM}}>", "logs-2024.02"),
            ("<logs-{now/d{yyyy.MM.dd|-12:00}}>", "logs-2024.03.20"),
            ("<a\\{b\\}-{now/d{yyyy}}>", "a{b}-2024"),
            ("plain", "plain"),
        ] {
            assert_eq!(date_math(text, now).unwrap(), want);
        }
        assert!(date_math("<a-{now/d>", now).is_err());
    }

    #[test]
    fn writes_go_to_the_write_index() {
        let mut state = state();
        assert_eq!(resolve_write(&state, "only2", 0).unwrap().name, "a2");
        assert!(
            resolve_write(&state, "x", 0).unwrap_err().reason.starts_with("no write index is defined for alias [x].")
        );
        let mut a1 = (*state.indices["a1"]).clone();
        a1.aliases.insert("x".into(), AliasMetadata { is_write_index: Some(true), ..Default::default() });
        state.indices.insert("a1".into(), Arc::new(a1));
        assert_eq!(resolve_write(&state, "x", 0).unwrap().name, "a1");
    }
}
