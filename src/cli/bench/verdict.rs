//! Whether an answer is a success. Bodies are looked into only where a status hides failures: bulks and searches.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::plan::Operation;
use super::record::Failure;
use super::workload::OperationKind;

/// What an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) failure: Option<Failure>,
    /// Documents of a bulk that were refused, by status.
    pub(super) refused: BTreeMap<u16, u64>,
}

#[derive(Deserialize)]
struct BulkAnswer<'a> {
    errors: bool,
    #[serde(borrow, default)]
    items: Vec<BTreeMap<Cow<'a, str>, BulkItem>>,
}

#[derive(Deserialize)]
struct BulkItem {
    status: u16,
}

#[derive(Deserialize)]
struct SearchAnswer {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

pub(super) fn judge(operation: &Operation, status: u16, body: &[u8]) -> Verdict {
    if !operation.expects(status) {
        return Verdict { failure: Some(Failure::Status(status)), ..Verdict::default() };
    }
    if !(200..300).contains(&status) {
        return Verdict::default();
    }
    match operation.kind {
        OperationKind::Bulk => bulk(operation, body),
        OperationKind::Search | OperationKind::Aggregate => Verdict { failure: search(body), ..Verdict::default() },
        _ => Verdict::default(),
    }
}

fn bulk(operation: &Operation, body: &[u8]) -> Verdict {
    // Without errors, which is told near the start, nobody needs the items.
    let start = &body[..body.len().min(128)];
    if find(start, b"\"errors\":false") {
        return Verdict::default();
    }
    let Ok(answer) = serde_json::from_slice::<BulkAnswer<'_>>(body) else {
        return Verdict { failure: Some(Failure::Protocol), ..Verdict::default() };
    };
    let mut verdict = Verdict::default();
    if answer.errors {
        for item in answer.items.iter().filter_map(|item| item.values().next()) {
            if !operation.expects(item.status) {
                *verdict.refused.entry(item.status).or_default() += 1;
            }
        }
    }
    verdict
}

fn search(body: &[u8]) -> Option<Failure> {
    let start = &body[..body.len().min(256)];
    if find(start, b"\"timed_out\":false") && find(start, b"\"failed\":0") {
        return None;
    }
    match serde_json::from_slice::<SearchAnswer>(body) {
        Ok(answer) if answer.timed_out || answer.shards.failed > 0 => Some(Failure::Partial),
        Ok(_) => None,
        Err(_) => Some(Failure::Protocol),
    }
}

fn find(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|w| w == what)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::workload::Workload;
    use super::*;

    fn judged(kind: &str, status: u16, body: &str) -> Verdict {
        let fields = match kind {
            "bulk" => "body = '{}'\nexpect = [409]",
            "get" => "id = '1'\nexpect = [404]",
            _ => "body = '{}'",
        };
        let text =
            format!("[operation.o]\nkind = '{kind}'\n{fields}\n[[phase]]\nname = 'p'\nrate = 1\nduration = '1s'\n");
        let workload = Workload::parse(&text, false).unwrap();
        let plan = Plan::new(&workload, None, std::path::Path::new("."), "h").unwrap();
        judge(&plan.operations[0], status, body.as_bytes())
    }

    fn failure(failure: Failure) -> Verdict {
        Verdict { failure: Some(failure), ..Verdict::default() }
    }

    #[test]
    fn statuses_decide_unless_expected() {
        assert_eq!(judged("get", 200, "{}"), Verdict::default());
        assert_eq!(judged("get", 404, "{}"), Verdict::default());
        assert_eq!(judged("get", 500, "{}"), failure(Failure::Status(500)));
    }

    #[test]
    fn a_bulk_counts_its_items() {
        let head = r#"{"took":1,"errors":"#;
        assert_eq!(judged("bulk", 200, &format!("{head}false,\"items\":[]}}")), Verdict::default());
        let items =
            r#"[{"index":{"status":429}},{"index":{"status":201}},{"create":{"status":409}},{"index":{"status":429}}]"#;
        let found = judged("bulk", 200, &format!("{head}true,\"items\":{items}}}"));
        assert_eq!((found.failure, found.refused), (None, BTreeMap::from([(429, 2)])));
        assert_eq!(judged("bulk", 200, "<html>"), failure(Failure::Protocol));
    }

    #[test]
    fn a_search_must_have_all_its_shards_in_time() {
        let body = |timed_out: bool, failed: u64| {
            format!(r#"{{"took":1,"timed_out":{timed_out},"_shards":{{"total":2,"failed":{failed}}},"hits":{{}}}}"#)
        };
        assert_eq!(judged("search", 200, &body(false, 0)), Verdict::default());
        assert_eq!(judged("search", 200, &body(true, 0)), failure(Failure::Partial));
        assert_eq!(judged("aggregate", 200, &body(false, 1)), failure(Failure::Partial));
        assert_eq!(judged("search", 200, ""), failure(Failure::Protocol));
    }
}
