//! Tells the message that kills its process from those that were only near.
//!
//! Takes    deliveries. Gives each its company: many at once as a rule; a suspect works alone in its process.
//! Keeps    one lock a process, shared by all its stages.
//! Weak at  jobs that last minutes (a cut, a training) are no company for anybody, or all would wait for them; a job that
//!          kills the process while a suspect works alone puts one of its deaths on the suspect.
//!
//! A process that dies takes all messages with it that are in work, dozens of them. If each were blamed, a machine that
//! is switched off every minute would send its photos to the dead letters. So a message that was in work at two deaths
//! is only suspected, and from then on taken alone: who dies then, dies of it.

use dih_core::topology::{ConsumerSpec, JOBS};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::tries::Tries;

/// Deliveries that nobody ended, after which a message is suspected.
const SUSPECT_AFTER: u64 = 2;
/// Deliveries that nobody ended although the message was alone, after which it is guilty. Machines that are switched off
/// again and again hit a lonely one now and then.
const GUILTY_AFTER: u64 = 5;

static ROOM: RwLock<()> = RwLock::const_new(());

/// Held while the delivery is in work.
#[derive(Debug)]
pub(super) enum Company {
    Shared { _room: RwLockReadGuard<'static, ()> },
    Alone { _room: RwLockWriteGuard<'static, ()> },
    Apart,
}

/// What past deliveries say about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Innocent,
    Suspect,
    Guilty,
}

pub(super) fn judge(tries: Tries, attempt: u64) -> Judgement {
    if tries.alone >= GUILTY_AFTER {
        Judgement::Guilty
    } else if tries.crashes(attempt) >= SUSPECT_AFTER {
        Judgement::Suspect
    } else {
        Judgement::Innocent
    }
}

pub(super) async fn among_others(consumer: &ConsumerSpec) -> Company {
    match consumer.stream {
        JOBS => Company::Apart,
        _ => Company::Shared { _room: ROOM.read().await },
    }
}

pub(super) async fn alone() -> Company {
    Company::Alone { _room: ROOM.write().await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_near_many_deaths_is_suspected_but_only_its_own_make_it_guilty() {
        let near = Tries::default();
        assert_eq!(judge(near, 1), Judgement::Innocent);
        assert_eq!(judge(near, 2), Judgement::Innocent);
        assert_eq!(judge(near, 3), Judgement::Suspect);
        assert_eq!(judge(near, 100), Judgement::Suspect);
        let alone = (0..5).fold(near, |tries, _| tries.begun_alone());
        assert_eq!(judge(alone, 8), Judgement::Guilty);
        assert_eq!(judge(alone.handed_back(), 8), Judgement::Suspect);
    }
}
