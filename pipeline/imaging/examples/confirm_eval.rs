//! Scores `confirm` on a folder of photos: eight copies of each against its original (recall), and copies and originals
//! against the most similar other originals (false confirmations).
//!
//! Usage: `confirm_eval DIR [--photos N] [--skip S] [--loose] [--time]
//! [--dump FILE.csv] [--pictures DIR]`. Every photo below DIR is an original;
//! N of them, spread evenly and beginning at the S-th, are copied. `--loose` judges with an all-accepting policy, to see
//! the figures that thresholds are set on. `--time` runs each comparison three times and counts the fastest, which keeps
//! other processes out of the figures. `--pictures` saves each wrong answer side by side.
//!
//! Copies named `other_*` carry a patch of another photo: the same background with another object. They are not repeats.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dih_core::{image::Fingerprint, repeat::Evidence};
use dih_imaging::confirm::{Features, Pixels, Policy, Refusal, compare, features};
use image::{RgbImage, imageops};

/// Hardest others that each picture is held against, by colour thumbnail and again by fingerprint.
const RIVALS: usize = 6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::read()?;
    let mut paths = Vec::new();
    collect(&args.dir, &mut paths)?;
    paths.sort();
    let mut originals = Vec::new();
    for path in &paths {
        if let Ok(photo) = image::open(path) {
            originals.push(Original::new(path.clone(), &preview(&photo.to_rgb8())));
        }
    }
    println!("{} originals", originals.len());

    let mut report = Report::new(&args)?;
    let step = (originals.len() / args.photos).max(1);
    for index in (args.skip..originals.len()).step_by(step).take(args.photos) {
        let photo = image::open(&originals[index].path)?.to_rgb8();
        let donor = &originals[(index + 7) % originals.len()].preview;
        for (name, copy) in copies(&photo, donor, index) {
            let copy = preview(&copy);
            let of_copy = features(view(&copy));
            report.extraction.push(fastest(report.runs, || drop(features(view(&copy)))));
            let truth = if name.starts_with("other_") { Truth::Different } else { Truth::Same };
            report.pair(name, truth, (&of_copy, &copy), &originals[index]);
            if truth == Truth::Different {
                continue;
            }
            let near = rivals(&Original::look(&copy), &originals, index);
            for other in near {
                report.pair(name, Truth::Different, (&of_copy, &copy), &originals[other]);
            }
        }
        for other in rivals(&originals[index].look, &originals, index) {
            let original = &originals[index];
            report.pair("original", Truth::Different, (&original.features, &original.preview), &originals[other]);
        }
    }
    report.print();
    Ok(())
}

struct Args {
    dir: PathBuf,
    photos: usize,
    skip: usize,
    loose: bool,
    time: bool,
    dump: Option<PathBuf>,
    pictures: Option<PathBuf>,
}

impl Args {
    fn read() -> Result<Self, String> {
        let mut args = std::env::args().skip(1);
        let dir = args.next().ok_or("name a folder of photos")?.into();
        let mut read = Self { dir, photos: 300, skip: 0, loose: false, time: false, dump: None, pictures: None };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or(format!("{flag} needs a value"));
            let number = |text: String| text.parse::<usize>().map_err(|e| format!("{text}: {e}"));
            match flag.as_str() {
                "--photos" => read.photos = number(value()?)?.max(1),
                "--skip" => read.skip = number(value()?)?,
                "--loose" => read.loose = true,
                "--time" => read.time = true,
                "--dump" => read.dump = Some(value()?.into()),
                "--pictures" => read.pictures = Some(value()?.into()),
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        Ok(read)
    }

    fn policy(&self) -> Policy {
        let strict = Policy::default();
        if !self.loose {
            return strict;
        }
        Policy {
            correlation_coarse_min: 0.3,
            correlation_min: 0.3,
            stretch_max: 3.0,
            shared_min: 0.0,
            blocks_min: 1,
            agreement_min: 0.0,
            colour_max: 255.0,
            ..strict
        }
    }
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        match name.as_deref() {
            _ if path.is_dir() => collect(&path, into)?,
            Some("jpg" | "jpeg" | "png") => into.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Shortest side 256, as the pipeline stores it.
fn preview(photo: &RgbImage) -> RgbImage {
    let (w, h) = photo.dimensions();
    let shortest = w.min(h);
    if shortest <= 256 {
        return photo.clone();
    }
    let fit = |n: u32| (n * 256 / shortest).max(1);
    imageops::resize(photo, fit(w), fit(h), imageops::FilterType::Triangle)
}

fn view(picture: &RgbImage) -> Pixels<'_> {
    Pixels::new(picture.width(), picture.height(), picture.as_raw()).expect("an RgbImage fits its size")
}

struct Original {
    path: PathBuf,
    preview: RgbImage,
    features: Features,
    look: (Vec<f32>, Fingerprint),
}

impl Original {
    fn new(path: PathBuf, preview: &RgbImage) -> Self {
        Self { path, features: features(view(preview)), look: Self::look(preview), preview: preview.clone() }
    }

    /// What candidates are found by: an 8x8 colour thumbnail, and a difference hash of 64 bits.
    fn look(preview: &RgbImage) -> (Vec<f32>, Fingerprint) {
        let thumb = imageops::thumbnail(preview, 8, 8);
        let grey = imageops::grayscale(&imageops::thumbnail(preview, 9, 8));
        let bits = (0..64).filter(|i| grey.get_pixel(i % 8, i / 8)[0] < grey.get_pixel(i % 8 + 1, i / 8)[0]);
        let hash = bits.fold(0u64, |hash, bit| hash | 1 << bit);
        (thumb.as_raw().iter().map(|v| f32::from(*v)).collect(), Fingerprint(hash))
    }
}

fn rivals(look: &(Vec<f32>, Fingerprint), originals: &[Original], own: usize) -> Vec<usize> {
    let mut others: Vec<usize> = (0..originals.len()).filter(|i| *i != own).collect();
    let colour = |i: &usize| -> f32 {
        let pairs = look.0.iter().zip(&originals[*i].look.0);
        pairs.map(|(a, b)| (a - b).abs()).sum()
    };
    others.sort_by(|a, b| colour(a).total_cmp(&colour(b)));
    let mut chosen: Vec<usize> = others[..RIVALS.min(others.len())].to_vec();
    others.sort_by_key(|i| look.1.distance(originals[*i].look.1));
    chosen.extend(others.into_iter().take(RIVALS));
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// The eight copies that must be found, and some on and beyond the border.
fn copies(photo: &RgbImage, donor: &RgbImage, index: usize) -> Vec<(&'static str, RgbImage)> {
    let (w, h) = photo.dimensions();
    let odd = index % 2 == 1;
    let map = |f: &dyn Fn(f32, f32) -> (f32, f32)| warp(photo, f);
    let (cx, cy) = (w as f32 / 2.0, h as f32 / 2.0);
    let turn = |degrees: f32| {
        let (sin, cos) = degrees.to_radians().sin_cos();
        map(&move |x, y| ((x - cx) * cos - (y - cy) * sin + cx, (x - cx) * sin + (y - cy) * cos + cy))
    };
    vec![
        ("q30", jpeg(photo, 30)),
        ("half", imageops::resize(photo, w / 2, h / 2, imageops::FilterType::Triangle)),
        ("crop5", crop(photo, 0.95, odd)),
        ("crop10", crop(photo, 0.90, odd)),
        ("crop10each", crop(photo, 0.80, false)),
        ("crop25", crop(photo, 0.75, odd)),
        ("crop30", crop(photo, 0.70, odd)),
        ("bright20", bright(photo)),
        ("rot2", turn(2.0)),
        ("rot10", turn(10.0)),
        ("mirror", imageops::flip_horizontal(photo)),
        ("watermark", watermark(photo)),
        ("turn90", imageops::rotate90(photo)),
        ("mirror_turn270", imageops::rotate270(&imageops::flip_horizontal(photo))),
        ("mixed", jpeg(&bright(&imageops::flip_horizontal(&crop(photo, 0.92, odd))), 50)),
        ("other_40", patch(photo, donor, 0.40)),
        ("other_30", patch(photo, donor, 0.30)),
        // Another stand of the camera: a keystone of 6 % and a shift.
        (
            "perspective",
            map(&move |x, y| {
                let k = 1.0 + 0.12 * (x / w as f32 - 0.5);
                ((x - cx) / k + cx + 6.0, (y - cy) / k + cy)
            }),
        ),
    ]
    .into_iter()
    .map(|(name, copy)| (name, jpeg(&copy, 85)))
    .collect()
}

/// Keeps `share` of each side: the centre, or off it.
fn crop(photo: &RgbImage, share: f32, off_centre: bool) -> RgbImage {
    let (w, h) = photo.dimensions();
    let (cw, ch) = ((w as f32 * share) as u32, (h as f32 * share) as u32);
    let (x, y) = if off_centre { (w - cw, (h - ch) / 4) } else { ((w - cw) / 2, (h - ch) / 2) };
    imageops::crop_imm(photo, x, y, cw.max(1), ch.max(1)).to_image()
}

/// Lays the middle of another photo over `share` of the area.
fn patch(photo: &RgbImage, donor: &RgbImage, share: f32) -> RgbImage {
    let (w, h) = photo.dimensions();
    let side = share.sqrt();
    let (pw, ph) = ((w as f32 * side) as u32, (h as f32 * side) as u32);
    let donor = imageops::resize(donor, pw.max(1), ph.max(1), imageops::FilterType::Triangle);
    let mut copy = photo.clone();
    imageops::replace(&mut copy, &donor, i64::from((w - pw) / 2), i64::from((h - ph) / 2));
    copy
}

fn bright(photo: &RgbImage) -> RgbImage {
    let mut copy = photo.clone();
    copy.iter_mut().for_each(|v| *v = (f32::from(*v) * 1.2).min(255.0) as u8);
    copy
}

/// A half-transparent band with bars like letters across the lower middle, and a plate in a corner.
fn watermark(photo: &RgbImage) -> RgbImage {
    let (w, h) = photo.dimensions();
    let mut copy = photo.clone();
    for (x, y, pixel) in copy.enumerate_pixels_mut() {
        let (fx, fy) = (x as f32 / w as f32, y as f32 / h as f32);
        let letters = (0.55..0.67).contains(&fy) && (0.1..0.9).contains(&fx) && !((fx * 40.0) as u32).is_multiple_of(3);
        let plate = fx > 0.75 && fy > 0.92;
        if letters {
            pixel.0 = pixel.0.map(|v| (f32::from(v) * 0.5 + 127.0) as u8);
        } else if plate {
            pixel.0 = [250, 250, 250];
        }
    }
    copy
}

/// Bilinear; black outside.
fn warp(photo: &RgbImage, source: &dyn Fn(f32, f32) -> (f32, f32)) -> RgbImage {
    RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
        let (u, v) = source(x as f32, y as f32);
        imageops::interpolate_bilinear(photo, u, v).unwrap_or(image::Rgb([0, 0, 0]))
    })
}

fn jpeg(photo: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
    photo.write_with_encoder(encoder).expect("memory takes a JPEG");
    image::load_from_memory(&bytes).expect("just written").to_rgb8()
}

fn fastest(runs: u32, work: impl Fn()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..runs).map(once).min().unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq)]
enum Truth {
    Same,
    Different,
}

#[derive(Default)]
struct Score {
    same: [u32; 2],
    different: [u32; 2],
}

struct Report {
    policy: Policy,
    /// How often each comparison runs; the fastest counts.
    runs: u32,
    scores: BTreeMap<&'static str, Score>,
    exits: BTreeMap<(bool, &'static str), Vec<Duration>>,
    extraction: Vec<Duration>,
    dump: Option<std::fs::File>,
    pictures: Option<PathBuf>,
    saved: u32,
}

impl Report {
    fn new(args: &Args) -> std::io::Result<Self> {
        let dump = args.dump.as_ref().map(std::fs::File::create).transpose()?;
        if let Some(dir) = &args.pictures {
            std::fs::create_dir_all(dir)?;
        }
        let pictures = args.pictures.clone();
        Ok(Self {
            policy: args.policy(),
            runs: if args.time { 3 } else { 1 },
            scores: BTreeMap::new(),
            exits: BTreeMap::new(),
            extraction: Vec::new(),
            dump,
            pictures,
            saved: 0,
        })
    }

    fn pair(&mut self, name: &'static str, truth: Truth, copy: (&Features, &RgbImage), original: &Original) {
        let compare = || compare(copy.0, &original.features, &self.policy);
        let answer = compare();
        let took = fastest(self.runs, || _ = compare());
        self.exits.entry((truth == Truth::Same, exit(&answer))).or_default().push(took);
        let score = self.scores.entry(name).or_default();
        let counts = if truth == Truth::Same { &mut score.same } else { &mut score.different };
        counts[usize::from(answer.is_ok())] += 1;
        if let Some(file) = &mut self.dump {
            let same = u8::from(truth == Truth::Same);
            let line = writeln!(file, "{name};{same};{};{answer:?}", original.path.display());
            line.expect("the dump can be written");
        }
        let wrong = answer.is_ok() != (truth == Truth::Same);
        if let (true, Some(dir)) = (wrong, &self.pictures) {
            let kind = if truth == Truth::Same { "missed" } else { "false" };
            let mut sheet = RgbImage::new(copy.1.width() + original.preview.width() + 4, 460);
            imageops::replace(&mut sheet, copy.1, 0, 0);
            imageops::replace(&mut sheet, &original.preview, i64::from(copy.1.width()) + 4, 0);
            let path = dir.join(format!("{kind}_{name}_{}.png", self.saved));
            sheet.save(&path).expect("the sheet can be saved");
            println!("{}: {} {answer:?}", path.display(), original.path.display());
            self.saved += 1;
        }
    }

    fn print(&self) {
        println!("{:<16}{:>8}{:>8}{:>9}{:>9}{:>7}", "copy", "found", "of", "recall", "rivals", "false");
        for (name, Score { same: [missed, found], different: [refused, wrong] }) in &self.scores {
            let of = missed + found;
            let recall = f64::from(*found) / f64::from(of.max(1));
            println!("{name:<16}{found:>8}{of:>8}{recall:>9.4}{:>9}{wrong:>7}", refused + wrong);
        }
        println!("{:<22}{:>9}{:>10}{:>10}{:>10}", "exit", "pairs", "mean us", "p50 us", "p99 us");
        let rows =
            self.exits.iter().map(|((same, exit), d)| (format!("{} {exit}", ["other", "same"][*same as usize]), d));
        for (name, durations) in rows.chain([("features()".to_owned(), &self.extraction)]) {
            let mut micros: Vec<f64> = durations.iter().map(|d| d.as_secs_f64() * 1e6).collect();
            micros.sort_by(f64::total_cmp);
            let (n, mean) = (micros.len(), micros.iter().sum::<f64>() / micros.len().max(1) as f64);
            let at = |share: f64| micros.get((n as f64 * share) as usize).copied().unwrap_or(0.0);
            println!("{name:<22}{n:>9}{mean:>10.0}{:>10.0}{:>10.0}", at(0.5), at(0.99));
        }
    }
}

fn exit(answer: &Result<Evidence, Refusal>) -> &'static str {
    match answer {
        Ok(_) => "confirmed",
        Err(Refusal::Unaligned { side: 16, .. }) => "unaligned at 16",
        Err(Refusal::Unaligned { side: 32, .. }) => "unaligned at 32",
        Err(Refusal::Unaligned { .. }) => "unaligned at 64+",
        Err(Refusal::Squeezed { .. }) => "squeezed",
        Err(Refusal::TooLittleShared { .. }) => "too little shared",
        Err(Refusal::BlocksDiffer { .. }) => "blocks differ",
        Err(Refusal::ColourDiffers { .. }) => "colour differs",
    }
}
