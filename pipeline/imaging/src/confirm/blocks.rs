//! The proof after the alignment: do the two pictures agree block by block, and in colour?
//!
//! Takes    two pictures and the fitted map. Gives counts of blocks that agree and disagree, and a colour distance.
//! Why      one correlation over the whole picture cannot tell another garment on the same floor from a watermark: the
//!          floor carries it. A watermark spoils a few blocks; another garment spoils all that it covers.
//! Weak at  pictures that differ in less than the tolerated share of blocks, such as the next frame of a still camera.

use super::{
    align::{Sums, View},
    planes::Plane,
    warp::Affine,
};

/// Side of a block in pixels of the finest plane; the longest side holds 16 blocks.
const SIDE: usize = 8;

/// Least part of a block's pixels that must lie in the overlap.
const INSIDE_MIN: f32 = 0.75;

/// Grey levels outside of which a pixel is as good as burnt out or drowned.
const EXPOSED: std::ops::RangeInclusive<f32> = 4.0..=251.0;

/// Limits of the verdict on one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Standard deviation, in grey levels, below which a block is flat.
    pub(super) texture_min: f32,
    /// Correlation from which a textured block agrees.
    pub(super) correlation_min: f32,
    /// Difference of the block's mean, in grey levels after gain and offset, from which a block disagrees.
    pub(super) level_max: f32,
}

/// Gains beyond these limits count as another picture. Chosen, not measured.
const GAIN: std::ops::RangeInclusive<f32> = 0.33..=3.0;

/// Least ratio of the two deviations, after gain, for two textures to be the same. Leaves room for the
/// smoothing of recompression, none for noise beside an edge. Chosen, not measured.
const BALANCE_MIN: f32 = 0.4;

/// Blocks that say something. Flat ones that could be anything are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) agree: u32,
    pub(super) disagree: u32,
    pub(super) light: Light,
}

impl Tally {
    pub(super) fn agreement(self) -> f32 {
        self.agree as f32 / (self.agree + self.disagree).max(1) as f32
    }
}

/// `repeat = gain * original + offset`, in grey levels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Light {
    pub(super) gain: f32,
    pub(super) offset: f32,
}

impl Default for Light {
    fn default() -> Self {
        Self { gain: 1.0, offset: 0.0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    Agrees,
    Disagrees,
    Silent,
}

/// Holds every block of the repeat against the same place of the original.
///
/// Gain and offset are taken from the blocks whose texture agrees, so a watermark or burnt-out parts do not bend them.
pub(super) fn tally(repeat: View<'_>, original: View<'_>, map: Affine, limits: &Limits) -> Tally {
    let blocks = gather(repeat, original, map);
    let mut proven = Sums::default();
    for block in blocks.iter().filter(|b| b.looks_alike(limits)) {
        proven.merge(&block.sums);
    }
    let light = match proven.line() {
        Some((gain, offset)) if GAIN.contains(&gain) => Light { gain, offset },
        _ => return Tally { disagree: blocks.len() as u32, ..Tally::default() },
    };
    let mut tally = Tally { light, ..Tally::default() };
    for block in &blocks {
        match block.opinion(light, limits) {
            Opinion::Agrees => tally.agree += 1,
            Opinion::Disagrees => tally.disagree += 1,
            Opinion::Silent => {}
        }
    }
    tally
}

struct Block {
    /// The repeat, and the original as it is.
    sums: Sums,
    /// Pixels burnt out or drowned in either.
    clipped: f32,
}

/// All blocks that lie in the overlap with most of their pixels.
fn gather(repeat: View<'_>, original: View<'_>, map: Affine) -> Vec<Block> {
    let place = repeat.to_frame.then(map).then(original.to_pixels);
    let (width, height) = (repeat.plane.width as usize, repeat.plane.height as usize);
    let mut blocks = Vec::with_capacity(width * height / (SIDE * SIDE));
    for top in (0..height.saturating_sub(SIDE - 1)).step_by(SIDE) {
        for left in (0..width.saturating_sub(SIDE - 1)).step_by(SIDE) {
            let block = block(repeat.plane, original.plane, place, (left, top));
            if block.sums.count >= INSIDE_MIN * (SIDE * SIDE) as f32 {
                blocks.push(block);
            }
        }
    }
    blocks
}

fn block(repeat: &Plane, original: &Plane, place: Affine, (left, top): (usize, usize)) -> Block {
    let mut block = Block { sums: Sums::default(), clipped: 0.0 };
    for v in top..top + SIDE {
        let start = v * repeat.width as usize + left;
        for (u, target) in repeat.values[start..start + SIDE].iter().enumerate() {
            let (x, y) = place.apply((left + u) as f32, v as f32);
            let Some(cell) = original.cell(x, y) else { continue };
            let value = cell.value();
            if !EXPOSED.contains(target) || !EXPOSED.contains(&value) {
                block.clipped += 1.0;
            }
            block.sums.add(*target, value);
        }
    }
    block
}

impl Block {
    /// Whether it holds texture and the textures go together, whatever the light.
    fn looks_alike(&self, limits: &Limits) -> bool {
        let (a, b) = self.sums.deviations();
        a.max(b) >= limits.texture_min && self.clipped == 0.0 && self.sums.correlation() >= limits.correlation_min
    }

    fn opinion(&self, light: Light, limits: &Limits) -> Opinion {
        let (a, b) = self.sums.means();
        if (a - (light.gain * b + light.offset).clamp(0.0, 255.0)).abs() > limits.level_max {
            return Opinion::Disagrees;
        }
        let (a, b) = self.sums.deviations();
        let b = light.gain * b;
        if a.max(b) < limits.texture_min {
            return Opinion::Silent;
        }
        if a.min(b) >= BALANCE_MIN * a.max(b) && self.sums.correlation() >= limits.correlation_min {
            return Opinion::Agrees;
        }
        // Parts burnt out have lost what they could say.
        if self.clipped > self.sums.count / 4.0 { Opinion::Silent } else { Opinion::Disagrees }
    }
}

/// The two chroma planes of one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chroma<'a> {
    pub(super) blue: &'a Plane,
    pub(super) red: &'a Plane,
    pub(super) to_frame: Affine,
    pub(super) to_pixels: Affine,
}

/// Mean distance of chroma over the overlap, 0 to 255; the smaller of the plain one and the one after the gain,
/// for light scales chroma with luma but a shift of brightness does not.
pub(super) fn colour(repeat: Chroma<'_>, original: Chroma<'_>, map: Affine, gain: f32) -> f32 {
    let place = repeat.to_frame.then(map).then(original.to_pixels);
    let (mut plain, mut scaled, mut count) = (0.0f32, 0.0f32, 0.0f32);
    let width = repeat.blue.width as usize;
    for (i, (blue, red)) in repeat.blue.values.iter().zip(&repeat.red.values).enumerate() {
        let (x, y) = place.apply((i % width) as f32, (i / width) as f32);
        let (Some(b), Some(r)) = (original.blue.cell(x, y), original.red.cell(x, y)) else { continue };
        let (b, r) = (b.value(), r.value());
        plain += (blue - b).hypot(red - r);
        scaled += (blue - gain * b).hypot(red - gain * r);
        count += 1.0;
    }
    if count > 0.0 { plain.min(scaled) / count } else { 255.0 }
}
