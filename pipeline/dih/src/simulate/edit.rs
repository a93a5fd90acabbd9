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
///
/// All but [`Edit::Q30`] are then saved as JPEG of quality 88.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Saved as JPEG of quality 30.
    Q30,
    /// Half the width and half the height.
    Half,
    /// 5 % of the width cut off left and right, 5 % of the height above and below: .81 of the area stay.
    Crop5,
    /// 10 % cut off each side: .64 of the area stay.
    Crop10,
    /// Each channel times 1.2; what exceeds 255 is cut off.
    Bright20,
    /// Turned clockwise by 2 degrees about the centre, in a frame of the same size with black corners.
    Rot2,
    /// Left and right swapped.
    Mirror,
    /// Half-transparent white letters across the middle: 60 % of the width, a tenth of the height.
    Watermark,
}

impl Edit {
    pub const ALL: [Edit; 8] =
        [Self::Q30, Self::Half, Self::Crop5, Self::Crop10, Self::Bright20, Self::Rot2, Self::Mirror, Self::Watermark];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q30 => "q30",
            Self::Half => "half",
            Self::Crop5 => "crop5",
            Self::Crop10 => "crop10",
            Self::Bright20 => "bright20",
            Self::Rot2 => "rot2",
            Self::Mirror => "mirror",
            Self::Watermark => "watermark",
        }
    }

    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        *Self::ALL.choose(rng).expect("not empty")
    }

    pub(crate) fn apply(self, picture: RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        match self {
            Self::Q30 => picture,
            Self::Half => imageops::resize(&picture, (width / 2).max(1), (height / 2).max(1), FilterType::CatmullRom),
            Self::Crop5 => crop(&picture, width / 20, height / 20),
            Self::Crop10 => crop(&picture, width / 10, height / 10),
            Self::Bright20 => map_levels(picture, |level| level * 1.2),
            Self::Rot2 => turn(&picture, 2.0),
            Self::Mirror => imageops::flip_horizontal(&picture),
            Self::Watermark => watermark(picture),
        }
    }

    pub(crate) fn quality(self) -> u8 {
        if self == Self::Q30 { 30 } else { 88 }
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

/// Cuts `x` columns off left and right, `y` rows off above and below.
fn crop(picture: &RgbImage, x: u32, y: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    imageops::crop_imm(picture, x, y, width - 2 * x, height - 2 * y).to_image()
}

/// Turns clockwise about the centre, bilinear; black where there was nothing.
fn turn(picture: &RgbImage, degrees: f32) -> RgbImage {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (centre_x, centre_y) = ((picture.width() - 1) as f32 / 2.0, (picture.height() - 1) as f32 / 2.0);
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let (x, y) = (x as f32 - centre_x, y as f32 - centre_y);
        let (from_x, from_y) = (cos * x + sin * y + centre_x, cos * y - sin * x + centre_y);
        imageops::interpolate_bilinear(picture, from_x, from_y).unwrap_or(Rgb([0; 3]))
    })
}

/// Twelve letters, drawn as bars: each a stem and a beam, at the top or at the foot by turns.
fn watermark(mut picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (left, top) = (width / 5, height * 9 / 20);
    let (letter, tall) = ((width * 3 / 5 / 12).max(2), (height / 10).max(2));
    let stroke = (letter / 4).max(1);
    for y in top..(top + tall).min(height) {
        for x in left..(left + 12 * letter).min(width) {
            let (number, across, down) = ((x - left) / letter, (x - left) % letter, y - top);
            let beam = if number % 2 == 0 { down < stroke } else { down + stroke >= tall };
            if across < stroke || (beam && across + stroke < letter) {
                picture.get_pixel_mut(x, y).0.iter_mut().for_each(|level| *level = level.midpoint(255));
            }
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red tells the column, green the row.
    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 100]))
    }

    #[test]
    fn a_crop_takes_its_share_off_each_side() {
        let cut = |edit: Edit| edit.apply(ramp(200, 100));
        for (edit, size, first) in [(Edit::Crop5, (180, 90), [10, 5, 100]), (Edit::Crop10, (160, 80), [20, 10, 100])] {
            assert_eq!((cut(edit).dimensions(), cut(edit).get_pixel(0, 0).0), (size, first), "{edit:?}");
        }
    }

    #[test]
    fn a_turn_keeps_the_centre_and_goes_clockwise() {
        let turned = Edit::Rot2.apply(ramp(201, 101));
        assert_eq!((turned.dimensions(), turned.get_pixel(100, 50).0), ((201, 101), [100, 50, 100]));
        // What was level rises on the left: 80 columns from the centre, by 80 * sin(2 degrees) = 2.8 rows.
        assert!((52..=53).contains(&turned.get_pixel(20, 50).0[1]));
        assert_eq!(turned.get_pixel(0, 0).0, [0; 3]);
    }

    #[test]
    fn a_watermark_lightens_a_part_of_the_middle_and_nothing_else() {
        let (plain, marked) = (ramp(240, 200), Edit::Watermark.apply(ramp(240, 200)));
        let changed: Vec<(u32, u32)> = plain
            .enumerate_pixels()
            .filter(|(x, y, p)| marked.get_pixel(*x, *y) != *p)
            .map(|(x, y, _)| (x, y))
            .collect();
        assert!((400..1500).contains(&changed.len()), "{} of 48000 pixels", changed.len());
        assert!(changed.iter().all(|(x, y)| (48..192).contains(x) && (90..110).contains(y)));
    }

    #[test]
    fn the_smallest_picture_survives_every_edit() {
        for edit in Edit::ALL {
            let edited = edit.apply(ramp(1, 1));
            assert!(edited.width() > 0 && edited.height() > 0, "{edit:?}");
        }
    }
}
