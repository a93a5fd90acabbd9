//! The two ways through this crate: everything that ingest needs of an upload, and the picture that is published.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dih_core::image::{Fingerprints, Format, Measures, Size, Thumbnail};
use image::metadata::Orientation;

use crate::{
    Limits, Preview, Refusal, RefusalReason,
    fingerprint::Grey,
    jpeg, measure, other,
    preview::{encode_jpeg, scaled},
    raster::{Raster, swaps_sides},
    sniff, thumbnail,
};

/// All that is known of a picture after its one decode.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub format: Format,
    /// The original's size in pixels, upright.
    pub size: Size,
    pub preview: Preview,
    pub measures: Measures,
    pub fingerprints: Fingerprints,
    pub thumbnail: Thumbnail,
    /// Whether more frames follow the first, which is the one that was read.
    pub animated: bool,
    /// How the file was turned, in EXIF's words, 1 to 8; 1 where it says nothing or nonsense.
    pub orientation: u8,
}

/// Reads an upload: sniffs, checks, decodes once, turns upright, measures and hashes.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Decoded, Refusal> {
    guarded(|| {
        let opened = open(bytes, limits, Preview::size_for)?;
        let preview = Preview::from(opened.raster.shrink(Preview::size_for(opened.stored)).upright(opened.orientation));
        let size = upright_size(opened.stored, opened.orientation);
        let tones = measure::tones(&preview);
        let measures = measure::measures(&tones, size, opened.transparent);
        let grey = Grey::of(&tones.luma);
        let thumbnail = thumbnail::with_grey(&preview, &grey);
        Ok(Decoded {
            format: opened.format,
            size,
            preview,
            measures,
            fingerprints: grey.fingerprints(),
            thumbnail,
            animated: opened.animated,
            orientation: opened.orientation.to_exif(),
        })
    })
}

/// The preview alone, the same as in [`Decoded`].
pub fn preview_of(bytes: &[u8], limits: &Limits) -> Result<Preview, Refusal> {
    guarded(|| {
        let opened = open(bytes, limits, Preview::size_for)?;
        Ok(opened.raster.shrink(Preview::size_for(opened.stored)).upright(opened.orientation).into())
    })
}

/// The picture as it is published: upright, RGB, no metadata, its longest side at most `side_max`, never enlarged.
///
/// A JPEG that is all this but for its metadata keeps its pixels as they are; else it is encoded anew with `quality`,
/// JPEG's, 1 to 100.
pub fn picture_jpeg(bytes: &[u8], limits: &Limits, side_max: u32, quality: u8) -> Result<Vec<u8>, Refusal> {
    let side_max = side_max.clamp(1, u16::MAX.into());
    let target = |size: Size| scaled(size, f64::from(side_max) / f64::from(size.width.max(size.height).max(1)));
    guarded(|| {
        limits.check_bytes(bytes)?;
        if let Format::Jpeg = sniff(bytes)?
            && let Some(bare) = jpeg::without_metadata(bytes, limits, side_max)?
        {
            return Ok(bare);
        }
        let opened = open(bytes, limits, target)?;
        let picture = opened.raster.shrink(target(opened.stored)).upright(opened.orientation);
        Ok(encode_jpeg(picture.width, picture.height, &picture.rgb, quality))
    })
}

/// A picture as its file stores it, before it is shrunk and turned.
struct Opened {
    format: Format,
    /// The whole picture's size; the raster's may be a fraction of it.
    stored: Size,
    raster: Raster,
    orientation: Orientation,
    animated: bool,
    transparent: f32,
}

fn open(bytes: &[u8], limits: &Limits, wanted: impl Fn(Size) -> Size) -> Result<Opened, Refusal> {
    limits.check_bytes(bytes)?;
    let format = sniff(bytes)?;
    if format == Format::Jpeg {
        let (stored, orientation, raster) = jpeg::decode(bytes, limits, wanted)?;
        return Ok(Opened { format, stored, raster, orientation, animated: false, transparent: 0.0 });
    }
    let other::Stored { raster, orientation, animated, transparent } = other::decode(bytes, format, limits)?;
    let stored = Size { width: raster.width, height: raster.height };
    Ok(Opened { format, stored, raster, orientation, animated, transparent })
}

fn upright_size(stored: Size, orientation: Orientation) -> Size {
    match swaps_sides(orientation) {
        true => Size { width: stored.height, height: stored.width },
        false => stored,
    }
}

/// Codecs are fuzzed but not proven: a panic inside one is the file's fault, and costs one picture, not the process.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    // Nothing outlives the closure but its result, so no broken invariant can be seen afterwards.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(RefusalReason::Corrupt.because(format!("the decoder gave up: {said}")))
    })
}
