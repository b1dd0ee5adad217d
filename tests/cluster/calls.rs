//! What clients of a few documents ask for, as requests of the REST API, and what the answers mean.

use serde_json::{Value, json};

use super::history::{Call, Condition, Outcome, Version};

/// A small generator of numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Every fourth document has external versions.
pub fn external(document: u32) -> bool {
    document % 4 == 3
}

/// The next request for `document`: `roll` gives a number below another, `number` has never been used before, and `newest`
/// is the highest version that anyone was told.
pub fn choose(mut roll: impl FnMut(u64) -> u64, document: u32, number: u64, newest: Option<Version>) -> Call {
    let kind = roll(100);
    if kind < 42 {
        return Call::Read;
    }
    let value = Some(number);
    if external(document) {
        // Mostly the highest so far, sometimes one that comes too late.
        let version = number.saturating_sub(roll(20)).max(1);
        return Call::Write { value, condition: Condition::Above(version) };
    }
    match (kind, newest) {
        (42..52, _) => Call::Write { value: None, condition: Condition::None },
        (52..62, _) => Call::Write { value, condition: Condition::Absent },
        (62..82, Some(version)) => Call::Write { value, condition: Condition::At(version) },
        _ => Call::Write { value, condition: Condition::None },
    }
}

/// Method, path and body. A write waits for its copies for `timeout_ms`; `read_parameters` such as `?preference=_primary`
/// are appended to the path of a read.
pub fn request(
    index: &str,
    document: u32,
    call: Call,
    timeout_ms: u128,
    read_parameters: &str,
) -> (&'static str, String, Option<Value>) {
    let Call::Write { value, condition } = call else {
        return ("GET", format!("/{index}/_doc/d{document}{read_parameters}"), None);
    };
    let condition = match condition {
        Condition::None => String::new(),
        Condition::Absent => "&op_type=create".into(),
        Condition::At((term, seq_no)) => format!("&if_seq_no={seq_no}&if_primary_term={term}"),
        Condition::Above(version) => format!("&version={version}&version_type=external"),
    };
    let path = format!("/{index}/_doc/d{document}?timeout={timeout_ms}ms{condition}");
    match value {
        Some(value) => ("PUT", path, Some(json!({ "value": value }))),
        None => ("DELETE", path, None),
    }
}

/// What an answer says; with a word for the statistics if it is none that a client should get from a healthy cluster.
pub fn outcome(call: Call, status: u16, body: &Value) -> (Outcome, Option<String>) {
    let version = body["_primary_term"].as_u64().zip(body["_seq_no"].as_u64());
    match (call, status, version) {
        (Call::Read, 200, Some(version)) => match body["_source"]["value"].as_u64() {
            Some(value) => (Outcome::Found(value, version), None),
            None => panic!("a document without its value: {body}"),
        },
        (Call::Read, 404, None) if body["found"] == false => (Outcome::Missing, None),
        (Call::Write { .. }, 200 | 201 | 404, Some(version)) => (Outcome::Done(version), None),
        (Call::Write { .. }, 409, None) => (Outcome::Conflict, None),
        _ => {
            let kind = body["error"]["type"].as_str().unwrap_or("?");
            let reason = body["error"]["reason"].as_str().unwrap_or_default();
            // Of what the server says about itself, this much is a promise: it did nothing.
            let not_done =
                ["cluster_block_exception", "unavailable_shards_exception", "es_rejected_execution_exception"];
            if not_done.contains(&kind) {
                (Outcome::Failed, Some(format!("{status} {kind}")))
            } else {
                (Outcome::Unknown, Some(format!("{status} {kind}: {reason}")))
            }
        }
    }
}
