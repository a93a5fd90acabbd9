//! Places where a test can stop or kill the process: between write, publish and acknowledgement.
//!
//! With the feature `failpoints`, and only then, `FAILPOINTS=dedupe::before_ack=1%return(abort)` in the environment of
//! the binary (which must hold a [`fail::FailScenario`]) ends the process at that line as kill -9 would. Other actions
//! of the crate `fail` (`sleep`, `pause`, `panic`, `print`) work as it describes them.

/// Where in the handling of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The stage before has written; this one is about to take what it says, without the broker in between.
    BeforeTake,
    /// The stage has written; its writes may not be durable.
    BeforeCommit,
    /// Durable, but nobody knows.
    BeforePublish,
    /// Published, but the input will come again.
    BeforeAck,
    AfterAck,
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Self::BeforeTake => "before_take",
            Self::BeforeCommit => "before_commit",
            Self::BeforePublish => "before_publish",
            Self::BeforeAck => "before_ack",
            Self::AfterAck => "after_ack",
        }
    }
}

/// Does nothing unless built with the feature `failpoints`.
pub(crate) fn pass(consumer: &str, place: Place) {
    if cfg!(feature = "failpoints") {
        reach(&format!("{consumer}::{}", place.as_str()));
    }
}

/// For the other crates: passes a fail point of any name, under the same rules.
pub fn reach(name: &str) {
    let action = fail::eval(name, |argument| argument);
    if let Some(Some(argument)) = action {
        match argument.as_str() {
            "abort" => std::process::abort(),
            other => tracing::warn!(failpoint = name, argument = other, "unknown argument; only `abort` is known"),
        }
    }
}
