//! How much of the light is burnt out.
//!
//! Takes    luma and colours, and what lies inside of the bars. Gives the exposure, 0 to 1.
//! Idea     a photo with too much light is bright, and its colours are cut off: red first in skin, blue first in a sky. A
//!          mean alone takes a pale wall for too much light, a share of cut-off pixels alone a lamp in the dark. Goods on a
//!          backdrop of pure white are bright and cut off as well, but not burnt: where white lies all round, and colours
//!          are hardly ever cut off alone, the exposure is capped. The sum was chosen among others on photos with more
//!          light; see docs/BENCHMARKS.md.
//! Weak at  dark things on a white sheet and far too much light: they pass for goods on a backdrop.

use super::bars::Window;

/// From here on a channel is cut off: JPEG leaves 250 to 255 of what was 255.
pub(super) const CUT_OFF: u8 = 250;

/// Width of the frame in which a backdrop is looked for, in pixels of the preview, and the share of it that must be white.
const FRAME: usize = 4;
const FRAME_WHITE_MIN: f64 = 0.9;

/// Most pixels of which only a part of the colours is cut off, for one that is white, around goods on a backdrop. Of goods
/// on white 5 of 8 have fewer; of other photos at three times their light, with white all round, a third.
const PARTLY_MAX: f64 = 0.05;

/// Most exposure of a photo that may show goods on a backdrop, below what is refused by default and above nearly all other
/// photos: whether it is a backdrop or burnt cannot be told for sure. Who refuses from less on refuses backdrops as well.
const BACKDROP_MAX: f64 = 0.55;

/// What is burnt out, and of which part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Light {
    burnt: u64,
    /// Whether bars count.
    with_bars: bool,
    has_backdrop: bool,
}

impl Light {
    /// `clipped` is how many pixels of the whole picture are cut off.
    pub(super) fn of(inside: &Window<'_>, rgb: &[[u8; 3]], clipped: u64) -> Self {
        let has_backdrop = clipped > 0 && has_backdrop(inside, rgb, clipped);
        // A wide rim that is burnt out is no bar of a letterbox, but the worst of the picture.
        let with_bars = inside.is_whole() || inside.bars_are_from(CUT_OFF);
        let burnt = if with_bars { clipped } else { count(inside, rgb, is_clipped) };
        Self { burnt, with_bars, has_backdrop }
    }

    /// `(2 mean + burnt) / 3`: mean luma and the share of burnt pixels, both 0 to 1. `mean` is that of the inside, 0 to 255.
    pub(super) fn exposure(self, inside: &Window<'_>, mean: f64) -> f64 {
        let whole = inside.outside();
        let (seen, mean) = match self.with_bars && !inside.is_whole() {
            true => (whole, sum(&whole) as f64 / pixels(&whole)),
            false => (*inside, mean),
        };
        let exposure = (2.0 * mean / 255.0 + self.burnt as f64 / pixels(&seen)) / 3.0;
        if self.has_backdrop { exposure.min(BACKDROP_MAX) } else { exposure }
    }
}

/// Whether white lies all round, of the whole picture or inside of the bars, and hardly any colour is cut off alone.
fn has_backdrop(inside: &Window<'_>, rgb: &[[u8; 3]], clipped: u64) -> bool {
    let whole = inside.outside();
    let is_framed = |window: &Window<'_>| frame_white(window, rgb) >= FRAME_WHITE_MIN;
    if !(is_framed(&whole) || !inside.is_whole() && is_framed(inside)) {
        return false;
    }
    let white = count(&whole, rgb, is_white);
    (clipped - white) as f64 <= PARTLY_MAX * white as f64
}

/// Sum of the luma.
fn sum(window: &Window<'_>) -> u64 {
    let of_row = |y| window.row(y).iter().map(|v| u32::from(*v)).sum::<u32>();
    (0..window.height()).map(|y| u64::from(of_row(y))).sum()
}

fn pixels(window: &Window<'_>) -> f64 {
    (window.width() * window.height()).max(1) as f64
}

fn is_clipped(pixel: &[u8; 3]) -> bool {
    pixel.iter().any(|v| *v >= CUT_OFF)
}

fn is_white(pixel: &[u8; 3]) -> bool {
    pixel.iter().all(|v| *v >= CUT_OFF)
}

fn count(inside: &Window<'_>, rgb: &[[u8; 3]], is: impl Fn(&[u8; 3]) -> bool) -> u64 {
    inside.rows_of(rgb).map(|row| row.iter().filter(|pixel| is(pixel)).count() as u64).sum()
}

/// Share of white pixels along the sides.
fn frame_white(window: &Window<'_>, rgb: &[[u8; 3]]) -> f64 {
    let (width, height) = (window.width(), window.height());
    let (across, down) = (FRAME.min(width), FRAME.min(height));
    let (mut white, mut pixels) = (0_usize, 0_usize);
    for (y, row) in window.rows_of(rgb).enumerate() {
        let parts = match y < down || y >= height - down {
            true => [row, &[]],
            false => [&row[..across], &row[width - across..]],
        };
        for part in parts {
            white += part.iter().filter(|pixel| is_white(pixel)).count();
            pixels += part.len();
        }
    }
    white as f64 / pixels.max(1) as f64
}

#[cfg(test)]
mod tests {
    use crate::{Preview, measures_of};

    /// A drawing of 60 x 50 pixels.
    fn exposure(colour: impl Fn(u32, u32) -> [u8; 3]) -> f32 {
        let (width, height) = (60, 50);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = places.flat_map(|(x, y)| colour(x, y)).collect();
        measures_of(&Preview { width, height, rgb }).exposure.expect("is measured")
    }

    /// A chequered square in the middle of a ground, which has specks in two corners so that it is not taken for bars.
    fn on(ground: [u8; 3], dark: [u8; 3], light: [u8; 3]) -> f32 {
        exposure(|x, y| match (x, y) {
            (0, 0) | (59, 49) => [0; 3],
            (15..45, 10..40) if (x / 3 + y / 3) % 2 == 0 => dark,
            (15..45, 10..40) => light,
            _ => ground,
        })
    }

    #[track_caller]
    fn check(found: f32, want: f32) {
        assert!((found - want).abs() < 0.005, "{found} instead of {want}");
    }

    #[test]
    fn black_is_0_and_what_is_burnt_counts_beside_the_mean() {
        check(exposure(|_, _| [0; 3]), 0.0);
        check(exposure(|_, _| [51; 3]), 2.0 * 0.2 / 3.0);
        let half = |x: u32, _| if x.is_multiple_of(2) { [255, 255, 0] } else { [0; 3] };
        check(exposure(half), (2.0 * 0.5 * 0.886 + 0.5) / 3.0);
    }

    #[test]
    fn one_colour_that_is_cut_off_counts_as_burnt() {
        let with_red = |red: u8| exposure(|x, y| if (x + y) % 2 == 0 { [red, 100, 60] } else { [0; 3] });
        check(with_red(255) - with_red(240), 0.5 / 3.0 + 2.0 * 0.5 * 15.0 * 0.3 / 255.0 / 3.0);
    }

    #[test]
    fn goods_on_white_are_capped_below_what_is_refused() {
        check(on([255; 3], [60; 3], [130; 3]), 0.55);
        check(on([255, 255, 240], [60; 3], [130; 3]), (2.0 * (0.7 * 253.0 + 0.3 * 95.0) / 255.0 + 0.7) / 3.0);
    }

    #[test]
    fn white_with_burnt_colours_is_no_backdrop() {
        assert!(on([255; 3], [255, 240, 180], [255, 225, 150]) > 0.85);
    }

    #[test]
    fn a_wide_rim_that_is_burnt_out_counts_and_a_black_bar_does_not() {
        let goods = |x: u32, y: u32| [(60 + x % 7 * 9 + y % 5 * 6) as u8; 3];
        let below = |bar: [u8; 3]| exposure(|x, y| if y < 30 { goods(x, y) } else { bar });
        check(below([0; 3]), exposure(goods));
        assert!(below([255; 3]) > below([0; 3]) + 0.2);
    }

    #[test]
    fn white_on_one_side_is_no_backdrop() {
        let half = |x: u32, y: u32| if x < 25 { [255; 3] } else { [(60 + x % 7 * 9 + y % 5 * 6) as u8; 3] };
        assert!(exposure(half) > 0.5);
    }
}
