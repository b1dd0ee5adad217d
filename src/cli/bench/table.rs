//! Results as tables for a terminal.

use std::fmt::Write as _;

use super::results::{Ramp, Run};

/// Lag beyond this share of a percentile makes it the load generator's as much as the server's.
const LAG_SHARE: f64 = 0.1;

/// A table of text columns: the first to the left, the others to the right.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, text) in row.iter().enumerate() {
            let pad = " ".repeat(widths[c] - text.chars().count());
            let _ = if c == 0 { write!(line, "{text}{pad}") } else { write!(line, "  {pad}{text}") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Microseconds as milliseconds, with as many digits as matter.
pub(super) fn ms(us: f64) -> String {
    let ms = us / 1e3;
    if ms >= 1000.0 {
        format!("{ms:.0}")
    } else if ms >= 100.0 {
        format!("{ms:.1}")
    } else if ms >= 1.0 {
        format!("{ms:.2}")
    } else {
        format!("{ms:.3}")
    }
}

/// The table of a run: an operation a line, latencies in milliseconds.
pub(super) fn of_run(run: &Run) -> String {
    let pace = match run.rate {
        Some(rate) => format!("open loop, {rate:.0}/s, at most {} connections", run.connections),
        None => format!("closed loop, {} clients", run.connections),
    };
    let mut out = format!("\n{}: {pace}, {:.1} s\n", run.title(), run.seconds);
    let head = "operation,intended/s,achieved/s,p50 ms,p90,p99,p99.9,p99.99,max,service p50,p99,failed";
    let mut rows: Vec<Vec<String>> = vec![head.split(',').map(str::to_owned).collect()];
    for o in &run.operations {
        let (l, s) = (&o.latency, &o.service);
        let intended = if run.rate.is_some() { format!("{:.1}", o.intended_per_s) } else { "-".into() };
        let mut row = vec![o.name.clone(), intended, format!("{:.1}", o.achieved_per_s)];
        let values = [l.p50_us, l.p90_us, l.p99_us, l.p99_9_us, l.p99_99_us, l.max_us, s.p50_us, s.p99_us];
        row.extend(values.map(ms));
        row.push(o.failed.to_string());
        rows.push(row);
    }
    out.push_str(&aligned(&rows));
    for o in &run.operations {
        if o.name != "all" && o.documents_per_s > o.achieved_per_s * 1.001 {
            let _ = writeln!(out, "{}: {:.0} documents/s", o.name, o.documents_per_s);
        }
        if !o.errors.is_empty() && o.name != "all" {
            let list: Vec<String> = o.errors.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
            let _ = writeln!(out, "{}: {}", o.name, list.join(", "));
        }
    }
    for sample in &run.samples {
        let _ = writeln!(out, "  e.g. {sample}");
    }
    if let Some(warning) = lag_warning(run) {
        let _ = writeln!(out, "{warning}");
    }
    out
}

/// Says so when the load generator itself was late.
pub(super) fn lag_warning(run: &Run) -> Option<String> {
    let all = &run.operations.first()?.latency;
    let checks = [("p50", run.lag.p50_us, all.p50_us), ("p99", run.lag.p99_us, all.p99_us)];
    let (name, lag, latency) = checks.into_iter().find(|(_, lag, latency)| *lag > latency * LAG_SHARE)?;
    Some(format!(
        "The load generator was late: {name} of its own delay is {} ms, of the latency {} ms. \
         Give it cores of its own (--cores) or more of them.",
        ms(lag),
        ms(latency)
    ))
}

/// What a ramp found, in a sentence.
pub(super) fn of_ramp(ramp: &Ramp) -> String {
    let knee = match ramp.knee {
        Some(rate) => format!("{}: the knee is at {rate:.0}/s", ramp.phase),
        None => format!("{}: no step was within the bounds", ramp.phase),
    };
    match &ramp.broke {
        Some(why) => format!("{knee}; {why}."),
        None => format!("{knee}, the last step; it may be higher."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "1".into()], vec!["long".to_owned(), "123".into()]];
        assert_eq!(aligned(&rows), "a       1\nlong  123\n");
    }

    #[test]
    fn times_have_the_digits_that_matter() {
        let found = [1.0, 123.4, 1234.0, 123_456.0, 5_000_000.0].map(ms);
        assert_eq!(found, ["0.001", "0.123", "1.23", "123.5", "5000"]);
    }
}
