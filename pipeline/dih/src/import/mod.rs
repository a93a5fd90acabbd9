//! Sends the photos of a labelled folder, each as it is, broken ones too.
//!
//! Takes    rows of a labelled folder and the way to the broker. Gives the count of what was sent, and a fault for each
//!          row that could not be; a fault never stops the others.
//! Keeps    a journal, so that an import that was cut short goes on where it ended.
//! Crash    safe: see [`journal`].

pub mod journal;
pub mod labelled;

use std::fs;

use bytes::Bytes;
use dih_core::{
    DeviceId, ImageId,
    event::{Content, Upload},
};
use serde::Serialize;

use self::{
    journal::{Journal, Mark},
    labelled::{Labelled, Row, RowFault},
};
use crate::{bus::Bus, problem::OrProblem, progress::Progress};

/// Largest file that is read at all, in bytes; what ingest takes at most is a setting of its own, and far below.
const FILE_BYTES_MAX: u64 = 512 << 20;

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

/// Sends all rows in their order.
pub async fn send(bus: &Bus, labelled: Labelled, journal: &mut Journal, device: &DeviceId) -> anyhow::Result<Imported> {
    let Labelled { rows, faults } = labelled;
    let mut done = Imported { rows: (rows.len() + faults.len()) as u64, ..Imported::default() };
    let mut progress = Progress::of(rows.len() as u64, "photos");
    done.faults.extend(faults.into_iter().map(Fault::from));
    for row in rows {
        match read(&row).await {
            Ok((mark, _)) if journal.has(&row.source, mark) => done.sent_before += 1,
            Ok((mark, bytes)) => {
                let name = format!("import-{}", name_of(&row.source, &bytes));
                let source = row.source.clone();
                let sent = bus.submit(upload(row, bytes, device), &name).await?;
                match sent.again {
                    true => done.dropped += 1,
                    false => done.sent += 1,
                }
                let what = "could not note what was sent";
                journal.note(&source, mark, sent.upload).or_problem(what, "look whether the disk is full")?;
            }
            Err(problem) => done.faults.push(Fault { row: row.number, source: row.source, problem }),
        }
        progress.step();
    }
    done.faults.sort_by_key(|fault| fault.row);
    Ok(done)
}

async fn read(row: &Row) -> Result<(Mark, Bytes), String> {
    let metadata = fs::metadata(&row.path).map_err(|e| format!("cannot be read: {e}"))?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("has {} bytes, which is no photo", metadata.len()));
    }
    let bytes = tokio::fs::read(&row.path).await.map_err(|e| format!("cannot be read: {e}"))?;
    Ok((Mark::of(&metadata), bytes.into()))
}

/// The broker drops a second upload of the same path and content while its window is open.
fn name_of(source: &str, bytes: &[u8]) -> ImageId {
    let mut named = source.as_bytes().to_vec();
    named.push(0);
    named.extend_from_slice(ImageId::of_bytes(bytes).as_bytes());
    ImageId::of_bytes(&named)
}

fn upload(row: Row, bytes: Bytes, device: &DeviceId) -> Upload {
    Upload {
        device: row.device.unwrap_or_else(|| device.clone()),
        labels: row.labels,
        content: Content::Inline(bytes),
        source: Some(row.source),
        captured_at: None,
        attributes: row.attributes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_named_by_path_and_content() {
        assert_eq!(name_of("a.jpg", b"x"), name_of("a.jpg", b"x"));
        assert_ne!(name_of("a.jpg", b"x"), name_of("b.jpg", b"x"));
        assert_ne!(name_of("a.jpg", b"x"), name_of("a.jpg", b"y"));
    }
}
