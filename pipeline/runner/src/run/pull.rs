//! Asks the broker for work and reads what comes.
//!
//! Takes    the room that is free. Gives messages, one by one, over one inbox for the whole run.
//! Keeps    one open request at most; so what arrives always fits the room that was asked for. Each request has a number,
//!          part of the subject that the broker answers on: word that an earlier one is over must not end the present one.
//! Weak at  a request that the broker forgot (it was restarted) is noticed when its time is over, within 5 s.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subject, Subscriber, jetstream::consumer::pull::BatchConfig};
use futures::StreamExt;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{Connection, error::BusError};

/// How long the broker keeps a request that finds no work.
const REQUEST: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);
const REST_FIRST: Duration = Duration::from_millis(250);
const REST_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum State {
    Idle,
    /// Some messages may still come, until then.
    Open {
        left: usize,
        until: Instant,
    },
    /// Nobody serves us just now.
    Resting {
        until: Instant,
    },
}

pub(super) enum Pulled {
    Message(Message),
    /// The request is over; ask again.
    Nothing,
    /// The consumer or the broker is not there; asks again after a rest.
    Nobody,
}

pub(super) struct Puller {
    connection: Connection,
    subject: Subject,
    inbox: String,
    /// Number of the latest request.
    request: u64,
    messages: Subscriber,
    state: State,
    rest: Duration,
}

impl Puller {
    pub(super) async fn open(connection: &Connection, stream: &str, consumer: &str) -> Result<Self, BusError> {
        let inbox = connection.client().new_inbox();
        let messages = connection.client().subscribe(format!("{inbox}.*")).await;
        Ok(Self {
            messages: messages.map_err(|e| BusError::unavailable("subscribe to deliveries", e))?,
            connection: connection.clone(),
            subject: Subject::from(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")),
            inbox,
            request: 0,
            state: State::Idle,
            rest: REST_FIRST,
        })
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Asks for up to `items` messages of `bytes` together.
    pub(super) async fn ask(&mut self, items: usize, bytes: usize) {
        let request = BatchConfig { batch: items, expires: Some(REQUEST), max_bytes: bytes, ..BatchConfig::default() };
        let body = serde_json::to_vec(&request).expect("plain numbers are JSON");
        self.request += 1;
        let reply = self.reply();
        let sent = self.connection.client().publish_with_reply(self.subject.clone(), reply, body.into());
        self.state = match sent.await {
            Ok(()) => State::Open { left: items, until: Instant::now() + REQUEST + GRACE },
            Err(error) => {
                tracing::debug!(%error, "could not ask for work");
                self.resting()
            }
        };
    }

    /// Asks for nothing for so long.
    pub(super) fn pause(&mut self, pause: Duration) {
        self.state = State::Resting { until: Instant::now() + pause };
    }

    /// Where the broker answers the latest request.
    fn reply(&self) -> String {
        format!("{}.{}", self.inbox, self.request)
    }

    fn resting(&mut self) -> State {
        let until = Instant::now() + self.rest;
        self.rest = (self.rest * 2).min(REST_MAX);
        State::Resting { until }
    }

    /// May be dropped at any await: nothing that came is lost.
    pub(super) async fn next(&mut self) -> Pulled {
        let (left, until) = match self.state {
            State::Idle => return Pulled::Nothing,
            State::Open { left, until } => (left, until),
            State::Resting { until } => {
                sleep_until(until).await;
                self.state = State::Idle;
                return Pulled::Nothing;
            }
        };
        let Ok(Some(message)) = timeout_at(until, self.messages.next()).await else {
            self.state = State::Idle;
            return Pulled::Nothing;
        };
        match message.status {
            None | Some(StatusCode::OK) => {
                self.rest = REST_FIRST;
                self.state = if left > 1 { State::Open { left: left - 1, until } } else { State::Idle };
                Pulled::Message(message)
            }
            Some(StatusCode::IDLE_HEARTBEAT) => Pulled::Nothing,
            // It had given all that was asked for, or was given up.
            Some(_) if message.subject.as_str() != self.reply() => Pulled::Nothing,
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
                self.rest = REST_FIRST;
                self.state = State::Idle;
                Pulled::Nothing
            }
            Some(status) => self.refused(status, message.description.as_deref().unwrap_or_default()),
        }
    }

    fn refused(&mut self, status: StatusCode, description: &str) -> Pulled {
        // All that was asked for has come, or the next message did not fit into what was left of the bytes.
        let over = ["Batch Completed", "MaxBytes"].iter().any(|words| description.contains(words));
        if status == StatusCode::REQUEST_TERMINATED && over {
            self.state = State::Idle;
            return Pulled::Nothing;
        }
        tracing::debug!(%status, description, "a request for work was refused");
        self.state = self.resting();
        Pulled::Nobody
    }

    /// Takes no more, and gives what had arrived already.
    pub(super) async fn close(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        if self.messages.drain().await.is_ok() {
            let read = async {
                while let Some(message) = self.messages.next().await {
                    if message.status.is_none() {
                        rest.push(message);
                    }
                }
            };
            // Away: then nothing comes either, and the leases run out.
            let _ = timeout(Duration::from_secs(1), read).await;
        }
        rest
    }
}
