//! Clients of simulated nodes: they ask the REST layer of any of them and remember what they were told.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::Run;
use super::calls;
use super::history::{Call, Op, Outcome};
use super::network::id;
use crate::backend::{Backend, SharedBackend};
use crate::io::{Lane, NodeIo};
use crate::mesh::OneShot;
use crate::node::tests::shard;
use crate::rest::router::handle;
use crate::rest::testing::request;
use crate::shard::message::ShardRequest;

/// Documents that clients write to: few, so that they meet.
pub(super) const DOCUMENTS: u32 = 8;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl Run {
    /// Sends a request to a node, as over HTTP: what it begins there goes on whether anybody waits or not. None: no answer.
    pub async fn ask(&self, node: usize, line: &str, body: &str) -> Option<(u16, Value)> {
        let core = self.cores.borrow().get(&node).cloned()?;
        let (line, body) = (line.to_owned(), body.to_owned());
        let answered: OneShot<(u16, Value)> = OneShot::default();
        let answer = answered.clone();
        let work = async move {
            let backend: SharedBackend = core;
            let rendered = handle(&backend, request(&line, &body, &[])).await;
            answered.set((rendered.status, serde_json::from_slice(&rendered.body).unwrap_or(Value::Null)));
        };
        self.world.machine(node as u32 + 1).spawn(Lane::Write, Box::pin(work));
        let patience = async {
            self.world.sleep(PATIENCE).await;
            None
        };
        futures_lite::future::or(async { Some(answer.get().await) }, patience).await
    }

    /// Any node that runs.
    pub fn any_node(&self) -> Option<usize> {
        let cores = self.cores.borrow();
        let at = self.world.random() as usize % super::NODES;
        if cores.contains_key(&at) { Some(at) } else { cores.keys().next().copied() }
    }

    /// One request for one document, remembered.
    pub async fn one(&self, node: usize, document: u32, call: Call) -> Outcome {
        let begin = self.world.monotonic_ns();
        let (method, path, body) = calls::request("a", document, call, 3_000, "");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = self.ask(node, &format!("{method} {path}"), &body).await;
        let outcome = answer.map_or(Outcome::Unknown, |(status, body)| calls::outcome(call, status, &body).0);
        let end = self.world.monotonic_ns();
        tracing::debug!(node, document, ?call, ?outcome, begin, end, "asked");
        self.note(Op { document, call, outcome, begin, end });
        outcome
    }

    fn note(&self, op: Op) {
        if let Outcome::Done(version) | Outcome::Found(_, version) = op.outcome {
            let mut newest = self.newest.borrow_mut();
            let known = newest.entry(op.document).or_insert(version);
            *known = version.max(*known);
        }
        self.history.borrow_mut().push(op);
    }

    pub fn next_value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    /// One client: works until told to stop.
    pub async fn client(self: Rc<Self>) {
        self.clients.set(self.clients.get() + 1);
        while !self.quiet.get() {
            self.world.sleep(Duration::from_millis(1 + self.world.random() % 30)).await;
            let Some(node) = self.any_node() else { continue };
            match self.world.random() % 40 {
                0..3 => self.commit(node).await,
                3 => drop(self.ask(node, "POST /a/_refresh", "").await),
                4 => drop(self.ask(node, "POST /a/_forcemerge?max_num_segments=1", "").await),
                5..8 => self.bulk(node).await,
                _ => {
                    let document = self.world.random() as u32 % DOCUMENTS;
                    let newest = self.newest.borrow().get(&document).copied();
                    let value = self.next_value();
                    let call = calls::choose(|sides| self.world.random() % sides, document, value, newest);
                    self.one(node, document, call).await;
                }
            }
        }
        self.clients.set(self.clients.get() - 1);
    }

    /// Some documents in one request, each of them once.
    async fn bulk(&self, node: usize) {
        let (mut body, mut calls) = (String::new(), Vec::new());
        for document in (0..DOCUMENTS).filter(|document| !calls::external(*document)) {
            let value = match self.world.random() % 8 {
                0..4 => continue,
                4 => None,
                _ => Some(self.next_value()),
            };
            match value {
                Some(value) => {
                    body += &format!("{{\"index\":{{\"_id\":\"d{document}\"}}}}\n{{\"value\":{value}}}\n");
                }
                None => body += &format!("{{\"delete\":{{\"_id\":\"d{document}\"}}}}\n"),
            }
            calls.push((document, Call::Write { value, condition: super::history::Condition::None }));
        }
        if calls.is_empty() {
            return;
        }
        let begin = self.world.monotonic_ns();
        let answer = self.ask(node, "POST /a/_bulk?timeout=3s", &body).await;
        let end = self.world.monotonic_ns();
        for (n, (document, call)) in calls.into_iter().enumerate() {
            let item = answer.as_ref().and_then(|(_, body)| body["items"][n].as_object()?.values().next());
            let judged = item.and_then(|item| Some(calls::outcome(call, item["status"].as_u64()? as u16, item).0));
            self.note(Op { document, call, outcome: judged.unwrap_or(Outcome::Unknown), begin, end });
        }
    }

    /// Commits one copy, not all.
    async fn commit(&self, node: usize) {
        let Some(core) = self.cores.borrow().get(&node).cloned() else { return };
        let (of, number) = (id(self.world.random() as usize % super::NODES), self.world.random() as u32 % self.shards);
        let work = async move {
            let flush = ShardRequest::Flush { force: false, wait_if_ongoing: true };
            let _ = core.copy(&shard("a", number), of, flush).await;
        };
        self.world.machine(node as u32 + 1).spawn(Lane::Write, Box::pin(work));
    }
}
