//! The vectors of all images, in the engine.
//!
//! Takes    vectors of length 1. Gives the nearest of one, and each by its image.
//! Keeps    what the engine has not flushed yet in the keyspace `pending` of the records' database: the engine forgets what
//!          it was not told to flush, and a flush costs too much for every commit.
//! Crash    what was committed and not flushed is put in again when it is opened.
//! How      the engine keeps a *sketch* of each vector in memory, a quarter of a byte a number (TurboQuant, Zandieh et al.
//!          2025: turned by a random rotation, then rounded), compares sketches, and compares the nearest few as they are.
//! Weak at  above [`EXACT_TO`] images a search may miss a neighbour; above [`super::Tuning::graph_from_kb`] a few more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dih_core::{ImageId, event::VectorSpace, ports::StoreError};
use fjall::{Database, Keyspace};
use qdrant_edge::{EdgeConfig, EdgeShard, OperationResult, WithPayloadInterface, WithVector};

use super::{
    engine::{Engine, Writer},
    files::Home,
    points,
    records::keyspace,
};
use crate::{fault, index::STORE};

/// Bytes that a number of a vector takes in the engine's log.
const NUMBER_LOG_BYTES: usize = 5;
/// Pending vectors forgotten in one go.
const BATCH: usize = 256;
/// Images up to which a search compares with all their vectors: that takes no longer than to go by their sketches.
pub(super) const EXACT_TO: u64 = 512;

pub(super) struct Vectors {
    engine: Engine,
    home: Arc<Home>,
    database: Database,
    pending: Keyspace,
    spaces: Vec<VectorSpace>,
    /// Images with a vector.
    len: AtomicU64,
    /// Vectors put, and those of them that are flushed. Both begin with those that are in no graph yet.
    put: AtomicU64,
    flushed: AtomicU64,
}

impl Vectors {
    pub(super) fn open(
        home: Arc<Home>,
        database: Database,
        spaces: Vec<VectorSpace>,
        config: EdgeConfig,
        log_bytes_max: u64,
    ) -> Result<Self, StoreError> {
        let pending = keyspace(&database, "pending").map_err(|e| home.fault("open the vectors", e))?;
        let engine = Engine::open(home.clone(), config, log_bytes_max)?;
        let mut vectors = Self {
            engine,
            home,
            database,
            pending,
            spaces,
            len: AtomicU64::new(0),
            put: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        };
        vectors.put_pending()?;
        let info = vectors.engine.read("count vectors", |shard| Ok(shard.info()))?;
        let waiting = info.points_count.saturating_sub(info.indexed_vectors_count) as u64;
        vectors.len = AtomicU64::new(info.points_count as u64);
        (vectors.put, vectors.flushed) = (AtomicU64::new(waiting), AtomicU64::new(waiting));
        Ok(vectors)
    }

    /// Puts in again what a crash took from the engine.
    fn put_pending(&self) -> Result<(), StoreError> {
        let mut again = 0;
        for entry in self.pending.iter() {
            let (key, value) = entry.into_inner().map_err(|e| self.home.fault("read a pending vector", e))?;
            let unreadable = || fault::corrupt(STORE, "pending", "an entry is none of ours");
            let (space, id) = key.split_first().ok_or_else(unreadable)?;
            let space = self.spaces.get(usize::from(*space)).ok_or_else(unreadable)?;
            let id = ImageId::from_bytes(id.try_into().map_err(|_| unreadable())?);
            self.engine
                .write("put a vector in again", |writer| insert(writer, id, space, numbers(&value)).map(drop))?;
            again += 1;
        }
        match again {
            0 => Ok(()),
            _ => self.flush(),
        }
    }

    /// The vector of an image of which there is a record, in place of an earlier one. Findable when this returns, and safe
    /// with the next commit of the database.
    pub(super) fn put(&self, id: ImageId, space: &VectorSpace, unit: Vec<f32>) -> Result<(), StoreError> {
        self.engine.write("store a vector", |writer| {
            let bytes: Vec<u8> = unit.iter().flat_map(|number| number.to_le_bytes()).collect();
            self.pending.insert(self.key(id, space), bytes).map_err(|e| self.home.fault("store a vector", e))?;
            let is_new = insert(writer, id, space, unit)?;
            self.len.fetch_add(u64::from(is_new), Ordering::AcqRel);
            self.put.fetch_add(1, Ordering::AcqRel);
            Ok(())
        })
    }

    fn key(&self, id: ImageId, space: &VectorSpace) -> [u8; 17] {
        let place = self.spaces.iter().position(|known| known == space).unwrap_or(usize::from(u8::MAX));
        let mut key = [place as u8; 17];
        key[1..].copy_from_slice(id.as_bytes());
        key
    }

    pub(super) fn get(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.engine.read("read a vector", |shard| {
            let with = Some(WithVector::Selector(vec![space.0.clone()]));
            let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(false)), with)?;
            Ok(found.into_iter().next().and_then(|point| points::vector_of(point.vector, &space.0)))
        })
    }

    /// Up to `limit` images and their cosines, nearest first, each once; fewer only where there are no more.
    pub(super) fn near(
        &self,
        space: &VectorSpace,
        unit: &[f32],
        limit: usize,
    ) -> Result<Vec<(ImageId, f32)>, StoreError> {
        let exact = self.len() <= EXACT_TO;
        let search = points::nearest(&space.0, unit.to_vec(), limit, exact);
        let near = self.engine.read("search vectors", |shard| shard.search(search))?;
        Ok(near.into_iter().filter_map(|point| Some((points::image_id(point.id)?, point.score))).collect())
    }

    /// Vectors that a crash would have to put in again.
    pub(super) fn unflushed(&self) -> u64 {
        self.put_count() - self.flushed.load(Ordering::Acquire)
    }

    /// Images with a vector.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// How many were put since it was opened, and those that were in no graph then.
    pub(super) fn put_count(&self) -> u64 {
        self.put.load(Ordering::Acquire)
    }

    /// Brings all vectors to the disk, so that none is pending.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let covered = self.put_count();
        self.engine.flush(|| self.forget_pending().map_err(|e| self.home.fault("forget pending vectors", e)))?;
        self.flushed.fetch_max(covered, Ordering::AcqRel);
        Ok(())
    }

    fn forget_pending(&self) -> fjall::Result<()> {
        let mut batch = self.database.batch();
        for entry in self.pending.iter() {
            batch.remove(&self.pending, entry.key()?);
            if batch.len() == BATCH {
                std::mem::replace(&mut batch, self.database.batch()).commit()?;
            }
        }
        batch.commit()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

/// Whether it is the first vector of the image.
fn insert(writer: &Writer<'_>, id: ImageId, space: &VectorSpace, unit: Vec<f32>) -> Result<bool, StoreError> {
    let action = "store a vector";
    let log_bytes = unit.len() * NUMBER_LOG_BYTES;
    let is_new = !writer.read(action, |shard| exists(shard, id))?;
    let operation = match is_new {
        true => points::insert(id, &space.0, unit),
        false => points::update(id, &space.0, unit),
    };
    writer.update(action, log_bytes, operation)?;
    Ok(is_new)
}

fn exists(shard: &EdgeShard, id: ImageId) -> OperationResult<bool> {
    let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(false)), None)?;
    Ok(!found.is_empty())
}
