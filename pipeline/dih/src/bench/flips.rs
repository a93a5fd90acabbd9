//! Wrong labels on purpose: which photos get one, and which. Pure.
//!
//! Takes    the truth about a crowd, how many to flip, who is careless, and what is taken for what. Gives the same truth
//!          with other claims. The same seed gives the same flips.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::True;

/// How labels become wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Habits {
    pub seed: u64,
    /// Share of wrong labels among all.
    pub share: f64,
    /// Share of the devices that are careless; they are wrong [`CARELESS`] times as often as the others.
    pub careless: f64,
}

/// How much more often a careless device is wrong than another.
pub const CARELESS: f64 = 8.0;
/// No device is wrong more often.
const SHARE_MAX: f64 = 0.9;

/// For each true label what it may be taken for, and how readily.
pub type Confusions = BTreeMap<String, Vec<(String, f64)>>;

/// Every label is taken for every other one alike.
pub fn uniform(truth: &[True]) -> Confusions {
    let all: BTreeSet<&str> = truth.iter().map(|t| t.true_label.as_str()).collect();
    let others = |own: &str| all.iter().filter(|l| **l != own).map(|l| ((*l).to_owned(), 1.0)).collect();
    all.iter().map(|own| ((*own).to_owned(), others(own))).collect()
}

/// Flips the labels of some uploads; gives the careless devices.
pub fn flip(truth: &mut [True], confusions: &Confusions, habits: &Habits) -> BTreeSet<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(habits.seed);
    let devices: BTreeSet<String> = truth.iter().map(|t| t.device.clone()).collect();
    let devices: Vec<String> = devices.into_iter().collect();
    let wanted = (habits.careless * devices.len() as f64).round() as usize;
    let careless: BTreeSet<String> = devices.sample(&mut rng, wanted).cloned().collect();
    let theirs = truth.iter().filter(|t| careless.contains(&t.device)).count() as f64;
    let others = truth.len() as f64 - theirs;
    let base = habits.share * truth.len() as f64 / (others + CARELESS * theirs).max(1.0);
    for upload in truth.iter_mut() {
        let rate = if careless.contains(&upload.device) { (CARELESS * base).min(SHARE_MAX) } else { base };
        let flips = rng.random_bool(rate.clamp(0.0, 1.0));
        let readily = confusions.get(&upload.true_label).map_or(&[][..], Vec::as_slice);
        if let (true, Ok((label, _))) = (flips, readily.choose_weighted(&mut rng, |(_, weight)| *weight)) {
            upload.label.clone_from(label);
        }
    }
    careless
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(n: usize) -> Vec<True> {
        let upload = |i: usize| True {
            source: format!("{i}"),
            device: format!("device-{}", i % 10),
            label: ["cat", "dog", "owl"][i % 3].into(),
            true_label: ["cat", "dog", "owl"][i % 3].into(),
            kind: "shot".into(),
            of_source: String::new(),
            edit: String::new(),
            photo: format!("{i}"),
        };
        (0..n).map(upload).collect()
    }

    fn wrong(truth: &[True], by: impl Fn(&True) -> bool) -> f64 {
        let all: Vec<&True> = truth.iter().filter(|t| by(t)).collect();
        all.iter().filter(|t| t.label != t.true_label).count() as f64 / all.len() as f64
    }

    #[test]
    fn the_share_holds_on_the_whole_and_careless_devices_have_most_of_it() {
        let mut truth = crowd(6000);
        let confusions = uniform(&truth);
        let habits = Habits { seed: 3, share: 0.1, careless: 0.2 };
        let careless = flip(&mut truth, &confusions, &habits);
        assert_eq!(careless.len(), 2);
        assert!((wrong(&truth, |_| true) - 0.1).abs() < 0.02);
        let (theirs, others) =
            (wrong(&truth, |t| careless.contains(&t.device)), wrong(&truth, |t| !careless.contains(&t.device)));
        assert!((theirs / others - CARELESS).abs() < 2.0, "{theirs} {others}");
        let mut again = crowd(6000);
        flip(&mut again, &confusions, &habits);
        assert_eq!(truth, again);
    }

    #[test]
    fn a_label_is_only_taken_for_what_it_is_confused_with() {
        let mut truth = crowd(300);
        let confusions = BTreeMap::from([("cat".to_owned(), vec![("owl".to_owned(), 1.0), ("dog".to_owned(), 0.0)])]);
        flip(&mut truth, &confusions, &Habits { seed: 1, share: 0.5, careless: 0.0 });
        assert!(wrong(&truth, |t| t.true_label == "cat") > 0.3);
        assert!(truth.iter().all(|t| t.label == t.true_label || t.label == "owl"));
    }
}
