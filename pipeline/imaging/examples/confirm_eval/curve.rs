//! Precision against recall, as the share of agreeing blocks that a repeat needs goes up. Pure but for the file.

use std::{fmt::Write, path::Path};

use dih_imaging::confirm::{Described, Policy, compare};

/// Thresholds of [`Policy::agreement_min`] that are tried.
const THRESHOLDS: [f32; 10] = [0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9];

/// Counts of one threshold.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    found: u32,
    missed: u32,
    wrong: u32,
}

impl Counts {
    fn recall(self) -> f64 {
        f64::from(self.found) / f64::from((self.found + self.missed).max(1))
    }

    fn precision(self) -> f64 {
        f64::from(self.found) / f64::from((self.found + self.wrong).max(1))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Curve([Counts; THRESHOLDS.len()]);

impl Curve {
    /// Compares a pair at every threshold; what is refused at the lowest is refused at all.
    pub(crate) fn pair(&mut self, same: bool, copy: &Described, original: &Described, policy: &Policy) {
        let mut is_same = true;
        for (counts, agreement_min) in self.0.iter_mut().zip(THRESHOLDS) {
            let policy = Policy { agreement_min, ..policy.clone() };
            is_same = is_same && compare(copy, original, &policy).is_ok();
            match (is_same, same) {
                (true, true) => counts.found += 1,
                (false, true) => counts.missed += 1,
                (true, false) => counts.wrong += 1,
                (false, false) => {}
            }
        }
    }

    pub(crate) fn print(&self) {
        println!("{:<18}{:>9}{:>11}{:>7}", "agreement_min", "recall", "precision", "false");
        for (counts, threshold) in self.0.iter().zip(THRESHOLDS) {
            println!("{threshold:<18}{:>9.4}{:>11.4}{:>7}", counts.recall(), counts.precision(), counts.wrong);
        }
    }

    /// Draws it: recall to the right, precision upwards, both from the least that comes up to 1.
    pub(crate) fn plot(&self, path: &Path, chosen: f32) -> std::io::Result<()> {
        let [left, top, width, height] = [64.0, 24.0, 400.0, 260.0];
        let least = |of: fn(Counts) -> f64| {
            let least = self.0.iter().map(|c| of(*c)).fold(1.0, f64::min);
            (least * 100.0 - 0.5).floor() / 100.0
        };
        let (from_recall, from_precision) = (least(Counts::recall), least(Counts::precision));
        let x = |recall: f64| left + width * (recall - from_recall) / (1.0 - from_recall);
        let y = |precision: f64| top + height * (1.0 - precision) / (1.0 - from_precision);
        let points: Vec<(f64, f64)> = self.0.iter().map(|c| (x(c.recall()), y(c.precision()))).collect();
        let (right, bottom) = (left + width, top + height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 500 340\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"500\" height=\"340\" fill=\"white\"/>\n\
             <path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\n\
             <text x=\"{}\" y=\"332\" text-anchor=\"middle\">recall of single comparisons</text>\n\
             <text x=\"14\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {1})\">precision</text>\n",
            left + width / 2.0,
            top + height / 2.0,
        );
        let mut say = |line: String| svg.push_str(&line);
        for tick in 0..=4 {
            let share = f64::from(tick) / 4.0;
            let (recall, precision) =
                (from_recall + share * (1.0 - from_recall), from_precision + share * (1.0 - from_precision));
            say(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{recall:.3}</text>\n",
                x(recall),
                bottom + 16.0
            ));
            say(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{precision:.3}</text>\n",
                left - 6.0,
                y(precision) + 4.0
            ));
        }
        let mut line = String::new();
        for (x, y) in &points {
            write!(line, "{x:.1},{y:.1} ").expect("a string takes any text");
        }
        say(format!("<polyline points=\"{}\" fill=\"none\" stroke=\"#27c\"/>\n", line.trim_end()));
        for ((x, y), threshold) in points.into_iter().zip(THRESHOLDS) {
            let (radius, colour) = if (threshold - chosen).abs() < 1e-6 { (5, "#c33") } else { (3, "#27c") };
            say(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>\n"));
            say(format!("<text x=\"{:.1}\" y=\"{:.1}\">{threshold}</text>\n", x + 7.0, y - 5.0));
        }
        say("</svg>\n".to_owned());
        std::fs::write(path, svg)
    }
}
