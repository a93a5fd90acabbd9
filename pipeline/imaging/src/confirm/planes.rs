//! What is kept of a picture so that it can be compared again: luma at three sizes, and chroma at one.
//!
//! Takes    upright RGB8 pixels of any size. Gives [`Features`], about 22 kB at an aspect of 4:3.
//! Keeps    nothing; pure.
//! Weak at  pictures with less than 8 pixels on a side: they hold no block, so nothing can be proved with them.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, images::Image, images::ImageRef};

use super::{align::View, blocks::Chroma, warp::Frame};
use crate::raster::resizing;

/// Longest sides of the luma planes, finest first.
pub(super) const SIDES: [u32; 3] = [128, 64, 32];

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

/// One channel of a picture, 0 to 255; for chroma 128 is none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plane {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) values: Vec<u8>,
}

/// Everything needed to compare a picture again. Cheap to keep: a cache of 1,000 holds about 22 MB.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Size of the picture itself, in whose pixels the evidence is given.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame: Frame,
    /// One for each of [`SIDES`].
    luma: [Plane; SIDES.len()],
    blue: Plane,
    red: Plane,
}

/// Prepares a picture for comparison; the smaller it is, the cheaper, and [`SIDES`] is all that is used.
pub fn features(pixels: Pixels<'_>) -> Features {
    let size = |level: usize| side_lengths(pixels.width, pixels.height, SIDES[level]);
    let rgb = shrink(pixels, size(0));
    let luma = Plane::of(&rgb, size(0), |[r, g, b]| (77 * r + 150 * g + 29 * b + 128) >> 8);
    let luma = Plane::smaller_and_smaller(luma, size);

    let finest = Pixels { width: size(0).0, height: size(0).1, rgb: &rgb };
    let small = shrink(finest, size(CHROMA_LEVEL));
    // ITU-R BT.601, full range, as JPEG stores it; 32,896 is 128.5 in 256ths.
    let blue = Plane::of(&small, size(CHROMA_LEVEL), |[r, g, b]| (32_896 + 127 * b - 43 * r - 84 * g) >> 8);
    let red = Plane::of(&small, size(CHROMA_LEVEL), |[r, g, b]| (32_896 + 127 * r - 106 * g - 21 * b) >> 8);
    Features {
        width: pixels.width,
        height: pixels.height,
        frame: Frame::of(pixels.width, pixels.height),
        luma,
        blue,
        red,
    }
}

/// First byte of the stored form; another one is not read.
pub(super) const STORED: u8 = 1;
/// The byte, then the two sides of the picture.
const HEAD_BYTES: usize = 1 + 2 * size_of::<u32>();

impl Features {
    /// For other processes; about 14 kB at an aspect of 4:3.
    pub fn to_bytes(&self) -> Vec<u8> {
        let planes = [&self.luma[0], &self.blue, &self.red];
        let mut bytes = vec![STORED];
        bytes.extend([self.width, self.height].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(planes.into_iter().flat_map(|plane| &plane.values));
        bytes
    }

    /// None for what [`Features::to_bytes`] did not write.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, planes) = bytes.split_at_checked(HEAD_BYTES)?;
        let side = |at: usize| head.get(at..at + size_of::<u32>())?.try_into().ok().map(u32::from_le_bytes);
        let (width, height) = (side(1)?, side(1 + size_of::<u32>())?);
        if head[0] != STORED || width == 0 || height == 0 {
            return None;
        }
        let size = |level: usize| side_lengths(width, height, SIDES[level]);
        let bytes_of = |level: usize| size(level).0 as usize * size(level).1 as usize;
        let (luma, chroma) = planes.split_at_checked(bytes_of(0))?;
        let (blue, red) = chroma.split_at_checked(bytes_of(CHROMA_LEVEL))?;
        if red.len() != blue.len() {
            return None;
        }
        let plane = |level: usize, values: &[u8]| {
            let (width, height) = size(level);
            Plane { width, height, values: values.to_vec() }
        };
        let luma = Plane::smaller_and_smaller(plane(0, luma), size);
        let (blue, red) = (plane(CHROMA_LEVEL, blue), plane(CHROMA_LEVEL, red));
        Some(Self { width, height, frame: Frame::of(width, height), luma, blue, red })
    }

    /// One of [`SIDES`], finest first.
    pub(super) fn view(&self, level: usize) -> View<'_> {
        View::of(&self.luma[level], self.frame)
    }

    pub(super) fn chroma(&self) -> Chroma<'_> {
        Chroma::of(&self.blue, &self.red, self.frame)
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

fn shrink(pixels: Pixels<'_>, (width, height): (u32, u32)) -> Vec<u8> {
    if (width, height) == (pixels.width, pixels.height) {
        return pixels.rgb.to_vec();
    }
    let source = ImageRef::new(pixels.width, pixels.height, pixels.rgb, PixelType::U8x3)
        .expect("`Pixels` holds exactly width x height x 3 bytes");
    let mut target = Image::new(width, height, PixelType::U8x3);
    // The triangle filter spans two target pixels: enough against moire, and cheap.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let resized = resizing(|resizer| resizer.resize(&source, &mut target, &options));
    resized.expect("both sides are RGB8 and none is empty");
    target.into_vec()
}

impl Plane {
    /// Of `side` x `side` values.
    pub(super) fn square(side: usize, values: &[u8]) -> Self {
        Self { width: side as u32, height: side as u32, values: values.to_vec() }
    }

    /// One channel mixed from RGB8.
    fn of(rgb: &[u8], (width, height): (u32, u32), mix: impl Fn([i32; 3]) -> i32) -> Self {
        let values = rgb.as_chunks::<3>().0.iter().map(|pixel| mix(pixel.map(i32::from)) as u8).collect();
        Self { width, height, values }
    }

    /// One for each of [`SIDES`], from the finest.
    fn smaller_and_smaller(finest: Self, size: impl Fn(usize) -> (u32, u32)) -> [Self; SIDES.len()] {
        let second = finest.shrink(size(1));
        let third = second.shrink(size(2));
        [finest, second, third]
    }

    /// Each new pixel is the mean of those that it covers.
    fn shrink(&self, (width, height): (u32, u32)) -> Self {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let source = ImageRef::new(self.width, self.height, &self.values, PixelType::U8)
            .expect("a plane holds width x height bytes");
        let mut target = Image::new(width, height, PixelType::U8);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
        let resized = resizing(|resizer| resizer.resize(&source, &mut target, &options));
        resized.expect("both are 8-bit and none is empty");
        Self { width, height, values: target.into_vec() }
    }

    /// What it shows at [`LANES`] places on a line: at `start`, and each `step` further. The picture's edge lies half a
    /// pixel beyond the outermost centres; `count` of the places are asked for.
    ///
    /// This is the innermost loop of all: written so that the compiler makes vector code of everything but the reading.
    #[inline(always)]
    pub(super) fn along(&self, start: (f32, f32), step: (f32, f32), count: usize) -> Samples {
        let mut samples = Samples::default();
        if self.width < 2 || self.height < 2 {
            return samples;
        }
        let (width, right, bottom) = (self.width as f32, self.width as f32 - 1.0, self.height as f32 - 1.0);
        let (mut x, mut y, mut first) = ([0.0f32; LANES], [0.0f32; LANES], [0u32; LANES]);
        for lane in 0..LANES {
            let (at_x, at_y) = (start.0 + step.0 * lane as f32, start.1 + step.1 * lane as f32);
            // A comparison with NaN is false, so NaN counts as outside.
            let inside = (at_x >= -0.5) & (at_y >= -0.5) & (at_x <= right + 0.5) & (at_y <= bottom + 0.5);
            samples.inside[lane] = if inside & (lane < count) { 1.0 } else { 0.0 };
            let (at_x, at_y) = (within(at_x, right), within(at_y, bottom));
            let (column, row) = (whole(within(at_x - 0.5, right - 1.0)), whole(within(at_y - 0.5, bottom - 1.0)));
            (x[lane], y[lane]) = (at_x - column, at_y - row);
            first[lane] = (row * width + column + WHOLE).to_bits() & 0x007f_ffff;
        }
        let mut corners = [0u32; LANES];
        for lane in 0..LANES {
            let (upper, lower) = (first[lane] as usize, (first[lane] + self.width) as usize);
            let pair = |at: usize| u32::from(u16::from_le_bytes([self.values[at], self.values[at + 1]]));
            corners[lane] = pair(lower) << 16 | pair(upper);
        }
        for lane in 0..LANES {
            let corner = |n: u32| (corners[lane] >> (8 * n) & 0xff) as i32 as f32;
            let (ul, ur, ll, lr) = (corner(0), corner(1), corner(2), corner(3));
            let (upper, lower) = (ul + (ur - ul) * x[lane], ll + (lr - ll) * x[lane]);
            samples.value[lane] = upper + (lower - upper) * y[lane];
            samples.slope_x[lane] = (ur - ul) * (1.0 - y[lane]) + (lr - ll) * y[lane];
            samples.slope_y[lane] = lower - upper;
        }
        samples
    }
}

/// 2^23: from here on a float has no places after the point, and its lowest 23 bits are the whole number itself.
const WHOLE: f32 = 8_388_608.0;

/// The nearest whole number, of one below 2^22.
#[inline(always)]
fn whole(value: f32) -> f32 {
    (value + WHOLE) - WHOLE
}

/// 0 to `most`, and 0 for what is no number. One instruction each, unlike `clamp`, `min` and `max`.
#[inline(always)]
fn within(value: f32, most: f32) -> f32 {
    let value = if value > 0.0 { value } else { 0.0 };
    if value < most { value } else { most }
}

/// Places that are looked at together, so that the compiler can make vector code of it.
pub(super) const LANES: usize = 8;

/// Bilinear values and their slopes a pixel, at [`LANES`] places; `inside` is 1 within the picture, else 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Samples {
    pub(super) value: [f32; LANES],
    pub(super) slope_x: [f32; LANES],
    pub(super) slope_y: [f32; LANES],
    pub(super) inside: [f32; LANES],
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
            let count = width * height;
            let plane = Plane { width, height, values: (0..count).map(|i| (i * 37 % 251) as u8).collect() };
            let (w, h) = side_lengths(width, height, 16);
            let small = plane.shrink((w, h));
            assert_eq!(small.values.len(), (w * h) as usize);
            let mean = |p: &Plane| p.values.iter().map(|v| f32::from(*v)).sum::<f32>() / p.values.len() as f32;
            assert!((mean(&plane) - mean(&small)).abs() < 0.6, "{width}x{height}");
        }
    }

    #[test]
    fn grey_has_no_chroma_and_its_own_luma() {
        for grey in [0, 77, 255] {
            let f = features(Pixels::new(40, 30, &[grey; 3600]).expect("fits"));
            assert!(f.luma.iter().all(|p| p.values.iter().all(|v| *v == grey)));
            assert!(f.blue.values.iter().chain(&f.red.values).all(|v| *v == 128));
        }
    }

    #[test]
    fn pure_colours_have_the_chroma_of_the_standard() {
        for (rgb, blue, red) in [([255, 0, 0], 85, 255), ([0, 255, 0], 44, 21), ([0, 0, 255], 255, 107)] {
            let f = features(Pixels::new(40, 30, &rgb.repeat(1200)).expect("fits"));
            let near = |plane: &Plane, want: u8| plane.values.iter().all(|v| v.abs_diff(want) <= 1);
            assert!(near(&f.blue, blue) && near(&f.red, red), "{rgb:?}: {} {}", f.blue.values[0], f.red.values[0]);
        }
    }

    #[test]
    fn between_pixels_the_value_is_that_of_a_plane_and_outside_nothing_counts() {
        let values = (0..80).map(|i| (i % 10 * 4 + i / 10 * 6) as u8).collect();
        let plane = Plane { width: 10, height: 8, values };
        let samples = plane.along((-1.5, 2.25), (1.5, 0.5), 7);
        assert_eq!(samples.inside, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        for lane in 2..7 {
            let (x, y) = (-1.5 + 1.5 * lane as f32, 2.25 + 0.5 * lane as f32);
            assert!((samples.value[lane] - (4.0 * x + 6.0 * y)).abs() < 1e-3, "{lane}: {samples:?}");
            assert!((samples.slope_x[lane] - 4.0).abs() < 1e-3 && (samples.slope_y[lane] - 6.0).abs() < 1e-3);
        }
        let nowhere = plane.along((f32::NAN, 0.0), (0.0, f32::INFINITY), 8);
        assert!(nowhere.value.iter().all(|v| v.is_finite()) && nowhere.inside == [0.0; 8]);
    }
}
