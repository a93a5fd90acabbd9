//! The one question asked of every error: does trying again help?

use std::{error::Error, fmt};

/// What the runner does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Later may be better: hand the message back, with a growing delay.
    Retry,
    /// Never will be: dead-letter the original bytes with the reason.
    BadInput,
    /// This place is misconfigured: stop taking work and turn unready, for a wrong password must not empty a queue
    /// into the dead letters.
    Halt,
}

pub trait Classify: Error {
    fn class(&self) -> Class;
}

/// A classified error of any stage, boxed for the runner.
pub struct StageError {
    class: Class,
    source: Box<dyn Error + Send + Sync>,
}

impl StageError {
    pub fn new(class: Class, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { class, source: source.into() }
    }

    pub fn class(&self) -> Class {
        self.class
    }

    pub fn as_error(&self) -> &(dyn Error + 'static) {
        &*self.source
    }
}

impl<E: Classify + Send + Sync + 'static> From<E> for StageError {
    fn from(error: E) -> Self {
        Self { class: error.class(), source: Box::new(error) }
    }
}

impl fmt::Debug for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.class, chain(self.as_error()))
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chain(self.as_error()).fmt(f)
    }
}

/// Prints an error and all its causes, once each: `could not read blob: denied: expired token`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    struct Chain<'a>(&'a (dyn Error + 'static));
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self.0, f)?;
            let mut next = self.0.source();
            while let Some(cause) = next {
                write!(f, ": {cause}")?;
                next = cause.source();
            }
            Ok(())
        }
    }
    Chain(error)
}
