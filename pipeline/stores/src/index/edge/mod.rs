//! The embedded index: Qdrant Edge in this process, in one directory.
//!
//! Takes    a directory and the vector spaces, one per embedding model version.
//! Gives    [`Index`]; a write is seen by every later read, and after [`Index::commit`] it is on the disk.
//! Keeps    one point an image; see [`points`] for what is in it and [`files`] for the directory.
//! Crash    what was committed is there after kill -9; what was not may be there or not, image by image.
//! Memory   vectors, payloads and their indexes lie in mapped files that the operating system may drop.
//! Weak at  one process only; above [`Tuning::graph_from_kb`] a vector search goes through a graph and may miss a neighbour; when
//!          more fingerprints tie for the last place than `limit` leaves room for, the engine picks.

mod ask;
mod engine;
mod files;
mod points;
mod repair;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
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
use qdrant_edge::{
    CountRequest, PayloadOps, PointInsertOperations, PointOperations, PointStruct, PointVectorsPersisted, SearchParams,
    SetPayloadOp, UpdateOperation, UpdateVectorsOp, Vector, VectorOperations, VectorPersisted, VectorStructPersisted,
    Vectors, WithPayloadInterface, WithVector, external::serde_json::Value,
};
use tokio::{sync::Semaphore, task};

use self::{
    engine::{Engine, Writer},
    files::Home,
    points::FINGERPRINT,
};
use super::{COSINE_TOLERANCE, STORE, add_vote, apply, matches, normalised, not_found, unknown_space, wrong_length};

/// Width of a search through a graph, in candidates: wider finds more of the true neighbours and takes longer.
const GRAPH_BEAM: usize = 256;
/// Records of one inner page of [`Index::repeats_of`].
const REPEATS_PAGE: usize = 256;
/// Bytes that a record takes in the engine's log, about; only to tell when the log has grown.
const RECORD_BYTES: usize = 3_000;
/// Bytes that a number of a vector takes there.
const NUMBER_BYTES: usize = 5;

/// When the engine tidies up. Tests make it do so all the time.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// Kilobytes of vectors of one space below which a search compares with all of them: exact, and at this size (13,000
    /// vectors of 1,280 numbers) still quick. Above it a graph is built.
    graph_from_kb: usize,
    /// Writes after which the engine is asked whether there is anything to merge or to index.
    optimize_every: u64,
    /// Bytes of the engine's log after which it is dropped.
    log_bytes_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { graph_from_kb: 64 << 10, optimize_every: 4_096, log_bytes_max: 128 << 20 }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct EdgeIndex {
    engine: Arc<Engine>,
    spaces: Vec<(VectorSpace, usize)>,
    /// Calls into the engine block; this many at a time.
    turns: Arc<Semaphore>,
    /// Held by the one caller who flushes.
    flushing: tokio::sync::Mutex<()>,
    tuning: Tuning,
    /// Writes at the last time it was optimized.
    optimized: AtomicU64,
    closing: AtomicBool,
}

impl EdgeIndex {
    /// Opens the index in `directory`, or makes one there. `spaces` are the vector spaces and their numbers a vector.
    ///
    /// Blocks, so call it before the stream starts. Refuses a directory that another process has open, and one that was
    /// made for other spaces.
    pub fn open(directory: impl AsRef<Path>, spaces: &[(VectorSpace, usize)]) -> Result<Self, StoreError> {
        Self::open_tuned(directory.as_ref(), spaces, Tuning::default())
    }

    fn open_tuned(directory: &Path, spaces: &[(VectorSpace, usize)], tuning: Tuning) -> Result<Self, StoreError> {
        let config = points::config(spaces, tuning.graph_from_kb);
        let home = Home::open(directory, spaces, &config)?;
        let engine = Engine::open(home, config, tuning.log_bytes_max)?;
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get() * 2);
        Ok(Self {
            engine: Arc::new(engine),
            spaces: spaces.to_vec(),
            turns: Arc::new(Semaphore::new(threads)),
            flushing: tokio::sync::Mutex::new(()),
            tuning,
            optimized: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        })
    }

    /// Merges and indexes now; searches and writes go on meanwhile. For tools and measurements: the index does it by
    /// itself every few thousand writes.
    pub async fn optimize(&self) -> Result<(), StoreError> {
        self.blocking("optimize", Engine::optimize).await
    }

    /// Commits, begins no more merges, and waits for one that is under way. For a clean end: then the directory is free as
    /// soon as this is dropped.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.closing.store(true, Ordering::Release);
        self.commit().await?;
        self.blocking("close", |engine| {
            engine.wait_until_tidy();
            Ok(())
        })
        .await
    }

    /// Runs a call into the engine off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let lost = |source| StoreError::Unavailable { store: STORE, action: action.into(), source };
        let turn = self.turns.clone().acquire_owned().await.map_err(|e| lost(e.into()))?;
        let engine = self.engine.clone();
        // The permit goes with the work, so that a caller who gives up does not let more than its share in.
        let work = task::spawn_blocking(move || {
            let done = call(&engine);
            drop((engine, turn));
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

    /// Optimizes on a thread of its own, which the end of the process does not wait for: a crash beside it is harmless.
    fn optimize_sometimes(&self) {
        let written = self.engine.written();
        let due = self.optimized.load(Ordering::Acquire) + self.tuning.optimize_every;
        if written < due || self.closing.load(Ordering::Acquire) {
            return;
        }
        self.optimized.store(written, Ordering::Release);
        let engine = self.engine.clone();
        let work = move || {
            if let Err(e) = engine.optimize_unless_busy() {
                tracing::warn!(error = %chain(&e), "index could not be optimized, searches stay slower");
            }
        };
        if let Err(e) = std::thread::Builder::new().name("index-optimize".into()).spawn(work) {
            tracing::warn!(error = %e, "index could not be optimized, searches stay slower");
        }
    }
}

#[async_trait]
impl Index for EdgeIndex {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        let record = record.clone();
        self.blocking("claim an image", move |engine| {
            engine.write("claim an image", |writer| match held(writer, record.id())? {
                Some(holder) => Ok(holder),
                None => insert(writer, &record).map(|()| record),
            })
        })
        .await
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.blocking("read a record", move |engine| {
            let found = engine.read("read a record", |shard| ask::retrieve(shard, id))?;
            found.map(|payload| points::decode(points::point_id(id), Some(payload))).transpose()
        })
        .await
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        let change = change.clone();
        self.blocking("change a record", move |engine| {
            engine.write("change a record", |writer| {
                let mut record = held(writer, id)?.ok_or_else(|| not_found(id))?;
                apply(&mut record, &change);
                overwrite(writer, &record)
            })
        })
        .await
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        let (from, change) = (from.to_vec(), change.clone());
        self.blocking("change a record", move |engine| {
            engine.write("change a record", |writer| {
                let mut record = held(writer, id)?.ok_or_else(|| not_found(id))?;
                if !from.contains(&record.state) {
                    return Ok(false);
                }
                apply(&mut record, &change);
                overwrite(writer, &record).map(|()| true)
            })
        })
        .await
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        let labels = labels.to_vec();
        self.blocking("add a vote", move |engine| {
            engine.write("add a vote", |writer| {
                let mut record = held(writer, id)?.ok_or_else(|| not_found(id))?;
                if add_vote(&mut record, upload, &labels) { overwrite(writer, &record) } else { Ok(()) }
            })
        })
        .await
    }

    async fn near_fingerprints(
        &self,
        queries: &[Fingerprint],
        radius: u32,
        states: &[State],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (queries, states) = (queries.to_vec(), states.to_vec());
        self.blocking("search fingerprints", move |engine| {
            engine
                .read("search fingerprints", |shard| ask::near_fingerprints(shard, &queries, radius, &states, limit))?
                .into_iter()
                .map(|(id, payload, distance, query)| {
                    Ok(NearFingerprint { record: points::decode(id, payload)?, distance, query })
                })
                .collect::<Result<Vec<_>, _>>()
                .map(|mut near| {
                    near.retain(|n| states.is_empty() || states.contains(&n.record.state));
                    near.sort_by_key(|n| (n.distance, n.record.upload(), n.record.id()));
                    near
                })
        })
        .await
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.check(space, Some(vector.len()))?;
        let unit = normalised(id, vector)?;
        let space = space.0.clone();
        self.blocking("store a vector", move |engine| {
            engine.write("store a vector", |writer| {
                let action = "store a vector";
                writer.read(action, |shard| ask::exists(shard, id))?.then_some(()).ok_or_else(|| not_found(id))?;
                let bytes = unit.len() * NUMBER_BYTES;
                let vector = VectorStructPersisted::Named(HashMap::from([(space, VectorPersisted::Dense(unit))]));
                let points = vec![PointVectorsPersisted { id: points::point_id(id), vector }];
                let update = VectorOperations::UpdateVectors(UpdateVectorsOp { points, update_filter: None });
                writer.update(action, bytes, UpdateOperation::VectorOperation(update))
            })
        })
        .await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.check(space, None)?;
        let name = space.0.clone();
        self.blocking("read a vector", move |engine| {
            engine.read("read a vector", |shard| {
                let with = Some(WithVector::Selector(vec![name.clone()]));
                let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(false)), with)?;
                Ok(found.into_iter().next().and_then(|record| points::vector_of(record.vector, &name)))
            })
        })
        .await
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
        let (name, states) = (space.0.clone(), states.to_vec());
        self.blocking("search vectors", move |engine| {
            let found = engine.read("search vectors", |shard| {
                let mut search = ask::nearest(&name, unit, limit);
                search.filter = points::in_states(&states);
                search.with_payload = Some(WithPayloadInterface::Bool(true));
                search.params = Some(SearchParams { hnsw_ef: Some(GRAPH_BEAM.max(limit)), ..SearchParams::default() });
                shard.search(search)
            })?;
            let near = found.into_iter().filter(|p| p.score + COSINE_TOLERANCE >= cosine_min);
            let mut near = near
                .map(|point| {
                    let record = points::decode(point.id, point.payload)?;
                    Ok(NearVector { record, cosine: point.score.clamp(-1.0, 1.0) })
                })
                .collect::<Result<Vec<_>, StoreError>>()?;
            near.retain(|n| states.is_empty() || states.contains(&n.record.state));
            near.sort_by(|a, b| {
                let order = |n: &NearVector| (n.record.upload(), n.record.id());
                b.cosine.total_cmp(&a.cosine).then_with(|| order(a).cmp(&order(b)))
            });
            Ok(near)
        })
        .await
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.blocking("find repeats", move |engine| {
            let (mut repeats, mut offset) = (Vec::new(), None);
            loop {
                let (found, next) = engine.read("find repeats", |shard| {
                    let mut scroll = ask::scroll(offset, REPEATS_PAGE);
                    scroll.filter = Some(points::repeats(id));
                    shard.scroll(scroll)
                })?;
                for point in found {
                    let record = points::decode(point.id, point.payload)?;
                    if record.repeat.as_ref().is_some_and(|repeat| repeat.of == id) {
                        repeats.push(record);
                    }
                }
                match next {
                    Some(next) => offset = Some(next),
                    None => return Ok(repeats),
                }
            }
        })
        .await
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
        let offset = match after.map(points::following) {
            Some(None) => return Ok(Page { records: Vec::new(), next: None }),
            Some(Some(from)) => Some(from),
            None => None,
        };
        let (select, name) = (select.clone(), with.map(|space| space.0.clone()));
        self.blocking("page through records", move |engine| {
            let (found, more) = engine.read("page through records", |shard| {
                let mut scroll = ask::scroll(offset, limit.max(1));
                scroll.filter = points::filter(&select);
                if let Some(name) = &name {
                    scroll.with_vector = WithVector::Selector(vec![name.clone()]);
                }
                shard.scroll(scroll)
            })?;
            let last = found.last().and_then(|point| points::image_id(point.id));
            let mut records = Vec::with_capacity(found.len());
            for point in found {
                let record = points::decode(point.id, point.payload)?;
                // It may have changed between being found and being read.
                if matches(&select, &record) {
                    let vector = name.as_ref().and_then(|name| points::vector_of(point.vector, name));
                    records.push((record, vector));
                }
            }
            Ok(Page { records, next: last.filter(|_| more.is_some()) })
        })
        .await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        let filter = points::filter(select);
        self.blocking("count records", move |engine| {
            engine.read("count records", |shard| shard.count(CountRequest { filter, exact: true })).map(|n| n as u64)
        })
        .await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        let mine = self.engine.written();
        if self.engine.flushed() < mine {
            let _one_at_a_time = self.flushing.lock().await;
            // Whoever was before may have begun after my writes; then they are on the disk already.
            if self.engine.flushed() < mine {
                self.blocking("flush", Engine::flush).await?;
            }
        }
        self.optimize_sometimes();
        Ok(())
    }
}

/// The record under an id, read in the writer's turn.
fn held(writer: &Writer<'_>, id: ImageId) -> Result<Option<Record>, StoreError> {
    let found = writer.read("read a record", |shard| ask::retrieve(shard, id))?;
    found.map(|payload| points::decode(points::point_id(id), Some(payload))).transpose()
}

fn insert(writer: &Writer<'_>, record: &Record) -> Result<(), StoreError> {
    let bits = points::bits(record.image.fingerprints.upright());
    let payload = Value::Object(points::encode(record)?.0);
    let vectors = Vectors::new_named([(FINGERPRINT, Vector::from(bits))]);
    let point = PointStruct::new(points::point_id(record.id()), vectors, payload);
    let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(vec![point.into()]));
    writer.update("insert a record", RECORD_BYTES, UpdateOperation::PointOperation(insert))
}

fn overwrite(writer: &Writer<'_>, record: &Record) -> Result<(), StoreError> {
    let payload = points::encode(record)?;
    let set = SetPayloadOp { payload, points: Some(vec![points::point_id(record.id())]), filter: None, key: None };
    let overwrite = PayloadOps::OverwritePayload(set);
    writer.update("change a record", RECORD_BYTES, UpdateOperation::PayloadOperation(overwrite))
}
