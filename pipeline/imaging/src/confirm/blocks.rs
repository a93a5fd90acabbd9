//! The proof after the alignment: do the two pictures agree block by block, and in colour?
//!
//! Takes    two pictures and the fitted map. Gives counts of blocks that agree and disagree, and a colour distance.
//! Why      one correlation over the whole picture cannot tell another garment on the same floor from a watermark: the
//!          floor carries it. A watermark spoils a few blocks; another garment spoils all that it covers.
//! Weak at  pictures that differ in less than the tolerated share of blocks, such as the next frame of a still camera.

use multiversion::multiversion;

use super::{
    align::{SumLanes, Sums, View},
    planes::{LANES, Plane},
    warp::{Affine, Frame},
};

/// Side of a block in pixels of the finest plane; the longest side holds 16 blocks.
const SIDE: usize = LANES;

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
    /// Of luma, over all blocks that were looked at.
    pub(super) correlation: f32,
    /// Share of the repeat's pixels that lie in the original.
    pub(super) inside: f32,
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

/// Holds the blocks of the repeat against the same place of the original; a third of them first, and the others only
/// when these do not speak clearly against it.
pub(super) fn tally(repeat: View<'_>, original: View<'_>, map: Affine, limits: &Limits) -> Tally {
    let place = repeat.to_frame.then(map).then(original.to_pixels);
    let [few, rest] = places(repeat.plane.width as usize, repeat.plane.height as usize);
    let all = (few.len() + rest.len()) * SIDE * SIDE;
    let mut blocks = Vec::with_capacity(few.len() + rest.len());
    let look = |blocks: &mut Vec<Block>, at: Vec<(usize, usize)>| {
        blocks.extend(at.into_iter().map(|at| block(repeat.plane, original.plane, place, at)));
    };
    look(&mut blocks, few);
    let first = judge(&blocks, all, limits);
    if first.agree + first.disagree >= SAMPLE_MIN && first.agreement() < SAMPLE_AGREEMENT_MIN {
        return first;
    }
    look(&mut blocks, rest);
    judge(&blocks, all, limits)
}

/// Fewest blocks with a say among the first third, and their agreement, below which the others are not asked. Chosen so
/// low that no copy was lost by it.
const SAMPLE_MIN: u32 = 8;
const SAMPLE_AGREEMENT_MIN: f32 = 0.4;

/// Gain and offset are taken from the blocks whose texture agrees, so a watermark or burnt-out parts do not bend them.
fn judge(blocks: &[Block], pixels: usize, limits: &Limits) -> Tally {
    let mut overlap = Sums::default();
    let mut proven = Sums::default();
    for block in blocks {
        overlap.merge(&block.sums);
        if block.is_inside() && block.looks_alike(limits) {
            proven.merge(&block.sums);
        }
    }
    let mut tally =
        Tally { correlation: overlap.correlation(), inside: overlap.count / pixels.max(1) as f32, ..Tally::default() };
    let inside = || blocks.iter().filter(|b| b.is_inside());
    match proven.line() {
        Some((gain, offset)) if GAIN.contains(&gain) => tally.light = Light { gain, offset },
        _ => return Tally { disagree: inside().count() as u32, ..tally },
    }
    for block in inside() {
        match block.opinion(tally.light, limits) {
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

/// Blocks of the repeat by column and row, those of every third diagonal first: they are spread evenly.
fn places(width: usize, height: usize) -> [Vec<(usize, usize)>; 2] {
    let all = (0..height / SIDE).flat_map(|row| (0..width / SIDE).map(move |column| (column, row)));
    let (few, rest) = all.partition(|(column, row)| (column + row) % 3 == 0);
    [few, rest]
}

#[multiversion(targets = "simd")]
fn block(repeat: &Plane, original: &Plane, place: Affine, (column, row): (usize, usize)) -> Block {
    let (left, top) = (column * SIDE, row * SIDE);
    let step = (place.0[0], place.0[3]);
    let (mut lanes, mut clipped) = (SumLanes::default(), [0.0; LANES]);
    for v in top..top + SIDE {
        let line = &repeat.values[v * repeat.width as usize + left..][..SIDE];
        let samples = original.along(place.apply(left as f32, v as f32), step, SIDE);
        let mut target = [0.0; LANES];
        for l in 0..LANES {
            let value = f32::from(line[l]);
            let exposed = EXPOSED.contains(&value) & EXPOSED.contains(&samples.value[l]);
            clipped[l] += if exposed { 0.0 } else { samples.inside[l] };
            target[l] = value - 128.0;
        }
        lanes.add(&target, &samples.value, &samples.inside);
    }
    Block { sums: lanes.total(), clipped: clipped.iter().sum() }
}

impl Block {
    /// Whether most of it lies in the overlap.
    fn is_inside(&self) -> bool {
        self.sums.count >= INSIDE_MIN * (SIDE * SIDE) as f32
    }

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

impl<'a> Chroma<'a> {
    /// Both planes are of one size.
    pub(super) fn of(blue: &'a Plane, red: &'a Plane, frame: Frame) -> Self {
        let View { to_frame, to_pixels, .. } = View::of(blue, frame);
        Self { blue, red, to_frame, to_pixels }
    }
}

/// Mean distance of chroma over the overlap, 0 to 255; the smaller of the plain one and the one after the gain,
/// for light scales chroma with luma but a shift of brightness does not.
#[multiversion(targets = "simd")]
pub(super) fn colour(repeat: Chroma<'_>, original: Chroma<'_>, map: Affine, gain: f32) -> f32 {
    let place = repeat.to_frame.then(map).then(original.to_pixels);
    let (step, width) = ((place.0[0], place.0[3]), repeat.blue.width as usize);
    let (mut plain, mut scaled, mut count) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let lines = repeat.blue.values.chunks_exact(width).zip(repeat.red.values.chunks_exact(width));
    for (v, (blues, reds)) in lines.enumerate() {
        for u in (0..width).step_by(LANES) {
            let (start, lanes) = (place.apply(u as f32, v as f32), (width - u).min(LANES));
            let (blue, red) = (original.blue.along(start, step, lanes), original.red.along(start, step, lanes));
            for l in 0..lanes {
                let (own_blue, own_red) = (f32::from(blues[u + l]) - 128.0, f32::from(reds[u + l]) - 128.0);
                let (b, r) = (blue.value[l] - 128.0, red.value[l] - 128.0);
                let distance = |gain: f32| ((own_blue - gain * b).powi(2) + (own_red - gain * r).powi(2)).sqrt();
                plain[l] += distance(1.0) * blue.inside[l];
                scaled[l] += distance(gain) * blue.inside[l];
                count[l] += blue.inside[l];
            }
        }
    }
    let sum = |lanes: [f32; LANES]| lanes.iter().sum::<f32>();
    if sum(count) > 0.0 { sum(plain).min(sum(scaled)) / sum(count) } else { 255.0 }
}
