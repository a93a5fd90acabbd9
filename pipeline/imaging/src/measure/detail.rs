//! How steep edges are, and how much noise there is, whatever the contrast of the picture.
//!
//! Takes    luma inside of the bars. Gives the noise in grey levels, and the [`acuity`].
//! Idea     blur takes away what is one pixel wide and leaves what is four pixels wide. The ratio of the two does not know
//!          how much there is to see: a white shirt on a white wall can be sharp, and a blurred shelf cannot pass by its
//!          many edges. Fourth moments look at the strongest edges, which are those that a person looks at. Blur by motion
//!          takes from one direction only, so the least of four directions counts. (The idea of comparing with what more
//!          blur would leave is Crete's, SPIE 6492, 2007; the ratio here was chosen among others on degraded photos, see
//!          docs/BENCHMARKS.md.)
//! Weak at  noise above about a twentieth of the range, which drowns weak edges; photos whose subject is blurred before a
//!          sharp background.

use multiversion::multiversion;

use super::bars::Window;

/// Directions of the second differences, as steps of x and y.
const DIRECTIONS: [(isize, usize); 4] = [(1, 0), (0, 1), (1, 1), (-1, 1)];

/// Widths of the details that are compared, in pixels, and every how many rows they are sampled: means over half and a
/// quarter of the rows differ from those over all by less than a person could see.
const FINE: (usize, usize) = (1, 2);
const COARSE: (usize, usize) = (4, 4);

/// Fourth moment of a picture without anything to see but rounding: its ratio would be chance. It is that of edges of two
/// grey levels everywhere.
const NOTHING: f64 = 16.0;

/// Shortest side in which details of four pixels can be told from the frame.
const SIDE_MIN: usize = 16;

/// The fourth root of the ratio of the fourth moments of fine and coarse second differences, the least of four directions;
/// `noise` is its standard deviation in grey levels. None in pictures that are too small.
pub(super) fn acuity(inside: &Window<'_>, noise: f64) -> Option<f32> {
    if inside.width() < SIDE_MIN || inside.height() < SIDE_MIN {
        return None;
    }
    // A second difference sums four pixels' noise with weights 1, -2, 1.
    let variance = 6.0 * noise * noise;
    let ratio = |direction| {
        let fine = curvature(inside, direction, FINE).without(variance);
        let coarse = curvature(inside, direction, COARSE).without(variance);
        fine / (coarse + NOTHING)
    };
    let least = DIRECTIONS.into_iter().map(ratio).fold(f64::INFINITY, f64::min);
    Some(least.powf(0.25) as f32)
}

/// Mean square and mean fourth power.
#[derive(Clone, Copy, Debug)]
struct Moments {
    second: f64,
    fourth: f64,
}

impl Moments {
    /// The fourth moment without that of independent normal noise: `E (d + n)^4 = E d^4 + 6 E d^2 v + 3 v^2`.
    fn without(self, variance: f64) -> f64 {
        let signal = (self.second - variance).max(0.0);
        (self.fourth - 6.0 * signal * variance - 3.0 * variance * variance).max(0.0)
    }
}

/// Moments of `a - 2 b + c` along a direction.
#[multiversion(targets = "simd")]
fn curvature(inside: &Window<'_>, (dx, dy): (isize, usize), (step, every): (usize, usize)) -> Moments {
    let width = inside.width() - 2 * step;
    let rows = (step..inside.height() - step).step_by(every);
    let pixels = (rows.len() * width).max(1) as f64;
    let shifted = |by: isize| step.saturating_add_signed(by * step as isize);
    let (mut second, mut fourth) = (0.0, 0.0);
    for y in rows {
        let before = &inside.row(y - dy * step)[shifted(-dx)..][..width];
        let here = &inside.row(y)[step..][..width];
        let after = &inside.row(y + dy * step)[shifted(dx)..][..width];
        let (row_second, row_fourth) = row_moments(before, here, after);
        second += f64::from(row_second);
        fourth += f64::from(row_fourth);
    }
    Moments { second: second / pixels, fourth: fourth / pixels }
}

/// Sums of a row, in eight lanes so that the compiler turns them into vector code. `a - 2 b + c` is within -510 to 510:
/// sums of its squares over the 1024 pixels of a row are exact in 32 bits.
#[inline(always)]
fn row_moments(before: &[u8], here: &[u8], after: &[u8]) -> (u32, f32) {
    const LANES: usize = 8;
    let (mut second, mut fourth) = ([0_i32; LANES], [0_f32; LANES]);
    let (a, a_rest) = before.as_chunks::<LANES>();
    let (b, b_rest) = here.as_chunks::<LANES>();
    let (c, c_rest) = after.as_chunks::<LANES>();
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for lane in 0..LANES {
            let square = bend(a[lane], b[lane], c[lane]);
            second[lane] += square;
            fourth[lane] += (square as f32) * (square as f32);
        }
    }
    for (lane, ((a, b), c)) in a_rest.iter().zip(b_rest).zip(c_rest).enumerate() {
        let square = bend(*a, *b, *c);
        second[lane] += square;
        fourth[lane] += (square as f32) * (square as f32);
    }
    (second.iter().sum::<i32>().cast_unsigned(), fourth.iter().sum())
}

#[inline(always)]
fn bend(a: u8, b: u8, c: u8) -> i32 {
    let value = i32::from(i16::from(a) + i16::from(c) - 2 * i16::from(b));
    value * value
}

/// Every how many rows noise is looked at, and how many pixels are needed.
const NOISE_ROWS: usize = 4;
const NOISE_PIXELS_MIN: u32 = 256;

/// Levels within which a pixel is neither black nor burnt out, where noise is cut off.
const NOISE_LEVELS: std::ops::RangeInclusive<u8> = 6..=249;

/// Share of the pixels that are taken to be smooth, and how many standard deviations of a normal distribution the
/// absolute value of that share stays below.
const SMOOTH_SHARE: f64 = 0.2;
const SMOOTH_DEVIATIONS: f64 = 0.2533;

/// Standard deviation of the noise in grey levels, told from the smoothest fifth of the picture.
///
/// The mask is Immerkær's (CVIU 64, 1996), which does not see edges along rows and columns; it multiplies the deviation of
/// independent noise by 6. His mean over all pixels takes texture for noise, so a low quantile stands in its place.
pub(super) fn noise(inside: &Window<'_>) -> f64 {
    const LARGEST: usize = 511;
    let mut histogram = [0_u32; LARGEST + 1];
    let width = inside.width();
    let mut responses = vec![0_u16; width.saturating_sub(2)];
    for y in (1..inside.height().saturating_sub(1)).step_by(NOISE_ROWS) {
        let here = inside.row(y);
        mask(inside.row(y - 1), here, inside.row(y + 1), &mut responses);
        for (response, luma) in responses.iter().zip(&here[1.min(width)..]) {
            let counts = u32::from(NOISE_LEVELS.contains(luma));
            histogram[usize::from(*response).min(LARGEST)] += counts;
        }
    }
    let total: u32 = histogram.iter().sum();
    if total < NOISE_PIXELS_MIN { 0.0 } else { quantile(&histogram, SMOOTH_SHARE) / SMOOTH_DEVIATIONS / 6.0 }
}

/// Absolute responses of Immerkær's mask `1 -2 1 / -2 4 -2 / 1 -2 1` along a row.
#[multiversion(targets = "simd")]
fn mask(above: &[u8], here: &[u8], below: &[u8], responses: &mut [u16]) {
    let wide = |v: u8| i16::from(v);
    for (((a, h), b), out) in above.windows(3).zip(here.windows(3)).zip(below.windows(3)).zip(responses) {
        let column = |x: usize| wide(a[x]) - 2 * wide(h[x]) + wide(b[x]);
        *out = (column(0) - 2 * column(1) + column(2)).unsigned_abs();
    }
}

/// The value that a share of all stays below; each count is spread evenly around its whole number.
fn quantile(histogram: &[u32], share: f64) -> f64 {
    let mut left = share * histogram.iter().map(|n| f64::from(*n)).sum::<f64>();
    for (value, count) in histogram.iter().enumerate() {
        let count = f64::from(*count);
        if left < count {
            let (from, width) = if value == 0 { (0.0, 0.5) } else { (value as f64 - 0.5, 1.0) };
            return from + width * left / count;
        }
        left -= count;
    }
    histogram.len() as f64
}
