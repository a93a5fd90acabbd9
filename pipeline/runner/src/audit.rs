//! Proves that nothing was lost: every upload is answered exactly once, or still on its way.
//!
//! Takes    the streams as they are. Gives the numbers of the uploads that break the rule.
//! Keeps    three bitmaps and the revised uploads while it runs.
//! Weak at  what a replica of a cluster has not seen yet looks missing; ask again.
//!
//! The streams are read from upstream to downstream. A message is published downstream before it is acknowledged
//! upstream, so whatever left a stream before it was read shows up in one that is read later.

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream::stream::State;
use dih_core::{
    Epoch, UploadSeq,
    topology::{IMAGES, UPLOADS, header},
    verdict::Status,
};
use futures::TryStreamExt;
use roaring::RoaringTreemap;
use serde::Serialize;

use crate::{
    Connection,
    error::{BusError, RUN_SETUP},
    ledger,
    scan::scan,
};

/// The state of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Uploads that ever came.
    pub uploads: u64,
    /// Of them, those with a verdict.
    pub answered: u64,
    /// Of them, those without one that are still on their way.
    pub in_flight: u64,
    /// Neither answered nor on their way: lost.
    pub missing: Vec<UploadSeq>,
    /// With more than one verdict.
    pub twice: Vec<UploadSeq>,
    /// Answered uploads by what holds for them now.
    pub by_verdict: BTreeMap<Status, u64>,
}

impl Audit {
    /// Whether every upload is answered exactly once or on its way.
    pub fn holds(&self) -> bool {
        self.missing.is_empty() && self.twice.is_empty()
    }
}

/// Reads the whole ledger.
pub async fn audit(connection: &Connection) -> Result<Audit, BusError> {
    let (uploads, mut on_their_way) = waiting_uploads(connection).await?;
    on_their_way |= uploads_of_images(connection).await?;
    // Revisions first: a verdict that is revised is counted under what holds now.
    let revised = revised(connection).await?;
    let mut answered = RoaringTreemap::new();
    let mut twice = RoaringTreemap::new();
    let mut by_verdict: BTreeMap<Status, u64> = BTreeMap::new();
    let mut verdicts = ledger::answers(connection);
    while let Some(answer) = verdicts.try_next().await? {
        let upload = answer.upload.0;
        if upload > uploads {
            continue; // came after we began
        }
        if !answered.insert(upload) {
            twice.insert(upload);
            continue;
        }
        let status = revised.get(&upload).map_or(answer.status, |(_, status)| *status);
        *by_verdict.entry(status).or_default() += 1;
    }
    let mut missing = RoaringTreemap::new();
    missing.insert_range(1..=uploads);
    missing -= &answered;
    on_their_way &= &missing;
    missing -= &on_their_way;
    Ok(Audit {
        uploads,
        answered: answered.len(),
        in_flight: on_their_way.len(),
        missing: missing.iter().map(UploadSeq).collect(),
        twice: twice.iter().map(UploadSeq).collect(),
        by_verdict,
    })
}

/// The number of the last upload, and those that ingest has not acknowledged.
async fn waiting_uploads(connection: &Connection) -> Result<(u64, RoaringTreemap), BusError> {
    let action = || format!("look at the stream {UPLOADS}");
    let stream = connection.jetstream().get_stream_no_info(UPLOADS).await;
    let stream = stream.map_err(|e| BusError::unavailable(action(), e))?;
    let info = stream.info_builder().with_deleted(true).fetch().await;
    let info = info.map_err(|e| match e.kind() {
        async_nats::jetstream::context::RequestErrorKind::NoResponders => {
            BusError::Refused { action: action(), remedy: RUN_SETUP, source: None }
        }
        _ => BusError::unavailable(action(), e),
    })?;
    let state = &info.info.state;
    Ok((state.last_sequence, present(state)))
}

/// The sequences that a stream holds.
fn present(state: &State) -> RoaringTreemap {
    let mut present = RoaringTreemap::new();
    if state.messages > 0 {
        present.insert_range(state.first_sequence..=state.last_sequence);
        for gone in state.deleted.iter().flatten() {
            present.remove(*gone);
        }
    }
    present
}

/// The uploads that the facts on their way through the stages belong to.
async fn uploads_of_images(connection: &Connection) -> Result<RoaringTreemap, BusError> {
    let mut uploads = RoaringTreemap::new();
    let mut images = scan(connection, IMAGES, "dih.v1.image.*", 1);
    while let Some(fact) = images.try_next().await? {
        let upload = fact.headers.get(header::UPLOAD).and_then(|value| value.as_str().parse::<u64>().ok());
        uploads.extend(upload);
    }
    Ok(uploads)
}

/// For every revised upload: its highest epoch and the status given in it.
async fn revised(connection: &Connection) -> Result<HashMap<u64, (Epoch, Status)>, BusError> {
    let mut revised: HashMap<u64, (Epoch, Status)> = HashMap::new();
    let mut revisions = ledger::revisions(connection);
    while let Some(answer) = revisions.try_next().await? {
        let latest = revised.entry(answer.upload.0).or_insert((answer.epoch, answer.status));
        if answer.epoch >= latest.0 {
            *latest = (answer.epoch, answer.status);
        }
    }
    Ok(revised)
}
