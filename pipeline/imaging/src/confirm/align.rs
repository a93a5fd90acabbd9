//! Dense alignment: finds the affine map under which one luma plane becomes the other, up to gain and offset.
//!
//! Takes    two [`Features`] and a first guess. Gives the map of unit frames, refined coarse to fine.
//! Method   Lucas-Kanade (Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004), forward additive, with gain and
//!          offset solved for in the same linear system, and weights `1 / (1 + (r / s)^2)` (Cauchy) on the residuals
//!          so that a watermark or a black corner does not pull the map.
//! Speed    compiled once for each kind of vector instructions; what its loops call must be inlined into it.
//! Weak at  first guesses far off (some crops to 70 % and turns by 10 degrees were): it then settles in a wrong place,
//!          which the check after it refuses.

use multiversion::multiversion;

use super::{
    planes::{LANES, Plane, Samples},
    warp::{Affine, Frame},
};

/// Fewest overlapping pixels from which a step is solved; eight unknowns need some slack.
const PIXELS_MIN: f32 = 24.0;

/// Relative damping (Levenberg) of the map's unknowns, for pictures that fix some direction badly (stripes).
const DAMPING: f64 = 1e-4;

/// A luma plane with the maps between its pixel indices and the frame of its picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) plane: &'a Plane,
    pub(super) to_frame: Affine,
    pub(super) to_pixels: Affine,
}

impl<'a> View<'a> {
    pub(super) fn of(plane: &'a Plane, frame: Frame) -> Self {
        let (width, height) = (plane.width, plane.height);
        Self { plane, to_frame: frame.of_pixels(width, height), to_pixels: frame.to_pixels(width, height) }
    }
}

/// How freely a step may bend the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    /// Turn, scale and shift.
    Similarity,
    /// Also shear and uneven scale.
    Affine,
}

/// How one level is worked on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) freedom: Freedom,
    pub(super) steps_max: u32,
    /// Every how many-th pixel, along x and y, is looked at.
    pub(super) stride: usize,
}

/// A map with the light that fits best: `repeat = gain * original + offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    pub(super) map: Affine,
    pub(super) gain: f32,
    offset: f32,
    /// Root of the mean squared residual, in grey levels.
    residual: f32,
}

impl Fit {
    /// Begins with the light that fits `map` as it is.
    pub(super) fn start(map: Affine, moments: &Sums) -> Self {
        let (gain, offset) = moments.line().unwrap_or((1.0, 0.0));
        let (deviation, _) = moments.deviations();
        let residual = deviation * (1.0 - moments.correlation().powi(2)).max(0.0).sqrt();
        Self { map, gain, offset, residual }
    }
}

/// Improves `fit` on one level. None when the map leaves the picture or collapses.
#[multiversion(targets = "simd")]
pub(super) fn refine(repeat: View<'_>, original: View<'_>, mut fit: Fit, plan: Plan) -> Option<Fit> {
    // Steps smaller than this, in pixels of the original's plane, are not worth another look.
    const STEP_PIXELS_MIN: f32 = 0.05;
    for _ in 0..plan.steps_max {
        let Step { map, gain, offset, residual } = match plan.freedom {
            Freedom::Affine => step_affine(repeat, original, &fit, plan.stride),
            Freedom::Similarity => step_similarity(repeat, original, &fit, plan.stride),
        }?;
        for (value, change) in fit.map.0.iter_mut().zip(map) {
            *value += change;
        }
        (fit.gain, fit.offset, fit.residual) = (gain, offset, residual);
        // Farthest that any point of the frame is moved, in units of the frame.
        let [a, b, c, d, e, f] = map.map(f32::abs);
        let reach = (a + b + c).max(d + e + f);
        let sound = fit.map.0.iter().all(|v| v.is_finite()) && (0.1..10.0).contains(&fit.map.determinant().abs());
        if !sound || reach > 1.0 {
            return None;
        }
        if reach * original.to_pixels.0[0].max(original.to_pixels.0[4]) < STEP_PIXELS_MIN {
            break;
        }
    }
    Some(fit)
}

/// One step of the refinement: the change of the map, the new light, and what it leaves unexplained.
struct Step {
    map: [f32; 6],
    gain: f32,
    offset: f32,
    residual: f32,
}

#[inline(always)]
fn step_similarity(repeat: View<'_>, original: View<'_>, fit: &Fit, stride: usize) -> Option<Step> {
    let flip = if fit.map.determinant() < 0.0 { -1.0 } else { 1.0 };
    // `[p, -q; q, p]`, mirrored `[p, q; q, -p]`.
    let columns = |l: usize, s: &Slopes| {
        let (gx, gy, x, y) = (s.x[l], s.y[l], s.at_x[l], s.at_y);
        [gx * x + flip * gy * y, gy * x - flip * gx * y, gx, gy, s.value[l], 1.0]
    };
    let system = System::<6>::gather(repeat, original, fit, stride, columns);
    let ([p, q, x, y, gain, offset], residual) = system.solve()?;
    light(gain)?;
    Some(Step { map: [p, -flip * q, x, q, flip * p, y].map(|v| v / gain), gain, offset, residual })
}

#[inline(always)]
fn step_affine(repeat: View<'_>, original: View<'_>, fit: &Fit, stride: usize) -> Option<Step> {
    let columns = |l: usize, s: &Slopes| {
        let (gx, gy, x, y) = (s.x[l], s.y[l], s.at_x[l], s.at_y);
        [gx * x, gx * y, gx, gy * x, gy * y, gy, s.value[l], 1.0]
    };
    let system = System::<8>::gather(repeat, original, fit, stride, columns);
    let ([a, b, c, d, e, f, gain, offset], residual) = system.solve()?;
    light(gain)?;
    Some(Step { map: [a, b, c, d, e, f].map(|v| v / gain), gain, offset, residual })
}

/// A gain near zero means that the pictures have nothing in common here, below zero that one is a negative.
fn light(gain: f32) -> Option<()> {
    (gain > 0.05).then_some(())
}

/// Slopes of the original, in grey levels a unit of its frame, and where in the repeat's frame they were met.
struct Slopes {
    x: [f32; LANES],
    y: [f32; LANES],
    at_x: [f32; LANES],
    at_y: f32,
    /// Of the original, centred on middle grey to keep the sums small.
    value: [f32; LANES],
}

/// Sums of the weighted least squares problem `repeat = gain * original + offset + slope * step`, one a lane; of the
/// symmetric matrix only the upper half. The last two unknowns are the gain and the offset.
struct System<const N: usize> {
    normal: [[[f32; LANES]; N]; N],
    right: [[f32; LANES]; N],
    squares: [f32; LANES],
    weight: [f32; LANES],
    pixels: [f32; LANES],
}

impl<const N: usize> System<N> {
    #[inline(always)]
    fn gather(
        repeat: View<'_>,
        original: View<'_>,
        fit: &Fit,
        stride: usize,
        columns: impl Fn(usize, &Slopes) -> [f32; N],
    ) -> Self {
        let zero = [0.0; LANES];
        let mut system = Self { normal: [[zero; N]; N], right: [zero; N], squares: zero, weight: zero, pixels: zero };
        let (scale_x, scale_y) = (original.to_pixels.0[0], original.to_pixels.0[4]);
        let [frame_x, _, left, _, frame_y, top] = repeat.to_frame.0;
        // 1.5 times the root mean square: residuals beyond it lose weight quickly.
        let softness = (1.5 * fit.residual).max(1.0).powi(-2);
        walk(repeat, original, fit.map, stride, |u, v, target, samples| {
            let mut slopes = Slopes { x: zero, y: zero, at_x: zero, at_y: frame_y * v as f32 + top, value: zero };
            let mut weight = zero;
            for l in 0..LANES {
                (slopes.x[l], slopes.y[l]) = (samples.slope_x[l] * scale_x, samples.slope_y[l] * scale_y);
                slopes.at_x[l] = frame_x * (u + l * stride) as f32 + left;
                slopes.value[l] = samples.value[l] - 128.0;
                let residual = target[l] - fit.gain * slopes.value[l] - fit.offset;
                weight[l] = samples.inside[l] / (1.0 + residual * residual * softness);
            }
            let mut rows = [zero; N];
            for l in 0..LANES {
                for (row, value) in rows.iter_mut().zip(columns(l, &slopes)) {
                    row[l] = value;
                }
            }
            system.add(&rows, target, &weight, &samples.inside);
        });
        system
    }

    #[inline(always)]
    fn add(&mut self, rows: &[[f32; LANES]; N], target: &[f32; LANES], weight: &[f32; LANES], inside: &[f32; LANES]) {
        for i in 0..N {
            let mut weighted = [0.0; LANES];
            for l in 0..LANES {
                weighted[l] = rows[i][l] * weight[l];
                self.right[i][l] += weighted[l] * target[l];
            }
            for (sums, row) in self.normal[i].iter_mut().zip(rows).skip(i) {
                for l in 0..LANES {
                    sums[l] += weighted[l] * row[l];
                }
            }
        }
        for l in 0..LANES {
            self.squares[l] += weight[l] * target[l] * target[l];
            self.weight[l] += weight[l];
            self.pixels[l] += inside[l];
        }
    }

    /// The unknowns, and the root mean square of what they leave unexplained, to first order.
    fn solve(&self) -> Option<([f32; N], f32)> {
        let sum = |lanes: &[f32; LANES]| lanes.iter().sum::<f32>();
        if sum(&self.pixels) < PIXELS_MIN {
            return None;
        }
        // Only what stands on and above the diagonal was summed.
        let upper = |i: usize, j: usize| f64::from(sum(&self.normal[i.min(j)][i.max(j)]));
        let mut matrix: [[f64; N]; N] = std::array::from_fn(|i| std::array::from_fn(|j| upper(i, j)));
        for (i, row) in matrix.iter_mut().enumerate().take(N - 2) {
            row[i] *= 1.0 + DAMPING;
        }
        let right: [f32; N] = std::array::from_fn(|i| sum(&self.right[i]));
        let unknowns = cholesky(matrix, right.map(f64::from))?.map(|v| v as f32);
        let explained: f32 = unknowns.iter().zip(&right).map(|(x, r)| x * r).sum();
        let residual = ((sum(&self.squares) - explained).max(0.0) / sum(&self.weight).max(1.0)).sqrt();
        Some((unknowns, residual))
    }
}

/// Solves `matrix * x = right` for a symmetric matrix; None unless it is positive definite.
fn cholesky<const N: usize>(mut matrix: [[f64; N]; N], mut right: [f64; N]) -> Option<[f64; N]> {
    for i in 0..N {
        for j in 0..=i {
            let sum = matrix[i][j] - (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum::<f64>();
            if i == j {
                // Relative to what stood there: less is rounding, so the unknown is not determined.
                if sum.is_nan() || sum <= matrix[i][i] * 1e-9 {
                    return None;
                }
                matrix[i][i] = sum.sqrt();
            } else {
                matrix[i][j] = sum / matrix[j][j];
            }
        }
    }
    for i in 0..N {
        right[i] = (right[i] - (0..i).map(|k| matrix[i][k] * right[k]).sum::<f64>()) / matrix[i][i];
    }
    for i in (0..N).rev() {
        right[i] = (right[i] - (i + 1..N).map(|k| matrix[k][i] * right[k]).sum::<f64>()) / matrix[i][i];
    }
    Some(right)
}

/// Shows `look` the repeat's pixels, [`LANES`] of a row at a time: the first one's column and row, their values centred
/// on middle grey, and what the original holds there under `map`.
#[inline(always)]
fn walk(
    repeat: View<'_>,
    original: View<'_>,
    map: Affine,
    stride: usize,
    mut look: impl FnMut(usize, usize, &[f32; LANES], &Samples),
) {
    let place = repeat.to_frame.then(map).then(original.to_pixels);
    let step = (place.0[0] * stride as f32, place.0[3] * stride as f32);
    let width = repeat.plane.width as usize;
    for (v, line) in repeat.plane.values.chunks_exact(width).enumerate().step_by(stride) {
        for u in (0..width).step_by(LANES * stride) {
            let count = (width - u).div_ceil(stride).min(LANES);
            let mut target = [0.0; LANES];
            for (value, pixel) in target.iter_mut().zip(line[u..].iter().step_by(stride)) {
                *value = f32::from(*pixel) - 128.0;
            }
            look(u, v, &target, &original.plane.along(place.apply(u as f32, v as f32), step, count));
        }
    }
}

/// Moments of the repeat's and the original's luma over the overlap.
#[multiversion(targets = "simd")]
pub(super) fn moments(repeat: View<'_>, original: View<'_>, map: Affine, stride: usize) -> Sums {
    let mut lanes = SumLanes::default();
    walk(repeat, original, map, stride, |_, _, target, samples| lanes.add(target, &samples.value, &samples.inside));
    lanes.total()
}

/// First and second moments of two signals.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) count: f32,
    a: f32,
    b: f32,
    aa: f32,
    bb: f32,
    ab: f32,
}

/// [`Sums`], one a lane.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SumLanes {
    count: [f32; LANES],
    a: [f32; LANES],
    b: [f32; LANES],
    aa: [f32; LANES],
    bb: [f32; LANES],
    ab: [f32; LANES],
}

impl SumLanes {
    /// Adds pixels: `a` is centred on middle grey, `b` is not; `inside` is 1 for those that count, else 0.
    #[inline(always)]
    pub(super) fn add(&mut self, a: &[f32; LANES], b: &[f32; LANES], inside: &[f32; LANES]) {
        for l in 0..LANES {
            let (a, b) = (a[l] * inside[l], (b[l] - 128.0) * inside[l]);
            self.count[l] += inside[l];
            self.a[l] += a;
            self.b[l] += b;
            self.aa[l] += a * a;
            self.bb[l] += b * b;
            self.ab[l] += a * b;
        }
    }

    pub(super) fn total(&self) -> Sums {
        let sum = |lanes: &[f32; LANES]| lanes.iter().sum::<f32>();
        Sums {
            count: sum(&self.count),
            a: sum(&self.a),
            b: sum(&self.b),
            aa: sum(&self.aa),
            bb: sum(&self.bb),
            ab: sum(&self.ab),
        }
    }
}

impl Sums {
    /// Standard deviations of the two, in grey levels.
    pub(super) fn deviations(&self) -> (f32, f32) {
        let n = self.count.max(1.0);
        let of = |sum: f32, squares: f32| (squares / n - (sum / n).powi(2)).max(0.0).sqrt();
        (of(self.a, self.aa), of(self.b, self.bb))
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.a += other.a;
        self.b += other.b;
        self.aa += other.aa;
        self.bb += other.bb;
        self.ab += other.ab;
    }

    /// Least squares `a = gain * b + offset`; None when `b` is flat.
    pub(super) fn line(&self) -> Option<(f32, f32)> {
        let (_, deviation) = self.deviations();
        let (a, b) = self.means();
        let gain = self.covariance() / deviation.powi(2);
        (deviation > 1e-2).then_some((gain, a - gain * b))
    }

    fn covariance(&self) -> f32 {
        let n = self.count.max(1.0);
        self.ab / n - self.a / n * (self.b / n)
    }

    /// Means of the two, in grey levels.
    pub(super) fn means(&self) -> (f32, f32) {
        let n = self.count.max(1.0);
        (self.a / n + 128.0, self.b / n + 128.0)
    }

    /// -1 to 1; 0 when one of the two is flat.
    pub(super) fn correlation(&self) -> f32 {
        let (da, db) = self.deviations();
        if da * db > 1e-3 { (self.covariance() / (da * db)).clamp(-1.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cholesky_solves_and_refuses_what_is_singular() {
        let x = cholesky([[4.0, 2.0], [2.0, 3.0]], [10.0, 8.0]).expect("positive definite");
        assert!((x[0] - 1.75).abs() < 1e-9 && (x[1] - 1.5).abs() < 1e-9);
        assert!(cholesky([[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0]).is_none());
        assert!(cholesky([[f64::NAN, 0.0], [0.0, 1.0]], [1.0, 1.0]).is_none());
    }

    #[test]
    fn correlation_does_not_see_gain_and_offset() {
        let mut lanes = SumLanes::default();
        for i in 0..50 {
            let a: [f32; LANES] = std::array::from_fn(|l| ((i * 7 + l * 5) % 23) as f32);
            lanes.add(&a, &a.map(|a| 40.0 + 1.7 * a), &[1.0; LANES]);
        }
        assert!((lanes.total().correlation() - 1.0).abs() < 1e-3);
        assert_eq!(lanes.total().count, 50.0 * LANES as f32);
    }
}
