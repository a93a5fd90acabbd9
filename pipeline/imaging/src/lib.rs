//! From the bytes of an upload to what the pipeline knows of a picture. Pure: no file, no network, no clock.
//!
//! Takes    bytes that anyone may have sent. Gives a [`Decoded`] (preview, measures, fingerprints) or a [`Refusal`].
//! How      told by content, held against the limits from the header, decoded once at the smallest sufficient scale,
//!          shrunk, turned upright, measured.
//! Panics   of a codec are caught and refuse the picture as corrupt.
//! Weak at  colour profiles, which are ignored: a wide-gamut photo looks a little pale.

pub mod confirm;
pub mod fingerprint;
mod jpeg;
mod limits;
mod measure;
mod other;
mod preview;
mod raster;
mod read;
pub mod sample;
mod sniff;
mod thumbnail;

pub use limits::{Limits, Refusal, RefusalReason};
pub use measure::measures_of;
pub use preview::{LONGEST_MAX, Preview, SHORTEST_MAX};
pub use raster::Plane;
pub use read::{Decoded, picture_jpeg, preview_of, read};
pub use sniff::sniff;
pub use thumbnail::thumbnail;
