//! Affine maps between two pictures, in units that do not depend on the resolution of a plane.
//!
//! The *frame* of a picture has its origin in the centre, x to the right, y down, and half the longest side as its
//! unit. A map found on a 16-pixel plane therefore serves as it is on the 128-pixel plane.

/// Half the width and half the height of a picture in its own frame; the larger of the two is 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) half_x: f32,
    pub(super) half_y: f32,
}

impl Frame {
    pub(super) fn of(width: u32, height: u32) -> Self {
        let longest = width.max(height).max(1) as f32;
        Self { half_x: width as f32 / longest, half_y: height as f32 / longest }
    }

    pub(super) fn area(self) -> f32 {
        4.0 * self.half_x * self.half_y
    }

    /// The map from pixel indices (0 is the centre of the first pixel) to this frame.
    pub(super) fn of_pixels(self, width: u32, height: u32) -> Affine {
        let (step_x, step_y) = (2.0 * self.half_x / width as f32, 2.0 * self.half_y / height as f32);
        Affine([step_x, 0.0, step_x / 2.0 - self.half_x, 0.0, step_y, step_y / 2.0 - self.half_y])
    }

    /// The map from this frame to pixel indices.
    pub(super) fn to_pixels(self, width: u32, height: u32) -> Affine {
        let (step_x, step_y) = (width as f32 / (2.0 * self.half_x), height as f32 / (2.0 * self.half_y));
        Affine([step_x, 0.0, (width as f32 - 1.0) / 2.0, 0.0, step_y, (height as f32 - 1.0) / 2.0])
    }
}

/// `x' = a x + b y + c`, `y' = d x + e y + f`, stored as `[a, b, c, d, e, f]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine(pub(super) [f32; 6]);

impl Affine {
    /// Scales by `scale` and turns clockwise (y points down) by `angle` radians, after an optional left-right mirror.
    pub(super) fn similarity(scale: f32, angle: f32, mirrored: bool) -> Self {
        let (sin, cos) = angle.sin_cos();
        let flip = if mirrored { -1.0 } else { 1.0 };
        Self([scale * cos * flip, -scale * sin, 0.0, scale * sin * flip, scale * cos, 0.0])
    }

    pub(super) fn apply(self, x: f32, y: f32) -> (f32, f32) {
        let [a, b, c, d, e, f] = self.0;
        (a * x + b * y + c, d * x + e * y + f)
    }

    /// First `self`, then `next`.
    pub(super) fn then(self, next: Self) -> Self {
        let [a, b, c, d, e, f] = self.0;
        let [g, h, i, j, k, l] = next.0;
        Self([g * a + h * d, g * b + h * e, g * c + h * f + i, j * a + k * d, j * b + k * e, j * c + k * f + l])
    }

    /// Signed area that a unit square is mapped to; negative where the map mirrors.
    pub(super) fn determinant(self) -> f32 {
        self.0[0] * self.0[4] - self.0[1] * self.0[3]
    }

    /// Longest stretch divided by the shortest: 1 for a similarity, infinite where the map collapses.
    pub(super) fn stretch(self) -> f32 {
        let [a, b, _, d, e, _] = self.0;
        // Singular values of a 2x2 matrix from its conformal and anti-conformal parts.
        let (direct, mirror) = ((a + e).hypot(d - b), (a - e).hypot(d + b));
        let (long, short) = (direct + mirror, (direct - mirror).abs());
        if short > 0.0 { long / short } else { f32::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_frame_undo_each_other() {
        let frame = Frame::of(30, 20);
        let there_and_back = frame.of_pixels(30, 20).then(frame.to_pixels(30, 20));
        for (x, y) in [(0.0, 0.0), (29.0, 19.0), (7.5, 3.0)] {
            let (u, v) = there_and_back.apply(x, y);
            assert!((u - x).abs() < 1e-4 && (v - y).abs() < 1e-4, "({x}, {y}) came back as ({u}, {v})");
        }
    }

    #[test]
    fn a_quarter_turn_takes_right_to_down_and_a_mirror_comes_first() {
        let (x, y) = Affine::similarity(2.0, std::f32::consts::FRAC_PI_2, false).apply(1.0, 0.0);
        assert!(x.abs() < 1e-6 && (y - 2.0).abs() < 1e-6);
        let (x, y) = Affine::similarity(2.0, std::f32::consts::FRAC_PI_2, true).apply(1.0, 0.0);
        assert!(x.abs() < 1e-6 && (y + 2.0).abs() < 1e-6);
    }

    #[test]
    fn stretch_tells_a_similarity_from_a_squeeze() {
        assert!((Affine::similarity(0.7, 0.3, true).stretch() - 1.0).abs() < 1e-5);
        assert!((Affine([3.0, 0.0, 0.0, 0.0, 1.0, 0.0]).stretch() - 3.0).abs() < 1e-5);
        assert!(Affine([1.0, 1.0, 0.0, 1.0, 1.0, 0.0]).stretch() > 1e3);
    }
}
