//! Vectors whose numbers are rounded to a byte: a quarter of the memory, and many to an instruction. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use multiversion::multiversion;

/// Steps from zero to the largest number of a vector. Products add up within 32 bits to 130,000 numbers a vector.
const STEPS: f32 = 127.0;

/// A vector that is compared with those that are kept. Wider than these, as what multiplies them wants it.
#[derive(Debug)]
pub(super) struct Asked {
    numbers: Vec<i16>,
    /// The size of a step.
    pub(super) step: f32,
    /// One over the length of its numbers.
    scale: f32,
}

/// What is kept of a vector beside its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) step: f32,
    scale: f32,
}

impl Asked {
    pub(super) fn of(vector: &[f32]) -> Self {
        let mut kept = vec![0; vector.len()];
        let Kept { step, scale } = round(vector, &mut kept);
        Self { numbers: kept.into_iter().map(i16::from).collect(), step, scale }
    }

    /// By which it is known again.
    pub(super) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.numbers.hash(&mut hasher);
        hasher.finish()
    }

    /// With a vector that is kept, in steps of both.
    pub(super) fn product(&self, kept: &[i8]) -> f32 {
        product(kept, &self.numbers) as f32
    }

    /// As [`Asked::cosine`], with a vector of which nothing else is at hand.
    pub(super) fn cosine_to(&self, kept: &[i8]) -> f32 {
        self.product(kept) * (self.scale * scale(kept))
    }

    /// The cosine of both as they are rounded; to the last bit the same one, whichever is asked for.
    pub(super) fn cosine(&self, kept: &[i8], of: Kept) -> f32 {
        self.product(kept) * (self.scale * of.scale)
    }
}

/// Keeps a vector.
pub(super) fn round(vector: &[f32], kept: &mut [i8]) -> Kept {
    let most = vector.iter().fold(f32::MIN_POSITIVE, |most, number| most.max(number.abs()));
    let step = most / STEPS;
    in_steps(vector, step, kept);
    Kept { step, scale: scale(kept) }
}

/// One over the length of a vector's numbers.
fn scale(kept: &[i8]) -> f32 {
    (square(kept).max(1) as f32).sqrt().recip()
}

#[multiversion(targets = "simd")]
fn in_steps(vector: &[f32], step: f32, numbers: &mut [i8]) {
    for (rounded, number) in numbers.iter_mut().zip(vector) {
        *rounded = (number / step).round_ties_even() as i8;
    }
}

#[multiversion(targets = "simd")]
fn square(kept: &[i8]) -> i32 {
    kept.iter().fold(0, |sum: i32, number| sum.wrapping_add(i32::from(*number) * i32::from(*number)))
}

#[multiversion(targets = "simd")]
fn product(kept: &[i8], asked: &[i16]) -> i32 {
    // Does not wrap, see the constants; but to look whether it does would take the vector code away in development.
    kept.iter().zip(asked).fold(0, |sum: i32, (a, b)| sum.wrapping_add(i32::from(*a) * i32::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u32) -> f32 {
        ((n * 37 % 101) as f32 - 50.0) / 700.0
    }

    #[test]
    fn a_product_is_off_by_what_was_rounded_away() {
        let (a, b): (Vec<f32>, Vec<f32>) = (0..500).map(|n| (number(n), number(3 * n + 7))).unzip();
        let mut kept = [0; 500];
        let step = round(&a, &mut kept).step;
        let asked = Asked::of(&b);
        let exact: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
        let rounded = asked.product(&kept) * step * asked.step;
        assert!((exact - rounded).abs() < 2e-3 && exact != rounded, "{rounded} for {exact}");
        assert_eq!(*kept.iter().max().expect("has numbers"), 127);
    }

    /// Two pictures must be as near one way as the other.
    #[test]
    fn a_cosine_is_the_same_both_ways_and_1_with_itself() {
        let vectors: Vec<Vec<f32>> = (0..20).map(|n| (0..300).map(|i| number(i * (n + 1) + n)).collect()).collect();
        let cosine = |a: &[f32], b: &[f32]| {
            let mut kept = [0; 300];
            let of = round(b, &mut kept);
            Asked::of(a).cosine(&kept, of)
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        for a in &vectors {
            assert!((cosine(a, a) - 1.0).abs() < 1e-6);
            for b in &vectors {
                let exact = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                assert!((cosine(a, b) - exact).abs() < 2e-3, "{} for {exact}", cosine(a, b));
                assert_eq!(cosine(a, b).to_bits(), cosine(b, a).to_bits());
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let mut kept = vec![0; 130_000];
        round(&vec![-1.0; 130_000], &mut kept);
        assert_eq!(Asked::of(&vec![1.0; 130_000]).product(&kept), -(130_000.0 * 127.0 * 127.0));
        assert!(round(&[0.0; 3], &mut kept[..3]).scale.is_finite() && kept[..3] == [0; 3]);
    }
}
