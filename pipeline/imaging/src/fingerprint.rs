//! 64-bit perceptual hash, and the hashes of the turned and mirrored picture from the same coefficients.
//!
//! Takes    the luma plane of the preview. Gives eight fingerprints.
//! How      32x32 grey, two-dimensional DCT-II, the 8x8 lowest frequencies; a bit is set where a coefficient is above
//!          the median of the 63 that are not DC (after Zauner, *Implementation and Benchmarking of Perceptual Image
//!          Hash Functions*, 2010). The bit of DC, which is brightness alone, is always 0.
//! Turning  the picture by quarters or mirroring it only transposes the coefficients and flips the signs of odd
//!          ones, so no pixel is read again. Signs move the median, which is why each orientation takes its own.
//! Weak at  flat pictures, whose coefficients are all near 0 and whose bits are noise: the entropy rule must refuse
//!          them before their fingerprints are compared.

use dih_core::image::{Fingerprint, Fingerprints};
use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::F32,
};

use crate::Plane;

const SIDE: usize = 32;
const LOW: usize = 8;

/// The lowest frequencies; `[u][v]` counts `u` half-waves down and `v` across.
type Coefficients = [[f32; LOW]; LOW];

/// The fingerprints of a picture in its eight orientations.
pub fn fingerprints(luma: &Plane) -> Fingerprints {
    let mirror = |c: &Coefficients| std::array::from_fn(|u| std::array::from_fn(|v| odd_negated(v, c[u][v])));
    // A clockwise quarter turn puts what ran down the picture across it, backwards.
    let turn = |c: &Coefficients| std::array::from_fn(|u| std::array::from_fn(|v| odd_negated(v, c[v][u])));

    let upright = dct(&shrink(luma));
    let mut orientations = [Fingerprint(0); 8];
    for (half, start) in orientations.chunks_exact_mut(4).zip([upright, mirror(&upright)]) {
        let mut turned = start;
        for slot in half {
            *slot = threshold(&turned);
            turned = turn(&turned);
        }
    }
    Fingerprints { orientations }
}

fn odd_negated(frequency: usize, value: f32) -> f32 {
    if frequency % 2 == 1 { -value } else { value }
}

/// Bit `8u + v` says whether coefficient `[u][v]` is above the median.
fn threshold(coefficients: &Coefficients) -> Fingerprint {
    let all = coefficients.as_flattened();
    let mut sorted: [f32; LOW * LOW - 1] = std::array::from_fn(|i| all[i + 1]);
    let (_, median, _) = sorted.select_nth_unstable_by((LOW * LOW - 1) / 2, f32::total_cmp);
    let bits = all.iter().enumerate().skip(1).filter(|(_, value)| **value > *median);
    Fingerprint(bits.fold(0, |hash, (bit, _)| hash | 1 << bit))
}

/// Shrinks to 32x32. In floating point, because the rounding of 8-bit steps differs between a picture and its turned
/// self, and with a triangle, whose edges, unlike a box's, treat left and right alike.
fn shrink(luma: &Plane) -> [[f32; SIDE]; SIDE] {
    let grey: Vec<F32> = luma.pixels.iter().map(|p| F32::new(f32::from(*p))).collect();
    let source = TypedImageRef::new(luma.width, luma.height, &grey);
    let source = source.expect("a plane holds one byte for each of its pixels");
    let mut small = TypedImage::new(SIDE as u32, SIDE as u32);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize_typed(&source, &mut small, &options).expect("the source is not cropped");
    std::array::from_fn(|y| std::array::from_fn(|x| small.pixels()[y * SIDE + x].0))
}

/// The 8x8 lowest frequencies of the DCT-II, orthonormal but for a common factor.
fn dct(grey: &[[f32; SIDE]; SIDE]) -> Coefficients {
    let waves: [[f32; SIDE]; LOW] = std::array::from_fn(|k| {
        // Equal norm for all frequencies: DC would otherwise weigh sqrt(2) more.
        let scale = if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        std::array::from_fn(|n| {
            let angle = std::f64::consts::PI * k as f64 * (2 * n + 1) as f64 / (2 * SIDE) as f64;
            (scale * angle.cos()) as f32
        })
    });
    let dot = |a: &[f32; SIDE], b: &[f32; SIDE]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let across: [[f32; LOW]; SIDE] = std::array::from_fn(|y| std::array::from_fn(|v| dot(&grey[y], &waves[v])));
    std::array::from_fn(|u| {
        std::array::from_fn(|v| {
            let column: [f32; SIDE] = std::array::from_fn(|y| across[y][v]);
            dot(&column, &waves[u])
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Preview, measure, sample};

    fn of(picture: &Preview) -> Fingerprints {
        fingerprints(&measure::tones(picture).luma)
    }

    fn remapped(picture: &Preview, width: u32, height: u32, from: impl Fn(u32, u32) -> (u32, u32)) -> Preview {
        let pixels = picture.rgb.as_chunks::<3>().0;
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = places.flat_map(|(x, y)| {
            let (x, y) = from(x, y);
            pixels[(y * picture.width + x) as usize]
        });
        Preview { width, height, rgb: rgb.collect() }
    }

    fn turned(p: &Preview) -> Preview {
        remapped(p, p.height, p.width, |x, y| (y, p.height - 1 - x))
    }

    fn mirrored(p: &Preview) -> Preview {
        remapped(p, p.width, p.height, |x, y| (p.width - 1 - x, y))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn derived_orientations_equal_those_of_truly_turned_pixels(
            seed: u64, width in 33_u32..300, height in 33_u32..300,
        ) {
            let picture = sample::photo(seed, width, height);
            let derived = of(&picture);
            for (half, start) in [picture.clone(), mirrored(&picture)].into_iter().enumerate() {
                let mut real = start;
                for quarter in 0..4 {
                    let index = 4 * half + quarter;
                    let distance = derived.orientations[index].distance(of(&real).upright());
                    // The order of floating-point sums may tip a coefficient that lies on the median.
                    prop_assert!(distance <= 2, "orientation {index} of {width}x{height} differs by {distance} bits");
                    real = turned(&real);
                }
            }
        }
    }

    #[test]
    fn the_eight_orientations_of_a_scene_differ() {
        let orientations = of(&sample::photo(7, 256, 256)).orientations;
        for (i, a) in orientations.iter().enumerate() {
            for b in &orientations[..i] {
                assert!(a.distance(*b) > 10, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn another_size_is_near_and_another_scene_is_far() {
        let scene = of(&sample::photo(1, 256, 341)).upright();
        assert!(scene.distance(of(&sample::photo(1, 200, 266)).upright()) <= 6);
        assert!(scene.distance(of(&sample::photo(2, 256, 341)).upright()) > 12);
    }

    #[test]
    fn half_of_the_bits_are_set_and_never_that_of_brightness() {
        for seed in 0..20 {
            for hash in of(&sample::photo(seed, 100, 80)).orientations {
                assert_eq!(hash.0.count_ones(), 31);
                assert_eq!(hash.0 & 1, 0);
            }
        }
    }
}
