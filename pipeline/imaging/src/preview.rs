//! The small upright picture that every later stage looks at instead of the original.

use dih_core::image::Size;
use rusty_jpeg::{ColorType, Encoder, SamplingFactor};

use crate::{Limits, Plane, Refusal, RefusalReason, jpeg, measure, raster::Raster};

/// Longest that the shortest side of a preview gets.
pub const SHORTEST_MAX: u32 = 256;

/// Longest that the longest side of a preview gets.
pub const LONGEST_MAX: u32 = 1024;

/// JPEG quality of stored previews: high enough that comparing two of them compares the photos.
const QUALITY: u8 = 90;

/// An upright 8-bit RGB picture without metadata, row by row without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
}

impl Preview {
    /// The size of the preview of a picture: never enlarged, both sides within their limits, the ratio kept.
    pub fn size_for(original: Size) -> Size {
        let short = f64::from(original.width.min(original.height).max(1));
        let long = f64::from(original.width.max(original.height).max(1));
        scaled(original, (f64::from(SHORTEST_MAX) / short).min(f64::from(LONGEST_MAX) / long))
    }

    pub fn size(&self) -> Size {
        Size { width: self.width, height: self.height }
    }

    /// Its luma plane (BT.601).
    pub fn luma(&self) -> Plane {
        measure::tones(self).luma
    }

    /// Encodes as baseline JPEG, quality 90, chroma halved both ways.
    pub fn to_jpeg(&self) -> Vec<u8> {
        encode_jpeg(self.width, self.height, &self.rgb, QUALITY)
    }

    /// Reads a stored preview back. Refuses what [`Preview::to_jpeg`] cannot have written.
    pub fn from_jpeg(bytes: &[u8]) -> Result<Self, Refusal> {
        let limits = Limits { pixels_max: u64::from(LONGEST_MAX).pow(2), side_min: 1, ..Limits::default() };
        let limits = Limits { aspect_max: f32::INFINITY, ..limits };
        let raster = jpeg::decode_whole(bytes, &limits)?;
        Ok(raster.into())
    }
}

impl From<Raster> for Preview {
    fn from(raster: Raster) -> Self {
        Self { width: raster.width, height: raster.height, rgb: raster.rgb }
    }
}

/// The size times a factor, at most itself, at least one pixel a side.
pub(crate) fn scaled(size: Size, factor: f64) -> Size {
    let side = |pixels: u32| ((f64::from(pixels) * factor.min(1.0)).round() as u32).clamp(1, pixels.max(1));
    Size { width: side(size.width), height: side(size.height) }
}

/// Encodes RGB as baseline JPEG without any metadata.
pub(crate) fn encode_jpeg(width: u32, height: u32, rgb: &[u8], quality: u8) -> Vec<u8> {
    let mut jpeg = Vec::with_capacity(rgb.len() / 8);
    let mut encoder = Encoder::new(&mut jpeg, quality.clamp(1, 100));
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let side = |pixels: u32| u16::try_from(pixels).expect("sides of written pictures stay below 65536");
    encoder.encode(rgb, side(width), side(height), ColorType::Rgb).expect("a whole picture encodes into memory");
    jpeg
}

/// A refusal of a decoder's own words: the end of the file reads differently from a broken middle.
pub(crate) fn broken(problem: impl std::fmt::Display) -> Refusal {
    let detail = problem.to_string();
    let lower = detail.to_ascii_lowercase();
    let ended =
        ["unexpected end", "unexpectedeof", "premature", "exhausted", "not enough", "no more bytes", "fill whole"];
    let reason = match ended.iter().any(|words| lower.contains(words)) {
        true => RefusalReason::Truncated,
        false => RefusalReason::Corrupt,
    };
    reason.because(detail)
}
