//! Domain <-> bytes: the one trait that the rest of the project sees of protobuf.
//!
//! Takes    bytes from anywhere. Gives a whole domain value, or an error that names the field.
//! Keeps    nothing.
//! Weak at  lists and optional fields that were cut off look like fields that were never set.

use bytes::{Buf, Bytes};
use dih_core::{
    Class, Classify,
    event::{
        CutRequested, DatasetPublished, DeadLetter, ImageClustered, ImageEmbedded, ImageStored, ImageUnique,
        ImageVerified, JobFailed, TrainingCompleted, TrainingRequested, Upload,
    },
    verdict::Answer,
};
use prost::Message;

use crate::field::{Fault, Problem};

/// A message of ours as it travels: protobuf, package `dih.v1`.
///
/// Fields that this version does not know are ignored, so newer senders are understood; fields that it needs and does
/// not find are an error, so half a message is never taken for a whole one.
pub trait Wire: Sized {
    fn encode(&self) -> Vec<u8>;

    fn decode(body: &[u8]) -> Result<Self, WireError>;

    /// Like [`Wire::decode`], but large byte fields stay where they are in `body`.
    fn decode_shared(body: Bytes) -> Result<Self, WireError>;
}

/// Why some bytes are not the message that they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("{message} is no valid protobuf")]
    Malformed { message: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{message} lacks `{field}`")]
    Missing {
        message: &'static str,
        /// Path from the message down: `image.fingerprints`.
        field: String,
    },
    #[error("{message} has an unusable `{field}`: {problem}")]
    Invalid { message: &'static str, field: String, problem: String },
}

impl Classify for WireError {
    fn class(&self) -> Class {
        match self {
            Self::Malformed { .. } | Self::Missing { .. } | Self::Invalid { .. } => Class::BadInput,
        }
    }
}

/// A domain type and its generated counterpart.
pub(crate) trait Convert: Sized {
    type Wire: Message + Default;

    fn to_wire(&self) -> Self::Wire;

    fn from_wire(wire: Self::Wire) -> Result<Self, Fault>;
}

fn read<T: Convert>(message: &'static str, body: impl Buf) -> Result<T, WireError> {
    let wire = T::Wire::decode(body).map_err(|source| WireError::Malformed { message, source: source.into() })?;
    T::from_wire(wire).map_err(|Fault { field, problem }| match problem {
        Problem::Missing => WireError::Missing { message, field },
        Problem::Invalid(problem) => WireError::Invalid { message, field, problem },
    })
}

macro_rules! messages {
    ($($name:ident),* $(,)?) => {$(
        impl Wire for $name {
            fn encode(&self) -> Vec<u8> {
                self.to_wire().encode_to_vec()
            }

            fn decode(body: &[u8]) -> Result<Self, WireError> {
                read(stringify!($name), body)
            }

            fn decode_shared(body: Bytes) -> Result<Self, WireError> {
                read(stringify!($name), body)
            }
        }
    )*};
}

messages! {
    Upload, ImageStored, ImageUnique, ImageVerified, ImageEmbedded, ImageClustered, Answer, CutRequested,
    DatasetPublished, TrainingRequested, TrainingCompleted, JobFailed, DeadLetter,
}
