//! Measures the quality rules on photos that were damaged on purpose.
//!
//! Takes    photos of a labelled folder, and a seed. Gives, for each kind of damage, how well its measurement tells damaged
//!          from untouched (AUROC), and what the rules at hand refuse.
//! How      each photo, as it is and damaged in all ways, goes through the very code of ingest and verify: decoded,
//!          measured, held against the rules. No broker is needed.
//! Weak at  folders whose photos are bad themselves: what is refused of the untouched counts as wrong.

use std::{fs, path::Path, thread};

use anyhow::Context;
use dih_core::image::{Measures, Size};
use dih_imaging::{Limits, read};
use dih_verify::{Bound, Rule, breach, rules};
use image::{ImageEncoder, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};
use serde::Serialize;

use super::{
    Score,
    damage::{DAMAGES, Damage, Question},
};

/// Shortest side that photos are damaged at: the preview shows no more, and larger ones only cost time.
const SIDE: u32 = 400;

/// What is known of a picture after ingest.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub size: Size,
    pub measures: Measures,
}

/// A photo as it is, and after each of [`DAMAGES`].
#[derive(Clone, Debug)]
pub struct Case {
    pub untouched: Measured,
    pub damaged: Vec<Measured>,
}

/// One kind of damage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kind {
    pub damage: &'static str,
    /// What it should be refused for. None: it should pass.
    pub expected: Option<&'static str>,
    pub photos: u64,
    /// Refused for whatever reason.
    pub refused: u64,
    /// Refused for the expected one.
    pub named: u64,
    /// Chance that a damaged photo lies nearer to refusal than an untouched one, by the rules of the expected reason.
    pub auroc: Option<f64>,
    /// Damaged photos against the untouched ones, as many of each.
    pub score: Option<Score>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    pub photos: u64,
    /// Files that could not be read as photos; they are left out.
    pub unread: u64,
    /// Untouched photos that the rules refuse.
    pub refused: u64,
    pub refused_share: Option<f64>,
    /// Of them, by reason.
    pub refused_for: std::collections::BTreeMap<&'static str, u64>,
    pub kinds: Vec<Kind>,
    /// All damage that is to be refused against the untouched, for each question.
    pub questions: Vec<Kind>,
}

/// Measures all photos, on all cores; the second is how many could not be read.
pub fn measure(files: &[impl AsRef<Path> + Sync], limits: &Limits, seed: u64) -> anyhow::Result<(Vec<Case>, u64)> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get());
    let part = files.len().div_ceil(workers).max(1);
    let parts: anyhow::Result<Vec<Vec<Option<Case>>>> = thread::scope(|scope| {
        let spawn = |(n, part): (usize, _)| scope.spawn(move || cases(part, limits, seed.wrapping_add(n as u64)));
        let running: Vec<_> = files.chunks(part).enumerate().map(spawn).collect();
        let ended = running.into_iter().map(|worker| worker.join().expect("damage and measuring do not panic"));
        ended.collect()
    });
    let all: Vec<Option<Case>> = parts?.into_iter().flatten().collect();
    let unread = all.iter().filter(|case| case.is_none()).count() as u64;
    Ok((all.into_iter().flatten().collect(), unread))
}

fn cases(files: &[impl AsRef<Path>], limits: &Limits, seed: u64) -> anyhow::Result<Vec<Option<Case>>> {
    let case = |(n, file): (usize, &_)| {
        let file: &Path = AsRef::as_ref(file);
        let bytes = fs::read(file).with_context(|| format!("could not read `{}`", file.display()))?;
        case(&bytes, limits, seed ^ ((n as u64 + 1) << 20))
    };
    files.iter().enumerate().map(case).collect()
}

/// None where the bytes are no photo.
fn case(bytes: &[u8], limits: &Limits, seed: u64) -> anyhow::Result<Option<Case>> {
    let (Some(untouched), Ok(photo)) = (measured(bytes, limits), image::load_from_memory(bytes)) else {
        return Ok(None);
    };
    let photo = photo.into_rgb8();
    let short = photo.width().min(photo.height()).max(1);
    let photo = match short > SIDE {
        true => {
            let scaled = |side: u32| ((u64::from(side) * u64::from(SIDE)) / u64::from(short)).max(1) as u32;
            image::imageops::resize(&photo, scaled(photo.width()), scaled(photo.height()), FilterType::Triangle)
        }
        false => photo,
    };
    let damaged = |(n, (name, damage, _)): (usize, &(&str, Damage, _))| {
        let jpeg = encode(&damage.apply(&photo, seed.wrapping_add(n as u64)), damage.quality())?;
        measured(&jpeg, limits).with_context(|| format!("a photo with {name} could not be read"))
    };
    let damaged: anyhow::Result<Vec<_>> = DAMAGES.iter().enumerate().map(damaged).collect();
    Ok(Some(Case { untouched, damaged: damaged? }))
}

/// As ingest measures an upload.
pub fn measured(bytes: &[u8], limits: &Limits) -> Option<Measured> {
    let decoded = read(bytes, limits).ok()?;
    Some(Measured { size: decoded.size, measures: decoded.measures })
}

pub fn encode(picture: &RgbImage, quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, quality);
    let (width, height) = picture.dimensions();
    encoder.write_image(picture.as_raw(), width, height, image::ExtendedColorType::Rgb8)?;
    Ok(jpeg)
}

/// Holds all against the rules. Pure.
pub fn score(cases: &[Case], unread: u64, config: &dih_verify::Config) -> Quality {
    let untouched: Vec<Measured> = cases.iter().map(|case| case.untouched).collect();
    let reasons: Vec<_> = untouched.iter().filter_map(|photo| refusal(photo, config)).collect();
    let mut quality =
        Quality { photos: cases.len() as u64, unread, refused: reasons.len() as u64, ..Quality::default() };
    quality.refused_share = (quality.photos > 0).then(|| quality.refused as f64 / quality.photos as f64);
    for reason in reasons {
        *quality.refused_for.entry(reason).or_default() += 1;
    }
    let of = |n: usize| cases.iter().map(move |case| case.damaged[n]);
    for (n, (name, _, question)) in DAMAGES.into_iter().enumerate() {
        quality.kinds.push(kind(name, question, &of(n).collect::<Vec<_>>(), &untouched, config));
    }
    for question in Question::ALL {
        let asked = DAMAGES.iter().enumerate().filter(|(_, (_, _, expected))| *expected == Some(question));
        let damaged: Vec<Measured> = asked.flat_map(|(n, _)| of(n)).collect();
        quality.questions.push(kind("all", Some(question), &damaged, &untouched, config));
    }
    quality
}

fn refusal(photo: &Measured, config: &dih_verify::Config) -> Option<&'static str> {
    breach(photo.size, &photo.measures, config).map(|breach| breach.reason)
}

fn kind(
    damage: &'static str,
    question: Option<Question>,
    damaged: &[Measured],
    untouched: &[Measured],
    config: &dih_verify::Config,
) -> Kind {
    let expected = question.map(Question::reason);
    let refused = |photos: &[Measured], reason: Option<&str>| {
        let fits = |said: &str| reason.is_none_or(|reason| said == reason);
        photos.iter().filter_map(|photo| refusal(photo, config)).filter(|said| fits(said)).count() as u64
    };
    let photos = damaged.len() as u64;
    // As many untouched as damaged photos, so that precision does not depend on how many kinds there are.
    let score = expected.map(|_| Score {
        hits: refused(damaged, None),
        false_alarms: refused(untouched, None) * photos / (untouched.len() as u64).max(1),
        misses: photos - refused(damaged, None),
    });
    let excess = |photos: &[Measured], reason| -> Vec<f64> {
        photos.iter().map(|photo| excess(photo, reason, config)).collect()
    };
    Kind {
        damage,
        expected,
        photos,
        refused: refused(damaged, None),
        named: if expected.is_some() { refused(damaged, expected) } else { 0 },
        auroc: expected.and_then(|reason| auroc(&excess(damaged, reason), &excess(untouched, reason))),
        score,
        precision: score.and_then(Score::precision),
        recall: score.and_then(Score::recall),
        f1: score.and_then(Score::f1),
    }
}

/// How far a photo lies beyond the nearest threshold of a reason, as a share of it; below 0 it keeps the rule.
fn excess(photo: &Measured, reason: &str, config: &dih_verify::Config) -> f64 {
    let beyond = |rule: &Rule| {
        let (score, threshold) = (f64::from(rule.score?), f64::from(rule.threshold));
        match rule.bound {
            Bound::AtLeast if threshold > 0.0 => Some(1.0 - score / threshold),
            Bound::AtMost if threshold < 1.0 => Some(score / threshold.max(1e-9) - 1.0),
            _ => None,
        }
    };
    let rules = rules(photo.size, &photo.measures, config);
    rules.iter().filter(|rule| rule.reason == reason).filter_map(beyond).fold(f64::NEG_INFINITY, f64::max)
}

/// Area under the curve of hits over false alarms: the chance that a positive lies above a negative, ties half.
fn auroc(positives: &[f64], negatives: &[f64]) -> Option<f64> {
    let mut all: Vec<(f64, bool)> = positives.iter().map(|v| (*v, true)).collect();
    all.extend(negatives.iter().map(|v| (*v, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut sum) = (0.0, 0.0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let positive = equal.iter().filter(|(_, positive)| *positive).count() as f64;
        let negative = equal.len() as f64 - positive;
        sum += positive * (below + negative / 2.0);
        below += negative;
    }
    let pairs = positives.len() as f64 * negatives.len() as f64;
    (pairs > 0.0).then(|| sum / pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_one_when_all_lie_above_and_a_half_when_none_can_be_told() {
        assert_eq!(auroc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auroc(&[0.0, 1.0], &[2.0, 3.0]), Some(0.0));
        assert_eq!(auroc(&[1.0, 1.0], &[1.0]), Some(0.5));
        assert_eq!(auroc(&[], &[1.0]), None);
    }

    #[test]
    fn a_sharp_photo_passes_and_its_damaged_copies_are_refused_for_what_was_done() {
        let jpeg = dih_imaging::sample::jpeg(5, 400, 300, 92);
        let case = case(&jpeg, &Limits::default(), 1).expect("encodes").expect("a photo");
        let quality = score(&[case], 0, &dih_verify::Config::default());
        assert_eq!((quality.photos, quality.refused), (1, 0), "{quality:?}");
        for kind in
            quality.kinds.iter().filter(|kind| ["focus 2.5 %", "-5 stops", "fog", "flat"].contains(&kind.damage))
        {
            assert_eq!((kind.named, kind.auroc), (1, Some(1.0)), "{kind:?}");
        }
    }
}
