//! Decides what a version holds. Pure.
//!
//! Takes  the members, what the second look says of each, their groups, and the splits of earlier versions.
//! Gives  who is published in which split, who is held back, and what to remember for later versions.
//! Holds  a photo keeps its split in every version, and no two photos of one group stand in different splits: not in
//!        this version, and not in two. A newcomer that looks like older photos of two splits would break one of both,
//!        so it is left out, and the older ones stay the two groups that they were.

use std::collections::{BTreeMap, BTreeSet};

use dih_core::{ImageId, UploadSeq};
use dih_learning::{Evidence, Reason};
use serde::{Deserialize, Serialize};

use crate::{
    datasets::Definition,
    gather::Member,
    splits::{self, Group, Split},
};

/// What the second look says of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Probability that its weakest label is wrong, 0 to 1; None where nothing could be told.
    pub p_label_wrong: Option<f32>,
    /// Probability of that label by a model that has not seen it, 0 to 1.
    pub fits: Option<f32>,
    /// The class that fits better.
    pub suggested: Option<u32>,
    pub hold: bool,
    /// The `p_label_wrong` from which a photo is held.
    pub threshold: f32,
    /// What speaks most against the label; None unless it is held.
    pub reason: Option<Reason>,
    /// What each witness says for the suggested class.
    pub evidence: Evidence,
}

impl Judgement {
    /// The evidence in words, what matters most first; empty where nothing could be told.
    pub fn spelled(&self) -> String {
        let said = &self.evidence;
        let mut said = [
            ("probe", said.probe),
            ("neighbours", said.neighbours),
            ("votes", said.votes),
            ("classifier", said.classifier),
            ("contributor", said.contributor),
        ];
        said.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let worth = said.iter().filter(|(_, odds)| odds.abs() >= 0.05);
        worth.map(|(witness, odds)| format!("{witness} {odds:+.1}")).collect::<Vec<_>>().join(", ")
    }
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
    /// Left out: outlier score too large; cluster full; too like those that were picked.
    pub outliers: u64,
    pub capped: u64,
    pub alike: u64,
    /// Newcomers left out because they look like older photos of two splits.
    pub between: u64,
    /// The split of every photo that ever had one in this data set.
    pub given: BTreeMap<ImageId, Given>,
}

/// What is known of each member, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub judgements: &'a [Judgement],
    /// A number each; equal for those that look alike.
    pub groups: &'a [u32],
    /// Outlier scores, where there are any.
    pub outliers: &'a [Option<f32>],
}

/// Decides what version number `version` holds, but for the pick of the most different (see `diversity`).
pub fn plan(
    members: &[Member],
    known: &Known<'_>,
    earlier: BTreeMap<ImageId, Given>,
    definition: &Definition,
    version: u32,
) -> Plan {
    let clusters = Clusters::new(members, known.groups, &earlier);
    let splits = splits::assign(&clusters.groups, &definition.splits, definition.seed);
    let mut plan = Plan { given: earlier, ..Plan::default() };
    for (at, member) in members.iter().enumerate() {
        let Some(group) = clusters.of[at] else {
            plan.between += 1;
            continue;
        };
        let new = Given { split: splits[group], since: version };
        let given = *plan.given.entry(member.image).or_insert(new);
        let placed = Placed { member: at as u32, cluster: clusters.names[group], given };
        let judgement = &known.judgements[at];
        // What an earlier cut doubted stays held until a second look says otherwise.
        let hold = judgement.hold || (member.was_held && judgement.p_label_wrong.is_none());
        match hold && definition.hold {
            true => plan.held.push(placed),
            false => plan.published.push(placed),
        }
    }
    if let Some(max) = definition.outlier_max {
        let before = plan.published.len();
        plan.published.retain(|p| known.outliers[p.member as usize].is_none_or(|score| score <= max));
        plan.outliers = (before - plan.published.len()) as u64;
    }
    if let Some(cap) = definition.cluster_cap {
        let before = plan.published.len();
        plan.published = earliest_of_each(plan.published, members, cap as usize);
        plan.capped = (before - plan.published.len()) as u64;
    }
    let doubt = |p: &Placed| known.judgements[p.member as usize].p_label_wrong.unwrap_or(0.0);
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

struct Clusters {
    /// The group of each member, as a place in `groups` and `names`; None for a newcomer between two splits.
    of: Vec<Option<usize>>,
    groups: Vec<Group>,
    /// The earliest upload of each group.
    names: Vec<u32>,
}

impl Clusters {
    fn new(members: &[Member], roots: &[u32], earlier: &BTreeMap<ImageId, Given>) -> Self {
        let given = |member: &Member| earlier.get(&member.image).map(|g| g.split);
        let mut splits_of: BTreeMap<u32, BTreeSet<Split>> = BTreeMap::new();
        for (member, root) in members.iter().zip(roots) {
            splits_of.entry(*root).or_default().extend(given(member));
        }
        let mut place: BTreeMap<(u32, Option<Split>), usize> = BTreeMap::new();
        let mut building: Vec<Building> = Vec::new();
        let mut of = Vec::with_capacity(members.len());
        for (at, (member, root)) in members.iter().zip(roots).enumerate() {
            let fixed = given(member);
            // Older photos of two splits were no look-alikes until somebody came between them.
            let torn = splits_of[root].len() > 1;
            if torn && fixed.is_none() {
                of.push(None);
                continue;
            }
            let group = *place.entry((*root, fixed.filter(|_| torn))).or_insert_with(|| {
                building.push(Building::new(member, at as u32));
                building.len() - 1
            });
            building[group].add(member, at as u32, fixed);
            of.push(Some(group));
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
    /// The split that its older members have.
    fixed: Option<Split>,
}

impl Building {
    fn new(member: &Member, at: u32) -> Self {
        Self { key: member.image, labels: BTreeMap::new(), members: 0, earliest: (member.upload, at), fixed: None }
    }

    fn add(&mut self, member: &Member, at: u32, fixed: Option<Split>) {
        self.key = self.key.min(member.image);
        self.members += 1;
        self.earliest = self.earliest.min((member.upload, at));
        for label in &member.labels {
            *self.labels.entry(*label).or_default() += 1;
        }
        self.fixed = self.fixed.or(fixed);
    }

    fn finish(self) -> Group {
        Group { key: self.key, labels: self.labels.into_iter().collect(), members: self.members, fixed: self.fixed }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clusters::{self, Link};

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
            device: 0,
            ballots: Vec::new(),
        }
    }

    fn given(split: Split) -> Given {
        Given { split, since: 1 }
    }

    /// Plans version 2 of members 0, 1, 2, … in these groups.
    fn planned(groups: &[u32], judgements: &[Judgement], earlier: &[(u8, Split)], definition: &Definition) -> Plan {
        let members: Vec<Member> = (0..groups.len() as u8).map(member).collect();
        let earlier = earlier.iter().map(|(n, split)| (ImageId::from_bytes([*n; 16]), given(*split))).collect();
        let known = Known { judgements, groups, outliers: &vec![None; members.len()] };
        plan(&members, &known, earlier, definition, 2)
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
    }

    #[test]
    fn a_newcomer_between_two_splits_is_left_out_and_moves_nobody() {
        let calm = vec![Judgement::default(); 4];
        let plan = planned(&[0, 0, 0, 3], &calm, &[(0, Split::Val), (1, Split::Train)], &Definition::default());
        let of_each: Vec<(u32, u32, Split)> =
            plan.published.iter().take(2).map(|p| (p.member, p.cluster, p.given.split)).collect();
        assert_eq!(of_each, [(0, 0, Split::Val), (1, 1, Split::Train)]);
        assert_eq!((plan.published.len(), plan.between), (3, 1));
        assert!(!plan.given.contains_key(&ImageId::from_bytes([2; 16])), "it has no split yet");
    }

    #[test]
    fn outliers_are_left_out_before_clusters_are_capped() {
        let members: Vec<Member> = (0..3).map(member).collect();
        let (judgements, outliers) = (vec![Judgement::default(); 3], [Some(0.9), Some(0.1), None]);
        let known = Known { judgements: &judgements, groups: &[0, 0, 2], outliers: &outliers };
        let definition = Definition { outlier_max: Some(0.5), cluster_cap: Some(1), ..Definition::default() };
        let plan = plan(&members, &known, BTreeMap::new(), &definition, 1);
        assert_eq!(plan.published.iter().map(|p| p.member).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((plan.outliers, plan.capped), (1, 0));
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
            let judgements = [Judgement { p_label_wrong: p, ..Judgement::default() }];
            let known = Known { judgements: &judgements, groups: &[0], outliers: &[None] };
            plan(&members, &known, BTreeMap::new(), &Definition::default(), 1)
        };
        assert_eq!(judged(None).held.len(), 1);
        assert_eq!(judged(Some(0.1)).held.len(), 0);
    }

    /// Photos that arrive in three waves, and who looks like whom.
    fn waves() -> impl Strategy<Value = (Vec<u8>, Vec<Link>)> {
        let arrivals = prop::collection::vec(1u8..=3, 2..50);
        let links = prop::collection::vec((0u32..50, 0u32..50, 0.9f32..1.0), 0..60);
        (arrivals, links).prop_map(|(waves, links)| {
            let n = waves.len() as u32;
            let there = links.into_iter().filter(|(a, b, _)| a != b && *a < n && *b < n);
            (waves, there.map(|(a, b, cosine)| Link { a, b, cosine }).collect())
        })
    }

    fn options() -> impl Strategy<Value = Definition> {
        (prop::option::of(1u32..3), prop::option::of(0.2f32..0.9), any::<u64>()).prop_map(|(cap, outlier_max, seed)| {
            Definition { cluster_cap: cap, outlier_max, seed, ..Definition::default() }
        })
    }

    proptest! {
        #[test]
        fn no_look_alikes_stand_in_two_splits_in_any_versions(
            (waves, links) in waves(),
            definition in options(),
            scores in prop::collection::vec(prop::option::of(0.0f32..1.0), 50),
            held in prop::collection::vec(prop::bool::weighted(0.1), 50),
        ) {
            let mut given = BTreeMap::new();
            // Member, split, and cluster by version.
            let mut published: Vec<(u32, Split)> = Vec::new();
            for version in 1..=3_u8 {
                let here: Vec<u32> = (0..waves.len() as u32).filter(|n| waves[*n as usize] <= version).collect();
                let members: Vec<Member> = here.iter().map(|n| member(*n as u8)).collect();
                let place = |n: u32| here.binary_search(&n).ok().map(|at| at as u32);
                let there: Vec<Link> = links
                    .iter()
                    .filter_map(|l| Some(Link { a: place(l.a)?, b: place(l.b)?, ..*l }))
                    .collect();
                let groups = clusters::groups(members.len(), &there, 0.9, members.len());
                let judged = |n: &u32| Judgement { hold: held[*n as usize], ..Judgement::default() };
                let judgements: Vec<Judgement> = here.iter().map(judged).collect();
                let outliers: Vec<Option<f32>> = here.iter().map(|n| scores[*n as usize]).collect();
                let known = Known { judgements: &judgements, groups: &groups, outliers: &outliers };
                let plan = plan(&members, &known, given, &definition, version.into());
                let mut of_cluster = BTreeMap::new();
                for placed in plan.published.iter().chain(&plan.held) {
                    let split = placed.given.split;
                    prop_assert_eq!(*of_cluster.entry(placed.cluster).or_insert(split), split);
                    published.push((here[placed.member as usize], split));
                }
                given = plan.given;
            }
            let split_of: BTreeMap<u32, Split> = published.iter().copied().collect();
            for (photo, split) in &published {
                prop_assert_eq!(split_of[photo], *split, "a photo keeps its split");
            }
            for link in &links {
                if let (Some(a), Some(b)) = (split_of.get(&link.a), split_of.get(&link.b)) {
                    prop_assert_eq!(a, b, "{} and {} look alike", link.a, link.b);
                }
            }
        }
    }
}
