//! Who is at work on the next version of a data set.
//!
//! Keeps  `datasets.<name>.cutting`, changed by compare-and-set and renewed while the work lasts.
//! Crash  the mark of a dead process goes stale; a redelivered request takes over its own mark at once.
//! Weak   at a process that stands still for longer than `organize.cut_stale` and then wakes: it may write a file or two
//!        before it learns that it lost its mark. The head is changed by compare-and-set, so it cannot publish.

use std::{future::Future, time::Duration};

use dih_core::{Class, Classify, DatasetName, Millis, StageError, ports::SmallState};
use serde::{Deserialize, Serialize};

use crate::datasets::{cutting_key, read, write};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    request: String,
    version: u32,
    /// Last sign of life, by the clock of the worker.
    at: Millis,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("request `{other}` is cutting version {version} of `{dataset}` now; this one waits its turn")]
    Busy { dataset: DatasetName, version: u32, other: String },
    #[error("another process took over the cut of version {version} of `{dataset}`")]
    Lost { dataset: DatasetName, version: u32 },
}

impl Classify for LeaseError {
    fn class(&self) -> Class {
        Class::Retry
    }
}

/// The right to write the files of one version.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    state: &'a dyn SmallState,
    dataset: &'a DatasetName,
    mark: Mark,
    revision: u64,
    stale: Duration,
}

impl<'a> Lease<'a> {
    pub(crate) async fn take(
        state: &'a dyn SmallState,
        dataset: &'a DatasetName,
        version: u32,
        request: &str,
        stale: Duration,
    ) -> Result<Self, StageError> {
        let key = cutting_key(dataset);
        let found: Option<(Mark, u64)> = read(state, &key).await?;
        let mark = Mark { request: request.into(), version, at: Millis::now() };
        if let Some((other, _)) = &found {
            let age = mark.at.0.saturating_sub(other.at.0);
            let alive = age < i64::try_from(stale.as_millis()).unwrap_or(i64::MAX);
            if other.version == version && other.request != request && alive {
                let other = other.request.clone();
                return Err(LeaseError::Busy { dataset: dataset.clone(), version, other }.into());
            }
        }
        let written = write(state, &key, &mark, found.map(|(_, revision)| revision)).await?;
        let lost = || LeaseError::Lost { dataset: dataset.clone(), version };
        Ok(Self { state, dataset, revision: written.ok_or_else(lost)?, mark, stale })
    }

    /// Does the work while renewing the mark; gives up as soon as somebody else has it.
    pub(crate) async fn hold<T>(mut self, work: impl Future<Output = Result<T, StageError>>) -> Result<T, StageError> {
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(self.stale / 4);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => self.renew().await?,
            }
        }
    }

    async fn renew(&mut self) -> Result<(), StageError> {
        self.mark.at = Millis::now();
        let written = write(self.state, &cutting_key(self.dataset), &self.mark, Some(self.revision)).await?;
        let lost = || LeaseError::Lost { dataset: self.dataset.clone(), version: self.mark.version };
        self.revision = written.ok_or_else(lost)?;
        Ok(())
    }
}
