//! A day of the scalers, as an SVG picture: what comes, and the replicas of each stage. Pure.

use std::fmt::Write;

use super::scaler::{SPAN_S, Trace};
use crate::svg::{line, step, text, trimmed};

const WIDTH: f64 = 760.0;
const PANEL: f64 = 90.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 620.0;
const COLOUR: &str = "#1b6ca8";

/// One panel for what comes, one for each stage.
pub fn svg(arriving: &[f64], stages: &[(&str, Trace)]) -> String {
    let height = PANEL * (stages.len() + 1) as f64 + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    panel(&mut svg, 0, "photos a second", arriving.iter().copied());
    for (n, (name, trace)) in stages.iter().enumerate() {
        panel(&mut svg, n + 1, &format!("{name}, replicas"), trace.replicas.iter().map(|n| f64::from(*n)));
    }
    for hour in 0..=SPAN_S / 3600 {
        let x = LEFT + (RIGHT - LEFT) * (hour * 3600) as f64 / SPAN_S as f64;
        text(&mut svg, x, height - 14.0, "middle", &format!("{hour} h"));
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, n: usize, name: &str, values: impl Iterator<Item = f64>) {
    // A point a quarter of a minute is finer than the picture.
    let values: Vec<f64> = values.step_by(15).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let top = (most / step(most)).ceil().max(1.0) * step(most);
    let (above, below) = (PANEL * n as f64 + 20.0, PANEL * (n + 1) as f64);
    for value in [0.0, top] {
        let y = below - (below - above) * value / top;
        line(svg, (LEFT, y), (RIGHT, y), "#dddddd");
        text(svg, LEFT - 8.0, y + 4.0, "end", &trimmed(value));
    }
    let x = |at: usize| LEFT + (RIGHT - LEFT) * at as f64 / values.len().max(1) as f64;
    let points =
        values.iter().enumerate().map(|(at, v)| format!("{:.1},{:.1}", x(at), below - (below - above) * v / top));
    let points = points.collect::<Vec<_>>().join(" ");
    let _ = writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{COLOUR}\" stroke-width=\"1.5\"/>");
    text(svg, RIGHT + 10.0, below - 4.0, "start", name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_curve_for_what_comes_and_one_a_stage() {
        let trace = Trace { replicas: vec![1; SPAN_S], lag: vec![0.0; SPAN_S], regretted: 0 };
        let svg = svg(&vec![3.0; SPAN_S], &[("verify", trace.clone()), ("embed", trace)]);
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(svg.contains("verify, replicas") && svg.ends_with("</svg>\n"));
    }
}
