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
    /// Least acuity: how steep edges are, whatever their contrast; below it the picture is refused as `blurred`. Of
    /// untouched photos 1 in 200 lies below, of those with a normal blur of 2 pixels on 400 next to none above
    /// (docs/BENCHMARKS.md, quality rules).
    pub acuity_min: f32,
    /// Least variance of the Laplacian of the preview's luma; below it nothing is left to be sharp: `blurred`. Very
    /// wide blur leaves no edge whose steepness could be told.
    pub sharpness_min: f32,
    /// Least 99th percentile of luma, 0 to 1; below it even the brightest parts are dark: `too_dark`. Of untouched photos
    /// none was below .49; a photo at .3 of its brightness is.
    pub luma_p99_min: f32,
    /// Most overexposure, 0 to 1: .3 times the share of pixels with a colour cut off at white, .3 times that in the middle of
    /// the photo, .4 times the luma of its shadows, counted twice above a half; above it the light is blown out:
    /// `overexposed`. Of untouched photos of clothes 1 in 270 lies above, of photos of the web, many of goods on white, 1 in 38 (docs/BENCHMARKS.md, quality rules).
    pub overexposure_max: f32,
    /// Least entropy of luma in bits, 0 to 8; below it the picture is empty: `low_information`.
    pub entropy_min: f32,
    /// Most share of fully transparent pixels, 0 to 1; above it there is next to nothing to see: `transparent`.
    pub transparent_max: f32,
    /// Most standard deviation of noise, as a share of the range from black to white; above it: `noisy`. Off (1), for
    /// noise hides little from a person or a model; `0.05` refuses what looks like a night shot at ISO 25,600.
    pub noise_max: f32,
    /// Most share of the picture that is bars along its sides, 0 to 1; above it: `letterboxed`. Off (1), for inside of the
    /// bars there is a whole photo, and all other rules look there.
    pub bars_max: f32,
    /// Most probability of a safety model that a picture is unsafe; above it: `unsafe`. Asked only where `model.safety`
    /// names a model. `0.8` is what the makers of open_nsfw call very likely unsafe; below `0.2` very likely safe.
    pub unsafe_max: f32,
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
            acuity_min: 0.24,
            sharpness_min: 4.0,
            luma_p99_min: 0.32,
            overexposure_max: 0.28,
            entropy_min: 0.5,
            transparent_max: 0.98,
            noise_max: 1.0,
            bars_max: 1.0,
            unsafe_max: 0.8,
            label_score_min: 0.0005,
            top_probability_min: 0.9,
        }
    }
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        let shares = [
            ("verify.acuity_min", self.acuity_min),
            ("verify.luma_p99_min", self.luma_p99_min),
            ("verify.overexposure_max", self.overexposure_max),
            ("verify.transparent_max", self.transparent_max),
            ("verify.noise_max", self.noise_max),
            ("verify.bars_max", self.bars_max),
            ("verify.unsafe_max", self.unsafe_max),
            ("verify.label_score_min", self.label_score_min),
            ("verify.top_probability_min", self.top_probability_min),
        ];
        for (path, value) in shares {
            faults.require((0.0..=1.0).contains(&value), path, "is not between 0 and 1", "it is a share");
        }
        let bits = (0.0..=8.0).contains(&self.entropy_min);
        faults.require(bits, "verify.entropy_min", "is not between 0 and 8 bits", "try `0.5`");
        faults.require(self.sharpness_min >= 0.0, "verify.sharpness_min", "is negative or no number", "try `4.0`");
    }
}
