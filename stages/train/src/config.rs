//! Settings of the train stage.

use std::num::NonZeroUsize;

use dih_core::config::Faults;
use dih_learning::HeadPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the train stage.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A label with fewer photos to learn from is left out, and named in the report; where it was chosen by name, the
    /// request is answered with it instead.
    pub label_photos_min: NonZeroUsize,
    /// Photos used of a version at most, chosen by their ids; 5 kB of memory each.
    pub photos_max: NonZeroUsize,
    /// Most passes over the training photos.
    pub epochs_max: NonZeroUsize,
    /// Passes without a smaller validation loss after which training stops.
    pub patience: NonZeroUsize,
    /// Photos a step.
    pub batch: NonZeroUsize,
    /// Size of a step (Adam).
    pub rate: f32,
    /// Weight decay.
    pub l2: f32,
    /// 0: every photo counts the same; 1: every label counts the same, however few photos it has.
    pub balance: f32,
    /// Whether a photo counts the less the likelier its label is wrong, as its version tells. Else all count the same.
    pub weigh_doubts: bool,
    /// Test photos at most on which the exported file is held against the trainer.
    pub checked_max: NonZeroUsize,
    /// Largest difference of any probability between exported file and trainer; 0 to 1. Other machines and batch sizes
    /// round differently, and the difference grows with the weights.
    pub tolerance: f32,
}

impl Default for Config {
    fn default() -> Self {
        let head = HeadPolicy::default();
        let count = |n| NonZeroUsize::new(n).expect("defaults are above zero");
        Self {
            label_photos_min: count(5),
            photos_max: count(200_000),
            epochs_max: count(head.epochs_max),
            patience: count(head.patience),
            batch: count(head.batch),
            rate: head.rate,
            l2: head.l2,
            balance: head.balance,
            weigh_doubts: true,
            checked_max: count(1000),
            tolerance: 0.01,
        }
    }
}

impl Config {
    /// Collects every fault, with its path and a hint, before anything connects.
    pub fn check(&self, faults: &mut Faults) {
        let within = |v: f32, low: f32, high: f32| v.is_finite() && v >= low && v <= high;
        let rate = self.rate.is_finite() && self.rate > 0.0 && self.rate <= 1.0;
        faults.require(rate, "train.rate", "is not above 0 and at most 1", "try `0.05`");
        faults.require(within(self.l2, 0.0, 1.0), "train.l2", "is not between 0 and 1", "try `0.0001`");
        faults.require(within(self.balance, 0.0, 1.0), "train.balance", "is not between 0 and 1", "try `0.5`");
        let tolerance = within(self.tolerance, 1e-6, 1.0);
        faults.require(tolerance, "train.tolerance", "is not between 0.000001 and 1", "try `0.01`");
    }

    pub(crate) fn head(&self, seed: u64) -> HeadPolicy {
        HeadPolicy {
            seed,
            epochs_max: self.epochs_max.get(),
            patience: self.patience.get(),
            batch: self.batch.get(),
            rate: self.rate,
            l2: self.l2,
            balance: self.balance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_have_no_fault_and_every_nonsense_has_one() {
        let faults = |config: Config| {
            let mut faults = Faults::default();
            config.check(&mut faults);
            faults.into_vec().len()
        };
        assert_eq!(faults(Config::default()), 0);
        let nonsense = Config { rate: 0.0, l2: -1.0, balance: 2.0, tolerance: f32::NAN, ..Config::default() };
        assert_eq!(faults(nonsense), 4);
    }
}
