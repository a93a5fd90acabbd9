//! The published files of Open Images, read so that every row is accounted for.
//!
//! Takes    a folder with the files of V1 to V7 in any arrangement, and a folder of photos named by their ImageID.
//! Gives    one [`Entry`] an image in the order of the ids, and for each file: rows = taken + refused, each refused one
//!          with its line and the reason.
//! How      files are told by their heading or content; rows are sorted by id through files on the disk, so memory does
//!          not grow with their number.
//! Crash    nothing to put right: the files on the disk are temporary.

mod account;
mod entities;
mod image;
mod join;
mod label;
mod read;
mod source;
mod spill;

pub use crate::{
    account::{FileCount, Kind, Refusal, Totals},
    image::{Image, Turn},
    join::{Entry, Named, Photo},
    read::{Collection, Options, Problem, read},
};

/// An ImageID: 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenImage(pub u64);

impl std::fmt::Display for OpenImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl OpenImage {
    /// `000026e7ee790996`, in lower case as it is published.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        hex.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}
