//! How well thresholds decide, as measured on photos of known truth; decisions carry it in their lineage.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Faults;

/// The error of a threshold, and the calibration that measured it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// Which calibration: `calibration-3`.
    pub id: String,
    /// Share of those that the threshold names which are rightly named, 0 to 1.
    pub precision: f32,
    /// Share of those to be named that it names, 0 to 1.
    pub recall: f32,
    /// Photos, or pairs of photos, that it was measured on.
    pub samples: u32,
}

/// A threshold as it was when its error was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which calibration: `calibration-3`.
    pub id: String,
    /// Value of the setting at which the error was measured; at another value it says nothing.
    pub threshold: f32,
    /// Share of those that the threshold names which are rightly named, 0 to 1.
    pub precision: f32,
    /// Share of those to be named that it names, 0 to 1.
    pub recall: f32,
    /// Photos, or pairs of photos, that it was measured on.
    pub samples: u32,
}

/// What `dih calibrate --accept` measured, by the path of the setting: `verify.acuity_min`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Calibrations(pub BTreeMap<String, Entry>);

impl Calibrations {
    /// The error of a setting at this value. None where it was measured at another one: nobody knows its error now.
    pub fn of(&self, setting: &str, threshold: f32) -> Option<Calibrated> {
        let entry = self.0.get(setting)?;
        // A file may hold fewer digits than the number.
        let same = (entry.threshold - threshold).abs() <= 1e-6 * threshold.abs().max(1.0);
        let Entry { id, precision, recall, samples, .. } = entry.clone();
        same.then_some(Calibrated { id, precision, recall, samples })
    }

    pub fn check(&self, faults: &mut Faults) {
        for (setting, entry) in &self.0 {
            let shares = [entry.precision, entry.recall].iter().all(|share| (0.0..=1.0).contains(share));
            let path = format!("calibration.\"{setting}\"");
            faults.require(shares, &path, "has a share that is not between 0 and 1", "run `dih calibrate` again");
            let named = !entry.id.is_empty() && entry.samples > 0;
            faults.require(named, &path, "has no id or no samples", "run `dih calibrate` again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_the_measured_threshold_only() {
        let error = Calibrated { id: "calibration-1".into(), precision: 0.9, recall: 0.8, samples: 10 };
        let entry = Entry { id: error.id.clone(), threshold: 0.25, precision: 0.9, recall: 0.8, samples: 10 };
        let known = Calibrations([("verify.acuity_min".to_owned(), entry)].into());
        assert_eq!(known.of("verify.acuity_min", 0.25), Some(error));
        assert_eq!(known.of("verify.acuity_min", 0.26), None);
        assert_eq!(known.of("verify.sharpness_min", 0.25), None);
    }
}
