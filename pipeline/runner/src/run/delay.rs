//! When a message is tried again, and when it is given up. Pure.

use std::time::Duration;

/// Delay before the next try after `failures` of them: doubles from `first` to `max`, shortened by up to a quarter so
/// that messages that failed together do not come back together. `chance` is 0 to 1.
pub(super) fn delay(failures: u64, first: Duration, max: Duration, chance: f64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(30);
    let whole = first.saturating_mul(1 << doublings).min(max);
    whole.mul_f64(1.0 - 0.25 * chance.clamp(0.0, 1.0))
}

/// What is known of a message that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    /// Tries that ended with an error of the stage.
    pub(super) failures: u64,
    /// Since the first of them.
    pub(super) for_so_long: Duration,
    /// Whether other messages succeeded in the meantime.
    pub(super) others_succeed: bool,
}

/// Whether to try on. While nothing succeeds it is the store that is ill, not the message, and patience is what ends
/// it; otherwise the number of tries does.
pub(super) fn give_up(failing: Failing, tries_max: u64, patience: Duration) -> bool {
    failing.failures >= tries_max && (failing.others_succeed || failing.for_so_long >= patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_longest() {
        let seconds: Vec<u64> = (1..=8).map(|n| delay(n, SECOND, 60 * SECOND, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u64::MAX, SECOND, 60 * SECOND, 0.0), 60 * SECOND);
    }

    #[test]
    fn chance_shortens_by_a_quarter_at_most() {
        for chance in [0.0, 0.3, 1.0, 7.0, -1.0] {
            let delay = delay(3, SECOND, 60 * SECOND, chance);
            assert!((3 * SECOND..=4 * SECOND).contains(&delay), "{delay:?}");
        }
    }

    #[track_caller]
    fn check(failures: u64, minutes: u64, others_succeed: bool, want: bool) {
        let failing = Failing { failures, for_so_long: Duration::from_secs(60 * minutes), others_succeed };
        assert_eq!(give_up(failing, 12, Duration::from_secs(15 * 60)), want);
    }

    #[test]
    fn a_message_that_fails_while_others_pass_is_given_up_after_its_tries() {
        check(11, 60, true, false);
        check(12, 5, true, true);
    }

    #[test]
    fn while_everything_fails_patience_rules() {
        check(12, 5, false, false);
        check(12, 15, false, true);
    }
}
