//! What the neighbours of a picture say of its labels.

use crate::{LabelTable, Neighbours};

/// Width of the neighbours' kernel: a cosine lower by this much than the nearest weighs e times less.
const KERNEL: f32 = 0.05;
/// Share of the vote that every label has without a neighbour speaking for it.
const FLOOR: f32 = 0.02;

/// Logarithms of the shares of these labels, unnormalised. Doubted members (`heard` false) have no voice. All equal
/// when nobody speaks.
pub(crate) fn votes(
    member: usize,
    labels: &[u32],
    neighbours: &Neighbours,
    table: &LabelTable,
    heard: &[bool],
) -> Vec<f32> {
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
    let floor = FLOOR * if whole > 0.0 { whole } else { 1.0 };
    shares.iter().map(|s| (s + floor).ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_neighbour_speaks_louder_and_a_doubted_one_not_at_all() {
        let mut table = LabelTable::new(2);
        for claim in [0, 0, 1] {
            table.push(&[claim as u8; 16], &[claim]).expect("a label");
        }
        let mut neighbours = Neighbours::new(2);
        neighbours.push(&[(1, 0.9), (2, 0.8)]);
        let near = votes(0, &[0, 1], &neighbours, &table, &[true; 3]);
        assert!(near[0] > near[1]);
        let other = votes(0, &[0, 1], &neighbours, &table, &[true, false, true]);
        assert!(other[1] > other[0]);
        let silence = votes(0, &[0, 1], &neighbours, &table, &[false; 3]);
        assert_eq!(silence[0], silence[1]);
    }
}
