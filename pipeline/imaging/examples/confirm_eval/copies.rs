//! What may be done to a photo before it is sent once more, and what makes it another picture.

use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops, imageops::FilterType::Triangle};

/// What the answer should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Truth {
    /// A repeat; every one missed counts.
    Same,
    /// A repeat, but one that no promise is made of: beyond the eight edits, or on the border of what a repeat is.
    Border,
    /// Another picture.
    Different,
}

/// A copy as the bytes of a JPEG.
pub(crate) struct Copy {
    pub(crate) name: &'static str,
    pub(crate) truth: Truth,
    pub(crate) jpeg: Vec<u8>,
}

/// All copies of a photo; `donor` lends a part of itself to those that are no repeats.
pub(crate) fn copies(photo: &RgbImage, donor: &RgbImage, odd: bool) -> Vec<Copy> {
    let (w, h) = photo.dimensions();
    let mirrored = || imageops::flip_horizontal(photo);
    let at = |name, truth, picture: RgbImage, quality| Copy { name, truth, jpeg: jpeg(&picture, quality) };
    let same = |name, picture| at(name, Truth::Same, picture, 88);
    let border = |name, picture| at(name, Truth::Border, picture, 88);
    let other = |name, picture| at(name, Truth::Different, picture, 88);
    vec![
        at("q30", Truth::Same, photo.clone(), 30),
        same("half", imageops::resize(photo, (w / 2).max(1), (h / 2).max(1), Triangle)),
        same("crop5", crop(photo, 0.05, 0.05)),
        same("crop10", crop(photo, 0.10, 0.10)),
        same("crop10_corner", crop(photo, 0.0, if odd { 0.10 } else { 0.20 })),
        same("bright20", levels(photo, |v| v * 1.2)),
        same("bright20_shift", levels(photo, |v| v + 51.0)),
        same("rot2", turn(photo, 2.0, Rgb([0; 3]))),
        same("rot2_white_back", turn(photo, -2.0, Rgb([255; 3]))),
        same("mirror", mirrored()),
        same("watermark", watermark(photo, false)),
        same("watermark_large", watermark(photo, true)),
        same("mixed", levels(&crop(&mirrored(), 0.04, 0.04), |v| v * 1.1)),
        border("turn90", imageops::rotate90(photo)),
        border("upside_down", imageops::flip_vertical(photo)),
        border("crop12_off", crop(photo, if odd { 0.02 } else { 0.20 }, 0.12)),
        border("rot5", turn(photo, 5.0, Rgb([0; 3]))),
        border("rot10", turn(photo, 10.0, Rgb([0; 3]))),
        border("dark40", levels(photo, |v| v * 0.6)),
        other("half_cut_out", crop(photo, 0.18, 0.18)),
        other("patch_40", patch(photo, donor, 0.40)),
        other("patch_30", patch(photo, donor, 0.30)),
    ]
}

/// Cuts the shares off each side: the first left and above, the second right and below.
fn crop(photo: &RgbImage, before: f32, after: f32) -> RgbImage {
    let (w, h) = photo.dimensions();
    let cut = |side: u32, share: f32| (side as f32 * share) as u32;
    let (width, height) = (w - cut(w, before) - cut(w, after), h - cut(h, before) - cut(h, after));
    imageops::crop_imm(photo, cut(w, before), cut(h, before), width.max(1), height.max(1)).to_image()
}

/// Clockwise about the centre, bilinear, in a frame of the same size.
fn turn(photo: &RgbImage, degrees: f32, ground: Rgb<u8>) -> RgbImage {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (cx, cy) = ((photo.width() - 1) as f32 / 2.0, (photo.height() - 1) as f32 / 2.0);
    RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
        let (x, y) = (x as f32 - cx, y as f32 - cy);
        imageops::interpolate_bilinear(photo, cos * x + sin * y + cx, cos * y - sin * x + cy).unwrap_or(ground)
    })
}

fn levels(photo: &RgbImage, change: impl Fn(f32) -> f32) -> RgbImage {
    let mut copy = photo.clone();
    copy.iter_mut().for_each(|v| *v = change(f32::from(*v)).clamp(0.0, 255.0) as u8);
    copy
}

/// Half-transparent light bars like letters over the middle; the large one covers a quarter of the height, and has a
/// white plate in the corner.
fn watermark(photo: &RgbImage, large: bool) -> RgbImage {
    let (w, h) = photo.dimensions();
    let (from, to, cycles) = if large { (0.38, 0.62, 24.0) } else { (0.45, 0.55, 40.0) };
    let mut copy = photo.clone();
    for (x, y, pixel) in copy.enumerate_pixels_mut() {
        let (fx, fy) = (x as f32 / w as f32, y as f32 / h as f32);
        let bar = !((fx * cycles) as u32).is_multiple_of(3);
        if (from..to).contains(&fy) && (0.1..0.9).contains(&fx) && bar {
            pixel.0 = pixel.0.map(|v| v.midpoint(255));
        } else if large && fx > 0.75 && fy > 0.92 {
            pixel.0 = [250; 3];
        }
    }
    copy
}

/// Lays another photo over the middle `share` of the area.
fn patch(photo: &RgbImage, donor: &RgbImage, share: f32) -> RgbImage {
    let (w, h) = photo.dimensions();
    let side = |n: u32| ((n as f32 * share.sqrt()) as u32).max(1);
    let donor = imageops::resize(donor, side(w), side(h), Triangle);
    let mut copy = photo.clone();
    imageops::replace(&mut copy, &donor, i64::from((w - side(w)) / 2), i64::from((h - side(h)) / 2));
    copy
}

fn jpeg(photo: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    photo.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).expect("memory takes a JPEG");
    bytes
}
