//! `confusion.png`: the confusion matrix as a picture. Pure.
//!
//! Takes    label names and counts. Gives a PNG: a row a true label, a column a named label, darker is more.
//! Weak at  scripts that the built-in bitmap font lacks (drawn as boxes), and more than [`LABELS_MAX`] labels: only
//!          those with most photos are drawn, and the title says so.

use std::io::Cursor;

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{ImageFormat, Rgb, RgbImage};

pub(crate) const LABELS_MAX: usize = 100;
const LETTER: u32 = 8;
const NAME_MAX: usize = 24;
const GAP: u32 = 8;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([30, 30, 30]);

/// Draws the matrix; `confusion[true][named]`.
pub(crate) fn confusion_png(labels: &[String], confusion: &[Vec<u64>]) -> Result<Vec<u8>, image::ImageError> {
    let shown = most_photos(confusion);
    let n = shown.len() as u32;
    let cell = (1600 / n.max(1)).clamp(14, 64);
    let longest = shown.iter().map(|i| labels[*i].chars().count()).max().unwrap_or(0).min(NAME_MAX);
    let margin = longest as u32 * LETTER + 2 * GAP;
    let title_height = 3 * LETTER;
    let top = margin + title_height;
    let title = match shown.len() == labels.len() {
        true => "rows: true label, columns: named by the model".to_owned(),
        false => format!("rows: true, columns: named; {} of {} labels", shown.len(), labels.len()),
    };
    let width = (margin + n * cell + GAP).max(title.len() as u32 * LETTER + 2 * GAP);
    let mut paper = RgbImage::from_pixel(width, top + n * cell + GAP, PAPER);
    write(&mut paper, GAP, GAP, &title, Turn::None, INK);
    for (row, truth) in shown.iter().enumerate() {
        let y = top + row as u32 * cell;
        let name: String = labels[*truth].chars().take(NAME_MAX).collect();
        let middle = (cell - LETTER) / 2;
        let length = name.chars().count() as u32 * LETTER;
        write(&mut paper, margin - GAP - length, y + middle, &name, Turn::None, INK);
        write(&mut paper, margin + row as u32 * cell + middle, top - GAP, &name, Turn::Up, INK);
        let whole: u64 = confusion[*truth].iter().sum();
        for (column, named) in shown.iter().enumerate() {
            let count = confusion[*truth][*named];
            let share = count as f32 / whole.max(1) as f32;
            square(&mut paper, margin + column as u32 * cell, y, cell, shade(share, row == column));
            let text = count.to_string();
            let length = text.len() as u32 * LETTER;
            if count > 0 && length < cell {
                let ink = if share > 0.55 { PAPER } else { INK };
                let x = margin + column as u32 * cell + (cell - length) / 2;
                write(&mut paper, x, y + middle, &text, Turn::None, ink);
            }
        }
    }
    let mut png = Cursor::new(Vec::new());
    paper.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// Indices of the labels to draw, in their own order.
fn most_photos(confusion: &[Vec<u64>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..confusion.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(confusion[*i].iter().sum::<u64>()), *i));
    order.truncate(LABELS_MAX);
    order.sort_unstable();
    order
}

/// White to blue on the diagonal, white to red beside it.
fn shade(share: f32, right: bool) -> Rgb<u8> {
    let full = if right { [16.0, 78.0, 139.0] } else { [178.0, 34.0, 34.0] };
    Rgb(full.map(|c: f32| (248.0 + (c - 248.0) * share.clamp(0.0, 1.0)) as u8))
}

/// A filled square with one pixel of paper to its right and below.
fn square(paper: &mut RgbImage, left: u32, top: u32, side: u32, colour: Rgb<u8>) {
    for y in top..top + side - 1 {
        for x in left..left + side - 1 {
            paper.put_pixel(x, y, colour);
        }
    }
}

#[derive(Clone, Copy)]
enum Turn {
    None,
    /// Reads from below upwards.
    Up,
}

fn write(paper: &mut RgbImage, left: u32, top: u32, text: &str, turn: Turn, ink: Rgb<u8>) {
    for (place, c) in (0..).zip(text.chars()) {
        let known = BASIC_FONTS.get(c).or_else(|| LATIN_FONTS.get(c)).or_else(|| GREEK_FONTS.get(c));
        let glyph = known.unwrap_or([0, 126, 66, 66, 66, 66, 126, 0]);
        for (y, bits) in (0..).zip(glyph) {
            for x in (0..LETTER).filter(|x| bits & (1 << x) != 0) {
                let along = place * LETTER + x;
                let (x, y) = match turn {
                    Turn::None => (left + along, top + y),
                    Turn::Up => (left + y, top.saturating_sub(along)),
                };
                if x < paper.width() && y < paper.height() {
                    paper.put_pixel(x, y, ink);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(n: usize) -> RgbImage {
        let labels: Vec<String> = (0..n).map(|i| format!("größe {i}")).collect();
        let confusion: Vec<Vec<u64>> = (0..n).map(|i| (0..n).map(|j| u64::from(i == j) * 9).collect()).collect();
        let png = confusion_png(&labels, &confusion).expect("encodes");
        image::load_from_memory(&png).expect("is a PNG").into_rgb8()
    }

    #[test]
    fn what_is_right_is_blue_and_what_never_happened_is_pale() {
        let picture = drawn(3);
        let (width, height) = picture.dimensions();
        let cell = 64;
        let at = |row: u32, column: u32| {
            let margin = 7 * LETTER + 2 * GAP;
            picture.get_pixel(margin + column * cell + 3, height - GAP - 3 * cell + row * cell + 3).0
        };
        assert!(width > 3 * cell);
        assert_eq!(at(1, 1), [16, 78, 139]);
        assert_eq!(at(0, 1), [248, 248, 248]);
    }

    #[test]
    fn any_number_of_labels_is_a_picture_of_bounded_size() {
        for n in [1, 2, 40, 300] {
            let picture = drawn(n);
            assert!(picture.width() < 2600 && picture.height() < 2600, "{n}");
        }
        assert!(confusion_png(&[], &[]).is_ok());
    }
}
