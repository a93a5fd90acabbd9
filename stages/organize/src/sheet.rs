//! `preview.jpg`: samples of each label on one sheet. Pure.
//!
//! Takes  the pictures of a few photos a label. Gives one JPEG: a strip a label, its name above.
//! Weak   at scripts that the built-in bitmap font lacks: such letters are drawn as boxes.

use std::io::Cursor;

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{ImageFormat, ImageReader, Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops};

/// Strips of a sheet at most, and samples of a strip.
pub(crate) const STRIPS_MAX: usize = 24;
pub(crate) const SAMPLES: usize = 8;

const TILE: u32 = 128;
const GAP: u32 = 4;
const TITLE: u32 = 20;
const PAPER: Rgb<u8> = Rgb([250, 250, 248]);
const INK: Rgb<u8> = Rgb([40, 40, 40]);
/// A sheet of 24 strips takes about 600 kB at this quality.
const QUALITY: u8 = 80;

/// One label with its samples, as JPEG.
#[derive(Debug)]
pub(crate) struct Strip {
    pub(crate) title: String,
    pub(crate) pictures: Vec<bytes::Bytes>,
}

/// Draws the sheet. A picture that cannot be read leaves its place empty.
pub(crate) fn sheet(strips: &[Strip]) -> Result<Vec<u8>, image::ImageError> {
    let width = SAMPLES as u32 * (TILE + GAP) + GAP;
    let strip_height = TITLE + TILE + GAP;
    let mut paper = RgbImage::from_pixel(width, (strips.len().max(1) as u32) * strip_height + GAP, PAPER);
    for (row, strip) in strips.iter().enumerate() {
        let top = row as u32 * strip_height;
        write(&mut paper, GAP, top + GAP / 2, &strip.title);
        for (column, picture) in strip.pictures.iter().take(SAMPLES).enumerate() {
            if let Some(tile) = tile(picture) {
                let left = GAP + column as u32 * (TILE + GAP) + (TILE - tile.width()) / 2;
                let down = top + TITLE + (TILE - tile.height()) / 2;
                imageops::replace(&mut paper, &tile, i64::from(left), i64::from(down));
            }
        }
    }
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&paper)?;
    Ok(jpeg)
}

/// The whole picture, fitted into a tile.
fn tile(picture: &[u8]) -> Option<RgbImage> {
    let decoded = ImageReader::with_format(Cursor::new(picture), ImageFormat::Jpeg).decode().ok()?;
    Some(decoded.thumbnail(TILE, TILE).into_rgb8())
}

fn write(paper: &mut RgbImage, left: u32, top: u32, text: &str) {
    let fits = ((paper.width() - 2 * left) / 8) as usize;
    for (place, c) in text.chars().take(fits).enumerate() {
        let glyph = BASIC_FONTS.get(c).or_else(|| LATIN_FONTS.get(c)).unwrap_or([0, 126, 66, 66, 66, 66, 126, 0]);
        for (y, bits) in glyph.iter().enumerate() {
            for x in (0..8).filter(|x| bits & (1 << x) != 0) {
                // Twice as high as wide, which reads better at this size.
                let (x, y) = (left + place as u32 * 8 + x, top + y as u32 * 2);
                paper.put_pixel(x, y, INK);
                paper.put_pixel(x, y + 1, INK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_shows_its_samples_and_leaves_broken_ones_out() {
        let mut jpeg = Vec::new();
        let red = RgbImage::from_pixel(200, 100, Rgb([200, 20, 20]));
        JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&red).expect("encodes");
        let pictures = vec![bytes::Bytes::from(jpeg), bytes::Bytes::from_static(b"no picture")];
        let strips = [Strip { title: "Größe 日".into(), pictures }];
        let sheet = sheet(&strips).expect("encodes");
        let seen = image::load_from_memory(&sheet).expect("is a JPEG").into_rgb8();
        let at = |x| *seen.get_pixel(x, TITLE + TILE / 2);
        assert!(at(GAP + TILE / 2).0[1] < 60, "the sample is there");
        assert!(at(GAP + TILE + GAP + TILE / 2).0[1] > 230, "the broken one is not");
        assert_eq!((seen.width(), seen.height()), (8 * 132 + 4, 152 + 4));
    }

    #[test]
    fn an_empty_sheet_is_a_picture_too() {
        assert!(image::load_from_memory(&sheet(&[]).expect("encodes")).is_ok());
    }
}
