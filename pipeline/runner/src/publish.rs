//! Publishing: sent in order, each confirmed by the broker.
//!
//! Takes    messages. Gives nothing but the certainty that a stream holds them.
//! Crash    safe: a second publish of the same name is dropped by the broker, or told apart by its name downstream.

use std::{error::Error, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
    message::PublishMessage,
    publish::PublishAck,
};
use dih_core::{
    Millis, UploadSeq, metrics as names,
    topology::{VERDICTS, subject},
    verdict::Answer,
};
use dih_proto::Wire;
use tokio::time::{Instant, sleep};

use crate::{
    Connection,
    error::{BusError, RUN_SETUP, told},
    outgoing::Outgoing,
};

/// Longest time without anybody who takes a subject: a broker that is starting needs a moment.
const NOBODY_MAX: Duration = Duration::from_secs(10);

/// Publishes all, in order, and waits until every one is stored.
pub(crate) async fn publish_all(connection: &Connection, messages: &[Outgoing]) -> Result<(), BusError> {
    let mut waiting = Vec::with_capacity(messages.len());
    for message in messages {
        waiting.push((message, send(connection, message).await));
    }
    for (message, sent) in waiting {
        let result = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match result {
            Ok(ack) if ack.duplicate => {}
            Ok(_) => count_verdict(message),
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                Box::pin(insist(connection, message)).await?
            }
            Err(error) => Box::pin(forgive_second_verdict(connection, message, error)).await?,
        }
        // Once the ledger holds it, and before the input is acknowledged: told twice after a crash, never not at all.
        if let Some(told) = &message.told {
            told.send(connection, &message.body).await?;
        }
    }
    Ok(())
}

/// A first answer, and how long it took.
fn count_verdict(message: &Outgoing) {
    let Some((_, status)) = message.verdict else { return };
    metrics::counter!(names::VERDICTS, "verdict" => status.as_str()).increment(1);
    if let Some(at) = message.received_at {
        let seconds = (Millis::now().0 - at.0).max(0) as f64 / 1e3;
        metrics::histogram!(names::VERDICT_SECONDS, "verdict" => status.as_str()).record(seconds);
    }
}

/// Publishes one and gives the broker's receipt.
pub(crate) async fn publish_one(connection: &Connection, message: &Outgoing) -> Result<PublishAck, BusError> {
    begin(connection, message).await?.finish(message).await
}

/// A message that is sent but not confirmed.
pub(crate) struct Sent(jetstream::context::PublishAckFuture);

impl Sent {
    pub(crate) async fn finish(self, message: &Outgoing) -> Result<PublishAck, BusError> {
        self.0.await.map_err(|error| explain(&message.subject, error))
    }
}

/// Sends one; what is begun in order is stored in order.
pub(crate) async fn begin(connection: &Connection, message: &Outgoing) -> Result<Sent, BusError> {
    send(connection, message).await.map(Sent).map_err(|error| explain(&message.subject, error))
}

async fn send(
    connection: &Connection,
    message: &Outgoing,
) -> Result<jetstream::context::PublishAckFuture, PublishError> {
    let publish = PublishMessage::build().payload(message.body.clone()).headers(message.headers());
    connection.jetstream().send_publish(message.subject.clone(), publish).await
}

/// No stream took it: perhaps the broker is still starting. Tries on for a while.
async fn insist(connection: &Connection, message: &Outgoing) -> Result<(), BusError> {
    let until = Instant::now() + NOBODY_MAX;
    loop {
        sleep(Duration::from_millis(250)).await;
        let result = match send(connection, message).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match result {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound && Instant::now() < until => {}
            Err(error) => return forgive_second_verdict(connection, message, error).await,
        }
    }
}

/// The broker takes one verdict an upload. That a second is refused is how it should be.
async fn forgive_second_verdict(
    connection: &Connection,
    message: &Outgoing,
    error: PublishError,
) -> Result<(), BusError> {
    let store_failed = error_code(&error) == Some(ErrorCode::STREAM_STORE_FAILED);
    if let (Some((upload, status)), true) = (message.verdict, store_failed)
        && let Some(first) = verdict_of(connection, upload).await?
    {
        match first.status == status {
            true => tracing::debug!(%upload, %status, "the upload was answered before"),
            false => {
                tracing::warn!(%upload, first = %first.status, second = %status, "a second, other verdict was refused")
            }
        }
        return Ok(());
    }
    Err(explain(&message.subject, error))
}

fn error_code(error: &PublishError) -> Option<ErrorCode> {
    error.source()?.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}

/// What a failed publish means, and what to do about it.
fn explain(subject: &str, error: PublishError) -> BusError {
    let action = format!("publish on {subject}");
    if error.kind() == PublishErrorKind::StreamNotFound {
        return BusError::Refused { action, remedy: RUN_SETUP, source: Some(told(error)) };
    }
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        let remedy = "it is larger than `max_payload`; send large photos by their blob key";
        return BusError::Refused { action, remedy, source: Some(told(error)) };
    }
    if error.kind() == PublishErrorKind::TimedOut {
        let action = format!("{action} in time; the broker's log says why: it is slow, or its disk is full");
        return BusError::unavailable(action, error);
    }
    let full = [
        ErrorCode::STREAM_STORE_FAILED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ];
    match error_code(&error) {
        Some(code) if full.contains(&code) => BusError::Full { stream: stream_of(subject), source: told(error) },
        _ => BusError::unavailable(action, error),
    }
}

fn stream_of(subject: &str) -> String {
    let takes = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => subject.starts_with(prefix),
        None => subject == pattern,
    };
    let found = dih_core::topology::STREAMS.iter().find(|s| s.subjects.iter().any(|p| takes(p)));
    found.map_or_else(|| subject.to_owned(), |s| s.name.to_owned())
}

/// The first answer to an upload, if it was given.
pub(crate) async fn verdict_of(connection: &Connection, upload: UploadSeq) -> Result<Option<Answer>, BusError> {
    let action = || format!("read the verdict of upload {upload}");
    let stream = connection.jetstream().get_stream_no_info(VERDICTS).await;
    let stream = stream.map_err(|e| BusError::unavailable(action(), e))?;
    let message = match stream.direct_get_last_for_subject(subject::verdict(upload)).await {
        Ok(message) => message,
        Err(error) if error.kind() == jetstream::stream::DirectGetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BusError::unavailable(action(), error)),
    };
    let answer = Answer::decode(&message.payload);
    answer.map(Some).map_err(|source| BusError::Unreadable { stream: VERDICTS, sequence: message.sequence, source })
}
