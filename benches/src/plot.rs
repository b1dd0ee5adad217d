//! The ratios as a picture: a bar a query group, against the better peer, logarithmic.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use crate::results::{Group, Results, geometric_mean};

const ROW: f64 = 15.0;
const LEFT: f64 = 130.0;
const WIDTH: f64 = 560.0;
const TOP: f64 = 46.0;
/// Ratios at the two ends.
const FROM: f64 = 0.1;
const TO: f64 = 4.0;

/// Where a ratio is.
fn x(ratio: f64) -> f64 {
    let at = (ratio.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln();
    LEFT + WIDTH * at
}

pub fn write(results: &Results, path: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::write(path, render(results)?)?;
    Ok(())
}

fn render(results: &Results) -> Result<String, std::fmt::Error> {
    let groups: Vec<Group> = ["query", "more"].iter().flat_map(|op| results.groups(op)).collect();
    let drawn: Vec<(&Group, f64)> = groups.iter().filter_map(|g| Some((g, g.mean_ratio?))).collect();
    let bottom = TOP + ROW * drawn.len() as f64;
    let (width, height) = (LEFT + WIDTH + 60.0, bottom + 30.0);
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"16\" font-size=\"12\">Time of ringdex over the better of Lucene and tantivy: bar = mean, mark = p99. Left of 1 is faster.</text>"
    )?;
    for tick in [0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 4.0] {
        let (colour, dash) = if tick == 1.0 { ("#333", "") } else { ("#ccc", " stroke-dasharray=\"2 2\"") };
        let at = x(tick);
        writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{bottom}\" stroke=\"{colour}\"{dash}/>",
            TOP - 6.0
        )?;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", TOP - 10.0)?;
    }
    for (i, (group, ratio)) in drawn.iter().enumerate() {
        let (y, end) = (TOP + ROW * i as f64, x(*ratio));
        let colour = if *ratio <= 0.7 {
            "#2a9d8f"
        } else if *ratio <= 1.0 {
            "#8ab17d"
        } else {
            "#e76f51"
        };
        writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, y + 10.5, group.name)?;
        let bar = end - LEFT;
        writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"{bar:.1}\" height=\"{}\" fill=\"{colour}\"/>",
            y + 2.0,
            ROW - 4.0
        )?;
        writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>", LEFT + WIDTH + 8.0, y + 10.5)?;
        if let Some(p99) = group.p99_ratio {
            let at = x(p99);
            writeln!(svg, "<path d=\"M{at:.1} {}v{}\" stroke=\"#264653\" stroke-width=\"2\"/>", y + 1.0, ROW - 2.0)?;
        }
    }
    if let Some(mean) = geometric_mean(drawn.iter().map(|d| d.1)) {
        writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-size=\"12\">Geometric mean of all {} groups: {mean:.3}</text>",
            bottom + 18.0,
            drawn.len()
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
