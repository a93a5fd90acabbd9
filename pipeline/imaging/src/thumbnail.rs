//! The thumbnail that travels with a picture, so that most comparisons need no pixels.
//!
//! Takes    the preview, and its grey that the fingerprints are made of. Gives a [`Thumbnail`].
//! Weak at  fine patterns of colour: chroma is sampled at 64 x 64 places.

use dih_core::image::Thumbnail;

use crate::{Preview, fingerprint::Grey};

const SIDE: usize = Thumbnail::CHROMA_SIDE;
/// Places on each side that a pixel of chroma is the mean of.
const PLACES: usize = 8;

/// The thumbnail of a preview that has been looked at before.
pub fn thumbnail(preview: &Preview) -> Thumbnail {
    with_grey(preview, &Grey::of(&preview.luma()))
}

pub(crate) fn with_grey(preview: &Preview, grey: &Grey) -> Thumbnail {
    let mut bytes = [0; Thumbnail::BYTES];
    let (luma, chroma) = bytes.split_at_mut(Thumbnail::SIDE * Thumbnail::SIDE);
    luma.copy_from_slice(&grey.thumbnail());
    let (blue, red) = chroma.split_at_mut(SIDE * SIDE);
    for (i, (blue, red)) in blue.iter_mut().zip(red).enumerate() {
        (*blue, *red) = mean_chroma(preview, i % SIDE, i / SIDE);
    }
    bytes.into()
}

/// Cb and Cr of the mean colour (ITU-R BT.601, full range).
fn mean_chroma(preview: &Preview, column: usize, row: usize) -> (u8, u8) {
    let (width, height) = (preview.width as usize, preview.height as usize);
    let pixels = preview.rgb.as_chunks::<3>().0;
    let place = |i: usize, side: usize| (2 * i + 1) * side / (2 * SIDE * PLACES);
    let mut sums = [0_i32; 3];
    for y in 0..PLACES {
        let line = &pixels[place(row * PLACES + y, height) * width..][..width];
        for x in 0..PLACES {
            let pixel = line[place(column * PLACES + x, width)];
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += i32::from(value));
        }
    }
    let [r, g, b] = sums.map(|sum| f64::from(sum) / (PLACES * PLACES) as f64);
    let byte = |chroma: f64| (128.0 + chroma).round().clamp(0.0, 255.0) as u8;
    (byte(0.5 * b - 0.168_736 * r - 0.331_264 * g), byte(0.5 * r - 0.418_688 * g - 0.081_312 * b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, drawn};

    #[test]
    fn pure_colours_have_the_luma_and_the_chroma_of_the_standard() {
        for (rgb, luma, blue, red) in [
            ([255, 0, 0], 77, 85, 255),
            ([0, 255, 0], 149, 44, 21),
            ([0, 0, 255], 29, 255, 107),
            ([90; 3], 90, 128, 128),
        ] {
            let thumbnail = thumbnail(&drawn(50, 37, |_, _| rgb));
            assert!(thumbnail.luma().iter().all(|v| v.abs_diff(luma) <= 1), "{rgb:?}: {:?}", thumbnail.luma());
            let [blues, reds] = thumbnail.chroma();
            assert!(blues.iter().all(|v| *v == blue) && reds.iter().all(|v| *v == red), "{rgb:?}: {blues:?} {reds:?}");
        }
    }

    #[test]
    fn each_plane_shows_what_lies_where() {
        // Red above, blue below; dark to the left, light to the right.
        let picture = drawn(200, 120, |x, y| {
            let light = if x < 100 { 60 } else { 200 };
            if y < 60 { [light, 0, 0] } else { [0, 0, light] }
        });
        let thumbnail = thumbnail(&picture);
        assert!(thumbnail.luma()[0] < thumbnail.luma()[15] && thumbnail.luma()[240] < thumbnail.luma()[15]);
        let [blues, reds] = thumbnail.chroma();
        assert!(reds[..32].iter().all(|v| *v > 128) && reds[32..].iter().all(|v| *v < 128), "{reds:?}");
        assert!(blues[..32].iter().all(|v| *v < 128) && blues[32..].iter().all(|v| *v > 128), "{blues:?}");
        assert!(reds[0] < reds[7], "more light, more colour");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (2, 5), (9, 1)] {
            thumbnail(&sample::photo(1, width, height));
        }
    }
}
