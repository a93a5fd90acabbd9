//! Reads JPEG: headers and structure first, then one decode at the smallest scale that serves.
//!
//! Takes    the bytes, the limits and the size that is wanted. Gives a raster at least that large, and the orientation.
//! Two      decoders. `zune-jpeg` is the fastest at full size but knows no other; `rusty_jpeg` transforms blocks at 1/2,
//!          1/4 or 1/8 of their size, which on large photos saves most of the time and nearly all of the memory. (It is
//!          `jpeg-decoder` carried on: on the caller's thread, and faster.)
//! Strict   because both decoders fill in for what is missing: a file that does not end in EOI is truncated, even where
//!          those two bytes are all that it lacks.
//! Weak at  damage that still decodes: flipped bits, a chunk lost between markers, a cut after which someone put EOI
//!          back. Both decoders fill the rest without a word, so it shows as a garbled or half-grey picture. Colour
//!          profiles (ICC) are ignored. Arithmetic coding, 12 bits and lossless are refused by name.

use std::io::Cursor;

use dih_core::image::Size;
use image::metadata::Orientation;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use crate::{Limits, Refusal, RefusalReason, preview::broken, raster::Raster};

/// Fewest pixels at which a scaled decode is used, for each divisor. At 12 MP it takes 0.4 to 0.6 of a full decode's
/// time; at 0.1 MP a half takes 1.2 times as long as the whole. The bounds lie between and are not measured themselves.
const SCALED_FROM_PIXELS: [(u32, u64); 3] = [(8, 1_000_000), (4, 1_000_000), (2, 2_000_000)];

/// What the segments of a JPEG say before any of its pixels is decoded.
#[derive(Debug)]
pub(crate) struct Structure<'a> {
    pub(crate) size: Size,
    progressive: bool,
    /// Sampling factors, across and down, of each component.
    components: Vec<(u8, u8)>,
    /// The TIFF block of the EXIF segment.
    exif: Option<&'a [u8]>,
    scans: u32,
    /// Whether an end-of-image marker follows the last scan.
    complete: bool,
}

impl<'a> Structure<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut frame = None;
        let (mut exif, mut scans, mut complete) = (None, 0, false);
        for segment in Segments::of(bytes) {
            let Segment { marker, body, .. } = segment?;
            match marker {
                0xd9 => complete = true,
                0xc0..=0xc2 if frame.is_none() => frame = Some(frame_header(marker, body)?),
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    let kind = if marker >= 0xc9 { "arithmetic-coded" } else { "lossless or hierarchical" };
                    return Err(RefusalReason::UnsupportedFormat.because(format!("is a {kind} JPEG")));
                }
                0xda => scans += 1,
                0xe1 if exif.is_none() => exif = body.strip_prefix(b"Exif\0\0"),
                _ => {}
            }
        }
        let missing = if complete { RefusalReason::Corrupt } else { RefusalReason::Truncated };
        let (size, progressive, components) = frame.ok_or_else(|| missing.because("there is no frame header"))?;
        Ok(Self { size, progressive, components, exif, scans, complete })
    }

    pub(crate) fn orientation(&self) -> Orientation {
        self.exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
    }

    fn check(&self, limits: &Limits, memory: u64) -> Result<(), Refusal> {
        limits.check_header(self.size, memory)?;
        if !self.complete {
            return Err(RefusalReason::Truncated.because("the file ends before its end-of-image marker"));
        }
        if self.scans == 0 {
            return Err(RefusalReason::Corrupt.because("there is no scan"));
        }
        if self.scans > limits.scans_max {
            let detail = format!("{} scans; at most {} are allowed", self.scans, limits.scans_max);
            return Err(RefusalReason::TooLarge.because(detail));
        }
        Ok(())
    }

    /// The divisor of the fastest decode that is at least as large as `wanted`, 1 to 8.
    fn divisor(&self, wanted: Size) -> u32 {
        // Four components (CMYK) are turned into RGB by the full decoder alone.
        if !matches!(self.components.len(), 1 | 3) {
            return 1;
        }
        let serves = |divisor: u32, from: u64| {
            let side = |stored: u32, wanted: u32| stored.div_ceil(divisor) >= wanted;
            self.size.pixels() >= from && side(self.size.width, wanted.width) && side(self.size.height, wanted.height)
        };
        let found = SCALED_FROM_PIXELS.iter().find(|(divisor, from)| serves(*divisor, *from));
        found.map_or(1, |(divisor, _)| *divisor)
    }

    /// Bytes that decoding takes at most: the raster, and all coefficients where they must be kept.
    fn memory(&self, divisor: u32) -> u64 {
        let raster = self.size.pixels() * 3 / u64::from(divisor).pow(2);
        let most = |of: fn(&(u8, u8)) -> u8| u64::from(self.components.iter().map(of).max().unwrap_or(1).max(1));
        let whole = most(|c| c.0) * most(|c| c.1);
        let samples: u64 =
            self.components.iter().map(|(h, v)| self.size.pixels() * u64::from(*h) * u64::from(*v) / whole).sum();
        let coefficients = if self.progressive { 2 * samples } else { 0 };
        let planes = samples / u64::from(divisor).pow(2);
        raster + coefficients + planes + (1 << 20)
    }
}

/// The file without what is not needed for its pixels: EXIF, places, comments, thumbnails, colour profiles, and whatever
/// follows its end. None where that does not make it a picture for publication: it must be turned, is larger than
/// `side_max`, or is not stored in three components.
pub(crate) fn without_metadata(bytes: &[u8], limits: &Limits, side_max: u32) -> Result<Option<Vec<u8>>, Refusal> {
    let structure = Structure::read(bytes)?;
    structure.check(limits, 0)?;
    let Size { width, height } = structure.size;
    let turned = structure.orientation() != Orientation::NoTransforms;
    if turned || width.max(height) > side_max || structure.components.len() != 3 {
        return Ok(None);
    }
    let mut bare = Vec::with_capacity(bytes.len());
    bare.extend(b"\xff\xd8");
    for segment in Segments::of(bytes) {
        let Segment { marker, body, scan } = segment?;
        match marker {
            // What follows of the body of APP0 is a thumbnail.
            0xe0 if body.starts_with(b"JFIF\0") && body.len() >= 12 => put(&mut bare, marker, &[&body[..12], &[0, 0]]),
            0xee if body.starts_with(b"Adobe") => put(&mut bare, marker, &[body]),
            0xc0..=0xcf | 0xda..=0xdd => put(&mut bare, marker, &[body]),
            _ => {}
        }
        bare.extend(scan);
    }
    bare.extend(b"\xff\xd9");
    Ok(Some(bare))
}

/// Writes one segment.
fn put(file: &mut Vec<u8>, marker: u8, body: &[&[u8]]) {
    let length = 2 + body.iter().map(|part| part.len()).sum::<usize>();
    file.extend([0xff, marker]);
    file.extend(u16::try_from(length).expect("is not longer than it was read").to_be_bytes());
    file.extend(body.concat());
}

/// Decodes at the smallest sufficient scale to at least `wanted`, as stored (not yet upright).
pub(crate) fn decode(
    bytes: &[u8],
    limits: &Limits,
    wanted: impl Fn(Size) -> Size,
) -> Result<(Size, Orientation, Raster), Refusal> {
    let structure = Structure::read(bytes)?;
    let divisor = structure.divisor(wanted(structure.size));
    structure.check(limits, structure.memory(divisor))?;
    let raster = match divisor {
        1 => full(bytes, structure.size)?,
        _ => reduced(bytes, structure.size, divisor)?,
    };
    Ok((structure.size, structure.orientation(), raster))
}

/// Decodes at full size.
pub(crate) fn decode_whole(bytes: &[u8], limits: &Limits) -> Result<Raster, Refusal> {
    limits.check_bytes(bytes)?;
    if !bytes.starts_with(b"\xff\xd8") {
        return Err(RefusalReason::UnsupportedFormat.because("is no JPEG"));
    }
    decode(bytes, limits, |size| size).map(|(_, _, raster)| raster)
}

fn full(bytes: &[u8], size: Size) -> Result<Raster, Refusal> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(size.width as usize)
        .set_max_height(size.height as usize);
    let rgb = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().map_err(broken)?;
    whole(rgb, size)
}

fn reduced(bytes: &[u8], size: Size, divisor: u32) -> Result<Raster, Refusal> {
    let mut decoder = rusty_jpeg::Decoder::new(Cursor::new(bytes));
    decoder.set_single_threaded(true); // the bench says how many work at once
    decoder.read_info().map_err(broken)?;
    let side = |pixels: u32| u16::try_from(pixels.div_ceil(divisor)).map_err(broken);
    let (width, height) = decoder.scale(side(size.width)?, side(size.height)?).map_err(broken)?;
    let pixels = decoder.decode().map_err(broken)?;
    let grey = decoder.info().is_some_and(|info| info.pixel_format == rusty_jpeg::PixelFormat::L8);
    let rgb = if grey { pixels.iter().flat_map(|p| [*p; 3]).collect() } else { pixels };
    whole(rgb, Size { width: width.into(), height: height.into() })
}

/// A raster of three bytes a pixel, or a refusal where the decoder gave another count.
fn whole(rgb: Vec<u8>, size: Size) -> Result<Raster, Refusal> {
    if rgb.len() as u64 != size.pixels() * 3 {
        let detail = format!("{} bytes were decoded for {size} pixels of RGB", rgb.len());
        return Err(RefusalReason::Corrupt.because(detail));
    }
    Ok(Raster { width: size.width, height: size.height, rgb })
}

/// A marker with what belongs to it.
struct Segment<'a> {
    marker: u8,
    /// Without its length; empty behind a marker that stands alone.
    body: &'a [u8],
    /// Entropy-coded data up to the next marker, restarts included.
    scan: &'a [u8],
}

/// The segments of a file, up to and with its end. Every step moves forward, so it ends on any input.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    /// `bytes` begin with the start-of-image marker.
    fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.get(2..).unwrap_or_default() }
    }

    fn read(&mut self, marker: u8) -> Result<Segment<'a>, Refusal> {
        let alone = matches!(marker, 0x01 | 0xd0..=0xd9);
        let body = if alone { &[] } else { segment(self.rest, marker)? };
        self.rest = if alone { self.rest } else { &self.rest[2 + body.len()..] };
        let scan = match marker {
            0xda => &self.rest[..marker_at(self.rest).map_or(self.rest.len(), |at| at - 1)],
            _ => &[],
        };
        self.rest = &self.rest[scan.len()..];
        Ok(Segment { marker, body, scan })
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = marker_at(self.rest)?;
        let marker = self.rest[at];
        self.rest = &self.rest[at + 1..];
        let segment = self.read(marker);
        if marker == 0xd9 || segment.is_err() {
            self.rest = &[];
        }
        Some(segment)
    }
}

/// Where the code of the next marker stands, behind its last 0xff. Skips entropy-coded data, stuffed zeros, restarts within
/// a scan and fill bytes.
fn marker_at(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(0xff, bytes.get(at..)?)? + 1;
        match bytes.get(at)? {
            0x00 | 0xd0..=0xd7 => at += 1,
            0xff => {}
            _ => return Some(at),
        }
    }
}

/// The body of a segment, without its two bytes of length.
fn segment(bytes: &[u8], marker: u8) -> Result<&[u8], Refusal> {
    let cut = || RefusalReason::Truncated.because(format!("the file ends within segment {marker:02x}"));
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk().ok_or_else(cut)?));
    if length < 2 {
        return Err(RefusalReason::Corrupt.because(format!("segment {marker:02x} says that it is {length} bytes long")));
    }
    bytes.get(2..length).ok_or_else(cut)
}

type Frame = (Size, bool, Vec<(u8, u8)>);

fn frame_header(marker: u8, body: &[u8]) -> Result<Frame, Refusal> {
    let corrupt = |detail: String| RefusalReason::Corrupt.because(detail);
    let Some(([precision, height_high, height_low, width_high, width_low, count], components)) =
        body.split_first_chunk()
    else {
        return Err(corrupt(format!("the frame header has only {} bytes", body.len())));
    };
    if *precision != 8 {
        let detail = format!("has {precision} bits a sample; 8 are read");
        return Err(RefusalReason::UnsupportedFormat.because(detail));
    }
    let components = components.as_chunks::<3>().0;
    if components.len() != usize::from(*count) || !matches!(count, 1 | 3 | 4) {
        return Err(corrupt(format!("the frame header says {count} components and holds {}", components.len())));
    }
    let size = Size {
        width: u16::from_be_bytes([*width_high, *width_low]).into(),
        height: u16::from_be_bytes([*height_high, *height_low]).into(),
    };
    let sampling = components.iter().map(|[_, factors, _]| (factors >> 4, factors & 15)).collect();
    Ok((size, marker == 0xc2, sampling))
}
