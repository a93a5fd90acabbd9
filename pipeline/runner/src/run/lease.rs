//! Keeps a delivery ours while it is in work, and tells when it is not any more.
//!
//! Takes    a delivery and the consumer's lease. Gives its loss, as the end of a future.
//! Weak at  between the broker's clock and ours lies one message's travel.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{Arrival, Connection};

/// Tells the broker every third of the lease that work goes on. Ends when it could not for a whole lease: by then the
/// message may be with another replica.
pub(super) async fn until_lost(connection: &Connection, arrival: &Arrival, lease: Duration) {
    let third = lease / 3;
    let mut held_from = Instant::now();
    loop {
        let lost_at = held_from + lease;
        sleep_until(lost_at.min(Instant::now() + third)).await;
        let asked = Instant::now();
        // A reply, not just a sent message, proves that the broker heard of it.
        match timeout_at(lost_at, Box::pin(arrival.reply.confirm(connection, AckKind::Progress, lease))).await {
            Ok(Ok(())) => held_from = asked,
            Ok(Err(error)) => tracing::debug!(%error, "could not renew a lease"),
            Err(_) => return,
        }
    }
}
