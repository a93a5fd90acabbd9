//! Thresholds of the confirmation.

use dih_core::config::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::blocks::Limits;

/// What two pictures must have in common to count as the same shot.
///
/// `dih bench repeats` measures what comes of it, the `confirm_eval` example each comparison by itself.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Least correlation of the 12-pixel thumbnails, -1 to 1, at which an orientation is looked at. It only saves work.
    pub correlation_start_min: f32,
    /// Least correlation of luma, -1 to 1, at which an alignment is followed beyond the 16-pixel planes.
    /// It only saves work.
    pub correlation_coarse_min: f32,
    /// Least correlation of luma over the overlap, -1 to 1, at which an alignment is followed beyond the 32-pixel and the
    /// 64-pixel planes. It only saves work: most different pictures stay far below it.
    pub correlation_min: f32,
    /// Most that the map may stretch one direction over the other; 1 is none. Copies are scaled evenly, but for rounding.
    pub stretch_max: f32,
    /// Least share of the larger picture that the smaller must show, 0 to 1. A cut to 75 % of each side keeps 0.56, a
    /// cut to 70 % keeps 0.49 and counts as a picture of its own.
    pub shared_min: f32,
    /// Fewest blocks (of 16 along the longest side) that must hold texture and agree. Fewer prove nothing: different
    /// pictures reach some by chance, but in a sea of others that differ.
    pub blocks_min: u32,
    /// Least share of the blocks with texture that must agree, 0 to 1. A watermark spoils up to a fifth; another object
    /// before the same background spoils all that it covers.
    pub agreement_min: f32,
    /// Least correlation of luma within a block, -1 to 1, at which the block agrees.
    pub block_correlation_min: f32,
    /// Standard deviation of luma, in grey levels, below which a block is flat and has no say: noise of the compression
    /// would decide.
    pub block_texture_min: f32,
    /// Difference of a block's mean luma, in grey levels after gain and offset, above which it disagrees even when flat.
    pub block_level_max: f32,
    /// Largest mean distance of chroma over the overlap, 0 to 255; half of it where more than a fifth of the blocks differ.
    pub colour_max: f32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            correlation_start_min: 0.45,
            correlation_coarse_min: 0.6,
            correlation_min: 0.7,
            stretch_max: 1.15,
            shared_min: 0.5,
            blocks_min: 10,
            agreement_min: 0.7,
            block_correlation_min: 0.6,
            block_texture_min: 4.0,
            block_level_max: 40.0,
            colour_max: 12.0,
        }
    }
}

impl Policy {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            texture_min: self.block_texture_min,
            correlation_min: self.block_correlation_min,
            level_max: self.block_level_max,
        }
    }

    /// Collects every fault, with its path below `at` and a hint.
    pub fn check(&self, at: &str, faults: &mut Faults) {
        let default = Self::default();
        let ranges = [
            ("correlation_start_min", self.correlation_start_min, 0.0, 1.0, default.correlation_start_min),
            ("correlation_coarse_min", self.correlation_coarse_min, 0.0, 1.0, default.correlation_coarse_min),
            ("correlation_min", self.correlation_min, 0.0, 1.0, default.correlation_min),
            ("stretch_max", self.stretch_max, 1.0, 4.0, default.stretch_max),
            ("shared_min", self.shared_min, 0.0, 1.0, default.shared_min),
            ("agreement_min", self.agreement_min, 0.0, 1.0, default.agreement_min),
            ("block_correlation_min", self.block_correlation_min, 0.0, 1.0, default.block_correlation_min),
            ("block_texture_min", self.block_texture_min, 0.5, 64.0, default.block_texture_min),
            ("block_level_max", self.block_level_max, 1.0, 255.0, default.block_level_max),
            ("colour_max", self.colour_max, 0.0, 255.0, default.colour_max),
        ];
        for (name, value, low, high, default) in ranges {
            if !(low..=high).contains(&value) {
                let problem = format!("is {value}, not within {low} to {high}");
                faults.add(format!("{at}.{name}"), problem, format!("try `{default}`"));
            }
        }
        if !(1..=256).contains(&self.blocks_min) {
            let problem = format!("is {}, not within 1 to 256 (all there are)", self.blocks_min);
            faults.add(format!("{at}.blocks_min"), problem, format!("try `{}`", default.blocks_min));
        }
    }
}
