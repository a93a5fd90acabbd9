//! Fewer photos that show more: how lonely each one is, and the pick of those that differ most.
//!
//! Takes  the nearest members of each, and the vectors of a spool. Gives an outlier score each, and a selection.
//! Weak   at photos without a vector of this model: they have no score, and a pick leaves them out.

use std::collections::BTreeMap;

use dih_learning::{LearningError, most_different};

use crate::{
    gather::{Gathered, Member},
    plan::{Placed, Plan},
};

/// How lonely a photo is: the mean cosine distance (1 - cosine) to its `organize.neighbours` nearest members, fewer
/// where there are fewer (Ramaswamy et al. 2000, with the mean in place of the last). None without any.
pub(crate) fn outlier(nearest: &[(u32, f32)]) -> Option<f32> {
    let sum: f32 = nearest.iter().map(|(_, cosine)| 1.0 - cosine).sum();
    (!nearest.is_empty()).then(|| (sum / nearest.len() as f32).max(0.0))
}

/// What a definition asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// So many of all.
    InAll(usize),
    /// So many of each primary label.
    OfEach(usize),
}

/// Leaves only the most different of the published photos.
pub(crate) fn narrow(plan: Plan, gathered: &Gathered, wanted: Wanted) -> Result<Plan, LearningError> {
    let before = plan.published.len();
    let published = pick(plan.published, gathered, wanted)?;
    Ok(Plan { alike: (before - published.len()) as u64, published, ..plan })
}

/// The most different of the published photos, in the order of image ids. See `dih_learning::most_different`.
fn pick(published: Vec<Placed>, gathered: &Gathered, wanted: Wanted) -> Result<Vec<Placed>, LearningError> {
    let members = &gathered.members;
    let seen = |placed: &&Placed| members[placed.member as usize].vector.is_some();
    let mut parts: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
    for placed in published.iter().filter(seen) {
        let part = match wanted {
            Wanted::InAll(_) => None,
            Wanted::OfEach(_) => members[placed.member as usize].labels.first().copied(),
        };
        parts.entry(part).or_default().push(placed.member);
    }
    let (Wanted::InAll(n) | Wanted::OfEach(n)) = wanted;
    let mut row = Vec::with_capacity(gathered.spool.dimensions());
    let mut read = |member: u32, out: &mut [f32]| {
        let Member { vector: Some(slot), .. } = &members[member as usize] else {
            out.fill(0.0);
            return Ok(());
        };
        row.clear();
        let read = gathered.spool.vector(*slot, &mut row);
        read.map_err(|error| LearningError::Read { source: Box::new(error) })?;
        out.copy_from_slice(&row);
        Ok(())
    };
    let mut picked = Vec::with_capacity(n.min(published.len()));
    for candidates in parts.values() {
        let picks = most_different(candidates, n, gathered.spool.dimensions(), &mut read)?;
        picked.extend(picks.iter().map(|pick| pick.candidate));
    }
    picked.sort_unstable();
    Ok(published.into_iter().filter(|placed| picked.binary_search(&placed.member).is_ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_near_neighbours_is_no_outlier() {
        let score = outlier(&[(1, 0.9), (2, 0.7)]).expect("has neighbours");
        assert!((score - 0.2).abs() < 1e-6);
        assert_eq!(outlier(&[(1, 1.000_001)]), Some(0.0));
        assert_eq!(outlier(&[]), None);
    }
}
