//! Failures of a stage in a row, whatever the messages: whether it is ill, and whether to say so again.
//!
//! Takes    failures with their reasons, and successes. Gives the illness, and when to tell people of it. Pure.

use std::time::{Duration, Instant};

/// Failures in a row after which the stage counts as ill: one bad message alone makes no illness.
const ILL_AFTER: u32 = 3;
/// Failures in a row after which a stage takes one message at a time: else all that wait would be tried, each would age, and be
/// given up, for what no message can help.
const GRAVE_AFTER: u32 = 8;
/// An ill store fails every message, many a second. People are told this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Trouble {
    in_a_row: u32,
    reason: String,
    told: Option<Instant>,
    untold: u64,
}

impl Trouble {
    /// Notes a failure. Gives how many went untold before this one, when it is time to tell.
    pub(crate) fn failed(&mut self, reason: &str, now: Instant) -> Option<u64> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        reason.clone_into(&mut self.reason);
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    pub(crate) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// Whether so much has failed that it is no use to try many.
    pub(crate) fn is_grave(&self) -> bool {
        self.in_a_row >= GRAVE_AFTER
    }

    /// The last reason, while nothing but failures happens.
    pub(crate) fn illness(&self) -> Option<&str> {
        (self.in_a_row >= ILL_AFTER).then_some(&self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_an_illness_until_something_succeeds() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        trouble.failed("full", now);
        trouble.failed("full", now);
        assert_eq!(trouble.illness(), None);
        trouble.failed("still full", now);
        assert_eq!(trouble.illness(), Some("still full"));
        trouble.succeeded();
        assert_eq!(trouble.illness(), None);
    }

    #[test]
    fn many_failures_in_a_row_are_grave_until_something_succeeds() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for n in 0..20 {
            assert_eq!(trouble.is_grave(), n >= GRAVE_AFTER);
            trouble.failed("full", now);
        }
        trouble.succeeded();
        assert!(!trouble.is_grave());
    }

    #[test]
    fn of_many_failures_few_are_told_and_none_is_forgotten() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.failed("full", now), Some(0));
        assert_eq!(trouble.failed("full", now + TELL_EVERY / 2), None);
        assert_eq!(trouble.failed("full", now + TELL_EVERY - Duration::from_millis(1)), None);
        assert_eq!(trouble.failed("full", now + TELL_EVERY), Some(2));
        assert_eq!(trouble.failed("full", now + TELL_EVERY * 2), Some(0));
    }
}
