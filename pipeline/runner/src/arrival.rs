//! A message as the broker delivered it, and the answers one can give to it.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject, jetstream::AckKind};
use bytes::Bytes;
use dih_core::{
    Epoch, Millis, UploadSeq,
    topology::{ConsumerSpec, UPLOADS, header},
};

use crate::{Connection, error::Cause};

/// One delivery of one message.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub consumer: &'static ConsumerSpec,
    pub subject: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
    /// Its sequence in the consumer's stream.
    pub stream_sequence: u64,
    /// 1 for the first delivery.
    pub attempt: u64,
    /// When its stream took it.
    pub stored_at: Millis,
    pub(crate) reply: Reply,
}

impl Arrival {
    /// None for a message that no stream delivered.
    pub(crate) fn read(consumer: &'static ConsumerSpec, message: Message) -> Option<Self> {
        let reply = message.reply.clone()?;
        let Delivered { stream_sequence, attempt, stored_at } = delivered(&reply)?;
        Some(Self {
            consumer,
            subject: message.subject.to_string(),
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
            stream_sequence,
            attempt,
            stored_at,
            reply: Reply(reply),
        })
    }

    /// The upload that the sender says it belongs to.
    pub fn upload(&self) -> Option<UploadSeq> {
        self.number(header::UPLOAD).filter(|n| *n > 0).map(UploadSeq)
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.number(header::EPOCH).and_then(|n| u32::try_from(n).ok()).map(Epoch)
    }

    /// When the broker took the upload that it belongs to.
    pub(crate) fn received_at(&self) -> Option<Millis> {
        match self.consumer.stream {
            UPLOADS => Some(self.stored_at),
            _ => self.number(header::RECEIVED).and_then(|at| i64::try_from(at).ok()).map(Millis),
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.as_str().parse().ok()
    }
}

/// Where one answers to a delivery.
#[derive(Clone, Debug)]
pub(crate) struct Reply(Subject);

impl Reply {
    /// Answers and waits until the broker has taken note.
    pub(crate) async fn confirm(
        &self,
        connection: &Connection,
        kind: AckKind,
        patience: Duration,
    ) -> Result<(), Cause> {
        // One shared inbox for all confirmations: a subscription each would double the traffic.
        let request = async_nats::Request::new().payload(kind.into()).timeout(Some(patience));
        connection.client().send_request(self.0.clone(), request).await?;
        Ok(())
    }

    /// Gives it back, for this or another replica to take after `delay`. If the word is lost, the lease runs out.
    pub(crate) async fn hand_back(&self, connection: &Connection, delay: Option<Duration>) {
        if let Err(error) = connection.client().publish(self.0.clone(), AckKind::Nak(delay).into()).await {
            tracing::debug!(%error, "could not hand a delivery back, its lease will run out");
        }
    }
}

/// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or the longer form
/// with domain and account hash before the stream. Source: NATS ADR-15.
fn delivered(reply: &str) -> Option<Delivered> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let from = match tokens.len() {
        7 => 0,
        9.. => 2,
        _ => return None,
    };
    let nanoseconds: i64 = tokens[from + 5].parse().ok()?;
    Some(Delivered {
        stream_sequence: tokens[from + 3].parse().ok()?,
        attempt: tokens[from + 2].parse().ok()?,
        stored_at: Millis(nanoseconds / 1_000_000),
    })
}

/// What the broker says of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivered {
    stream_sequence: u64,
    attempt: u64,
    stored_at: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_says_is_read_from_both_forms_of_the_reply() {
        let want = Delivered { stream_sequence: 100, attempt: 3, stored_at: Millis(1_790_230_470_084) };
        assert_eq!(delivered("$JS.ACK.IMAGES.dedupe.3.100.7.1790230470084404000.42"), Some(want));
        let long = "$JS.ACK._.szMpdrwD.IMAGES.dedupe.3.100.7.1790230470084404000.42";
        assert_eq!(delivered(long), Some(want));
        for bad in ["", "_INBOX.x", "$JS.ACK.a.b.c", "$JS.ACK.IMAGES.dedupe.x.y.7.1.42"] {
            assert_eq!(delivered(bad), None, "{bad}");
        }
    }
}
