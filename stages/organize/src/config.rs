//! Settings of the organize stage.

use std::num::{NonZeroU32, NonZeroUsize};

use dih_core::config::{Faults, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the organize stage: pictures for publication, and how versions are cut.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest side of a published picture in pixels; smaller originals keep their size.
    pub picture_side: NonZeroU32,
    /// JPEG quality of published pictures, 1 to 100.
    pub picture_quality: u8,
    /// From this cosine two photos look alike, so they share a cluster and thereby a split. Low on purpose: a link too
    /// many costs some balance between the splits, a link too few leaks test photos into the training.
    pub link_cosine: f32,
    /// Largest share of a version that one cluster may hold before it is linked again by a stricter cosine, 0 to 1.
    pub cluster_share_max: f64,
    /// Nearest neighbours looked at for each member.
    pub neighbours: NonZeroUsize,
    /// Up to this many members every pair is compared (exact, the same on every run, members only); above it, the
    /// index is asked for neighbours.
    pub exact_members_max: usize,
    /// A label with fewer members gets no second look: too few to learn what it looks like.
    pub hold_members_min: NonZeroUsize,
    /// Of the photos that a cut holds back, at least this share is expected to have a wrong label, 0 to 1: the mean of
    /// their probabilities. Higher holds fewer. Whatever it is, nothing is held that is wrong with a probability below
    /// a third.
    pub hold_precision_min: f32,
    /// Records a page when the index is read.
    pub page: NonZeroUsize,
    /// Store requests under way at once.
    pub concurrency: NonZeroUsize,
    /// Photos a shard holds on average at most; a shard is built in memory, about 50 MB with this default.
    pub shard_photos: NonZeroUsize,
    /// After this long without a sign, a cut that another process began is taken to be dead.
    pub cut_stale: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            picture_side: NonZeroU32::new(1024).expect("not zero"),
            picture_quality: 90,
            // On 1,797 photos of clothing (EfficientNet-Lite0) 0.90 links 15 pairs, the largest group has 6; at 0.80 one
            // group would have 128 of them.
            link_cosine: 0.90,
            cluster_share_max: 0.05,
            neighbours: NonZeroUsize::new(10).expect("not zero"),
            exact_members_max: 20_000,
            hold_members_min: NonZeroUsize::new(8).expect("not zero"),
            hold_precision_min: 0.8,
            page: NonZeroUsize::new(256).expect("not zero"),
            concurrency: NonZeroUsize::new(8).expect("not zero"),
            shard_photos: NonZeroUsize::new(250).expect("not zero"),
            cut_stale: HumanDuration::secs(120),
        }
    }
}

impl Config {
    /// Collects every fault, with its path and a hint, before anything connects.
    pub fn check(&self, faults: &mut Faults) {
        let share = |x: f64| x > 0.0 && x <= 1.0;
        faults.require(
            (1..=100).contains(&self.picture_quality),
            "organize.picture_quality",
            "is not between 1 and 100",
            "try `90`",
        );
        faults.require(
            (64..=16_384).contains(&self.picture_side.get()),
            "organize.picture_side",
            "is not between 64 and 16384 pixels",
            "try `1024`",
        );
        faults.require(
            share(f64::from(self.link_cosine)),
            "organize.link_cosine",
            "is not above 0 and at most 1",
            "try `0.90`",
        );
        faults.require(
            share(self.cluster_share_max),
            "organize.cluster_share_max",
            "is not above 0 and at most 1",
            "try `0.05`",
        );
        faults.require(
            (0.0..=1.0).contains(&self.hold_precision_min),
            "organize.hold_precision_min",
            "is not between 0 and 1",
            "try `0.8`",
        );
        faults.require(self.page.get() <= 10_000, "organize.page", "is above 10000", "try `256`");
        faults.require(
            self.cut_stale.0.as_secs() >= 10,
            "organize.cut_stale",
            "is below 10s, so a living cut could be taken for dead",
            "try `2m`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault_and_nonsense_has_one_each() {
        let faults = |config: Config| {
            let mut faults = Faults::default();
            config.check(&mut faults);
            faults.into_vec().len()
        };
        assert_eq!(faults(Config::default()), 0);
        assert_eq!(faults(Config { picture_quality: 0, link_cosine: f32::NAN, ..Config::default() }), 2);
        assert_eq!(faults(Config { cut_stale: HumanDuration::secs(1), ..Config::default() }), 1);
    }
}
