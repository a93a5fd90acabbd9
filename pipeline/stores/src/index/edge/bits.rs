//! Near fingerprints among millions: multi-index hashing (Norouzi, Punjani and Fleet, *Fast Search in Hamming Space with
//! Multi-Index Hashing*, CVPR 2012).
//!
//! Takes    fingerprints, one after the other. Gives those that any of some queries finds; exact.
//! How      a fingerprint is cut into pieces, and pieces have allowances of flipped bits. Of two that differ by at most `r`
//!          bits, one piece at least keeps its allowance if these, and one for each piece, add up to `r + 1`. So only those
//!          are compared that share a piece within its allowance: 17,000 of a million random ones at a radius of 12.
//! Reads    for a try one line of the cache, or two that follow one another: of each of fifteen fingerprints, or 31, 32 bits, by
//!          which most are told apart, and where there are more. Only what is near by these is compared whole.
//! Memory   40 to 60 bytes a fingerprint, and from [`LONGER_FROM`] on 67 MB, enough for two million.
//! Weak at  a radius above 16 or so, where as many would be tried as there are: then all are compared.

use dih_core::image::{Fingerprint, RangeQuery};
use multiversion::multiversion;

use super::{pages::Lists, table::Row};

/// How fingerprints are cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Of the pieces, from the lowest on: more and shorter pieces need fewer tries, of which each finds more.
    bits: &'static [u32],
    /// Lines of the cache by which those in a block are told apart.
    lines: usize,
}

/// The shorter pieces, and the longer ones. Two lines a try, which lie together, take less time than one and, for every
/// other try, one elsewhere.
const CUTS: [Cut; 2] = [Cut { bits: &[13, 13, 13, 13, 12], lines: 1 }, Cut { bits: &[16; 4], lines: 2 }];
/// Fingerprints from which on the pieces are the longer ones.
const LONGER_FROM: usize = 1 << 19;
/// Fingerprints below which all are compared.
const FEW: usize = 1 << 11;
/// Most flipped bits with which a piece is tried.
const FLIPS_MAX: usize = 3;
/// A try takes as long as so many comparisons.
const TRY_COST: usize = 30;

/// Values that are fetched together.
const FETCHED: usize = 16;
/// Numbers in a line of the cache.
const LINE: usize = 16;

/// A fingerprint within the radius: its row in the table, its distance to the nearest query, and which that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) row: Row,
    pub(super) distance: u32,
    pub(super) query: usize,
}

#[derive(Debug, Default)]
pub(super) struct Bits {
    fingerprints: Vec<u64>,
    /// None while there are few.
    pieces: Vec<Piece>,
}

/// All fingerprints by the value of one piece.
#[derive(Debug)]
struct Piece {
    shift: u32,
    bits: u32,
    /// By value: the block where the last of them is.
    lasts: Vec<u32>,
    /// By block, the first one of each value in their order, then those that were needed besides: of each fingerprint the bits
    /// that follow the piece, and last the block that goes on, or 0.
    rests: Lists<u32>,
    /// By block: the row of each, and last how many there are.
    rows: Lists<u32>,
    /// Fingerprints in a block.
    most: usize,
    /// Patterns of flipped bits, those with the fewest first, and how many of them flip at most 0, 1, … bits.
    flips: Vec<u32>,
    counts: [usize; FLIPS_MAX + 1],
}

impl Bits {
    pub(super) fn get(&self, row: usize) -> u64 {
        self.fingerprints[row]
    }

    pub(super) fn push(&mut self, fingerprint: u64) {
        let row = self.fingerprints.len();
        self.fingerprints.push(fingerprint);
        match row + 1 {
            FEW => self.cut(CUTS[0]),
            LONGER_FROM => self.cut(CUTS[1]),
            _ => self.pieces.iter_mut().for_each(|piece| piece.push(row as Row, fingerprint)),
        }
    }

    /// Cuts all fingerprints anew.
    fn cut(&mut self, Cut { bits, lines }: Cut) {
        let shifts = bits.iter().scan(0, |sum, bits| Some(std::mem::replace(sum, *sum + bits)));
        self.pieces = shifts.zip(bits).map(|(shift, bits)| Piece::new(shift, *bits, lines)).collect();
        for piece in &mut self.pieces {
            for (row, fingerprint) in self.fingerprints.iter().enumerate() {
                piece.push(row as Row, *fingerprint);
            }
        }
    }

    /// All that any query finds, each once, by row.
    pub(super) fn near(&self, queries: &[RangeQuery]) -> Vec<Hit> {
        let tried: Option<Vec<_>> = queries.iter().map(|query| self.tried(query.radius)).collect();
        let Some(tried) = tried else { return self.near_among(0..self.fingerprints.len() as Row, queries) };
        let mut hits = Vec::new();
        for (place, (query, tried)) in queries.iter().zip(tried).enumerate() {
            for (piece, flips) in tried {
                piece.near(*query, flips, |row| {
                    let known = Fingerprint(self.get(row as usize));
                    hits.extend(query.distance(known).map(|distance| Hit { row, distance, query: place }));
                });
            }
        }
        hits.sort_unstable();
        hits.dedup_by_key(|hit| hit.row);
        hits
    }

    /// The patterns with which each piece must be tried. None where it is quicker to compare all.
    fn tried(&self, radius: u32) -> Option<Vec<(&Piece, &[u32])>> {
        let allowances = allowances(radius as usize, self.pieces.len())?;
        let pieces = self.pieces.iter().zip(allowances);
        let tried = pieces.filter_map(|(piece, allowed)| Some(piece.tried(allowed?).map(|flips| (piece, flips))));
        let tried = tried.collect::<Option<Vec<_>>>()?;
        let all = self.fingerprints.len();
        let cost = |(piece, flips): &(&Piece, &[u32])| flips.len() * (TRY_COST + (all >> piece.bits));
        (tried.iter().map(cost).sum::<usize>() < all).then_some(tried)
    }

    /// Those of these rows, each once.
    pub(super) fn near_among(&self, rows: impl Iterator<Item = Row>, queries: &[RangeQuery]) -> Vec<Hit> {
        let mut hits = Vec::new();
        for row in rows {
            let known = Fingerprint(self.get(row as usize));
            let found = queries.iter().enumerate().filter_map(|(query, q)| Some((q.distance(known)?, query)));
            hits.extend(found.min().map(|(distance, query)| Hit { row, distance, query }));
        }
        hits
    }
}

impl Piece {
    fn new(shift: u32, bits: u32, lines: usize) -> Self {
        let (flips, counts) = flips(bits);
        let (rests, rows) = (Lists::of(lines * LINE), Lists::of(lines * LINE));
        let mut piece = Self { shift, bits, lasts: Vec::new(), rests, rows, most: lines * LINE - 1, flips, counts };
        piece.lasts = (0..1 << bits).map(|_| piece.add()).collect();
        piece
    }

    /// One more block.
    fn add(&mut self) -> u32 {
        self.rests.push();
        self.rows.push();
        self.rows.len() as u32 - 1
    }

    fn value(&self, fingerprint: u64) -> usize {
        (fingerprint >> self.shift) as usize & ((1 << self.bits) - 1)
    }

    /// The 32 bits that follow the piece.
    fn rest(&self, fingerprint: u64) -> u32 {
        fingerprint.rotate_right(self.shift + self.bits) as u32
    }

    fn push(&mut self, row: Row, fingerprint: u64) {
        let (value, most) = (self.value(fingerprint), self.most);
        let mut block = self.lasts[value];
        if self.rows.get(block as usize)[most] as usize == most {
            let added = self.add();
            self.rests.get_mut(block as usize)[most] = added;
            (self.lasts[value], block) = (added, added);
        }
        let rest = self.rest(fingerprint);
        let rows = self.rows.get_mut(block as usize);
        let len = rows[most] as usize;
        (rows[len], rows[most]) = (row, len as u32 + 1);
        self.rests.get_mut(block as usize)[len] = rest;
    }

    /// Those that the query may find, by the bits that are looked at, of those whose piece differs from its own by one of the
    /// patterns.
    fn near(&self, query: RangeQuery, flips: &[u32], mut found: impl FnMut(Row)) {
        let (value, rest) = (self.value(query.fingerprint.0), self.rest(query.fingerprint.0));
        let mut tried = Vec::with_capacity(FETCHED);
        for flips in flips.chunks(FETCHED) {
            let flips = flips.iter().filter(|flip| flip.count_ones() <= query.radius);
            tried.extend(flips.map(|flip| (value ^ *flip as usize, query.radius - flip.count_ones())));
            while !tried.is_empty() {
                self.rests.fetch(tried.iter().map(|(block, _)| *block));
                tried.retain_mut(|(at, most)| {
                    self.near_in(*at, rest, *most, &mut found);
                    *at = self.rests.get(*at)[self.most] as usize;
                    *at > 0
                });
            }
        }
    }

    /// Those of a block whose other bits differ by at most so many.
    fn near_in(&self, block: usize, rest: u32, most: u32, found: &mut impl FnMut(Row)) {
        let rests = self.rests.get(block);
        // With the number of the next block, which is no more than a look in vain.
        if rests.as_chunks().0.iter().any(|line| any_within(line, rest, most)) {
            let rows = self.rows.get(block);
            let all = rests.iter().zip(rows).take(rows[self.most] as usize);
            all.filter(|(known, _)| (*known ^ rest).count_ones() <= most).for_each(|(_, row)| found(*row));
        }
    }

    /// The patterns that flip at most so many bits; None where they are too many to be listed.
    fn tried(&self, flips: usize) -> Option<&[u32]> {
        Some(&self.flips[..*self.counts.get(flips)?])
    }
}

#[multiversion(targets = "simd")]
fn any_within(line: &[u32; LINE], wanted: u32, most: u32) -> bool {
    line.iter().fold(false, |any, rest| any | ((rest ^ wanted).count_ones() <= most))
}

/// Bits by which each of so many pieces may differ, so that of two fingerprints within the radius one piece keeps its
/// allowance: else they would differ by the sum of all allowances, and one more for each piece. None: a piece that need
/// not be tried.
fn allowances(radius: usize, pieces: usize) -> Option<impl Iterator<Item = Option<usize>>> {
    let (each, over) = (radius.checked_div(pieces)?, radius % pieces.max(1));
    Some((0..pieces).map(move |piece| if piece <= over { Some(each) } else { each.checked_sub(1) }))
}

/// All patterns of up to [`FLIPS_MAX`] of so many bits, those with the fewest first, and how many flip at most 0, 1, … bits.
fn flips(bits: u32) -> (Vec<u32>, [usize; FLIPS_MAX + 1]) {
    let mut patterns: Vec<u32> =
        (0..1 << bits).filter(|pattern: &u32| pattern.count_ones() as usize <= FLIPS_MAX).collect();
    patterns.sort_by_key(|pattern| pattern.count_ones());
    let counts = std::array::from_fn(|most| patterns.iter().filter(|p| p.count_ones() as usize <= most).count());
    (patterns, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::scatter;

    #[test]
    fn pieces_make_up_the_whole_and_no_two_overlap() {
        for cut in CUTS {
            let mut bits = Bits::default();
            bits.cut(cut);
            let parts = bits.pieces.iter().map(|piece| (piece.value(0x0123_4567_89ab_cdef) as u64) << piece.shift);
            assert_eq!(parts.sum::<u64>(), 0x0123_4567_89ab_cdef);
            assert_eq!(cut.bits.iter().sum::<u32>(), 64);
        }
    }

    #[test]
    fn allowances_add_up_to_the_radius_and_one() {
        for pieces in CUTS.map(|cut| cut.bits.len()) {
            for radius in 0..20 {
                let allowances = allowances(radius, pieces).expect("there are pieces");
                let sum: usize = allowances.flatten().map(|allowed| allowed + 1).sum();
                assert_eq!(sum, radius + 1, "{pieces} pieces");
            }
        }
    }

    /// Families of near fingerprints.
    fn families(cut: Cut) -> Bits {
        let mut bits = Bits::default();
        for n in 0..60_000_u64 {
            let flips = (0..n % 13).fold(0, |flips, i| flips ^ 1 << (scatter(n * 16 + i) % 64));
            bits.push(scatter(n / 13) ^ flips);
        }
        bits.cut(cut);
        bits
    }

    #[test]
    fn what_is_found_by_pieces_is_what_a_comparison_with_all_finds() {
        for bits in CUTS.map(families) {
            let by_pieces = |radius: &u32| bits.tried(*radius).is_some();
            assert!([0, 2, 5, 8, 11, 12].iter().all(by_pieces), "all are compared in any case");
            for radius in [0, 2, 5, 8, 11, 12, 14, 30] {
                for seed in 0..20 {
                    let fingerprint = |i| Fingerprint(scatter(seed * 100).rotate_left(8 * i));
                    let queries = [radius, radius / 2, 1].into_iter().cycle().zip(0_u32..8);
                    let queries = queries.map(|(radius, i)| RangeQuery { fingerprint: fingerprint(i), radius });
                    let queries: Vec<_> = queries.collect();
                    let mut all = bits.near_among(0..60_000, &queries);
                    all.sort_unstable();
                    let found = bits.near(&queries);
                    assert_eq!(found, all, "radius {radius}, seed {seed}");
                    assert!(!found.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_first_ones_are_found_when_there_are_enough_for_pieces() {
        let mut bits = Bits::default();
        for n in 0..3 * FEW as u64 {
            bits.push(scatter(n));
            let query = RangeQuery { fingerprint: Fingerprint(scatter(n / 2)), radius: 0 };
            assert_eq!(bits.near(&[query]), [Hit { row: n as Row / 2, distance: 0, query: 0 }]);
        }
    }
}
