//! The report: Markdown tables of every work and every query group, ratios against the better peer, and what misses its bar.

use std::fmt::Write as _;

use crate::results::{ENGINES, Group, Results, geometric_mean};

/// What a line must reach.
enum Bar {
    /// So many times the best peer.
    Times(f64),
    /// Ours at most this.
    AtMost(f64),
    /// Ours at least this.
    AtLeast(f64),
    /// Reported only.
    None,
}

/// A line of the table of works.
struct Work {
    what: &'static str,
    op: &'static str,
    pointer: &'static str,
    digits: usize,
    bar: Bar,
}

const WORKS: [Work; 14] = [
    work("index, documents per CPU second", "index", "/docs_per_cpu_s", 0, Bar::Times(1.5)),
    work("searchable every second, documents per CPU second", "nrt", "/docs_per_cpu_s", 0, Bar::Times(1.5)),
    work("– times it was", "nrt", "/refreshes", 0, Bar::None),
    work("merge to one segment, documents per CPU second", "merge", "/docs_per_cpu_s", 0, Bar::Times(1.5)),
    work("– MB of corpus per CPU second", "merge", "/mb_per_cpu_s", 1, Bar::None),
    work("index size / corpus size", "index", "/index_over_input", 3, Bar::AtMost(0.75)),
    work("bytes written / index size, while indexing", "index", "/write_amplification", 2, Bar::None),
    work("– without the translog", "index", "/write_amplification_index", 2, Bar::None),
    work("get by id, mean µs", "get", "/mean_us", 2, Bar::AtMost(5.0)),
    work("get by id, p99 µs", "get", "/p99_us", 2, Bar::None),
    work("peak memory while indexing, MB", "index", "/peak_rss_mb", 0, Bar::None),
    work("– beyond mapped files, MB", "index", "/peak_anonymous_mb", 0, Bar::None),
    work("memory beyond mapped files while searching, MB", "query", "/anonymous_mb", 0, Bar::AtMost(100.0)),
    work("two cores over one, documents per second", "scale", "/runs/1/times_first", 2, Bar::AtLeast(1.85)),
];

const fn work(what: &'static str, op: &'static str, pointer: &'static str, digits: usize, bar: Bar) -> Work {
    Work { what, op, pointer, digits, bar }
}

/// The whole report.
pub fn render(results: &Results) -> String {
    let mut out = String::new();
    let mut misses = Vec::new();
    works(results, &mut out, &mut misses);
    for (op, title) in [("query", "Queries"), ("more", "More queries")] {
        let groups = results.groups(op);
        if !groups.is_empty() {
            queries(title, &groups, &mut out, &mut misses);
        }
    }
    out.push_str("\n### Below the bar\n\n");
    if misses.is_empty() {
        out.push_str("Nothing.\n");
    }
    misses.iter().for_each(|miss| writeln!(out, "- {miss}").expect("memory takes what is written"));
    let rounds =
        ENGINES.map(|e| format!("{e} {}", ["index", "query"].map(|op| results.count(e, op).to_string()).join("/")));
    let _ = writeln!(
        out,
        "\nRounds of indexing/queries: {}. Medians; a ratio is the median of the rounds' ratios.",
        rounds.join(", ")
    );
    let share = |engine: &str| {
        let share = results.figure(engine, "query", "/cpu_s")? / results.figure(engine, "query", "/wall_s")?;
        Some(format!("{engine} {share:.2}"))
    };
    let shares: Vec<String> = ENGINES.iter().filter_map(|e| share(e)).collect();
    let _ = writeln!(
        out,
        "\nOf the core they had while querying: {}. Much less than 1 is other work on the machine, which means and p99 then show.",
        shares.join(", ")
    );
    out
}

fn show(figure: Option<f64>, digits: usize) -> String {
    let Some(figure) = figure else { return "–".to_owned() };
    let plain = format!("{figure:.digits$}");
    // Thousands apart.
    let (whole, rest) = plain.split_once('.').map_or((&plain[..], String::new()), |(w, r)| (w, format!(".{r}")));
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped + &rest
}

fn works(results: &Results, out: &mut String, misses: &mut Vec<String>) {
    out.push_str("### Works\n\n| work | ringdex | tantivy | Lucene | ratio | bar | |\n|---|--:|--:|--:|--:|---|---|\n");
    for work in &WORKS {
        let figures = results.figures(work.op, work.pointer);
        let Some(ours) = figures[0] else { continue };
        let (ratio, bar, holds) = match work.bar {
            Bar::Times(n) => {
                let ratio = results.ratio([work.op; 3], work.pointer, f64::max);
                (ratio, format!("≥ {n} × the better"), ratio.is_none_or(|r| r >= n))
            }
            Bar::AtMost(n) => (None, format!("≤ {n}"), ours <= n),
            Bar::AtLeast(n) => (None, format!("≥ {n}"), ours >= n),
            Bar::None => (None, String::new(), true),
        };
        let cells = figures.map(|f| show(f, work.digits)).join(" | ");
        let ratio = ratio.map_or(String::new(), |r| format!("{r:.2}"));
        let _ = writeln!(out, "| {} | {cells} | {ratio} | {bar} | {} |", work.what, mark(holds));
        if !holds {
            misses.push(format!(
                "{}: {}{}",
                work.what,
                show(Some(ours), work.digits),
                if ratio.is_empty() { ratio } else { format!(", ratio {ratio}") }
            ));
        }
    }
}

fn mark(holds: bool) -> &'static str {
    if holds { "" } else { "**miss**" }
}

fn queries(title: &str, groups: &[Group], out: &mut String, misses: &mut Vec<String>) {
    let _ = writeln!(
        out,
        "\n### {title}\n\nMicroseconds. Ratios against the better peer; the bar is 1 for each, 0.7 for the geometric mean.\n\n\
         | group | queries | mean: ringdex | tantivy | Lucene | ratio | p99: ringdex | tantivy | Lucene | ratio | | hits of the peers |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|"
    );
    for group in groups {
        let (mean, p99) = (group.mean_ratio, group.p99_ratio);
        let cells = |figures: &[Option<f64>; 3]| figures.map(|f| show(f, 1)).join(" | ");
        let number = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |r| format!("{r:.2}"));
        let holds = |ratio: Option<f64>| ratio.is_none_or(|r| r <= 1.0);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            group.name,
            group.queries,
            cells(&group.mean_us),
            number(mean),
            cells(&group.p99_us),
            number(p99),
            mark(holds(mean) && holds(p99)),
            other_hits(&group.hits)
        );
        for (what, ratio) in [("mean", mean), ("p99", p99)] {
            if !holds(ratio) {
                misses.push(format!("{} {what}: ratio {}", group.name, number(ratio)));
            }
        }
    }
    for (what, ratios) in [
        ("mean", groups.iter().filter_map(|g| g.mean_ratio).collect::<Vec<_>>()),
        ("best runs", groups.iter().filter_map(|g| g.best_ratio).collect()),
        ("p99", groups.iter().filter_map(|g| g.p99_ratio).collect()),
    ] {
        let Some(mean) = geometric_mean(ratios.iter().copied()) else { continue };
        let over = ratios.iter().filter(|r| **r > 1.0).count();
        let _ = writeln!(
            out,
            "\nGeometric mean of the {what} over {} groups: **{mean:.3}**; over 1: {over}.",
            ratios.len()
        );
        if what == "mean" && mean > 0.7 {
            misses.push(format!("{title}: geometric mean of the {what} {mean:.3}"));
        }
    }
}

/// How many hits the peers have where they do not agree with ours: then the work was not the same.
fn other_hits(hits: &[Option<f64>; 3]) -> String {
    let Some(ours) = hits[0] else { return String::new() };
    let names = ["tantivy", "Lucene"].iter().zip(&hits[1..]);
    let differ = names.filter_map(|(name, &theirs)| {
        let times = theirs? / ours.max(1.0);
        ((times - 1.0).abs() > 0.005).then(|| format!("{name} × {times:.2}"))
    });
    differ.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (figure, digits, text) in [(1234567.0, 0, "1,234,567"), (999.5, 1, "999.5"), (1000.25, 2, "1,000.25")] {
            assert_eq!(show(Some(figure), digits), text);
        }
        assert_eq!(show(None, 1), "–");
    }

    #[test]
    fn work_that_was_not_the_same_is_told() {
        assert_eq!(other_hits(&[Some(100.0), Some(143.0), Some(100.0)]), "tantivy × 1.43");
        assert_eq!(other_hits(&[Some(100.0), Some(100.0), None]), "");
    }
}
