//! The first look, at thumbnails alone: how might one picture lie on the other, if both show the same shot?
//!
//! Takes    two [`Glance`]s, which come from records: no picture is read. Gives the few maps that are worth following.
//! Keeps    nothing; pure and deterministic.

use dih_core::image::{Size, Thumbnail};

use super::{
    Policy, Refusal,
    align::{self, Fit, Freedom, Plan, View},
    blocks::{self, Chroma},
    planes::Plane,
    thumbs::{SIDE, Start, Thumbs},
    warp::{Affine, Frame},
};

const PLAN: Plan = Plan { freedom: Freedom::Similarity, steps_max: 4, stride: 1 };

/// Most starts that are settled, and by how much they may correlate less than the best.
const STARTS_MAX: usize = 3;
const BEHIND_MAX: f32 = 0.2;

/// Most settled guesses that are followed.
const GUESSES_MAX: usize = 2;

/// Correlation from which a start of whole on whole is tried as it is.
const EXACT_START_MIN: f32 = 0.9;

/// How much farther apart than the limit colours may be on so few pixels, which mix what lies side by side.
const COARSE_COLOUR: f32 = 2.0;

/// A thumbnail, made ready to be compared.
#[derive(Clone, Debug)]
pub struct Glance {
    frame: Frame,
    luma: Plane,
    blue: Plane,
    red: Plane,
    thumbs: Thumbs,
}

/// How one picture may lie on another.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where recompressed, resized, brightened, watermarked, mirrored and turned copies lie, as it is.
    pub(super) exact: Option<Affine>,
    /// Best first.
    pub(super) guesses: Vec<Guess>,
    /// What is to be said when none of these leads anywhere.
    pub(super) refusal: Refusal,
}

/// A map, settled on the thumbnails, and how well luma correlates under it there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess {
    pub(super) correlation: f32,
    pub(super) fit: Fit,
}

impl Glance {
    /// `size` is that of the picture, whose aspect the thumbnail lacks.
    pub fn of(thumbnail: &Thumbnail, size: Size) -> Self {
        let luma = Plane::square(Thumbnail::SIDE, thumbnail.luma());
        let [blue, red] = thumbnail.chroma().map(|chroma| Plane::square(Thumbnail::CHROMA_SIDE, chroma));
        Self { frame: Frame::of(size.width, size.height), thumbs: Thumbs::of(&luma), luma, blue, red }
    }

    /// A start as it is.
    fn begin(&self, original: &Self, start: &Start) -> Guess {
        let map = start.map(self.frame, original.frame);
        let moments = align::moments(self.view(), original.view(), map, 1);
        Guess { correlation: moments.correlation(), fit: Fit::start(map, &moments) }
    }

    /// A start, refined.
    fn settle(&self, original: &Self, start: &Start) -> Option<Guess> {
        let (repeat, begun) = (self.view(), self.begin(original, start));
        let fit = align::refine(repeat, original.view(), begun.fit, PLAN)?;
        Some(Guess { correlation: align::moments(repeat, original.view(), fit.map, 1).correlation(), fit })
    }

    fn view(&self) -> View<'_> {
        View::of(&self.luma, self.frame)
    }

    fn chroma(&self) -> Chroma<'_> {
        Chroma::of(&self.blue, &self.red, self.frame)
    }
}

/// What two thumbnails have in common, or why they show different shots: most do.
pub fn look(repeat: &Glance, original: &Glance, policy: &Policy) -> Result<Look, Refusal> {
    let starts = repeat.thumbs.starts(&original.thumbs);
    let best = starts[0];
    let start_min = policy.correlation_start_min.max(best.correlation - BEHIND_MAX);
    let promising = starts.iter().filter(|start| start.correlation >= start_min).take(STARTS_MAX);
    let mut guesses: Vec<Guess> = promising.filter_map(|start| repeat.settle(original, start)).collect();
    guesses.sort_by(|a, b| b.correlation.total_cmp(&a.correlation));
    guesses.truncate(GUESSES_MAX);
    let unaligned = |side: usize, correlation| Refusal::Unaligned { side: side as u32, correlation };
    let mut refusal = match guesses.first() {
        None => unaligned(SIDE, best.correlation),
        Some(guess) => unaligned(Thumbnail::SIDE, guess.correlation),
    };
    let mut has_its_colours = |guess: &Guess| {
        let distance = blocks::colour(repeat.chroma(), original.chroma(), guess.fit.map, guess.fit.gain);
        let has = distance <= COARSE_COLOUR * policy.colour_max;
        if !has {
            refusal = Refusal::ColourDiffers { distance };
        }
        has
    };
    let exact = (best.correlation >= EXACT_START_MIN && best.is_whole()).then(|| repeat.begin(original, &best));
    let exact = exact.filter(&mut has_its_colours).map(|guess| guess.fit.map);
    guesses.retain(|guess| guess.correlation >= policy.correlation_coarse_min && has_its_colours(guess));
    if exact.is_none() && guesses.is_empty() { Err(refusal) } else { Ok(Look { exact, guesses, refusal }) }
}
