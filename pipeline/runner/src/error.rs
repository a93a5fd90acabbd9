//! What can go wrong between us and the broker, for everything that asks it something.

use std::fmt::Display;

use dih_core::{Class, Classify};
use dih_proto::WireError;

/// An error of a library, kept as the cause.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The client's errors print their causes themselves and name them as well; kept whole, each would print twice.
pub(crate) fn told(error: impl Display) -> Cause {
    error.to_string().into()
}

/// Why the broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Away, restarting, slow: later may be better.
    #[error("could not {action}")]
    Unavailable { action: String, source: Cause },
    /// Denied, or a stream is missing: a person must act.
    #[error("the broker refuses to {action}; {remedy}")]
    Refused { action: String, remedy: &'static str, source: Option<Cause> },
    /// A stream takes no more: its consumers do not keep up, or the disk is full.
    #[error("stream {stream} is full and takes no more; start its stages, or give the broker more room")]
    Full { stream: String, source: Cause },
    #[error("message {sequence} of stream {stream} cannot be read")]
    Unreadable { stream: &'static str, sequence: u64, source: WireError },
}

pub(crate) const RUN_SETUP: &str = "run `dih setup`";

impl BusError {
    /// `action` completes "could not …".
    pub(crate) fn unavailable(action: impl Into<String>, source: impl Display) -> Self {
        Self::Unavailable { action: action.into(), source: told(source) }
    }
}

impl Classify for BusError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } | Self::Full { .. } => Class::Retry,
            Self::Refused { .. } => Class::Halt,
            Self::Unreadable { .. } => Class::BadInput,
        }
    }
}
