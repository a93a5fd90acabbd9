//! Settings of the cluster stage.

use dih_core::config::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the cluster stage. Cosines are between vectors of one model, -1 to 1.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Least cosine of a neighbour worth reading.
    pub cosine_min: f32,
    /// Most neighbours to read, nearest first.
    pub neighbours_max: usize,
    /// Least cosine of a picture to be compared on its pixels. Never a verdict by itself: in a shelf of groceries
    /// thousands of different photos exceed 0.90. Low, because copies without a tenth of each side fall to 0.55.
    pub repeat_cosine_min: f32,
    /// Most earlier pictures to compare on their pixels, nearest first. Most that are no repeats are told so at a
    /// glance.
    pub candidates_max: usize,
    /// Least cosine to the nearest earlier picture to join its group.
    pub group_cosine_min: f32,
    /// Fewest labelled neighbours for them to have an opinion on a label.
    pub opinion_neighbours_min: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cosine_min: 0.5,
            neighbours_max: 32,
            repeat_cosine_min: 0.6,
            candidates_max: 8,
            group_cosine_min: 0.9,
            opinion_neighbours_min: 5,
        }
    }
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        let cosines = [
            ("cluster.cosine_min", self.cosine_min),
            ("cluster.repeat_cosine_min", self.repeat_cosine_min),
            ("cluster.group_cosine_min", self.group_cosine_min),
        ];
        for (path, value) in cosines {
            faults.require((-1.0..=1.0).contains(&value), path, "is not between -1 and 1", "it is a cosine");
        }
        let wide_enough = self.cosine_min <= self.repeat_cosine_min && self.cosine_min <= self.group_cosine_min;
        faults.require(wide_enough, "cluster.cosine_min", "is above a cosine that it should let through", "try `0.5`");
        faults.require(self.neighbours_max > 0, "cluster.neighbours_max", "is 0", "try `32`");
    }
}
