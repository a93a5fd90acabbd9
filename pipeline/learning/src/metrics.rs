//! Honest numbers about a classifier, from pairs of true and named class.

use serde::{Deserialize, Serialize};

/// Numbers of one class. A ratio whose denominator is zero is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Share of those named so that are so.
    pub precision: f32,
    /// Share of those that are so that are named so.
    pub recall: f32,
    /// Harmonic mean of both.
    pub f1: f32,
    /// Members of the class.
    pub support: u64,
}

/// How a classifier did on one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub photos: u64,
    pub accuracy: f32,
    /// Mean over classes that have members, each class counting the same.
    pub macro_precision: f32,
    pub macro_recall: f32,
    pub macro_f1: f32,
    /// Mean gap between stated confidence and measured accuracy over 15 bins, weighted by their size (Guo et al. 2017).
    pub calibration_error: f32,
    pub classes: Vec<ClassScore>,
    /// `confusion[true][named]`, in photos.
    pub confusion: Vec<Vec<u64>>,
}

const BINS: usize = 15;

impl Report {
    /// `answers`: true class and probabilities of all classes. The named class is the most probable, of equals the first.
    pub fn of<'a>(classes: usize, answers: impl IntoIterator<Item = (usize, &'a [f32])>) -> Self {
        let mut confusion = vec![vec![0_u64; classes]; classes];
        let mut bins = [(0_u64, 0.0_f64, 0_u64); BINS];
        for (truth, probabilities) in answers {
            let Some((named, confidence)) = best(probabilities) else { continue };
            if truth >= classes || named >= classes {
                continue;
            }
            confusion[truth][named] += 1;
            let bin = &mut bins[((confidence * BINS as f32) as usize).min(BINS - 1)];
            *bin = (bin.0 + 1, bin.1 + f64::from(confidence), bin.2 + u64::from(truth == named));
        }
        let photos: u64 = confusion.iter().flatten().sum();
        let gap: f64 = bins.iter().map(|(_, confidence, right)| (confidence - *right as f64).abs()).sum();
        Self::from_confusion(confusion, ratio(gap, photos as f64))
    }

    fn from_confusion(confusion: Vec<Vec<u64>>, calibration_error: f32) -> Self {
        let n = confusion.len();
        let classes: Vec<ClassScore> = (0..n)
            .map(|c| {
                let right = confusion[c][c] as f64;
                let support: u64 = confusion[c].iter().sum();
                let named: u64 = confusion.iter().map(|row| row[c]).sum();
                let f1 = ratio(2.0 * right, support as f64 + named as f64);
                let (precision, recall) = (ratio(right, named as f64), ratio(right, support as f64));
                ClassScore { precision, recall, f1, support }
            })
            .collect();
        let photos: u64 = confusion.iter().flatten().sum();
        let right: u64 = (0..n).map(|c| confusion[c][c]).sum();
        let mean = |of: fn(&ClassScore) -> f32| {
            let there = classes.iter().filter(|c| c.support > 0);
            ratio(there.clone().map(|c| f64::from(of(c))).sum(), there.count() as f64)
        };
        Self {
            photos,
            accuracy: ratio(right as f64, photos as f64),
            macro_precision: mean(|c| c.precision),
            macro_recall: mean(|c| c.recall),
            macro_f1: mean(|c| c.f1),
            calibration_error,
            classes,
            confusion,
        }
    }
}

/// The most probable class and its probability; of equals the first. None for an empty slice.
pub(crate) fn best(probabilities: &[f32]) -> Option<(usize, f32)> {
    let pairs = probabilities.iter().copied().enumerate();
    pairs.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
}

fn ratio(part: f64, whole: f64) -> f32 {
    if whole > 0.0 { (part / whole) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: f32, wanted: f32) {
        assert!((found - wanted).abs() < 1e-6, "{found} instead of {wanted}");
    }

    #[test]
    fn numbers_agree_with_those_worked_out_by_hand() {
        let (a, b) = ([0.9, 0.1, 0.0], [0.2, 0.7, 0.1]);
        // True 0: named 0, 0, 1. True 1: named 1. Class 2 has no members and is never named.
        let report = Report::of(3, [(0, &a[..]), (0, &a[..]), (0, &b[..]), (1, &b[..])]);
        assert_eq!(report.confusion, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
        near(report.accuracy, 0.75);
        near(report.classes[0].precision, 1.0);
        near(report.classes[0].recall, 2.0 / 3.0);
        near(report.classes[0].f1, 0.8);
        near(report.classes[1].precision, 0.5);
        near(report.classes[1].f1, 2.0 / 3.0);
        assert_eq!(report.classes[2], ClassScore::default());
        near(report.macro_recall, (2.0 / 3.0 + 1.0) / 2.0);
        // Two answers at .9, both right: gap .2. Two at .7, one right: gap .4. Over four photos.
        near(report.calibration_error, (0.2 + 0.4) / 4.0);
    }

    #[test]
    fn no_answers_give_zeros_and_no_nan() {
        let report = Report::of(2, []);
        assert_eq!((report.photos, report.accuracy, report.macro_f1, report.calibration_error), (0, 0.0, 0.0, 0.0));
    }
}
