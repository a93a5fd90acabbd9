//! Chooses a threshold from scores of known truth, and says how often it errs. Pure.

use dih_verify::Bound;
use serde::{Deserialize, Serialize};

/// A photo (or a pair) with its score, and whether the rule should name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub score: f32,
    pub named: bool,
}

/// How often a threshold errs, with the 95 % intervals of the shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// Named, and rightly.
    pub hits: u64,
    /// Named, but wrongly.
    pub false_alarms: u64,
    /// Not named, but should be.
    pub misses: u64,
    /// Not named, and rightly.
    pub passed: u64,
    pub precision: Option<Share>,
    pub recall: Option<Share>,
    /// Of those that should not be named, the share that is.
    pub wrongly: Option<Share>,
}

/// A measured share and the interval in which the true one lies, 19 times of 20.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub share: f64,
    pub low: f64,
    pub high: f64,
}

/// Wilson's interval (JASA 22, 1927), which holds for shares near 0 and 1 and for few samples. None of none.
pub fn wilson(part: u64, whole: u64) -> Option<Share> {
    const Z: f64 = 1.959_964; // of 95 %, both sides
    let n = whole as f64;
    let share = (whole > 0).then(|| part as f64 / n)?;
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(Share { share, low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
}

/// What the threshold does to the samples.
pub fn error(samples: &[Sample], bound: Bound, threshold: f32) -> Error {
    let count = |said: bool, named: bool| {
        let fits = |s: &&Sample| (badness(s.score, bound) > badness(threshold, bound)) == said && s.named == named;
        samples.iter().filter(fits).count() as u64
    };
    let (hits, false_alarms, misses, passed) =
        (count(true, true), count(true, false), count(false, true), count(false, false));
    Error {
        hits,
        false_alarms,
        misses,
        passed,
        precision: wilson(hits, hits + false_alarms),
        recall: wilson(hits, hits + misses),
        wrongly: wilson(false_alarms, false_alarms + passed),
    }
}

/// The threshold that names most of what is to be named, while it names at most a share `wrongly_max` of the others.
///
/// Of all such thresholds that name the same samples it is the one in the middle, as far from both sides as can be. None
/// where nothing could be named.
pub fn choose(samples: &[Sample], bound: Bound, wrongly_max: f64) -> Option<f32> {
    let of = |named: bool| -> Vec<f32> {
        let chosen = samples.iter().filter(|s| s.named == named && !s.score.is_nan());
        chosen.map(|s| badness(s.score, bound)).collect()
    };
    let mut others = of(false);
    others.sort_by(|a, b| b.total_cmp(a));
    let spared = (wrongly_max * others.len() as f64).floor() as usize;
    let last = *others.get(spared)?; // the worst that must not be named
    let next = of(true).into_iter().chain(others.into_iter().take(spared)).filter(|v| *v > last);
    let next = next.min_by(f32::total_cmp)?;
    of(true).iter().any(|v| *v > last).then(|| badness(between(last, next), bound))
}

/// Larger is worse, whichever side is bad. Its own inverse.
fn badness(score: f32, bound: Bound) -> f32 {
    match bound {
        Bound::AtLeast => -score,
        Bound::AtMost => score,
    }
}

/// The middle, with as few digits as tell the two apart.
fn between(low: f32, high: f32) -> f32 {
    let middle = low + (high - low) / 2.0;
    let rounded = (1..7).map(|digits| {
        let scale = 10_f32.powi(digits);
        (middle * scale).round() / scale
    });
    rounded.into_iter().find(|v| (v - middle).abs() <= (high - low) / 8.0 && low <= *v && *v < high).unwrap_or(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(good: &[f32], bad: &[f32]) -> Vec<Sample> {
        let of = |named: bool| move |score: &f32| Sample { score: *score, named };
        good.iter().map(of(false)).chain(bad.iter().map(of(true))).collect()
    }

    #[track_caller]
    fn check(good: &[f32], bad: &[f32], bound: Bound, wrongly_max: f64, want: Option<f32>) {
        assert_eq!(choose(&samples(good, bad), bound, wrongly_max), want);
    }

    #[test]
    fn the_threshold_lies_in_the_middle_of_the_gap() {
        check(&[0.4, 0.5, 0.6], &[0.1, 0.2], Bound::AtLeast, 0.0, Some(0.3));
        check(&[0.1, 0.2], &[0.6, 0.7], Bound::AtMost, 0.0, Some(0.4));
    }

    #[test]
    fn what_overlaps_is_given_up_unless_an_error_is_allowed() {
        check(&[0.1, 0.5, 0.6, 0.7], &[0.05, 0.2], Bound::AtLeast, 0.0, Some(0.08));
        check(&[0.1, 0.5, 0.6, 0.7], &[0.05, 0.2], Bound::AtLeast, 0.25, Some(0.35));
    }

    #[test]
    fn nothing_is_proposed_where_nothing_can_be_told() {
        check(&[0.1, 0.2], &[0.3, 0.4], Bound::AtLeast, 0.0, None);
        check(&[0.1], &[], Bound::AtLeast, 0.0, None);
        check(&[], &[0.1], Bound::AtLeast, 0.0, None);
    }

    #[test]
    fn errors_are_counted_on_both_sides() {
        let found = error(&samples(&[0.1, 0.5, 0.6], &[0.2, 0.9]), Bound::AtLeast, 0.3);
        assert_eq!((found.hits, found.false_alarms, found.misses, found.passed), (1, 1, 1, 2));
        assert_eq!(found.precision.map(|p| p.share), Some(0.5));
    }

    #[test]
    fn wilsons_interval_has_the_numbers_of_the_textbook() {
        let near = |share: Option<Share>, low: f64, high: f64| {
            share.is_some_and(|s| (s.low - low).abs() < 5e-4 && (s.high - high).abs() < 5e-4)
        };
        assert!(near(wilson(15, 20), 0.5313, 0.8881), "{:?}", wilson(15, 20));
        assert!(near(wilson(0, 10), 0.0, 0.2775), "{:?}", wilson(0, 10));
        assert!(near(wilson(10, 10), 0.7225, 1.0), "{:?}", wilson(10, 10));
        assert_eq!(wilson(0, 0), None);
    }
}
