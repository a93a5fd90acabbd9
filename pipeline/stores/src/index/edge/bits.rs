//! Near fingerprints among millions: multi-index hashing (Norouzi, Punjani and Fleet, *Fast Search in Hamming Space with
//! Multi-Index Hashing*, CVPR 2012).
//!
//! Takes    fingerprints, one after the other. Gives those within a radius of any of some queries; exact.
//! How      a fingerprint is cut into three pieces. Two that differ by at most `r` bits differ by at most `r / 3` bits in
//!          one piece at least, so only those are compared that share a piece up to so many bits.
//! Memory   28 to 40 bytes a fingerprint.
//! Weak at  a radius of 12 and more, where all are compared: a piece would have to be tried with 4 flipped bits.

/// Bits of the three pieces, from the lowest on.
const PIECES: [u32; 3] = [21, 21, 22];
/// Most flipped bits with which a piece is tried.
const FLIPS_MAX: u32 = 3;
/// Ends a chain.
const NONE: u32 = u32::MAX;
/// A step from one fingerprint to the next of its chain takes as long as so many comparisons in a row.
const STEP_COST: usize = 5;

/// A fingerprint within the radius: its place, its distance to the nearest query, and which that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) place: u32,
    pub(super) distance: u32,
    pub(super) query: usize,
}

#[derive(Debug)]
pub(super) struct Bits {
    fingerprints: Vec<u64>,
    chains: [Chains; 3],
    /// Patterns of flipped bits of each piece, those with the fewest first.
    flips: [Vec<u32>; 3],
}

/// All places by the value of one piece.
#[derive(Debug, Default)]
struct Chains {
    /// First place by the hash of the value; as many as a power of two.
    heads: Vec<u32>,
    /// The next place of the same hash.
    next: Vec<u32>,
}

impl Default for Bits {
    fn default() -> Self {
        Self { fingerprints: Vec::new(), chains: Default::default(), flips: PIECES.map(flips) }
    }
}

impl Bits {
    pub(super) fn get(&self, place: usize) -> u64 {
        self.fingerprints[place]
    }

    pub(super) fn push(&mut self, fingerprint: u64) {
        self.fingerprints.push(fingerprint);
        for (piece, chains) in self.chains.iter_mut().enumerate() {
            if self.fingerprints.len() > chains.heads.len() {
                let buckets = (2 * chains.heads.len()).max(1 << 10);
                *chains = Chains { heads: vec![NONE; buckets], next: Vec::with_capacity(buckets) };
                self.fingerprints.iter().for_each(|known| chains.push(value(*known, piece)));
            } else {
                chains.push(value(fingerprint, piece));
            }
        }
    }

    /// All within `radius` bits of any query, each once, by place.
    pub(super) fn near(&self, queries: &[u64], radius: u32) -> Vec<Hit> {
        let flips = radius / PIECES.len() as u32;
        let tried: Vec<&[u32]> = self.flips.iter().zip(PIECES).map(|(all, bits)| &all[..count(bits, flips)]).collect();
        let steps: usize = tried.iter().map(|flips| flips.len()).sum();
        if flips > FLIPS_MAX || self.fingerprints.len() < STEP_COST * steps {
            return self.compare_all(queries, radius);
        }
        let mut hits = Vec::new();
        for (query, wanted) in queries.iter().enumerate() {
            for (piece, flips) in tried.iter().enumerate() {
                let value = value(*wanted, piece);
                for place in flips.iter().flat_map(|flip| self.chains[piece].of(value ^ flip)) {
                    let distance = (self.fingerprints[place as usize] ^ wanted).count_ones();
                    if distance <= radius {
                        hits.push(Hit { place, distance, query });
                    }
                }
            }
        }
        hits.sort_unstable();
        hits.dedup_by_key(|hit| hit.place);
        hits
    }

    fn compare_all(&self, queries: &[u64], radius: u32) -> Vec<Hit> {
        let mut hits = Vec::new();
        for (place, known) in self.fingerprints.iter().enumerate() {
            let distances = queries.iter().map(|query| (query ^ known).count_ones());
            let distance = distances.clone().min().unwrap_or(u32::MAX);
            if distance <= radius {
                let query = distances.clone().position(|d| d == distance).unwrap_or_default();
                hits.push(Hit { place: place as u32, distance, query });
            }
        }
        hits
    }
}

impl Chains {
    fn push(&mut self, value: u32) {
        let bucket = self.bucket(value);
        self.next.push(self.heads[bucket]);
        self.heads[bucket] = self.next.len() as u32 - 1;
    }

    /// Fibonacci hashing (Knuth, TAOCP 3, 6.4): the buckets are fewer than the values while there are few fingerprints.
    fn bucket(&self, value: u32) -> usize {
        (value.wrapping_mul(0x9e37_79b1) >> (32 - self.heads.len().ilog2())) as usize
    }

    /// Places whose piece may have this value.
    fn of(&self, value: u32) -> impl Iterator<Item = u32> {
        let first = self.heads[self.bucket(value)];
        std::iter::successors(Some(first), |place| self.next.get(*place as usize).copied()).take_while(|p| *p != NONE)
    }
}

fn value(fingerprint: u64, piece: usize) -> u32 {
    let below: u32 = PIECES[..piece].iter().sum();
    (fingerprint >> below) as u32 & ((1 << PIECES[piece]) - 1)
}

/// All patterns of up to [`FLIPS_MAX`] of so many bits.
fn flips(bits: u32) -> Vec<u32> {
    let mut patterns: Vec<u32> = vec![0];
    for _ in 0..FLIPS_MAX {
        let more = |pattern: u32| (0..bits).map(move |bit| pattern | 1 << bit);
        patterns.extend(patterns.clone().into_iter().flat_map(more));
        patterns.sort_unstable_by_key(|pattern| (pattern.count_ones(), *pattern));
        patterns.dedup();
    }
    patterns
}

/// How many patterns flip at most so many of so many bits.
fn count(bits: u32, flips: u32) -> usize {
    let bits = bits as usize;
    [1, bits, bits * (bits - 1) / 2, bits * (bits - 1) * (bits - 2) / 6].iter().take(flips as usize + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample::scatter;

    #[test]
    fn patterns_are_counted_as_they_are_listed() {
        for bits in PIECES {
            let patterns = flips(bits);
            for most in 0..=FLIPS_MAX {
                let listed = patterns.iter().take_while(|pattern| pattern.count_ones() <= most).count();
                assert_eq!(listed, count(bits, most), "{most} of {bits}");
            }
        }
    }

    #[test]
    fn pieces_make_up_the_whole() {
        let whole = (0..3)
            .rev()
            .fold(0, |whole, piece| whole << PIECES[piece] | u64::from(value(0x0123_4567_89ab_cdef, piece)));
        assert_eq!(whole, 0x0123_4567_89ab_cdef);
    }

    /// Families of near fingerprints, enough of them that pieces are used.
    #[test]
    fn what_is_found_by_pieces_is_what_a_comparison_with_all_finds() {
        let mut bits = Bits::default();
        for n in 0..30_000_u64 {
            let flips = (0..n % 13).fold(0, |flips, i| flips ^ 1 << (scatter(n * 16 + i) % 64));
            bits.push(scatter(n / 13) ^ flips);
        }
        for radius in [0, 2, 5, 8, 11, 14] {
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
