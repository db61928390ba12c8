//! `loadgen plot`: histogram logs as one SVG, latency by percentile.
//!
//! Both axes are logarithmic, the horizontal one in "one request in so many": half of the width is
//! for the slowest 1 %, which is where servers differ.

use std::fmt::Write as _;
use std::path::Path;

use hdrhistogram::Histogram;

use crate::args::PlotArgs;
use crate::hlog;
use crate::record::{Kind, empty_histogram};

/// Draws what `args` say.
pub fn run(args: &PlotArgs) -> Result<(), String> {
    let mut lines = Vec::new();
    for log in &args.logs {
        let (name, path) = log.split_once('=').unwrap_or((log, log));
        lines.push((name.to_owned(), latencies(Path::new(path), args.tag.as_deref())?));
    }
    let svg = draw(&args.title, &lines);
    if args.output.as_os_str() == "-" {
        println!("{svg}");
        return Ok(());
    }
    std::fs::write(&args.output, svg).map_err(|error| format!("{}: {error}", args.output.display()))
}

fn latencies(path: &Path, tag: Option<&str>) -> Result<Histogram<u64>, String> {
    let by_tag = hlog::read(path)?;
    if let Some(tag) = tag {
        let known: Vec<&str> = by_tag.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return by_tag
            .get(tag)
            .cloned()
            .ok_or_else(|| format!("{}: no {tag:?}, only {known}", path.display()));
    }
    let mut sum = empty_histogram();
    sum.auto(true);
    // Compound operations count in their parts, and lag is no latency.
    let left_out = [Kind::ReadModifyWrite.name(), Kind::Lag.name()];
    for (_, histogram) in by_tag.iter().filter(|(tag, _)| !left_out.contains(&tag.as_str())) {
        sum.add(histogram).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if sum.is_empty() { Err(format!("{}: no requests in it", path.display())) } else { Ok(sum) }
}

/// Where a latency and a percentile lie on the page.
struct Scale {
    /// Powers of ten of nanoseconds, bottom and top.
    decades: (i32, i32),
    /// How many nines the right edge has.
    nines: f64,
}

impl Scale {
    fn of(lines: &[(String, Histogram<u64>)]) -> Self {
        let low = lines.iter().map(|(_, line)| line.value_at_quantile(0.0).max(1)).min();
        let high = lines.iter().map(|(_, line)| line.max().max(2)).max();
        let count = lines.iter().map(|(_, line)| line.len()).max().unwrap_or(1);
        let bottom = low.unwrap_or(1).ilog10() as i32;
        let top = (high.unwrap_or(10) as f64).log10().ceil() as i32;
        Self {
            decades: (bottom, top.max(bottom + 1)),
            nines: (count as f64).log10().clamp(2.0, NINES_MAX),
        }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (nines / self.nines).min(1.0)
    }

    fn y(&self, nanoseconds: f64) -> f64 {
        let (bottom, top) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let share = (nanoseconds.max(1.0).log10() - bottom) / (top - bottom);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }
}

fn draw(title: &str, lines: &[(String, Histogram<u64>)]) -> String {
    let scale = Scale::of(lines);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"18\">{}</text>\n",
        escape(title)
    );
    draw_axes(&mut svg, &scale);
    for (index, (name, histogram)) in lines.iter().enumerate() {
        draw_line(&mut svg, &scale, index, name, histogram);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for decade in scale.decades.0..=scale.decades.1 {
        for step in 1..10 {
            let value = f64::from(step) * 10f64.powi(decade);
            if step > 1 && decade == scale.decades.1 {
                break;
            }
            let y = scale.y(value);
            let colour = if step == 1 { "#bbb" } else { "#eee" };
            put(
                svg,
                format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"{colour}\" fill=\"none\"/>"
                ),
            );
            if step == 1 {
                put(
                    svg,
                    format_args!(
                        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                        LEFT - 8.0,
                        y + 5.0,
                        time(value)
                    ),
                );
            }
        }
    }
    for (label, quantile) in PERCENTILES {
        let nines = -(1.0 - quantile).log10();
        if nines > scale.nines + 1e-9 {
            break;
        }
        let x = scale.x(nines);
        put(
            svg,
            format_args!(
                "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\" fill=\"none\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 20.0
            ),
        );
    }
    put(
        svg,
        format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">percentile</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0
        ),
    );
}

fn draw_line(svg: &mut String, scale: &Scale, index: usize, name: &str, line: &Histogram<u64>) {
    let colour = COLOURS[index % COLOURS.len()];
    // No line reaches beyond what its own number of requests can tell.
    let nines = (line.len() as f64).log10().min(scale.nines);
    let mut path = String::new();
    for step in 0..=STEPS {
        let at = nines * f64::from(step) / f64::from(STEPS);
        let value = line.value_at_quantile(1.0 - 10f64.powf(-at)) as f64;
        let command = if step == 0 { 'M' } else { 'L' };
        write!(path, "{command}{:.1} {:.1}", scale.x(at), scale.y(value)).expect(STRING);
    }
    put(
        svg,
        format_args!("<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>"),
    );
    let y = TOP + 16.0 + 22.0 * index as f64;
    let x = LEFT + 12.0;
    put(
        svg,
        format_args!(
            "<path d=\"M{x} {:.1}h24\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"{:.1}\" y=\"{y:.1}\">{} ({} requests, p99 {})</text>",
            y - 5.0,
            x + 32.0,
            escape(name),
            line.len(),
            time(line.value_at_quantile(0.99) as f64)
        ),
    );
}

fn put(svg: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(svg, "{what}").expect(STRING);
}

/// Three digits and a unit.
fn time(nanoseconds: f64) -> String {
    let (scale, unit) = match nanoseconds {
        n if n < 1e3 => (1.0, "ns"),
        n if n < 1e6 => (1e3, "µs"),
        n if n < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = nanoseconds / scale;
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const PERCENTILES: [(&str, f64); 8] = [
    ("0", 0.0),
    ("50", 0.5),
    ("90", 0.9),
    ("99", 0.99),
    ("99.9", 0.999),
    ("99.99", 0.9999),
    ("99.999", 0.99999),
    ("99.9999", 0.999999),
];

/// Distinct for most colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000"];

const NINES_MAX: f64 = 6.0;
const STEPS: u32 = 240;
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
const STRING: &str = "writing to a string cannot fail";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_and_a_name_for_each_log() {
        let mut histogram = empty_histogram();
        (1..=10_000u64).for_each(|value| histogram.saturating_record(value * 1_000));
        let lines = [("a<b".to_owned(), histogram.clone()), ("second".to_owned(), histogram)];
        let svg = draw("Two & more", &lines);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for part in ["Two &amp; more", "a&lt;b (10000 requests, p99 9.9", ">99.99<", ">1 ms<"] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains(">99.999<"), "ten thousand requests cannot tell");
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 2);
    }

    #[test]
    fn times_are_short_and_have_units() {
        let cases = [(850.0, "850 ns"), (1_000.0, "1 µs"), (12_340.0, "12.3 µs"), (2e9, "2 s")];
        for (nanoseconds, text) in cases {
            assert_eq!(time(nanoseconds), text);
        }
    }
}
