//! What a thread measures: histograms and counts per operation, handed over whole at the end of every interval.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

/// Nanoseconds told apart at least; above, three digits are.
const LOWEST_NS: u64 = 128;
const HIGHEST_NS: u64 = 3600 * 1_000_000_000;
/// Messages of errors kept per thread and interval.
const SAMPLES_MAX: usize = 3;

/// A histogram of nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).expect("bounds that fit each other")
}

/// Why a request or a document failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect,
    /// No answer within the timeout after the intended send time.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// The answer is no HTTP or no JSON.
    Protocol,
    /// A status that is not expected.
    Status(u16),
    /// A document of a bulk was refused.
    Item(u16),
    /// A search timed out in the server or missed shards.
    Partial,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect => f.write_str("connect"),
            Failure::Timeout => f.write_str("timeout"),
            Failure::Closed => f.write_str("closed"),
            Failure::Protocol => f.write_str("protocol"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Item(status) => write!(f, "bulk item {status}"),
            Failure::Partial => f.write_str("partial"),
        }
    }
}

/// What was measured of one operation.
#[derive(Clone)]
pub(super) struct Measured {
    /// From the intended send time. Of answers that count as success, and of timeouts (what they took at least).
    pub(super) latency: Histogram<u64>,
    /// From the actual send time; of successes.
    pub(super) service: Histogram<u64>,
    /// Requests whose intended send time lies in the measured window.
    pub(super) intended: u64,
    /// Requests that succeeded, of those.
    pub(super) succeeded: u64,
    /// Requests that failed, of those.
    pub(super) failed: u64,
    /// Documents in successful requests, without those refused.
    pub(super) documents: u64,
    /// Successes that arrived within the window, whenever their requests were due: what throughput is made of.
    pub(super) arrived: u64,
    /// Documents in them.
    pub(super) documents_arrived: u64,
    pub(super) errors: BTreeMap<Failure, u64>,
}

impl Default for Measured {
    fn default() -> Measured {
        Measured {
            latency: histogram(),
            service: histogram(),
            intended: 0,
            succeeded: 0,
            failed: 0,
            documents: 0,
            arrived: 0,
            documents_arrived: 0,
            errors: BTreeMap::new(),
        }
    }
}

impl Measured {
    /// Adds another's.
    pub(super) fn add(&mut self, other: &Measured) {
        // All have the same bounds, so this cannot fail.
        self.latency.add(&other.latency).expect("equal bounds");
        self.service.add(&other.service).expect("equal bounds");
        self.intended += other.intended;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.documents += other.documents;
        self.arrived += other.arrived;
        self.documents_arrived += other.documents_arrived;
        for (failure, count) in &other.errors {
            *self.errors.entry(*failure).or_default() += count;
        }
    }

    fn clear(&mut self) {
        self.latency.reset();
        self.service.reset();
        (self.intended, self.succeeded, self.failed, self.documents) = (0, 0, 0, 0);
        (self.arrived, self.documents_arrived) = (0, 0);
        self.errors.clear();
    }
}

/// Everything of one interval: an entry per operation of the plan.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) operations: Vec<Measured>,
    /// How much later than possible requests were sent: the load generator's own fault.
    pub(super) lag: Histogram<u64>,
    pub(super) samples: Vec<String>,
}

impl Record {
    pub(super) fn new(operations: usize) -> Record {
        Record {
            operations: (0..operations).map(|_| Measured::default()).collect(),
            lag: histogram(),
            samples: Vec::new(),
        }
    }

    /// Adds another's.
    pub(super) fn add(&mut self, other: &Record) {
        for (mine, theirs) in self.operations.iter_mut().zip(&other.operations) {
            mine.add(theirs);
        }
        self.lag.add(&other.lag).expect("equal bounds");
        for sample in &other.samples {
            self.sample(|| sample.clone());
        }
    }

    /// Makes it as new; cheap where nothing was recorded.
    pub(super) fn clear(&mut self) {
        for operation in &mut self.operations {
            operation.clear();
        }
        self.lag.reset();
        self.samples.clear();
    }

    /// Keeps the message of an error, if it is one of the first.
    pub(super) fn sample(&mut self, message: impl FnOnce() -> String) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(message());
        }
    }

    /// All operations as one.
    pub(super) fn all(&self) -> Measured {
        let mut all = Measured::default();
        for operation in &self.operations {
            all.add(operation);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_add_up_and_start_anew() {
        let mut one = Record::new(2);
        one.operations[0].latency.saturating_record(1_000_000);
        one.operations[0].errors.insert(Failure::Status(429), 2);
        (one.operations[1].intended, one.operations[1].arrived) = (3, 4);
        let mut sum = Record::new(2);
        sum.add(&one);
        sum.add(&one);
        let all = sum.all();
        assert_eq!((all.latency.len(), all.intended, all.arrived, all.errors[&Failure::Status(429)]), (2, 6, 8, 4));
        sum.clear();
        let all = sum.all();
        assert_eq!((all.latency.len(), all.intended, all.arrived, all.errors.len()), (0, 0, 0, 0));
    }

    #[test]
    fn values_keep_three_digits_from_a_microsecond_to_an_hour() {
        let mut h = histogram();
        for value in [128_000u64, 1_234_567, 98_765_432_100, 3_599_000_000_000] {
            h.saturating_record(value);
            let back = h.max();
            assert!((back as f64 / value as f64 - 1.0).abs() < 0.001, "{value}: {back}");
        }
        h.saturating_record(u64::MAX);
        assert!(h.max() >= HIGHEST_NS);
    }
}
