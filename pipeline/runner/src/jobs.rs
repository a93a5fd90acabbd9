//! Asks for data-set versions and models, and waits for what comes of it.
//!
//! Takes    requests, each with an id of its own. Gives the event that answers it.
//! Crash    safe: asked again under the same id within an hour, a request is done once.

use std::time::Duration;

use dih_core::{
    DatasetName,
    event::{CutRequested, DatasetPublished, JobFailed, TrainingCompleted, TrainingRequested},
    topology::EVENTS,
};
use dih_proto::Wire;
use futures::TryStreamExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    Connection,
    error::BusError,
    outgoing::{Outgoing, job_failed_subject, subject_of},
    publish::publish_one,
    scan::{Stored, scan},
};

const PAUSE: Duration = Duration::from_millis(200);

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Published(DatasetPublished),
    Trained(TrainingCompleted),
    Failed(JobFailed),
}

pub async fn request_cut(connection: &Connection, request: &CutRequested) -> Result<(), BusError> {
    let message = Outgoing::new(subject_of("organize-cut"), request, format!("cut.{}", request.request));
    publish_one(connection, &message).await.map(drop)
}

pub async fn request_training(connection: &Connection, request: &TrainingRequested) -> Result<(), BusError> {
    let message = Outgoing::new(subject_of("train"), request, format!("train.{}", request.request));
    publish_one(connection, &message).await.map(drop)
}

/// Waits for the answer to a request; None at `shutdown`. An answer that was given before is found too.
pub async fn wait_for(
    connection: &Connection,
    request: &str,
    shutdown: CancellationToken,
) -> Result<Option<Done>, BusError> {
    let failed = job_failed_subject(request);
    let mut next = 1;
    loop {
        let mut events = scan(connection, EVENTS, ">", next);
        while let Some(event) = events.try_next().await? {
            next = event.sequence + 1;
            if let Some(done) = answer(&event, request, &failed)? {
                return Ok(Some(done));
            }
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}

fn answer(event: &Stored, request: &str, failed: &str) -> Result<Option<Done>, BusError> {
    let subject = event.subject.as_str();
    let done = if subject.starts_with("dih.v1.dataset.published.") {
        let event: DatasetPublished = read(event)?;
        (event.request == request).then_some(Done::Published(event))
    } else if subject.starts_with("dih.v1.training.completed.") {
        let event: TrainingCompleted = read(event)?;
        (event.request == request).then_some(Done::Trained(event))
    } else if subject == failed {
        let event: JobFailed = read(event)?;
        (event.request == request).then_some(Done::Failed(event))
    } else {
        None
    };
    Ok(done)
}

fn read<T: Wire>(event: &Stored) -> Result<T, BusError> {
    let unreadable = |source| BusError::Unreadable { stream: EVENTS, sequence: event.sequence, source };
    T::decode(&event.payload).map_err(unreadable)
}

/// Versions that were published, of one data set or of all, in the order of their publication.
pub async fn published(
    connection: &Connection,
    dataset: Option<&DatasetName>,
) -> Result<Vec<DatasetPublished>, BusError> {
    let name = dataset.map_or("*", DatasetName::as_str);
    let events = scan(connection, EVENTS, &format!("dih.v1.dataset.published.{name}"), 1);
    events.and_then(async |event| read(&event)).try_collect().await
}

/// Models that were trained, on one data set or on all, in the order of their completion.
pub async fn trained(
    connection: &Connection,
    dataset: Option<&DatasetName>,
) -> Result<Vec<TrainingCompleted>, BusError> {
    let name = dataset.map_or("*", DatasetName::as_str);
    let events = scan(connection, EVENTS, &format!("dih.v1.training.completed.{name}"), 1);
    events.and_then(async |event| read(&event)).try_collect().await
}
