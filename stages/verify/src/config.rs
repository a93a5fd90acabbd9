//! Settings of the verify stage.

use dih_core::config::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the verify stage. A rule with threshold 0 (or 1 for upper bounds) never refuses.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shortest side a picture must have, in pixels, after being turned upright.
    pub side_min: u32,
    /// Least variance of the Laplacian of the preview's luma; below it the picture is refused as `blurred`.
    pub sharpness_min: f32,
    /// Least 95th percentile of luma, 0 to 1; below it even the bright parts are dark: `too_dark`.
    pub luma_p95_min: f32,
    /// Most 5th percentile of luma, 0 to 1; above it even the dark parts are bright: `overexposed`.
    pub luma_p05_max: f32,
    /// Least entropy of luma in bits, 0 to 8; below it the picture is empty: `low_information`.
    pub entropy_min: f32,
    /// Most share of fully transparent pixels, 0 to 1; above it there is next to nothing to see: `transparent`.
    pub transparent_max: f32,
    /// Least probability the classifier must give to the label or its kin; below it the label is absurd, but only
    /// where the classifier knows the label at all and is sure of something else (`top_probability_min`).
    pub label_score_min: f32,
    /// Least probability of the classifier's best class to hold a photo for its label.
    pub top_probability_min: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            side_min: 64,
            sharpness_min: 12.0,
            luma_p95_min: 0.16,
            luma_p05_max: 0.92,
            entropy_min: 0.5,
            transparent_max: 0.98,
            label_score_min: 0.0005,
            top_probability_min: 0.9,
        }
    }
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        let shares = [
            ("verify.luma_p95_min", self.luma_p95_min),
            ("verify.luma_p05_max", self.luma_p05_max),
            ("verify.transparent_max", self.transparent_max),
            ("verify.label_score_min", self.label_score_min),
            ("verify.top_probability_min", self.top_probability_min),
        ];
        for (path, value) in shares {
            faults.require((0.0..=1.0).contains(&value), path, "is not between 0 and 1", "it is a share");
        }
        let bits = (0.0..=8.0).contains(&self.entropy_min);
        faults.require(bits, "verify.entropy_min", "is not between 0 and 8 bits", "try `0.5`");
        faults.require(self.sharpness_min >= 0.0, "verify.sharpness_min", "is negative or no number", "try `12.0`");
    }
}
