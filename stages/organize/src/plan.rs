//! Decides what a version holds. Pure.
//!
//! Takes  the members, what the second look says of each, their groups, and the splits of earlier versions.
//! Gives  who is published in which split, who is held back, and what to remember for later versions.

use std::collections::BTreeMap;

use dih_core::{ImageId, UploadSeq};
use serde::{Deserialize, Serialize};

use crate::{
    datasets::Definition,
    gather::Member,
    splits::{self, Group, Split},
};

/// What the second look says of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Probability that the primary label is wrong, 0 to 1; None where nothing could be told.
    pub p_label_wrong: Option<f32>,
    /// Probability of the primary label by a model that has not seen it, 0 to 1.
    pub fits: Option<f32>,
    /// The class that fits better.
    pub suggested: Option<u32>,
    pub hold: bool,
    /// The `p_label_wrong` from which a photo is held.
    pub threshold: f32,
}

/// The split of a photo and the version that gave it; it never changes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub split: Split,
    pub since: u32,
}

/// A member with its place in the version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Place among the members.
    pub member: u32,
    /// The member after which its group of look-alikes is named: the earliest upload in it.
    pub cluster: u32,
    pub given: Given,
}

/// What a version holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Published, in the order of image ids.
    pub published: Vec<Placed>,
    /// Held back, the most doubtful first.
    pub held: Vec<Placed>,
    /// Left out because their cluster is full.
    pub capped: u64,
    /// Clusters that stand in several splits because older members already did.
    pub straddling: Vec<u32>,
    /// The split of every photo that ever had one in this data set.
    pub given: BTreeMap<ImageId, Given>,
}

/// Decides what version number `version` holds. `groups` gives the group of each member.
pub fn plan(
    members: &[Member],
    judgements: &[Judgement],
    groups: &[u32],
    earlier: BTreeMap<ImageId, Given>,
    definition: &Definition,
    version: u32,
) -> Plan {
    let clusters = Clusters::new(members, groups, &earlier);
    let splits = splits::assign(&clusters.groups, &definition.splits, definition.seed);
    let mut plan = Plan { given: earlier, ..Plan::default() };
    for (at, member) in members.iter().enumerate() {
        let group = clusters.of[at];
        let new = Given { split: splits[group], since: version };
        let given = *plan.given.entry(member.image).or_insert(new);
        let placed = Placed { member: at as u32, cluster: clusters.names[group], given };
        let judgement = &judgements[at];
        // What an earlier cut doubted stays held until a second look says otherwise.
        let hold = judgement.hold || (member.was_held && judgement.p_label_wrong.is_none());
        match hold && definition.hold {
            true => plan.held.push(placed),
            false => plan.published.push(placed),
        }
    }
    if let Some(cap) = definition.cluster_cap {
        let before = plan.published.len();
        plan.published = earliest_of_each(plan.published, members, cap as usize);
        plan.capped = (before - plan.published.len()) as u64;
    }
    plan.straddling = straddling(&plan.published);
    let doubt = |p: &Placed| judgements[p.member as usize].p_label_wrong.unwrap_or(0.0);
    plan.held.sort_by(|a, b| doubt(b).total_cmp(&doubt(a)).then(a.member.cmp(&b.member)));
    plan
}

/// At most `cap` members of each cluster, the earliest uploads, in the order of image ids.
fn earliest_of_each(mut published: Vec<Placed>, members: &[Member], cap: usize) -> Vec<Placed> {
    published.sort_by_key(|p| (p.cluster, members[p.member as usize].upload));
    let by_cluster = published.chunk_by(|a, b| a.cluster == b.cluster);
    let mut kept: Vec<Placed> = by_cluster.flat_map(|group| &group[..group.len().min(cap)]).copied().collect();
    kept.sort_by_key(|p| p.member);
    kept
}

/// Clusters with members in more than one split, sorted.
fn straddling(published: &[Placed]) -> Vec<u32> {
    let mut first: BTreeMap<u32, Split> = BTreeMap::new();
    let mut found: Vec<u32> = published
        .iter()
        .filter(|p| *first.entry(p.cluster).or_insert(p.given.split) != p.given.split)
        .map(|p| p.cluster)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

struct Clusters {
    /// The group of each member, as a place in `groups` and `names`.
    of: Vec<usize>,
    groups: Vec<Group>,
    /// The earliest upload of each group.
    names: Vec<u32>,
}

impl Clusters {
    fn new(members: &[Member], roots: &[u32], earlier: &BTreeMap<ImageId, Given>) -> Self {
        let mut place: BTreeMap<u32, usize> = BTreeMap::new();
        let mut building: Vec<Building> = Vec::new();
        let mut of = Vec::with_capacity(members.len());
        for (at, member) in members.iter().enumerate() {
            let group = *place.entry(roots[at]).or_insert_with(|| {
                building.push(Building::new(member, at as u32));
                building.len() - 1
            });
            building[group].add(member, at as u32, earlier.get(&member.image));
            of.push(group);
        }
        let names = building.iter().map(|b| b.earliest.1).collect();
        Self { of, groups: building.into_iter().map(Building::finish).collect(), names }
    }
}

struct Building {
    key: ImageId,
    labels: BTreeMap<u32, u32>,
    members: u32,
    earliest: (UploadSeq, u32),
    /// The earliest member that has a split.
    fixed: Option<(UploadSeq, Split)>,
}

impl Building {
    fn new(member: &Member, at: u32) -> Self {
        Self { key: member.image, labels: BTreeMap::new(), members: 0, earliest: (member.upload, at), fixed: None }
    }

    fn add(&mut self, member: &Member, at: u32, given: Option<&Given>) {
        self.key = self.key.min(member.image);
        self.members += 1;
        self.earliest = self.earliest.min((member.upload, at));
        for label in &member.labels {
            *self.labels.entry(*label).or_default() += 1;
        }
        if let Some(given) = given {
            let this = (member.upload, given.split);
            self.fixed = Some(self.fixed.map_or(this, |held| held.min(this)));
        }
    }

    fn finish(self) -> Group {
        Group {
            key: self.key,
            labels: self.labels.into_iter().collect(),
            members: self.members,
            fixed: self.fixed.map(|(_, split)| split),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member whose id, upload and place are `n` and whose only label is class 0.
    fn member(n: u8) -> Member {
        let image = ImageId::from_bytes([n; 16]);
        Member {
            image,
            upload: UploadSeq(n.into()),
            kept: image,
            labels: vec![0],
            voters: 1,
            agreeing: 1,
            label_score: None,
            vector: None,
            record: Default::default(),
            was_held: false,
        }
    }

    fn given(split: Split) -> Given {
        Given { split, since: 1 }
    }

    /// Plans version 2 of members 0, 1, 2, … in these groups.
    fn planned(groups: &[u32], judgements: &[Judgement], earlier: &[(u8, Split)], definition: &Definition) -> Plan {
        let members: Vec<Member> = (0..groups.len() as u8).map(member).collect();
        let earlier = earlier.iter().map(|(n, split)| (ImageId::from_bytes([*n; 16]), given(*split))).collect();
        plan(&members, judgements, groups, earlier, definition, 2)
    }

    fn splits(plan: &Plan) -> Vec<Split> {
        plan.published.iter().map(|p| p.given.split).collect()
    }

    #[test]
    fn a_newcomer_takes_the_split_of_its_group() {
        let calm = vec![Judgement::default(); 3];
        let plan = planned(&[0, 1, 0], &calm, &[(0, Split::Test)], &Definition::default());
        assert_eq!((splits(&plan)[0], splits(&plan)[2]), (Split::Test, Split::Test));
        assert_eq!((plan.published[0].given.since, plan.published[2].given.since), (1, 2));
        assert!(plan.straddling.is_empty());
    }

    #[test]
    fn a_newcomer_that_joins_two_groups_moves_nobody_and_follows_the_earliest() {
        let calm = vec![Judgement::default(); 3];
        let plan = planned(&[0, 0, 0], &calm, &[(0, Split::Val), (1, Split::Train)], &Definition::default());
        assert_eq!(splits(&plan), [Split::Val, Split::Train, Split::Val]);
        assert_eq!(plan.straddling, [0]);
    }

    #[test]
    fn what_leaves_the_set_keeps_its_split_for_when_it_comes_back() {
        let plan = planned(&[0], &[Judgement::default()], &[(9, Split::Test)], &Definition::default());
        assert_eq!(plan.given[&ImageId::from_bytes([9; 16])], given(Split::Test));
    }

    #[test]
    fn the_most_doubtful_is_listed_first_and_only_who_holds_holds() {
        let doubt = |p: f32| Judgement { p_label_wrong: Some(p), hold: p > 0.5, ..Judgement::default() };
        let judgements = [0.6, 0.1, 0.9].map(doubt);
        let plan = planned(&[0, 1, 2], &judgements, &[], &Definition::default());
        assert_eq!(plan.held.iter().map(|p| p.member).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(plan.published.len(), 1);
        let open = Definition { hold: false, ..Definition::default() };
        assert_eq!(planned(&[0, 1, 2], &judgements, &[], &open).published.len(), 3);
    }

    #[test]
    fn what_was_held_stays_held_until_somebody_can_tell() {
        let members = [Member { was_held: true, ..member(0) }];
        let judged = |p| {
            plan(
                &members,
                &[Judgement { p_label_wrong: p, ..Judgement::default() }],
                &[0],
                BTreeMap::new(),
                &Definition::default(),
                1,
            )
        };
        assert_eq!(judged(None).held.len(), 1);
        assert_eq!(judged(Some(0.1)).held.len(), 0);
    }
}
