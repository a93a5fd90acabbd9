//! The words of Deep Images Hub: what travels, who may hold it, and where it goes.
//!
//! Everything else depends on this crate and it depends on nothing of ours. It knows no broker, no database and no
//! codec: [`ports`] says what a store must do, [`stage`] what a stage must answer, [`topology`] which stream feeds
//! whom.

pub mod calibration;
pub mod config;
pub mod device;
pub mod error;
pub mod event;
pub mod ids;
pub mod image;
pub mod metrics;
pub mod ports;
pub mod record;
pub mod repeat;
pub mod sample;
mod secret;
pub mod stage;
pub mod topology;
pub mod verdict;
pub mod work;

pub use error::{Class, Classify, StageError, chain};
pub use ids::{BlobKey, DatasetName, DeviceId, Epoch, ImageId, Label, Millis, UploadSeq, VersionId};
pub use secret::Secret;
pub use stage::{Delivery, Notice, Outcome, Stage, StageName};
