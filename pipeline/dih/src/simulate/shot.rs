//! From a photo to the bytes that a device sends.
//!
//! Takes    a photo and a [`Recipe`]. Gives bytes. Pure and seeded: the same recipe gives the same bytes.

use image::{DynamicImage, ImageEncoder, ImageError, Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};

use super::{
    camera::Shot,
    edit::{Broken, Edit},
};

/// How the bytes of an upload are made from a photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipe {
    /// The file as it is.
    AsIs,
    Shot(Shot),
    Repeat {
        of: Box<Recipe>,
        edit: Edit,
    },
    Broken {
        how: Broken,
        shot: Shot,
    },
}

impl Recipe {
    pub fn extension(&self) -> &'static str {
        match self {
            Self::AsIs => "img",
            _ => "jpg",
        }
    }

    /// What was done to the picture, for the truth file.
    pub fn edit(&self) -> &'static str {
        match self {
            Self::AsIs | Self::Shot(_) => "",
            Self::Repeat { edit, .. } => edit.as_str(),
            Self::Broken { how, .. } => how.as_str(),
        }
    }
}

/// A photo to shoot: its bytes, and its pixels in a size fit for shooting.
#[derive(Debug)]
pub struct Subject {
    bytes: Vec<u8>,
    pixels: RgbImage,
}

/// Longest side that shots are taken from; more costs time and is not seen.
const SUBJECT_SIDE: u32 = 1_280;

/// Why a shot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ShotError {
    #[error("could not decode the photo")]
    Decode(#[source] ImageError),
    #[error("could not encode the shot")]
    Encode(#[source] ImageError),
}

impl Subject {
    pub fn decode(bytes: Vec<u8>) -> Result<Self, ShotError> {
        let photo = image::load_from_memory(&bytes).map_err(ShotError::Decode)?;
        let larger = photo.width().max(photo.height()) > SUBJECT_SIDE;
        let photo = if larger { photo.resize(SUBJECT_SIDE, SUBJECT_SIDE, FilterType::Triangle) } else { photo };
        Ok(Self { bytes, pixels: on_white(photo) })
    }

    /// The bytes that a device sends.
    pub fn shoot(&self, recipe: &Recipe) -> Result<Vec<u8>, ShotError> {
        match recipe {
            Recipe::AsIs => Ok(self.bytes.clone()),
            Recipe::Shot(shot) => encode(&shot.take(&self.pixels), shot.quality),
            Recipe::Repeat { of, edit } => {
                let original = image::load_from_memory(&self.shoot(of)?).map_err(ShotError::Decode)?;
                encode(&edit.apply(on_white(original)), edit.quality())
            }
            Recipe::Broken { how, shot } => how.bytes(&self.pixels, shot),
        }
    }
}

fn on_white(photo: DynamicImage) -> RgbImage {
    if !photo.color().has_alpha() {
        return photo.into_rgb8();
    }
    let rgba = photo.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u16::from);
        Rgb([r, g, b].map(|level| ((level * a + 255 * (255 - a)) / 255) as u8))
    })
}

pub(super) fn encode(picture: &RgbImage, quality: u8) -> Result<Vec<u8>, ShotError> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    let encoded =
        encoder.write_image(picture.as_raw(), picture.width(), picture.height(), image::ExtendedColorType::Rgb8);
    encoded.map(|()| bytes).map_err(ShotError::Encode)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use image::imageops;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A photo with something to see in every part: blobs of many colours.
    fn subject() -> Subject {
        let wave = |at: f32, cycles: f32| (127.5 + 127.5 * (TAU * at * cycles).sin()) as u8;
        let pixels = RgbImage::from_fn(320, 240, |x, y| {
            let (u, v) = (x as f32 / 320.0, y as f32 / 240.0);
            Rgb([wave(u + v * v, 3.0), wave(v - u * u, 4.0), wave(u * v, 9.0)])
        });
        Subject::decode(encode(&pixels, 95).expect("encodes")).expect("decodes")
    }

    fn shots(n: usize) -> Vec<Shot> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        (0..n).map(|_| Shot::draw(&mut rng)).collect()
    }

    fn picture(subject: &Subject, recipe: &Recipe) -> RgbImage {
        image::load_from_memory(&subject.shoot(recipe).expect("is shot")).expect("decodes").into_rgb8()
    }

    /// Mean distance of the grey levels at 32x32, after equal light was given to both.
    fn distance(a: &RgbImage, b: &RgbImage) -> f32 {
        let normal = |picture: &RgbImage| {
            let small = imageops::resize(&imageops::grayscale(picture), 32, 32, FilterType::Triangle);
            let levels: Vec<f32> = small.iter().map(|l| f32::from(*l)).collect();
            let mean = levels.iter().sum::<f32>() / 1024.0;
            let spread = (levels.iter().map(|l| (l - mean).powi(2)).sum::<f32>() / 1024.0).sqrt().max(1.0);
            levels.into_iter().map(move |l| 50.0 * (l - mean) / spread)
        };
        normal(a).zip(normal(b)).map(|(a, b)| (a - b).abs()).sum::<f32>() / 1024.0
    }

    #[test]
    fn the_same_recipe_gives_the_same_bytes() {
        let subject = subject();
        for shot in shots(1) {
            let recipe = Recipe::Shot(shot.clone());
            assert_eq!(subject.shoot(&recipe).expect("is shot"), subject.shoot(&recipe).expect("is shot"));
            for how in Broken::ALL {
                let recipe = Recipe::Broken { how, shot: shot.clone() };
                assert_eq!(subject.shoot(&recipe).expect("is shot"), subject.shoot(&recipe).expect("is shot"));
            }
        }
    }

    #[test]
    fn two_shots_differ_more_than_a_shot_and_its_repeat() {
        let subject = subject();
        let recipes: Vec<Recipe> = shots(6).into_iter().map(Recipe::Shot).collect();
        let pictures: Vec<RgbImage> = recipes.iter().map(|r| picture(&subject, r)).collect();
        let mut nearest = f32::MAX;
        for (n, a) in pictures.iter().enumerate() {
            for b in &pictures[n + 1..] {
                nearest = nearest.min(distance(a, b));
            }
        }
        for edit in [Edit::Q30, Edit::Half, Edit::Bright20, Edit::Watermark] {
            let repeat = Recipe::Repeat { of: Box::new(recipes[0].clone()), edit };
            let far = distance(&pictures[0], &picture(&subject, &repeat));
            assert!(far < nearest, "{edit:?} is {far} away, two shots only {nearest}");
        }
    }

    #[test]
    fn a_mirrored_repeat_is_its_original_when_mirrored_back() {
        let subject = subject();
        let of = Recipe::Shot(shots(1).remove(0));
        let repeat = Recipe::Repeat { of: Box::new(of.clone()), edit: Edit::Mirror };
        let back = imageops::flip_horizontal(&picture(&subject, &repeat));
        assert!(distance(&picture(&subject, &of), &back) < 1.0);
    }

    #[test]
    fn broken_files_are_broken_in_the_way_they_say() {
        let subject = subject();
        let shot = shots(1).remove(0);
        let bytes = |how| subject.shoot(&Recipe::Broken { how, shot: shot.clone() }).expect("is made");
        for how in [Broken::Garbage, Broken::Page] {
            assert!(image::load_from_memory(&bytes(how)).is_err(), "{how:?}");
        }
        let load = |how| image::load_from_memory(&bytes(how)).expect("decodes").into_luma8();
        assert_eq!(load(Broken::Tiny).dimensions(), (20, 15));
        assert!(load(Broken::Dark).iter().max() < Some(&24));
        let flat = load(Broken::Flat);
        assert!(flat.iter().max().zip(flat.iter().min()).is_some_and(|(max, min)| max - min < 4));
        assert!(!bytes(Broken::Truncated).ends_with(&[0xff, 0xd9]));
    }
}
