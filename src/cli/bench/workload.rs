//! Workload files: what to send, how often, for how long. TOML, or JSON of the same shape (`.json`). A key that is not listed
//! here is an error, and so is a body that does not become JSON.
//!
//! ```text
//! seed = 42                     the same seed gives the same requests at the same intended times       default 1
//! index = "bench"               what {{index}} stands for in paths                                      default "bench"
//! timeout = "10s"               from the intended send time; later answers count as timeouts           default "10s"
//! interval = "1s"               of the time series and the .hlog                                        default "1s"
//!
//! [headers]                     sent with every request
//! authorization = "Basic ..."
//!
//! [data]                        one JSON document a line, possibly gzipped; a member _id is its id and no part of it
//! file = "cities.ndjson.gz"     from where the workload file is
//! builtin = "accounts"          instead of a file: 1,000 bank accounts
//! limit = 100000                documents                                                               default all
//!
//! [source.NAME]                 something to draw values from; drawn once per request, or per document of a bulk, so that
//!                               every mention of it in one request means the same
//! kind = "rows"                 documents: {{NAME}} is the document, {{NAME.field}} a field of it, {{NAME._id}} its id (or line)
//!      = "integers"             from = 0, to = 999 (both inclusive)
//!      = "list"                 values = ["a", "b"], or file = "words.txt", one value a line
//!      = "values"               the distinct values of field = "F" of the documents, most frequent first
//!      = "words"                the distinct words (lower case) of field = "F", most frequent first
//!      = "fresh"                an id never used before: prefix = "x", run, number of the request and of the document
//! order = "uniform"             or "sequential" (again from the first after the last), or "zipf" (exponent = 1.0: the first
//!                               are the most popular)                                                   default "uniform"
//! draws = 3                     that many values with spaces between them                               default 1
//!
//! [operation.NAME]
//! kind = "index"                PUT {index}/_doc/{id}, or POST {index}/_doc without id; body
//!      = "update"               POST {index}/_update/{id}; body
//!      = "get", "delete"        GET, DELETE {index}/_doc/{id}
//!      = "search"               POST {index}/_search; body
//!      = "aggregate"            POST {index}/_search?size=0; body
//!      = "bulk"                 POST {index}/_bulk; documents = 100, action = "index" (or create, update, delete), id and body
//!                               of each document
//!      = "raw"                  method, path, and perhaps body
//! weight = 3                    share among the operations                                              default 1
//! index = "other"               instead of the workload's
//! id, body, path = "..."        templates
//! parameters = "refresh=true"   added to the URL; a template
//! expect = [404]                statuses that are no error, besides 200 to 299
//!
//! [[setup]]                     requests before everything, one after the other: method, path, body, expect
//! method = "DELETE"
//! path = "/{{index}}"
//! expect = [404]
//! [[setup]]
//! load = 500                    or: all documents of [data] into the index, in bulks of that many
//!
//! [[phase]]                     one after the other; their results are apart
//! name = "mixed"
//! mix = { get = 3, search = 1 } weights of this phase; what is not named is not sent                    default all
//! warmup = "5s"                 sent, but not measured                                                  default none
//! duration = "60s"              measured; or requests = 100000 in all
//! rate = 1000                   open loop: requests a second, whatever the server does
//! arrivals = "poisson"          or "constant"                                                           default "poisson"
//! connections = 64              at most; a request that finds none free waits, and its latency counts   default 64
//! clients = 8                   instead of rate, closed loop: each sends when it has its answer ...
//! think = "10ms"                ... and has thought; think_poisson = true: exponential, with this mean
//! [phase.ramp]                  instead of rate: steps of `duration`, each after `warmup`, until one breaks a bound
//! from = 1000, to = 50000       requests a second
//! factor = 1.5                  from step to step; or step = 1000                                        default 1.25
//! p99_max = "50ms"              bounds                                                                   default none
//! achieved_min = 0.95           answered within the step over intended                                   default 0.95
//! ```
//!
//! Templates: `{{NAME}}` and `{{NAME.field}}` are values of sources, `{{index}}` the index. In a body they are escaped as within
//! a JSON string and stand without quotes, whole documents as they are; in a path, an id or parameters they are percent-encoded.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::schedule::Arrivals;

/// The description at the top of this file.
pub(super) fn format_page() -> String {
    let lines = include_str!("workload.rs").lines().map_while(|line| line.strip_prefix("//!"));
    let shown = lines.filter(|line| !line.contains("```"));
    shown.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// A workload file as written; `plan.rs` makes requests of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    #[serde(default = "one")]
    pub(super) seed: u64,
    #[serde(default = "default_index")]
    pub(super) index: String,
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    pub(super) timeout: Duration,
    #[serde(default = "default_interval", deserialize_with = "duration")]
    pub(super) interval: Duration,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) data: Option<DataFile>,
    #[serde(default)]
    pub(super) source: BTreeMap<String, SourceSpec>,
    #[serde(default)]
    pub(super) operation: BTreeMap<String, OperationSpec>,
    #[serde(default)]
    pub(super) setup: Vec<SetupStep>,
    #[serde(default)]
    pub(super) phase: Vec<PhaseSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataFile {
    pub(super) file: Option<String>,
    pub(super) builtin: Option<String>,
    pub(super) limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SourceKind {
    Rows,
    Integers,
    List,
    Values,
    Words,
    Fresh,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    #[default]
    Uniform,
    Sequential,
    Zipf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceSpec {
    pub(super) kind: SourceKind,
    #[serde(default)]
    pub(super) order: Order,
    pub(super) exponent: Option<f64>,
    pub(super) draws: Option<usize>,
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) values: Option<Vec<String>>,
    pub(super) file: Option<String>,
    pub(super) field: Option<String>,
    pub(super) prefix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OperationKind {
    Index,
    Update,
    Get,
    Delete,
    Search,
    Aggregate,
    Bulk,
    Raw,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationSpec {
    pub(super) kind: OperationKind,
    #[serde(default = "one_weight")]
    pub(super) weight: f64,
    pub(super) index: Option<String>,
    pub(super) id: Option<String>,
    pub(super) body: Option<String>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) parameters: Option<String>,
    pub(super) documents: Option<u32>,
    pub(super) action: Option<String>,
    #[serde(default)]
    pub(super) expect: Vec<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetupStep {
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) body: Option<String>,
    pub(super) load: Option<usize>,
    #[serde(default)]
    pub(super) expect: Vec<u16>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PhaseSpec {
    pub(super) name: String,
    pub(super) mix: Option<BTreeMap<String, f64>>,
    #[serde(default, deserialize_with = "duration")]
    pub(super) warmup: Duration,
    #[serde(default, deserialize_with = "maybe_duration")]
    pub(super) duration: Option<Duration>,
    pub(super) requests: Option<u64>,
    pub(super) rate: Option<f64>,
    pub(super) arrivals: Option<Arrivals>,
    pub(super) connections: Option<usize>,
    pub(super) clients: Option<usize>,
    #[serde(default, deserialize_with = "maybe_duration")]
    pub(super) think: Option<Duration>,
    #[serde(default)]
    pub(super) think_poisson: bool,
    pub(super) ramp: Option<RampSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RampSpec {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) factor: Option<f64>,
    pub(super) step: Option<f64>,
    #[serde(default, deserialize_with = "maybe_duration")]
    pub(super) p99_max: Option<Duration>,
    #[serde(default = "default_achieved")]
    pub(super) achieved_min: f64,
}

fn one() -> u64 {
    1
}

fn one_weight() -> f64 {
    1.0
}

fn default_index() -> String {
    "bench".to_owned()
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_interval() -> Duration {
    Duration::from_secs(1)
}

fn default_achieved() -> f64 {
    0.95
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

fn maybe_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// `250us`, `10ms`, `1.5s`, `2m`, `1h`; `0` alone needs no unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("[{text}] is no duration such as 10ms, 1.5s or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if number == 0.0 => 1.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * factor).ok().filter(|d| d.as_secs() < 366 * 86_400).ok_or_else(wrong)
}

impl Workload {
    /// Reads a file; returns its text too, for the record.
    pub(super) fn read(path: &Path) -> Result<(Workload, String), String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("[{shown}]: {e}"))?;
        let json = path.extension().is_some_and(|e| e == "json");
        let workload = Workload::parse(&text, json).map_err(|e| format!("[{shown}]: {e}"))?;
        Ok((workload, text))
    }

    pub(super) fn parse(text: &str, json: bool) -> Result<Workload, String> {
        let workload: Workload = if json {
            serde_json::from_str(text).map_err(|e| e.to_string())?
        } else {
            toml::from_str(text).map_err(|e| e.to_string())?
        };
        workload.check()?;
        Ok(workload)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.operation.is_empty() {
            return Err("no [operation.NAME]".into());
        }
        if self.phase.is_empty() {
            return Err("no [[phase]]".into());
        }
        if self.interval < Duration::from_millis(10) {
            return Err("interval: at least 10ms".into());
        }
        if self.timeout < Duration::from_millis(1) {
            return Err("timeout: at least 1ms".into());
        }
        if let Some(data) = &self.data
            && data.file.is_some() == data.builtin.is_some()
        {
            return Err("data: either file or builtin".into());
        }
        for (i, step) in self.setup.iter().enumerate() {
            let request = step.method.is_some() && step.path.is_some();
            let any = step.method.is_some() || step.path.is_some() || step.body.is_some() || !step.expect.is_empty();
            if !(request && step.load.is_none() || !any && step.load.is_some_and(|n| n > 0)) {
                return Err(format!("setup {}: either method and path, or load", i + 1));
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for phase in &self.phase {
            phase.check(self).map_err(|e| format!("phase [{}]: {e}", phase.name))?;
            if !names.insert(&phase.name) {
                return Err(format!("two phases [{}]", phase.name));
            }
        }
        Ok(())
    }
}

impl PhaseSpec {
    fn check(&self, workload: &Workload) -> Result<(), String> {
        let positive = |what: &str, value: Option<f64>| match value {
            Some(v) if !(v.is_finite() && v > 0.0 && v <= 1e8) => Err(format!("{what}: above 0, at most 100000000")),
            _ => Ok(()),
        };
        let paces = [self.rate.is_some(), self.clients.is_some(), self.ramp.is_some()];
        if paces.into_iter().filter(|p| *p).count() != 1 {
            return Err("one of rate, clients, ramp".into());
        }
        positive("rate", self.rate)?;
        if self.duration.is_some() == self.requests.is_some() {
            return Err("either duration or requests".into());
        }
        if self.duration.is_some_and(|d| d.is_zero()) || self.requests == Some(0) {
            return Err("duration or requests: above 0".into());
        }
        for (what, value) in [("connections", self.connections), ("clients", self.clients)] {
            if value.is_some_and(|n| !(1..=50_000).contains(&n)) {
                return Err(format!("{what}: 1 to 50000"));
            }
        }
        if self.clients.is_some() && (self.connections.is_some() || self.arrivals.is_some()) {
            return Err("connections and arrivals go with rate or ramp; every client has one connection".into());
        }
        if self.clients.is_none() && (self.think.is_some() || self.think_poisson) {
            return Err("think goes with clients".into());
        }
        if let Some(ramp) = &self.ramp {
            positive("ramp.from", Some(ramp.from))?;
            positive("ramp.to", Some(ramp.to))?;
            positive("ramp.step", ramp.step)?;
            if ramp.to < ramp.from {
                return Err("ramp: to is below from".into());
            }
            if ramp.factor.is_some() && ramp.step.is_some() {
                return Err("ramp: either factor or step".into());
            }
            if ramp.factor.is_some_and(|f| !(f > 1.0 && f <= 100.0)) {
                return Err("ramp.factor: above 1".into());
            }
            if !(0.0..=1.0).contains(&ramp.achieved_min) {
                return Err("ramp.achieved_min: 0 to 1".into());
            }
            if self.duration.is_none() {
                return Err("a ramp needs duration, that of a step".into());
            }
        }
        for name in self.mix.iter().flat_map(BTreeMap::keys) {
            if !workload.operation.contains_key(name) {
                return Err(format!("mix: no operation [{name}]"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[operation.root]\nkind = 'raw'\nmethod = 'GET'\npath = '/'\n";

    fn error(text: &str) -> String {
        Workload::parse(&format!("{SMALL}{text}"), false).unwrap_err()
    }

    #[test]
    fn a_small_file_gets_the_defaults() {
        let text = format!("{SMALL}[[phase]]\nname = 'p'\nrate = 10\nduration = '1.5s'\n");
        let workload = Workload::parse(&text, false).unwrap();
        assert_eq!((workload.seed, workload.index.as_str(), workload.timeout.as_secs()), (1, "bench", 10));
        assert_eq!(workload.phase[0].duration, Some(Duration::from_millis(1500)));
        let json = r#"{"operation": {"root": {"kind": "raw", "method": "GET", "path": "/"}},
                       "phase": [{"name": "p", "clients": 2, "think": "5ms", "requests": 9}]}"#;
        assert_eq!(Workload::parse(json, true).unwrap().phase[0].requests, Some(9));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expected: &str| {
            let found = error(text);
            assert!(found.contains(expected), "{text}: {found}");
        };
        check("", "no [[phase]]");
        check("[[phase]]\nname = 'p'\nrate = 10\nduration = '1s'\nspeed = 3\n", "unknown field `speed`");
        check("[source.x]\nkind = 'magic'\n", "unknown variant `magic`");
        check("[[phase]]\nname = 'p'\nrate = 10\nduration = '1 day'\n", "is no duration");
        check("[[phase]]\nname = 'p'\nduration = '1s'\n", "phase [p]: one of rate, clients, ramp");
        check("[[phase]]\nname = 'p'\nrate = 1\nclients = 1\nduration = '1s'\n", "one of rate, clients, ramp");
        check("[[phase]]\nname = 'p'\nrate = 0\nduration = '1s'\n", "rate: above 0");
        check("[[phase]]\nname = 'p'\nrate = 1\n", "either duration or requests");
        check("[[phase]]\nname = 'p'\nrate = 1\nthink = '1s'\nduration = '1s'\n", "think goes with clients");
        check("[[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\nmix = { rot = 1 }\n", "no operation [rot]");
        check("[[phase]]\nname = 'p'\nduration = '1s'\nramp = { from = 9, to = 3 }\n", "to is below from");
        check("[data]\nlimit = 3\n[[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\n", "either file or builtin");
        check("[[setup]]\nload = 3\npath = '/'\n[[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\n", "setup 1");
        let two = "[[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\n".repeat(2);
        check(&two, "two phases [p]");
    }

    #[test]
    fn the_page_describes_the_format() {
        let page = format_page();
        assert!(page.starts_with("Workload files: ") && page.trim_end().ends_with("percent-encoded."), "{page}");
        for key in ["[operation.NAME]", "think_poisson", "p99_max", "achieved_min", "connections", "exponent", "prefix"]
        {
            assert!(page.contains(key), "{key}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["", "5", "s", "-1s", "1e3s", "1.2.3s", "99999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
