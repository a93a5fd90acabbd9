//! The embedded index: records in a log-structured store, vectors in Qdrant Edge, both in this process and one directory.
//!
//! Takes    a directory and the vector spaces, one per embedding model version.
//! Gives    [`Index`]; a write is seen by every later read, and after [`Index::commit`] it survives kill -9.
//! Keeps    a record an image ([`records`]), a row an image in memory ([`table`]), a vector an image and space ([`vectors`]).
//! Crash    what was committed is there after kill -9; what was not may be there or not, image by image.
//! Power    as with files: a commit leaves the moment of writing to the operating system, or waits for the disk when the
//!          index is opened as synced.
//! Weak at  one process only; from [`Tuning::cells_from`] images on a vector search goes by some of them only ([`cells`]), and may
//!          miss a neighbour, and by rounded numbers ([`held`]), so that its cosines are off by .001 or so.

mod bits;
mod cells;
mod engine;
mod files;
mod held;
mod kept_cells;
mod pages;
mod points;
mod records;
mod rounded;
#[cfg(feature = "qdrant")]
mod stamped;
mod table;
#[cfg(test)]
mod tests;
mod vectors;
mod words;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq, chain,
    event::VectorSpace,
    image::RangeQuery,
    ports::{Among, Counted, Facet, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};
use tokio::{sync::Semaphore, task};

use self::{
    files::Home,
    records::Records,
    table::{LATE_MAX, Row, Wanted},
    vectors::Vectors,
};
use super::{COSINE_TOLERANCE, STORE, check_space, nearest_first, normalised};

/// When it does what it does now and then. Tests make it do so all the time.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// Images from which on vectors have cells. Below, a search compares with all of them.
    cells_from: u64,
    /// Most images after one in the order that are compared with it one by one.
    late_max: usize,
    /// Vectors after which the engine brings them to the disk; after a crash so many are put in again.
    flush_every: u64,
    /// Bytes of the engine's log after which it is dropped.
    log_bytes_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { cells_from: 8_192, late_max: LATE_MAX, flush_every: 1_024, log_bytes_max: 128 << 20 }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct EdgeIndex {
    parts: Arc<Parts>,
    spaces: Vec<(VectorSpace, usize)>,
    /// Calls into the engine block; this many at a time.
    turns: Arc<Semaphore>,
    tuning: Tuning,
    /// Who flushes vectors, or did so last.
    flusher: Mutex<Option<JoinHandle<()>>>,
}

struct Parts {
    records: Arc<Records>,
    vectors: Vectors,
    late_max: usize,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl EdgeIndex {
    /// Opens the index in `directory`, or makes one there. `spaces` are the vector spaces and their numbers a vector.
    ///
    /// Blocks, so call it before the stream starts. Refuses a directory that another process has open, and one that was
    /// made for other spaces. Safe against kill -9.
    pub fn open(directory: impl AsRef<Path>, spaces: &[(VectorSpace, usize)]) -> Result<Self, StoreError> {
        Self::open_tuned(directory.as_ref(), spaces, false, Tuning::default())
    }

    /// As [`EdgeIndex::open`], and safe against a power cut: each commit waits for the disk.
    pub fn open_synced(directory: impl AsRef<Path>, spaces: &[(VectorSpace, usize)]) -> Result<Self, StoreError> {
        Self::open_tuned(directory.as_ref(), spaces, true, Tuning::default())
    }

    fn open_tuned(
        directory: &Path,
        spaces: &[(VectorSpace, usize)],
        synced: bool,
        tuning: Tuning,
    ) -> Result<Self, StoreError> {
        let home = Arc::new(Home::open(directory, spaces, &points::config(spaces))?);
        let database = home.database()?;
        let records = Arc::new(Records::open(home.clone(), database.clone(), synced)?);
        let vectors = Vectors::open(home, database, records.clone(), spaces, tuning)?;
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get() * 2);
        Ok(Self {
            parts: Arc::new(Parts { records, vectors, late_max: tuning.late_max }),
            spaces: spaces.to_vec(),
            turns: Arc::new(Semaphore::new(threads)),
            tuning,
            flusher: Mutex::default(),
        })
    }

    /// Its vector spaces, and their numbers a vector.
    pub fn spaces(&self) -> &[(VectorSpace, usize)] {
        &self.spaces
    }

    fn records(&self) -> &Records {
        &self.parts.records
    }

    /// Commits, and brings all vectors to the disk. For a clean end: then the directory is free as soon as this is dropped.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flusher = self.flusher().take();
        self.blocking("close", move |parts| {
            parts.records.commit()?;
            // One that panicked has said so, and what it did not flush is flushed now.
            let _ = flusher.map(JoinHandle::join);
            parts.vectors.flush()
        })
        .await
    }

    fn flusher(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.flusher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call that may take long off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Parts) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let lost = |source| StoreError::Unavailable { store: STORE, action: action.into(), source };
        let turn = self.turns.clone().acquire_owned().await.map_err(|e| lost(e.into()))?;
        let parts = self.parts.clone();
        // The permit goes with the work, so that a caller who gives up does not let more than its share in.
        let work = task::spawn_blocking(move || {
            let done = call(&parts);
            drop((parts, turn));
            done
        });
        work.await.map_err(|e| lost(e.into()))?
    }

    fn check(&self, space: &VectorSpace, length: Option<usize>) -> Result<(), StoreError> {
        check_space(&self.spaces, space, length)
    }

    /// Flushes vectors on a thread of its own, which the end of the process does not wait for: a crash beside it is
    /// harmless.
    fn flush_sometimes(&self) {
        let mut flusher = self.flusher();
        let busy = flusher.as_ref().is_some_and(|flusher| !flusher.is_finished());
        if busy || self.parts.vectors.unflushed() < self.tuning.flush_every {
            return;
        }
        let parts = self.parts.clone();
        let flush = move || {
            if let Err(e) = parts.vectors.flush() {
                tracing::warn!(error = %chain(&e), "vectors could not be flushed, the next start takes longer");
            }
        };
        match std::thread::Builder::new().name("index-flush".into()).spawn(flush) {
            Ok(thread) => *flusher = Some(thread),
            Err(e) => tracing::warn!(error = %e, "vectors could not be flushed, the next start takes longer"),
        }
    }
}

/// Records are read and written in microseconds, and vectors put and searched in some tenths of a millisecond, so that happens where
/// the caller runs: to hand it over costs as much. Pages and whatever waits for a disk go to threads that may block.
#[async_trait]
impl Index for EdgeIndex {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        self.records().claim(record)
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.records().get(id)
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        self.records().change(id, None, change).map(drop)
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        self.records().change(id, Some(from), change)
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        self.records().vote(id, upload, labels)
    }

    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        self.records().near_fingerprints(queries, among, limit)
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.check(space, Some(vector.len()))?;
        let unit = normalised(id, vector)?;
        if self.parts.vectors.is_quick(space) {
            return self.parts.vectors.put(id, space, &unit);
        }
        let space = space.clone();
        self.blocking("store a vector", move |parts| parts.vectors.put(id, &space, &unit)).await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.check(space, None)?;
        self.parts.vectors.get(id, space)
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.check(space, Some(vector.len()))?;
        let unit = normalised("query", vector)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let wanted = Wanted::of(among);
        let late = self.parts.late(wanted);
        if late.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new()); // as in a stream that flows in order
        }
        Ok(self.parts.near_vectors(space, &unit, cosine_min, wanted, late, limit))
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.records().repeats_of(id)
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        if let Some(space) = with {
            self.check(space, None)?;
        }
        let (select, with) = (select.clone(), with.cloned());
        self.blocking("page through records", move |parts| {
            let (records, more) = parts.records.page(&select, after, limit.max(1))?;
            let next = records.last().map(Record::id).filter(|_| more);
            let vector = |id| with.as_ref().map_or(Ok(None), |space| parts.vectors.get(id, space));
            let records = records.into_iter().map(|record| {
                let vector = vector(record.id())?;
                Ok((record, vector))
            });
            Ok(Page { records: records.collect::<Result<_, StoreError>>()?, next })
        })
        .await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        let select = select.clone();
        self.blocking("count records", move |parts| parts.records.count(&select)).await
    }

    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        let select = select.clone();
        self.blocking("count records by a facet", move |parts| parts.records.facet(by, &select, limit)).await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        match self.records().is_synced() {
            true => self.blocking("commit", |parts| parts.records.commit()).await?,
            false => self.records().commit()?,
        }
        self.flush_sometimes();
        Ok(())
    }
}

impl Parts {
    /// All that come late enough. None where these are many, or any will do.
    fn late(&self, wanted: Wanted) -> Option<Vec<Row>> {
        wanted.after.and_then(|after| self.records.table().after(after, self.late_max))
    }

    fn near_vectors(
        &self,
        space: &VectorSpace,
        unit: &[f32],
        cosine_min: f32,
        wanted: Wanted,
        late: Option<Vec<Row>>,
        limit: usize,
    ) -> Vec<NearVector> {
        let candidates = late.or_else(|| self.vectors.candidates(space, unit));
        loop {
            let of = self.records.table().wanted(candidates.clone(), wanted);
            let near = self.vectors.near(space, unit, &of, limit, cosine_min - COSINE_TOLERANCE);
            let (table, space) = (self.records.table(), self.vectors.place(space));
            if near.iter().any(|(row, _)| !table.is_wanted(*row, wanted)) {
                continue; // it has changed since, and left room for another
            }
            let near = near.into_iter();
            let near =
                near.map(|(row, cosine)| NearVector { image: table.summary(row), cosine, put: table.put(row, space) });
            return nearest_first(near.collect(), cosine_min, limit);
        }
    }
}
