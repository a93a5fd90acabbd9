//! Says in a JPEG how it is to be turned: its EXIF orientation is set, its pixels stay as they are. Pure.
//!
//! Why here  every stage turns a picture by its EXIF orientation already. So a rotation that is stated beside the file
//!           goes into the file, and nobody on the way has to know of it.

use dih_openimages::Turn;

/// EXIF's word for a turn, which is counted counter-clockwise.
fn orientation(turn: Turn) -> u8 {
    match turn {
        Turn::None => 1,
        Turn::Left => 8,
        Turn::Over => 3,
        Turn::Right => 6,
    }
}

/// The JPEG with this orientation in place of its own; None where it is no JPEG.
pub(crate) fn turned(jpeg: &[u8], turn: Turn) -> Option<Vec<u8>> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    let mut out = Vec::with_capacity(jpeg.len() + EXIF.len() + 4);
    out.extend_from_slice(&[0xff, 0xd8]);
    // JFIF wants to be first, EXIF follows.
    if let Some((segment, after)) = segment(rest).filter(|(segment, _)| segment[1] == 0xe0) {
        out.extend_from_slice(segment);
        rest = after;
    }
    out.extend_from_slice(&[0xff, 0xe1, 0, (EXIF.len() + 2) as u8]);
    out.extend_from_slice(&EXIF);
    *out.last_mut()? = 0;
    let at = out.len() - EXIF.len() + ORIENTATION_AT;
    out[at] = orientation(turn);
    // Of the segments before the picture only other EXIF is left out; from there on everything stays.
    while let Some((segment, after)) = segment(rest) {
        let is_exif = segment[1] == 0xe1 && segment.get(4..10) == Some(b"Exif\0\0");
        if !is_exif {
            out.extend_from_slice(segment);
        }
        rest = after;
        if segment[1] == 0xda {
            break;
        }
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// The segment that `bytes` begin with, marker included, and what follows it.
fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0xff, marker, high, low, ..] = *bytes else { return None };
    let is_long = marker >= 0xc0 && !(0xd0..=0xd9).contains(&marker);
    let length = 2 + usize::from(u16::from_be_bytes([high, low]));
    if is_long && length >= 4 { bytes.split_at_checked(length) } else { None }
}

/// Big-endian TIFF with one tag: orientation (0x0112), one short.
const EXIF: [u8; 32] = *b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0";
/// Low byte of the tag's value.
const ORIENTATION_AT: usize = 25;

#[cfg(test)]
mod tests {
    use dih_imaging::{Limits, read};
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

    use super::*;

    /// Wide, its left half white.
    fn photo() -> Vec<u8> {
        let rgb: Vec<u8> = (0..64 * 32).flat_map(|n| [if n % 64 < 32 { 255 } else { 0 }; 3]).collect();
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, 95)
            .write_image(&rgb, 64, 32, ExtendedColorType::Rgb8)
            .expect("encodes");
        jpeg
    }

    #[track_caller] // mean luma of the top and of the left half after reading, in tenths
    fn check(jpeg: &[u8], turn: Turn, size: (u32, u32), top: u32, left: u32) {
        let turned = turned(jpeg, turn).expect("a JPEG");
        let decoded = read(&turned, &Limits::default()).expect("decodes");
        assert_eq!((decoded.size.width, decoded.size.height), size, "{turn:?}");
        let (width, height) = (decoded.preview.width as usize, decoded.preview.height as usize);
        let mean = |keep: &dyn Fn(usize, usize) -> bool| {
            let pixels = (0..width * height).filter(|n| keep(n % width, n / width));
            let (sum, count) = pixels.fold((0, 0), |(s, c), n| (s + u32::from(decoded.preview.rgb[3 * n]), c + 1));
            (sum as f32 / count as f32 / 25.5).round() as u32
        };
        assert_eq!((mean(&|_, y| y < height / 2), mean(&|x, _| x < width / 2)), (top, left), "{turn:?}");
    }

    #[test]
    fn a_photo_is_turned_counter_clockwise_and_its_own_word_is_replaced() {
        let plain = photo();
        let told_otherwise = turned(&plain, Turn::Over).expect("a JPEG");
        for jpeg in [plain, told_otherwise] {
            check(&jpeg, Turn::None, (64, 32), 5, 10);
            check(&jpeg, Turn::Left, (32, 64), 0, 5); // its left side comes to lie below
            check(&jpeg, Turn::Over, (64, 32), 5, 0);
            check(&jpeg, Turn::Right, (32, 64), 10, 5);
        }
    }

    #[test]
    fn what_is_no_whole_jpeg_does_no_harm() {
        assert_eq!(turned(b"\x89PNG", Turn::Left), None);
        let photo = photo();
        for end in 2..photo.len().min(700) {
            let cut = turned(&photo[..end], Turn::Left).expect("begins as a JPEG");
            assert!(cut.ends_with(&photo[end.saturating_sub(1)..end]) || end < 30);
        }
    }
}
