//! Measures a preview once, so that no later stage looks at its pixels to judge its quality.
//!
//! Takes    the upright RGB preview. Gives its luma plane and [`Measures`].
//! Luma is  BT.601, as in JPEG: `0.299 R + 0.587 G + 0.114 B`, rounded to 8 bits. What is measured on it is measured
//!          inside the bars of a letterbox, which say nothing about the photo.
//! Weak at  sharpness below 256 pixels a side: a smaller picture shows the same scene in fewer pixels, so its edges are
//!          steeper and it seems sharper than it would at 256.

mod bars;
mod detail;
mod light;

use dih_core::image::{Measures, Size};
use multiversion::multiversion;

use self::{
    bars::Window,
    light::{CUT_OFF, Light},
};
use crate::{Preview, raster::Plane};

/// The measures of a preview as such: its own size, nothing transparent. `read` also knows the original.
pub fn measures_of(preview: &Preview) -> Measures {
    measures(&tones(preview), preview.size(), 0.0)
}

/// Above this distance of the largest from the smallest channel a pixel counts as coloured; JPEG's rounding and chroma
/// blocks leave up to about 10 in a grey photo.
const COLOUR_MIN: u8 = 12;

/// The share of coloured pixels below which a picture is grey.
const COLOURED_SHARE_MAX: f64 = 0.001;

/// Luma and chroma of a preview from one pass over its pixels.
pub(crate) struct Tones {
    pub(crate) luma: Plane,
    /// Sum over pixels of the largest minus the smallest channel.
    chroma_sum: u64,
    coloured: u64,
    light: Light,
}

#[multiversion(targets = "simd")]
pub(crate) fn tones(preview: &Preview) -> Tones {
    let rgb = preview.rgb.as_chunks::<3>().0;
    let mut pixels = vec![0; rgb.len()];
    let (mut chroma_sum, mut coloured, mut clipped) = (0_u64, 0_u64, 0_u64);
    // Rows of a chunk are summed in 32 bits, which the compiler turns into vector code.
    for (luma, rgb) in pixels.chunks_mut(1024).zip(rgb.chunks(1024)) {
        let (mut sum, mut count, mut cut_off) = (0_u32, 0_u32, 0_u32);
        for (y, [r, g, b]) in luma.iter_mut().zip(rgb) {
            *y = ((u32::from(*r) * 77 + u32::from(*g) * 150 + u32::from(*b) * 29 + 128) >> 8) as u8;
            let most = (*r).max(*g).max(*b);
            let chroma = most - (*r).min(*g).min(*b);
            sum += u32::from(chroma);
            count += u32::from(chroma > COLOUR_MIN);
            cut_off += u32::from(most >= CUT_OFF);
        }
        chroma_sum += u64::from(sum);
        coloured += u64::from(count);
        clipped += u64::from(cut_off);
    }
    let luma = Plane { width: preview.width, height: preview.height, pixels };
    let light = Light::of(&bars::inside(&luma), rgb, clipped);
    Tones { luma, chroma_sum, coloured, light }
}

/// What is known of a picture of `size` whose preview has these tones; `transparent` is the share of its pixels that
/// were fully transparent.
pub(crate) fn measures(tones: &Tones, size: Size, transparent: f32) -> Measures {
    let all = tones.luma.pixels.len().max(1) as f64;
    let inside = bars::inside(&tones.luma);
    let pixels = (inside.width() * inside.height()).max(1) as f64;
    let histogram = histogram(&inside);
    let mean = moment(&histogram, pixels, |v| v);
    let variance = moment(&histogram, pixels, |v| (v - mean).powi(2));
    let share = |p| f32::from(percentile(&histogram, p)) / 255.0;
    let noise = detail::noise(&inside);
    Measures {
        sharpness: laplacian_variance(&inside) as f32,
        brightness: (mean / 255.0) as f32,
        luma_p05: share(0.05),
        luma_p95: share(0.95),
        luma_p99: share(0.99),
        contrast: (variance.sqrt() / 255.0) as f32,
        entropy: entropy(&histogram, pixels) as f32,
        aspect: (f64::from(size.width) / f64::from(size.height.max(1))) as f32,
        colourfulness: (tones.chroma_sum as f64 / all / 255.0) as f32,
        grayscale: (tones.coloured as f64) < all * COLOURED_SHARE_MAX,
        transparent,
        acuity: detail::acuity(&inside, noise),
        noise: Some((noise / 255.0) as f32),
        bars: Some((1.0 - pixels / all).max(0.0) as f32),
        overexposure: Some(tones.light.overexposure(&histogram) as f32),
    }
}

/// Four tables, since a flat area would make each count wait for the one before.
fn histogram(inside: &Window<'_>) -> [u32; 256] {
    let mut tables = [[0_u32; 256]; 4];
    for y in 0..inside.height() {
        let (quads, rest) = inside.row(y).as_chunks::<4>();
        for quad in quads {
            for (table, value) in tables.iter_mut().zip(quad) {
                table[usize::from(*value)] += 1;
            }
        }
        for value in rest {
            tables[0][usize::from(*value)] += 1;
        }
    }
    std::array::from_fn(|i| tables.iter().map(|t| t[i]).sum())
}

fn moment(histogram: &[u32; 256], pixels: f64, of: impl Fn(f64) -> f64) -> f64 {
    histogram.iter().enumerate().map(|(value, n)| f64::from(*n) * of(value as f64)).sum::<f64>() / pixels
}

/// The smallest value that at least the share `p` of all pixels does not exceed.
fn percentile(histogram: &[u32; 256], p: f64) -> u8 {
    let total: u64 = histogram.iter().map(|n| u64::from(*n)).sum();
    let mut left = (p * total as f64).ceil() as i64;
    let position = histogram.iter().position(|n| {
        left -= i64::from(*n);
        left <= 0
    });
    position.unwrap_or(255) as u8
}

/// Shannon entropy in bits.
fn entropy(histogram: &[u32; 256], pixels: f64) -> f64 {
    let shares = histogram.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / pixels);
    shares.map(|p| -p * p.log2()).sum::<f64>().max(0.0)
}

/// Variance of the 4-neighbour Laplacian over the inner pixels; 0 where there are none.
#[multiversion(targets = "simd")]
fn laplacian_variance(inside: &Window<'_>) -> f64 {
    let (width, height) = (inside.width(), inside.height());
    if width < 3 || height < 3 {
        return 0.0;
    }
    let (mut sum, mut squares) = (0_i64, 0_u64);
    for y in 1..height - 1 {
        let (above, here, below) = (inside.row(y - 1), inside.row(y), inside.row(y + 1));
        // One row: |Laplacian| <= 1020, so its squares fit 32 bits up to 4128 pixels a row; previews end at 1024.
        let (mut row_sum, mut row_squares) = (0_i32, 0_u32);
        let sides = here.iter().zip(&here[2..]).zip(&here[1..]);
        for (((left, right), middle), (a, b)) in sides.zip(above[1..].iter().zip(&below[1..])) {
            let at = |v: u8| i16::from(v);
            let value = at(*left) + at(*right) + at(*a) + at(*b) - 4 * at(*middle);
            row_sum += i32::from(value);
            row_squares += (i32::from(value) * i32::from(value)) as u32;
        }
        sum += i64::from(row_sum);
        squares += u64::from(row_squares);
    }
    let pixels = ((width - 2) * (height - 2)) as f64;
    let mean = sum as f64 / pixels;
    (squares as f64 / pixels - mean * mean).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, drawn};

    #[test]
    fn a_flat_picture_measures_as_nothing() {
        let m = measures_of(&drawn(40, 30, |_, _| [51; 3]));
        assert_eq!((m.sharpness, m.contrast, m.entropy, m.colourfulness), (0.0, 0.0, 0.0, 0.0));
        assert_eq!((m.luma_p05, m.luma_p95, m.brightness), (0.2, 0.2, 0.2));
        assert!(m.grayscale);
    }

    #[test]
    fn a_chessboard_gives_the_numbers_of_the_formulas() {
        let m = measures_of(&drawn(42, 42, |x, y| [if (x + y) % 2 == 0 { 255 } else { 0 }; 3]));
        // Each inner Laplacian is 4 * 255 of either sign, equally often.
        assert_eq!(m.sharpness, 1020.0 * 1020.0);
        assert_eq!((m.brightness, m.contrast, m.entropy), (0.5, 0.5, 1.0));
        assert_eq!((m.luma_p05, m.luma_p95, m.luma_p99), (0.0, 1.0, 1.0));
    }

    #[test]
    fn pure_red_is_full_of_colour_and_dark() {
        let m = measures_of(&drawn(20, 20, |_, _| [255, 0, 0]));
        assert_eq!(m.colourfulness, 1.0);
        assert!(!m.grayscale);
        assert!((m.brightness - 0.299).abs() < 0.01, "{m:?}");
    }

    #[test]
    fn percentiles_count_pixels() {
        let m = measures_of(&drawn(100, 10, |x, _| {
            [if x < 4 {
                0
            } else if x < 94 {
                102
            } else {
                255
            }; 3]
        }));
        assert_eq!((m.luma_p05, m.luma_p95), (0.4, 1.0));
    }

    #[test]
    fn blur_lowers_sharpness() {
        let sharp = sample::photo(3, 256, 256);
        let blurred = drawn(256, 256, |x, y| {
            std::array::from_fn(|c| {
                let near = (0..25).map(|i| ((x + i % 5).min(255), (y + i / 5).min(255)));
                (near.map(|(x, y)| u32::from(sharp.rgb[((y * 256 + x) * 3) as usize + c])).sum::<u32>() / 25) as u8
            })
        });
        assert!(measures_of(&blurred).sharpness * 10.0 < measures_of(&sharp).sharpness);
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (2, 5), (3, 3), (1, 9)] {
            let m = measures_of(&drawn(width, height, |x, y| [(x * 40 + y) as u8; 3]));
            assert!([m.sharpness, m.contrast, m.entropy, m.aspect].iter().all(|v| v.is_finite()), "{m:?}");
        }
    }
}
