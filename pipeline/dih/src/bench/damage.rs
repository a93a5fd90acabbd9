//! What goes wrong with photos before they are sent, imitated: damage whose kind and strength are known.
//!
//! Takes    a photo and a [`Damage`]. Gives another photo. Pure and seeded.
//! Weak at  it is imitated: blur is even over the picture, noise knows no sensor.

use image::{
    Rgb, RgbImage,
    imageops::{self, FilterType},
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One kind of damage and its strength. Widths are shares of the shortest side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Damage {
    /// Out of focus: every point becomes a disc of this radius.
    Focus(f32),
    /// Soft as by a smeared lens: a normal blur of this deviation.
    Soft(f32),
    /// Moved in a random direction by this length.
    Motion(f32),
    /// Out of focus and then noise of this deviation, in grey levels: noise must not hide blur.
    NoisyFocus(f32, f32),
    /// Blur of an editor: the mean over a square of this side.
    Square(f32),
    /// Light by this many stops.
    Exposure(f32),
    /// Every level times this plus that, as editors and augmentation do.
    Gain(f32, f32),
    /// Fog: what is left of the distance to white.
    Fog(f32),
    /// The lens cap: one dark colour with a little noise.
    Flat,
    /// Noise of this deviation, in grey levels.
    Noise(f32),
    /// JPEG quality 10.
    Recompressed,
    /// Enlarged from this share of its size.
    Upscaled(f32),
    /// Black bars above and below, or at the sides: an upright picture becomes wide.
    Letterboxed,
    /// Bars as above around a photo that is out of focus, by this radius.
    LetterboxedFocus(f32),
    /// A photo of the page of an app: bars, lines of text, the photo in the middle.
    Screenshot,
    /// A photo of a screen: the screen's grid beats with the camera's.
    Moire,
}

/// What is to be answered about a photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    Blurred,
    TooDark,
    Overexposed,
    LowInformation,
}

impl Question {
    pub const ALL: [Self; 4] = [Self::Blurred, Self::TooDark, Self::Overexposed, Self::LowInformation];

    /// Reason of the rejection, in the words of verify.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Blurred => "blurred",
            Self::TooDark => "too_dark",
            Self::Overexposed => "overexposed",
            Self::LowInformation => "low_information",
        }
    }
}

/// All that is tried, with names, and what a person would refuse it for. None: ugly, but a photo.
pub const DAMAGES: [(&str, Damage, Option<Question>); 46] = [
    ("focus 0.6 %", Damage::Focus(0.006), Some(Question::Blurred)),
    ("focus 1 %", Damage::Focus(0.010), Some(Question::Blurred)),
    ("focus 1.6 %", Damage::Focus(0.016), Some(Question::Blurred)),
    ("focus 2.5 %", Damage::Focus(0.025), Some(Question::Blurred)),
    ("soft 0.5 %", Damage::Soft(0.005), Some(Question::Blurred)),
    ("soft 0.75 %", Damage::Soft(0.0075), Some(Question::Blurred)),
    ("soft 1 %", Damage::Soft(0.010), Some(Question::Blurred)),
    ("soft 1.5 %", Damage::Soft(0.015), Some(Question::Blurred)),
    ("soft 2.5 %", Damage::Soft(0.025), Some(Question::Blurred)),
    ("square 1.2 %", Damage::Square(0.012), Some(Question::Blurred)),
    ("square 2.2 %", Damage::Square(0.022), Some(Question::Blurred)),
    ("motion 2.2 %", Damage::Motion(0.022), Some(Question::Blurred)),
    ("motion 3 %", Damage::Motion(0.03), Some(Question::Blurred)),
    ("motion 5 %", Damage::Motion(0.05), Some(Question::Blurred)),
    ("motion 8 %", Damage::Motion(0.08), Some(Question::Blurred)),
    ("focus 1.6 %, noise 4", Damage::NoisyFocus(0.016, 4.0), Some(Question::Blurred)),
    ("focus 1.6 %, noise 8", Damage::NoisyFocus(0.016, 8.0), Some(Question::Blurred)),
    ("focus 1.6 % in bars", Damage::LetterboxedFocus(0.016), Some(Question::Blurred)),
    ("upscaled from 1/8", Damage::Upscaled(0.125), Some(Question::Blurred)),
    ("-3.5 stops", Damage::Exposure(-3.5), Some(Question::TooDark)),
    ("-5 stops", Damage::Exposure(-5.0), Some(Question::TooDark)),
    ("times 0.3", Damage::Gain(0.3, 0.0), Some(Question::TooDark)),
    ("times 0.2", Damage::Gain(0.2, 0.0), Some(Question::TooDark)),
    ("times 0.1", Damage::Gain(0.1, 0.0), Some(Question::TooDark)),
    ("times 0.5, less 60", Damage::Gain(0.5, -60.0), Some(Question::TooDark)),
    ("+4 stops", Damage::Exposure(4.0), Some(Question::Overexposed)),
    ("+5 stops", Damage::Exposure(5.0), Some(Question::Overexposed)),
    ("times 2.5", Damage::Gain(2.5, 0.0), Some(Question::Overexposed)),
    ("times 3", Damage::Gain(3.0, 0.0), Some(Question::Overexposed)),
    ("times 4", Damage::Gain(4.0, 0.0), Some(Question::Overexposed)),
    ("times 2.5 and 40", Damage::Gain(2.5, 40.0), Some(Question::Overexposed)),
    ("times 1.5 and 100", Damage::Gain(1.5, 100.0), Some(Question::Overexposed)),
    ("lifted by 120", Damage::Gain(1.0, 120.0), Some(Question::Overexposed)),
    ("fog", Damage::Fog(0.25), Some(Question::Overexposed)),
    ("flat", Damage::Flat, Some(Question::LowInformation)),
    ("-1.5 stops", Damage::Exposure(-1.5), None),
    ("times 0.5", Damage::Gain(0.5, 0.0), None),
    ("+1 stop", Damage::Exposure(1.0), None),
    ("times 1.2", Damage::Gain(1.2, 0.0), None),
    ("times 1.5", Damage::Gain(1.5, 0.0), None),
    ("noise 16", Damage::Noise(16.0), None),
    ("JPEG q10", Damage::Recompressed, None),
    ("upscaled from 1/2", Damage::Upscaled(0.5), None),
    ("letterboxed", Damage::Letterboxed, None),
    ("screenshot", Damage::Screenshot, None),
    ("photo of a screen", Damage::Moire, None),
];

impl Damage {
    pub fn quality(self) -> u8 {
        if self == Self::Recompressed { 10 } else { 90 }
    }

    pub fn apply(self, photo: &RgbImage, seed: u64) -> RgbImage {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let side = photo.width().min(photo.height()) as f32;
        match self {
            Self::Focus(radius) => smear(photo, &disc(radius * side)),
            Self::Soft(deviation) => imageops::fast_blur(photo, deviation * side),
            Self::Motion(length) => smear(photo, &stroke(length * side, rng.random_range(0.0..std::f32::consts::PI))),
            Self::NoisyFocus(radius, deviation) => noisy(Self::Focus(radius).apply(photo, seed), deviation, &mut rng),
            Self::Square(side_share) => smear(photo, &square(side_share * side)),
            Self::Exposure(stops) => levels(photo, |v| 255.0 * ((v / 255.0).powf(2.2) * stops.exp2()).powf(1.0 / 2.2)),
            Self::Gain(factor, offset) => levels(photo, |v| v * factor + offset),
            Self::Fog(left) => levels(photo, |v| 255.0 - (255.0 - v) * left),
            Self::Flat => {
                let cap = RgbImage::from_pixel(photo.width(), photo.height(), Rgb([120, 110, 100]));
                noisy(cap, 0.2, &mut rng)
            }
            Self::Noise(deviation) => noisy(photo.clone(), deviation, &mut rng),
            Self::Recompressed => photo.clone(),
            Self::Upscaled(share) => {
                let small = |side: u32| ((side as f32 * share) as u32).max(1);
                let small = imageops::resize(photo, small(photo.width()), small(photo.height()), FilterType::Triangle);
                imageops::resize(&small, photo.width(), photo.height(), FilterType::CatmullRom)
            }
            Self::Letterboxed => letterboxed(photo),
            Self::LetterboxedFocus(radius) => letterboxed(&Self::Focus(radius).apply(photo, seed)),
            Self::Screenshot => screenshot(photo, &mut rng),
            Self::Moire => moire(photo, rng.random_range(0.0..1.0)),
        }
    }
}

/// Runs of equal weight: row, first and last column, relative to the pixel. What a point becomes.
type Runs = Vec<(i64, i64, i64)>;

fn disc(radius: f32) -> Runs {
    let reach = radius.round() as i64;
    let run = |dy: i64| {
        let half = (radius * radius - (dy * dy) as f32).max(0.0).sqrt().round() as i64;
        (dy, -half, half)
    };
    (-reach..=reach).map(run).collect()
}

fn square(side: f32) -> Runs {
    let reach = (side / 2.0).round() as i64;
    (-reach..=reach).map(|dy| (dy, -reach, reach)).collect()
}

fn stroke(length: f32, angle: f32) -> Runs {
    let (sin, cos) = angle.sin_cos();
    let steps = (length.round() as i64).max(1);
    let at = |step: i64| {
        let along = step as f32 - steps as f32 / 2.0;
        let x = (along * cos).round() as i64;
        ((along * sin).round() as i64, x, x)
    };
    (0..=steps).map(at).collect()
}

/// Every pixel becomes the mean over the runs around it; beyond the edge the last pixel goes on.
fn smear(photo: &RgbImage, runs: &Runs) -> RgbImage {
    let (width, height) = (i64::from(photo.width()), i64::from(photo.height()));
    let reach = runs.iter().map(|(_, from, to)| from.abs().max(to.abs())).max().unwrap_or(0);
    let padded = (width + 2 * reach + 1) as usize;
    let pixel = |x: i64, y: i64| photo.get_pixel(x.clamp(0, width - 1) as u32, y.clamp(0, height - 1) as u32).0;
    // Sums of each row from its left end, so that a run costs two look-ups however long it is.
    let sums: Vec<[u32; 3]> = (0..height)
        .flat_map(|y| {
            let columns = (-reach..=width + reach).scan([0_u32; 3], move |sum, x| {
                let before = *sum;
                let level = pixel(x, y);
                (0..3).for_each(|c| sum[c] += u32::from(level[c]));
                Some(before)
            });
            columns.collect::<Vec<_>>()
        })
        .collect();
    let row = padded;
    let weight: i64 = runs.iter().map(|(_, from, to)| to - from + 1).sum();
    RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
        let mut total = [0_u32; 3];
        for (dy, from, to) in runs {
            let y = (i64::from(y) + dy).clamp(0, height - 1) as usize;
            let at = |dx: i64| sums[y * row + (i64::from(x) + dx + reach) as usize];
            let (first, last) = (at(*from), at(to + 1));
            (0..3).for_each(|c| total[c] += last[c] - first[c]);
        }
        Rgb(total.map(|sum| (f64::from(sum) / weight as f64).round() as u8))
    })
}

fn levels(photo: &RgbImage, change: impl Fn(f32) -> f32) -> RgbImage {
    let table: Vec<u8> = (0..=255u8).map(|v| change(f32::from(v)).round().clamp(0.0, 255.0) as u8).collect();
    let mut changed = photo.clone();
    changed.iter_mut().for_each(|level| *level = table[usize::from(*level)]);
    changed
}

/// Grain: the same for all channels, and half as much for each alone.
fn noisy(mut photo: RgbImage, deviation: f32, rng: &mut ChaCha8Rng) -> RgbImage {
    // Four even draws of a byte sum to 510 with a standard deviation of 147.8.
    let mut draw = || {
        let sum: u32 = rng.next_u32().to_le_bytes().iter().map(|b| u32::from(*b)).sum();
        (sum as f32 - 510.0) / 147.8
    };
    for pixel in photo.pixels_mut() {
        let grain = draw();
        for level in &mut pixel.0 {
            let noise = deviation * (grain + 0.5 * draw());
            *level = (f32::from(*level) + noise).round().clamp(0.0, 255.0) as u8;
        }
    }
    photo
}

fn letterboxed(photo: &RgbImage) -> RgbImage {
    let (width, height) = photo.dimensions();
    let (across, down) = if width >= height { (0, height * 35 / 100) } else { (width * 35 / 100, 0) };
    let mut framed = RgbImage::from_pixel(width + 2 * across, height + 2 * down, Rgb([0, 0, 0]));
    imageops::replace(&mut framed, photo, across.into(), down.into());
    framed
}

/// The page of an app on a telephone, 9 by 19.5.
fn screenshot(photo: &RgbImage, rng: &mut ChaCha8Rng) -> RgbImage {
    const SIZE: (u32, u32) = (540, 1170);
    let (paper, ink) = if rng.random_bool(0.5) { ([18; 3], [235; 3]) } else { ([250; 3], [40; 3]) };
    let mut page = RgbImage::from_pixel(SIZE.0, SIZE.1, Rgb(paper));
    let height = (photo.height() * SIZE.0 / photo.width().max(1)).clamp(1, SIZE.1 - 260);
    let shown = imageops::resize(photo, SIZE.0, height, FilterType::Triangle);
    imageops::replace(&mut page, &shown, 0, i64::from((SIZE.1 - height) / 2));
    for top in [14, 70, SIZE.1 - 90, SIZE.1 - 40] {
        let mut x = 20;
        while x < SIZE.0 - 60 {
            let word = rng.random_range(8..50);
            if rng.random_bool(0.6) {
                let word = RgbImage::from_pixel(word, 14, Rgb(ink));
                imageops::replace(&mut page, &word, x.into(), top.into());
            }
            x += word + 10;
        }
    }
    page
}

/// Bands where the grid of the screen and that of the camera fall together, faint stripes of the screen's rows.
fn moire(photo: &RgbImage, turn: f32) -> RgbImage {
    let (sin, cos) = (0.3 * turn).sin_cos();
    let mut shot = photo.clone();
    for (x, y, pixel) in shot.enumerate_pixels_mut() {
        let (u, v) = (x as f32 * cos + y as f32 * sin, y as f32 * cos - x as f32 * sin);
        let beat = 1.0 + 0.10 * (u / 9.0).sin() * (v / 11.0).sin() + 0.05 * (v * 2.1).sin();
        pixel.0 = pixel.0.map(|level| (f32::from(level) * beat * 0.9 + 12.0).round().clamp(0.0, 255.0) as u8);
    }
    shot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot() -> RgbImage {
        let mut photo = RgbImage::from_pixel(101, 101, Rgb([0; 3]));
        photo.put_pixel(50, 50, Rgb([255; 3]));
        photo
    }

    #[test]
    fn a_point_out_of_focus_becomes_a_disc_and_a_moved_one_a_line() {
        let lit = |photo: &RgbImage| photo.pixels().filter(|p| p.0[0] > 0).count();
        let focus = smear(&dot(), &disc(4.0));
        assert!((40..60).contains(&lit(&focus)), "{}", lit(&focus));
        let moved = smear(&dot(), &stroke(12.0, 0.0));
        assert_eq!(lit(&moved), 13);
        assert!((44..=56).all(|x| moved.get_pixel(x, 50).0[0] > 0));
    }

    #[test]
    fn blur_keeps_the_light() {
        let photo = RgbImage::from_fn(40, 30, |x, y| Rgb([(x * 6) as u8, (y * 8) as u8, 128]));
        let mean = |photo: &RgbImage| photo.iter().map(|v| f64::from(*v)).sum::<f64>() / photo.len() as f64;
        assert!((mean(&photo) - mean(&smear(&photo, &disc(3.0)))).abs() < 1.0);
    }

    #[test]
    fn damage_is_the_same_for_a_seed() {
        let photo = dot();
        for (name, damage, _) in DAMAGES {
            assert!(damage.apply(&photo, 3) == damage.apply(&photo, 3), "{name}");
        }
    }
}
