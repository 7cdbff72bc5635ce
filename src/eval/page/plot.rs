//! Drawings in SVG. Their width follows the page.

use super::text::escape;
use std::fmt::Write as _;

/// Size of a drawing in its own units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
/// Least distance of the lines of two labels.
const LINE: f64 = 17.0;
/// Margins: left for labels of the axis, right for labels of points, top, bottom.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 100.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;

/// Points with one name.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// The axes of a drawing. The vertical one is logarithmic.
pub(super) struct Axes {
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    /// Formats a value of the horizontal axis.
    pub(super) format_x: fn(f64) -> String,
}

struct Frame {
    x: (f64, f64),
    /// Decimal logarithms.
    y: (f64, f64),
}

impl Frame {
    fn of(points: &[(f64, f64)]) -> Self {
        let bounds = |values: Vec<f64>, pad: f64| {
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            let by = ((high - low) * pad).max(1e-9 + high.abs() * 0.02);
            (low - by, high + by)
        };
        let logs: Vec<f64> = points.iter().map(|(_, y)| y.max(1e-9).log10()).collect();
        Self { x: bounds(points.iter().map(|(x, _)| *x).collect(), 0.06), y: bounds(logs, 0.08) }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = (x - self.x.0) / (self.x.1 - self.x.0);
        let up = (y.max(1e-9).log10() - self.y.0) / (self.y.1 - self.y.0);
        (LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM))
    }
}

/// Draws points with labels, and a line through those of `front`.
pub(super) fn scatter(points: &[Series], front: &[(f64, f64)], axes: &Axes) -> String {
    let all: Vec<(f64, f64)> = points.iter().flat_map(|series| series.points.clone()).collect();
    let frame = Frame::of(&all);
    let mut out = open(&frame, axes);
    out += &line(&frame, front, "front", 0);
    let mut labels: Vec<f64> = Vec::new();
    for (i, series) in points.iter().enumerate() {
        for point in &series.points {
            let (x, y) = frame.place(*point);
            // A label that would cover another one moves up.
            let mut at = y + 4.0;
            while labels.iter().any(|other| (other - at).abs() < LINE) {
                at -= 1.0;
            }
            labels.push(at);
            let on_front = front.contains(point);
            out += &mark(x, y, i, on_front);
            let weight = if on_front { " class=\"strong\"" } else { "" };
            let _ = write!(out, "<text x=\"{:.1}\" y=\"{at:.1}\"{weight}>{}</text>", x + 11.0, escape(&series.name));
        }
    }
    out + "</svg>"
}

/// Draws a line for each series, with its name at the end and a pattern of dashes of its own.
pub(super) fn lines(series: &[Series], axes: &Axes) -> String {
    let all: Vec<(f64, f64)> = series.iter().flat_map(|series| series.points.clone()).collect();
    let frame = Frame::of(&all);
    let mut out = open(&frame, axes);
    let mut labels: Vec<f64> = Vec::new();
    for (i, series) in series.iter().enumerate() {
        out += &line(&frame, &series.points, "series", i);
        if let Some(last) = series.points.last() {
            let (x, y) = frame.place(*last);
            let mut at = y + 4.0;
            while labels.iter().any(|other| (other - at).abs() < LINE) {
                at -= 1.0;
            }
            labels.push(at);
            let _ = write!(out, "<text x=\"{:.1}\" y=\"{at:.1}\">{}</text>", x + 8.0, escape(&series.name));
        }
    }
    out + "</svg>"
}

/// Begins a drawing with its axes.
fn open(frame: &Frame, axes: &Axes) -> String {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} against {}\">\
         <path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>",
        escape(axes.y),
        escape(axes.x)
    );
    for i in 0..=4 {
        let value = frame.x.0 + (frame.x.1 - frame.x.0) * f64::from(i) / 4.0;
        let x = LEFT + (right - LEFT) * f64::from(i) / 4.0;
        let _ = write!(
            out,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\">{}</text>",
            bottom + 18.0,
            (axes.format_x)(value)
        );
    }
    for step in ticks(frame.y) {
        let (_, y) = frame.place((frame.x.0, step));
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{step}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    let _ = write!(
        out,
        "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{}\">{}</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 8.0,
        escape(axes.x)
    );
    out
}

/// Returns the values 1, 2 and 5 times a power of ten between two logarithms.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let powers = (low.floor() as i32)..=(high.ceil() as i32);
    let values = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit: f64| digit * 10.0_f64.powi(power)));
    let inside = values.filter(|value| (low..=high).contains(&value.log10()));
    // 0.05, not 0.05000000000000001
    inside.filter_map(|value| format!("{value:.2e}").parse().ok()).collect()
}

fn line(frame: &Frame, points: &[(f64, f64)], class: &str, pattern: usize) -> String {
    const DASHES: [&str; 5] = ["none", "7 4", "2 4", "10 3 2 3", "14 5"];
    let path: Vec<String> = points
        .iter()
        .enumerate()
        .map(|(i, point)| {
            let (x, y) = frame.place(*point);
            format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' })
        })
        .collect();
    format!("<path class=\"{class}\" stroke-dasharray=\"{}\" d=\"{}\"/>", DASHES[pattern % DASHES.len()], path.concat())
}

/// Draws a mark; each of the first four has a shape of its own. Filled on the front, hollow elsewhere.
fn mark(x: f64, y: f64, shape: usize, filled: bool) -> String {
    let class = if filled { "mark filled" } else { "mark" };
    match shape % 4 {
        0 => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"),
        1 => format!("<path class=\"{class}\" d=\"M{:.1} {:.1}h9v9h-9z\"/>", x - 4.5, y - 4.5),
        2 => format!("<path class=\"{class}\" d=\"M{x:.1} {:.1}l5.5 10h-11z\"/>", y - 6.0),
        _ => format!("<path class=\"{class}\" d=\"M{x:.1} {:.1}l6 6l-6 6l-6 -6z\"/>", y - 6.0),
    }
}
