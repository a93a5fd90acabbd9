//! What is known of a picture without looking at its pixels again.

mod thumbnail;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use thumbnail::Thumbnail;

/// File format, told from the content; a file name is never believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Jpeg,
    Png,
    Webp,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    pub const ALL: [Format; 6] = [Self::Jpeg, Self::Png, Self::Webp, Self::Gif, Self::Bmp, Self::Tiff];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
        }
    }
}

/// 64-bit perceptual hash (DCT of the grey picture); equal looks give equal or near bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Number of bits in which the two differ (Hamming), 0 to 64.
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

/// A fingerprint to search with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    pub fingerprint: Fingerprint,
    /// Most bits by which what it finds differs.
    pub radius: u32,
}

impl RangeQuery {
    /// The distance of what it finds. None of what it does not find.
    pub fn distance(self, to: Fingerprint) -> Option<u32> {
        Some(self.fingerprint.distance(to)).filter(|distance| *distance <= self.radius)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Fingerprints of a picture's middle as it is, turned and mirrored, and of more and of less than its middle: so a copy that
/// was turned, mirrored or cropped is found by one look-up each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the middle, which is 80 % of each side. Index 0 is the picture as it is; 1-3 turned by 90, 180 and 270 degrees
    /// clockwise; 4-7 the same after a left-right mirror.
    pub orientations: [Fingerprint; 8],
    /// Of 100, 90, 70 and 65 % of each side: the middle of a picture that this one was cropped from, by 10 and by 5 % of
    /// each side, and of those that were cropped from it. None in older records.
    #[serde(default)]
    pub parts: Option<[Fingerprint; 4]>,
}

impl Fingerprints {
    /// By which the picture is found.
    pub fn upright(&self) -> Fingerprint {
        self.orientations[0]
    }

    /// By which it finds others: the eight orientations, then the parts.
    pub fn all(&self) -> impl Iterator<Item = Fingerprint> {
        self.orientations.into_iter().chain(self.parts.into_iter().flatten())
    }

    /// Searches for the same picture, as it is and turned, in the order of [`Fingerprints::all`]. To turn or to mirror it flips
    /// hardly a bit (none or two, of 291 photos in each orientation, encoded again), so a turned one is looked for within half
    /// of the radius, which is a tenth of the work; one that was cropped as well is not found.
    pub fn queries(&self, radius: u32) -> impl Iterator<Item = RangeQuery> {
        let is_turned = |place| (1..self.orientations.len()).contains(&place);
        let query = move |(place, fingerprint)| RangeQuery {
            fingerprint,
            radius: if is_turned(place) { radius / 2 } else { radius },
        };
        self.all().enumerate().map(query)
    }

    /// Whether one of its queries finds the other picture.
    pub fn finds(&self, other: &Self, radius: u32) -> bool {
        self.queries(radius).any(|query| query.distance(other.upright()).is_some())
    }

    /// Fewest bits by which one of all differs from the other picture, and which one does.
    pub fn nearest(&self, other: &Self) -> (u32, usize) {
        let distances = self.all().map(|fingerprint| fingerprint.distance(other.upright()));
        distances.zip(0..).min().expect("there are eight orientations")
    }
}

/// Measured once, at ingest, on the luma plane of the upright preview (shortest side 256 px); no later stage decodes.
///
/// What is seen of light and sharpness is measured inside of `bars`. Later additions are None in older records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Variance of the 3x3 Laplacian of 8-bit luma; small is blurred. Source: Pech-Pacheco et al., ICPR 2000.
    pub sharpness: f32,
    /// Mean luma, 0 (black) to 1 (white).
    pub brightness: f32,
    /// 5th percentile of luma, 0 to 1.
    pub luma_p05: f32,
    /// 95th percentile of luma, 0 to 1: below a threshold the picture is too dark to see.
    pub luma_p95: f32,
    /// 99th percentile of luma, 0 to 1.
    pub luma_p99: f32,
    /// Standard deviation of luma, 0 to 0.5.
    pub contrast: f32,
    /// Shannon entropy of the 256-bin luma histogram in bits, 0 to 8; near 0 is a flat picture.
    pub entropy: f32,
    /// Width over height of the upright picture.
    pub aspect: f32,
    /// Mean distance of the chroma from grey, 0 to 1; near 0 is a grey picture.
    pub colourfulness: f32,
    /// Whether it has no colour (all chroma within the noise of JPEG).
    pub grayscale: bool,
    /// Share of fully transparent pixels before compositing on white, 0 to 1.
    pub transparent: f32,
    /// How steep edges are, whatever their contrast: the strength of detail one pixel wide over that of detail four pixels
    /// wide, along the direction in which it is least, what noise adds taken off. About 0.5 in a sharp photo, below 0.25
    /// in a blurred one; None where the picture is too small to tell.
    #[serde(default)]
    pub acuity: Option<f32>,
    /// Standard deviation of the noise where the picture is smooth, as a share of the range from black to white.
    #[serde(default)]
    pub noise: Option<f32>,
    /// Share of the picture that is bars of one colour along its sides (letterbox), 0 to 1.
    #[serde(default)]
    pub bars: Option<f32>,
    /// How much of the light is burnt out, 0 to 1 (white): `.3 burnt + .3 burnt_middle + .4 shadows`, where the first two are the
    /// shares of pixels of which a colour is cut off at white, in all and in the middle, half as wide and as high, and the
    /// last is the 2nd percentile of the luma of what is not white, counted twice above a half.
    #[serde(default)]
    pub overexposure: Option<f32>,
}

/// The upright picture's size in pixels and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_copy_is_looked_for_within_half_of_the_radius() {
        let print = |n: usize| Fingerprint((n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let parts = Some(std::array::from_fn(|part| print(8 + part)));
        let own = Fingerprints { orientations: std::array::from_fn(print), parts };
        let radii: Vec<u32> = own.queries(9).map(|query| query.radius).collect();
        assert_eq!(radii, [9, 4, 4, 4, 4, 4, 4, 4, 9, 9, 9, 9]);
        for (place, bits) in [(0, 8), (3, 4), (10, 8)] {
            let is_found = |bits: u32| {
                let upright = Fingerprint(print(place).0 ^ ((1 << bits) - 1));
                own.finds(&Fingerprints { orientations: [upright; 8], parts: None }, 8)
            };
            assert!(is_found(0) && is_found(bits) && !is_found(bits + 1), "{place}");
        }
    }
}
