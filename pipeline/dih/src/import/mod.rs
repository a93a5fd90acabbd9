//! Sends photos with what is said about them, each as it is, broken ones too.
//!
//! Takes    photos that are read one after the other on a thread of their own, and the way to the broker. Gives the count
//!          of what was sent, and a fault for each that could not be; a fault never stops the others.
//! How      many are under way at once, in their order; bounded in number and in bytes.
//! Keeps    a journal, so that an import that was cut short goes on where it ended.
//! Crash    safe: see [`journal`].

pub mod journal;
pub mod labelled;
pub mod open_images;
mod photos;
mod turn;

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, PoisonError},
};

use dih_core::{
    DeviceId,
    event::{Content, Upload},
};
use futures::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    journal::{Journal, Mark},
    labelled::{Labelled, Row, RowFault},
    photos::{Parcel, Reader, Room},
};
use crate::{bus::Bus, problem::OrProblem, progress::Progress};

/// What became of an import.
#[derive(Debug, Default, Serialize)]
pub struct Imported {
    /// Rows of the folder or CSV, faulty ones included.
    pub rows: u64,
    /// Uploads made by this run.
    pub sent: u64,
    /// Rows that an earlier run of this import had sent.
    pub sent_before: u64,
    /// Rows that the broker already had and dropped.
    pub dropped: u64,
    /// It was told to stop before the end.
    pub stopped: bool,
    pub faults: Vec<Fault>,
}

/// A row that could not be sent.
#[derive(Debug, Serialize)]
pub struct Fault {
    pub row: u64,
    pub source: String,
    pub problem: String,
}

impl From<RowFault> for Fault {
    fn from(fault: RowFault) -> Self {
        Self { row: fault.number, source: fault.source, problem: fault.problem }
    }
}

/// What the reading thread hands over.
pub(crate) enum Read {
    Parcel(Box<Parcel>),
    /// An earlier run sent it.
    Before,
    Fault(Fault),
}

/// Items that wait between the reading thread and the broker.
const AHEAD: usize = 64;

/// Sends all rows in their order; Ctrl-C lets what is under way end, and stops.
pub async fn send(bus: &Bus, labelled: Labelled, journal: &mut Journal, device: &DeviceId) -> anyhow::Result<Imported> {
    let Labelled { rows, faults } = labelled;
    let mut progress = Progress::of(rows.len() as u64, "photos");
    let all = (rows.len() + faults.len()) as u64;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reader = Reader::new(journal.sent(), Room::default(), sender);
    let stop = CancellationToken::new();
    let reading = tokio::task::spawn_blocking({
        let (stop, device) = (stop.clone(), device.clone());
        move || {
            for row in rows {
                let (number, path, source) = (row.number, row.path.clone(), row.source.clone());
                let upload = |bytes| Ok(upload(row, bytes, &device));
                if stop.is_cancelled() || reader.read(number, &path, &source, upload).is_break() {
                    break;
                }
            }
        }
    });
    let sent = pump(bus, receiver, journal, &mut progress, &stop).await;
    reading.await?;
    let mut done = sent?;
    done.rows = all;
    done.faults.extend(faults.into_iter().map(Fault::from));
    done.faults.sort_by_key(|fault| fault.row);
    Ok(done)
}

/// Sends what the reading thread hands over, and notes each once the broker has stored it.
pub(crate) async fn pump(
    bus: &Bus,
    reads: mpsc::Receiver<Read>,
    journal: &mut Journal,
    progress: &mut Progress,
    stop: &CancellationToken,
) -> anyhow::Result<Imported> {
    let done = Mutex::new(Imported::default());
    // Receipts come in the order of the uploads, so who waits longest is next.
    let waiting = Mutex::new(VecDeque::new());
    let reads = stream::unfold(reads, async |mut reads| Some((reads.recv().await?, reads)));
    let uploads = reads.filter_map(|read| {
        let sending = match read {
            Read::Parcel(parcel) => {
                let Parcel { source, mark, name, upload, room } = *parcel;
                lock(&waiting).push_back((source, mark, room));
                Some((upload, Some(name)))
            }
            Read::Before => {
                lock(&done).sent_before += 1;
                None
            }
            Read::Fault(fault) => {
                lock(&done).faults.push(fault);
                None
            }
        };
        futures::future::ready(sending)
    });
    let mut receipts = pin!(bus.submitter().submit_all(uploads));
    // One listener for all the time: what comes while nobody listens is lost.
    let mut told_to_stop = pin!(tokio::signal::ctrl_c());
    loop {
        let receipt = tokio::select! {
            biased; // so that it listens from the beginning
            told = &mut told_to_stop, if !stop.is_cancelled() => {
                told.or_problem("could not listen for Ctrl-C", "")?;
                stop.cancel();
                lock(&done).stopped = true;
                continue;
            }
            receipt = receipts.next() => receipt,
        };
        let Some(receipt) = receipt else { break };
        let receipt = receipt?;
        let next: Option<(String, Mark, photos::Held)> = lock(&waiting).pop_front();
        let (source, mark, _room) = next.expect("every receipt is of a parcel that waits for it");
        match receipt.again {
            true => lock(&done).dropped += 1,
            false => lock(&done).sent += 1,
        }
        journal
            .note(&source, mark, receipt.upload)
            .or_problem("could not note what was sent", "look whether the disk is full")?;
        dih_runner::failpoint::reach("import::after_note");
        progress.step();
    }
    Ok(std::mem::take(&mut *lock(&done)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn upload(row: Row, bytes: bytes::Bytes, device: &DeviceId) -> Upload {
    Upload {
        device: row.device.unwrap_or_else(|| device.clone()),
        labels: row.labels,
        content: Content::Inline(bytes),
        source: Some(row.source),
        captured_at: None,
        attributes: row.attributes,
    }
}
