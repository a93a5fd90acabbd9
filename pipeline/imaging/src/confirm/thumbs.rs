//! The first look: which way up does one picture lie on the other, and which part of it does it show?
//!
//! Takes    two pictures as tiny squares, of the whole and of some parts. Gives, for each of the eight orientations, how
//!          well they correlate. 104 comparisons of 144 numbers cost less than one step of the alignment.
//! Weak at  pictures whose sides were cut unevenly: they correlate less, not least.

use super::{
    planes::Plane,
    warp::{Affine, Frame},
};

/// Side of a thumbnail. The picture is squeezed into it, whatever its aspect: so a turned picture has a turned one.
pub(super) const SIDE: usize = 12;
const COUNT: usize = SIDE * SIDE;

/// A part of a picture: its share of each side, and where its centre lies, in halves of a side.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    share: f32,
    centre: (f32, f32),
}

/// The whole, its middle, and its corners. Steps of 15 %: the alignment bridges half a step.
const PARTS: [Part; 7] = {
    const fn corner(x: f32, y: f32) -> Part {
        Part { share: 0.82, centre: (0.18 * x, 0.18 * y) }
    }
    [
        Part { share: 1.0, centre: (0.0, 0.0) },
        Part { share: 0.87, centre: (0.0, 0.0) },
        Part { share: 0.76, centre: (0.0, 0.0) },
        corner(-1.0, -1.0),
        corner(1.0, -1.0),
        corner(-1.0, 1.0),
        corner(1.0, 1.0),
    ]
};

type Thumb = [f32; COUNT];

/// One thumbnail for each of [`PARTS`], of mean 0 and norm 1; all 0 where the picture is flat.
#[derive(Clone, Debug)]
pub(super) struct Thumbs([Thumb; PARTS.len()]);

/// One way to lay the repeat over the original.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Start {
    pub(super) correlation: f32,
    mirrored: bool,
    /// Quarter turns, clockwise, after the mirror.
    turns: u8,
    /// Of [`PARTS`], the part of the original that is all of the repeat; else the other way round.
    part: usize,
    of_original: bool,
}

impl Start {
    /// Whether all of one picture lies on all of the other.
    pub(super) fn is_whole(&self) -> bool {
        self.part == 0
    }

    /// The map between the frames of two pictures.
    pub(super) fn map(&self, repeat: Frame, original: Frame) -> Affine {
        let Part { share, centre } = PARTS[self.part];
        let turn = |scale: f32| {
            let scale = scale * (original.area() / repeat.area()).sqrt();
            Affine::similarity(scale, std::f32::consts::FRAC_PI_2 * f32::from(self.turns), self.mirrored)
        };
        let shift = |x: f32, y: f32| Affine([1.0, 0.0, x, 0.0, 1.0, y]);
        match self.of_original {
            true => turn(share).then(shift(centre.0 * original.half_x, centre.1 * original.half_y)),
            false => shift(-centre.0 * repeat.half_x, -centre.1 * repeat.half_y).then(turn(1.0 / share)),
        }
    }
}

impl Thumbs {
    pub(super) fn of(luma: &Plane) -> Self {
        let areas = Areas::of(luma);
        Self(PARTS.map(|part| normal(areas.thumb(part))))
    }

    /// The best start for each orientation, best first.
    pub(super) fn starts(&self, original: &Self) -> [Start; 8] {
        let mut starts = std::array::from_fn(|orientation| {
            let (mirrored, turns) = (orientation >= 4, (orientation % 4) as u8);
            let (there, back) = turned(&self.0[0], &original.0[0], mirrored, turns);
            let mut best = Start { correlation: -1.0, mirrored, turns, part: 0, of_original: true };
            for (part, (theirs, own)) in original.0.iter().zip(&self.0).enumerate() {
                for (correlation, of_original) in [(dot(theirs, &there), true), (dot(own, &back), false)] {
                    if correlation > best.correlation {
                        best = Start { correlation, part, of_original, ..best };
                    }
                }
            }
            best
        });
        starts.sort_by(|a, b| b.correlation.total_cmp(&a.correlation));
        starts
    }
}

/// The repeat's thumbnail laid over the original, and the original's laid over the repeat.
fn turned(repeat: &Thumb, original: &Thumb, mirrored: bool, turns: u8) -> (Thumb, Thumb) {
    let (mut there, mut back) = ([0.0; COUNT], [0.0; COUNT]);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (mut u, mut v) = (if mirrored { SIDE - 1 - x } else { x }, y);
            for _ in 0..turns {
                (u, v) = (SIDE - 1 - v, u);
            }
            there[v * SIDE + u] = repeat[y * SIDE + x];
            back[y * SIDE + x] = original[v * SIDE + u];
        }
    }
    (there, back)
}

fn dot(a: &Thumb, b: &Thumb) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn normal(thumb: Thumb) -> Thumb {
    let mean = thumb.iter().sum::<f32>() / COUNT as f32;
    let thumb = thumb.map(|v| v - mean);
    let norm = dot(&thumb, &thumb).sqrt();
    // Below half a grey level of deviation there is only rounding.
    if norm < 0.5 * SIDE as f32 { [0.0; COUNT] } else { thumb.map(|v| v / norm) }
}

/// Sums of a plane from its upper left corner to each point between its pixels: any part's mean is four of them.
struct Areas {
    width: usize,
    height: usize,
    sums: Vec<f32>,
}

impl Areas {
    fn of(plane: &Plane) -> Self {
        let (width, height) = (plane.width as usize, plane.height as usize);
        let mut sums = vec![0.0; (width + 1) * (height + 1)];
        for y in 0..height {
            let (above, below) = sums[y * (width + 1)..].split_at_mut(width + 1);
            let mut line = 0.0;
            for (x, value) in plane.values[y * width..][..width].iter().enumerate() {
                line += f32::from(*value);
                below[x + 1] = above[x + 1] + line;
            }
        }
        Self { width, height, sums }
    }

    /// The means of [`SIDE`] x [`SIDE`] tiles of a part.
    fn thumb(&self, part: Part) -> Thumb {
        let lines = |side: usize, centre: f32| -> [(usize, f32); SIDE + 1] {
            std::array::from_fn(|i| {
                let share = (1.0 - part.share + centre) / 2.0 + part.share * i as f32 / SIDE as f32;
                let at = (share * side as f32).clamp(0.0, side as f32);
                let before = (at as usize).min(side - 1);
                (before, at - before as f32)
            })
        };
        let (columns, rows) = (lines(self.width, part.centre.0), lines(self.height, part.centre.1));
        let tile = (self.width * self.height) as f32 * part.share.powi(2) / COUNT as f32;
        let mut upper = columns.map(|column| self.up_to(column, rows[0]));
        let mut thumb = [0.0; COUNT];
        for (line, row) in thumb.chunks_exact_mut(SIDE).zip(&rows[1..]) {
            let lower = columns.map(|column| self.up_to(column, *row));
            for (x, value) in line.iter_mut().enumerate() {
                *value = ((lower[x + 1] - lower[x]) - (upper[x + 1] - upper[x])) / tile;
            }
            upper = lower;
        }
        thumb
    }

    /// The sum up to a point among the pixels.
    fn up_to(&self, (column, x): (usize, f32), (row, y): (usize, f32)) -> f32 {
        let (upper, lower) = (row * (self.width + 1) + column, (row + 1) * (self.width + 1) + column);
        let (upper, lower) = (&self.sums[upper..upper + 2], &self.sums[lower..lower + 2]);
        let (above, below) = (upper[0] + (upper[1] - upper[0]) * x, lower[0] + (lower[1] - lower[0]) * x);
        above + (below - above) * y
    }
}

#[cfg(test)]
mod tests {
    use dih_core::image::Thumbnail;

    use super::Thumbs;
    use crate::{
        Preview,
        confirm::{planes::Plane, warp::Frame},
        sample, thumbnail,
    };

    fn of(picture: &Preview) -> Thumbs {
        Thumbs::of(&Plane::square(Thumbnail::SIDE, thumbnail(picture).luma()))
    }

    fn frame(picture: &Preview) -> Frame {
        Frame::of(picture.width, picture.height)
    }

    fn remapped(p: &Preview, width: u32, height: u32, from: impl Fn(u32, u32) -> (u32, u32)) -> Preview {
        let pixels = p.rgb.as_chunks::<3>().0;
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = places.map(|(x, y)| from(x, y)).flat_map(|(x, y)| pixels[(y * p.width + x) as usize]).collect();
        Preview { width, height, rgb }
    }

    #[test]
    fn each_orientation_is_recognised() {
        let p = sample::photo(3, 200, 150);
        for mirrored in [false, true] {
            let mut copy = if mirrored { remapped(&p, 200, 150, |x, y| (199 - x, y)) } else { p.clone() };
            for turns in 0..4 {
                // The original is the repeat, mirrored and then turned.
                let start = of(&p).starts(&of(&copy))[0];
                assert_eq!((start.mirrored, start.turns), (mirrored, turns), "{start:?}");
                assert!(start.correlation > 0.99 && start.is_whole(), "{start:?}");
                copy = remapped(&copy, copy.height, copy.width, |x, y| (y, copy.height - 1 - x));
            }
        }
    }

    #[test]
    fn a_part_is_recognised_from_either_side_and_lies_where_it_was_cut() {
        let p = sample::photo(5, 200, 150);
        for (left, top, share) in [(24, 18, 0.76), (0, 0, 0.82), (36, 0, 0.82), (0, 27, 0.82), (36, 27, 0.82)] {
            let (width, height) = ((200.0 * share) as u32, (150.0 * share) as u32);
            let cut = remapped(&p, width, height, |x, y| (x + left, y + top));
            for (repeat, original, sign) in [(&cut, &p, 1.0), (&p, &cut, -1.0)] {
                let start = of(repeat).starts(&of(original))[0];
                assert!(start.correlation > 0.96, "{start:?}");
                let place = frame(repeat).of_pixels(repeat.width, repeat.height);
                let place = place.then(start.map(frame(repeat), frame(original)));
                let place = place.then(frame(original).to_pixels(original.width, original.height));
                let (x, y) = place.apply(50.0, 40.0);
                let want = (50.0 + sign * left as f32, 40.0 + sign * top as f32);
                assert!((x - want.0).abs() < 2.0 && (y - want.1).abs() < 2.0, "{start:?}: {x}, {y} not {want:?}");
            }
        }
    }
}
