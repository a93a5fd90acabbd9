//! Which vectors are worth comparing with one, among millions: those that share a cell with it. Pure.
//!
//! Takes    vectors of length 1 of one space, as they come. Gives, for a vector, the rows of the images that may be near it.
//! How      a vector joins the *cell* whose mean is nearest and that is not full, or starts a cell where it is far from all
//!          (leader clustering, Hartigan, *Clustering Algorithms*, 1975; running means, MacQueen 1967), and visits the next few.
//!          Two meet where one has joined a cell that the other joined or visits. So of two each finds the other, whichever
//!          came first, but for the few between whom a cell was started.
//! Means    are of [`NARROW`] numbers: the vectors without their common part, projected at random (Achlioptas 2003). They are
//!          compared by the signs of [`SIGNS`] numbers (Charikar 2002), the [`RIVALS`] best with their numbers rounded.
//! Memory   16 bytes a vector, 750 a cell; there is one for [`SHARE`] vectors, about.
//! Weak at  low cosines: of neighbours above .7 it misses 1 in 1,000, of those between .5 and .6 half.

use multiversion::multiversion;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    pages::Lists,
    rounded::{Asked, round},
    table::Row,
};

/// Numbers of a mean.
pub(super) const NARROW: usize = 128;
/// Of them, those whose signs are compared.
const SIGNS: usize = u64::BITS as usize;
/// Cells that a vector joins or visits.
const LISTED: usize = 4;
/// Cells whose means are compared by more than signs.
const RIVALS: usize = 512;
/// Cells, about, of which as many may be nearer as of all.
const SAMPLED: usize = 8_192;
/// Means that are fetched together.
const FETCHED: usize = 32;
/// Cells looked at in one go.
const ROW: usize = u64::BITS as usize;
/// Vectors for a cell, about.
const SHARE: f32 = 16.0;
/// Least cosine to a mean to join its cell, while there are as many cells as there should be.
const JOINS: f32 = 0.6;
/// As if there were so many vectors more, so that the first ones start cells of their own.
const AHEAD: f32 = 4_096.0;
/// How much less where there are twice as many, and how much more where there is none.
const JOINS_SWING: f32 = 0.5;
/// Most vectors that join a cell. In a crowd there is more than one.
const FULL: usize = 256;
/// Most that visit one.
const VISITORS: usize = 1_024;
/// Of so many that join, its mean is made; then it stays.
const LEARNS: usize = 32;

/// Most cells in a row that may be missing, because their write failed.
const MISSING: usize = 1_024;

/// A mean, or a vector as means are.
pub(super) type Narrow = [f32; NARROW];

/// What became of a vector.
#[derive(Debug, PartialEq)]
pub(super) struct Placed {
    /// The cell it joined, and those it visits.
    pub(super) cells: Vec<u32>,
    /// Those that are nearest to it, nearest first.
    pub(super) nearest: Vec<u32>,
    /// Whether the sum of the one it joined has changed.
    pub(super) moved: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Cells {
    /// What the vectors have in common; and projected.
    centre: Vec<f32>,
    narrow_centre: Narrow,
    /// Of 1 and -1, one after the other, as many as the centre has.
    directions: Vec<i8>,
    /// By cell: the sum of those that made its mean, its signs, and its mean rounded; who joined, who visits.
    sums: Vec<Narrow>,
    signs: Vec<u64>,
    means: Lists<i8>,
    members: Vec<Vec<Row>>,
    visitors: Vec<Vec<Row>>,
    /// Members of all.
    len: usize,
}

impl Cells {
    /// No cells yet, for vectors around such a centre.
    pub(super) fn around(centre: Vec<f32>) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(NARROW as u64);
        let mut sign = || if random.next_u32() & 1 == 0 { 1 } else { -1 };
        let directions: Vec<i8> = (0..NARROW * centre.len()).map(|_| sign()).collect();
        let narrow_centre = project(&directions, &Asked::of(&centre));
        Self {
            centre,
            narrow_centre,
            directions,
            sums: Vec::new(),
            signs: Vec::new(),
            means: Lists::of(NARROW),
            members: Vec::new(),
            visitors: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Cells.
    pub(super) fn count(&self) -> usize {
        self.sums.len()
    }

    pub(super) fn sum(&self, cell: u32) -> &Narrow {
        &self.sums[cell as usize]
    }

    /// Finds a vector its place. One of an image that has a place already must be taken from it before.
    pub(super) fn put(&mut self, row: Row, unit: &Asked) -> Placed {
        let narrow = self.narrow(unit);
        let nearest = self.nearest(&narrow);
        let joins = |(cosine, cell): &&(f32, u32)| *cosine >= self.bar() && self.members[*cell as usize].len() < FULL;
        let joined = nearest.iter().find(joins).map(|(_, cell)| *cell);
        let mut nearest: Vec<u32> = nearest.into_iter().map(|(_, cell)| cell).collect();
        let (own, moved) = match joined {
            Some(cell) => (cell, self.teach(cell, &narrow)),
            None => {
                let started = self.start(narrow);
                nearest.insert(0, started);
                nearest.truncate(LISTED);
                (started, true)
            }
        };
        let visits = |cell: &u32| *cell != own && self.visitors[*cell as usize].len() < VISITORS;
        let others = nearest.iter().copied().filter(visits);
        let cells: Vec<u32> = std::iter::once(own).chain(others).take(LISTED).collect();
        self.list(row, &cells);
        Placed { cells, nearest, moved }
    }

    /// The cells that are nearest to a vector, nearest first.
    pub(super) fn nearest_of(&self, unit: &Asked) -> Vec<u32> {
        self.nearest(&self.narrow(unit)).into_iter().map(|(_, cell)| cell).collect()
    }

    /// Images that may be near a vector that has such nearest cells, some of them more than once.
    pub(super) fn near(&self, nearest: &[u32]) -> Vec<Row> {
        let members = nearest.iter().flat_map(|cell| &self.members[*cell as usize]);
        let visitors = nearest.iter().take(1).flat_map(|cell| &self.visitors[*cell as usize]);
        members.chain(visitors).copied().collect()
    }

    /// Enters a cell that was there before, after those before it. False where too many of these are missing.
    pub(super) fn restore(&mut self, cell: u32, sum: Narrow) -> bool {
        let reached = self.reach(cell as usize);
        if reached {
            self.start(sum);
        }
        reached
    }

    /// Enters a vector where it was before. False where it was nowhere, or too many cells are missing.
    pub(super) fn relist(&mut self, row: Row, cells: &[u32]) -> bool {
        let known = !cells.is_empty() && cells.iter().all(|cell| self.reach(*cell as usize + 1));
        if known {
            self.list(row, cells);
        }
        known
    }

    /// Makes up for cells that are missing among so many, by some without a mean, which nobody joins.
    fn reach(&mut self, count: usize) -> bool {
        let reached = count <= self.count() + MISSING;
        while reached && self.count() < count {
            self.start([0.0; NARROW]);
        }
        reached
    }

    /// Takes a vector from the cells it is listed in.
    pub(super) fn forget(&mut self, row: Row, cells: &[u32]) {
        for cell in cells {
            self.members[*cell as usize].retain(|member| *member != row);
            self.visitors[*cell as usize].retain(|visitor| *visitor != row);
        }
        self.len -= 1;
    }

    fn list(&mut self, row: Row, cells: &[u32]) {
        if let Some((own, visited)) = cells.split_first() {
            self.members[*own as usize].push(row);
            visited.iter().for_each(|cell| self.visitors[*cell as usize].push(row));
        }
        self.len += 1;
    }

    /// Least cosine to join a cell: the more cells there are, the lower.
    fn bar(&self) -> f32 {
        let share = SHARE * self.count() as f32 / (AHEAD + self.len as f32);
        JOINS + JOINS_SWING * (1.0 - share)
    }

    fn start(&mut self, sum: Narrow) -> u32 {
        self.signs.push(signs(&sum));
        round(&of_length_1(&sum), self.means.push());
        self.sums.push(sum);
        self.members.push(Vec::new());
        self.visitors.push(Vec::new());
        self.count() as u32 - 1
    }

    /// One more joins a cell. Whether its mean moves.
    fn teach(&mut self, cell: u32, narrow: &Narrow) -> bool {
        let cell = cell as usize;
        let learns = self.members[cell].len() < LEARNS;
        if learns {
            let sum = &mut self.sums[cell];
            sum.iter_mut().zip(narrow).for_each(|(sum, number)| *sum += number);
            self.signs[cell] = signs(sum);
            round(&of_length_1(sum), self.means.get_mut(cell));
        }
        learns
    }

    /// Without the centre, projected, of length 1.
    fn narrow(&self, unit: &Asked) -> Narrow {
        let mut narrow = project(&self.directions, unit);
        narrow.iter_mut().zip(&self.narrow_centre).for_each(|(number, centre)| *number -= centre);
        of_length_1(&narrow)
    }

    /// The nearest cells and their cosines, nearest first.
    fn nearest(&self, narrow: &Narrow) -> Vec<(f32, u32)> {
        let distances = distances(&self.signs, signs(narrow));
        let rivals = within(&distances, radius_of(&distances, RIVALS));
        let narrow = Asked::of(narrow);
        let mut nearest = Vec::with_capacity(LISTED + 1);
        for some in rivals.chunks(FETCHED) {
            self.means.fetch(some.iter().copied());
            for cell in some {
                let cosine = narrow.cosine_to(self.means.get(*cell));
                if nearest.len() < LISTED || nearest.last().is_some_and(|(least, _)| cosine > *least) {
                    let place = nearest.partition_point(|(other, _)| *other >= cosine);
                    nearest.insert(place, (cosine, *cell as u32));
                    nearest.truncate(LISTED);
                }
            }
        }
        nearest
    }
}

/// Bits by which each differs.
#[multiversion(targets = "simd")]
fn distances(all: &[u64], wanted: u64) -> Vec<u8> {
    all.iter().map(|signs| (signs ^ wanted).count_ones() as u8).collect()
}

/// The least distance within which there are about so many: of many cells, every so many-th row is asked.
fn radius_of(distances: &[u8], wanted: usize) -> u8 {
    let every = (distances.len() / SAMPLED).max(1);
    let sample = distances.chunks(ROW).step_by(every).collect::<Vec<_>>().concat();
    let wanted = (wanted * sample.len()).div_ceil(distances.len().max(1)).max(1);
    // By halving, which takes half the time of a count of each distance.
    let (mut least, mut most) = (0, SIGNS as u8);
    while least < most {
        let middle = least.midpoint(most);
        match count_within(&sample, middle) < wanted {
            true => least = middle + 1,
            false => most = middle,
        }
    }
    most
}

#[multiversion(targets = "simd")]
fn count_within(distances: &[u8], most: u8) -> usize {
    let mut all = 0;
    for some in distances.chunks(usize::from(u8::MAX)) {
        let mut count = 0;
        for distance in some {
            count += u8::from(*distance <= most);
        }
        all += usize::from(count);
    }
    all
}

/// The places of those within a distance.
#[multiversion(targets = "simd")]
fn within(distances: &[u8], most: u8) -> Vec<usize> {
    let mut places = Vec::with_capacity(2 * RIVALS);
    let (rows, rest) = distances.as_chunks::<ROW>();
    for (row, some) in rows.iter().enumerate() {
        // A bit for each: made in one go, and most have none.
        let mut near = 0_u64;
        for (place, distance) in some.iter().enumerate() {
            near |= u64::from(*distance <= most) << place;
        }
        while near > 0 {
            places.push(row * ROW + near.trailing_zeros() as usize);
            near &= near - 1;
        }
    }
    let before = rows.len() * ROW;
    places.extend((before..distances.len()).filter(|place| rest[place - before] <= most));
    places
}

fn signs(narrow: &Narrow) -> u64 {
    narrow[..SIGNS].iter().fold(0, |signs, number| signs << 1 | u64::from(*number > 0.0))
}

/// Of length 1, but of what has none.
fn of_length_1(narrow: &Narrow) -> Narrow {
    let length = narrow.iter().map(|number| number * number).sum::<f32>().sqrt();
    let scale = if length > 0.0 { length.recip() } else { 0.0 };
    narrow.map(|number| number * scale)
}

fn project(directions: &[i8], vector: &Asked) -> Narrow {
    let mut projected = [0.0; NARROW];
    let numbers = directions.len() / NARROW;
    for (number, direction) in projected.iter_mut().zip(directions.chunks_exact(numbers)) {
        *number = vector.product(direction) * vector.step;
    }
    projected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;

    const NUMBERS: u64 = 96;

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// A vector near those of the same family.
    fn unit(family: u64, n: u64, spread: f32) -> Vec<f32> {
        let number = |n: u64, i: u64| sample::scatter(n * NUMBERS + i) as i32 as f32 / i32::MAX as f32;
        let vector: Vec<f32> =
            (0..NUMBERS).map(|i| 2.0 + number(family, i) + spread * number(1 << 40 | n, i)).collect();
        let scale = dot(&vector, &vector).sqrt().recip();
        vector.iter().map(|number| number * scale).collect()
    }

    fn asked(family: u64, n: u64, spread: f32) -> Asked {
        Asked::of(&unit(family, n, spread))
    }

    fn near(cells: &Cells, vector: &Asked) -> Vec<Row> {
        cells.near(&cells.nearest_of(vector))
    }

    /// So many vectors of families of thirty.
    fn families(vectors: u64) -> (Cells, Vec<Placed>) {
        let mut cells = Cells::around(unit(0, 0, 0.0).iter().map(|_| (NUMBERS as f32).sqrt().recip()).collect());
        let placed = (0..vectors).map(|n| cells.put(n as Row, &asked(n / 30, n, 0.7))).collect();
        (cells, placed)
    }

    #[test]
    fn nearly_all_of_a_family_are_found_and_few_others() {
        const VECTORS: u64 = 6_000;
        let (cells, _) = families(VECTORS);
        let (mut found, mut read) = (0, 0);
        for n in (0..VECTORS).step_by(60) {
            let mut near = near(&cells, &asked(n / 30, 1 << 30 | n, 0.7));
            near.sort_unstable();
            near.dedup();
            read += near.len();
            found += (n..n + 30).filter(|n| near.binary_search(&(*n as Row)).is_ok()).count();
        }
        assert!(found >= 2_910, "{found} of 3,000");
        assert!(read < 40_000, "{read} read for 3,000");
        let share = VECTORS as f32 / cells.count() as f32;
        assert!((8.0..60.0).contains(&share), "{share} vectors for a cell");
    }

    #[test]
    fn of_two_each_finds_the_other() {
        let (mut cells, _) = families(3_000);
        let mut odd = 0;
        for n in 0..100 {
            let [one, other] = [asked(n, 1 << 31 | n, 0.7), asked(n, 1 << 32 | n, 0.7)];
            let [one_row, other_row] = [10_000 + n as Row, 20_000 + n as Row];
            cells.put(one_row, &one);
            cells.put(other_row, &other);
            let finds = |vector: &Asked, row| near(&cells, vector).contains(&row);
            odd += u32::from(finds(&one, other_row) != finds(&other, one_row));
            assert!(finds(&one, one_row) && finds(&other, other_row), "{n}");
        }
        assert!(odd <= 3, "of {odd} pairs only one finds the other");
    }

    /// Else a camera that looks at a wall would make every search a comparison with all its photos.
    #[test]
    fn in_a_crowd_only_some_are_read() {
        let (mut cells, _) = families(3_000);
        for n in 0..20_000 {
            cells.put(100_000 + n as Row, &asked(7, 1 << 33 | n, 0.05));
        }
        let near = near(&cells, &asked(7, 1 << 34, 0.05));
        assert!((100..=5_120).contains(&near.len()), "{} of 20,000", near.len());
    }

    #[test]
    fn what_is_entered_again_finds_the_same() {
        let (cells, placed) = families(2_000);
        let mut again = Cells::around(cells.centre().to_vec());
        (0..cells.count() as u32).for_each(|cell| assert!(again.restore(cell, *cells.sum(cell))));
        for (n, placed) in placed.iter().enumerate() {
            assert!(again.relist(n as Row, &placed.cells), "{n}");
        }
        assert!(!again.relist(1, &[1 << 30]) && !again.relist(1, &[]));
        assert_eq!((&again.members, &again.visitors, again.len), (&cells.members, &cells.visitors, cells.len));
        for n in 0..100 {
            let query = asked(n, 1 << 35 | n, 0.7);
            assert_eq!(near(&again, &query), near(&cells, &query), "{n}");
        }
    }

    #[test]
    fn a_missing_cell_is_one_that_nobody_joins() {
        let (cells, _) = families(2_000);
        let mut again = Cells::around(cells.centre().to_vec());
        for cell in (0..cells.count() as u32).filter(|cell| *cell != 5) {
            assert!(again.restore(cell, *cells.sum(cell)));
        }
        assert_eq!((again.count(), again.sum(6)), (cells.count(), cells.sum(6)));
        assert!(again.relist(1, &[6, cells.count() as u32]), "the last one is missing, too");
        for n in 0..500 {
            again.put(n as Row, &asked(n / 30, n, 0.7));
        }
        assert!(again.members[5].is_empty());
    }

    #[test]
    fn what_was_forgotten_is_not_found() {
        let (mut cells, placed) = families(500);
        let before = cells.len;
        cells.forget(70, &placed[70].cells);
        let mut listed = cells.members.iter().chain(&cells.visitors).flatten();
        assert!(!listed.any(|row| *row == 70));
        assert_eq!(cells.len, before - 1);
    }

    #[test]
    fn a_radius_takes_in_as_many_as_are_wanted() {
        assert_eq!(radius_of(&[5, 9, 9, 20], 1), 5);
        assert_eq!(radius_of(&[5, 9, 9, 20], 2), 9);
        assert_eq!(radius_of(&[5, 9, 9, 20], 4), 20);
        assert_eq!(radius_of(&[5], 2), SIGNS as u8);
        assert_eq!(radius_of(&[0; 1_000], 1_000), 0);
        assert_eq!(radius_of(&[], 1), SIGNS as u8);
    }

    #[test]
    fn of_many_cells_some_tell_the_radius() {
        let distances: Vec<u8> = (0..100_000).map(|n| sample::scatter(n).count_ones() as u8).collect();
        for (wanted, about) in [(512, 400..1_000), (5_000, 4_000..10_000), (50_000, 45_000..60_000)] {
            let found = count_within(&distances, radius_of(&distances, wanted));
            assert!(about.contains(&found), "{found} for {wanted}");
        }
    }

    #[test]
    fn those_within_a_distance_are_listed_in_their_order() {
        let distances: Vec<u8> = (0..1_000).map(|n| (sample::scatter(n) % 65) as u8).collect();
        for most in [0, 20, 64] {
            let want: Vec<usize> = (0..1_000).filter(|place| distances[*place] <= most).collect();
            assert_eq!(within(&distances, most), want);
            assert_eq!(count_within(&distances, most), want.len());
        }
    }

    #[test]
    fn a_vector_that_is_all_centre_has_a_place_too() {
        let centre = unit(1, 1, 0.0);
        let mut cells = Cells::around(centre.clone());
        cells.put(1, &Asked::of(&centre));
        cells.put(2, &asked(2, 2, 0.5));
        assert!(near(&cells, &Asked::of(&centre)).contains(&1));
    }
}
