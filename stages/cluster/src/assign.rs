//! Who a picture is like, and what those are labelled.

use dih_core::{Label, StageName, event::Image, ports::NearVector, verdict::Decision};

use crate::Group;

/// Joins the group of the nearest earlier picture that is near enough, or founds one.
pub(crate) fn group(image: &Image, near: &[NearVector], cosine_min: f32) -> Group {
    let earlier = near.iter().filter(|n| n.image.order < image.upload);
    let Some(nearest) = earlier.max_by(|a, b| a.cosine.total_cmp(&b.cosine)) else {
        return Group { leader: image.id, cosine: None };
    };
    let joins = nearest.cosine >= cosine_min;
    let leader = if joins { nearest.image.cluster.unwrap_or(nearest.image.id) } else { image.id };
    Group { leader, cosine: Some(nearest.cosine) }
}

pub(crate) fn decision(group: &Group, cosine_min: f32) -> Decision {
    let joined = group.cosine.is_some_and(|c| c >= cosine_min);
    let what = if joined { "joined_group" } else { "founded_group" };
    let decision = Decision::new(StageName::Cluster, what).because(format!("group {}", group.leader));
    match group.cosine {
        Some(cosine) => decision.scored(cosine, cosine_min),
        None => decision,
    }
}

/// Share of the earlier neighbours, weighted by cosine, that carry one of the photo's labels. None when there are too few.
///
/// A first impression for people: what is published is decided when a version is cut, from all its members.
pub(crate) fn opinion(labels: &[Label], near: &[NearVector], neighbours_min: usize) -> Option<Decision> {
    if near.len() < neighbours_min {
        return None;
    }
    let weight = |n: &NearVector| n.cosine.max(0.0);
    let all: f32 = near.iter().map(weight).sum();
    let agrees = |n: &&NearVector| n.image.labels.iter().any(|l| labels.contains(l));
    let agreeing: f32 = near.iter().filter(agrees).map(weight).sum();
    let share = if all > 0.0 { agreeing / all } else { 0.0 };
    Some(Decision { score: Some(share), ..Decision::new(StageName::Cluster, "neighbours_agree") })
}
