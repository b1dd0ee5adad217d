//! Line plots as SVG, for the report: no scripts, no assets, one string.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// Colours that are told apart by those who see few, too (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f"];

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    /// Ascending in x.
    pub(super) points: Vec<(f64, f64)>,
    /// Marks at the points.
    pub(super) dots: bool,
}

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    Log,
    /// Quantiles: from 0 to 0.99999, every nine as wide as the others.
    Nines,
}

/// A plot before it is drawn.
pub(super) struct Plot<'a> {
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) lines: Vec<Line>,
}

/// An axis with its range.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    fn of(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Axis {
        let finite = values.filter(|v| v.is_finite());
        let high = finite.clone().fold(f64::MIN, f64::max);
        let low = finite.filter(|v| scale != Scale::Log || *v > 0.0).fold(f64::MAX, f64::min);
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        match scale {
            Scale::Linear => Axis { scale, low: low.min(0.0), high: if high > 0.0 { high * 1.05 } else { 1.0 } },
            Scale::Log => {
                let low = 10f64.powf(low.max(1e-9).log10().floor());
                Axis { scale, low, high: 10f64.powf(high.max(low * 1.1).log10().ceil()) }
            }
            Scale::Nines => Axis { scale, low: 0.0, high: high.clamp(0.9, 0.99999) },
        }
    }

    /// Place of a value, 0 to 1.
    fn at(&self, value: f64) -> f64 {
        let nines = |q: f64| -(1.0 - q.min(0.999_999_9)).log10();
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            Scale::Nines => nines(value) / nines(self.high),
        };
        place.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = nice((self.high - self.low) / 6.0);
                let count = ((self.high - self.low) / step).floor() as i32;
                (0..=count).map(|i| f64::from(i) * step).map(|v| (v, number(v))).collect()
            }
            Scale::Log => {
                let (from, to) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
                let steps: &[f64] = if to - from <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let all = (from..=to).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
                all.filter(|v| *v <= self.high * 1.001).map(|v| (v, number(v))).collect()
            }
            Scale::Nines => {
                [(0.0, "min"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")]
                    .into_iter()
                    .filter(|(q, _)| *q <= self.high)
                    .map(|(q, name)| (q, name.to_owned()))
                    .collect()
            }
        }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= step).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    let text = match value {
        0.0 => return "0".to_owned(),
        v if v.abs() >= 10_000.0 => return format!("{}k", number(value / 1000.0)),
        v if v.abs() >= 10.0 => format!("{v:.0}"),
        v if v.abs() >= 1.0 => format!("{v:.1}"),
        v => format!("{v:.4}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Text within markup.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Plot<'_> {
    pub(super) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|l| l.points.iter());
        let x = Axis::of(self.x, points().map(|p| p.0));
        let y = Axis::of(self.y, points().map(|p| p.1));
        let px = |value: f64| LEFT + x.at(value) * (WIDTH - LEFT - RIGHT);
        let py = |value: f64| HEIGHT - BOTTOM - y.at(value) * (HEIGHT - TOP - BOTTOM);
        let legend = 18.0 * self.lines.len().div_ceil(4) as f64;
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" width=\"{WIDTH}\" role=\"img\" font-family=\"sans-serif\" font-size=\"11\">\n",
            HEIGHT + legend
        );
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (value, text) in x.ticks() {
            let at = px(value);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{text}</text>",
                bottom + 15.0
            );
        }
        for (value, text) in y.ticks() {
            let at = py(value);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 5.0,
                at + 4.0
            );
        }
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            bottom + 32.0,
            escape(self.x_label),
            f64::midpoint(TOP, bottom),
            escape(self.y_label)
        );
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            // Beyond the colours there are, dashes.
            let dash = if i < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
            let path: Vec<String> = line
                .points
                .iter()
                .filter(|p| p.0.is_finite() && p.1.is_finite())
                .map(|p| format!("{:.1},{:.1}", px(p.0), py(p.1)))
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>",
                path.join(" ")
            );
            for point in path.iter().filter(|_| line.dots) {
                let (cx, cy) = point.split_once(',').unwrap_or_default();
                let _ = writeln!(out, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{colour}\"/>");
            }
            let (lx, ly) = (LEFT + 170.0 * (i % 4) as f64, HEIGHT + 18.0 * (i / 4) as f64 + 4.0);
            let _ = writeln!(
                out,
                "<path d=\"M{lx} {:.0}h18\" stroke=\"{colour}\" stroke-width=\"3\"{dash}/><text x=\"{}\" y=\"{ly}\">{}</text>",
                ly - 4.0,
                lx + 23.0,
                escape(&line.name)
            );
        }
        out.push_str("</svg>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_where_the_axis_says() {
        let linear = Axis::of(Scale::Linear, [5.0, 10.0].into_iter());
        assert_eq!((linear.at(0.0), linear.at(10.5)), (0.0, 1.0));
        let log = Axis::of(Scale::Log, [0.2, 50.0].into_iter());
        assert_eq!((log.low, log.high), (0.1, 100.0));
        assert!((log.at(1.0) - 1.0 / 3.0).abs() < 1e-9);
        let nines = Axis::of(Scale::Nines, [0.0, 0.9999].into_iter());
        assert!((nines.at(0.99) - 0.5).abs() < 1e-6 && nines.at(0.0) == 0.0);
        assert_eq!([0.0, 12_500.0, 0.05, 1.5, 250.0].map(number), ["0", "12k", "0.05", "1.5", "250"]);
    }

    #[test]
    fn nothing_to_draw_and_odd_values_still_make_a_picture() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(f64::NAN, 1.0), (1.0, f64::INFINITY), (2.0, 3.0)]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
                let lines = vec![Line { name: "a<b".into(), points: points.clone(), dots: true }];
                let svg = Plot { x_label: "x", y_label: "y", x: scale, y: Scale::Log, lines }.svg();
                assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("a&lt;b"));
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
