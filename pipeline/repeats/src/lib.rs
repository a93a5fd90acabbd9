//! Repeats: proof on the pixels, and who takes over when a picture yields or falls.
//!
//! Two stages look for repeats, dedupe by fingerprint and cluster by vector. Both prove a candidate here
//! ([`Prover`]), settle it with [`dih_core::repeat::settle`], and pass on the consequences here ([`succession`]).

mod prover;
pub mod succession;
pub mod suspects;

pub use prover::{Candidate, Prover};
