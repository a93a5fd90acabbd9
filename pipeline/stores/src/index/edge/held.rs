//! The vectors of a space in memory: rounded, and while they are few also as they are.
//!
//! Takes    vectors of length 1, by the row of their image. Gives the nearest of one among some.
//! How      while they are few, exactly: who may be among the nearest by the rounded ones is compared as it is. A number is off by
//!          half a step at most, evenly spread, so the product with a vector of length 1 is off by a step over the root of 12, in
//!          standard deviations ([`MARGIN`] of them are allowed for). Both vectors are rounded, so their steps add up in
//!          squares. Once they are many, by the rounded ones alone.
//! Memory   a byte a number: 1.3 GB for a million vectors of 1,280 numbers; five while they are few.
//! Weak at  cosines of many, which are off by .001 or so. They are the same both ways.

use std::collections::HashMap;

use ndarray::aview1;

use super::{
    pages::Lists,
    rounded::{Asked, Kept, round},
    table::Row,
};

/// Standard deviations by which a product may be off.
const MARGIN: f32 = 6.0;

/// Vectors that are fetched together.
const FETCHED: usize = 8;

/// In place of the vector of a row without one.
const NONE: u32 = u32::MAX;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Held {
    /// By row: which of the vectors it has, or [`NONE`].
    vectors: Vec<u32>,
    /// By vector: its numbers, rounded, and what is kept besides.
    numbers: Lists<i8>,
    kept: Vec<Kept>,
    /// As they are; None once they are many.
    exact: Option<HashMap<Row, Vec<f32>>>,
}

impl Held {
    pub(super) fn new(numbers: usize, are_few: bool) -> Self {
        Self { vectors: Vec::new(), numbers: Lists::of(numbers), kept: Vec::new(), exact: are_few.then(HashMap::new) }
    }

    /// From now on they are many.
    pub(super) fn are_many(&mut self) {
        self.exact = None;
    }

    /// Holds a vector, in place of an earlier one of the image.
    pub(super) fn put(&mut self, row: Row, unit: &[f32]) {
        match self.vector(row) {
            Some(vector) => self.kept[vector] = round(unit, self.numbers.get_mut(vector)),
            None => {
                self.vectors.resize(self.vectors.len().max(row as usize + 1), NONE);
                self.vectors[row as usize] = self.kept.len() as u32; // no more than there are rows
                self.kept.push(round(unit, self.numbers.push()));
            }
        }
        if let Some(exact) = &mut self.exact {
            exact.insert(row, unit.to_vec());
        }
    }

    pub(super) fn has(&self, row: Row) -> bool {
        self.vector(row).is_some()
    }

    fn vector(&self, row: Row) -> Option<usize> {
        self.vectors.get(row as usize).filter(|vector| **vector != NONE).map(|vector| *vector as usize)
    }

    /// Of these the nearest so many that have such a cosine; some others, too.
    pub(super) fn near(&self, unit: &[f32], of: &[Row], wanted: usize, cosine_min: f32) -> Vec<(Row, f32)> {
        let asked = Asked::of(unit);
        let vectors = of.iter().filter_map(|row| Some((*row, self.vector(*row)?)));
        match &self.exact {
            Some(exact) => {
                let about = vectors.map(|(row, vector)| (row, self.about(vector, &asked))).collect();
                let promising = promising(about, wanted, cosine_min).into_iter();
                promising.filter_map(|(row, _)| Some((row, dot(exact.get(&row)?, unit)))).collect()
            }
            None => promising(self.cosines(&asked, &vectors.collect::<Vec<_>>()), wanted, cosine_min),
        }
    }

    /// The cosines of rows with these vectors, as they are rounded.
    fn cosines(&self, asked: &Asked, vectors: &[(Row, usize)]) -> Vec<(Row, (f32, f32))> {
        let mut cosines = Vec::with_capacity(vectors.len());
        for some in vectors.chunks(FETCHED) {
            self.numbers.fetch(some.iter().map(|(_, vector)| *vector));
            let cosine = |vector: usize| asked.cosine(self.numbers.get(vector), self.kept[vector]);
            cosines.extend(some.iter().map(|(row, vector)| (*row, (cosine(*vector), 0.0))));
        }
        cosines
    }

    /// The cosine, about, and by how much it may be off.
    fn about(&self, vector: usize, asked: &Asked) -> (f32, f32) {
        let step = self.kept[vector].step;
        let product = asked.product(self.numbers.get(vector));
        (product * step * asked.step, MARGIN * step.hypot(asked.step) / 12_f32.sqrt())
    }
}

/// All that may be among the nearest so many that have such a cosine, of some of which it is known about, and by how much it
/// may be off.
fn promising(mut about: Vec<(Row, (f32, f32))>, wanted: usize, cosine_min: f32) -> Vec<(Row, f32)> {
    let mut least: Vec<f32> = about.iter().map(|(_, (cosine, off))| cosine - off).collect();
    let needed = match wanted.checked_sub(1) {
        Some(last) if last < least.len() => *least.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
        _ => f32::NEG_INFINITY,
    };
    about.retain(|(_, (cosine, off))| cosine + off >= needed.max(cosine_min));
    about.into_iter().map(|(row, (cosine, _))| (row, cosine)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    aview1(a).dot(&aview1(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;

    const NUMBERS: u64 = 96;

    /// All positive, as those of most models are, and near those of the same family.
    fn unit(n: u64, spread: f32) -> Vec<f32> {
        let number = |n: u64, i: u64| sample::scatter(n * NUMBERS + i) as u32 as f32 / u32::MAX as f32;
        let vector: Vec<f32> =
            (0..NUMBERS).map(|i| number(n / 40, i).powi(3) + spread * number(1 << 40 | n, i)).collect();
        let scale = dot(&vector, &vector).sqrt().recip();
        vector.iter().map(|number| number * scale).collect()
    }

    fn near(held: &Held, unit: &[f32], of: &[Row], wanted: usize, cosine_min: f32) -> Vec<(Row, f32)> {
        let mut near = held.near(unit, of, wanted, cosine_min);
        near.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        near.truncate(wanted);
        near
    }

    #[test]
    fn the_nearest_are_found_exactly_and_few_others_are_compared() {
        for spread in [0.02, 0.3] {
            let vectors: Vec<_> = (0..2_000).map(|n| unit(n, spread)).collect();
            let mut held = Held::new(NUMBERS as usize, true);
            // Not all rows have a vector.
            let rows: Vec<Row> = (0..4_000).collect();
            vectors.iter().zip(0..).for_each(|(vector, n): (_, Row)| held.put(2 * n, vector));
            let mut compared = 0;
            for query in vectors.iter().step_by(20) {
                let mut nearest: Vec<_> = vectors.iter().map(|vector| dot(query, vector)).collect();
                nearest.sort_by(|a, b| b.total_cmp(a));
                let found = near(&held, query, &rows, 30, -1.0);
                assert_eq!(found.len(), 30);
                assert!(found.iter().zip(&nearest).all(|((_, found), want)| (found - want).abs() < 1e-6), "{spread}");
                compared += held.near(query, &rows, 30, -1.0).len();
                let some = near(&held, query, &rows, 30, nearest[9]);
                assert_eq!(some[..10], found[..10]);
            }
            assert!(compared < 100 * 120, "{compared} for 3,000, spread {spread}");
        }
    }

    #[test]
    fn a_later_vector_of_an_image_takes_the_place_of_the_first() {
        let mut held = Held::new(2, true);
        held.put(1, &[1.0, 0.0]);
        held.put(2, &[0.6, 0.8]);
        held.put(1, &[0.0, -1.0]);
        assert_eq!(near(&held, &[1.0, 0.0], &[0, 1, 2, 3], 1, -1.0), [(2, 0.6)]);
        assert_eq!(near(&held, &[0.0, -1.0], &[1, 2], 1, -1.0), [(1, 1.0)]);
        assert!(held.has(1) && !held.has(0) && !held.has(3));
    }

    #[test]
    fn all_are_given_where_more_are_wanted() {
        let mut held = Held::new(2, true);
        let rows: Vec<Row> = (0..100).collect();
        assert!(near(&held, &[1.0, 0.0], &rows, 5, -1.0).is_empty());
        rows.iter().for_each(|row| held.put(*row, &[1.0, 0.0]));
        let found = |wanted| near(&held, &[1.0, 0.0], &rows, wanted, -1.0).len();
        assert_eq!((found(500), found(5), found(0)), (100, 5, 0));
    }

    #[test]
    fn once_they_are_many_cosines_are_about_right() {
        let mut held = Held::new(NUMBERS as usize, true);
        (0..500).for_each(|row| held.put(row, &unit(row.into(), 0.3)));
        let rows: Vec<Row> = (0..500).collect();
        let query = unit(7, 0.3);
        let exact = near(&held, &query, &rows, 500, -1.0);
        held.are_many();
        let mut rounded = near(&held, &query, &rows, 500, -1.0);
        assert_eq!(rounded[0].0, 7);
        let cosine = |row| exact.iter().find(|(of, _)| *of == row).expect("is there").1;
        assert!(rounded.iter().all(|(row, rounded)| (rounded - cosine(*row)).abs() < 4e-3));
        assert!(rounded.iter().any(|(row, rounded)| *rounded != cosine(*row)), "they are rounded");
        rounded.retain(|(_, cosine)| *cosine >= 0.8);
        assert_eq!(near(&held, &query, &rows, 500, 0.8), rounded);
    }
}
