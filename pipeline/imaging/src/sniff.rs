//! Tells a format by content. A file name is never believed, and what is not read here is called by its name.

use dih_core::image::Format;

use crate::{Refusal, RefusalReason};

/// The format of a file, from its first bytes.
pub fn sniff(bytes: &[u8]) -> Result<Format, Refusal> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let format = match () {
        () if at(0, b"\xff\xd8") => Format::Jpeg,
        () if at(0, b"\x89PNG\r\n\x1a\n") => Format::Png,
        () if at(0, b"RIFF") && at(8, b"WEBP") => Format::Webp,
        () if at(0, b"GIF87a") || at(0, b"GIF89a") => Format::Gif,
        // "BM" alone is two letters of text; the reserved words after the size are zero in every real file.
        () if at(0, b"BM") && at(6, &[0; 4]) => Format::Bmp,
        () if at(0, b"II*\0") || at(0, b"MM\0*") => Format::Tiff,
        () => return Err(RefusalReason::UnsupportedFormat.because(name_other(bytes))),
    };
    Ok(format)
}

/// Names what a file is when it is none of ours, so that its sender can mend it.
fn name_other(bytes: &[u8]) -> String {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let known = match () {
        () if at(4, b"ftypheic") || at(4, b"ftypheix") || at(4, b"ftypmif1") || at(4, b"ftyphevc") => "HEIC",
        () if at(4, b"ftypavif") || at(4, b"ftypavis") => "AVIF",
        () if at(4, b"ftyp") => "an MP4 or QuickTime video",
        () if at(0, b"\0\0\x01\0") || at(0, b"\0\0\x02\0") => "ICO",
        () if at(0, b"\xff\x0a") || at(0, b"\0\0\0\x0cJXL ") => "JPEG XL",
        () if at(0, b"\0\0\0\x0cjP  ") => "JPEG 2000",
        () if at(0, b"II+\0") || at(0, b"MM\0+") => "BigTIFF",
        () if at(0, b"8BPS") => "Photoshop",
        () if at(0, b"%PDF") => "PDF",
        () if at(0, b"PK\x03\x04") => "ZIP",
        () if at(0, b"/9j/") => "base64 text of a JPEG (decode it before sending)",
        () if starts_as_text(bytes, "<svg") => "SVG",
        () if starts_as_text(bytes, "<?xml") => "XML or SVG",
        () if starts_as_text(bytes, "<!doctype html") || starts_as_text(bytes, "<html") => "an HTML page",
        () if is_text(bytes) => "text",
        () => return "begins like no format that is known here; JPEG, PNG, WebP, GIF, BMP and TIFF are read".into(),
    };
    format!("is {known}; JPEG, PNG, WebP, GIF, BMP and TIFF are read")
}

fn starts_as_text(bytes: &[u8], tag: &str) -> bool {
    bytes.trim_ascii_start().get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag.as_bytes()))
}

fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(512)];
    head.iter().all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], want: Result<Format, &str>) {
        match (sniff(bytes), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(got), Err(want)) => {
                assert_eq!(got.reason, RefusalReason::UnsupportedFormat);
                assert!(got.detail.contains(want), "{:?} lacks {want:?}", got.detail);
            }
            (got, want) => assert_eq!(format!("{got:?}"), format!("{want:?}")),
        }
    }

    #[test]
    fn each_format_is_told_by_its_first_bytes() {
        check(b"\xff\xd8\xff\xe0", Ok(Format::Jpeg));
        check(b"\x89PNG\r\n\x1a\n", Ok(Format::Png));
        check(b"RIFF\x10\0\0\0WEBPVP8 ", Ok(Format::Webp));
        check(b"GIF89a", Ok(Format::Gif));
        check(b"BM\x10\0\0\0\0\0\0\0", Ok(Format::Bmp));
        check(b"MM\0*\0\0\0\x08", Ok(Format::Tiff));
    }

    #[test]
    fn what_is_not_read_is_called_by_its_name() {
        check(b"\0\0\0\x18ftypheic", Err("HEIC"));
        check(b"\0\0\0\x18ftypavif", Err("AVIF"));
        check(b"  <svg xmlns=", Err("SVG"));
        check(b"<!DOCTYPE HTML>", Err("HTML"));
        check(b"BMW is a car maker", Err("text"));
        check(b"RIFF\x10\0\0\0WAVE", Err("no format"));
        check(b"", Err("text"));
        check(b"\x01\x02", Err("no format"));
    }
}
