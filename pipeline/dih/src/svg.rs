//! Parts of SVG pictures. Pure.

use std::fmt::Write;

pub fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>");
}

pub fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#333333\">{text}</text>");
}

/// 1, 2 or 5 times a power of ten, so that there are four to ten steps.
pub fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most.max(1e-6) / 10.0).log10().ceil());
    [0.2, 0.5, 1.0].map(|part| part * power).into_iter().find(|step| most / step <= 10.0).unwrap_or(power)
}

pub fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (most, want) in [(0.9, 0.1), (1.1, 0.2), (4.0, 0.5), (9.0, 1.0), (17.0, 2.0), (31.0, 5.0)] {
            assert!((step(most) - want).abs() < 1e-9, "{most}: {}", step(most));
        }
    }
}
