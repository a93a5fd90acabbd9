//! Near fingerprints among millions: multi-index hashing (Norouzi, Punjani and Fleet, *Fast Search in Hamming Space with
//! Multi-Index Hashing*, CVPR 2012).
//!
//! Takes    fingerprints, one after the other. Gives those within a radius of any of some queries; exact.
//! How      a fingerprint is cut into pieces, and pieces have allowances of flipped bits. Of two that differ by at most `r`
//!          bits, one piece at least keeps its allowance if these, and one for each piece, add up to `r + 1`. So only those
//!          are compared that share a piece within its allowance: 17,000 of a million random ones at a radius of 12.
//! Reads    for a try one line of the cache: of each of fifteen fingerprints 32 bits, by which most are told apart, and where
//!          there are more. Only what is near by these is compared whole.
//! Memory   40 to 60 bytes a fingerprint, and 34 MB from [`LONGER_FROM`] on.
//! Weak at  a radius above 16 or so, where as many would be tried as there are: then all are compared.

use std::hint::black_box;

use multiversion::multiversion;

use super::{pages::Lists, table::Row};

/// Bits of the pieces, from the lowest on: more and shorter pieces need fewer tries, of which each finds more.
const PIECES: [&[u32]; 2] = [&[13, 13, 13, 13, 12], &[16; 4]];
/// Fingerprints from which on the pieces are the longer ones.
const LONGER_FROM: usize = 1 << 19;
/// Fingerprints below which all are compared.
const FEW: usize = 1 << 11;
/// Most flipped bits with which a piece is tried.
const FLIPS_MAX: usize = 3;
/// A try takes as long as so many comparisons.
const TRY_COST: usize = 30;

/// Values that are fetched together.
const TOUCHED: usize = 16;
/// Fingerprints in a block, which is a line of the cache and one more: of each the bits that follow the piece; the block that
/// goes on, or 0; the row of each; how many there are.
const BLOCK: usize = 15;
const NEXT: usize = BLOCK;
const ROWS: usize = NEXT + 1;
const LEN: usize = ROWS + BLOCK;

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
    /// The first one of each value in their order, then those that were needed besides.
    blocks: Lists<u32>,
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
            FEW => self.cut(PIECES[0]),
            LONGER_FROM => self.cut(PIECES[1]),
            _ => self.pieces.iter_mut().for_each(|piece| piece.push(row as Row, fingerprint)),
        }
    }

    /// Cuts all fingerprints into such pieces.
    fn cut(&mut self, bits: &[u32]) {
        let shifts = bits.iter().scan(0, |sum, bits| Some(std::mem::replace(sum, *sum + bits)));
        self.pieces = shifts.zip(bits).map(|(shift, bits)| Piece::new(shift, *bits)).collect();
        for piece in &mut self.pieces {
            for (row, fingerprint) in self.fingerprints.iter().enumerate() {
                piece.push(row as Row, *fingerprint);
            }
        }
    }

    /// All within `radius` bits of any query, each once, by row.
    pub(super) fn near(&self, queries: &[u64], radius: u32) -> Vec<Hit> {
        let Some(tried) = self.tried(radius) else { return self.compare_all(queries, radius) };
        let mut hits = Vec::new();
        for (query, wanted) in queries.iter().enumerate() {
            for (piece, flips) in &tried {
                piece.near(*wanted, flips, radius, |row| {
                    let distance = (self.get(row as usize) ^ wanted).count_ones();
                    if distance <= radius {
                        hits.push(Hit { row, distance, query });
                    }
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

    fn compare_all(&self, queries: &[u64], radius: u32) -> Vec<Hit> {
        self.near_among(0..self.fingerprints.len() as Row, queries, radius)
    }

    /// Those of these rows, each once.
    pub(super) fn near_among(&self, rows: impl Iterator<Item = Row>, queries: &[u64], radius: u32) -> Vec<Hit> {
        let mut hits = Vec::new();
        for row in rows {
            let known = self.fingerprints[row as usize];
            let distances = queries.iter().map(|query| (query ^ known).count_ones());
            let distance = distances.clone().min().unwrap_or(u32::MAX);
            if distance <= radius {
                let query = distances.clone().position(|d| d == distance).unwrap_or_default();
                hits.push(Hit { row, distance, query });
            }
        }
        hits
    }
}

impl Piece {
    fn new(shift: u32, bits: u32) -> Self {
        let (flips, counts) = flips(bits);
        let mut blocks = Lists::of(LEN + 1);
        (0..1 << bits).for_each(|_| _ = blocks.push());
        let lasts = (0..1 << bits).collect();
        Self { shift, bits, lasts, blocks, flips, counts }
    }

    fn value(&self, fingerprint: u64) -> usize {
        (fingerprint >> self.shift) as usize & ((1 << self.bits) - 1)
    }

    /// The 32 bits that follow the piece.
    fn rest(&self, fingerprint: u64) -> u32 {
        fingerprint.rotate_right(self.shift + self.bits) as u32
    }

    fn push(&mut self, row: Row, fingerprint: u64) {
        let (value, rest) = (self.value(fingerprint), self.rest(fingerprint));
        let last = self.lasts[value] as usize;
        let block = match self.blocks.get(last)[LEN] as usize {
            BLOCK => {
                let added = self.blocks.len() as u32;
                self.blocks.get_mut(last)[NEXT] = added;
                self.lasts[value] = added;
                self.blocks.push()
            }
            _ => self.blocks.get_mut(last),
        };
        let len = block[LEN] as usize;
        (block[len], block[ROWS + len]) = (rest, row);
        block[LEN] += 1;
    }

    /// Those that may be within the radius, by the bits that are looked at, of those whose piece differs from that of `wanted`
    /// by one of the patterns.
    fn near(&self, wanted: u64, flips: &[u32], radius: u32, mut found: impl FnMut(Row)) {
        let (value, rest) = (self.value(wanted), self.rest(wanted));
        let mut tried = Vec::with_capacity(TOUCHED);
        for flips in flips.chunks(TOUCHED) {
            let flips = flips.iter().filter(|flip| flip.count_ones() <= radius);
            tried.extend(flips.map(|flip| (value ^ *flip as usize, radius - flip.count_ones())));
            while !tried.is_empty() {
                // All are on their way from memory at once, before the first is compared.
                black_box(tried.iter().fold(0, |all, (block, _)| all ^ self.blocks.get(*block)[NEXT]));
                tried.retain_mut(|(at, most)| {
                    let block = self.blocks.get(*at);
                    near_in(block, rest, *most, &mut found);
                    *at = block[NEXT] as usize;
                    *at > 0
                });
            }
        }
    }

    /// The patterns that flip at most so many bits; None where they are too many to be listed.
    fn tried(&self, flips: usize) -> Option<&[u32]> {
        Some(&self.flips[..*self.counts.get(flips)?])
    }
}

/// Those of a block whose other bits differ by at most so many.
fn near_in(block: &[u32], rest: u32, most: u32, found: &mut impl FnMut(Row)) {
    // With the number of the next block, which is no more than a look in vain.
    if block.first_chunk().is_some_and(|line| any_within(line, rest, most)) {
        let all = block.iter().zip(&block[ROWS..]).take(block[LEN] as usize);
        all.filter(|(known, _)| (*known ^ rest).count_ones() <= most).for_each(|(_, row)| found(*row));
    }
}

#[multiversion(targets = "simd")]
fn any_within(line: &[u32; ROWS], wanted: u32, most: u32) -> bool {
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
        for pieces in PIECES {
            let mut bits = Bits::default();
            bits.cut(pieces);
            let parts = bits.pieces.iter().map(|piece| (piece.value(0x0123_4567_89ab_cdef) as u64) << piece.shift);
            assert_eq!(parts.sum::<u64>(), 0x0123_4567_89ab_cdef);
            assert_eq!(pieces.iter().sum::<u32>(), 64);
        }
    }

    #[test]
    fn allowances_add_up_to_the_radius_and_one() {
        for pieces in PIECES.map(<[u32]>::len) {
            for radius in 0..20 {
                let allowances = allowances(radius, pieces).expect("there are pieces");
                let sum: usize = allowances.flatten().map(|allowed| allowed + 1).sum();
                assert_eq!(sum, radius + 1, "{pieces} pieces");
            }
        }
    }

    /// Families of near fingerprints.
    fn families(pieces: &[u32]) -> Bits {
        let mut bits = Bits::default();
        for n in 0..60_000_u64 {
            let flips = (0..n % 13).fold(0, |flips, i| flips ^ 1 << (scatter(n * 16 + i) % 64));
            bits.push(scatter(n / 13) ^ flips);
        }
        bits.cut(pieces);
        bits
    }

    #[test]
    fn what_is_found_by_pieces_is_what_a_comparison_with_all_finds() {
        for bits in PIECES.map(families) {
            let by_pieces = |radius: &u32| bits.tried(*radius).is_some();
            assert!([0, 2, 5, 8, 11, 12].iter().all(by_pieces), "all are compared in any case");
            for radius in [0, 2, 5, 8, 11, 12, 14, 30] {
                for seed in 0..20 {
                    let queries: Vec<u64> = (0..8).map(|i| scatter(seed * 100).rotate_left(8 * i)).collect();
                    let mut all = bits.compare_all(&queries, radius);
                    all.sort_unstable();
                    let found = bits.near(&queries, radius);
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
            assert_eq!(bits.near(&[scatter(n / 2)], 0), [Hit { row: n as Row / 2, distance: 0, query: 0 }]);
        }
    }
}
