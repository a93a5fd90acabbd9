//! What the devices send: the same small photos, in the same order, to both runs.
//!
//! Takes    the demo's photos, a number and a seed. Gives uploads, and a sender that keeps a few of them under way.
//! Weak at  the sender waits for every receipt, so that both runs number the uploads alike.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dih_core::{
    DeviceId, Label,
    event::{Content, Upload},
};
use dih_runner::{ConnectOptions, Connection, Submitter};
use dih_tests::{make_by_python, tools};
use tempfile::TempDir;
use tokio::time::sleep;

/// Draws and shoots; the simulated cameras of `dih simulate` take larger photos.
const SHOOT: &str = include_str!("crowd.py");

/// Between two uploads beyond the quota, at first.
const TRICKLE: Duration = Duration::from_millis(500);

/// Uploads in their order, as files of a folder.
#[derive(Debug)]
pub(crate) struct Crowd {
    folder: TempDir,
    /// File, labels, device.
    rows: Vec<[String; 3]>,
}

impl Crowd {
    pub(crate) fn shoot(uploads: u64, seed: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dih-crowd-").tempdir()?;
        let (photos, uploads, seed) = (tools()?.join("photos"), uploads.to_string(), seed.to_string());
        make_by_python(SHOOT, &[folder.path(), &photos, Path::new(&uploads), Path::new(&seed)])?;
        let mut rows = Vec::new();
        for row in csv::Reader::from_path(folder.path().join("labels.csv"))?.into_records() {
            let row = row?;
            let cell = |at: usize| row.get(at).map(str::to_owned).context("file, label and device in each row");
            rows.push([cell(0)?, cell(1)?, cell(2)?]);
        }
        Ok(Self { folder, rows })
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The `n`th upload from 0, and the name under which the broker knows it if it is sent again.
    pub(crate) fn upload(&self, n: usize) -> Result<(Upload, Option<String>)> {
        let [file, labels, device] = &self.rows[n];
        let labels: Result<Vec<Label>, _> = labels.split(';').map(Label::new).collect();
        let upload = Upload {
            device: DeviceId::new(device)?,
            labels: labels?,
            content: Content::Inline(Bytes::from(fs::read(self.folder.path().join(file))?)),
            source: Some(file.clone()),
            captured_at: None,
            attributes: Default::default(),
        };
        Ok((upload, Some(format!("crowd-{file}"))))
    }
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How far sender and stages are.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    /// Up to here the sender is quick; what is beyond only trickles.
    pub(crate) quota: AtomicU64,
    /// Sends that the broker refused or did not confirm; each was repeated.
    pub(crate) repeated: AtomicU64,
    /// Of those, the ones for which there was no room.
    pub(crate) full: AtomicU64,
    /// When the first send of each upload began, in milliseconds since 1970, in the order of uploads.
    pub(crate) sent_at: Mutex<Vec<i64>>,
}

pub(crate) async fn connect(url: &str) -> Result<Connection> {
    Ok(Connection::connect(url, ConnectOptions::default()).await?)
}

/// Sends all, never more than `window` beyond what is answered, and slowly beyond the quota; what is not confirmed is sent again under its name.
pub(crate) async fn send(crowd: Arc<Crowd>, to: Submitter, window: u64, progress: Arc<Progress>) -> Result<()> {
    for n in 0..crowd.rows.len() {
        // The further beyond, the slower: there must be something left for the faults to come.
        if let Some(beyond) = (n as u64).checked_sub(progress.quota.load(Ordering::SeqCst)) {
            sleep(TRICKLE + TRICKLE.mul_f64(beyond as f64 / 8.0)).await;
        }
        while progress.sent.load(Ordering::SeqCst) >= progress.answered.load(Ordering::SeqCst).saturating_add(window) {
            sleep(Duration::from_millis(5)).await;
        }
        progress.sent_at.lock().unwrap_or_else(PoisonError::into_inner).push(now_ms());
        let receipt = loop {
            match to.submit(crowd.upload(n)?).await {
                Ok(receipt) => break receipt,
                Err(error) => {
                    progress.repeated.fetch_add(1, Ordering::SeqCst);
                    if dih_core::chain(&error).to_string().contains("is full") {
                        progress.full.fetch_add(1, Ordering::SeqCst);
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        ensure!(receipt.upload.0 == n as u64 + 1, "the {}th upload got the number {}", n + 1, receipt.upload);
        progress.sent.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}
