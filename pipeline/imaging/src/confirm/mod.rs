//! Confirm: do two previews show the *same shot*, or only similar things?
//!
//! Takes    thumbnails of two pictures ([`look`]), then, of the few that might, their [`Features`] ([`prove`]), and a
//!          [`Policy`]. Gives [`Evidence`], or the [`Refusal`] that says why not.
//! Method   dense. Thumbnails say which of eight orientations (four turns, plain and mirrored) and which scale to begin
//!          with; the best start is tried as it is, then the best few are aligned coarse to fine. What aligns must agree
//!          block by block and in colour. No keypoints are needed, so plain cloth on a plain floor can be decided too.
//! Cost     grows with how alike the two are: nearly all that differ are refused by their thumbnails, 16 pixels a side.
//! Keeps    nothing; pure and deterministic.
//! Weak at  turns of 10 degrees and more off a quarter (some are missed), crops below half the area, a strong watermark on
//!          a plain picture, and pictures almost without texture: these are refused, so they stay two pictures. The next
//!          frame of a still camera is the same shot to it.

mod align;
mod blocks;
mod glance;
mod planes;
mod policy;
mod thumbs;
mod warp;

use dih_core::repeat::Evidence;

use align::{Fit, Freedom, Plan, View};
use blocks::Tally;
use glance::Guess;
use warp::Affine;

use crate::{Preview, thumbnail};

pub use glance::{Glance, Look, look};
pub use planes::{Features, Pixels, features};
pub use policy::Policy;

/// The work on each of [`planes::SIDES`], finest first. The strides keep every level about as cheap as the last.
const PLANS: [Plan; 3] = [
    Plan { freedom: Freedom::Affine, steps_max: 3, stride: 3 },
    Plan { freedom: Freedom::Affine, steps_max: 4, stride: 2 },
    Plan { freedom: Freedom::Similarity, steps_max: 4, stride: 1 },
];

/// The level that is refined first.
const COARSEST: usize = PLANS.len() - 1;

/// Share of agreeing blocks from which a start is taken as exact, and refining it is idle. Chosen, not measured.
const EXACT_MIN: f32 = 0.95;

/// Share of agreeing blocks below which colours must be twice as near: a watermark spoils blocks and leaves the colours,
/// another garment on the same floor spoils both. Chosen on every second photo of the evaluation.
const PLAIN_MIN: f32 = 0.8;

/// How much farther apart than the limit colours may be while the map is still rough.
const ROUGH_COLOUR: f32 = 1.25;

/// By how much the share of agreeing blocks may lie below the limit once the map is refined on the coarsest planes. Of 1,151
/// copies of the evaluation none was more than .07 below it, and of those that differ and came so far 90 in 100 are.
const ROUGH_AGREEMENT: f32 = 0.35;

/// Why two pictures are not taken for the same shot. Ordered by how far they came.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Refusal {
    /// Nothing aligns: the best correlation found, and the longest side in pixels of the planes it was found on.
    Unaligned { side: u32, correlation: f32 },
    /// The map squeezes by more than a copy would.
    Squeezed { stretch: f32 },
    /// Too few blocks hold texture to prove anything, or too many differ.
    BlocksDiffer { agree: u32, disagree: u32 },
    /// The smaller shows too small a part of the larger.
    TooLittleShared { shared: f32 },
    /// The same drawing in other colours.
    ColourDiffers { distance: f32 },
}

/// All that two pictures are compared by.
#[derive(Clone, Debug)]
pub struct Described {
    pub glance: Glance,
    pub features: Features,
}

impl Described {
    /// None when the preview is no picture.
    pub fn of(preview: &Preview) -> Option<Self> {
        let features = features(Pixels::new(preview.width, preview.height, &preview.rgb)?);
        Some(Self { glance: Glance::of(&thumbnail(preview), preview.size()), features })
    }
}

/// Evidence that both show the same shot; None when they do not, or when it cannot be proved.
pub fn confirm(repeat: &Described, original: &Described, policy: &Policy) -> Option<Evidence> {
    compare(repeat, original, policy).ok()
}

/// As [`confirm`], and says why not.
pub fn compare(repeat: &Described, original: &Described, policy: &Policy) -> Result<Evidence, Refusal> {
    let look = look(&repeat.glance, &original.glance, policy)?;
    prove(&look, &repeat.features, &original.features, policy)
}

/// Proves on the pixels what thumbnails promised.
///
/// `inliers` and `matched` count blocks: those that agree, and those with enough texture to have a say.
pub fn prove(look: &Look, repeat: &Features, original: &Features, policy: &Policy) -> Result<Evidence, Refusal> {
    let pair = Pair { repeat, original, policy };
    let mut answer = Err(look.refusal);
    if let Some(map) = look.exact {
        answer = better(answer, pair.judge(map));
        if answer.is_ok_and(|evidence| agreement(&evidence) >= EXACT_MIN) {
            return answer;
        }
    }
    for guess in &look.guesses {
        answer = better(answer, pair.follow(guess));
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// Evidence before refusals, more agreement before less, and of refusals the one that came farther.
fn better(old: Result<Evidence, Refusal>, new: Result<Evidence, Refusal>) -> Result<Evidence, Refusal> {
    let improves = match (&old, &new) {
        (Ok(old), Ok(new)) => agreement(new) > agreement(old),
        (Err(old), Err(new)) => new > old,
        (old, _) => old.is_err(),
    };
    if improves { new } else { old }
}

fn agreement(evidence: &Evidence) -> f32 {
    evidence.inliers as f32 / evidence.matched.max(1) as f32
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    repeat: &'a Features,
    original: &'a Features,
    policy: &'a Policy,
}

impl Pair<'_> {
    fn views(&self, level: usize) -> (View<'_>, View<'_>) {
        (self.repeat.view(level), self.original.view(level))
    }

    /// Refines one guess down to the finest planes, and judges the result. What is cheap to refuse goes first.
    fn follow(&self, guess: &Guess) -> Result<Evidence, Refusal> {
        let policy = self.policy;
        let mut fit = guess.fit;
        let colour = blocks::colour(self.repeat.chroma(), self.original.chroma(), fit.map, fit.gain);
        if colour > ROUGH_COLOUR * policy.colour_max {
            return Err(Refusal::ColourDiffers { distance: colour });
        }
        fit = self.refine(COARSEST, fit)?;
        self.correlates(COARSEST, fit.map)?;
        self.agrees(fit.map, policy.agreement_min - ROUGH_AGREEMENT)?;
        for level in (1..COARSEST).rev() {
            fit = self.refine(level, fit)?;
            self.correlates(level, fit.map)?;
        }
        self.judge(self.refine(0, fit)?.map)
    }

    fn refine(&self, level: usize, fit: Fit) -> Result<Fit, Refusal> {
        let (repeat, original) = self.views(level);
        let left = Refusal::Unaligned { side: planes::SIDES[level], correlation: 0.0 };
        align::refine(repeat, original, fit, PLANS[level]).ok_or(left)
    }

    fn correlates(&self, level: usize, map: Affine) -> Result<(), Refusal> {
        let (repeat, original) = self.views(level);
        let correlation = align::moments(repeat, original, map, PLANS[level].stride).correlation();
        let refusal = Refusal::Unaligned { side: planes::SIDES[level], correlation };
        if correlation < self.policy.correlation_min { Err(refusal) } else { Ok(()) }
    }

    /// Block by block, on the finest planes.
    fn agrees(&self, map: Affine, least: f32) -> Result<Tally, Refusal> {
        let (repeat, original) = self.views(0);
        let tally = blocks::tally(repeat, original, map, &self.policy.limits());
        let refusal = Refusal::BlocksDiffer { agree: tally.agree, disagree: tally.disagree };
        if tally.agreement() < least { Err(refusal) } else { Ok(tally) }
    }

    /// Holds a map against the policy.
    fn judge(&self, map: Affine) -> Result<Evidence, Refusal> {
        let policy = self.policy;
        let stretch = map.stretch();
        if stretch > policy.stretch_max {
            return Err(Refusal::Squeezed { stretch });
        }
        let tally = self.agrees(map, policy.agreement_min)?;
        if tally.agree < policy.blocks_min {
            return Err(Refusal::BlocksDiffer { agree: tally.agree, disagree: tally.disagree });
        }
        let (overlap, shared) = self.overlap(map, tally.inside);
        if shared < policy.shared_min {
            return Err(Refusal::TooLittleShared { shared });
        }
        let colour = blocks::colour(self.repeat.chroma(), self.original.chroma(), map, tally.light.gain);
        let colour_max = if tally.agreement() < PLAIN_MIN { policy.colour_max / 2.0 } else { policy.colour_max };
        if colour > colour_max {
            return Err(Refusal::ColourDiffers { distance: colour });
        }
        let (transform, mirrored) = self.in_pixels(map);
        let (inliers, matched) = (tally.agree, tally.agree + tally.disagree);
        Ok(Evidence { transform, mirrored, inliers, matched, overlap, correlation: tally.correlation, colour })
    }

    /// What both show, as shares of the smaller and of the larger of the two; `inside` is the share of the repeat.
    fn overlap(&self, map: Affine, inside: f32) -> (f32, f32) {
        let of_repeat = self.repeat.frame.area();
        let of_original = self.original.frame.area() / map.determinant().abs();
        let both = inside * of_repeat;
        ((both / of_repeat.min(of_original)).min(1.0), (both / of_repeat.max(of_original)).min(1.0))
    }

    /// The map between pixel indices of the two previews, after a mirror of the repeat if it mirrors.
    fn in_pixels(&self, map: Affine) -> ([f32; 6], bool) {
        let (repeat, original) = (self.repeat, self.original);
        let mirrored = map.determinant() < 0.0;
        let mirror = Affine([-1.0, 0.0, repeat.width as f32 - 1.0, 0.0, 1.0, 0.0]);
        let first = if mirrored { mirror } else { Affine([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]) };
        let map = first
            .then(repeat.frame.of_pixels(repeat.width, repeat.height))
            .then(map)
            .then(original.frame.to_pixels(original.width, original.height));
        (map.0, mirrored)
    }
}

#[cfg(test)]
mod tests;
