//! The quality rules: what a picture must be, judged by its measurements alone.

use std::fmt;

use dih_core::image::{Measures, Size};

use crate::Config;

/// One question about a picture: a measurement held against a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Code of the rule, and of the rejection.
    pub reason: &'static str,
    /// Path of the setting.
    pub setting: &'static str,
    pub bound: Bound,
    /// None where it was not measured: then the rule has no say.
    pub score: Option<f32>,
    pub threshold: f32,
}

/// Which side of its threshold a score must be on. A minimum of 0 and a maximum of 1 never refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    AtLeast,
    AtMost,
}

/// A rule that a picture breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Code of the rule, and of the rejection.
    pub reason: &'static str,
    /// Path of the setting that refused it.
    pub setting: &'static str,
    pub score: f32,
    pub threshold: f32,
    bound: Bound,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let must_be = match self.bound {
            Bound::AtLeast => "at least",
            Bound::AtMost => "at most",
        };
        write!(f, "{} is {:.3}, must be {must_be} {:.3}", self.reason, self.score, self.threshold)
    }
}

impl Rule {
    /// The breach, if the picture breaks this rule. A measurement that is no number breaks it.
    pub fn breach(&self) -> Option<Breach> {
        let score = self.score?;
        let broken = match self.bound {
            Bound::AtLeast => self.threshold > 0.0 && (score.is_nan() || score < self.threshold),
            Bound::AtMost => self.threshold < 1.0 && (score.is_nan() || score > self.threshold),
        };
        let Rule { reason, setting, bound, threshold, .. } = *self;
        broken.then_some(Breach { reason, setting, score, threshold, bound })
    }
}

/// All rules about a picture, the plainest first: an empty picture is also unsharp.
pub fn rules(size: Size, m: &Measures, config: &Config) -> [Rule; 9] {
    let side = size.width.min(size.height) as f32;
    let at_least = |reason, setting, score, threshold| Rule {
        reason,
        setting,
        bound: Bound::AtLeast,
        score: Some(score),
        threshold,
    };
    let at_most = |reason, setting, score, threshold| Rule {
        bound: Bound::AtMost,
        ..at_least(reason, setting, score, threshold)
    };
    [
        at_least("too_small", "verify.side_min", side, config.side_min as f32),
        at_most("transparent", "verify.transparent_max", m.transparent, config.transparent_max),
        at_least("too_dark", "verify.luma_p99_min", m.luma_p99, config.luma_p99_min),
        Rule {
            score: m.overexposure,
            ..at_most("overexposed", "verify.overexposure_max", 0.0, config.overexposure_max)
        },
        at_least("low_information", "verify.entropy_min", m.entropy, config.entropy_min),
        at_least("blurred", "verify.sharpness_min", m.sharpness, config.sharpness_min),
        Rule { score: m.acuity, ..at_least("blurred", "verify.acuity_min", 0.0, config.acuity_min) },
        Rule { score: m.noise, ..at_most("noisy", "verify.noise_max", 0.0, config.noise_max) },
        Rule { score: m.bars, ..at_most("letterboxed", "verify.bars_max", 0.0, config.bars_max) },
    ]
}

/// The rule about what a safety model said.
pub(crate) fn safety(score: f32, config: &Config) -> Rule {
    let (setting, threshold) = ("verify.unsafe_max", config.unsafe_max);
    Rule { reason: "unsafe", setting, bound: Bound::AtMost, score: Some(score), threshold }
}

/// The first rule that the picture breaks.
pub fn breach(size: Size, measures: &Measures, config: &Config) -> Option<Breach> {
    rules(size, measures, config).iter().find_map(Rule::breach)
}

#[cfg(test)]
mod tests {
    use dih_core::sample::image;

    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Measures), side: u32, want: Option<&str>) {
        let mut measures = image(1, 1).measures;
        change(&mut measures);
        let size = Size { width: side, height: 4 * side };
        assert_eq!(breach(size, &measures, &Config::default()).map(|b| b.reason), want);
    }

    #[test]
    fn a_good_picture_breaks_no_rule() {
        check(|_| (), 400, None);
    }

    #[test]
    fn each_rule_names_itself() {
        check(|_| (), 63, Some("too_small"));
        check(|m| m.luma_p99 = 0.1, 400, Some("too_dark"));
        check(|m| m.overexposure = Some(0.8), 400, Some("overexposed"));
        check(|m| m.entropy = 0.4, 400, Some("low_information"));
        check(|m| m.sharpness = 3.0, 400, Some("blurred"));
        check(|m| m.acuity = Some(0.1), 400, Some("blurred"));
        check(|m| m.transparent = 1.0, 400, Some("transparent"));
    }

    #[test]
    fn noise_and_bars_refuse_only_where_that_is_wished() {
        let measures = Measures { noise: Some(0.2), bars: Some(0.5), ..image(1, 1).measures };
        let size = Size { width: 400, height: 400 };
        let reason = |config: &Config| breach(size, &measures, config).map(|b| b.reason);
        assert_eq!(reason(&Config::default()), None);
        assert_eq!(reason(&Config { noise_max: 0.1, ..Config::default() }), Some("noisy"));
        assert_eq!(reason(&Config { bars_max: 0.4, ..Config::default() }), Some("letterboxed"));
    }

    #[test]
    fn a_measurement_that_is_no_number_does_not_pass() {
        check(|m| m.sharpness = f32::NAN, 400, Some("blurred"));
    }

    #[test]
    fn what_an_older_version_did_not_measure_refuses_nothing() {
        check(|m| (m.acuity, m.noise, m.bars, m.overexposure) = (None, None, None, None), 400, None);
    }

    #[test]
    fn a_rule_that_is_switched_off_refuses_nothing() {
        let measures = Measures { sharpness: 0.0, acuity: Some(0.0), ..image(1, 1).measures };
        let config = Config { sharpness_min: 0.0, acuity_min: 0.0, ..Config::default() };
        assert_eq!(breach(Size { width: 400, height: 400 }, &measures, &config), None);
    }
}
