//! What comes in and what comes out, on synthetic photos of every format.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use std::io::Cursor;

use dih_core::image::{Format, Size};
use dih_imaging::{Decoded, Limits, Preview, RefusalReason, picture_jpeg, read, sample};
use image::{DynamicImage, ImageFormat, RgbImage};
use proptest::prelude::*;

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn scene(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_raw(width, height, sample::photo(5, width, height).rgb).unwrap().into()
}

fn decoded(bytes: &[u8]) -> Decoded {
    read(bytes, &Limits::default()).unwrap()
}

/// Mean difference of two previews in levels.
fn apart(a: &Preview, b: &Preview) -> f64 {
    assert_eq!(a.size(), b.size());
    a.rgb.iter().zip(&b.rgb).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.rgb.len() as f64
}

#[track_caller]
fn check_refused(bytes: &[u8], want: &[RefusalReason]) {
    let refusal = read(bytes, &Limits::default()).expect_err("this must be refused");
    assert!(want.contains(&refusal.reason), "{refusal}");
}

#[test]
fn lossless_formats_give_the_same_preview() {
    let picture = scene(300, 200);
    let png = decoded(&encoded(&picture, ImageFormat::Png));
    assert_eq!((png.format, png.size), (Format::Png, Size { width: 300, height: 200 }));
    assert_eq!(png.preview.size(), Size { width: 300, height: 200 }, "never enlarged");
    for (as_file, format) in
        [(ImageFormat::Bmp, Format::Bmp), (ImageFormat::Tiff, Format::Tiff), (ImageFormat::WebP, Format::Webp)]
    {
        let other = decoded(&encoded(&picture, as_file));
        assert_eq!((other.format, &other.preview), (format, &png.preview));
    }
    let deep = decoded(&encoded(&DynamicImage::from(picture.to_rgb16()), ImageFormat::Png));
    assert_eq!(deep.preview, png.preview, "16 bits hold the same picture");
    let gif = decoded(&encoded(&picture, ImageFormat::Gif));
    assert!(apart(&gif.preview, &png.preview) < 12.0 && !gif.animated, "256 colours come near");
    assert!(decoded(&encoded(&DynamicImage::from(picture.to_luma8()), ImageFormat::Png)).measures.grayscale);
}

#[test]
fn what_is_transparent_turns_white_and_is_counted() {
    let mut picture = scene(64, 64).to_rgba8();
    picture.enumerate_pixels_mut().filter(|(x, _, _)| *x < 16).for_each(|(_, _, p)| p.0[3] = 0);
    let read = decoded(&encoded(&picture.into(), ImageFormat::Png));
    assert_eq!(read.measures.transparent, 0.25);
    assert_eq!(read.preview.rgb[..3], [255; 3]);
    assert_ne!(read.preview.rgb[20 * 3..][..3], [255; 3]);
}

#[test]
fn a_large_photo_decoded_at_a_fraction_looks_like_its_whole() {
    let whole = scene(2600, 2100);
    let exact = decoded(&encoded(&whole, ImageFormat::Bmp));
    let scaled = decoded(&sample::jpeg(5, 2600, 2100, 95));
    assert_eq!((scaled.size, scaled.preview.size()), (exact.size, Size { width: 317, height: 256 }));
    assert!(apart(&scaled.preview, &exact.preview) < 5.0, "{}", apart(&scaled.preview, &exact.preview));
    assert!(scaled.fingerprints.upright().distance(exact.fingerprints.upright()) <= 4);
    let ratio = scaled.measures.sharpness / exact.measures.sharpness;
    assert!((0.7..1.4).contains(&ratio), "sharpness changes by {ratio}");
}

#[test]
fn previews_keep_to_their_limits() {
    let size = |w, h| Preview::size_for(Size { width: w, height: h });
    assert_eq!(size(4000, 3000), Size { width: 341, height: 256 });
    assert_eq!(size(3000, 4000), Size { width: 256, height: 341 });
    assert_eq!(size(100, 50), Size { width: 100, height: 50 });
    assert_eq!(size(8000, 1000), Size { width: 1024, height: 128 });
    assert_eq!(size(1, 20_000), Size { width: 1, height: 1024 });
}

#[test]
fn a_jpeg_that_lost_its_end_is_refused() {
    for side in [400, 2100] {
        let jpeg = sample::jpeg(9, side, side, 90);
        for kept in [0.1, 0.5, 0.9, 0.99] {
            check_refused(&jpeg[..(jpeg.len() as f64 * kept) as usize], &[RefusalReason::Truncated]);
        }
        check_refused(&jpeg[..jpeg.len() - 2], &[RefusalReason::Truncated]);
    }
}

#[test]
fn other_formats_cut_short_are_refused() {
    let picture = scene(200, 150);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif] {
        let bytes = encoded(&picture, format);
        check_refused(&bytes[..bytes.len() / 2], &[RefusalReason::Truncated, RefusalReason::Corrupt]);
    }
}

/// The JPEG with an EXIF segment that says the orientation, followed by a made-up owner.
fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    tiff.extend(b"OWNER");
    let mut file = vec![0xff, 0xd8, 0xff, 0xe1];
    file.extend((tiff.len() as u16 + 8).to_be_bytes());
    file.extend(b"Exif\0\0");
    file.extend(tiff);
    file.extend(&jpeg[2..]);
    file
}

#[test]
fn the_published_picture_is_upright_small_and_without_metadata() {
    let file = with_exif(&sample::jpeg(4, 900, 600, 90), 6);
    let picture = picture_jpeg(&file, &Limits::default(), 512, 85).unwrap();
    for word in [&b"Exif"[..], b"OWNER"] {
        assert!(!picture.windows(word.len()).any(|w| w == word));
    }
    let again = decoded(&picture);
    assert_eq!((again.size, again.orientation), (Size { width: 341, height: 512 }, 1));
    let small = decoded(&file);
    assert_eq!((small.size, small.orientation), (Size { width: 600, height: 900 }, 6));
    assert!(small.fingerprints.upright().distance(again.fingerprints.upright()) <= 4);
}

#[test]
fn a_jpeg_that_needs_no_change_keeps_its_pixels_and_nothing_else() {
    let plain = sample::jpeg(4, 300, 200, 90);
    let mut file = with_exif(&plain, 1);
    file.splice(2..2, *b"\xff\xfe\0\x0aA COMMENT".first_chunk::<12>().unwrap());
    file.extend(b"BEHIND THE END");
    for side in [300, 299] {
        let picture = picture_jpeg(&file, &Limits::default(), side, 85).unwrap();
        for word in [&b"Exif"[..], b"OWNER", b"A COMM", b"BEHIND"] {
            assert!(!picture.windows(word.len()).any(|w| w == word), "side {side}");
        }
        let same = decoded(&picture).preview == decoded(&plain).preview;
        assert_eq!(same, side == 300, "only what is larger than the side is encoded anew");
    }
}

#[test]
fn a_picture_is_never_enlarged() {
    let picture = picture_jpeg(&sample::jpeg(4, 90, 60, 90), &Limits::default(), 512, 85).unwrap();
    assert_eq!(decoded(&picture).size, Size { width: 90, height: 60 });
}

#[test]
fn a_stored_preview_reads_back_nearly_the_same() {
    let preview = decoded(&sample::jpeg(6, 700, 500, 92)).preview;
    let again = Preview::from_jpeg(&preview.to_jpeg()).unwrap();
    assert!(apart(&preview, &again) < 9.0, "{}", apart(&preview, &again));
    assert!(Preview::from_jpeg(b"").is_err() && Preview::from_jpeg(b"GIF89a").is_err());
}

#[test]
fn the_same_bytes_give_the_same_answer() {
    let jpeg = sample::jpeg(8, 500, 400, 80);
    let (a, b) = (decoded(&jpeg), decoded(&jpeg));
    assert_eq!((a.preview, a.measures, a.fingerprints), (b.preview, b.measures, b.fingerprints));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is done to the bytes of a photo, there is an answer, and it keeps the limits.
    #[test]
    fn damaged_bytes_get_an_answer(
        kind in 0_usize..5, cut in 0.0_f64..1.0, hits in prop::collection::vec((0.0_f64..1.0, any::<u8>()), 0..12),
    ) {
        let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff];
        let mut bytes = encoded(&scene(64, 48), formats[kind]);
        for (at, value) in hits {
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        if cut > 0.5 {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        let limits = Limits { pixels_max: 1_000_000, ..Limits::default() };
        if let Ok(decoded) = read(&bytes, &limits) {
            prop_assert!(decoded.size.pixels() <= 1_000_000);
            prop_assert_eq!(decoded.preview.rgb.len() as u64, decoded.preview.size().pixels() * 3);
        }
    }
}
