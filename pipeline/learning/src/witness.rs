//! From scores and neighbours' claims to probabilities: temperature, votes, and both together.

use crate::{LabelTable, Neighbours};

/// Temperatures tried, as factors on the scores: 40 steps from 0.03 to 3, evenly in the logarithm.
pub(crate) fn factors() -> impl Iterator<Item = f32> {
    (0..40).map(|i| (0.03_f32.ln() + i as f32 / 39.0 * (3.0_f32.ln() - 0.03_f32.ln())).exp())
}

/// Logarithms of softmax(factor * scores).
pub(crate) fn log_softmax(scores: &[f32], factor: f32, out: &mut Vec<f32>) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = scores.iter().map(|s| ((s - top) * factor).exp()).sum();
    out.clear();
    out.extend(scores.iter().map(|s| (s - top) * factor - sum.ln()));
}

/// Width of the neighbours' kernel: a cosine lower by this much than the nearest weighs e times less.
const KERNEL: f32 = 0.05;
/// Share of the vote that every label has without a neighbour speaking for it.
const FLOOR: f32 = 0.02;

/// What the neighbours of one member say for these labels, as logarithms of unnormalised shares. Doubted members
/// (`heard` false) have no voice. None when nobody speaks.
pub(crate) fn votes(
    member: usize,
    labels: &[u32],
    neighbours: &Neighbours,
    table: &LabelTable,
    heard: &[bool],
) -> Option<Vec<f32>> {
    let mut shares = vec![0.0_f32; labels.len()];
    let mut whole = 0.0_f32;
    let mut nearest = None;
    for (neighbour, cosine) in neighbours.of(member) {
        if !heard.get(neighbour).is_some_and(|h| *h) || !cosine.is_finite() {
            continue;
        }
        let nearest = *nearest.get_or_insert(cosine);
        let weight = ((cosine - nearest) / KERNEL).exp();
        let claims = table.of(neighbour);
        whole += weight;
        for (share, label) in shares.iter_mut().zip(labels) {
            if claims.contains(label) {
                *share += weight / claims.len() as f32;
            }
        }
    }
    (whole > 0.0).then(|| shares.iter().map(|s| (s + FLOOR * whole).ln()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_of_probabilities_sum_to_one() {
        let mut out = Vec::new();
        log_softmax(&[1e4, 1e4 - 1.0, -1e6], 1.0, &mut out);
        assert!((out.iter().map(|v| v.exp()).sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((out[0] - out[1] - 1.0).abs() < 1e-3);
    }

    #[test]
    fn the_nearer_neighbour_speaks_louder_and_a_doubted_one_not_at_all() {
        let mut table = LabelTable::new(2);
        for claim in [0, 0, 1] {
            table.push(&[claim as u8; 16], &[claim]).expect("a label");
        }
        let mut neighbours = Neighbours::new(2);
        neighbours.push(&[(1, 0.9), (2, 0.8)]);
        let near = votes(0, &[0, 1], &neighbours, &table, &[true; 3]).expect("two speak");
        assert!(near[0] > near[1]);
        let other = votes(0, &[0, 1], &neighbours, &table, &[true, false, true]).expect("one speaks");
        assert!(other[1] > other[0]);
        assert!(votes(0, &[0, 1], &neighbours, &table, &[false; 3]).is_none());
    }
}
