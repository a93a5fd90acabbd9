//! Which photos train a model and which test it. Pure.
//!
//! Takes  the groups of look-alikes with their labels, and the split that older members already have.
//! Gives  one split a group: look-alikes never stand on both sides, and nobody who has a split ever changes it.
//! Weak   where a new photo joins two older groups that have different splits: `plan` leaves it out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use dih_core::ImageId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    Val,
    Test,
}

impl Split {
    pub const ALL: [Split; 3] = [Self::Train, Self::Val, Self::Test];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Split {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|v| v.as_str() == s).ok_or_else(|| format!("unknown split {s:?}"))
    }
}

/// Shares of the splits; they add up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratios {
    pub train: f64,
    pub val: f64,
    pub test: f64,
}

impl Default for Ratios {
    fn default() -> Self {
        Self { train: 0.8, val: 0.1, test: 0.1 }
    }
}

impl Ratios {
    pub fn of(&self, split: Split) -> f64 {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
            Split::Test => self.test,
        }
    }

    /// Whether these are shares: none negative, adding up to 1.
    pub fn are_shares(&self) -> bool {
        let shares = [self.train, self.val, self.test];
        shares.iter().all(|s| (0.0..=1.0).contains(s)) && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6
    }
}

/// A group of photos that must not be parted.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Smallest image id in it: its name for the draw, whatever the order of arrival.
    pub key: ImageId,
    /// Members of each label (by class number), sorted by label; a photo of two labels counts under both.
    pub labels: Vec<(u32, u32)>,
    pub members: u32,
    /// The split it must have, because an older member has it.
    pub fixed: Option<Split>,
}

/// From this many members and groups on a label has photos in every split whose share is not zero.
const COVERED_MEMBERS_MIN: u32 = 10;
const COVERED_GROUPS_MIN: usize = 3;

/// The split of every group, in their order.
///
/// Largest groups first, equals in an order drawn from `seed`: each goes where its labels lack most photos of their
/// target share. After that, a label that is large enough but absent from a split gets its smallest free group moved
/// there. The answer depends on the set of groups only, not on their order.
pub fn assign(groups: &[Group], ratios: &Ratios, seed: u64) -> Vec<Split> {
    let mut tally = Tally::new(groups, ratios);
    let mut splits: Vec<Split> = groups.iter().map(|g| g.fixed.unwrap_or(Split::Train)).collect();
    for group in groups {
        if let Some(split) = group.fixed {
            tally.add(group, split);
        }
    }
    let mut free: Vec<usize> = (0..groups.len()).filter(|&g| groups[g].fixed.is_none()).collect();
    free.sort_by_cached_key(|&g| (std::cmp::Reverse(groups[g].members), draw(seed, groups[g].key), groups[g].key));
    for &g in &free {
        splits[g] = tally.neediest(&groups[g]);
        tally.add(&groups[g], splits[g]);
    }
    free.reverse(); // smallest first
    cover(groups, &free, &mut splits, &mut tally);
    splits
}

/// A number for a group, drawn from the seed.
fn draw(seed: u64, key: ImageId) -> [u8; 32] {
    let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(key.as_bytes());
    digest.finalize().into()
}

/// Members and groups of each label in each split, and how many there should be.
struct Tally {
    shares: [f64; 3],
    rows: BTreeMap<u32, Row>,
}

#[derive(Default)]
struct Row {
    total: u32,
    groups_total: usize,
    members: [u32; 3],
    groups: [usize; 3],
}

impl Tally {
    fn new(groups: &[Group], ratios: &Ratios) -> Self {
        let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
        for &(label, members) in groups.iter().flat_map(|g| &g.labels) {
            let row = rows.entry(label).or_default();
            row.total += members;
            row.groups_total += 1;
        }
        Self { shares: Split::ALL.map(|s| ratios.of(s)), rows }
    }

    fn add(&mut self, group: &Group, split: Split) {
        for (label, members) in &group.labels {
            if let Some(row) = self.rows.get_mut(label) {
                row.members[split as usize] += members;
                row.groups[split as usize] += 1;
            }
        }
    }

    fn remove(&mut self, group: &Group, split: Split) {
        for (label, members) in &group.labels {
            if let Some(row) = self.rows.get_mut(label) {
                row.members[split as usize] -= members;
                row.groups[split as usize] -= 1;
            }
        }
    }

    /// Where the labels of this group lack most photos; of equals the larger split, then the earlier.
    fn neediest(&self, group: &Group) -> Split {
        let lack = |split: Split| -> f64 {
            let of_label = |(label, members): &(u32, u32)| {
                let row = &self.rows[label];
                let target = self.shares[split as usize] * f64::from(row.total);
                (target - f64::from(row.members[split as usize])) * f64::from(*members)
            };
            group.labels.iter().map(of_label).sum()
        };
        let allowed = Split::ALL.into_iter().filter(|s| self.shares[*s as usize] > 0.0);
        let better = |a: &Split, b: &Split| {
            let share = |s: &Split| self.shares[*s as usize];
            lack(*a).total_cmp(&lack(*b)).then(share(a).total_cmp(&share(b))).then(b.cmp(a))
        };
        allowed.max_by(better).unwrap_or(Split::Train)
    }
}

/// Gives every label that is large enough at least one group in every split that has a share.
fn cover(groups: &[Group], smallest_first: &[usize], splits: &mut [Split], tally: &mut Tally) {
    let lacking: BTreeSet<(u32, Split)> = tally
        .rows
        .iter()
        .filter(|(_, row)| row.total >= COVERED_MEMBERS_MIN && row.groups_total >= COVERED_GROUPS_MIN)
        .flat_map(|(label, row)| {
            let empty = Split::ALL.into_iter().filter(|s| row.groups[*s as usize] == 0);
            empty.map(|s| (*label, s)).collect::<Vec<_>>()
        })
        .filter(|(_, split)| tally.shares[*split as usize] > 0.0)
        .collect();
    if lacking.is_empty() {
        return;
    }
    let labels: BTreeSet<u32> = lacking.iter().map(|(label, _)| *label).collect();
    let mut of_label: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for &g in smallest_first {
        for (label, _) in groups[g].labels.iter().filter(|(label, _)| labels.contains(label)) {
            of_label.entry(*label).or_default().push(g);
        }
    }
    for (label, split) in lacking {
        let candidates = of_label.get(&label).map_or(&[][..], Vec::as_slice);
        // Leave behind neither this label nor any other of the group without its last group where it comes from. Where
        // every candidate would, this label at least must not lose.
        let spares = |g: usize, label: &u32| tally.rows[label].groups[splits[g] as usize] >= 2;
        let mut kind = candidates.iter().copied().filter(|&g| groups[g].labels.iter().all(|(l, _)| spares(g, l)));
        let mut selfish = candidates.iter().copied().filter(|&g| spares(g, &label));
        if tally.rows[&label].groups[split as usize] == 0
            && let Some(g) = kind.next().or_else(|| selfish.next())
        {
            tally.remove(&groups[g], splits[g]);
            splits[g] = split;
            tally.add(&groups[g], split);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(key: u8, label: u32, members: u32) -> Group {
        Group { key: ImageId::from_bytes([key; 16]), labels: vec![(label, members)], members, fixed: None }
    }

    fn members_of(groups: &[Group], splits: &[Split], label: u32, split: Split) -> u32 {
        let here = groups.iter().zip(splits).filter(|(_, s)| **s == split);
        here.flat_map(|(g, _)| &g.labels).filter(|(l, _)| *l == label).map(|(_, n)| n).sum()
    }

    #[test]
    fn shares_are_met_label_by_label() {
        let groups: Vec<Group> = (0..200).map(|k| group(k, u32::from(k % 2), 1)).collect();
        let splits = assign(&groups, &Ratios::default(), 7);
        for label in [0, 1] {
            let counts = Split::ALL.map(|s| members_of(&groups, &splits, label, s));
            assert_eq!(counts, [80, 10, 10]);
        }
    }

    #[test]
    fn a_large_group_goes_where_it_fits() {
        let mut groups: Vec<Group> = (1..=50).map(|k| group(k, 0, 1)).collect();
        groups.push(group(99, 0, 50));
        let splits = assign(&groups, &Ratios::default(), 7);
        assert_eq!(splits[50], Split::Train);
        assert_eq!(Split::ALL.map(|s| members_of(&groups, &splits, 0, s)), [80, 10, 10]);
    }

    #[test]
    fn three_groups_of_a_label_cover_three_splits() {
        let groups = [group(1, 0, 4), group(2, 0, 3), group(3, 0, 3)];
        let splits: BTreeSet<Split> = assign(&groups, &Ratios::default(), 1).into_iter().collect();
        assert_eq!(splits.len(), 3);
    }

    #[test]
    fn a_split_without_a_share_stays_empty() {
        let groups: Vec<Group> = (0..50).map(|k| group(k, 0, 1)).collect();
        let ratios = Ratios { train: 0.9, val: 0.0, test: 0.1 };
        assert!(!assign(&groups, &ratios, 1).contains(&Split::Val));
    }

    #[test]
    fn ratios_must_be_shares() {
        assert!(Ratios::default().are_shares());
        assert!(!Ratios { train: 0.8, val: 0.3, test: 0.1 }.are_shares());
        assert!(!Ratios { train: 1.2, val: -0.3, test: 0.1 }.are_shares());
        assert!(!Ratios { train: f64::NAN, val: 0.5, test: 0.5 }.are_shares());
    }

    fn any_groups() -> impl Strategy<Value = Vec<Group>> {
        let fixed = prop::option::weighted(0.2, prop::sample::select(Split::ALL.to_vec()));
        let one = (0u32..5, 1u32..6, fixed);
        prop::collection::vec(one, 1..80).prop_map(|all| {
            let build = |(key, (label, members, fixed)): (usize, (u32, u32, Option<Split>))| Group {
                fixed,
                ..group(key as u8, label, members)
            };
            all.into_iter().enumerate().map(build).collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_of_groups_does_not_show(groups in any_groups(), seed: u64, turn in 0usize..80) {
            let splits = assign(&groups, &Ratios::default(), seed);
            let turn = turn % groups.len();
            let mut turned = groups.clone();
            turned.rotate_left(turn);
            let mut again = assign(&turned, &Ratios::default(), seed);
            again.rotate_right(turn);
            prop_assert_eq!(splits, again);
        }

        #[test]
        fn what_has_a_split_keeps_it_and_large_labels_are_everywhere(groups in any_groups(), seed: u64) {
            let splits = assign(&groups, &Ratios::default(), seed);
            for (group, split) in groups.iter().zip(&splits) {
                prop_assert!(group.fixed.is_none_or(|fixed| fixed == *split));
            }
            for label in 0..5 {
                let of_label = || groups.iter().filter(|g| g.labels[0].0 == label);
                let members: u32 = of_label().map(|g| g.members).sum();
                // Fixed groups may stand in one split only; the free ones can mend that if there are enough of them.
                if members >= COVERED_MEMBERS_MIN && of_label().filter(|g| g.fixed.is_none()).count() >= 3 {
                    for split in Split::ALL {
                        prop_assert!(members_of(&groups, &splits, label, split) > 0);
                    }
                }
            }
        }
    }
}
