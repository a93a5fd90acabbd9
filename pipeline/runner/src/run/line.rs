//! The stages of one process: who can be handed a fact without the broker in between.
//!
//! Takes    the runners that join it. Gives the one that takes a fact, while it works.
//! Keeps    a weak reference each: a runner that has ended takes nothing, and the broker keeps the fact for the next one.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use dih_core::{Notice, Outcome};
use futures::future::BoxFuture;

use super::{
    chain::{Link, Photo},
    work::Failure,
};

/// A stage at work in this process, whatever its input.
pub(super) trait Taker: Send + Sync {
    /// Whether it takes work now, and gets it done.
    fn is_ready(&self) -> bool;

    /// Works on a fact of its kind, once it has a place. Nothing is durable and nobody is told of it yet.
    fn take(&self, fact: Notice, photo: Photo) -> BoxFuture<'_, Result<(Outcome, Link), Failure>>;
}

/// The stages of one process. Clones share it.
#[derive(Clone, Default)]
pub struct Line {
    takers: Arc<RwLock<BTreeMap<&'static str, Weak<dyn Taker>>>>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let takers = self.takers.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(takers.keys()).finish()
    }
}

impl Line {
    pub(super) fn join(&self, consumer: &'static str, taker: Weak<dyn Taker>) {
        self.takers.write().unwrap_or_else(PoisonError::into_inner).insert(consumer, taker);
    }

    /// Who feeds on this consumer here, if it is ready.
    pub(super) fn ready(&self, consumer: &str) -> Option<Arc<dyn Taker>> {
        let takers = self.takers.read().unwrap_or_else(PoisonError::into_inner);
        takers.get(consumer)?.upgrade().filter(|taker| taker.is_ready())
    }
}
