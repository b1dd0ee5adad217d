//! Clients that write and read a few documents through all nodes and remember what they were told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::calls::{self, Dice};
use crate::history::{Call, Op, Outcome, Version};
use crate::http::{Client, Lost};

/// How long a client keeps away from a node that did not answer.
const AVOIDED: Duration = Duration::from_millis(500);

/// What the clients ask for, and where.
#[derive(Clone)]
pub struct Plan {
    pub index: String,
    pub nodes: Vec<SocketAddr>,
    pub clients: usize,
    pub documents: u32,
    /// How long a client waits for an answer.
    pub timeout: Duration,
    /// Between two requests of a client.
    pub pause: Duration,
    /// Appended to the path of reads, such as `?preference=_primary`.
    pub read_parameters: &'static str,
}

/// Clients at work.
pub struct Workload {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Op>>>,
}

struct Shared {
    plan: Plan,
    stop: AtomicBool,
    begun: Instant,
    values: AtomicU64,
    /// The newest version that anyone was told, by document.
    newest: Mutex<HashMap<u32, Version>>,
    /// Answers that a client should not get, with how often.
    strange: Mutex<HashMap<String, usize>>,
    written: AtomicU64,
}

impl Workload {
    pub fn start(plan: Plan) -> Workload {
        let shared = Arc::new(Shared {
            plan,
            stop: AtomicBool::new(false),
            begun: Instant::now(),
            values: AtomicU64::new(1),
            newest: Mutex::default(),
            strange: Mutex::default(),
            written: AtomicU64::new(0),
        });
        let client = |n: usize| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(n))
        };
        let threads = (0..shared.plan.clients).map(client).collect();
        Workload { shared, threads }
    }

    /// Nanoseconds on the clock of the history.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Writes acknowledged so far.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Ends the clients, reads every document once more from `node`, and hands over everything.
    pub fn finish(self, node: SocketAddr) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut history: Vec<Op> = Vec::new();
        for thread in self.threads {
            history.extend(thread.join().expect("a client does not panic"));
        }
        let mut client = Client::new(node, Duration::from_secs(30));
        for document in 0..self.shared.plan.documents {
            let op = self.shared.one(&mut client, document, Call::Read);
            assert!(matches!(op.outcome, Outcome::Found(..) | Outcome::Missing), "final read: {op:?}");
            history.push(op);
        }
        let strange = std::mem::take(&mut *self.shared.strange.lock().expect("nobody panics with it"));
        Report { history, strange }
    }
}

/// What clients were told.
pub struct Report {
    pub history: Vec<Op>,
    /// Failures by kind.
    pub strange: HashMap<String, usize>,
}

impl Report {
    pub fn count(&self, of: impl Fn(&Outcome) -> bool) -> usize {
        self.history.iter().filter(|op| of(&op.outcome)).count()
    }

    /// One line of figures.
    pub fn summary(&self) -> String {
        format!(
            "{} requests: {} writes done, {} reads answered, {} conflicts, {} failed, {} unknown; longest write gap {} ms; {:?}",
            self.history.len(),
            self.count(|o| matches!(o, Outcome::Done(_))),
            self.count(|o| matches!(o, Outcome::Found(..) | Outcome::Missing)),
            self.count(|o| matches!(o, Outcome::Conflict)),
            self.count(|o| matches!(o, Outcome::Failed)),
            self.count(|o| matches!(o, Outcome::Unknown)),
            crate::history::longest_gap(&self.history) / 1_000_000,
            self.strange,
        )
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("not that long")
    }

    fn run(&self, me: usize) -> Vec<Op> {
        let mut dice = Dice::new(me as u64 + 1);
        let mut clients: Vec<Client> = self.plan.nodes.iter().map(|n| Client::new(*n, self.plan.timeout)).collect();
        let mut history = Vec::new();
        // A node that did not answer is left alone for a while, as any sensible client does.
        let mut avoid = vec![Instant::now(); clients.len()];
        while !self.stop.load(Ordering::Relaxed) {
            let mut node = dice.roll(clients.len() as u64) as usize;
            if let Some(better) =
                (0..clients.len()).map(|n| (node + n) % clients.len()).find(|n| avoid[*n] <= Instant::now())
            {
                node = better;
            }
            let document = dice.roll(u64::from(self.plan.documents)) as u32;
            let call = self.choose(&mut dice, document);
            let op = self.one(&mut clients[node], document, call);
            if matches!(op.outcome, Outcome::Unknown | Outcome::Failed) {
                avoid[node] = Instant::now() + AVOIDED;
            }
            history.push(op);
            std::thread::sleep(self.plan.pause);
        }
        history
    }

    fn choose(&self, dice: &mut Dice, document: u32) -> Call {
        let number = self.values.fetch_add(1, Ordering::Relaxed);
        let newest = self.newest.lock().expect("nobody panics with it").get(&document).copied();
        calls::choose(|sides| dice.roll(sides), document, number, newest)
    }

    /// Sends one request and notes what came of it.
    fn one(&self, client: &mut Client, document: u32, call: Call) -> Op {
        let begin = self.now();
        let answer = send(client, &self.plan, document, call);
        let end = self.now();
        let outcome = self.judge(call, answer);
        if let Outcome::Done(version) | Outcome::Found(_, version) = outcome {
            if matches!(outcome, Outcome::Done(_)) {
                self.written.fetch_add(1, Ordering::Relaxed);
            }
            let mut newest = self.newest.lock().expect("nobody panics with it");
            let known = newest.entry(document).or_insert(version);
            *known = version.max(*known);
        }
        Op { document, call, outcome, begin, end }
    }

    fn judge(&self, call: Call, answer: Result<(u16, Value), Lost>) -> Outcome {
        match answer {
            Ok((status, body)) => {
                let (outcome, strange) = calls::outcome(call, status, &body);
                if let Some(what) = strange {
                    *self.strange.lock().expect("nobody panics with it").entry(what).or_default() += 1;
                }
                outcome
            }
            Err(Lost::NotSent(_)) => Outcome::Failed,
            Err(Lost::Unknown(_)) => Outcome::Unknown,
        }
    }
}

fn send(client: &mut Client, plan: &Plan, document: u32, call: Call) -> Result<(u16, Value), Lost> {
    let wait_ms = plan.timeout.as_millis() / 2;
    let (method, path, body) = calls::request(&plan.index, document, call, wait_ms, plan.read_parameters);
    client.ask(method, &path, body.as_ref())
}
