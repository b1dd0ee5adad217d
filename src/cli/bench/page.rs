//! The report: one HTML file with everything in it.

use std::fmt::Write as _;

use super::plot::{Line, Plot, Scale, escape};
use super::results::{Operation, Results, Run};
use super::table::{lag_warning, ms, of_ramp};

const STYLE: &str = "body{font:14px/1.45 sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em .6em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto;display:block;margin:.4em 0}\
pre{background:#f5f5f5;padding:.8em;overflow:auto}.bad{color:#b00}";

/// Quantiles of the curves: ten between any two nines.
fn quantiles() -> Vec<f64> {
    let tail = (0..=50).map(|i| 1.0 - 10f64.powf(-f64::from(i) / 10.0));
    tail.filter(|q| *q <= 0.99999).collect()
}

/// The whole page.
pub(super) fn render(results: &Results) -> Result<String, String> {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escape(&results.workload_name)
    );
    let fact = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "<tr><td>{}</td><td style=\"text-align:left\">{}</td></tr>", escape(name), escape(value));
    };
    out.push_str("<table>\n");
    fact(&mut out, "started", &results.started);
    fact(&mut out, "server", &results.url);
    let version = &results.server["version"]["number"];
    if let Some(version) = version.as_str() {
        fact(&mut out, "version", version);
    }
    fact(&mut out, "seed", &results.seed.to_string());
    fact(&mut out, "command", &results.command);
    for (name, value) in &results.machine {
        fact(&mut out, name, value);
    }
    out.push_str("</table>\n");
    for ramp in &results.ramps {
        let runs: Vec<&Run> = results.runs.iter().filter(|r| r.phase == ramp.phase).collect();
        let _ = writeln!(
            out,
            "<h2>{}: throughput and latency</h2>\n<p>{}</p>",
            escape(&ramp.phase),
            escape(&of_ramp(ramp))
        );
        out.push_str(&ramp_plots(&runs));
    }
    for run in &results.runs {
        run_section(&mut out, run)?;
    }
    let _ = writeln!(out, "<h2>Workload</h2>\n<pre>{}</pre>\n</html>", escape(&results.workload));
    Ok(out)
}

fn line(name: &str, points: Vec<(f64, f64)>, dots: bool) -> Line {
    Line { name: name.to_owned(), points, dots }
}

fn ramp_plots(runs: &[&Run]) -> String {
    let all: Vec<&Operation> = runs.iter().filter_map(|r| r.operations.first()).collect();
    // By what was achieved: beyond saturation the curve turns back, which is how one sees it.
    let by = |pick: fn(&Operation) -> f64| all.iter().map(|o| (o.achieved_per_s, pick(o) / 1e3)).collect::<Vec<_>>();
    let latency = Plot {
        x_label: "achieved requests a second",
        y_label: "latency, ms",
        x: Scale::Linear,
        y: Scale::Log,
        lines: vec![
            line("p50", by(|o| o.latency.p50_us), true),
            line("p99", by(|o| o.latency.p99_us), true),
            line("p99.9", by(|o| o.latency.p99_9_us), true),
        ],
    };
    let achieved = Plot {
        x_label: "intended requests a second",
        y_label: "requests a second",
        x: Scale::Linear,
        y: Scale::Linear,
        lines: vec![
            line("achieved", all.iter().map(|o| (o.intended_per_s, o.achieved_per_s)).collect(), true),
            line("intended", all.iter().map(|o| (o.intended_per_s, o.intended_per_s)).collect(), false),
        ],
    };
    latency.svg() + &achieved.svg()
}

fn run_section(out: &mut String, run: &Run) -> Result<(), String> {
    let pace = match run.rate {
        Some(rate) => format!("open loop, {rate:.0}/s, at most {} connections", run.connections),
        None => format!("closed loop, {} clients", run.connections),
    };
    let _ = writeln!(out, "<h2>{}</h2>\n<p>{pace}, {:.1} s</p>", escape(&run.title()), run.seconds);
    if let Some(warning) = lag_warning(run) {
        let _ = writeln!(out, "<p class=\"bad\">{}</p>", escape(&warning));
    }
    table(out, run);
    for sample in &run.samples {
        let _ = writeln!(out, "<pre class=\"bad\">{}</pre>", escape(sample));
    }
    let mut curves = Vec::new();
    for operation in &run.operations {
        let histogram = operation.histogram()?;
        if !histogram.is_empty() {
            // No further into the tail than there are requests.
            let last = 1.0 - 1.0 / histogram.len() as f64;
            let points = quantiles()
                .into_iter()
                .filter(|q| *q <= last.max(0.5))
                .map(|q| (q, histogram.value_at_quantile(q) as f64 / 1e6))
                .collect();
            curves.push(line(&operation.name, points, false));
        }
    }
    let curve = Plot { x_label: "percentile", y_label: "latency, ms", x: Scale::Nines, y: Scale::Log, lines: curves };
    out.push_str(&curve.svg());
    let Some(all) = run.operations.first() else { return Ok(()) };
    // Intervals without an answer have no percentiles, and what trickles in after the end is no interval.
    let over = |pick: fn(&super::results::Interval) -> f64| {
        all.intervals
            .iter()
            .filter(|i| i.max_us > 0.0 && i.seconds > 0.0)
            .map(|i| (i.at_s, pick(i) / 1e3))
            .collect::<Vec<_>>()
    };
    let time = Plot {
        x_label: "seconds",
        y_label: "latency, ms",
        x: Scale::Linear,
        y: Scale::Log,
        lines: vec![
            line("p50", over(|i| i.p50_us), false),
            line("p90", over(|i| i.p90_us), false),
            line("p99", over(|i| i.p99_us), false),
            line("max", over(|i| i.max_us), false),
        ],
    };
    out.push_str(&time.svg());
    let whole = all.intervals.iter().filter(|i| i.seconds > 0.0);
    let rates: Vec<(f64, f64)> = whole.map(|i| (i.at_s, i.arrived as f64 / i.seconds)).collect();
    let mut lines = vec![line("achieved", rates.clone(), false)];
    if let Some(rate) = run.rate {
        lines.push(line("intended", rates.iter().map(|(at, _)| (*at, rate)).collect(), false));
    }
    let throughput =
        Plot { x_label: "seconds", y_label: "requests a second", x: Scale::Linear, y: Scale::Linear, lines };
    out.push_str(&throughput.svg());
    Ok(())
}

fn table(out: &mut String, run: &Run) {
    out.push_str("<table>\n<tr>");
    let head = "operation,intended/s,achieved/s,p50 ms,p90,p99,p99.9,p99.99,max,service p50,service p99,requests,failed,errors";
    for name in head.split(',') {
        let _ = write!(out, "<th>{name}</th>");
    }
    out.push_str("</tr>\n");
    for o in &run.operations {
        let _ = write!(out, "<tr><td>{}</td>", escape(&o.name));
        let intended = if run.rate.is_some() { format!("{:.1}", o.intended_per_s) } else { "-".into() };
        let (l, s) = (&o.latency, &o.service);
        let mut cells = vec![intended, format!("{:.1}", o.achieved_per_s)];
        let values = [l.p50_us, l.p90_us, l.p99_us, l.p99_9_us, l.p99_99_us, l.max_us, s.p50_us, s.p99_us];
        cells.extend(values.map(ms));
        cells.push(o.requests.to_string());
        cells.push(o.failed.to_string());
        cells.push(o.errors.iter().map(|(kind, n)| format!("{kind}: {n}")).collect::<Vec<_>>().join(", "));
        for cell in cells {
            let _ = write!(out, "<td>{}</td>", escape(&cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_ten_points_a_nine() {
        let all = quantiles();
        assert!(all.is_sorted() && all[0] == 0.0 && all.len() >= 50, "{all:?}");
        assert!(all.iter().any(|q| (q - 0.99).abs() < 1e-12));
    }
}
