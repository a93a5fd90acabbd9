//! How a photo looks when somebody else shoots the same thing: another frame, tilt, light and camera.
//!
//! Takes    a photo and a [`Shot`], drawn once. Gives the picture. Pure: the same shot gives the same pixels.
//! Weak at  a photo is flat: a new standpoint is imitated by a slow warp that moves near and far parts differently.

use std::f32::consts::TAU;

use image::{Rgb, RgbImage, imageops};
use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// One standpoint and one camera. Two draws differ so much that they are two photos, not one photo twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Shot {
    /// Area of the frame as a share of the photo's, 0.55 to 0.85.
    pub frame: f32,
    /// Place of the frame in the room that is left, 0 to 1 in x and y.
    pub place: (f32, f32),
    /// Width over height, relative to the photo's, 0.8 to 1.25.
    pub aspect: f32,
    /// Degrees clockwise, -12 to 12, at least 2 either way.
    pub tilt: f32,
    /// Perspective: how much nearer the right and the lower edge are, -0.2 to 0.2.
    pub keystone: (f32, f32),
    /// How far near parts move against far ones, as a share of the frame, 0.02 to 0.045, and where.
    pub parallax: Parallax,
    /// Light in stops, -0.8 to 0.8, and the bend of the tone curve.
    pub stops: f32,
    pub gamma: f32,
    /// Light from one side: gain of the far side, 0.5 to 1, and its direction in turns.
    pub shade: f32,
    pub shade_from: f32,
    /// Gain of red, green and blue.
    pub cast: [f32; 3],
    /// Standard deviation of the sensor's noise in grey levels, 0 to 9.
    pub noise: f32,
    /// Standard deviation of the blur in pixels; most shots have none.
    pub blur: f32,
    /// JPEG quality, 55 to 95.
    pub quality: u8,
    /// Longest side in pixels.
    pub side: u32,
    pub seed: u64,
}

/// A slow wave of displacement over the frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parallax {
    pub amount: f32,
    /// Cycles over the frame in x and y, and phases in turns.
    pub cycles: (f32, f32),
    pub phases: (f32, f32),
}

impl Shot {
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let either = |rng: &mut ChaCha8Rng, low: f32, high: f32| {
            let size = rng.random_range(low..high);
            if rng.random_bool(0.5) { size } else { -size }
        };
        let parallax = Parallax {
            amount: rng.random_range(0.02..0.045),
            cycles: (rng.random_range(0.5..1.5), rng.random_range(0.5..1.5)),
            phases: (rng.random(), rng.random()),
        };
        Self {
            frame: rng.random_range(0.55..0.85),
            place: (rng.random(), rng.random()),
            aspect: rng.random_range(0.8..1.25),
            tilt: either(rng, 2.0, 12.0),
            keystone: (either(rng, 0.02, 0.2), either(rng, 0.02, 0.2)),
            parallax,
            stops: rng.random_range(-0.8..0.8),
            gamma: rng.random_range(0.8..1.25),
            shade: rng.random_range(0.5..1.0),
            shade_from: rng.random(),
            cast: [rng.random_range(0.82..1.18), rng.random_range(0.92..1.08), rng.random_range(0.82..1.18)],
            noise: rng.random_range(0.5..9.0),
            blur: if rng.random_bool(0.06) { rng.random_range(0.8..1.6) } else { 0.0 },
            quality: rng.random_range(55..=95),
            side: *[480, 640, 800, 960].choose(rng).expect("not empty"),
            seed: rng.random(),
        }
    }

    /// Takes the shot.
    pub(super) fn take(&self, photo: &RgbImage) -> RgbImage {
        let (photo_w, photo_h) = (photo.width() as f32, photo.height() as f32);
        let (frame_w, frame_h) = frame_size(photo_w, photo_h, self.frame, self.aspect);
        let (centre_x, centre_y) =
            (frame_w / 2.0 + self.place.0 * (photo_w - frame_w), frame_h / 2.0 + self.place.1 * (photo_h - frame_h));
        let scale = self.side as f32 / frame_w.max(frame_h);
        let (width, height) = ((frame_w * scale).round().max(1.0) as u32, (frame_h * scale).round().max(1.0) as u32);
        let (sin, cos) = self.tilt.to_radians().sin_cos();
        let light = Light::of(self);
        let mut shot = RgbImage::from_fn(width, height, |x, y| {
            // From -1 to 1 over the frame.
            let (u, v) = (2.0 * (x as f32 + 0.5) / width as f32 - 1.0, 2.0 * (y as f32 + 0.5) / height as f32 - 1.0);
            let depth = 1.0 + self.keystone.0 * u + self.keystone.1 * v;
            let (moved_x, moved_y) = self.parallax.at(u, v);
            let (px, py) = ((u / depth + moved_x) * frame_w / 2.0, (v / depth + moved_y) * frame_h / 2.0);
            let colour = bilinear(photo, centre_x + cos * px - sin * py, centre_y + sin * px + cos * py);
            light.shine(colour, u, v)
        });
        if self.blur > 0.0 {
            shot = imageops::blur(&shot, self.blur);
        }
        add_noise(&mut shot, self.noise, self.seed);
        shot
    }
}

impl Parallax {
    fn at(&self, u: f32, v: f32) -> (f32, f32) {
        let wave = (TAU * (self.cycles.0 * u / 2.0 + self.phases.0)).sin();
        let other = (TAU * (self.cycles.1 * v / 2.0 + self.phases.1)).sin();
        (2.0 * self.amount * wave * other, 2.0 * self.amount * other * (1.0 - wave.abs()))
    }
}

/// The largest frame of this area and aspect that fits.
fn frame_size(width: f32, height: f32, area: f32, aspect: f32) -> (f32, f32) {
    let side = area.sqrt();
    ((width * side * aspect.sqrt()).min(width), (height * side / aspect.sqrt()).min(height))
}

/// What the light does to a colour at a place, worked out once.
struct Light {
    /// Tone curve of the 256 grey levels, in grey levels.
    curve: Vec<f32>,
    cast: [f32; 3],
    shade: f32,
    from: (f32, f32),
}

impl Light {
    fn of(shot: &Shot) -> Self {
        let gain = shot.stops.exp2();
        let curve = (0..256u16).map(|level| 255.0 * gain * (f32::from(level) / 255.0).powf(shot.gamma)).collect();
        let from = (TAU * shot.shade_from).sin_cos();
        Self { curve, cast: shot.cast, shade: shot.shade, from }
    }

    fn shine(&self, colour: [f32; 3], u: f32, v: f32) -> Rgb<u8> {
        let far = (1.0 + (u * self.from.0 + v * self.from.1) / std::f32::consts::SQRT_2) / 2.0;
        let gain = 1.0 - far * (1.0 - self.shade);
        let mut out = [0; 3];
        for channel in 0..3 {
            let level = self.curve[colour[channel].round().clamp(0.0, 255.0) as usize];
            out[channel] = shoulder(level * gain * self.cast[channel]);
        }
        Rgb(out)
    }
}

/// Bends what is brighter than 224 towards white, as cameras do, instead of cutting it off.
fn shoulder(level: f32) -> u8 {
    let bent = if level > 224.0 { 224.0 + 31.0 * (1.0 - (-(level - 224.0) / 62.0).exp()) } else { level };
    bent.round().clamp(0.0, 255.0) as u8
}

/// Colour between four pixels; beyond the edge the photo is mirrored.
fn bilinear(photo: &RgbImage, x: f32, y: f32) -> [f32; 3] {
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    let column = |offset: i64| mirrored(left as i64 + offset, photo.width());
    let row = |offset: i64| mirrored(top as i64 + offset, photo.height());
    let (x0, x1, y0, y1) = (column(0), column(1), row(0), row(1));
    let corners = [photo.get_pixel(x0, y0), photo.get_pixel(x1, y0), photo.get_pixel(x0, y1), photo.get_pixel(x1, y1)];
    let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
    let mut colour = [0.0; 3];
    for (pixel, weight) in corners.iter().zip(weights) {
        for (sum, level) in colour.iter_mut().zip(pixel.0) {
            *sum += weight * f32::from(level);
        }
    }
    colour
}

fn mirrored(at: i64, size: u32) -> u32 {
    let period = 2 * i64::from(size);
    let at = at.rem_euclid(period);
    u32::try_from(at.min(period - 1 - at)).unwrap_or(0)
}

/// Noise that is near to normal: the sum of four even draws a sample.
fn add_noise(picture: &mut RgbImage, sigma: f32, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Four draws from 0 to 255 have mean 510 and standard deviation 2 * 256 / sqrt(12).
    let scale = sigma / 147.8;
    for level in picture.iter_mut() {
        let sum: u32 = rng.next_u32().to_le_bytes().iter().map(|b| u32::from(*b)).sum();
        *level = (f32::from(*level) + scale * (sum as f32 - 510.0)).round().clamp(0.0, 255.0) as u8;
    }
}
