//! Dense alignment: finds the affine map under which one luma plane becomes the other, up to gain and offset.
//!
//! Takes    two [`Features`] and a first guess. Gives the map of unit frames, refined coarse to fine.
//! Method   Lucas-Kanade (Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004), forward additive, with gain and
//!          offset solved for in the same linear system, and weights `1 / (1 + (r / s)^2)` (Cauchy) on the residuals
//!          so that a watermark or a black corner does not pull the map.
//! Weak at  first guesses far off (some crops to 70 % and turns by 10 degrees were): it then settles in a wrong place,
//!          which the check after it refuses.

use super::{planes::Plane, warp::Affine};

/// Unknowns of one step: six of the map, the gain and the offset.
const UNKNOWNS: usize = 8;

/// Fewest overlapping pixels from which a step is solved; eight unknowns need some slack.
const PIXELS_MIN: u32 = 24;

/// Relative damping (Levenberg) of the map's unknowns, for pictures that fix some direction badly (stripes).
const DAMPING: f64 = 1e-4;

/// A luma plane with the maps between its pixel indices and the frame of its picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) plane: &'a Plane,
    pub(super) to_frame: Affine,
    pub(super) to_pixels: Affine,
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
    gain: f32,
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
pub(super) fn refine(repeat: View<'_>, original: View<'_>, mut fit: Fit, plan: Plan) -> Option<Fit> {
    // Steps smaller than this, in pixels of the original's plane, are not worth another look.
    const STEP_PIXELS_MIN: f32 = 0.02;
    for _ in 0..plan.steps_max {
        let system = System::gather(repeat, original, &fit, plan.stride);
        let step = system.solve(plan.freedom, fit.map.determinant() < 0.0)?;
        for (value, change) in fit.map.0.iter_mut().zip(step.map) {
            *value += change;
        }
        (fit.gain, fit.offset, fit.residual) = (step.gain, step.offset, system.residual(&step));
        let pixels = step.reach() * original.to_pixels.0[0].max(original.to_pixels.0[4]);
        let sound = fit.map.0.iter().all(|v| v.is_finite()) && (0.1..10.0).contains(&fit.map.determinant().abs());
        if !sound || step.reach() > 1.0 {
            return None;
        }
        if pixels < STEP_PIXELS_MIN {
            break;
        }
    }
    Some(fit)
}

/// Sums of the weighted least squares problem `repeat = gain * original + offset + slope * step`.
struct System {
    normal: [[f32; UNKNOWNS]; UNKNOWNS],
    right: [f32; UNKNOWNS],
    squares: f32,
    weight: f32,
    pixels: u32,
}

struct Step {
    map: [f32; 6],
    gain: f32,
    offset: f32,
}

impl Step {
    /// Farthest that any point of the frame is moved, in units of the frame.
    fn reach(&self) -> f32 {
        let [a, b, c, d, e, f] = self.map.map(f32::abs);
        (a + b + c).max(d + e + f)
    }
}

impl System {
    fn gather(repeat: View<'_>, original: View<'_>, fit: &Fit, stride: usize) -> Self {
        let mut system =
            Self { normal: [[0.0; UNKNOWNS]; UNKNOWNS], right: [0.0; UNKNOWNS], squares: 0.0, weight: 0.0, pixels: 0 };
        let (scale_x, scale_y) = (original.to_pixels.0[0], original.to_pixels.0[4]);
        // 1.5 times the root mean square: residuals beyond it lose weight quickly.
        let softness = (1.5 * fit.residual).max(1.0).powi(-2);
        let place = repeat.to_frame.then(fit.map).then(original.to_pixels);
        let width = repeat.plane.width as usize;
        for (v, line) in repeat.plane.values.chunks_exact(width).enumerate().step_by(stride) {
            for (u, target) in line.iter().enumerate().step_by(stride) {
                let (px, py) = place.apply(u as f32, v as f32);
                let Some(cell) = original.plane.cell(px, py) else { continue };
                let (x, y) = repeat.to_frame.apply(u as f32, v as f32);
                // Centred on middle grey, to keep the sums small.
                let (value, target) = (cell.value() - 128.0, target - 128.0);
                let (slope_x, slope_y) = cell.slope();
                let (gx, gy) = (slope_x * scale_x, slope_y * scale_y);
                let residual = target - fit.gain * value - fit.offset;
                let weight = 1.0 / (1.0 + residual * residual * softness);
                system.add([gx * x, gx * y, gx, gy * x, gy * y, gy, value, 1.0], target, weight);
            }
        }
        system
    }

    #[inline]
    fn add(&mut self, row: [f32; UNKNOWNS], target: f32, weight: f32) {
        for (sums, factor) in self.normal.iter_mut().zip(row) {
            let factor = factor * weight;
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += factor * value;
            }
        }
        let weighted = target * weight;
        for (sum, value) in self.right.iter_mut().zip(row) {
            *sum += weighted * value;
        }
        self.squares += weighted * target;
        self.weight += weight;
        self.pixels += 1;
    }

    fn solve(&self, freedom: Freedom, mirrored: bool) -> Option<Step> {
        if self.pixels < PIXELS_MIN {
            return None;
        }
        let solution = match freedom {
            Freedom::Affine => self.solve_in(&AFFINE),
            Freedom::Similarity if mirrored => self.solve_in(&SIMILARITY_MIRRORED),
            Freedom::Similarity => self.solve_in(&SIMILARITY),
        }?;
        let [map @ .., gain, offset] = solution;
        // A gain near zero means that the pictures have nothing in common here, below zero that one is a negative.
        (gain > 0.05).then(|| Step { map: map.map(|v| v / gain), gain, offset })
    }

    /// Solves for the unknowns that `basis` leaves free. `basis[i]` is the i-th free direction.
    fn solve_in<const N: usize>(&self, basis: &[[f32; UNKNOWNS]; N]) -> Option<[f32; UNKNOWNS]> {
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
        let mut matrix = [[0.0f64; N]; N];
        let mut right = [0.0f64; N];
        for i in 0..N {
            let image: [f32; UNKNOWNS] = std::array::from_fn(|j| dot(&self.normal[j], &basis[i]) as f32);
            for j in 0..N {
                matrix[i][j] = dot(&image, &basis[j]);
            }
            right[i] = dot(&self.right, &basis[i]);
        }
        for (i, row) in matrix.iter_mut().enumerate().take(N - 2) {
            row[i] *= 1.0 + DAMPING;
        }
        let free = cholesky(matrix, right)?;
        Some(std::array::from_fn(|j| (0..N).map(|i| free[i] as f32 * basis[i][j]).sum()))
    }

    /// Root mean square of what `step` leaves unexplained, to first order.
    fn residual(&self, step: &Step) -> f32 {
        let x: [f32; UNKNOWNS] =
            std::array::from_fn(|i| if i < 6 { step.map[i] * step.gain } else { [step.gain, step.offset][i - 6] });
        let explained: f32 = x.iter().zip(&self.right).map(|(x, r)| x * r).sum();
        ((self.squares - explained).max(0.0) / self.weight.max(1.0)).sqrt()
    }
}

const AFFINE: [[f32; UNKNOWNS]; 8] = {
    let mut basis = [[0.0; UNKNOWNS]; 8];
    let mut i = 0;
    while i < 8 {
        basis[i][i] = 1.0;
        i += 1;
    }
    basis
};

/// `[a, -b; b, a]`, the two shifts, gain and offset.
const SIMILARITY: [[f32; UNKNOWNS]; 6] = [
    [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
    [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
];

/// `[a, b; b, -a]`: the similarities that mirror.
const SIMILARITY_MIRRORED: [[f32; UNKNOWNS]; 6] = [
    [1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    SIMILARITY[2],
    SIMILARITY[3],
    SIMILARITY[4],
    SIMILARITY[5],
];

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

/// Moments of the repeat's and the original's luma over the overlap.
pub(super) fn moments(repeat: View<'_>, original: View<'_>, map: Affine) -> Sums {
    let place = repeat.to_frame.then(map).then(original.to_pixels);
    let mut sums = Sums::default();
    let width = repeat.plane.width as usize;
    for (v, line) in repeat.plane.values.chunks_exact(width).enumerate() {
        for (u, target) in line.iter().enumerate() {
            let (px, py) = place.apply(u as f32, v as f32);
            if let Some(cell) = original.plane.cell(px, py) {
                sums.add(*target, cell.value());
            }
        }
    }
    sums
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

impl Sums {
    #[inline]
    pub(super) fn add(&mut self, a: f32, b: f32) {
        // Centred on middle grey, to keep the sums small.
        let (a, b) = (a - 128.0, b - 128.0);
        self.count += 1.0;
        self.a += a;
        self.b += b;
        self.aa += a * a;
        self.bb += b * b;
        self.ab += a * b;
    }

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
        let mut sums = Sums::default();
        for i in 0..50 {
            let a = (i * 7 % 23) as f32;
            sums.add(a, 40.0 + 1.7 * a);
        }
        assert!((sums.correlation() - 1.0).abs() < 1e-3);
    }
}
