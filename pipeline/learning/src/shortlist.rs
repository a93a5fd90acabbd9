//! Which few of very many labels may be true of a picture: those whose means lie nearest.
//!
//! Takes    the means of all labels. Gives for any row the labels around it, in a time that grows with the root of the
//!          number of labels: the means are parted into about as many groups as a group has members (spherical
//!          k-means), and a row looks into the nearest groups only (an inverted file: Jégou et al. 2011).
//! Weak at  a label whose mean lies at the border of a group that is not looked into.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::algebra::normalise;

/// Labels listed a row.
pub(crate) const LISTED: usize = 24;
/// Groups a row looks into.
const PROBED: usize = 6;
/// Rounds of k-means; the groups need not be good, only small and compact.
const ROUNDS: usize = 4;

pub(crate) struct Shortlist {
    /// Mean of all means: what all pictures share says nothing about a label.
    centre: Array1<f32>,
    groups: Array2<f32>,
    /// Unit means, group after group, the label of each, and where each group starts.
    means: Array2<f32>,
    labels: Vec<u32>,
    starts: Vec<usize>,
}

impl Shortlist {
    /// `means`: one row a label, of any length.
    pub(crate) fn of(means: &Array2<f32>) -> Self {
        let k = means.nrows();
        let centre = means.mean_axis(Axis(0)).expect("there are labels here");
        let unit = directions(means.view(), &centre);
        let count = (k as f64).sqrt().ceil() as usize;
        let seeds: Vec<usize> = (0..count).map(|g| g * k / count).collect();
        let mut groups = unit.select(Axis(0), &seeds);
        let mut nearest = assigned(&unit, &groups);
        for _ in 0..ROUNDS {
            let mut sums = Array2::<f32>::zeros(groups.raw_dim());
            for (row, group) in unit.axis_iter(Axis(0)).zip(&nearest) {
                sums.row_mut(*group).scaled_add(1.0, &row);
            }
            for (mut group, sum) in groups.axis_iter_mut(Axis(0)).zip(sums.axis_iter(Axis(0))) {
                let mut moved = vec![0.0; sum.len()];
                // A group that lost all its members stays where it is.
                if normalise(&sum.to_vec(), &mut moved) {
                    group.assign(&Array1::from(moved));
                }
            }
            nearest = assigned(&unit, &groups);
        }
        let mut labels: Vec<u32> = (0..k as u32).collect();
        labels.sort_by_key(|l| (nearest[*l as usize], *l));
        let order: Vec<usize> = labels.iter().map(|l| *l as usize).collect();
        let starts = (0..=count).map(|g| labels.partition_point(|l| nearest[*l as usize] < g)).collect();
        Self { centre, groups, means: unit.select(Axis(0), &order), labels, starts }
    }

    /// Up to [`LISTED`] labels around each row, nearest first.
    pub(crate) fn around(&self, rows: ArrayView2<f32>) -> Vec<Vec<u32>> {
        let unit = directions(rows, &self.centre);
        let coarse = unit.dot(&self.groups.t());
        let mut visitors: Vec<Vec<usize>> = vec![Vec::new(); self.groups.nrows()];
        for (i, cosines) in coarse.axis_iter(Axis(0)).enumerate() {
            let mut order: Vec<usize> = (0..cosines.len()).collect();
            let nearer = |a: &usize, b: &usize| cosines[*b].total_cmp(&cosines[*a]).then(a.cmp(b));
            let probed = PROBED.min(order.len());
            if probed < order.len() {
                order.select_nth_unstable_by(probed, nearer);
            }
            order[..probed].iter().for_each(|group| visitors[*group].push(i));
        }
        let mut found: Vec<Vec<(f32, u32)>> = vec![Vec::new(); unit.nrows()];
        for (group, visitors) in visitors.iter().enumerate().filter(|(_, v)| !v.is_empty()) {
            let span = self.starts[group]..self.starts[group + 1];
            let cosines = unit.select(Axis(0), visitors).dot(&self.means.slice(s![span.clone(), ..]).t());
            for (row, cosines) in visitors.iter().zip(cosines.axis_iter(Axis(0))) {
                found[*row].extend(cosines.iter().copied().zip(self.labels[span.clone()].iter().copied()));
            }
        }
        let best = |mut all: Vec<(f32, u32)>| {
            let nearer = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if all.len() > LISTED {
                all.select_nth_unstable_by(LISTED, nearer);
                all.truncate(LISTED);
            }
            all.sort_unstable_by(nearer);
            all.into_iter().map(|(_, label)| label).collect()
        };
        found.into_iter().map(best).collect()
    }
}

fn directions(rows: ArrayView2<f32>, centre: &Array1<f32>) -> Array2<f32> {
    let mut out = &rows - centre;
    for mut row in out.axis_iter_mut(Axis(0)) {
        let from = row.to_vec();
        normalise(&from, row.as_slice_mut().expect("rows of a standard array are contiguous"));
    }
    out
}

/// The nearest group of each row; of equals the first.
fn assigned(rows: &Array2<f32>, groups: &Array2<f32>) -> Vec<usize> {
    const ROWS: usize = 1024;
    let mut nearest = Vec::with_capacity(rows.nrows());
    for start in (0..rows.nrows()).step_by(ROWS) {
        let end = (start + ROWS).min(rows.nrows());
        let cosines = rows.slice(s![start..end, ..]).dot(&groups.t());
        for row in cosines.axis_iter(Axis(0)) {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
            nearest.push(best.map_or(0, |(at, _)| at));
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_a_row_is_nearly_always_listed() {
        let mut state = 9_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let means = Array2::from_shape_fn((900, 32), |_| 3.0 + random());
        let rows = means.mapv(|v| v + 0.4 * random());
        let listed = Shortlist::of(&means).around(rows.view());
        assert!(listed.iter().all(|l| l.len() == LISTED));
        let found = listed.iter().enumerate().filter(|(own, list)| list.contains(&(*own as u32))).count();
        assert!(found >= 890, "{found} of 900");
    }
}
