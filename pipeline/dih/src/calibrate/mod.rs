//! Thresholds from the user's own photos.
//!
//! Takes    photos, damaged and edited in known ways, and what people decided about some of them. Gives for each threshold
//!          the present value, a proposed one, and how often each errs.
//! How      scores are those of the very code that decides: measures and rules of verify, the comparison of pixels of
//!          dedupe and cluster.
//! Weak at  photos that are bad themselves count as good unless a person says otherwise; damage is imitated.

pub mod choose;
pub mod decisions;
pub mod proposal;
pub mod repeats;

use dih_verify::{Bound, rules};

use self::{
    choose::{Sample, choose, error},
    decisions::Decisions,
    proposal::Setting,
};
use crate::bench::{
    damage::{DAMAGES, Question},
    quality::{Case, Measured},
};

/// Most of the good photos that a proposed threshold may refuse, for each setting.
pub const WRONGLY_MAX: f64 = 0.005;

/// Settings of verify that are calibrated, and the question that each answers.
const SETTINGS: [(&str, Question); 5] = [
    ("verify.acuity_min", Question::Blurred),
    ("verify.sharpness_min", Question::Blurred),
    ("verify.luma_p99_min", Question::TooDark),
    ("verify.overexposure_max", Question::Overexposed),
    ("verify.entropy_min", Question::LowInformation),
];

/// Calibrates the quality rules. `files` names each case; pure.
pub fn quality(files: &[String], cases: &[Case], said: &Decisions, config: &dih_verify::Config) -> Vec<Setting> {
    let calibrate = |(path, question): (&str, Question)| {
        let (bound, present) = rule_of(path, config)?;
        Some(weigh(path, bound, present, &samples(path, question, files, cases, said, config)))
    };
    SETTINGS.into_iter().filter_map(calibrate).collect()
}

/// Compares the present threshold with the best that the samples allow.
pub fn weigh(path: &str, bound: Bound, present: f32, samples: &[Sample]) -> Setting {
    let proposed = choose(samples, bound, WRONGLY_MAX);
    Setting {
        setting: path.to_owned(),
        present,
        at_present: error(samples, bound, present),
        proposed,
        at_proposed: proposed.map(|threshold| error(samples, bound, threshold)),
    }
}

/// Untouched photos are good, damaged ones bad in their own way; whoever was asked knows better.
fn samples(
    path: &str,
    question: Question,
    files: &[String],
    cases: &[Case],
    said: &Decisions,
    config: &dih_verify::Config,
) -> Vec<Sample> {
    let sample = |photo: &Measured, named| score(path, photo, config).map(|score| Sample { score, named });
    let mut samples = Vec::new();
    for (file, case) in files.iter().zip(cases) {
        let named = said.about(file, question.reason()).unwrap_or(false);
        samples.extend(sample(&case.untouched, named));
        let asked = DAMAGES.iter().zip(&case.damaged).filter(|((_, _, expected), _)| *expected == Some(question));
        samples.extend(asked.filter_map(|(_, damaged)| sample(damaged, true)));
    }
    samples
}

fn score(path: &str, photo: &Measured, config: &dih_verify::Config) -> Option<f32> {
    rules(photo.size, &photo.measures, config).iter().find(|rule| rule.setting == path)?.score
}

fn rule_of(path: &str, config: &dih_verify::Config) -> Option<(Bound, f32)> {
    let nothing = dih_core::image::Size { width: 1, height: 1 };
    let rules = rules(nothing, &dih_core::image::Measures::default(), config);
    rules.iter().find(|rule| rule.setting == path).map(|rule| (rule.bound, rule.threshold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_calibrated_setting_is_one_of_a_rule() {
        for (path, question) in SETTINGS {
            let config = dih_verify::Config::default();
            let size = dih_core::image::Size { width: 1, height: 1 };
            let rules = rules(size, &dih_core::image::Measures::default(), &config);
            let rule = rules.iter().find(|rule| rule.setting == path);
            assert_eq!(rule.map(|rule| rule.reason), Some(question.reason()), "{path}");
        }
    }
}
