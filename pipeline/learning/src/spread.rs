//! The most different of many vectors: k-centre, greedily.
//!
//! Takes    candidates and a way to read their vectors (length 1). Gives the picks in the order they were made.
//! How      the first pick is the most typical candidate (nearest to the mean of all); each further one is the
//!          candidate whose nearest pick is farthest away, of equals the first. With this no photo is farther from a pick
//!          than twice what the best possible picks would allow (Gonzalez, "Clustering to minimize the maximum intercluster
//!          distance", 1985).
//! Keeps    16 bytes a candidate and the vectors of the picks; candidates are read one at a time. A distance can only
//!          shrink while picks are added, so an old one is a bound: only who might be next is measured again (Minoux 1978).
//! Weak at  outliers: they are what differs most. Leave them out before.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::LearningError;

/// A picked candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    pub candidate: u32,
    /// Its distance to the nearest earlier pick, 1 - cosine; of the first 0.
    pub distance: f32,
}

/// Who may be next: its distance to the nearest of the first `seen` picks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Next {
    distance: f32,
    candidate: u32,
    seen: u32,
}

impl Eq for Next {}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(other.candidate.cmp(&self.candidate))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Fills a row with the vector of a candidate.
pub type Read<'a> = dyn FnMut(u32, &mut [f32]) -> Result<(), LearningError> + 'a;

/// Picks `wanted` of the candidates, or all if they are fewer. `read` fills a row with the vector of a candidate.
pub fn most_different(
    candidates: &[u32],
    wanted: usize,
    dim: usize,
    read: &mut Read<'_>,
) -> Result<Vec<Pick>, LearningError> {
    if wanted == 0 || candidates.is_empty() || dim == 0 {
        return Ok(Vec::new());
    }
    let mut row = vec![0.0; dim];
    let mut mean = vec![0.0_f64; dim];
    for candidate in candidates {
        read(*candidate, &mut row)?;
        mean.iter_mut().zip(&row).for_each(|(m, v)| *m += f64::from(*v));
    }
    let mean: Vec<f32> = mean.into_iter().map(|m| (m / candidates.len() as f64) as f32).collect();
    let mut typical: Option<(f32, u32)> = None;
    for candidate in candidates {
        read(*candidate, &mut row)?;
        let cosine = dot(&row, &mean);
        if typical.is_none_or(|(best, held)| cosine > best || (cosine == best && *candidate < held)) {
            typical = Some((cosine, *candidate));
        }
    }
    let first = typical.map_or(candidates[0], |(_, candidate)| candidate);
    let mut picks = vec![Pick { candidate: first, distance: 0.0 }];
    let mut rows = vec![0.0; dim];
    read(first, &mut rows)?;
    let others = candidates.iter().filter(|c| **c != first);
    let mut waiting: BinaryHeap<Next> =
        others.map(|c| Next { distance: f32::INFINITY, candidate: *c, seen: 0 }).collect();
    while picks.len() < wanted {
        let Some(mut next) = waiting.pop() else { break };
        read(next.candidate, &mut row)?;
        for pick in rows.chunks_exact(dim).skip(next.seen as usize) {
            next.distance = next.distance.min(1.0 - dot(&row, pick));
        }
        next.seen = picks.len() as u32;
        if waiting.peek().is_some_and(|other| *other > next) {
            waiting.push(next);
        } else {
            picks.push(Pick { candidate: next.candidate, distance: next.distance.max(0.0) });
            rows.extend_from_slice(&row);
        }
    }
    Ok(picks)
}

/// In eight sums side by side, so that the compiler may use wide registers; the order of adding is fixed.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const WIDE: usize = 8;
    let mut sums = [0.0_f32; WIDE];
    let (a, a_rest) = a.as_chunks::<WIDE>();
    let (b, b_rest) = b.as_chunks::<WIDE>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn unit(angle: f32) -> [f32; 2] {
        [angle.cos(), angle.sin()]
    }

    fn picked(rows: &[Vec<f32>], wanted: usize) -> Vec<Pick> {
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let mut read = |c: u32, row: &mut [f32]| {
            row.copy_from_slice(&rows[c as usize]);
            Ok(())
        };
        most_different(&all, wanted, rows[0].len(), &mut read).expect("can be read")
    }

    #[test]
    fn the_typical_one_comes_first_then_whatever_is_farthest() {
        let rows: Vec<Vec<f32>> = [0.0, 0.1, 0.2, 1.5, -0.7].map(|a| unit(a).to_vec()).to_vec();
        let picks: Vec<u32> = picked(&rows, 3).iter().map(|p| p.candidate).collect();
        assert_eq!(picks, [2, 3, 4]);
        assert_eq!(picked(&rows, 9).len(), 5);
        assert!(picked(&rows, 0).is_empty());
    }

    #[test]
    fn measuring_only_who_might_be_next_changes_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let rows: Vec<Vec<f32>> = (0..300)
            .map(|_| {
                let row: Vec<f32> = (0..9).map(|_| rng.random::<f32>() - 0.5).collect();
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.iter().map(|v| v / norm).collect()
            })
            .collect();
        let lazy = picked(&rows, 60);
        let mut nearest = vec![f32::INFINITY; rows.len()];
        for (at, pick) in lazy.iter().enumerate() {
            if at > 0 {
                let mut best = 0;
                for (i, distance) in nearest.iter().enumerate() {
                    if *distance > nearest[best] {
                        best = i;
                    }
                }
                assert_eq!((pick.candidate, pick.distance), (best as u32, nearest[best]));
            }
            for (i, row) in rows.iter().enumerate() {
                nearest[i] = nearest[i].min(1.0 - dot(row, &rows[pick.candidate as usize]));
            }
            nearest[pick.candidate as usize] = f32::NEG_INFINITY;
        }
    }
}
