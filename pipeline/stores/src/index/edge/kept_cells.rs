//! Cells that outlive the process: every change goes into the write that caused it.
//!
//! Keeps    `cells`: of each space what its vectors have in common, and the sum of each cell. `listings`: of each vector the
//!          cells it is listed in. In memory they are as [`Cells`].
//! Crash    what was committed with a vector is there with it. After a write that failed a cell may be missing.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use dih_core::{ImageId, event::VectorSpace, ports::StoreError};
use fjall::{Database, Keyspace, OwnedWriteBatch};
use lru::LruCache;

use super::{
    cells::{Cells, Narrow, Placed},
    files::Home,
    records::keyspace,
    rounded::Asked,
    table::{Row, Table},
    words,
};
use crate::{fault, index::STORE};

/// Vectors whose nearest cells are remembered: a photo is put, and searched with soon afterwards.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("is not 0");

/// The cells of every space, by the place of the space. A space has none while it has few vectors.
pub(super) struct KeptCells {
    home: Arc<Home>,
    database: Database,
    cells: Keyspace,
    listings: Keyspace,
    spaces: Vec<Space>,
}

struct Space {
    cells: RwLock<Option<Cells>>,
    /// The nearest cells of those seen last, by [`Asked::key`]. They may have moved a little since.
    nearest: Mutex<LruCache<u64, Vec<u32>>>,
}

impl KeptCells {
    pub(super) fn open(
        home: Arc<Home>,
        database: Database,
        table: &Table,
        spaces: &[(VectorSpace, usize)],
    ) -> Result<Self, StoreError> {
        let open = |name| keyspace(&database, name).map_err(|e| home.fault("open the cells", e));
        let (cells, listings) = (open("cells")?, open("listings")?);
        let mut kept = Self { home, database, cells, listings, spaces: Vec::new() };
        for (place, (_, numbers)) in spaces.iter().enumerate() {
            let cells = RwLock::new(kept.load(place as u8, table, *numbers)?);
            kept.spaces.push(Space { cells, nearest: Mutex::new(LruCache::new(REMEMBERED)) });
        }
        Ok(kept)
    }

    fn load(&self, place: u8, table: &Table, numbers: usize) -> Result<Option<Cells>, StoreError> {
        let fault = |e| self.home.fault("read the cells", e);
        let unreadable = || fault::corrupt(STORE, "cells", "an entry is none of ours");
        let Some(centre) = self.cells.get([place]).map_err(fault)? else { return Ok(None) };
        let centre = floats(&centre);
        if centre.len() != numbers {
            return Err(unreadable());
        }
        let mut cells = Cells::around(centre);
        for entry in self.cells.prefix([place]).skip(1) {
            let (key, sum) = entry.into_inner().map_err(fault)?;
            let cell = number_of(&key).ok_or_else(unreadable)?;
            let sum = Narrow::try_from(floats(&sum)).map_err(|_| unreadable())?;
            if !cells.restore(cell, sum) {
                return Err(unreadable());
            }
        }
        for entry in self.listings.prefix([place]) {
            let (key, listing) = entry.into_inner().map_err(fault)?;
            let row = words::id_of(&key).and_then(|id| table.row(id)).ok_or_else(unreadable)?;
            if !cells.relist(row, &numbers_of(&listing)) {
                return Err(unreadable());
            }
        }
        Ok(Some(cells))
    }

    /// Whether a space has cells by now.
    pub(super) fn has(&self, place: usize) -> bool {
        self.read(place).is_some()
    }

    /// Images worth comparing with a vector, some more than once. None: all are.
    pub(super) fn near(&self, place: usize, unit: &Asked) -> Option<Vec<Row>> {
        let (space, key) = (self.read(place), unit.key());
        let cells = space.as_ref()?;
        let known = self.nearest(place).get(&key).cloned();
        let nearest = known.unwrap_or_else(|| {
            let nearest = cells.nearest_of(unit);
            self.nearest(place).put(key, nearest.clone());
            nearest
        });
        Some(cells.near(&nearest))
    }

    /// Makes the first cells of a space, from all its vectors so far.
    pub(super) fn begin(
        &self,
        place: usize,
        table: &Table,
        pages: impl Iterator<Item = Result<Vec<(ImageId, Vec<f32>)>, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut pages = pages.peekable();
        let Some(Ok(first)) = pages.peek() else { return pages.next().map_or(Ok(()), |page| page.map(drop)) };
        let mut cells = Cells::around(mean(first));
        let mut batch = self.database.batch();
        batch.insert(&self.cells, [place as u8], bytes(cells.centre()));
        for page in pages {
            for (id, unit) in page? {
                if let Some(row) = table.row(id) {
                    let placed = cells.put(row, &Asked::of(&unit));
                    self.write(&mut batch, place, id, &cells, &placed);
                }
            }
        }
        batch.commit().map_err(|e| self.home.fault("begin cells", e))?;
        *self.change(place) = Some(cells);
        Ok(())
    }

    /// Finds a vector its place, in place of that of an earlier one of the image.
    pub(super) fn put(
        &self,
        batch: &mut OwnedWriteBatch,
        place: usize,
        (id, row): (ImageId, Row),
        unit: &[f32],
    ) -> Result<(), StoreError> {
        let mut space = self.change(place);
        let Some(cells) = space.as_mut() else { return Ok(()) };
        let before = self.listings.get(vector_key(place, id)).map_err(|e| self.home.fault("read a listing", e))?;
        if let Some(before) = before {
            cells.forget(row, &numbers_of(&before));
        }
        let asked = Asked::of(unit);
        let placed = cells.put(row, &asked);
        self.write(batch, place, id, cells, &placed);
        self.nearest(place).put(asked.key(), placed.nearest);
        Ok(())
    }

    fn write(&self, batch: &mut OwnedWriteBatch, place: usize, id: ImageId, cells: &Cells, placed: &Placed) {
        let listing: Vec<u8> = placed.cells.iter().flat_map(|cell| cell.to_le_bytes()).collect();
        batch.insert(&self.listings, vector_key(place, id), listing);
        if placed.moved {
            let own = placed.cells[0];
            batch.insert(&self.cells, cell_key(place as u8, own), bytes(cells.sum(own)));
        }
    }

    fn read(&self, place: usize) -> RwLockReadGuard<'_, Option<Cells>> {
        self.spaces[place].cells.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn nearest(&self, place: usize) -> MutexGuard<'_, LruCache<u64, Vec<u32>>> {
        self.spaces[place].nearest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, place: usize) -> RwLockWriteGuard<'_, Option<Cells>> {
        self.spaces[place].cells.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the order of the cells' numbers.
fn cell_key(place: u8, cell: u32) -> [u8; 5] {
    let [a, b, c, d] = cell.to_be_bytes();
    [place, a, b, c, d]
}

/// Of an image's vector in one space.
pub(super) fn vector_key(place: usize, id: ImageId) -> [u8; 17] {
    let mut key = [place as u8; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

/// The number of the cell of a key.
fn number_of(key: &[u8]) -> Option<u32> {
    let (_, cell) = key.split_first()?;
    cell.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn bytes(numbers: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(numbers));
    numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    bytes
}

pub(super) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

fn numbers_of(listing: &[u8]) -> Vec<u32> {
    listing.as_chunks().0.iter().map(|cell| u32::from_le_bytes(*cell)).collect()
}

fn mean(vectors: &[(ImageId, Vec<f32>)]) -> Vec<f32> {
    let numbers = vectors.first().map_or(0, |(_, vector)| vector.len());
    let each = 1.0 / vectors.len() as f32;
    let mut mean = vec![0.0; numbers];
    for (_, vector) in vectors {
        mean.iter_mut().zip(vector).for_each(|(mean, number)| *mean += each * number);
    }
    mean
}
