//! Photos as a crowd would shoot and send them, with the truth about each.
//!
//! Takes    a labelled folder and the crowd's habits ([`plan`]). Gives uploads, or files with a `labels.csv`, and a CSV
//!          that says what each of them really is ([`truth`]).
//! Keeps    nothing; the same folder, habits and seed give the same bytes in the same order.

pub mod camera;
pub mod edit;
pub mod plan;
pub mod shot;
pub mod studio;
pub mod truth;
