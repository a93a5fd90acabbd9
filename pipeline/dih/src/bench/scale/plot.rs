//! Cost against size, as an SVG picture. Pure.

use std::fmt::Write;

use super::figures::{At, Figures};
use crate::svg::{line, step, text, trimmed};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Left, right, top and bottom of the plane.
const PLANE: [f64; 4] = [60.0, 470.0, 40.0, 310.0];

/// A line of the picture: what it is called, its colour, and its value at a size.
type Line = (&'static str, &'static str, fn(&At) -> f64);

const LINES: [Line; 2] =
    [("dedupe and cluster", "#1b6ca8", |at| at.cpu_ms), ("of it: the index", "#3a8f5c", |at| at.index_cpu_ms)];

/// The picture. Sizes are on a logarithmic scale, milliseconds on one that begins at 0.
pub fn svg(figures: &Figures) -> String {
    let most = figures.sizes.iter().flat_map(|at| LINES.map(|(_, _, value)| value(at))).fold(0.0, f64::max);
    let step = step(most);
    let top = (most / step).ceil().max(1.0) * step;
    let [left, right, above, below] = PLANE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    text(&mut svg, left, above - 18.0, "start", "CPU milliseconds a photo, by points in the index");
    let y = |value: f64| below - (below - above) * value / top;
    let mut tick = 0.0;
    while tick <= top + step / 2.0 {
        line(&mut svg, (left, y(tick)), (right, y(tick)), "#dddddd");
        text(&mut svg, left - 8.0, y(tick) + 4.0, "end", &trimmed(tick));
        tick += step;
    }
    let sizes = || figures.sizes.iter().map(|at| at.points);
    let (least, largest) = (sizes().min().unwrap_or(1) as f64, sizes().max().unwrap_or(1) as f64);
    let span = (largest / least).ln().max(f64::MIN_POSITIVE);
    let x = |points: u64| left + 20.0 + (right - left - 40.0) * (points as f64 / least).ln() / span;
    for points in sizes() {
        text(&mut svg, x(points), below + 20.0, "middle", &grouped(points));
    }
    for (name, colour, value) in LINES {
        curve(&mut svg, &figures.sizes.iter().map(|at| (x(at.points), y(value(at)))).collect::<Vec<_>>(), name, colour);
    }
    svg.push_str("</svg>\n");
    svg
}

fn curve(svg: &mut String, points: &[(f64, f64)], name: &str, colour: &str) {
    let list: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ =
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", list.join(" "));
    for (x, y) in points {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
    }
    if let Some((_, y)) = points.last() {
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", PLANE[1] + 8.0, y + 4.0);
    }
}

/// With a comma before every three digits.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cheaper_size_lies_lower_and_a_larger_one_further_right() {
        let at = |points, cpu_ms| At { points, cpu_ms, ..At::default() };
        let svg = svg(&Figures::of(8, vec![at(10_000, 4.0), at(1_000_000, 2.0)]));
        let first = svg.lines().find(|line| line.starts_with("<polyline")).expect("has a line");
        assert!(first.contains("points=\"80.0,40.0 450.0,175.0\""), "{first}");
        assert!(svg.contains(">1,000,000</text>") && svg.ends_with("</svg>\n"));
    }
}
