//! Where the time of one request went: `?profile=timing`.
//!
//! A request that asks for it runs [`within`] a [`Timeline`]. Whatever records a stage on the way (see [`super::record`])
//! leaves a span there, too, so nothing has to be handed down; work that goes to another core has a timeline of its own
//! whose spans come back with the answer. Requests that do not ask pay one look at a thread local per stage.
//!
//! Spans nest and, where several shards work at once, overlap. The parts of an answer do neither: every moment belongs to
//! the span that began last of those still open, so the parts of a request add up to its time. What no span covers is
//! shown as `other`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::Stage;

/// Spans of one timeline; of more only the stage's last one grows. A bulk request leaves two per item.
const SPANS_MAX: usize = 8192;
/// Rows of the waterfall.
const ROWS_MAX: usize = 256;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Timeline>>> = const { RefCell::new(None) };
}

/// One stage of a request, from when to when.
#[derive(Clone, Debug)]
pub struct Span {
    stage: Stage,
    core: usize,
    /// `index[0]`
    shard: Option<Arc<str>>,
    start: Instant,
    end: Instant,
    count: u32,
}

/// What one core did for one request.
#[derive(Debug)]
pub struct Timeline {
    core: usize,
    shard: Option<Arc<str>>,
    spans: RefCell<Vec<Span>>,
}

impl Timeline {
    /// Of work on `core`, for `shard` if it is one shard's.
    #[must_use]
    pub fn new(core: usize, shard: Option<Arc<str>>) -> Rc<Timeline> {
        Rc::new(Timeline { core, shard, spans: RefCell::default() })
    }

    /// Notes a stage.
    pub fn note(&self, stage: Stage, start: Instant, end: Instant) {
        let mut spans = self.spans.borrow_mut();
        if spans.len() >= SPANS_MAX
            && let Some(last) = spans.iter_mut().rev().find(|span| span.stage == stage)
        {
            last.end = last.end.max(end);
            last.count += 1;
            return;
        }
        spans.push(Span { stage, core: self.core, shard: self.shard.clone(), start, end, count: 1 });
    }

    /// Adds what was done elsewhere for the same request.
    pub fn extend(&self, spans: Vec<Span>) {
        self.spans.borrow_mut().extend(spans);
    }

    /// Everything noted so far; the timeline is empty afterwards.
    #[must_use]
    pub fn take(&self) -> Vec<Span> {
        self.spans.take()
    }
}

/// The timeline of the request that this core is working on, if it has one.
#[must_use]
pub fn current() -> Option<Rc<Timeline>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Notes a stage that took `ns` and has just ended.
pub(super) fn note(stage: Stage, ns: u64) {
    CURRENT.with_borrow(|current| {
        if let Some(timeline) = current {
            let end = Instant::now();
            timeline.note(stage, end.checked_sub(Duration::from_nanos(ns)).unwrap_or(end), end);
        }
    });
}

/// Puts back what was there before, even when `poll` panics.
struct Restore(Option<Rc<Timeline>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Runs `work`; its stages go to `timeline`.
pub async fn within<F: Future>(timeline: Rc<Timeline>, work: F) -> F::Output {
    let mut work = pin!(work);
    std::future::poll_fn(move |cx| -> Poll<F::Output> {
        let _before = Restore(CURRENT.replace(Some(Rc::clone(&timeline))));
        work.as_mut().poll(cx)
    })
    .await
}

/// The same, without one.
pub async fn within_any<F: Future>(timeline: Option<Rc<Timeline>>, work: F) -> F::Output {
    match timeline {
        Some(timeline) => within(timeline, work).await,
        None => work.await,
    }
}

/// What a request spent its time on.
#[derive(Debug)]
pub struct Account {
    took: Duration,
    spans: Vec<Span>,
    /// Of each span, what no later one inside it took.
    own: Vec<Duration>,
    other: Duration,
    start: Instant,
}

impl Account {
    /// Of a request from `start` to `end`.
    #[must_use]
    pub fn new(start: Instant, end: Instant, mut spans: Vec<Span>) -> Account {
        for span in &mut spans {
            span.start = span.start.clamp(start, end);
            span.end = span.end.clamp(span.start, end);
        }
        spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        let mut own = vec![Duration::ZERO; spans.len()];
        let mut other = Duration::ZERO;
        let mut open: Vec<usize> = Vec::new();
        let mut now = start;
        // Time goes on to `until`; it belongs to the newest of the open spans.
        let mut advance = |open: &mut Vec<usize>, until: Instant, own: &mut [Duration]| {
            while now < until {
                while open.last().is_some_and(|&at| spans[at].end <= now) {
                    open.pop();
                }
                match open.last() {
                    None => {
                        other += until - now;
                        now = until;
                    }
                    Some(&at) => {
                        let stop = spans[at].end.min(until);
                        own[at] += stop - now;
                        now = stop;
                    }
                }
            }
        };
        for (at, span) in spans.iter().enumerate() {
            advance(&mut open, span.start, &mut own);
            open.push(at);
        }
        advance(&mut open, end, &mut own);
        Account { took: end.saturating_duration_since(start), spans, own, other, start }
    }

    /// Time per stage; together with `other` what the request took.
    #[must_use]
    pub fn stages(&self) -> Vec<(Stage, Duration)> {
        let mut out: Vec<(Stage, Duration)> = Vec::new();
        for (span, &own) in self.spans.iter().zip(&self.own) {
            match out.iter_mut().find(|(stage, _)| *stage == span.stage) {
                Some((_, sum)) => *sum += own,
                None => out.push((span.stage, own)),
            }
        }
        out
    }

    /// What no stage covers.
    #[must_use]
    pub fn other(&self) -> Duration {
        self.other
    }

    /// `query;dur=1.25, ...`, in milliseconds: a `Server-Timing` header (W3C).
    #[must_use]
    pub fn header(&self) -> String {
        let mut parts: Vec<String> =
            self.stages().iter().map(|(stage, took)| format!("{};dur={}", stage.name(), ms(*took))).collect();
        parts.push(format!("other;dur={}", ms(self.other)));
        parts.push(format!("total;dur={}", ms(self.took)));
        parts.join(", ")
    }

    /// `{"took_us":..,"stages":{..},"waterfall":[..]}`. Neighbours of the same stage and shard are one row.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut stages: Map<String, Value> =
            self.stages().iter().map(|(stage, took)| (stage.name().to_owned(), us(*took).into())).collect();
        stages.insert("other".to_owned(), us(self.other).into());
        let took = self.took.as_secs_f64();
        let accounted = if took > 0.0 { 1.0 - self.other.as_secs_f64() / took } else { 1.0 };
        json!({
            "took_us": us(self.took),
            "accounted": (accounted * 1e4).round() / 1e4,
            "stages": stages,
            "waterfall": self.waterfall(),
        })
    }

    fn waterfall(&self) -> Vec<Value> {
        struct Row<'a> {
            span: &'a Span,
            end: Instant,
            took: Duration,
            own: Duration,
            count: u32,
        }
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (span, &own) in self.spans.iter().zip(&self.own) {
            // A bulk request goes from parsing to buffering and back: look a little further than the last row.
            let near = rows.len().saturating_sub(4);
            let same = rows[near..].iter().rposition(|row| {
                (row.span.stage, row.span.core) == (span.stage, span.core)
                    && row.span.shard == span.shard
                    && row.end <= span.start
            });
            match same {
                Some(at) => {
                    let row = &mut rows[near + at];
                    row.end = span.end;
                    row.took += span.end - span.start;
                    row.own += own;
                    row.count += span.count;
                }
                None if rows.len() < ROWS_MAX => {
                    let took = span.end - span.start;
                    rows.push(Row { span, end: span.end, took, own, count: span.count });
                }
                None => {}
            }
        }
        let shown = |row: &Row<'_>| {
            let mut out = json!({
                "stage": row.span.stage.name(),
                "core": row.span.core,
                "start_us": us(row.span.start - self.start),
                "took_us": us(row.took),
                "self_us": us(row.own),
            });
            if row.count > 1 {
                out["count"] = row.count.into();
                out["until_us"] = us(row.end - self.start).into();
            }
            if let Some(shard) = &row.span.shard {
                out["shard"] = (&**shard).into();
            }
            out
        };
        rows.iter().map(shown).collect()
    }
}

fn us(took: Duration) -> f64 {
    (took.as_nanos() as f64 / 100.0).round() / 10.0
}

fn ms(took: Duration) -> f64 {
    (took.as_nanos() as f64 / 1000.0).round() / 1000.0
}

/// Adds `"timing"` to a JSON object's bytes; any other body stays as it is.
#[must_use]
pub fn add_to_body(body: &[u8], timing: &Value) -> Option<Vec<u8>> {
    let end = body.iter().rposition(|b| !b.is_ascii_whitespace())?;
    let first = body.iter().position(|b| !b.is_ascii_whitespace())?;
    if body[first] != b'{' || body[end] != b'}' {
        return None;
    }
    let empty = body[first + 1..end].iter().all(u8::is_ascii_whitespace);
    let mut out = Vec::with_capacity(body.len() + 1024);
    out.extend_from_slice(&body[..end]);
    out.extend_from_slice(if empty { b"\"timing\":" } else { b",\"timing\":" });
    out.extend_from_slice(timing.to_string().as_bytes());
    out.extend_from_slice(&body[end..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(t0: Instant, stage: Stage, from: u64, to: u64) -> Span {
        let at = |us| t0 + Duration::from_micros(us);
        Span { stage, core: 0, shard: None, start: at(from), end: at(to), count: 1 }
    }

    #[test]
    fn what_is_inside_another_is_not_counted_twice() {
        let t0 = Instant::now();
        let spans =
            vec![span(t0, Stage::Coordinate, 10, 90), span(t0, Stage::Query, 20, 50), span(t0, Stage::Fetch, 60, 70)];
        let account = Account::new(t0, t0 + Duration::from_micros(100), spans);
        let micros = Duration::from_micros;
        assert_eq!(
            account.stages(),
            [(Stage::Coordinate, micros(40)), (Stage::Query, micros(30)), (Stage::Fetch, micros(10))]
        );
        assert_eq!(account.other(), micros(20));
        assert_eq!(account.to_json()["accounted"], 0.8);
        assert_eq!(
            account.header(),
            "coordinate;dur=0.04, query;dur=0.03, fetch;dur=0.01, other;dur=0.02, total;dur=0.1"
        );
    }

    proptest! {
        #[test]
        fn parts_add_up_and_each_moment_is_the_newest_open_spans(
            all in prop::collection::vec((0u64..200, 0u64..80), 0..20)
        ) {
            let t0 = Instant::now();
            let stages = Stage::ALL;
            let spans: Vec<Span> = all.iter().enumerate()
                .map(|(i, &(from, len))| span(t0, stages[i % stages.len()], from, from + len)).collect();
            let account = Account::new(t0, t0 + Duration::from_micros(150), spans);
            let sum: Duration = account.own.iter().sum();
            prop_assert_eq!(sum + account.other(), Duration::from_micros(150));
            let mut own = vec![0u64; account.spans.len()];
            for us in 0..150 {
                let now = t0 + Duration::from_micros(us);
                if let Some(at) = account.spans.iter().rposition(|s| s.start <= now && now < s.end) {
                    own[at] += 1;
                }
            }
            let shown: Vec<u64> = account.own.iter().map(|d| d.as_micros() as u64).collect();
            prop_assert_eq!(own, shown);
        }
    }

    #[test]
    fn stages_go_to_the_timeline_of_the_work_that_is_polled() {
        let (a, b) = (Timeline::new(0, None), Timeline::new(0, Some("i[1]".into())));
        let step = |stage| async move {
            super::super::record(stage, 10);
            futures_lite::future::yield_now().await;
            super::super::record(stage, 10);
        };
        futures_lite::future::block_on(async {
            let outer = within(Rc::clone(&a), async {
                futures_lite::future::zip(step(Stage::Query), within(Rc::clone(&b), step(Stage::Fetch))).await;
            });
            outer.await;
            step(Stage::Merge).await;
        });
        let stages = |t: &Timeline| t.take().iter().map(|s| s.stage).collect::<Vec<_>>();
        assert_eq!(stages(&a), [Stage::Query; 2]);
        let spans = b.spans.borrow();
        assert!(
            spans.len() == 2 && spans.iter().all(|s| s.stage == Stage::Fetch && s.shard.as_deref() == Some("i[1]"))
        );
        assert!(current().is_none());
    }

    #[test]
    fn objects_take_the_timing_and_nothing_else_does() {
        let timing = json!({"took_us": 1});
        let added = |body: &str| add_to_body(body.as_bytes(), &timing).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(added("{}").unwrap(), r#"{"timing":{"took_us":1}}"#);
        assert_eq!(added("{\"a\":1}\n").unwrap(), "{\"a\":1,\"timing\":{\"took_us\":1}}\n");
        assert_eq!(added("[1]"), None);
        assert_eq!(added(""), None);
    }
}
