//! Organize: places photos, and cuts immutable versions of data sets.
//!
//! Two consumers: [`Organize`] answers a photo at the end of its way, [`Cut`] publishes a version on request. All that
//! depends on *other* photos is decided by the cut, from the records alone: so a version depends neither on the order
//! in which photos arrived nor on what crashed meanwhile. The command line uses [`datasets`], [`export`] and [`verify`].
//!
//! Pure: [`labels`], [`clusters`], [`splits`], [`plan`]. The rest reads and writes through the ports.

mod assemble;
mod card;
pub mod clusters;
mod config;
mod counted;
mod croissant;
mod cut;
pub mod datasets;
mod diversity;
pub mod export;
pub mod gather;
pub mod labels;
mod lease;
pub mod manifest;
mod neighbours;
mod pictures;
mod place;
mod places;
pub mod plan;
mod publish;
mod revise;
mod second_look;
mod shards;
mod sheet;
pub mod splits;
pub mod spool;
mod stats;
pub mod verify;
pub mod version;

pub use config::Config;
pub use cut::Cut;
pub use place::Organize;
pub use places::Places;

/// Reason code of a photo that is on offer.
pub const REASON_CURATED: &str = "curated";
/// Reason code of a photo whose label looked wrong when a version was cut.
pub const REASON_DOUBTED: &str = "label_doubted";
/// Reason code of a photo that was doubted and is not any more.
pub const REASON_CLEARED: &str = "label_cleared";
