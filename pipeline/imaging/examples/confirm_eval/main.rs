//! Scores `confirm` on photos: edited copies of each against their original (recall), and copies and originals against
//! the most similar other originals (false confirmations). Then says what a comparison costs.
//!
//! Usage: `confirm_eval DIR... [--photos N] [--half even|odd] [--loose] [--dump FILE.csv] [--pictures DIR] [--plot FILE.svg]`
//!
//! Every photo below the folders is an original; N of each folder, spread evenly, are copied. `--half` copies only every
//! second photo: thresholds are chosen on `even` and reported on `odd`. `--loose` judges with an all-accepting policy, to
//! see the figures that thresholds are set on. `--pictures` saves each wrong answer side by side, `--plot` draws precision
//! against recall over the share of blocks that must agree.
//! All pictures go the way of an upload: JPEG bytes, `read`, preview. Times are of the CPU, fastest of three.

mod copies;
mod curve;
mod report;

use std::path::{Path, PathBuf};

use dih_core::image::Fingerprints;
use dih_imaging::{
    Limits, Preview,
    confirm::{Described, Policy},
    read,
};
use image::RgbImage;

use copies::{Truth, copies};
use report::Report;

/// Hardest others that each picture is held against, by colour thumbnail and again by fingerprint.
const RIVALS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::read()?;
    let mut report = Report::new(&args)?;
    let (mut originals, mut chosen) = (Vec::<Seen>::new(), Vec::<usize>::new());
    for dir in &args.dirs {
        let mut paths = Vec::new();
        collect(dir, &mut paths)?;
        paths.sort();
        let first = originals.len();
        originals.extend(paths.iter().filter_map(|path| Seen::read(&std::fs::read(path).ok()?, path)));
        let half = (first..originals.len()).filter(|i| args.odd.is_none_or(|odd| (i % 2 == 1) == odd));
        let half: Vec<usize> = half.collect();
        chosen.extend(half.iter().step_by((half.len() / args.photos).max(1)).take(args.photos));
    }
    println!("{} originals, {} of them copied", originals.len(), chosen.len());

    for index in chosen {
        let original = &originals[index];
        let photo = image::open(&original.path)?.to_rgb8();
        let donor = Seen::picture(&originals[(index + 7) % originals.len()]);
        for copy in copies(&photo, &donor, index % 4 >= 2) {
            let Some(seen) = Seen::read(&copy.jpeg, &original.path) else {
                println!("{} of {} is refused", copy.name, original.path.display());
                continue;
            };
            report.preparation(|| drop(Described::of(&seen.preview)));
            report.pair(copy.name, copy.truth, &seen, original);
            if copy.truth == Truth::Same {
                for other in seen.rivals(&originals, index) {
                    report.pair(copy.name, Truth::Different, &seen, &originals[other]);
                }
            }
        }
        for other in original.rivals(&originals, index) {
            report.pair("original", Truth::Different, original, &originals[other]);
        }
    }
    report.print()?;
    Ok(())
}

struct Args {
    dirs: Vec<PathBuf>,
    photos: usize,
    odd: Option<bool>,
    loose: bool,
    dump: Option<PathBuf>,
    pictures: Option<PathBuf>,
    plot: Option<PathBuf>,
}

impl Args {
    fn read() -> Result<Self, String> {
        let mut args = std::env::args().skip(1);
        let mut read =
            Self { dirs: Vec::new(), photos: 300, odd: None, loose: false, dump: None, pictures: None, plot: None };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--photos" => read.photos = value()?.parse::<usize>().map_err(|e| format!("--photos: {e}"))?.max(1),
                "--half" => read.odd = Some(value()? == "odd"),
                "--loose" => read.loose = true,
                "--dump" => read.dump = Some(value()?.into()),
                "--pictures" => read.pictures = Some(value()?.into()),
                "--plot" => read.plot = Some(value()?.into()),
                _ if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
                _ => read.dirs.push(flag.into()),
            }
        }
        if read.dirs.is_empty() { Err("name a folder of photos".into()) } else { Ok(read) }
    }

    fn policy(&self) -> Policy {
        let strict = Policy::default();
        if !self.loose {
            return strict;
        }
        Policy {
            correlation_start_min: 0.0,
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

/// A picture as the pipeline sees it.
struct Seen {
    path: PathBuf,
    preview: Preview,
    described: Described,
    fingerprints: Fingerprints,
    /// 8x8 colours.
    thumb: Vec<u8>,
}

impl Seen {
    /// None where the pipeline would refuse it.
    fn read(bytes: &[u8], path: &Path) -> Option<Self> {
        let read = read(bytes, &Limits::default()).ok()?;
        let preview = Preview::from_jpeg(&read.preview.to_jpeg()).ok()?;
        let picture = RgbImage::from_raw(preview.width, preview.height, preview.rgb.clone())?;
        let thumb = image::imageops::thumbnail(&picture, 8, 8).into_raw();
        let described = Described::of(&preview)?;
        Some(Self { path: path.to_owned(), described, fingerprints: read.fingerprints, thumb, preview })
    }

    fn picture(&self) -> RgbImage {
        RgbImage::from_raw(self.preview.width, self.preview.height, self.preview.rgb.clone()).expect("fits its size")
    }

    /// The others that look most like it.
    fn rivals(&self, originals: &[Self], own: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..originals.len()).filter(|i| *i != own).collect();
        let colour = |i: &usize| -> u32 {
            self.thumb.iter().zip(&originals[*i].thumb).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
        };
        let bits = |i: &usize| {
            let upright = originals[*i].fingerprints.upright();
            self.fingerprints.orientations.iter().map(|turned| turned.distance(upright)).min()
        };
        others.sort_by_cached_key(colour);
        let mut chosen: Vec<usize> = others[..RIVALS.min(others.len())].to_vec();
        others.sort_by_cached_key(bits);
        chosen.extend(others.into_iter().take(RIVALS));
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}
