//! A workload made ready: request `k` of a run as bytes.
//!
//! Which operation request `k` is, and every value in it, follows from seed, run and `k` (and, for sequential sources, from
//! how many requests before it drew). Threads share the requests out by number, so neither their count nor the server's
//! speed changes what is sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::data::Data;
use super::random::Random;
use super::source::{Place, Source};
use super::template::{Target, Template};
use super::workload::{OperationKind, OperationSpec, Workload};

/// Sources and operations of a workload.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) operations: Vec<Operation>,
    sources: Vec<Source>,
    /// `host` and the workload's own headers, with line ends.
    headers: String,
}

/// One kind of request.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) kind: OperationKind,
    pub(super) weight: f64,
    /// Documents in a request: more than one in a bulk.
    pub(super) documents: u32,
    pub(super) method: String,
    expect: Vec<u16>,
    target: Template,
    body: Option<Body>,
    sources: Vec<usize>,
}

#[derive(Debug)]
enum Body {
    Json(Template),
    /// Lines of every document.
    Bulk(Template),
}

impl Operation {
    pub(super) fn expects(&self, status: u16) -> bool {
        (200..300).contains(&status) || self.expect.contains(&status)
    }
}

impl Plan {
    /// Compiles `workload`, whose files are relative to `base`, for a server at `host`.
    pub(super) fn new(workload: &Workload, data: Option<&Arc<Data>>, base: &Path, host: &str) -> Result<Plan, String> {
        let made = workload.source.iter().map(|(name, spec)| Source::new(name, spec, data, base));
        let mut sources = made.collect::<Result<Vec<_>, _>>()?;
        let mut headers = format!("host: {host}\r\n");
        for (name, value) in &workload.headers {
            let plain = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || !plain(value) {
                return Err(format!("headers: [{name}] or its value cannot be sent"));
            }
            headers.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut operations = Vec::new();
        for (name, spec) in &workload.operation {
            let made = Operation::new(name, spec, &mut sources, &workload.index);
            operations.push(made.map_err(|e| format!("operation [{name}]: {e}"))?);
        }
        let plan = Plan { seed: workload.seed, operations, sources, headers };
        plan.try_out()?;
        Ok(plan)
    }

    /// One request of each operation: what should be JSON is JSON.
    fn try_out(&self) -> Result<(), String> {
        for index in 0..self.operations.len() {
            let operation = &self.operations[index];
            let mut stream = Stream::new(self, 0, &Mix::only(self, index));
            let mut request = Request::default();
            stream.next(self, &mut request);
            if request.target.bytes().any(|b| b <= b' ' || b >= 0x7f) {
                return Err(format!(
                    "operation [{}]: [{}] has bytes that a URL has not",
                    operation.name, request.target
                ));
            }
            if operation.kind == OperationKind::Raw {
                continue;
            }
            for line in request.body.lines() {
                if let Err(e) = serde_json::from_str::<serde::de::IgnoredAny>(line)
                    // A body other than of a bulk may have several lines.
                    && (operation.kind == OperationKind::Bulk
                        || serde_json::from_str::<serde::de::IgnoredAny>(&request.body).is_err())
                {
                    return Err(format!("operation [{}]: the body is not JSON: {e}: {line}", operation.name));
                }
            }
        }
        Ok(())
    }

    /// Weights of a phase.
    pub(super) fn mix(&self, mix: Option<&BTreeMap<String, f64>>) -> Result<Mix, String> {
        let weight = |o: &Operation| mix.map_or(o.weight, |mix| mix.get(&o.name).copied().unwrap_or(0.0));
        let weights: Vec<f64> = self.operations.iter().map(weight).collect();
        if weights.iter().any(|w| !(w.is_finite() && *w >= 0.0)) || weights.iter().sum::<f64>() <= 0.0 {
            return Err("weights: not below 0, and one above it".into());
        }
        Ok(Mix::new(&weights))
    }
}

impl Operation {
    fn new(name: &str, spec: &OperationSpec, sources: &mut [Source], index: &str) -> Result<Operation, String> {
        use OperationKind::{Aggregate, Bulk, Delete, Get, Index, Raw, Search, Update};
        let kind = spec.kind;
        let given = [
            ("id", spec.id.is_some(), matches!(kind, Index | Update | Get | Delete | Bulk)),
            ("body", spec.body.is_some(), !matches!(kind, Get | Delete)),
            ("index", spec.index.is_some(), kind != Raw),
            ("method", spec.method.is_some(), kind == Raw),
            ("path", spec.path.is_some(), kind == Raw),
            ("documents", spec.documents.is_some(), kind == Bulk),
            ("action", spec.action.is_some(), kind == Bulk),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, given, fits)| *given && !fits) {
            return Err(format!("[{key}] does not go with this kind"));
        }
        let index = spec.index.as_deref().unwrap_or(index);
        let id = || spec.id.as_deref().ok_or("needs id");
        let body = || spec.body.as_deref().ok_or("needs body");
        let (method, path) = match kind {
            Index if spec.id.is_none() => ("POST", "/{{index}}/_doc".to_owned()),
            Index => ("PUT", format!("/{{{{index}}}}/_doc/{}", id()?)),
            Update => ("POST", format!("/{{{{index}}}}/_update/{}", id()?)),
            Get => ("GET", format!("/{{{{index}}}}/_doc/{}", id()?)),
            Delete => ("DELETE", format!("/{{{{index}}}}/_doc/{}", id()?)),
            Search => ("POST", "/{{index}}/_search".to_owned()),
            Aggregate => ("POST", "/{{index}}/_search?size=0".to_owned()),
            Bulk => ("POST", "/{{index}}/_bulk".to_owned()),
            Raw => {
                let method = spec.method.as_deref().ok_or("needs method")?;
                if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
                    return Err(format!("[{method}] is no method"));
                }
                let path = spec.path.clone().filter(|p| p.starts_with('/')).ok_or("needs path, from / on")?;
                (method, path)
            }
        };
        let separator = if path.contains('?') { '&' } else { '?' };
        let target = match &spec.parameters {
            Some(parameters) => format!("{path}{separator}{parameters}"),
            None => path,
        };
        let documents = spec.documents.unwrap_or(if kind == Bulk { 100 } else { 1 });
        if !(1..=100_000).contains(&documents) {
            return Err("documents: 1 to 100000".into());
        }
        let made = match kind {
            Bulk => Some(Body::Bulk(Template::parse(&bulk_text(spec)?, Target::Body, sources, index)?)),
            Index | Update | Search | Aggregate => {
                Some(Body::Json(Template::parse(body()?, Target::Body, sources, index)?))
            }
            Get | Delete => None,
            Raw => match &spec.body {
                Some(body) => Some(Body::Json(Template::parse(body, Target::Body, sources, index)?)),
                None => None,
            },
        };
        let target = Template::parse(&target, Target::Url, sources, index)?;
        let mut used = target.sources();
        if let Some(Body::Json(body) | Body::Bulk(body)) = &made {
            used.extend(body.sources());
        }
        Ok(Operation {
            name: name.to_owned(),
            kind,
            weight: spec.weight,
            documents,
            method: method.to_owned(),
            expect: spec.expect.clone(),
            target,
            body: made,
            sources: used.into_iter().collect(),
        })
    }

    /// How often a request draws from each of its sources.
    fn drawn_times(&self) -> u64 {
        u64::from(self.documents)
    }
}

/// The lines of one document of a bulk.
fn bulk_text(spec: &OperationSpec) -> Result<String, String> {
    let action = spec.action.as_deref().unwrap_or("index");
    if !matches!(action, "index" | "create" | "update" | "delete") {
        return Err(format!("action [{action}] is not index, create, update or delete"));
    }
    let meta = match &spec.id {
        Some(id) => format!("{{\"{action}\":{{\"_id\":\"{id}\"}}}}\n"),
        None if matches!(action, "index" | "create") => format!("{{\"{action}\":{{ }}}}\n"),
        None => return Err(format!("[{action}] needs id")),
    };
    match (action, &spec.body) {
        ("delete", None) => Ok(meta),
        ("delete", Some(_)) => Err("a delete has no body".into()),
        (_, Some(body)) if body.contains('\n') => Err("the body of a bulk's document is one line".into()),
        (_, Some(body)) => Ok(format!("{meta}{body}\n")),
        (_, None) => Err("needs body".into()),
    }
}

/// Cumulated shares of the operations.
#[derive(Clone, Debug)]
pub(super) struct Mix(Vec<f64>);

impl Mix {
    fn new(weights: &[f64]) -> Mix {
        let whole: f64 = weights.iter().sum();
        let mut sum = 0.0;
        Mix(weights
            .iter()
            .map(|w| {
                sum += w / whole;
                sum
            })
            .collect())
    }

    fn only(plan: &Plan, index: usize) -> Mix {
        Mix((0..plan.operations.len()).map(|i| if i >= index { 1.0 } else { 0.0 }).collect())
    }

    fn choose(&self, random: &mut Random) -> usize {
        let at = random.unit();
        // Rounding may leave the last share a little below 1; then the last with any weight is meant.
        self.0.iter().position(|share| at < *share).unwrap_or_else(|| {
            let last = self.0.last().copied().unwrap_or(0.0);
            self.0.iter().position(|share| *share >= last).unwrap_or(0)
        })
    }

    /// Operations that are sent at all.
    pub(super) fn used(&self) -> Vec<usize> {
        let before = |i: usize| if i == 0 { 0.0 } else { self.0[i - 1] };
        (0..self.0.len()).filter(|i| self.0[*i] > before(*i)).collect()
    }
}

/// A request, ready to be sent. Its memory is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) operation: usize,
    pub(super) bytes: Vec<u8>,
    target: String,
    body: String,
}

/// The requests of a run in order, of which a thread makes its own and passes over the others'.
#[derive(Debug)]
pub(super) struct Stream {
    run: u64,
    mix: Mix,
    next: u64,
    /// Draws of each source so far.
    counts: Vec<u64>,
    drawn: Vec<Vec<u64>>,
}

impl Stream {
    pub(super) fn new(plan: &Plan, run: u64, mix: &Mix) -> Stream {
        let n = plan.sources.len();
        Stream { run, mix: mix.clone(), next: 0, counts: vec![0; n], drawn: vec![Vec::new(); n] }
    }

    fn choose(&self, plan: &Plan) -> (usize, Random) {
        let mut random = Random::of(&[plan.seed, self.run, self.next]);
        (self.mix.choose(&mut random), random)
    }

    /// Passes over a request.
    pub(super) fn skip(&mut self, plan: &Plan) {
        let (operation, _) = self.choose(plan);
        self.passed(plan, operation);
    }

    fn passed(&mut self, plan: &Plan, operation: usize) {
        let operation = &plan.operations[operation];
        for source in &operation.sources {
            self.counts[*source] += operation.drawn_times();
        }
        self.next += 1;
    }

    /// Makes the next request.
    pub(super) fn next(&mut self, plan: &Plan, into: &mut Request) {
        let (index, mut random) = self.choose(plan);
        let operation = &plan.operations[index];
        into.target.clear();
        into.body.clear();
        for document in 0..operation.documents {
            let place = Place { run: self.run, request: self.next, document };
            for source in &operation.sources {
                let before = self.counts[*source] + u64::from(document);
                plan.sources[*source].draw(&mut random, before, &mut self.drawn[*source]);
            }
            if document == 0 {
                operation.target.write(&plan.sources, &self.drawn, place, &mut into.target);
            }
            if let Some(Body::Json(body) | Body::Bulk(body)) = &operation.body {
                body.write(&plan.sources, &self.drawn, place, &mut into.body);
            }
        }
        (into.number, into.operation) = (self.next, index);
        let out = &mut into.bytes;
        out.clear();
        let mut push = |text: &str| out.extend_from_slice(text.as_bytes());
        for piece in [&operation.method, " ", &into.target, " HTTP/1.1\r\n", &plan.headers] {
            push(piece);
        }
        if operation.body.is_some() {
            let bulk = operation.kind == OperationKind::Bulk;
            push(if bulk { "content-type: application/x-ndjson\r\n" } else { "content-type: application/json\r\n" });
            push("content-length: ");
            push(&into.body.len().to_string());
            push("\r\n");
        } else if matches!(operation.method.as_str(), "POST" | "PUT") {
            push("content-length: 0\r\n");
        }
        push("\r\n");
        push(&into.body);
        self.passed(plan, index);
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::DataFile;
    use super::*;

    const FILE: &str = r#"
        seed = 5
        [data]
        builtin = "accounts"
        [source.row]
        kind = "rows"
        order = "sequential"
        [source.id]
        kind = "fresh"
        [source.word]
        kind = "words"
        field = "address"
        order = "zipf"
        [operation.a-get]
        kind = "get"
        id = "{{row._id}}"
        weight = 2
        [operation.b-search]
        kind = "search"
        body = '{"query":{"match":{"address":"{{word}}"}}}'
        [operation.c-bulk]
        kind = "bulk"
        documents = 3
        id = "{{row._id}}{{id}}"
        body = "{{row}}"
        parameters = "refresh=false"
        [[phase]]
        name = "p"
        rate = 5
        duration = "1s"
    "#;

    fn plan_of(text: &str) -> Result<Plan, String> {
        let workload = Workload::parse(text, false)?;
        let file =
            workload.data.clone().unwrap_or(DataFile { file: None, builtin: Some("accounts".into()), limit: None });
        let data = Arc::new(Data::read(&file, Path::new("."))?);
        Plan::new(&workload, Some(&data), Path::new("."), "h:1")
    }

    fn requests(plan: &Plan, run: u64, threads: u64, count: u64) -> Vec<(usize, String)> {
        let mix = plan.mix(None).unwrap();
        let mut all = BTreeMap::new();
        for thread in 0..threads {
            let (mut stream, mut request) = (Stream::new(plan, run, &mix), Request::default());
            for k in 0..count {
                if k % threads == thread {
                    stream.next(plan, &mut request);
                    all.insert(request.number, (request.operation, String::from_utf8(request.bytes.clone()).unwrap()));
                } else {
                    stream.skip(plan);
                }
            }
        }
        assert_eq!(all.len() as u64, count);
        all.into_values().collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_whatever_the_threads() {
        let plan = plan_of(FILE).unwrap();
        let once = requests(&plan, 1, 1, 200);
        assert_eq!(once, requests(&plan_of(FILE).unwrap(), 1, 3, 200));
        assert_ne!(once, requests(&plan, 2, 1, 200));
        assert_ne!(once, requests(&plan_of(&FILE.replace("seed = 5", "seed = 6")).unwrap(), 1, 1, 200));
        let gets = once.iter().filter(|(operation, _)| *operation == 0).count();
        assert!((70..130).contains(&gets), "half of them: {gets}");
    }

    #[test]
    fn requests_are_whole() {
        let plan = plan_of(FILE).unwrap();
        let all = requests(&plan, 1, 1, 50);
        let first = |operation| &all.iter().find(|(o, _)| *o == operation).unwrap().1;
        let get = first(0);
        assert!(get.starts_with("GET /bench/_doc/") && get.ends_with(" HTTP/1.1\r\nhost: h:1\r\n\r\n"), "{get}");
        let search = first(1);
        let (head, body) = search.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{search}");
        assert!(body.starts_with(r#"{"query":{"match":{"address":""#), "{search}");
        let bulk = first(2);
        assert!(bulk.starts_with("POST /bench/_bulk?refresh=false HTTP/1.1\r\n"), "{bulk}");
        let lines: Vec<&str> = bulk.split_once("\r\n\r\n").unwrap().1.lines().collect();
        assert_eq!(lines.len(), 6);
        // A document's id and body are of the same row.
        let number =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["account_number"].to_string();
        assert!(lines[2].starts_with(&format!("{{\"index\":{{\"_id\":\"{}1-", number(lines[3]))), "{}", lines[2]);
        assert_ne!(lines[1], lines[3]);
    }

    #[test]
    fn a_mix_sends_only_what_it_names() {
        let plan = plan_of(FILE).unwrap();
        let mix = plan.mix(Some(&BTreeMap::from([("b-search".to_owned(), 1.0)]))).unwrap();
        assert_eq!(mix.used(), [1]);
        assert!((0..100).all(|k| mix.choose(&mut Random::of(&[k])) == 1));
        assert!(plan.mix(Some(&BTreeMap::from([("b-search".to_owned(), 0.0)]))).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        let check = |operation: &str, expected: &str| {
            let phase = "[[phase]]\nname = 'p'\nrate = 5\nduration = '1s'\n";
            let found = plan_of(&format!("[operation.o]\n{operation}\n{phase}")).unwrap_err();
            assert!(found.contains("operation [o]") && found.contains(expected), "{operation}: {found}");
        };
        check("kind = 'get'", "needs id");
        check("kind = 'get'\nid = '1'\nbody = '{}'", "[body] does not go with");
        check("kind = 'search'\nbody = '{\"query\":}'", "the body is not JSON");
        check("kind = 'search'\nbody = '{{x}}'", "no [source.x]");
        check("kind = 'bulk'\nbody = '{'", "the body is not JSON");
        check("kind = 'bulk'\nbody = '{}'\naction = 'upsert'", "action [upsert]");
        check("kind = 'bulk'\naction = 'delete'", "[delete] needs id");
        check("kind = 'raw'\nmethod = 'GET'\npath = 'x'", "needs path, from / on");
        check("kind = 'raw'\nmethod = 'get'\npath = '/'", "is no method");
        check("kind = 'raw'\nmethod = 'GET'\npath = '/a b'", "bytes that a URL has not");
    }

    #[test]
    fn bodies_of_several_lines_are_json_too() {
        let text = "[operation.o]\nkind = 'search'\nbody = '''{\n \"query\": {\"match_all\": {}}\n}'''\n\
                    [[phase]]\nname = 'p'\nrate = 5\nduration = '1s'\n";
        assert!(plan_of(text).is_ok());
    }
}
