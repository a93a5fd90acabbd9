//! Records as this process read or wrote them a moment ago: what a change begins with, so that it need not read first.
//!
//! Keeps    a bounded number, each for [`FRESH`]. One that is old by then does no harm, as a change is a compare-and-set on
//!          the stamp of the last write; it costs a request, as without this.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dih_core::ImageId;
use lru::LruCache;

use super::point::Stamped;

/// Records kept, some 4 kB each: those in work, with room to spare.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).expect("is not 0");
/// How long one is used. A stage reads, decides and writes within this, but where it waits for others.
const FRESH: Duration = Duration::from_secs(1);

pub(super) struct Seen(Mutex<LruCache<ImageId, (Instant, Stamped)>>);

impl Default for Seen {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Seen {
    pub(super) fn keep(&self, stamped: Stamped) {
        self.lock().put(stamped.record.id(), (Instant::now(), stamped));
    }

    /// Once: whoever finds that it was old reads anew.
    pub(super) fn take(&self, id: ImageId) -> Option<Stamped> {
        let (at, stamped) = self.lock().pop(&id)?;
        (at.elapsed() < FRESH).then_some(stamped)
    }

    /// Whether there is a record, as far as is known here. None is ever removed.
    pub(super) fn has(&self, id: ImageId) -> bool {
        self.lock().peek(&id).is_some_and(|(at, _)| at.elapsed() < FRESH)
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<ImageId, (Instant, Stamped)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;

    #[test]
    fn what_was_seen_is_taken_once() {
        let (seen, id) = (Seen::default(), sample::id(1));
        seen.keep(Stamped { record: sample::record(1), stamps: vec![3] });
        assert!(seen.has(id) && !seen.has(sample::id(2)));
        assert_eq!(seen.take(id).map(|stamped| stamped.stamps), Some(vec![3]));
        assert!(seen.take(id).is_none() && !seen.has(id));
    }

    #[test]
    fn what_was_seen_long_ago_is_read_again() {
        let (seen, id) = (Seen::default(), sample::id(1));
        let Some(long_ago) = Instant::now().checked_sub(FRESH) else { return };
        let stamped = Stamped { record: sample::record(1), stamps: vec![3] };
        seen.lock().put(id, (long_ago, stamped));
        assert!(!seen.has(id) && seen.take(id).is_none());
    }
}
