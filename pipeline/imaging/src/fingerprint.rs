//! 64-bit perceptual hashes of the middle of a picture, turned and mirrored, and of more and of less than its middle.
//!
//! Takes    the luma plane of the preview. Gives eight fingerprints of the middle and four of other parts.
//! How      40x40 grey, of which a part is a square about the centre; two-dimensional DCT-II, the 8x8 lowest frequencies;
//!          a bit is set where a coefficient is above the median of the 63 that are not DC (after Zauner, *Implementation
//!          and Benchmarking of Perceptual Image Hash Functions*, 2010). The bit of DC, which is brightness alone, is
//!          always 0.
//! Middle   a picture is known by the middle 80 % of each side. What is cropped by up to a tenth of each side still shows
//!          it, as a larger part of itself; and black corners and frames matter less.
//! Turning  the picture by quarters or mirroring it only transposes the coefficients and flips the signs of odd
//!          ones, so no pixel is read again. Signs move the median, which is why each orientation takes its own.
//! Weak at  flat pictures, whose coefficients are all near 0 and whose bits are noise: the entropy rule must refuse
//!          them before their fingerprints are compared. Crops far off the centre.

use std::sync::LazyLock;

use dih_core::image::{Fingerprint, Fingerprints, Thumbnail};
use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions,
    images::{TypedImage, TypedImageRef},
    pixels::F32,
};

use crate::{Plane, raster::resizing};

const SIDE: usize = 40;
const LOW: usize = 8;

/// Sides of the parts, in cells of the grey: the middle, then those of [`Fingerprints::parts`].
const MIDDLE: usize = SIDE * 80 / 100;
const PARTS: [usize; 4] = [SIDE, SIDE * 90 / 100, SIDE * 70 / 100, SIDE * 65 / 100];

/// A picture squeezed into a square, whatever its aspect; 0 (black) to 255.
#[derive(Clone, Debug)]
pub struct Grey([[f32; SIDE]; SIDE]);

/// The lowest frequencies; `[u][v]` counts `u` half-waves down and `v` across.
type Coefficients = [[f32; LOW]; LOW];

impl Grey {
    /// In floating point, because the rounding of 8-bit steps differs between a picture and its turned self, and with a
    /// triangle, whose edges, unlike a box's, treat left and right alike.
    pub fn of(luma: &Plane) -> Self {
        let grey: Vec<F32> = luma.pixels.iter().map(|p| F32::new(f32::from(*p))).collect();
        let source = TypedImageRef::new(luma.width, luma.height, &grey);
        let source = source.expect("a plane holds one byte for each of its pixels");
        let mut small = TypedImage::new(SIDE as u32, SIDE as u32);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        let resized = resizing(|resizer| resizer.resize_typed(&source, &mut small, &options));
        resized.expect("the source is not cropped");
        Self(std::array::from_fn(|y| std::array::from_fn(|x| small.pixels()[y * SIDE + x].0)))
    }

    /// The luma of a thumbnail: each pixel is the mean of the 2.5 x 2.5 that it covers.
    pub(crate) fn thumbnail(&self) -> [u8; Thumbnail::SIDE * Thumbnail::SIDE] {
        // Two pixels cover five cells, and share the one between them.
        const SHARES: [[f32; 3]; 2] = [[1.0, 1.0, 0.5], [0.5, 1.0, 1.0]];
        let covered = |i: usize| (i * SIDE / Thumbnail::SIDE, SHARES[i % 2]);
        std::array::from_fn(|i| {
            let ((column, across), (row, down)) = (covered(i % Thumbnail::SIDE), covered(i / Thumbnail::SIDE));
            let line =
                |cells: &[f32; SIDE]| -> f32 { cells[column..].iter().zip(across).map(|(v, share)| v * share).sum() };
            let sum: f32 = self.0[row..].iter().zip(down).map(|(cells, share)| share * line(cells)).sum();
            (sum / 6.25).round() as u8
        })
    }

    /// In the eight orientations, and of the parts.
    pub fn fingerprints(&self) -> Fingerprints {
        fingerprints(self)
    }
}

const _: () = assert!(2 * SIDE == 5 * Thumbnail::SIDE, "two pixels of a thumbnail cover five cells");

fn fingerprints(grey: &Grey) -> Fingerprints {
    let mirror = |c: &Coefficients| std::array::from_fn(|u| std::array::from_fn(|v| odd_negated(v, c[u][v])));
    // A clockwise quarter turn puts what ran down the picture across it, backwards.
    let turn = |c: &Coefficients| std::array::from_fn(|u| std::array::from_fn(|v| odd_negated(v, c[v][u])));

    let upright = WAVES[0].dct(grey);
    let mut orientations = [Fingerprint(0); 8];
    for (half, start) in orientations.chunks_exact_mut(4).zip([upright, mirror(&upright)]) {
        let mut turned = start;
        for slot in half {
            *slot = threshold(&turned);
            turned = turn(&turned);
        }
    }
    let parts = std::array::from_fn(|part| threshold(&WAVES[part + 1].dct(grey)));
    Fingerprints { orientations, parts: Some(parts) }
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

/// The waves of the middle, then those of [`PARTS`].
static WAVES: LazyLock<[Waves; 5]> = LazyLock::new(|| {
    let [whole, more, less, least] = PARTS;
    [MIDDLE, whole, more, less, least].map(Waves::of)
});

/// Half-waves of the lowest frequencies over a part of the grey; 0 outside of it.
#[derive(Debug)]
struct Waves([[f32; SIDE]; LOW]);

impl Waves {
    fn of(side: usize) -> Self {
        let before = (SIDE - side) / 2;
        Self(std::array::from_fn(|k| {
            // Equal norm for all frequencies: DC would otherwise weigh sqrt(2) more.
            let scale = if k == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
            std::array::from_fn(|n| match (before..before + side).contains(&n) {
                true => {
                    let angle = std::f64::consts::PI * k as f64 * (2 * (n - before) + 1) as f64 / (2 * side) as f64;
                    (scale * angle.cos()) as f32
                }
                false => 0.0,
            })
        }))
    }

    /// The 8x8 lowest frequencies of the DCT-II of a part, orthonormal but for a common factor.
    fn dct(&self, grey: &Grey) -> Coefficients {
        // Down first: whole rows are added up, which the compiler makes vector code of.
        let down: [[f32; SIDE]; LOW] = std::array::from_fn(|u| {
            let mut sum = [0.0; SIDE];
            for (row, weight) in grey.0.iter().zip(&self.0[u]).filter(|(_, weight)| **weight != 0.0) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            sum
        });
        std::array::from_fn(|u| std::array::from_fn(|v| dot(&down[u], &self.0[v])))
    }
}

fn dot(a: &[f32; SIDE], b: &[f32; SIDE]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Preview, measure, sample};

    fn of(picture: &Preview) -> Fingerprints {
        Grey::of(&measure::tones(picture).luma).fingerprints()
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

    /// The middle of a picture, by its share of each side.
    fn cropped(p: &Preview, share: f64) -> Preview {
        let side = |pixels: u32| (f64::from(pixels) * share).round() as u32;
        let (width, height) = (side(p.width), side(p.height));
        let (left, top) = ((p.width - width) / 2, (p.height - height) / 2);
        remapped(p, width, height, |x, y| (x + left, y + top))
    }

    #[test]
    fn a_cropped_picture_and_its_original_find_each_other() {
        for seed in 0..20 {
            let whole = sample::photo(seed, 300, 240);
            for share in [0.8, 0.85, 0.9, 0.95] {
                let (whole, part) = (of(&whole), of(&cropped(&whole, share)));
                let (there, back) = (part.nearest(&whole).0, whole.nearest(&part).0);
                assert!(there <= 8 && back <= 12, "seed {seed}, {share}: {there} and {back} bits");
            }
        }
    }

    #[test]
    fn the_parts_are_those_of_the_picture_when_it_is_cut() {
        let whole = sample::photo(11, 400, 300);
        let [_, _, less, least] = of(&whole).parts.expect("is given");
        // A fingerprint is that of the middle, 80 %: so the picture is cut less.
        for (part, share) in [(less, 0.7), (least, 0.65)] {
            let cut = of(&cropped(&whole, share / 0.8)).upright();
            assert!(part.distance(cut) <= 4, "{share}: {} bits", part.distance(cut));
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
            for hash in of(&sample::photo(seed, 100, 80)).all() {
                assert_eq!(hash.0.count_ones(), 31);
                assert_eq!(hash.0 & 1, 0);
            }
        }
    }
}
