//! Calibrates the proof of a repeat: edited copies must be proven, look-alikes must not.
//!
//! Takes    previews of different photos. Gives its [`SETTING`], weighed.
//! Weak at  folders with repeats of their own: they count as different photos.

use dih_core::image::Fingerprints;
use dih_imaging::{
    Limits, Preview,
    confirm::{Described, Policy, confirm},
    fingerprint::Grey,
    read,
};
use dih_verify::Bound;
use image::RgbImage;

use super::{choose::Sample, proposal::Setting, weigh};
use crate::{bench::quality::encode, simulate::edit::Edit};

/// The setting that is calibrated.
pub const SETTING: &str = "repeats.confirm.agreement_min";

/// Nearest photos by fingerprint that each is compared with.
const NEAREST: usize = 3;

/// Weighs the threshold on the photos that can be read.
pub fn repeats(photos: &[Vec<u8>], limits: &Limits, policy: &Policy) -> anyhow::Result<Setting> {
    let lenient = Policy { agreement_min: 0.0, ..policy.clone() };
    let previews: Vec<Preview> = photos.iter().filter_map(|bytes| Some(read(bytes, limits).ok()?.preview)).collect();
    let prints: Vec<Fingerprints> = previews.iter().map(|preview| Grey::of(&preview.luma()).fingerprints()).collect();
    let described: Vec<Option<Described>> = previews.iter().map(Described::of).collect();
    // An agreement is what speaks for a repeat; those that do not even align have none.
    let agreement = |one: &Described, other: &Described| {
        let evidence = confirm(one, other, &lenient);
        evidence.map_or(0.0, |e| e.inliers as f32 / (e.matched as f32).max(1.0))
    };
    let mut samples = Vec::new();
    for (n, (preview, own)) in previews.iter().zip(&described).enumerate() {
        let Some(own) = own else { continue };
        for edit in Edit::ALL {
            if let Some(copy) = Described::of(&edited(preview, edit, limits)?) {
                samples.push(Sample { score: agreement(&copy, own), named: true });
            }
        }
        for other in nearest(&prints, n) {
            if let Some(other) = &described[other] {
                samples.push(Sample { score: agreement(own, other), named: false });
            }
        }
    }
    // Named is what agrees more than the threshold.
    Ok(weigh(SETTING, Bound::AtMost, policy.agreement_min, &samples))
}

fn edited(preview: &Preview, edit: Edit, limits: &Limits) -> anyhow::Result<Preview> {
    let picture = RgbImage::from_raw(preview.width, preview.height, preview.rgb.clone());
    let picture = picture.ok_or_else(|| anyhow::anyhow!("a preview lacks pixels"))?;
    let jpeg = encode(&edit.apply(picture), edit.quality())?;
    Ok(read(&jpeg, limits).map_err(|refusal| anyhow::anyhow!("an edited copy could not be read: {refusal}"))?.preview)
}

fn nearest(prints: &[Fingerprints], own: usize) -> Vec<usize> {
    let mut others: Vec<(u32, usize)> = (0..prints.len())
        .filter(|n| *n != own)
        .map(|n| (prints[n].orientations.iter().map(|f| f.distance(prints[own].upright())).min().unwrap_or(64), n))
        .collect();
    others.sort_unstable();
    others.into_iter().take(NEAREST).map(|(_, n)| n).collect()
}
