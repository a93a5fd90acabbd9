//! What a run cost. Pure, but for the decoding that it is held against.
//!
//! Takes    samples of the process while it worked. Gives CPU time a photo, as a ratio to one plain decode of the same
//!          files taken on the same machine, and how memory grew.

use std::{fs, path::Path};

use anyhow::Context;
use dih_imaging::sample;
use dih_inference::{Manifest, Once};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// Uploads answered so far.
    pub answered: u64,
    /// CPU seconds used so far.
    pub cpu: f64,
    /// Bytes in physical memory now (VmRSS).
    pub resident: u64,
    /// Most bytes ever (VmHWM).
    pub peak: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Speed {
    pub photos: u64,
    /// Wall-clock seconds, start of the process included.
    pub seconds: f64,
    pub cores: u64,
    /// CPU milliseconds a photo of the process with all stages.
    pub cpu_ms: f64,
    /// CPU milliseconds a photo of the broker.
    pub broker_cpu_ms: f64,
    /// CPU milliseconds a photo of a process that runs ingest and dedupe only: all before a model is asked.
    pub taking_cpu_ms: f64,
    /// CPU milliseconds to decode one of the same files, in full and once.
    pub decode_cpu_ms: f64,
    /// CPU milliseconds of the model on one of them, by itself in one thread.
    pub inference_cpu_ms: f64,
    /// All stages, as a ratio to the sum of taking and inference.
    pub over_sum: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    pub photos: u64,
    pub peak_mib: f64,
    /// In memory when the 500th photo was answered. None where fewer came.
    pub at_500_mib: Option<f64>,
    /// Most that was in memory after it.
    pub after_500_mib: Option<f64>,
    /// Slope of a straight line through all samples after it, in MiB for 1,000 photos.
    pub growth_mib: Option<f64>,
}

/// Photos after which memory is to be flat.
const WARM: u64 = 500;
const MIB: f64 = 1_048_576.0;

pub fn memory(samples: &[Sample]) -> Memory {
    let mib = |bytes: u64| bytes as f64 / MIB;
    let warm: Vec<&Sample> = samples.iter().filter(|s| s.answered >= WARM && s.resident > 0).collect();
    Memory {
        photos: samples.iter().map(|s| s.answered).max().unwrap_or(0),
        peak_mib: mib(samples.iter().map(|s| s.peak.max(s.resident)).max().unwrap_or(0)),
        at_500_mib: warm.first().map(|s| mib(s.resident)),
        after_500_mib: warm.iter().map(|s| s.resident).max().map(mib),
        growth_mib: slope(warm.iter().map(|s| (s.answered as f64 / 1000.0, mib(s.resident)))),
    }
}

/// Of the least-squares line; None with fewer than two different places.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let n = points.clone().count() as f64;
    let (x, y) = points.clone().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (xy, xx) = points.fold((0.0, 0.0), |(xy, xx), p| (xy + (p.0 - x) * (p.1 - y), xx + (p.0 - x).powi(2)));
    (xx > 0.0).then(|| xy / xx)
}

/// Mean CPU milliseconds to decode one of the files that can be decoded.
pub fn decode_cpu_ms(files: &[impl AsRef<Path>]) -> anyhow::Result<f64> {
    let (mut spent, mut decoded) = (0.0, 0_u32);
    for file in files {
        let file = file.as_ref();
        let bytes = fs::read(file).with_context(|| format!("could not read `{}`", file.display()))?;
        let begun = thread_cpu();
        if image::load_from_memory(&bytes).is_ok() {
            decoded += 1;
            spent += thread_cpu() - begun;
        }
    }
    anyhow::ensure!(decoded > 0, "none of the files could be decoded");
    Ok(1000.0 * spent / f64::from(decoded))
}

/// Mean CPU milliseconds that a model takes for a picture, one after the other in one thread.
pub fn inference_cpu_ms(manifest: &Manifest, config: &dih_inference::Config, photos: usize) -> anyhow::Result<f64> {
    let embedding = manifest.outputs.embedding.as_ref().context("the model gives no embedding")?;
    let mut model = Once::of(manifest, config)?;
    let inputs = (0..photos as u64).map(|seed| sample::photo(seed, 256, 256));
    let inputs = inputs.map(|photo| manifest.prepare(&photo.rgb, photo.width, photo.height));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    model.run(&embedding.name, &inputs[..1])?;
    let begun = thread_cpu();
    for input in &inputs {
        model.run(&embedding.name, std::slice::from_ref(input))?;
    }
    Ok(1000.0 * (thread_cpu() - begun) / photos as f64)
}

/// CPU seconds of this thread.
fn thread_cpu() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(answered: u64, mib: u64) -> Sample {
        Sample { answered, resident: mib << 20, peak: mib << 20, ..Sample::default() }
    }

    #[test]
    fn growth_is_that_after_the_500th_photo() {
        let samples = [sample(0, 100), sample(400, 300), sample(500, 310), sample(1000, 315), sample(1500, 320)];
        let memory = memory(&samples);
        assert_eq!((memory.photos, memory.peak_mib, memory.at_500_mib), (1500, 320.0, Some(310.0)));
        assert!(memory.growth_mib.is_some_and(|g| (g - 10.0).abs() < 1e-6), "{memory:?}");
    }

    #[test]
    fn too_few_photos_have_no_growth() {
        let memory = memory(&[sample(0, 100), sample(400, 300)]);
        assert_eq!((memory.at_500_mib, memory.growth_mib, memory.peak_mib), (None, None, 300.0));
    }
}
