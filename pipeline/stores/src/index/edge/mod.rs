//! The embedded index: records in a log-structured store, vectors in Qdrant Edge, both in this process and one directory.
//!
//! Takes    a directory and the vector spaces, one per embedding model version.
//! Gives    [`Index`]; a write is seen by every later read, and after [`Index::commit`] it survives kill -9.
//! Keeps    a record an image ([`records`]), a row an image in memory ([`table`]), a vector an image and space ([`vectors`]).
//! Crash    what was committed is there after kill -9; what was not may be there or not, image by image.
//! Power    as with files: a commit leaves the moment of writing to the operating system, or waits for the disk when the
//!          index is opened as synced.
//! Weak at  one process only; above [`vectors::EXACT_TO`] images a vector search goes by sketches, above
//!          [`Tuning::graph_from_kb`] through a graph of them, and may miss a neighbour. What it finds has its exact cosine.

mod bits;
mod engine;
mod files;
mod points;
mod records;
mod table;
#[cfg(test)]
mod tests;
mod vectors;
mod words;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq, chain,
    event::VectorSpace,
    image::Fingerprint,
    ports::{Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};
use qdrant_edge::{EdgeConfig, EdgeOptimizersConfig};
use tokio::{sync::Semaphore, task};

use self::{files::Home, records::Records, table::States, vectors::Vectors};
use super::{COSINE_TOLERANCE, STORE, normalised, not_found, unknown_space, wrong_length};

/// Neighbours asked for beyond those that are wanted, because some may be in another state.
const SLACK: usize = 16;
/// Most neighbours asked for: beyond it some in the right state may be missed among so many in the wrong one.
const ASKED_MAX: usize = 16_384;

/// The large graph takes in the recent one when that has grown to so large a share of all: each search goes through both,
/// each merge of all copies all vectors, each merge of new ones copies the recent ones.
const RECENT_SHARE: u64 = 8;

/// What is merged, and gets a graph of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Vectors that wait, with those that came lately.
    New,
    All,
}

/// When the engine tidies up. Tests make it do so all the time.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// Kilobytes of vectors of one space below which a search compares with the sketches of all of them, and at this size
    /// (6,500 vectors of 1,280 numbers) still is quick. Above it a graph is built.
    graph_from_kb: usize,
    /// Vectors after which the engine brings them to the disk; after a crash so many are put in again.
    flush_every: u64,
    /// Vectors after which the engine is asked whether there is anything to merge or to index. So many wait at most: each
    /// search compares with the sketches of all of them.
    optimize_every: u64,
    /// Bytes of the engine's log after which it is dropped.
    log_bytes_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { graph_from_kb: 32 << 10, flush_every: 1_024, optimize_every: 8_192, log_bytes_max: 128 << 20 }
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
    /// Vectors at the last time it was optimized, and when all were merged.
    optimized: AtomicU64,
    merged: AtomicU64,
    /// Begins no merges by itself.
    resting: AtomicBool,
    closing: AtomicBool,
}

struct Parts {
    records: Records,
    vectors: Vectors,
    /// Whether somebody flushes vectors or merges them.
    tidying: AtomicBool,
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
        Self::open_with(directory, spaces, synced, tuning, points::config(spaces, tuning.graph_from_kb))
    }

    fn open_with(
        directory: &Path,
        spaces: &[(VectorSpace, usize)],
        synced: bool,
        tuning: Tuning,
        config: EdgeConfig,
    ) -> Result<Self, StoreError> {
        let home = Arc::new(Home::open(directory, spaces, &config)?);
        let database = home.database()?;
        let names = spaces.iter().map(|(name, _)| name.clone()).collect();
        let vectors = Vectors::open(home.clone(), database.clone(), names, config, tuning.log_bytes_max)?;
        let records = Records::open(home, database, synced)?;
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get() * 2);
        Ok(Self {
            parts: Arc::new(Parts { records, vectors, tidying: AtomicBool::new(false) }),
            spaces: spaces.to_vec(),
            turns: Arc::new(Semaphore::new(threads)),
            tuning,
            optimized: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            resting: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    fn records(&self) -> &Records {
        &self.parts.records
    }

    /// Merges and indexes now; searches and writes go on meanwhile. For tools and measurements: the index does it by
    /// itself whenever [`EdgeIndex::waiting_max`] vectors have come.
    pub async fn optimize(&self, merge: Merge) -> Result<(), StoreError> {
        let optimizers = self.optimizing(merge);
        self.blocking("optimize", move |parts| parts.vectors.engine().optimize(optimizers)).await
    }

    fn optimizing(&self, merge: Merge) -> EdgeOptimizersConfig {
        let now = self.parts.vectors.put_count();
        self.optimized.store(now, Ordering::Release);
        if merge == Merge::All {
            self.merged.store(now, Ordering::Release);
        }
        points::optimizers(self.tuning.graph_from_kb, merge)
    }

    /// Vectors that wait at most until they are indexed, and those that are recent at most in an index of `len` images.
    pub fn waiting_max(&self, len: u64) -> (u64, u64) {
        let waiting = self.tuning.optimize_every;
        (waiting, waiting.max(len / RECENT_SHARE))
    }

    /// Whether it does so at all. For a bulk load, which ends with [`EdgeIndex::optimize`].
    pub fn optimize_by_itself(&self, does: bool) {
        self.resting.store(!does, Ordering::Release);
    }

    /// Commits, begins no more merges, and waits for one that is under way. For a clean end: then the directory is free as
    /// soon as this is dropped.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.closing.store(true, Ordering::Release);
        self.commit().await?;
        self.blocking("close", |parts| {
            parts.vectors.engine().wait_until_tidy();
            parts.vectors.flush()
        })
        .await
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
        let known = self.spaces.iter().find(|(name, _)| name == space);
        let (_, want) = known.ok_or_else(|| unknown_space(space, &self.spaces))?;
        match length {
            Some(got) if got != *want => Err(wrong_length(space, got, *want)),
            _ => Ok(()),
        }
    }

    /// Flushes and optimizes on a thread of its own, which the end of the process does not wait for: a crash beside it is
    /// harmless.
    fn tidy_sometimes(&self) {
        let vectors = &self.parts.vectors;
        let since = |count: &AtomicU64| vectors.put_count().saturating_sub(count.load(Ordering::Acquire));
        let (waiting, recent) = self.waiting_max(vectors.len());
        let optimize = since(&self.optimized) >= waiting && !self.resting.load(Ordering::Acquire);
        if !optimize && vectors.unflushed() < self.tuning.flush_every || self.closing.load(Ordering::Acquire) {
            return;
        }
        if self.parts.tidying.swap(true, Ordering::AcqRel) {
            return; // somebody is at it
        }
        let merge = if since(&self.merged) >= recent { Merge::All } else { Merge::New };
        let optimizers = optimize.then(|| self.optimizing(merge));
        let parts = self.parts.clone();
        let work = move || {
            let engine = parts.vectors.engine();
            let done = parts.vectors.flush().and_then(|()| optimizers.map_or(Ok(()), |how| engine.optimize(how)));
            parts.tidying.store(false, Ordering::Release);
            if let Err(e) = done {
                tracing::warn!(error = %chain(&e), "vectors could not be tidied, searches and the next start stay slower");
            }
        };
        if let Err(e) = std::thread::Builder::new().name("index-tidy".into()).spawn(work) {
            self.parts.tidying.store(false, Ordering::Release);
            tracing::warn!(error = %e, "vectors could not be tidied, searches and the next start stay slower");
        }
    }
}

/// Records are read and written in microseconds, so that happens where the caller runs; searches of vectors, pages and
/// whatever waits for a disk go to threads that may block.
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
        queries: &[Fingerprint],
        radius: u32,
        states: &[State],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        self.records().near_fingerprints(queries, radius, states, limit)
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.check(space, Some(vector.len()))?;
        let (unit, space) = (normalised(id, vector)?, space.clone());
        self.blocking("store a vector", move |parts| {
            parts.records.table().get(id).ok_or_else(|| not_found(id))?;
            parts.vectors.put(id, &space, unit)?;
            parts.records.wrote();
            Ok(())
        })
        .await
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
        states: &[State],
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.check(space, Some(vector.len()))?;
        let unit = normalised("query", vector)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (space, states) = (space.clone(), states.to_vec());
        self.blocking("search vectors", move |parts| parts.near_vectors(&space, &unit, cosine_min, &states, limit))
            .await
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

    async fn commit(&self) -> Result<(), StoreError> {
        match self.records().is_synced() {
            true => self.blocking("commit", |parts| parts.records.commit()).await?,
            false => self.records().commit()?,
        }
        self.tidy_sometimes();
        Ok(())
    }
}

impl Parts {
    /// Asks for more until enough of those that are found are in the right state.
    fn near_vectors(
        &self,
        space: &VectorSpace,
        unit: &[f32],
        cosine_min: f32,
        states: &[State],
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        let wanted = States::of(states);
        let mut asked = limit + SLACK;
        let mut near = loop {
            let found = self.vectors.near(space, unit, asked)?;
            let is_near = |cosine: f32| cosine + COSINE_TOLERANCE >= cosine_min;
            let all = found.len() < asked || found.last().is_none_or(|(_, cosine)| !is_near(*cosine));
            let table = self.records.table();
            let found = found.into_iter().filter(|(_, cosine)| is_near(*cosine));
            let rows = found.filter_map(|(id, cosine)| Some((cosine, table.get(id)?, id)));
            let near: Vec<_> = rows.filter(|(_, row, _)| wanted.has(row.state)).collect();
            if all || near.len() >= limit || asked >= ASKED_MAX {
                break near;
            }
            asked *= 4;
        };
        near.sort_by(|(a, a_row, a_id), (b, b_row, b_id)| {
            b.total_cmp(a).then_with(|| (a_row.upload, a_id).cmp(&(b_row.upload, b_id)))
        });
        near.truncate(limit);
        let mut records = Vec::with_capacity(near.len());
        for (cosine, _, id) in near {
            // Its state may have changed since.
            if let Some(record) = self.records.shared(id)?.filter(|r| wanted.has(r.state)) {
                records.push(NearVector { record, cosine: cosine.clamp(-1.0, 1.0) });
            }
        }
        Ok(records)
    }
}
