//! Reads PNG, WebP, GIF (first frame), BMP and TIFF through the `image` crate.
//!
//! Takes    the bytes, their format and the limits. Gives 8-bit RGB as stored, with alpha put on white.
//! Weak at  colour profiles, which are ignored, and floating-point TIFFs, whose values are cut to 0..1.

use std::io::Cursor;

use dih_core::image::{Format, Size};
use image::{
    ColorType, ImageDecoder, ImageError,
    codecs::{bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, tiff::TiffDecoder, webp::WebPDecoder},
    metadata::Orientation,
};

use crate::{Limits, Refusal, RefusalReason, preview::broken, raster::Raster};

/// A decoded picture as stored, not yet upright.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) raster: Raster,
    pub(crate) orientation: Orientation,
    pub(crate) animated: bool,
    /// Share of fully transparent pixels.
    pub(crate) transparent: f32,
}

pub(crate) fn decode(bytes: &[u8], format: Format, limits: &Limits) -> Result<Stored, Refusal> {
    let input = Cursor::new(bytes);
    match format {
        Format::Png => {
            let decoder = PngDecoder::with_limits(input, allocations(limits)).map_err(refuse)?;
            let animated = decoder.is_apng().unwrap_or(false);
            finish(decoder, 1, animated, limits)
        }
        Format::Webp => {
            check_riff(bytes)?;
            let decoder = WebPDecoder::new(input).map_err(refuse)?;
            let animated = decoder.has_animation();
            finish(decoder, 2, animated, limits)
        }
        Format::Gif => finish(GifDecoder::new(input).map_err(refuse)?, 2, has_second_frame(bytes), limits),
        Format::Bmp => finish(BmpDecoder::new(input).map_err(refuse)?, 1, false, limits),
        Format::Tiff => finish(TiffDecoder::new(input).map_err(refuse)?, 2, false, limits),
        Format::Jpeg => Err(RefusalReason::UnsupportedFormat.because("JPEG has its own reader")),
    }
}

/// Holds the header against the limits, then decodes. `buffers` is how many rasters the codec holds at once.
fn finish<D: ImageDecoder>(mut decoder: D, buffers: u64, animated: bool, limits: &Limits) -> Result<Stored, Refusal> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let size = Size { width, height };
    let raster = size.pixels().saturating_mul(u64::from(color.bytes_per_pixel()));
    let grown = if color.bytes_per_pixel() < 3 { size.pixels().saturating_mul(3) } else { 0 };
    limits.check_header(size, raster.saturating_mul(buffers).saturating_add(grown))?;

    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    decoder.set_limits(allocations(limits)).map_err(refuse)?;
    let bytes = usize::try_from(raster).map_err(broken)?;
    let mut pixels = vec![0; bytes];
    decoder.read_image(&mut pixels).map_err(refuse)?;
    let (rgb, transparent) = to_rgb(pixels, color)?;
    Ok(Stored { raster: Raster { width, height, rgb }, orientation, animated, transparent })
}

fn allocations(limits: &Limits) -> image::Limits {
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(limits.memory_max.0);
    allowed
}

fn refuse(error: ImageError) -> Refusal {
    match &error {
        ImageError::Limits(_) => RefusalReason::TooLarge.because(error.to_string()),
        ImageError::Unsupported(_) => RefusalReason::UnsupportedFormat.because(error.to_string()),
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            RefusalReason::Truncated.because("the file ends before its picture does")
        }
        _ => broken(error),
    }
}

/// A RIFF file tells its own length, so a cut is certain before any pixel.
fn check_riff(bytes: &[u8]) -> Result<(), Refusal> {
    let said = bytes.get(4..8).and_then(|size| size.first_chunk()).map_or(0, |size| u32::from_le_bytes(*size));
    if bytes.len() as u64 + 1 < u64::from(said) + 8 {
        let detail = format!("the file says that it is {} bytes long and has {}", u64::from(said) + 8, bytes.len());
        return Err(RefusalReason::Truncated.because(detail));
    }
    Ok(())
}

/// Whether a GIF goes on after its first frame. Walks the blocks, decodes nothing; a broken file counts as still.
fn has_second_frame(bytes: &[u8]) -> bool {
    second_frame(bytes).unwrap_or(false)
}

fn second_frame(bytes: &[u8]) -> Option<bool> {
    let table = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut frames = 0;
    loop {
        at = match *bytes.get(at)? {
            0x21 => at + 2, // an extension: its label, then sub-blocks
            0x2c if frames == 1 => return Some(true),
            0x2c => {
                frames += 1;
                at + 11 + table(*bytes.get(at + 9)?)
            }
            _ => return Some(false),
        };
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// 8-bit RGB, and the share of pixels that were fully transparent. Works within the buffer unless it must grow.
fn to_rgb(mut pixels: Vec<u8>, color: ColorType) -> Result<(Vec<u8>, f32), Refusal> {
    let channels = usize::from(color.channel_count());
    match color.bytes_per_pixel() as usize / channels {
        1 => {}
        2 => narrow::<2>(&mut pixels, |b| (u32::from(u16::from_ne_bytes(b)).saturating_add(128) / 257) as u8),
        4 => narrow::<4>(&mut pixels, |b| (f32::from_ne_bytes(b) * 255.0).round() as u8),
        n => return Err(RefusalReason::UnsupportedFormat.because(format!("has {n} bytes a sample"))),
    }
    Ok(match channels {
        1 => (pixels.iter().flat_map(|p| [*p; 3]).collect(), 0.0),
        2 => {
            let share = transparent::<2>(&pixels);
            (pixels.as_chunks::<2>().0.iter().flat_map(|[p, alpha]| [on_white(*p, *alpha); 3]).collect(), share)
        }
        3 => (pixels, 0.0),
        _ => {
            let share = transparent::<4>(&pixels);
            for i in 0..pixels.len() / 4 {
                let [r, g, b, alpha] = std::array::from_fn(|c| pixels[4 * i + c]);
                pixels[3 * i..][..3].copy_from_slice(&[r, g, b].map(|c| on_white(c, alpha)));
            }
            pixels.truncate(pixels.len() / 4 * 3);
            (pixels, share)
        }
    })
}

/// Replaces each `N` bytes by one, in place.
fn narrow<const N: usize>(pixels: &mut Vec<u8>, sample: impl Fn([u8; N]) -> u8) {
    let samples = pixels.len() / N;
    for i in 0..samples {
        pixels[i] = sample(std::array::from_fn(|b| pixels[N * i + b]));
    }
    pixels.truncate(samples);
}

fn on_white(channel: u8, alpha: u8) -> u8 {
    let (channel, alpha) = (u32::from(channel), u32::from(alpha));
    ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// The share of pixels of `N` channels whose last is 0.
fn transparent<const N: usize>(pixels: &[u8]) -> f32 {
    let pixels = pixels.as_chunks::<N>().0;
    let clear = pixels.iter().filter(|p| p[N - 1] == 0).count();
    clear as f32 / pixels.len().max(1) as f32
}
