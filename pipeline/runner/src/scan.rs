//! Reads a stream from one end to the other, without a consumer, a batch a round trip.
//!
//! Takes    a stream, a subject pattern and a first sequence. Gives the messages in order, until the end is reached.
//! Weak at  in a cluster a replica may answer that is a moment behind the leader.

use std::{collections::VecDeque, time::Duration};

use async_nats::{HeaderMap, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use tokio::time::timeout;

use crate::{Connection, error::BusError};

/// A message as its stream holds it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Messages a round trip.
const BATCH: usize = 512;
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// From the first message at or after `from`; what arrives while reading is read too.
pub(crate) fn scan(
    connection: &Connection,
    name: &'static str,
    filter: &str,
    from: u64,
) -> impl Stream<Item = Result<Stored, BusError>> + Send + Unpin + use<> {
    let reader = Reader {
        connection: connection.clone(),
        name,
        filter: filter.to_owned(),
        inbox: None,
        next: from.max(1),
        read: VecDeque::new(),
        ended: false,
    };
    Box::pin(stream::try_unfold(reader, |mut reader| async move {
        while reader.read.is_empty() && !reader.ended {
            reader.batch().await?;
        }
        Ok(reader.read.pop_front().map(|message| (message, reader)))
    }))
}

struct Reader {
    connection: Connection,
    name: &'static str,
    filter: String,
    inbox: Option<(Subject, Subscriber)>,
    next: u64,
    read: VecDeque<Stored>,
    ended: bool,
}

impl Reader {
    fn action(&self) -> String {
        format!("read the stream {}", self.name)
    }

    async fn batch(&mut self) -> Result<(), BusError> {
        let client = self.connection.client().clone();
        if self.inbox.is_none() {
            let inbox = Subject::from(client.new_inbox());
            let messages = client.subscribe(inbox.clone()).await;
            let messages = messages.map_err(|e| BusError::unavailable(self.action(), e))?;
            self.inbox = Some((inbox, messages));
        }
        let action = self.action();
        let (inbox, messages) = self.inbox.as_mut().expect("subscribed above");
        let request = json!({ "seq": self.next, "batch": BATCH, "next_by_subj": self.filter }).to_string();
        let sent =
            client.publish_with_reply(format!("$JS.API.DIRECT.GET.{}", self.name), inbox.clone(), request.into());
        sent.await.map_err(|e| BusError::unavailable(action.as_str(), e))?;
        loop {
            let message = match timeout(SILENCE_MAX, messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(BusError::unavailable(action, "the connection was closed")),
                Err(_) => return Err(BusError::unavailable(action, "the broker did not answer in time")),
            };
            let headers = message.headers.unwrap_or_default();
            let number = |name: &str| headers.get(name).and_then(|value| value.as_str().parse::<u64>().ok());
            match message.status {
                None | Some(StatusCode::OK) => {}
                // End of batch: more may be left.
                Some(status) if status.as_u16() == 204 => {
                    self.ended = number("Nats-Num-Pending").unwrap_or(0) == 0;
                    return Ok(());
                }
                Some(StatusCode::NOT_FOUND) => {
                    self.ended = true;
                    return Ok(());
                }
                Some(status) => {
                    let told = message.description.unwrap_or_else(|| status.to_string());
                    return Err(BusError::unavailable(action, told));
                }
            }
            let subject = headers.get("Nats-Subject").map(|s| s.as_str().to_owned());
            let (Some(sequence), Some(subject)) = (number("Nats-Sequence"), subject) else {
                return Err(BusError::unavailable(action, "the broker sent a message without its sequence"));
            };
            self.next = sequence + 1;
            self.read.push_back(Stored { sequence, subject, headers, payload: message.payload });
        }
    }
}
