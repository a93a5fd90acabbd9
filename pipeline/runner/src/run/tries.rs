//! How often a message was tried, over all replicas and restarts.
//!
//! Takes    notes of failed and of handed-back deliveries. Gives their numbers.
//! Keeps    one small entry a failing message in the bucket [`TRIES_BUCKET`], for a week.
//! Weak at  what could not be noted (the broker was away) counts as a crash.
//!
//! The broker counts deliveries, whatever ended them. A message that an orderly stop or a wrong password handed back a
//! hundred times must not be taken for one that a stage choked on, so the runner keeps the reasons apart.

use async_nats::jetstream::kv;
use bytes::Bytes;
use dih_core::{Millis, topology::TRIES_BUCKET};
use serde::{Deserialize, Serialize};

use crate::{Arrival, Connection, error::BusError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    /// Ended with an error of the stage that another try may mend.
    pub(super) failures: u64,
    /// Ended for no fault of the message: a stop, a misconfiguration, a broker or store that was away.
    pub(super) handed_back: u64,
    /// Begun alone in their process, and not ended: it died, or lost its lease.
    #[serde(default)]
    pub(super) alone: u64,
    /// Time of the first failure in milliseconds since 1970, 0 if none.
    pub(super) failing_since: i64,
}

impl Tries {
    /// Deliveries before this one that nobody ended: the process died, or lost its lease.
    pub(super) fn crashes(&self, attempt: u64) -> u64 {
        attempt.saturating_sub(1).saturating_sub(self.failures).saturating_sub(self.handed_back)
    }

    pub(super) fn failed(self, now: Millis) -> Self {
        let failing_since = if self.failures == 0 { now.0 } else { self.failing_since };
        Self { failures: self.failures + 1, failing_since, alone: self.alone.saturating_sub(1), ..self }
    }

    pub(super) fn handed_back(self) -> Self {
        Self { handed_back: self.handed_back + 1, alone: self.alone.saturating_sub(1), ..self }
    }

    /// Noted before the work begins; whoever ends the delivery takes it back.
    pub(super) fn begun_alone(self) -> Self {
        Self { alone: self.alone + 1, ..self }
    }
}

#[derive(Clone, Debug)]
pub(super) struct TriesBook {
    bucket: kv::Store,
}

impl TriesBook {
    pub(super) async fn open(connection: &Connection) -> Result<Self, BusError> {
        let bucket = connection.jetstream().get_key_value(TRIES_BUCKET).await;
        let bucket = bucket.map_err(|e| BusError::unavailable(format!("open the bucket {TRIES_BUCKET}"), e))?;
        Ok(Self { bucket })
    }

    /// Asks the broker only for a delivery that is not the first.
    pub(super) async fn of(&self, arrival: &Arrival) -> Result<Tries, BusError> {
        match arrival.attempt {
            0 | 1 => Ok(Tries::default()),
            _ => Box::pin(self.read(arrival)).await,
        }
    }

    async fn read(&self, arrival: &Arrival) -> Result<Tries, BusError> {
        let found = self.bucket.get(key(arrival)).await;
        let found =
            found.map_err(|e| BusError::unavailable(format!("read how often {} was tried", key(arrival)), e))?;
        // An entry that cannot be read is no reason to stop: it is counted anew.
        Ok(found.and_then(|entry| serde_json::from_slice(&entry).ok()).unwrap_or_default())
    }

    /// Best effort: without it the delivery counts as a crash.
    pub(super) async fn note(&self, arrival: &Arrival, tries: Tries) {
        let value = serde_json::to_vec(&tries).map(Bytes::from).unwrap_or_default();
        if let Err(error) = self.bucket.put(key(arrival), value).await {
            tracing::debug!(%error, "could not note a try");
        }
    }

    /// Forgets a message that is done.
    pub(super) async fn forget(&self, arrival: &Arrival) {
        if arrival.attempt > 1
            && let Err(error) = Box::pin(self.bucket.purge(key(arrival))).await
        {
            tracing::debug!(%error, "could not forget the tries of a message");
        }
    }
}

/// The consumer tells the stream, so this names the message.
fn key(arrival: &Arrival) -> String {
    format!("{}.{}", arrival.consumer.name, arrival.stream_sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deliveries_that_nobody_ended_count_as_crashes() {
        let tries = Tries::default().failed(Millis(5)).handed_back().handed_back();
        assert_eq!(tries, Tries { failures: 1, handed_back: 2, alone: 0, failing_since: 5 });
        assert_eq!(tries.crashes(4), 0);
        assert_eq!(tries.crashes(7), 3);
        assert_eq!(tries.failed(Millis(9)).failing_since, 5);
    }
}
