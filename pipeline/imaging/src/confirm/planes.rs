//! What is kept of a picture so that it can be compared again: luma at four sizes and chroma at one.
//!
//! Takes    upright RGB8 pixels of any size. Gives [`Features`], about 70 kB at an aspect of 4:3.
//! Keeps    nothing; pure.
//! Weak at  pictures with less than 8 pixels on a side: they hold no block, so nothing can be proved with them.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image, images::ImageRef};

use super::{align::View, blocks::Chroma, warp::Frame};

/// Longest sides of the luma planes, finest first.
pub(super) const SIDES: [u32; 4] = [128, 64, 32, 16];

/// Which of [`SIDES`] the chroma planes have. JPEG keeps chroma at half resolution or less and q30 blurs it further.
const CHROMA_LEVEL: usize = 2;

/// A borrowed upright RGB8 picture, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    width: u32,
    height: u32,
    rgb: &'a [u8],
}

impl<'a> Pixels<'a> {
    /// None when a side is zero or `rgb` does not hold exactly `width` x `height` x 3 bytes.
    pub fn new(width: u32, height: u32, rgb: &'a [u8]) -> Option<Self> {
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes > 0 && bytes == rgb.len()).then_some(Self { width, height, rgb })
    }

    pub fn width(self) -> u32 {
        self.width
    }

    pub fn height(self) -> u32 {
        self.height
    }
}

/// One channel of a picture, 0 to 255 (chroma: -128 to 127).
#[derive(Clone, Debug)]
pub(super) struct Plane {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) values: Vec<f32>,
}

/// Everything needed to compare a picture again. Cheap to keep: a cache of 1,000 holds about 70 MB.
#[derive(Clone, Debug)]
pub struct Features {
    /// Size of the picture itself, in whose pixels the evidence is given.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame: Frame,
    /// One for each of [`SIDES`].
    pub(super) luma: Vec<Plane>,
    pub(super) blue: Plane,
    pub(super) red: Plane,
}

/// Prepares a picture for comparison. About 0.5 ms for a preview (median on a busy machine).
pub fn features(pixels: Pixels<'_>) -> Features {
    let (width, height) = side_lengths(pixels.width, pixels.height, SIDES[0]);
    let rgb = shrink_rgb(pixels, width, height);
    let channel = |weights: [f32; 3]| Plane {
        width,
        height,
        values: rgb.chunks_exact(3).map(|p| (0..3).map(|c| weights[c] * f32::from(p[c])).sum()).collect(),
    };
    // ITU-R BT.601, full range, as JPEG stores it.
    let finest = channel([0.299, 0.587, 0.114]);
    let (blue, red) = (channel([-0.168_736, -0.331_264, 0.5]), channel([0.5, -0.418_688, -0.081_312]));

    let mut luma = vec![finest];
    for side in &SIDES[1..] {
        let (width, height) = side_lengths(pixels.width, pixels.height, *side);
        luma.push(luma[luma.len() - 1].shrink(width, height));
    }
    let (width, height) = (luma[CHROMA_LEVEL].width, luma[CHROMA_LEVEL].height);
    Features {
        width: pixels.width,
        height: pixels.height,
        frame: Frame::of(pixels.width, pixels.height),
        blue: blue.shrink(width, height),
        red: red.shrink(width, height),
        luma,
    }
}

impl Features {
    /// One of [`SIDES`], finest first.
    pub(super) fn view(&self, level: usize) -> View<'_> {
        let plane = &self.luma[level];
        let (width, height) = (plane.width, plane.height);
        View { plane, to_frame: self.frame.of_pixels(width, height), to_pixels: self.frame.to_pixels(width, height) }
    }

    pub(super) fn chroma(&self) -> Chroma<'_> {
        let View { to_frame, to_pixels, .. } = self.view(CHROMA_LEVEL);
        Chroma { blue: &self.blue, red: &self.red, to_frame, to_pixels }
    }
}

/// Size that fits into a square of `side`, keeping the aspect; never larger than the picture, never zero.
fn side_lengths(width: u32, height: u32, side: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= side {
        return (width, height);
    }
    let fit = |length: u32| ((f64::from(length) * f64::from(side) / f64::from(longest)).round() as u32).max(1);
    (fit(width), fit(height))
}

fn shrink_rgb(pixels: Pixels<'_>, width: u32, height: u32) -> Vec<u8> {
    if (width, height) == (pixels.width, pixels.height) {
        return pixels.rgb.to_vec();
    }
    let source = ImageRef::new(pixels.width, pixels.height, pixels.rgb, PixelType::U8x3)
        .expect("`Pixels` holds exactly width x height x 3 bytes");
    let mut target = Image::new(width, height, PixelType::U8x3);
    // The triangle filter spans two target pixels: enough against moire, and cheap.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut target, &options).expect("both sides are RGB8 and none is empty");
    target.into_vec()
}

impl Plane {
    /// Means over the cells of a coarser grid; cells may cut pixels.
    fn shrink(&self, width: u32, height: u32) -> Plane {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let (columns, rows) = (spans(self.width, width), spans(self.height, height));
        let mut values = Vec::with_capacity((width * height) as usize);
        for (top, row_weights) in &rows {
            for (left, column_weights) in &columns {
                let mut sum = 0.0;
                for (y, row_weight) in row_weights.iter().enumerate() {
                    let start = (top + y) * self.width as usize + left;
                    let line = &self.values[start..start + column_weights.len()];
                    let of_line: f32 = line.iter().zip(column_weights).map(|(value, weight)| value * weight).sum();
                    sum += row_weight * of_line;
                }
                values.push(sum);
            }
        }
        Plane { width, height, values }
    }

    /// The four neighbours of a place between pixel centres, and where it lies among them. None outside of the
    /// picture, whose edge lies half a pixel beyond the outermost centres.
    #[inline]
    pub(super) fn cell(&self, x: f32, y: f32) -> Option<Cell> {
        let (right, bottom) = (self.width as f32 - 1.0, self.height as f32 - 1.0);
        // A comparison with NaN is false, so NaN counts as outside.
        let inside = x >= -0.5 && y >= -0.5 && x <= right + 0.5 && y <= bottom + 0.5;
        if !inside || self.width < 2 || self.height < 2 {
            return None;
        }
        let (x, y) = (x.clamp(0.0, right), y.clamp(0.0, bottom));
        let (column, row) = ((x as usize).min(self.width as usize - 2), (y as usize).min(self.height as usize - 2));
        let upper = row * self.width as usize + column;
        let lower = upper + self.width as usize;
        let (upper, lower) = (&self.values[upper..upper + 2], &self.values[lower..lower + 2]);
        Some(Cell { corners: [upper[0], upper[1], lower[0], lower[1]], x: x - column as f32, y: y - row as f32 })
    }
}

/// For each target cell: the first source index it covers and the weights (sum 1) of the indices from there on.
fn spans(from: u32, to: u32) -> Vec<(usize, Vec<f32>)> {
    let ratio = f64::from(from) / f64::from(to);
    let span = |i: u32| {
        let (start, end) = (f64::from(i) * ratio, (f64::from(i + 1) * ratio).min(f64::from(from)));
        let (first, last) = (start.floor() as u32, (end.ceil() as u32).clamp(1, from));
        let covered = |j: u32| (end.min(f64::from(j + 1)) - start.max(f64::from(j))).max(0.0);
        let weights = (first..last).map(|j| (covered(j) / (end - start)) as f32).collect();
        (first as usize, weights)
    };
    (0..to).map(span).collect()
}

/// Four neighbouring pixels (upper left, upper right, lower left, lower right) and a place among them, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    corners: [f32; 4],
    x: f32,
    y: f32,
}

impl Cell {
    /// Bilinear value.
    pub(super) fn value(self) -> f32 {
        let [ul, ur, ll, lr] = self.corners;
        let (upper, lower) = (ul + (ur - ul) * self.x, ll + (lr - ll) * self.x);
        upper + (lower - upper) * self.y
    }

    /// Slope of the bilinear surface along x and y, a pixel.
    pub(super) fn slope(self) -> (f32, f32) {
        let [ul, ur, ll, lr] = self.corners;
        ((ur - ul) * (1.0 - self.y) + (lr - ll) * self.y, (ll - ul) * (1.0 - self.x) + (lr - ur) * self.x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_refused_unless_the_bytes_fit_the_size() {
        assert!(Pixels::new(2, 2, &[0; 12]).is_some());
        assert!(Pixels::new(2, 2, &[0; 11]).is_none());
        assert!(Pixels::new(0, 2, &[]).is_none());
        assert!(Pixels::new(u32::MAX, u32::MAX, &[]).is_none());
    }

    #[test]
    fn shrinking_keeps_the_mean_of_any_size() {
        for (width, height) in [(128, 96), (97, 61), (17, 128), (5, 3), (1, 1)] {
            let count = (width * height) as usize;
            let plane = Plane { width, height, values: (0..count).map(|i| (i * 37 % 251) as f32).collect() };
            let (w, h) = side_lengths(width, height, 16);
            let small = plane.shrink(w, h);
            assert_eq!(small.values.len(), (w * h) as usize);
            let mean = |p: &Plane| p.values.iter().sum::<f32>() / p.values.len() as f32;
            assert!((mean(&plane) - mean(&small)).abs() < 0.05, "{width}x{height}");
        }
    }

    #[test]
    fn grey_has_no_chroma_and_its_own_luma() {
        let f = features(Pixels::new(40, 30, &[77; 3600]).expect("fits"));
        assert!(f.luma.iter().all(|p| p.values.iter().all(|v| (v - 77.0).abs() < 0.01)));
        assert!(f.blue.values.iter().chain(&f.red.values).all(|v| v.abs() < 0.01));
    }
}
