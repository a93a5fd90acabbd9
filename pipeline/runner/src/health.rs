//! What a probe asks of a running stage, and the count that must come out even.
//!
//! Takes    notes of the loop. Gives readiness, liveness and the deliveries received, answered and in flight.
//! Keeps    atomics, shared by all clones.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dih_core::{metrics as names, verdict::Status};

use crate::trouble::Trouble;

/// How a stage is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected to its consumer yet, or the broker is away.
    Waiting,
    Ready,
    /// Takes work, but nothing succeeds: a store or the broker is away. It goes on by itself when that is mended.
    Ill(String),
    /// Finishing what is in work.
    Draining,
    /// Misconfigured: a person must act.
    Halted(String),
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waits for the broker"),
            Self::Ready => f.write_str("ready"),
            Self::Ill(reason) => write!(f, "nothing succeeds: {reason}"),
            Self::Draining => f.write_str("finishes what is in work"),
            Self::Halted(reason) => write!(f, "halted: {reason}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Deliveries of one consumer in this process. `received == answered + in_flight`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    /// Acknowledged, dead-lettered or handed back.
    pub answered: u64,
    pub in_flight: u64,
}

/// A view of one consumer's runner. Clones share it.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    consumer: &'static str,
    state: Mutex<State>,
    trouble: Mutex<Trouble>,
    born: Instant,
    progress_ms: AtomicU64,
    success_ms: AtomicU64,
    received: AtomicU64,
    answered: AtomicU64,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Health");
        out.field("consumer", &self.inner.consumer).field("state", &self.state()).field("counts", &self.counts());
        out.finish()
    }
}

impl Health {
    pub(crate) fn new(consumer: &'static str) -> Self {
        begin_at_zero(consumer);
        let inner = Inner {
            consumer,
            state: Mutex::new(State::Waiting),
            trouble: Mutex::default(),
            born: Instant::now(),
            progress_ms: AtomicU64::new(0),
            success_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn consumer(&self) -> &'static str {
        self.inner.consumer
    }

    pub fn state(&self) -> State {
        let state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (&state, self.trouble().illness()) {
            (State::Ready, Some(reason)) => State::Ill(reason.to_owned()),
            _ => state,
        }
    }

    /// Takes work now, and gets it done.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Whether the loop came round within `silence_max`; one that did not should be started anew.
    pub fn is_live(&self, silence_max: Duration) -> bool {
        self.last_progress() <= silence_max
    }

    /// Time since the loop last came round.
    pub fn last_progress(&self) -> Duration {
        self.inner.born.elapsed().saturating_sub(Duration::from_millis(self.inner.progress_ms.load(Ordering::Relaxed)))
    }

    pub fn counts(&self) -> Counts {
        // Answered first: read the other way round, one that ends in between would count as below zero.
        let answered = self.inner.answered.load(Ordering::Acquire);
        let received = self.inner.received.load(Ordering::Acquire);
        Counts { received, answered, in_flight: received - answered }
    }

    pub(crate) fn set(&self, state: State) {
        *self.inner.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.progress();
    }

    pub(crate) fn progress(&self) {
        self.inner.progress_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much has failed in a row that it is no use to try many.
    pub(crate) fn is_grave(&self) -> bool {
        self.trouble().is_grave()
    }

    /// A try failed that will be repeated. Gives how many went untold before, when people should be told of this one.
    pub(crate) fn failed(&self, reason: &str) -> Option<u64> {
        self.trouble().failed(reason, Instant::now())
    }

    pub(crate) fn succeeded(&self) {
        self.trouble().succeeded();
        // Never 0, which means never.
        self.inner.success_ms.store(self.age_ms().max(1), Ordering::Relaxed);
    }

    /// Whether any delivery succeeded within the last `span`.
    pub(crate) fn succeeded_within(&self, span: Duration) -> bool {
        let at = self.inner.success_ms.load(Ordering::Relaxed);
        let since = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        at != 0 && self.age_ms().saturating_sub(at) <= since
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.inner.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes a delivery. The guard counts it as answered, whatever becomes of it.
    pub(crate) fn received(&self, attempt: u64) -> InFlight {
        self.inner.received.fetch_add(1, Ordering::Release);
        metrics::counter!(names::STAGE_RECEIVED, "consumer" => self.inner.consumer).increment(1);
        metrics::gauge!(names::STAGE_IN_FLIGHT, "consumer" => self.inner.consumer).increment(1.0);
        if attempt > 1 {
            metrics::counter!(names::STAGE_REDELIVERED, "consumer" => self.inner.consumer).increment(1);
        }
        InFlight { health: self.clone(), outcome: "cancelled", since: Instant::now(), took: None }
    }
}

/// What becomes of deliveries of every stage; the others come when they come.
const OUTCOMES: [&str; 4] = ["emitted", "retried", "handed_back", "halted"];

/// Else the first of its kind would be no increase to who asks for rates.
fn begin_at_zero(consumer: &'static str) {
    let of_consumer = [names::STAGE_RECEIVED, names::STAGE_REDELIVERED, names::STAGE_DEAD, names::STAGE_LEASES_LOST];
    for name in of_consumer {
        metrics::counter!(name, "consumer" => consumer).increment(0);
    }
    for outcome in OUTCOMES {
        metrics::counter!(names::STAGE_ANSWERED, "consumer" => consumer, "outcome" => outcome).increment(0);
    }
    for status in Status::ALL {
        metrics::counter!(names::VERDICTS, "verdict" => status.as_str()).increment(0);
    }
}

/// A delivery in work.
pub(crate) struct InFlight {
    health: Health,
    outcome: &'static str,
    since: Instant,
    took: Option<Duration>,
}

impl InFlight {
    /// The stage is done with it; what is left of its way counts for others.
    pub(crate) fn processed(&mut self) {
        self.took = Some(self.since.elapsed());
    }

    /// The answer, from a small closed set.
    pub(crate) fn answered(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let consumer = self.health.inner.consumer;
        self.health.inner.answered.fetch_add(1, Ordering::Release);
        metrics::counter!(names::STAGE_ANSWERED, "consumer" => consumer, "outcome" => self.outcome).increment(1);
        metrics::gauge!(names::STAGE_IN_FLIGHT, "consumer" => consumer).decrement(1.0);
        metrics::histogram!(names::STAGE_PROCESS_SECONDS, "consumer" => consumer)
            .record(self.took.unwrap_or_else(|| self.since.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_happened_yet_is_counted_as_none() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || Health::new("dedupe"));
        let seen = recorder.handle().render();
        for line in [
            "dih_stage_dead_items_total{consumer=\"dedupe\"} 0",
            "dih_stage_answered_items_total{consumer=\"dedupe\",outcome=\"handed_back\"} 0",
            "dih_verdicts_total{verdict=\"dead\"} 0",
        ] {
            assert!(seen.lines().any(|found| found == line), "{line} is not in\n{seen}");
        }
    }

    #[test]
    fn received_is_answered_plus_in_flight_even_when_work_is_cancelled() {
        let health = Health::new("dedupe");
        let (first, second, third) = (health.received(1), health.received(1), health.received(2));
        assert_eq!(health.counts(), Counts { received: 3, answered: 0, in_flight: 3 });
        first.answered("emitted");
        drop(second);
        assert_eq!(health.counts(), Counts { received: 3, answered: 2, in_flight: 1 });
        drop(third);
        assert_eq!(health.counts(), Counts { received: 3, answered: 3, in_flight: 0 });
    }
}
