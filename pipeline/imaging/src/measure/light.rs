//! How much of the light is burnt out.
//!
//! Takes    luma and colours, and what lies inside of the bars. Gives the overexposure, 0 to 1.
//! Idea     too much light cuts off what is bright, red first in skin, blue first in a sky, and lifts what is dark. A mean takes a
//!          pale wall for too much light, a share of cut-off pixels a lamp in the dark, or goods on a backdrop of pure white: but
//!          these keep their shadows, and less is cut off in the middle, where the goods are. The sum and its weights
//!          were chosen on photos with more light; see docs/BENCHMARKS.md.
//! Weak at  pale goods on pure white, and dark things with far too much light.

use super::{bars::Window, percentile};

/// From here on a channel is cut off: JPEG leaves 250 to 255 of what was 255.
pub(super) const CUT_OFF: u8 = 250;

/// Share of the pixels that are not white whose luma the shadows are.
const SHADOWS: f64 = 0.02;

/// Shadows above this count twice: fog and lifted light leave nothing dark, and cut off nothing.
const LIFTED: f64 = 0.5;

/// Weights of what is burnt, of what is burnt in the middle, and of the shadows.
const WEIGHTS: [f64; 3] = [0.3, 0.3, 0.4];

/// What is burnt out, as a share of its part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Light {
    burnt: f64,
    burnt_middle: f64,
}

impl Light {
    /// `clipped` is how many pixels of the whole picture are cut off.
    pub(super) fn of(inside: &Window<'_>, rgb: &[[u8; 3]], clipped: u64) -> Self {
        // A wide rim that is burnt out is no bar of a letterbox, but the worst of the picture.
        let with_bars = inside.bars_are_from(CUT_OFF);
        let seen = if with_bars { inside.outside() } else { *inside };
        let all = if seen.is_whole() { clipped } else { count(&seen, rgb) };
        let middle = seen.middle();
        let in_middle = if all > 0 { count(&middle, rgb) } else { 0 };
        Self { burnt: share(all, &seen), burnt_middle: share(in_middle, &middle) }
    }

    /// By the luma of what lies inside.
    pub(super) fn overexposure(self, luma: &[u32; 256]) -> f64 {
        let shadows = shadows(luma);
        let parts = [self.burnt, self.burnt_middle, shadows + (shadows - LIFTED).max(0.0)];
        parts.iter().zip(WEIGHTS).map(|(part, weight)| part * weight).sum::<f64>().min(1.0)
    }
}

/// Luma of the darkest of the pixels that are not white, 0 to 1; 1 where all are white.
fn shadows(luma: &[u32; 256]) -> f64 {
    let mut darker = *luma;
    darker[usize::from(CUT_OFF)..].fill(0);
    match darker.iter().any(|n| *n > 0) {
        true => f64::from(percentile(&darker, SHADOWS)) / 255.0,
        false => 1.0,
    }
}

/// Pixels of which a channel is cut off.
fn count(window: &Window<'_>, rgb: &[[u8; 3]]) -> u64 {
    let of_row = |row: &[[u8; 3]]| row.iter().map(|[r, g, b]| u32::from(*r.max(g).max(b) >= CUT_OFF)).sum::<u32>();
    window.rows_of(rgb).map(|row| u64::from(of_row(row))).sum()
}

fn share(pixels: u64, window: &Window<'_>) -> f64 {
    pixels as f64 / (window.width() * window.height()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use crate::{Preview, measures_of};

    /// A drawing of 60 x 50 pixels.
    fn overexposure(colour: impl Fn(u32, u32) -> [u8; 3]) -> f32 {
        let (width, height) = (60, 50);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = places.flat_map(|(x, y)| colour(x, y)).collect();
        measures_of(&Preview { width, height, rgb }).overexposure.expect("is measured")
    }

    #[track_caller]
    fn check(found: f32, want: f32) {
        assert!((found - want).abs() < 0.005, "{found} instead of {want}");
    }

    #[test]
    fn black_is_0_and_white_is_1() {
        check(overexposure(|_, _| [0; 3]), 0.0);
        check(overexposure(|_, _| [255; 3]), 1.0);
    }

    #[test]
    fn what_is_burnt_counts_by_its_share_and_what_is_dark_by_its_level() {
        let half = |dark: u8| overexposure(|x, y| if (x + y) % 2 == 0 { [255, 255, 0] } else { [dark; 3] });
        check(half(0), 0.3 * 0.5 + 0.3 * 0.5);
        check(half(102), 0.3 * 0.5 + 0.3 * 0.5 + 0.4 * 0.4);
    }

    #[test]
    fn fog_cuts_off_nothing_and_counts_by_what_is_no_longer_dark() {
        let fog = |x: u32, y: u32| [(191 + x % 7 * 5 + y % 5 * 6) as u8; 3];
        check(overexposure(fog), 0.4 * 0.75 + 0.4 * 0.25);
    }

    #[test]
    fn one_colour_that_is_cut_off_counts_as_burnt() {
        let with_red = |red: u8| overexposure(|x, y| if (x + y) % 2 == 0 { [red, 100, 60] } else { [0; 3] });
        check(with_red(255) - with_red(240), 0.6 * 0.5);
    }

    #[test]
    fn what_is_burnt_in_the_middle_counts_once_more() {
        let in_middle = |x: u32, y: u32| (15..45).contains(&x) && (12..38).contains(&y);
        let grain = |x: u32, y: u32| [(x % 7 * 9 + y % 5 * 6) as u8; 3];
        let burnt = |of: &dyn Fn(u32, u32) -> bool| overexposure(|x, y| if of(x, y) { [255; 3] } else { grain(x, y) });
        check(burnt(&in_middle), 0.3 * 0.26 + 0.3);
        check(burnt(&|x, y| (10..30).contains(&x) && y < 12), 0.3 * 0.08);
    }

    /// A chequered square in the middle of a ground, which has specks in two corners so that it is not taken for bars.
    fn on(ground: [u8; 3], dark: [u8; 3], light: [u8; 3]) -> f32 {
        overexposure(|x, y| match (x, y) {
            (0, 0) | (59, 49) => [0; 3],
            (15..45, 10..40) if (x / 3 + y / 3) % 2 == 0 => dark,
            (15..45, 10..40) => light,
            _ => ground,
        })
    }

    #[test]
    fn goods_on_white_lie_far_below_a_burnt_photo_of_them() {
        assert!(on([255; 3], [20; 3], [130; 3]) < 0.27);
        assert!(on([255; 3], [120; 3], [255, 255, 200]) > 0.5);
        assert!(on([255, 250, 250], [255, 240, 180], [255, 225, 150]) > 0.85);
    }

    #[test]
    fn a_wide_rim_that_is_burnt_out_counts_and_a_black_bar_does_not() {
        let goods = |x: u32, y: u32| [(60 + x % 7 * 9 + y % 5 * 6) as u8; 3];
        let below = |bar: [u8; 3]| overexposure(|x, y| if y < 30 { goods(x, y) } else { bar });
        check(below([0; 3]), overexposure(goods));
        assert!(below([255; 3]) > below([0; 3]) + 0.15);
    }
}
