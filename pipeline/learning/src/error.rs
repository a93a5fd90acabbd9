//! What can go wrong before a single judgement is made.

/// Why a model could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum LearningError {
    /// The caller's reader failed; nothing is known about the rest.
    #[error("could not read the vectors")]
    Read { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{what} has {found} entries where {wanted} are needed")]
    Mismatch { what: &'static str, found: usize, wanted: usize },
    #[error("{what} is {value}; {remedy}")]
    Setting { what: &'static str, value: String, remedy: &'static str },
    /// The vectors carry no information: all equal, all zero, or not finite.
    #[error("the vectors do not vary, so nothing can be learnt from them")]
    Degenerate,
}
