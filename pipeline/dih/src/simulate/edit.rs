//! What happens to a picture after the shot: edits of those who send it once more, and damage.
//!
//! Takes    a picture. Gives another, or bytes that are of no use. Pure and seeded by the shot.

use image::{
    Rgb, RgbImage,
    imageops::{self, FilterType},
};
use rand::{Rng, RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    camera::Shot,
    shot::{ShotError, encode},
};

/// What people and apps do to a picture before it is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// JPEG quality 30.
    Recompressed,
    /// Half the width and height.
    Halved,
    /// A fifth brighter.
    Brightened,
    /// Light bars over the lower right corner.
    Watermarked,
    /// 5 % cut off every side.
    Cropped,
    /// Left and right swapped.
    Mirrored,
}

impl Edit {
    pub const ALL: [Edit; 6] =
        [Self::Recompressed, Self::Halved, Self::Brightened, Self::Watermarked, Self::Cropped, Self::Mirrored];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recompressed => "recompressed",
            Self::Halved => "halved",
            Self::Brightened => "brightened",
            Self::Watermarked => "watermarked",
            Self::Cropped => "cropped",
            Self::Mirrored => "mirrored",
        }
    }

    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        *Self::ALL.choose(rng).expect("not empty")
    }

    pub(super) fn apply(self, picture: RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        match self {
            Self::Recompressed => picture,
            Self::Halved => imageops::resize(&picture, (width / 2).max(1), (height / 2).max(1), FilterType::CatmullRom),
            Self::Brightened => map_levels(picture, |level| level * 1.2),
            Self::Watermarked => watermark(picture),
            Self::Cropped => {
                let (x, y) = (width / 20, height / 20);
                imageops::crop_imm(&picture, x, y, width - 2 * x, height - 2 * y).to_image()
            }
            Self::Mirrored => imageops::flip_horizontal(&picture),
        }
    }

    pub(super) fn quality(self) -> u8 {
        if self == Self::Recompressed { 30 } else { 88 }
    }
}

/// Ways in which an upload is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The end is missing.
    Truncated,
    /// No file at all, but bytes.
    Garbage,
    /// A web page, saved as a photo.
    Page,
    /// 20 pixels wide.
    Tiny,
    /// One colour.
    Flat,
    /// Taken with the lens cap on.
    Dark,
    /// Nothing is in focus.
    Blurred,
}

impl Broken {
    pub const ALL: [Broken; 7] =
        [Self::Truncated, Self::Garbage, Self::Page, Self::Tiny, Self::Flat, Self::Dark, Self::Blurred];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Garbage => "garbage",
            Self::Page => "page",
            Self::Tiny => "tiny",
            Self::Flat => "flat",
            Self::Dark => "dark",
            Self::Blurred => "blurred",
        }
    }

    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        *Self::ALL.choose(rng).expect("not empty")
    }

    pub(super) fn bytes(self, photo: &RgbImage, shot: &Shot) -> Result<Vec<u8>, ShotError> {
        let mut rng = ChaCha8Rng::seed_from_u64(shot.seed);
        let picture = match self {
            Self::Garbage => return Ok(garbage(&mut rng)),
            Self::Page => {
                return Ok(format!("<!doctype html><title>404</title><p>photo {:x} is gone\n", shot.seed).into());
            }
            Self::Truncated => {
                let whole = encode(&shot.take(photo), shot.quality)?;
                let keep = whole.len() * rng.random_range(25..70) / 100;
                return Ok(whole[..keep].to_vec());
            }
            Self::Tiny => imageops::resize(photo, 20, 15, FilterType::Triangle),
            Self::Flat => RgbImage::from_pixel(640, 480, Rgb(rng.random())),
            Self::Dark => map_levels(shot.take(photo), |level| level * 0.03),
            Self::Blurred => {
                // Noise comes after the lens, and would make it look sharp.
                let quiet = Shot { noise: 0.0, ..shot.clone() };
                imageops::fast_blur(&quiet.take(photo), shot.side as f32 / 40.0)
            }
        };
        encode(&picture, shot.quality)
    }
}

fn garbage(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(2_000..40_000)];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn map_levels(mut picture: RgbImage, change: impl Fn(f32) -> f32) -> RgbImage {
    picture.iter_mut().for_each(|level| *level = change(f32::from(*level)).round().clamp(0.0, 255.0) as u8);
    picture
}

/// Twelve half-transparent bars, like the letters of a name.
fn watermark(mut picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (left, top, bar) = (width * 11 / 20, height * 17 / 20, (width / 48).max(1));
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        if x >= left && y >= top && y < top + height / 14 && (x - left) / bar % 3 != 2 && x < left + 36 * bar {
            pixel.0.iter_mut().for_each(|level| *level = (u16::from(*level) / 2 + 127) as u8);
        }
    }
    picture
}
