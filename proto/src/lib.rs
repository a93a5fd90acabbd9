//! How messages look on the way: protobuf, package `dih.v1`, described in `dih/v1/*.proto`.
//!
//! Takes    domain values of `dih_core`, or bytes from anywhere. Gives the other: see [`Wire`].
//! Keeps    nothing; the generated types do not leave this crate.
//! Weak at  lists and optional fields that were cut off look like fields that were never set.

mod dataset;
mod dead;
mod field;
mod image;
pub mod onnx;
mod upload;
mod verdict;
mod wire;

pub use wire::{Wire, WireError};

/// What the build script made of `dih/v1/*.proto`.
#[allow(unreachable_pub, clippy::all, missing_debug_implementations)] // not written by us
mod generated {
    include!(concat!(env!("OUT_DIR"), "/dih.v1.rs"));
}
