//! Every file of the shared collection of hostile pictures gets the answer that its manifest asks for, in bounded time
//! and memory. Skipped, and said so, where the shared data is missing.

#![allow(clippy::panic)] // helpers of a test fail by panicking
#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use dih_imaging::{Decoded, Limits, Refusal, RefusalReason, read};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Wide enough for an unoptimised build on a busy machine; a loop would never end.
const DEADLINE: Duration = Duration::from_secs(60);
const MEMORY_MAX: usize = 512 << 20;

/// Bits below which the verify stage refuses a picture as flat; the reader itself takes it.
const FLAT_ENTROPY: f32 = 2.0;

fn hostile() -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("shared/data/hostile"));
    let found = found.into_iter().find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: there is no shared/data/hostile above this crate");
    }
    found
}

/// Reads on a thread of its own, so that a hang fails the test and names the file.
fn read_in_time(file: &str, bytes: Vec<u8>) -> Result<Decoded, Refusal> {
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || _ = answer.send(read(&bytes, &Limits::default())));
    answered.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{file} was not answered within {DEADLINE:?}"))
}

fn check(file: &str, expect: &str, answer: &Result<Decoded, Refusal>) -> Result<(), String> {
    match (expect, answer) {
        ("accept", Err(refusal)) => Err(format!("{file} must be accepted: {refusal}")),
        ("reject", Ok(decoded)) if file.starts_with("flat_") => {
            let entropy = decoded.measures.entropy;
            if entropy < FLAT_ENTROPY { Ok(()) } else { Err(format!("{file} has {entropy} bits of entropy")) }
        }
        ("reject", Ok(decoded)) => Err(format!("{file} must be rejected, and is {:?}", decoded.measures)),
        (_, Err(refusal)) if refusal.detail.is_empty() => Err(format!("{file} is refused without a detail")),
        _ => Ok(()),
    }
}

fn reason(file: &str) -> Option<RefusalReason> {
    let reason = match file {
        "empty.jpg" => RefusalReason::Empty,
        "tiny_8x8.jpg" | "tiny_1x1.png" => RefusalReason::TooSmall,
        "jpeg_claims_65535x65535.jpg" | "png_bomb_20000x20000.png" | "gif_canvas_65535.gif" => RefusalReason::TooLarge,
        "heic_header.heic" | "svg_named.jpg" | "html_named.jpg" | "text.jpg" | "jpeg_arithmetic.jpg" => {
            RefusalReason::UnsupportedFormat
        }
        _ if file.starts_with("jpeg_truncated") || file.starts_with("jpeg_progressive_t") => RefusalReason::Truncated,
        "webp_truncated.webp" => RefusalReason::Truncated,
        _ => return None,
    };
    Some(reason)
}

#[test]
fn every_hostile_file_is_answered_as_its_manifest_asks() {
    let Some(dir) = hostile() else { return };
    let mut wrong = Vec::new();
    let mut worst = (0, String::new());
    let mut count = 0;
    for row in csv::Reader::from_path(dir.join("manifest.csv")).unwrap().records() {
        let row = row.unwrap();
        let (file, expect) = (&row[0], &row[2]);
        let bytes = fs::read(dir.join(file)).unwrap();
        MEMORY.reset_peak_usage();
        let (before, start) = (MEMORY.current_usage(), Instant::now());
        let answer = read_in_time(file, bytes);
        let took = MEMORY.peak_usage().saturating_sub(before);
        let said = match &answer {
            Ok(d) => format!(
                "{} {} orientation {} entropy {:.2}",
                d.format.as_str(),
                d.size,
                d.orientation,
                d.measures.entropy
            ),
            Err(refusal) => refusal.to_string(),
        };
        println!("{file}: {expect}: {said} ({}KiB, {}ms)", took >> 10, start.elapsed().as_millis());
        wrong.extend(check(file, expect, &answer).err());
        let got = answer.err().map(|r| r.reason);
        if let Some(want) = reason(file).filter(|want| got != Some(*want)) {
            wrong.push(format!("{file} must be {}, and is {got:?}", want.as_str()));
        }
        if took > MEMORY_MAX {
            wrong.push(format!("{file} took {}MiB", took >> 20));
        }
        worst = worst.max((took, file.to_string()));
        count += 1;
    }
    println!("{count} files; the most memory, {}MiB, was taken by {}", worst.0 >> 20, worst.1);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "the manifest names only {count} files");
}

#[track_caller]
fn check_upright(files: impl Iterator<Item = PathBuf>, apart_max: f64) {
    let previews: Vec<_> = files.map(|f| read(&fs::read(f).unwrap(), &Limits::default()).unwrap()).collect();
    for (i, one) in previews.iter().enumerate() {
        assert_eq!(usize::from(one.orientation), i + 1);
        assert_eq!((one.size, one.preview.size()), (previews[0].size, previews[0].preview.size()));
        let pairs = one.preview.rgb.iter().zip(&previews[0].preview.rgb);
        let apart = pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / one.preview.rgb.len() as f64;
        assert!(apart <= apart_max, "orientation {} is {apart:.2} levels apart", i + 1);
        let bits = one.fingerprints.upright().distance(previews[0].fingerprints.upright());
        assert!(bits <= 4, "orientation {} has {bits} other bits", i + 1);
    }
}

#[test]
fn all_eight_orientations_show_the_same_picture() {
    let Some(dir) = hostile() else { return };
    check_upright((1..=8).map(|n| dir.join(format!("exif_orientation_{n}.jpg"))), 3.0);
    check_upright((1..=8).map(|n| dir.join(format!("exif_real_landscape_{n}.jpg"))), 3.0);
}
