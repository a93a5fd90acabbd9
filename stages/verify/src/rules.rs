//! The quality rules: what a picture must be, judged by its measurements alone.

use std::fmt;

use dih_core::event::Image;

use crate::Config;

/// A rule that a picture breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Code of the rule, and of the rejection.
    pub reason: &'static str,
    pub score: f32,
    pub threshold: f32,
    must_be: &'static str,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:.3}, must be {} {:.3}", self.reason, self.score, self.must_be, self.threshold)
    }
}

/// The first rule that the picture breaks, the plainest first: an empty picture is also unsharp.
pub(crate) fn breach(image: &Image, config: &Config) -> Option<Breach> {
    let m = &image.measures;
    let side = image.size.width.min(image.size.height) as f32;
    let at_least = |reason, score: f32, threshold: f32| {
        let broken = threshold > 0.0 && (score.is_nan() || score < threshold); // a measurement that is no number breaks the rule
        broken.then_some(Breach { reason, score, threshold, must_be: "at least" })
    };
    let at_most = |reason, score: f32, threshold: f32| {
        let broken = threshold < 1.0 && (score.is_nan() || score > threshold);
        broken.then_some(Breach { reason, score, threshold, must_be: "at most" })
    };
    at_least("too_small", side, config.side_min as f32)
        .or_else(|| at_most("transparent", m.transparent, config.transparent_max))
        .or_else(|| at_least("too_dark", m.luma_p95, config.luma_p95_min))
        .or_else(|| at_most("overexposed", m.luma_p05, config.luma_p05_max))
        .or_else(|| at_least("low_information", m.entropy, config.entropy_min))
        .or_else(|| at_least("blurred", m.sharpness, config.sharpness_min))
}

#[cfg(test)]
mod tests {
    use dih_core::{
        image::{Measures, Size},
        sample::image,
    };

    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Measures), side: u32, want: Option<&str>) {
        let mut image = image(1, 1);
        change(&mut image.measures);
        image.size = Size { width: side, height: 4 * side };
        assert_eq!(breach(&image, &Config::default()).map(|b| b.reason), want);
    }

    #[test]
    fn a_good_picture_breaks_no_rule() {
        check(|_| (), 400, None);
    }

    #[test]
    fn each_rule_names_itself() {
        check(|_| (), 63, Some("too_small"));
        check(|m| m.luma_p95 = 0.1, 400, Some("too_dark"));
        check(|m| m.luma_p05 = 0.97, 400, Some("overexposed"));
        check(|m| m.entropy = 0.4, 400, Some("low_information"));
        check(|m| m.sharpness = 3.0, 400, Some("blurred"));
        check(|m| m.transparent = 1.0, 400, Some("transparent"));
    }

    #[test]
    fn a_measurement_that_is_no_number_does_not_pass() {
        check(|m| m.sharpness = f32::NAN, 400, Some("blurred"));
    }

    #[test]
    fn a_rule_that_is_switched_off_refuses_nothing() {
        let mut image = image(1, 1);
        image.measures.sharpness = 0.0;
        let config = Config { sharpness_min: 0.0, ..Config::default() };
        assert_eq!(breach(&image, &config), None);
    }
}
