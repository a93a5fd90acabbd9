//! The vectors of all images, in the engine.
//!
//! Takes    vectors of length 1. Gives the nearest of one, and each by its image.
//! Keeps    what the engine has not flushed yet in the keyspace `pending` of the records' database: the engine forgets what
//!          it was not told to flush, and a flush costs too much for every commit.
//! Crash    what was committed and not flushed is put in again when it is opened.
//! How      a search compares with those that are in memory, [rounded](super::held): with all while they are few, and from
//!          [`super::Tuning::cells_from`] images on with those that share a [cell](super::cells) with the query.
//! Weak at  many: a search may miss a neighbour, and its cosines are off by .001 or so.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

use dih_core::{ImageId, event::VectorSpace, ports::StoreError};
use fjall::{Database, Keyspace};
use qdrant_edge::{EdgeShard, OperationResult, WithPayloadInterface, WithVector};

use super::{
    Tuning,
    engine::{Engine, Writer},
    files::Home,
    held::Held,
    kept_cells::{KeptCells, bytes, floats, vector_key},
    points,
    records::{Records, keyspace},
    rounded::Asked,
    table::Row,
};
use crate::{
    fault,
    index::{STORE, not_found},
};

/// Bytes that a number of a vector takes in the engine's log.
const NUMBER_LOG_BYTES: usize = 5;
/// Pending vectors forgotten in one go.
const BATCH: usize = 256;
/// Vectors read in one go when all are read.
const PAGE: usize = 4_096;

pub(super) struct Vectors {
    engine: Engine,
    home: Arc<Home>,
    database: Database,
    /// Where the images are listed.
    records: Arc<Records>,
    pending: Keyspace,
    spaces: Vec<VectorSpace>,
    cells: KeptCells,
    /// By the place of the space.
    held: Vec<RwLock<Held>>,
    /// Images from which on there are cells.
    cells_from: u64,
    /// Images with a vector.
    len: AtomicU64,
    /// Vectors put since it was opened, and those of them that are flushed.
    put: AtomicU64,
    flushed: AtomicU64,
}

impl Vectors {
    pub(super) fn open(
        home: Arc<Home>,
        database: Database,
        records: Arc<Records>,
        spaces: &[(VectorSpace, usize)],
        tuning: Tuning,
    ) -> Result<Self, StoreError> {
        let pending = keyspace(&database, "pending").map_err(|e| home.fault("open the vectors", e))?;
        let cells = KeptCells::open(home.clone(), database.clone(), &records.table(), spaces)?;
        let empty = |(place, (_, numbers)): (usize, &(_, usize))| RwLock::new(Held::new(*numbers, !cells.has(place)));
        let held = spaces.iter().enumerate().map(empty).collect();
        let engine = Engine::open(home.clone(), points::config(spaces), tuning.log_bytes_max)?;
        let mut vectors = Self {
            engine,
            home,
            database,
            records,
            pending,
            spaces: spaces.iter().map(|(space, _)| space.clone()).collect(),
            cells,
            held,
            cells_from: tuning.cells_from,
            len: AtomicU64::new(0),
            put: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        };
        vectors.put_pending()?;
        let info = vectors.engine.read("count vectors", |shard| Ok(shard.info()))?;
        vectors.len = AtomicU64::new(info.points_count as u64);
        vectors.read_all()?;
        Ok(vectors)
    }

    fn read_all(&self) -> Result<(), StoreError> {
        let table = self.records.table();
        for (place, space) in self.spaces.iter().enumerate() {
            let mut held = self.change_held(place);
            for page in pages(&self.engine, space) {
                let rows = page?.into_iter().filter_map(|(id, unit)| Some((table.row(id)?, unit)));
                rows.for_each(|(row, unit)| held.put(row, &unit));
            }
        }
        Ok(())
    }

    fn held(&self, place: usize) -> RwLockReadGuard<'_, Held> {
        self.held[place].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_held(&self, place: usize) -> RwLockWriteGuard<'_, Held> {
        self.held[place].write().unwrap_or_else(PoisonError::into_inner)
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
            self.engine.write("put a vector in again", |writer| {
                let is_new = !writer.read("look for an image", |shard| exists(shard, id))?;
                insert(writer, id, space, floats(&value), is_new)
            })?;
            again += 1;
        }
        match again {
            0 => Ok(()),
            _ => self.flush(),
        }
    }

    /// The vector of an image of which there is a record, in place of an earlier one. Findable when this returns, and safe
    /// with the next commit of the database.
    pub(super) fn put(&self, id: ImageId, space: &VectorSpace, unit: &[f32]) -> Result<(), StoreError> {
        let (place, row) = (self.place(space), self.records.table().row(id));
        let row = row.ok_or_else(|| not_found(id))?;
        self.engine.write("store a vector", |writer| {
            let mut batch = self.database.batch();
            batch.insert(&self.pending, vector_key(place, id), bytes(unit));
            self.cells.put(&mut batch, place, (id, row), unit)?;
            batch.commit().map_err(|e| self.home.fault("store a vector", e))?;
            let is_new = !(0..self.spaces.len()).any(|place| self.held(place).has(row));
            insert(writer, id, space, unit.to_vec(), is_new)?;
            self.change_held(place).put(row, unit);
            self.records.wrote();
            if is_new {
                self.records.count_put(row, place);
            }
            let len = u64::from(is_new) + self.len.fetch_add(u64::from(is_new), Ordering::AcqRel);
            self.put.fetch_add(1, Ordering::AcqRel);
            if len >= self.cells_from && !self.cells.has(place) {
                self.cells.begin(place, &self.records.table(), pages(&self.engine, space))?;
                self.change_held(place).are_many();
            }
            Ok(())
        })
    }

    /// Whether a vector would be put in tenths of a millisecond: nobody else writes, and no cells are to be made.
    pub(super) fn is_quick(&self, space: &VectorSpace) -> bool {
        let few = self.len.load(Ordering::Acquire) + 1 < self.cells_from;
        !self.engine.is_busy() && (few || self.cells.has(self.place(space)))
    }

    /// Of a space that was checked.
    pub(super) fn place(&self, space: &VectorSpace) -> usize {
        self.spaces.iter().position(|known| known == space).expect("the space was checked")
    }

    pub(super) fn get(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.engine.read("read a vector", |shard| {
            let with = Some(WithVector::Selector(vec![space.0.clone()]));
            let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(false)), with)?;
            Ok(found.into_iter().next().and_then(|point| points::vector_of(point.vector, &space.0)))
        })
    }

    /// Images worth comparing with a vector, some more than once. None: all are.
    pub(super) fn candidates(&self, space: &VectorSpace, unit: &[f32]) -> Option<Vec<Row>> {
        self.cells.near(self.place(space), &Asked::of(unit))
    }

    /// The nearest of these images, with their cosines; some others, too.
    pub(super) fn near(
        &self,
        space: &VectorSpace,
        unit: &[f32],
        of: &[Row],
        limit: usize,
        cosine_min: f32,
    ) -> Vec<(Row, f32)> {
        self.held(self.place(space)).near(unit, of, limit, cosine_min)
    }

    /// Vectors that a crash would have to put in again.
    pub(super) fn unflushed(&self) -> u64 {
        self.put.load(Ordering::Acquire) - self.flushed.load(Ordering::Acquire)
    }

    /// Brings all vectors to the disk, so that none is pending.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let covered = self.put.load(Ordering::Acquire);
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
}

/// All vectors of a space.
fn pages<'a>(
    engine: &'a Engine,
    space: &'a VectorSpace,
) -> impl Iterator<Item = Result<Vec<(ImageId, Vec<f32>)>, StoreError>> + use<'a> {
    let mut next = Some(None);
    std::iter::from_fn(move || {
        let request = points::page(&space.0, next?, PAGE);
        let page = engine.read("read all vectors", |shard| shard.scroll(request));
        let (page, after) = page.map_or_else(|e| (Err(e), None), |(page, after)| (Ok(page), after));
        next = after.map(Some);
        Some(page.map(|page| {
            let points = page.into_iter();
            let vector = |vectors| points::vector_of(vectors, &space.0);
            points.filter_map(|point| Some((points::image_id(point.id)?, vector(point.vector)?))).collect()
        }))
    })
}

/// `is_new`: whether it is the first vector of the image.
fn insert(
    writer: &Writer<'_>,
    id: ImageId,
    space: &VectorSpace,
    unit: Vec<f32>,
    is_new: bool,
) -> Result<(), StoreError> {
    let log_bytes = unit.len() * NUMBER_LOG_BYTES;
    let operation = match is_new {
        true => points::insert(id, &space.0, unit),
        false => points::update(id, &space.0, unit),
    };
    writer.update("store a vector", log_bytes, operation)
}

fn exists(shard: &EdgeShard, id: ImageId) -> OperationResult<bool> {
    let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(false)), None)?;
    Ok(!found.is_empty())
}
