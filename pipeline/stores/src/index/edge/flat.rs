//! The vectors of a space while there are few: a search compares with all of them, and misses none.
//!
//! Takes    vectors of length 1. Gives the nearest of one, with their cosines.
//! How      rounded numbers say which may be among the nearest, and only these are compared as they are. A number is off by half a
//!          step at most, evenly spread, so the product with a vector of length 1 is off by a step over the root of 12, in
//!          standard deviations ([`MARGIN`] of them are allowed for). Both vectors are rounded, so their steps add up in squares.
//! Memory   five bytes a number, and some 60 an image: 53 MB for 8,192 vectors of 1,280 numbers.
//! Weak at  many: the time grows with their number, 60 ns each.

use std::collections::HashMap;

use dih_core::ImageId;
use multiversion::multiversion;
use ndarray::aview1;

/// Standard deviations by which a product may be off.
const MARGIN: f32 = 6.0;
/// Steps from zero to the largest number of a vector that is kept, and of one that is asked for. Products of both add up
/// within 32 bits to 66,000 numbers a vector.
const KEPT_STEPS: f32 = 127.0;
const ASKED_STEPS: f32 = 255.0;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Flat {
    /// Numbers of a vector.
    numbers: usize,
    /// One vector after the other, as it is and rounded.
    vectors: Vec<f32>,
    rounded: Vec<i8>,
    /// By row: the size of a step, and whose it is.
    steps: Vec<f32>,
    ids: Vec<ImageId>,
    rows: HashMap<ImageId, usize>,
}

impl Flat {
    pub(super) fn new(numbers: usize) -> Self {
        Self {
            numbers,
            vectors: Vec::new(),
            rounded: Vec::new(),
            steps: Vec::new(),
            ids: Vec::new(),
            rows: HashMap::new(),
        }
    }

    /// Keeps a vector, in place of an earlier one of the image.
    pub(super) fn put(&mut self, id: ImageId, unit: &[f32]) {
        let row = *self.rows.entry(id).or_insert(self.ids.len());
        if row == self.ids.len() {
            self.ids.push(id);
            self.steps.push(0.0);
            self.vectors.resize(self.vectors.len() + self.numbers, 0.0);
            self.rounded.resize(self.rounded.len() + self.numbers, 0);
        }
        let (step, place) = (step(unit, KEPT_STEPS), row * self.numbers..(row + 1) * self.numbers);
        self.steps[row] = step;
        self.vectors[place.clone()].copy_from_slice(unit);
        let rounded = self.rounded[place].iter_mut().zip(unit);
        rounded.for_each(|(rounded, number)| *rounded = (number / step).round() as i8);
    }

    /// The nearest `wanted`, nearest first.
    pub(super) fn near(&self, unit: &[f32], wanted: usize) -> Vec<(ImageId, f32)> {
        let mut near: Vec<_> =
            self.suspects(unit, wanted).into_iter().map(|row| (self.ids[row], self.cosine(row, unit))).collect();
        near.sort_unstable_by(|(_, a), (_, b)| b.total_cmp(a));
        near.truncate(wanted);
        near
    }

    /// The rows of all that may be among the nearest.
    fn suspects(&self, unit: &[f32], wanted: usize) -> Vec<usize> {
        let asked_step = step(unit, ASKED_STEPS);
        let asked: Vec<i16> = unit.iter().map(|number| (number / asked_step).round() as i16).collect();
        let products = products(&self.rounded, &asked);
        // The least and the most that each cosine may be.
        let bound = |(product, step): (i32, &f32), margin: f32| {
            product as f32 * asked_step * step + margin * step.hypot(asked_step) / 12_f32.sqrt()
        };
        let bounds = |margin: f32| products.iter().copied().zip(&self.steps).map(move |row| bound(row, margin));
        let mut least: Vec<f32> = bounds(-MARGIN).collect();
        let needed = match wanted.checked_sub(1) {
            Some(last) if last < least.len() => *least.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
            _ => f32::NEG_INFINITY,
        };
        bounds(MARGIN).enumerate().filter(|(_, most)| *most >= needed).map(|(row, _)| row).collect()
    }

    fn cosine(&self, row: usize, unit: &[f32]) -> f32 {
        aview1(&self.vectors[row * self.numbers..(row + 1) * self.numbers]).dot(&aview1(unit))
    }
}

/// The size of a step where the largest number is so many steps away from zero.
fn step(unit: &[f32], steps: f32) -> f32 {
    unit.iter().fold(f32::MIN_POSITIVE, |most, number| most.max(number.abs())) / steps
}

/// Of each row with the vector that is asked for.
#[multiversion(targets = "simd")]
fn products(rows: &[i8], asked: &[i16]) -> Vec<i32> {
    // Does not wrap, see the constants; but to look whether it does would take the vector code away in development.
    let add = |sum: i32, (a, b): (&i8, &i16)| sum.wrapping_add(i32::from(*a) * i32::from(*b));
    rows.chunks_exact(asked.len()).map(|row| row.iter().zip(asked).fold(0, add)).collect()
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

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_nearest_are_found_with_their_cosines_and_few_others_are_compared() {
        for spread in [0.02, 0.3] {
            let vectors: Vec<_> = (0..2_000).map(|n| unit(n, spread)).collect();
            let mut flat = Flat::new(NUMBERS as usize);
            vectors.iter().zip(0..).for_each(|(vector, n)| flat.put(sample::id(n), vector));
            let mut compared = 0;
            for query in vectors.iter().step_by(20) {
                let mut nearest: Vec<_> = vectors.iter().map(|vector| dot(query, vector)).collect();
                nearest.sort_by(|a, b| b.total_cmp(a));
                let near = flat.near(query, 30);
                assert_eq!(near.len(), 30);
                assert!(near.iter().zip(nearest).all(|((_, found), want)| (found - want).abs() < 1e-6), "{spread}");
                compared += flat.suspects(query, 30).len();
            }
            assert!(compared < 100 * 120, "{compared} for 3,000, spread {spread}");
        }
    }

    #[test]
    fn a_later_vector_of_an_image_takes_the_place_of_the_first() {
        let mut flat = Flat::new(2);
        flat.put(sample::id(1), &[1.0, 0.0]);
        flat.put(sample::id(2), &[0.6, 0.8]);
        flat.put(sample::id(1), &[0.0, -1.0]);
        assert_eq!(flat.near(&[1.0, 0.0], 1), [(sample::id(2), 0.6)]);
        assert_eq!(flat.near(&[0.0, -1.0], 1), [(sample::id(1), 1.0)]);
    }

    #[test]
    fn all_are_given_where_more_are_wanted() {
        let mut flat = Flat::new(2);
        assert!(flat.near(&[1.0, 0.0], 5).is_empty());
        (0..100).for_each(|n| flat.put(sample::id(n), &[1.0, 0.0]));
        assert_eq!((flat.near(&[1.0, 0.0], 500).len(), flat.near(&[1.0, 0.0], 5).len()), (100, 5));
        assert!(flat.near(&[1.0, 0.0], 0).is_empty());
    }
}
