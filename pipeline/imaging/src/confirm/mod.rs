//! Confirm: do two previews show the *same shot*, or only similar things?
//!
//! Takes    the [`Features`] of two pictures and a [`Policy`]. Gives [`Evidence`], or the [`Refusal`] that says why not.
//! Method   dense. The two are laid over each other in eight orientations (four turns, plain and mirrored); the best are
//!          tried as they are, then aligned coarse to fine. What aligns must agree block by block and in colour. No
//!          keypoints are needed, so plain cloth on a plain floor can be decided too.
//! Keeps    nothing; pure and deterministic.
//! Weak at  turns of 10 degrees and more off a quarter (some are missed), crops below half the area, a strong watermark on
//!          a plain picture, and pictures almost without texture: these are refused, so they stay two pictures. The next
//!          frame of a still camera is the same shot to it.

mod align;
mod blocks;
mod planes;
mod policy;
mod warp;

use std::f32::consts::FRAC_PI_2;

use dih_core::repeat::Evidence;

use align::{Fit, Freedom, Plan, View};
use warp::Affine;

pub use planes::{Features, Pixels, features};
pub use policy::Policy;

/// The work on each of [`planes::SIDES`], finest first. The stride keeps the finest level as cheap as the second.
const PLANS: [Plan; 4] = [
    Plan { freedom: Freedom::Affine, steps_max: 3, stride: 2 },
    Plan { freedom: Freedom::Affine, steps_max: 6, stride: 1 },
    Plan { freedom: Freedom::Similarity, steps_max: 8, stride: 1 },
    Plan { freedom: Freedom::Similarity, steps_max: 10, stride: 1 },
];

/// The level that guesses are settled on, and the one whose correlation becomes evidence.
const COARSEST: usize = planes::SIDES.len() - 1;
const EVIDENCE: usize = 1;

/// Most first guesses that are tried as they are, and that are followed beyond the coarsest level.
const EXACT_MAX: usize = 2;
const GUESSES_MAX: usize = 3;

/// Correlation below which a first guess is not even settled. It only saves work. Chosen low, not measured.
const START_MIN: f32 = 0.1;

/// Share of agreeing blocks from which a guess is taken as exact, and refining it is idle. Chosen, not measured.
const EXACT_MIN: f32 = 0.95;

/// Why two pictures are not taken for the same shot. Ordered by how far they came.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Refusal {
    /// Nothing aligns: the best correlation found, and the longest side in pixels of the planes it was found on.
    Unaligned { side: u32, correlation: f32 },
    /// The map squeezes by more than a copy would.
    Squeezed { stretch: f32 },
    /// The smaller shows too small a part of the larger.
    TooLittleShared { shared: f32 },
    /// Too few blocks hold texture to prove anything, or too many differ.
    BlocksDiffer { agree: u32, disagree: u32 },
    /// The same drawing in other colours.
    ColourDiffers { distance: f32 },
}

/// Evidence that both show the same shot; None when they do not, or when it cannot be proved.
///
/// `inliers` and `matched` count blocks: those that agree, and those with enough texture to have a say.
pub fn confirm(repeat: &Features, original: &Features, policy: &Policy) -> Option<Evidence> {
    compare(repeat, original, policy).ok()
}

/// As [`confirm`], and says why not.
pub fn compare(repeat: &Features, original: &Features, policy: &Policy) -> Result<Evidence, Refusal> {
    let pair = Pair { repeat, original, policy };
    let starts = pair.starts();
    let best = starts.first().map_or(0.0, |start| start.correlation);
    let mut answer = Err(Refusal::Unaligned { side: planes::SIDES[COARSEST], correlation: best });

    // Recompressed, resized, brightened, watermarked, mirrored and turned copies lie exactly on one of the starts.
    let worth = |guess: &&Guess| guess.correlation >= policy.correlation_coarse_min;
    for start in starts.iter().filter(worth).take(EXACT_MAX) {
        answer = better(answer, pair.judge(start.fit.map));
        if answer.is_ok_and(|evidence| agreement(&evidence) >= EXACT_MIN) {
            return answer;
        }
    }
    for guess in pair.settle(&starts).iter().filter(worth).take(GUESSES_MAX) {
        answer = better(answer, pair.follow(guess.fit));
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

/// A map and how well luma correlates under it on the coarsest planes.
#[derive(Clone, Copy, Debug)]
struct Guess {
    correlation: f32,
    fit: Fit,
}

impl Guess {
    fn sort(guesses: &mut [Self]) {
        guesses.sort_by(|a, b| b.correlation.total_cmp(&a.correlation));
    }
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

    /// The eight orientations, laid over each other as a whole; best correlation first.
    fn starts(&self) -> Vec<Guess> {
        let (repeat, original) = self.views(COARSEST);
        let scale = (self.original.frame.area() / self.repeat.frame.area()).sqrt();
        let maps = [false, true].into_iter().flat_map(|mirrored| {
            (0..4).map(move |turns| Affine::similarity(scale, FRAC_PI_2 * turns as f32, mirrored))
        });
        let lay = |map| {
            let moments = align::moments(repeat, original, map);
            Guess { correlation: moments.correlation(), fit: Fit::start(map, &moments) }
        };
        let mut starts: Vec<_> = maps.map(lay).collect();
        Guess::sort(&mut starts);
        starts
    }

    /// The starts, each refined on the coarsest planes; best correlation first.
    fn settle(&self, starts: &[Guess]) -> Vec<Guess> {
        let (repeat, original) = self.views(COARSEST);
        let promising = starts.iter().filter(|start| start.correlation >= START_MIN);
        let settle = |start: &Guess| {
            let fit = align::refine(repeat, original, start.fit, PLANS[COARSEST])?;
            Some(Guess { correlation: align::moments(repeat, original, fit.map).correlation(), fit })
        };
        let mut guesses: Vec<_> = promising.filter_map(settle).collect();
        Guess::sort(&mut guesses);
        guesses
    }

    /// Refines one guess down to the finest planes, and judges the result.
    fn follow(&self, mut fit: Fit) -> Result<Evidence, Refusal> {
        for level in (0..COARSEST).rev() {
            let (repeat, original) = self.views(level);
            let unaligned = |correlation| Refusal::Unaligned { side: planes::SIDES[level], correlation };
            fit = align::refine(repeat, original, fit, PLANS[level]).ok_or(unaligned(0.0))?;
            if level > 0 {
                let correlation = align::moments(repeat, original, fit.map).correlation();
                if correlation < self.policy.correlation_min {
                    return Err(unaligned(correlation));
                }
            }
        }
        self.judge(fit.map)
    }

    /// Holds a map against the policy.
    fn judge(&self, map: Affine) -> Result<Evidence, Refusal> {
        let policy = self.policy;
        let stretch = map.stretch();
        if stretch > policy.stretch_max {
            return Err(Refusal::Squeezed { stretch });
        }
        let (repeat, original) = self.views(EVIDENCE);
        let moments = align::moments(repeat, original, map);
        let (overlap, shared) = self.overlap(map, moments.count / repeat.plane.values.len() as f32);
        if shared < policy.shared_min {
            return Err(Refusal::TooLittleShared { shared });
        }
        let (repeat, original) = self.views(0);
        let tally = blocks::tally(repeat, original, map, &policy.limits());
        if tally.agree < policy.blocks_min || tally.agreement() < policy.agreement_min {
            return Err(Refusal::BlocksDiffer { agree: tally.agree, disagree: tally.disagree });
        }
        let colour = blocks::colour(self.repeat.chroma(), self.original.chroma(), map, tally.light.gain);
        if colour > policy.colour_max {
            return Err(Refusal::ColourDiffers { distance: colour });
        }
        let (transform, mirrored) = self.in_pixels(map);
        let matched = tally.agree + tally.disagree;
        let correlation = moments.correlation();
        Ok(Evidence { transform, mirrored, inliers: tally.agree, matched, overlap, correlation, colour })
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
