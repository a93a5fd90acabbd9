//! Which of many near pictures are worth a proof. Pure.
//!
//! Takes    pictures, nearest first. Gives the nearest few that are earlier, then the nearest few that are later.
//!
//! The two sides do not compete: else a picture that comes late, after a redelivery, would find its elders crowded out
//! by its juniors, and what is published would depend on the order of processing. In a stream that flows in order there
//! are no juniors.

use dih_core::UploadSeq;

/// Near pictures to search for each one that is proven at most, both sides together.
pub const SEARCHED: usize = 4;
/// Juniors at most for each elder.
const LATER: usize = 8;

/// Near pictures of either side of one in the order of uploads.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspects<T> {
    pub earlier: Vec<T>,
    pub later: Vec<T>,
}

/// The nearest `most` that come before `own`, and the nearest of those that come after it.
pub fn of_either_side<T>(
    own: UploadSeq,
    near: impl Iterator<Item = T>,
    order: impl Fn(&T) -> UploadSeq,
    most: usize,
) -> Suspects<T> {
    let (mut earlier, mut later): (Vec<T>, Vec<T>) = near.partition(|n| order(n) < own);
    earlier.truncate(most);
    later.truncate(most * LATER);
    Suspects { earlier, later }
}

impl<T> IntoIterator for Suspects<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::vec::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.earlier.into_iter().chain(self.later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller] // the picture under test has upload 10 and may have two elders
    fn check(near: &[u64], earlier: &[u64], later: &[u64]) {
        let seqs = |of: &[u64]| of.iter().map(|n| UploadSeq(*n)).collect::<Vec<_>>();
        let got = of_either_side(UploadSeq(10), seqs(near).into_iter(), |n| *n, 2);
        let want = Suspects { earlier: seqs(earlier), later: seqs(later) };
        assert_eq!(got, want);
    }

    #[test]
    fn juniors_do_not_crowd_out_elders() {
        check(&[11, 12, 13, 14, 15, 16, 3, 2, 1], &[3, 2], &[11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn of_each_side_the_nearest_come() {
        check(&[5, 11, 9], &[5, 9], &[11]);
        check(&[], &[], &[]);
    }
}
