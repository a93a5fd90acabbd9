//! Repeats: who yields to whom, decided the same way after the fingerprint and after the vector.
//!
//! The published set is the *greedy* one: walk the uploads in order; a picture stays unless it repeats an earlier one
//! that stays. That set does not depend on the order in which messages are processed, because whoever is processed
//! later repairs what was decided without it: see [`settle`].

use serde::{Deserialize, Serialize};

use crate::{ImageId, UploadSeq};

/// How a repeat was confirmed on the pixels of the two previews.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Affine map from the repeat's preview to the original's, in pixels: `x' = a x + b y + c`, `y' = d x + e y + f`,
    /// stored as `[a, b, c, d, e, f]`; applied after the mirror, if any.
    pub transform: [f32; 6],
    /// Whether the repeat was mirrored left-right before `transform`.
    pub mirrored: bool,
    /// Blocks of the overlap that agree after `transform`, and all with texture.
    pub inliers: u32,
    pub matched: u32,
    /// Share of the smaller picture that both show, 0 to 1.
    pub overlap: f32,
    /// Normalised cross-correlation of luma over the overlap, -1 to 1; 1 is the same picture up to gain and offset.
    pub correlation: f32,
    /// Mean distance of chroma over the overlap, 0 to 255.
    pub colour: f32,
}

/// What made a picture a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// The same bytes.
    Content,
    /// Bits by which the fingerprints differ, and the orientation that was nearest.
    Fingerprint { distance: u32, orientation: u8 },
    /// Cosine of the two vectors.
    Vector { cosine: f32 },
}

/// A picture shows the same shot as an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    pub of: ImageId,
    pub of_upload: UploadSeq,
    /// The `source` that the original's uploader gave, for people.
    pub of_source: Option<String>,
    pub found_by: FoundBy,
    /// None for equal bytes, which need no proof.
    pub evidence: Option<Evidence>,
}

/// A confirmed repeat among the candidates of the picture under decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    pub id: ImageId,
    /// Its place: the first upload of its bytes.
    pub order: UploadSeq,
    /// Whether it stands for itself: not a repeat, not refused, not taken down.
    pub stands: bool,
    pub found_by: FoundBy,
    pub evidence: Evidence,
}

/// What must follow from the twins of one picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// It stays. The later twins that stand must now yield to it.
    First { yields: Vec<Twin> },
    /// It yields to the earliest twin that stands.
    Repeat { of: Twin },
}

/// Settles one picture against its confirmed twins.
///
/// Only earlier uploads count, so two twins can never each give way to the other; and only those that stand count, so
/// a group always keeps one. Later twins that were let through before this picture arrived are named, to be revised.
pub fn settle(id: ImageId, order: UploadSeq, twins: &[Twin]) -> Settlement {
    let standing = || twins.iter().filter(|t| t.id != id && t.stands);
    match standing().filter(|t| t.order < order).min_by_key(|t| t.order) {
        Some(earliest) => Settlement::Repeat { of: earliest.clone() },
        None => Settlement::First { yields: standing().filter(|t| t.order > order).cloned().collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ImageId {
        ImageId::from_bytes([n; 16])
    }

    fn twin(n: u8, order: u64, stands: bool) -> Twin {
        let evidence = Evidence {
            transform: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            mirrored: false,
            inliers: 50,
            matched: 60,
            overlap: 1.0,
            correlation: 0.99,
            colour: 1.0,
        };
        let found_by = FoundBy::Fingerprint { distance: 2, orientation: 0 };
        Twin { id: id(n), order: UploadSeq(order), stands, found_by, evidence }
    }

    #[track_caller] // the picture under test has id 1 and upload 10
    fn check(twins: &[Twin], want: Result<&[u8], u8>) {
        let got = match settle(id(1), UploadSeq(10), twins) {
            Settlement::First { yields } => Ok(yields.iter().map(|t| t.id).collect::<Vec<_>>()),
            Settlement::Repeat { of } => Err(of.id),
        };
        assert_eq!(got, want.map(|ids| ids.iter().map(|n| id(*n)).collect()).map_err(id));
    }

    #[test]
    fn a_second_delivery_finds_itself_and_stays() {
        check(&[twin(1, 10, true)], Ok(&[]));
    }

    #[test]
    fn of_twins_only_the_later_gives_way() {
        check(&[twin(2, 9, true)], Err(2));
        check(&[twin(2, 11, true)], Ok(&[2]));
    }

    #[test]
    fn of_many_the_earliest_that_stands_is_named() {
        check(&[twin(4, 7, true), twin(2, 3, false), twin(3, 5, true)], Err(3));
    }

    #[test]
    fn what_fell_neither_takes_nor_gives() {
        check(&[twin(2, 9, false), twin(3, 12, false)], Ok(&[]));
    }
}
