//! A message as the broker delivered it, and the answers one can give to it.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject, jetstream::AckKind};
use bytes::Bytes;
use dih_core::{
    Epoch, UploadSeq,
    topology::{ConsumerSpec, header},
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
    reply: Subject,
}

impl Arrival {
    /// None for a message that no stream delivered.
    pub(crate) fn read(consumer: &'static ConsumerSpec, message: Message) -> Option<Self> {
        let reply = message.reply.clone()?;
        let (stream_sequence, attempt) = sequence_and_attempt(&reply)?;
        Some(Self {
            consumer,
            subject: message.subject.to_string(),
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
            stream_sequence,
            attempt,
            reply,
        })
    }

    /// The upload that the sender says it belongs to.
    pub fn upload(&self) -> Option<UploadSeq> {
        self.number(header::UPLOAD).filter(|n| *n > 0).map(UploadSeq)
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.number(header::EPOCH).and_then(|n| u32::try_from(n).ok()).map(Epoch)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.as_str().parse().ok()
    }

    /// Answers and waits until the broker has taken note.
    pub(crate) async fn confirm(
        &self,
        connection: &Connection,
        kind: AckKind,
        patience: Duration,
    ) -> Result<(), Cause> {
        // One shared inbox for all confirmations: a subscription each would double the traffic.
        let request = async_nats::Request::new().payload(kind.into()).timeout(Some(patience));
        connection.client().send_request(self.reply.clone(), request).await?;
        Ok(())
    }

    /// Gives it back, for this or another replica to take after `delay`. If the word is lost, the lease runs out.
    pub(crate) async fn hand_back(&self, connection: &Connection, delay: Option<Duration>) {
        if let Err(error) = connection.client().publish(self.reply.clone(), AckKind::Nak(delay).into()).await {
            tracing::debug!(%error, "could not hand a delivery back, its lease will run out");
        }
    }
}

/// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or the longer form
/// with domain and account hash before the stream. Source: NATS ADR-15.
fn sequence_and_attempt(reply: &str) -> Option<(u64, u64)> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let from = match tokens.len() {
        7 => 0,
        9.. => 2,
        _ => return None,
    };
    Some((tokens[from + 3].parse().ok()?, tokens[from + 2].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_and_attempt_are_read_from_both_forms_of_the_reply() {
        assert_eq!(sequence_and_attempt("$JS.ACK.IMAGES.dedupe.3.100.7.1790230470084404000.42"), Some((100, 3)));
        let long = "$JS.ACK._.szMpdrwD.IMAGES.dedupe.3.100.7.1790230470084404000.42";
        assert_eq!(sequence_and_attempt(long), Some((100, 3)));
        for bad in ["", "_INBOX.x", "$JS.ACK.a.b.c", "$JS.ACK.IMAGES.dedupe.x.y.7.1.42"] {
            assert_eq!(sequence_and_attempt(bad), None, "{bad}");
        }
    }
}
