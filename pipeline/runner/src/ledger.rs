//! The answers to uploads: one verdict each, and the revisions that followed.
//!
//! Takes    a connection. Gives answers in the order in which they were given.
//! Keeps    nothing; the streams VERDICTS and REVISIONS are the ledger.

use dih_core::{
    UploadSeq,
    topology::{REVISIONS, UPLOADS, VERDICTS, subject},
    verdict::Answer,
};
use dih_proto::Wire;
use futures::{Stream, StreamExt, TryStreamExt};

use crate::{
    Connection,
    error::{BusError, RUN_SETUP},
    publish::verdict_of,
    scan::{Stored, scan},
    topology::stream_info,
};

/// Number of the latest upload, and so of all that ever came; 0 before the first.
pub async fn last_upload_seq(connection: &Connection) -> Result<UploadSeq, BusError> {
    let info = stream_info(connection, UPLOADS).await?;
    let info = info.ok_or_else(|| BusError::Refused {
        action: format!("look at the stream {UPLOADS}"),
        remedy: RUN_SETUP,
        source: None,
    })?;
    Ok(UploadSeq(info.state.last_sequence))
}

/// Uploads that have a verdict.
pub async fn answered(connection: &Connection) -> Result<u64, BusError> {
    Ok(stream_info(connection, VERDICTS).await?.map_or(0, |info| info.state.messages))
}

/// All verdicts, in the order in which they were given.
pub fn answers(connection: &Connection) -> impl Stream<Item = Result<Answer, BusError>> + Send + Unpin + use<> {
    scan(connection, VERDICTS, "dih.v1.verdict.*", 1).map(|stored| stored.and_then(|s| read(VERDICTS, &s)))
}

/// All revisions, in the order in which they were made.
pub fn revisions(connection: &Connection) -> impl Stream<Item = Result<Answer, BusError>> + Send + Unpin + use<> {
    scan(connection, REVISIONS, "dih.v1.revision.*", 1).map(|stored| stored.and_then(|s| read(REVISIONS, &s)))
}

/// Everything that was ever answered to one upload.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The first answer; it never changes.
    pub verdict: Answer,
    /// In the order in which they were made.
    pub revisions: Vec<Answer>,
}

impl History {
    /// What holds now: the revision of the highest epoch, else the verdict.
    pub fn present(&self) -> &Answer {
        self.revisions.iter().max_by_key(|answer| answer.epoch).unwrap_or(&self.verdict)
    }
}

/// None while the upload is unanswered.
pub async fn history_of(connection: &Connection, upload: UploadSeq) -> Result<Option<History>, BusError> {
    let Some(verdict) = verdict_of(connection, upload).await? else { return Ok(None) };
    let stored = scan(connection, REVISIONS, &subject::revision(upload), 1);
    let revisions = stored.and_then(async |s| read(REVISIONS, &s)).try_collect().await?;
    Ok(Some(History { verdict, revisions }))
}

/// What holds now for an upload; None while it is unanswered.
pub async fn answer_of(connection: &Connection, upload: UploadSeq) -> Result<Option<Answer>, BusError> {
    Ok(history_of(connection, upload).await?.map(|history| history.present().clone()))
}

fn read(stream: &'static str, stored: &Stored) -> Result<Answer, BusError> {
    let unreadable = |source| BusError::Unreadable { stream, sequence: stored.sequence, source };
    Answer::decode(&stored.payload).map_err(unreadable)
}
