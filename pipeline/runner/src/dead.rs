//! The dead letters: what no stage could process, and the way back into the pipeline.
//!
//! Takes    the number of a dead letter. Gives it, or sends it on its way once more.
//! Keeps    every dead letter, replayed or not.
//! Weak at  a letter replayed twice, more than an hour apart, is processed twice; the stages find what they wrote.

use dih_core::{
    Class, Classify, Epoch, Millis, StageName, UploadSeq,
    event::{DeadLetter, ImageClustered, ImageEmbedded, ImageStored, ImageUnique, ImageVerified},
    topology::{self, DEAD},
    verdict::{Answer, Status},
};
use dih_proto::{Wire, WireError};
use futures::TryStreamExt;

use crate::{
    Connection,
    error::BusError,
    ledger::answer_of,
    outgoing::Outgoing,
    publish::{publish_all, publish_one},
    scan::{Stored, scan},
};

/// A dead letter and its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Dead {
    /// Its sequence in the stream of dead letters, from 1.
    pub id: u64,
    pub letter: DeadLetter,
}

/// Why a dead letter stays dead.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("there is no dead letter {id}; `dih dead ls` names them")]
    NotFound { id: u64 },
    #[error("dead letter {id} cannot be read, so no stage could either; have its sender send it again")]
    Unreadable { id: u64, source: WireError },
    #[error("dead letter {id} is of `{consumer}`, which this version does not know")]
    UnknownConsumer { id: u64, consumer: String },
    #[error("dead letter {id} was not replayed")]
    Bus { id: u64, source: BusError },
}

impl Classify for ReplayError {
    fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } | Self::Unreadable { .. } | Self::UnknownConsumer { .. } => Class::BadInput,
            Self::Bus { source, .. } => source.class(),
        }
    }
}

/// What became of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// The subject it went to.
    pub subject: String,
    /// The new number, for an upload.
    pub upload: Option<UploadSeq>,
}

/// All dead letters, in the order of their death.
pub async fn list(connection: &Connection) -> Result<Vec<Dead>, BusError> {
    scan(connection, DEAD, "dih.v1.dead.*", 1).and_then(async |stored| read(&stored)).try_collect().await
}

/// One dead letter; None where there is none of that number.
pub async fn show(connection: &Connection, id: u64) -> Result<Option<Dead>, BusError> {
    let first = scan(connection, DEAD, "dih.v1.dead.*", id).try_next().await?;
    first.filter(|stored| stored.sequence == id).map(|stored| read(&stored)).transpose()
}

fn read(stored: &Stored) -> Result<Dead, BusError> {
    let unreadable = |source| BusError::Unreadable { stream: DEAD, sequence: stored.sequence, source };
    Ok(Dead { id: stored.sequence, letter: DeadLetter::decode(&stored.payload).map_err(unreadable)? })
}

/// Sends a dead letter on its way once more, where it came from.
///
/// A fact about an image starts again at dedupe in a later epoch, so its new answer is a revision. An upload gets a new number, and its
/// old one a revision that says so. A request is made again.
pub async fn replay(connection: &Connection, id: u64) -> Result<Replayed, ReplayError> {
    let bus = |source| ReplayError::Bus { id, source };
    let Dead { letter, .. } = show(connection, id).await.map_err(bus)?.ok_or(ReplayError::NotFound { id })?;
    let known = topology::consumer(&letter.consumer)
        .ok_or_else(|| ReplayError::UnknownConsumer { id, consumer: letter.consumer.clone() })?;
    if known.stage == StageName::Ingest {
        return replay_upload(connection, id, &letter).await.map_err(bus);
    }
    let epoch = match letter.upload {
        None => Epoch(0),
        Some(upload) => answer_of(connection, upload).await.map_err(bus)?.map(|a| a.epoch.next()).unwrap_or_default(),
    };
    let unreadable = |source| ReplayError::Unreadable { id, source };
    let message = match known.name {
        "dedupe" => renewed::<ImageStored>(&letter, epoch).map_err(unreadable)?,
        "verify" => renewed::<ImageUnique>(&letter, epoch).map_err(unreadable)?,
        "embed" => renewed::<ImageVerified>(&letter, epoch).map_err(unreadable)?,
        "cluster" => renewed::<ImageEmbedded>(&letter, epoch).map_err(unreadable)?,
        "organize" => renewed::<ImageClustered>(&letter, epoch).map_err(unreadable)?,
        _ => as_it_was(&letter),
    };
    let message = Outgoing { name: Some(format!("replay.{id}")), ..message };
    publish_one(connection, &message).await.map_err(bus)?;
    Ok(Replayed { subject: message.subject, upload: None })
}

async fn replay_upload(connection: &Connection, id: u64, letter: &DeadLetter) -> Result<Replayed, BusError> {
    let message = Outgoing { name: Some(format!("replay.{id}")), ..as_it_was(letter) };
    let upload = UploadSeq(publish_one(connection, &message).await?.sequence);
    if let Some(old) = letter.upload
        && let Some(before) = answer_of(connection, old).await?
    {
        let revision = Answer {
            epoch: before.epoch.next(),
            status: Status::Dead,
            stage: StageName::Ingest,
            reason: "replayed".to_owned(),
            detail: Some(format!("sent again as upload {upload}")),
            at: Millis::now(),
            ..before
        };
        publish_all(connection, &[Outgoing::answer(&revision)]).await?;
    }
    Ok(Replayed { subject: message.subject, upload: Some(upload) })
}

/// Subject, body and our own headers as they came, but without the name: under that it was taken once already.
fn as_it_was(letter: &DeadLetter) -> Outgoing {
    let others = letter.headers.iter().filter(|(name, _)| !name.starts_with("Nats-")).cloned().collect();
    let (subject, body) = (letter.subject.clone(), letter.payload.clone());
    Outgoing {
        subject,
        name: None,
        upload: None,
        epoch: None,
        received_at: None,
        trace: None,
        others,
        body,
        verdict: None,
        told: None,
    }
}

/// The image of a fact, in a later epoch, back at dedupe: only there is the record of a fallen image opened again.
fn renewed<T: Fact>(letter: &DeadLetter, epoch: Epoch) -> Result<Outgoing, WireError> {
    let mut image = T::decode(&letter.payload)?.into_image();
    image.epoch = image.epoch.next().max(epoch);
    let (subject, epoch) = (STORED.to_owned(), Some(image.epoch));
    Ok(Outgoing { subject, epoch, body: ImageStored { image }.encode().into(), ..as_it_was(letter) })
}

const STORED: &str = "dih.v1.image.stored";

trait Fact: Wire {
    fn into_image(self) -> dih_core::event::Image;
}

macro_rules! facts {
    ($($name:ident),*) => {$(
        impl Fact for $name {
            fn into_image(self) -> dih_core::event::Image {
                self.image
            }
        }
    )*};
}

facts!(ImageStored, ImageUnique, ImageVerified, ImageEmbedded, ImageClustered);
