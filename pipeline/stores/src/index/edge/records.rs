//! The records of all images, in a log-structured store (fjall), with a table of what must be at hand in memory.
//!
//! Takes    records and changes. Gives them back at once; after [`Records::commit`] they survive kill -9.
//! Keeps    `records`: whole, as MessagePack; `heads`: what the [`Table`] is made of at the start; `words`: which images have
//!          a label or an attribute; `stamps`: the marks of the last writes over the network ([`crate::index::qdrant`]). One
//!          write goes to all of them, whole or not at all.
//! Weak at  a selection by several attributes reads all records that have the first of them.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use dih_core::{
    ImageId, Label, UploadSeq,
    image::RangeQuery,
    ports::{Among, Counted, Facet, NearFingerprint, Select, StoreError},
    record::{Change, Record, State},
};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use lru::LruCache;

use super::{
    files::Home,
    table::{Head, Row, States, Table, Wanted},
    words,
};
use crate::{
    fault,
    index::{MostFrequent, STORE, Tally, add_vote, apply, matches, may_change, nearest_prints, not_found},
};

/// Records that stay decoded, some 4 kB each.
const CACHED: NonZeroUsize = NonZeroUsize::new(4_096).expect("is not 0");
/// Bytes of writes to one keyspace that stay in memory before they are sorted into a file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Ids looked at in one go by a selection.
const IDS: usize = 1_024;

/// See the head of this file.
pub(super) struct Records {
    home: Arc<Home>,
    database: Database,
    records: Keyspace,
    heads: Keyspace,
    words: Keyspace,
    stamps: Keyspace,
    table: RwLock<Table>,
    cache: Mutex<LruCache<ImageId, Arc<Record>>>,
    writer: Mutex<()>,
    written: AtomicU64,
    committed: AtomicU64,
    committing: Mutex<()>,
    mode: PersistMode,
}

impl Records {
    /// `synced`: whether a commit waits for the disk, too.
    pub(super) fn open(home: Arc<Home>, database: Database, synced: bool) -> Result<Self, StoreError> {
        let open = |name: &str| keyspace(&database, name).map_err(|e| home.fault("open the records", e));
        let (records, heads, words, stamps) = (open("records")?, open("heads")?, open("words")?, open("stamps")?);
        let records = Self {
            home,
            database,
            records,
            heads,
            words,
            stamps,
            table: RwLock::default(),
            cache: Mutex::new(LruCache::new(CACHED)),
            writer: Mutex::default(),
            written: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            committing: Mutex::default(),
            mode: if synced { PersistMode::SyncData } else { PersistMode::Buffer },
        };
        records.fill_table()?;
        Ok(records)
    }

    fn fill_table(&self) -> Result<(), StoreError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for entry in self.heads.iter() {
            let (key, value) = entry.into_inner().map_err(|e| self.home.fault("read the heads of the records", e))?;
            let id =
                words::id_of(&key).ok_or_else(|| fault::corrupt(STORE, "heads", "the key of an entry is no image"))?;
            table.set(id, &head_of(&value)?, None);
        }
        Ok(())
    }

    pub(super) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a vector that can be found by now.
    pub(super) fn count_put(&self, row: Row, space: usize) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).count_put(row, space);
    }

    pub(super) fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        Ok(self.shared(id)?.map(Arc::unwrap_or_clone))
    }

    /// As [`Records::get`], without a copy.
    pub(super) fn shared(&self, id: ImageId) -> Result<Option<Arc<Record>>, StoreError> {
        if let Some(known) = self.cache().get(&id) {
            return Ok(Some(known.clone()));
        }
        if self.table().row(id).is_none() {
            return Ok(None); // without a look at the files
        }
        let bytes = self.records.get(id.as_bytes()).map_err(|e| self.home.fault("read a record", e))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let record: Record = rmp_serde::from_slice(&bytes).map_err(|e| fault::corrupt(STORE, id, e))?;
        // Not into the cache: a writer may have been faster, and what is written goes there anyway.
        Ok(Some(Arc::new(record)))
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<ImageId, Arc<Record>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        let _turn = self.turn("claim an image")?;
        match self.get(record.id())? {
            Some(holder) => Ok(holder),
            None => self.write(record.clone(), None, &[]),
        }
    }

    /// As [`Records::claim`], with the stamps of the write.
    #[cfg(feature = "qdrant")]
    pub(super) fn claim_stamped(&self, record: &Record, stamps: &[i64]) -> Result<(), StoreError> {
        let _turn = self.turn("claim an image")?;
        let held = self.table().row(record.id()).is_some();
        match held {
            true => Ok(()),
            false => self.write(record.clone(), None, stamps).map(drop),
        }
    }

    /// The stamps of the last writes over the network, newest first. Read before the record they are of no later write.
    #[cfg(feature = "qdrant")]
    pub(super) fn stamps(&self, id: ImageId) -> Result<Vec<i64>, StoreError> {
        let stamps = self.stamps.get(id.as_bytes()).map_err(|e| self.home.fault("read the stamps of a record", e))?;
        let stamps = stamps.as_deref().unwrap_or_default().as_chunks().0;
        Ok(stamps.iter().map(|stamp| i64::from_le_bytes(*stamp)).collect())
    }

    /// Writes over the record whose last stamp is this one (0 if it has none). False where it has another.
    #[cfg(feature = "qdrant")]
    pub(super) fn swap(&self, stamp: i64, after: &Record, stamps: &[i64]) -> Result<bool, StoreError> {
        let _turn = self.turn("change a record")?;
        let id = after.id();
        let before = self.shared(id)?.ok_or_else(|| not_found(id))?;
        let is_last = self.stamps(id)?.first().copied().unwrap_or_default() == stamp;
        if is_last {
            self.write(after.clone(), Some(&before), stamps)?;
        }
        Ok(is_last)
    }

    /// False where the record's state is none of `from`.
    pub(super) fn change(&self, id: ImageId, from: Option<&[State]>, change: &Change) -> Result<bool, StoreError> {
        let _turn = self.turn("change a record")?;
        let before = self.shared(id)?.ok_or_else(|| not_found(id))?;
        if from.is_some_and(|from| !may_change(&before, from, change)) {
            return Ok(false);
        }
        let mut after = Record::clone(&before);
        apply(&mut after, change);
        self.write(after, Some(&before), &[]).map(|_| true)
    }

    pub(super) fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        let _turn = self.turn("add a vote")?;
        let before = self.shared(id)?.ok_or_else(|| not_found(id))?;
        let mut after = Record::clone(&before);
        if add_vote(&mut after, upload, labels) {
            self.write(after, Some(&before), &[])?;
        }
        Ok(())
    }

    /// Nobody else writes records until it is dropped.
    fn turn(&self, action: &str) -> Result<MutexGuard<'_, ()>, StoreError> {
        self.home.check_space(action)?;
        Ok(self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// In the writer's turn. `stamps`: of the writes over the network; none of any other.
    fn write(&self, record: Record, before: Option<&Record>, stamps: &[i64]) -> Result<Record, StoreError> {
        let (id, head) = (record.id(), self.head(&record));
        let whole = rmp_serde::to_vec_named(&record).map_err(|e| fault::corrupt(STORE, id, e))?;
        let mut batch = self.database.batch();
        batch.insert(&self.records, id.as_bytes(), whole);
        let repeated = before.and_then(|before| before.repeat.as_ref()).map(|repeat| repeat.of);
        if before.is_none_or(|before| self.head(before) != head) {
            let head = rmp_serde::to_vec(&head).map_err(|e| fault::corrupt(STORE, id, e))?;
            batch.insert(&self.heads, id.as_bytes(), head);
        }
        self.change_words(&mut batch, &record, before);
        if !stamps.is_empty() {
            let stamps: Vec<u8> = stamps.iter().flat_map(|stamp| stamp.to_le_bytes()).collect();
            batch.insert(&self.stamps, id.as_bytes(), stamps);
        }
        batch.commit().map_err(|e| self.home.fault("write a record", e))?;
        self.written.fetch_add(1, Ordering::AcqRel);
        // The record first: whoever finds its head must find what the head says.
        self.cache().put(id, Arc::new(record.clone()));
        self.table.write().unwrap_or_else(PoisonError::into_inner).set(id, &head, repeated);
        Ok(record)
    }

    fn head(&self, record: &Record) -> Head {
        let head = Head::of(record);
        let fingerprint = self.table().fingerprint(record.id()).unwrap_or(head.fingerprint);
        Head { fingerprint, ..head }
    }

    fn change_words(&self, batch: &mut OwnedWriteBatch, record: &Record, before: Option<&Record>) {
        let same = |before: &Record| {
            (&before.image.labels, &before.image.attributes) == (&record.image.labels, &record.image.attributes)
        };
        if before.is_some_and(same) {
            return;
        }
        let (old, new) = (before.map(words::of).unwrap_or_default(), words::of(record));
        for gone in old.iter().filter(|word| new.binary_search(word).is_err()) {
            batch.remove(&self.words, words::key(gone, record.id()));
        }
        for come in new.iter().filter(|word| old.binary_search(word).is_err()) {
            batch.insert(&self.words, words::key(come, record.id()), []);
        }
    }

    pub(super) fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        let mut found = Vec::new();
        for among in among {
            let near = self.table().near(queries, Wanted::of(*among), limit);
            for near in near {
                // It may have changed since.
                if let Some(record) = self.shared(near.id)?.filter(|record| among.has(record.state, record.order())) {
                    found.push(NearFingerprint { record, distance: near.distance, query: near.query });
                }
            }
        }
        Ok(nearest_prints(found, usize::MAX))
    }

    pub(super) fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        let ids = self.table().repeats_of(id);
        let records = ids.into_iter().map(|id| self.get(id)).collect::<Result<Vec<_>, _>>()?;
        Ok(records.into_iter().flatten().filter(|r| r.repeat.as_ref().is_some_and(|repeat| repeat.of == id)).collect())
    }

    /// Up to `limit` selected records after this id, in order, and whether there are more.
    pub(super) fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
    ) -> Result<(Vec<Record>, bool), StoreError> {
        let mut records = Vec::with_capacity(limit.min(IDS));
        let more = self.walk(select, after, |record| {
            let full = records.len() == limit;
            if !full {
                records.push(record);
            }
            !full
        })?;
        Ok((records, more))
    }

    pub(super) fn count(&self, select: &Select) -> Result<u64, StoreError> {
        if select.labels.is_empty() && select.attributes.is_empty() {
            return Ok(self.table().count(States::of(&select.states)));
        }
        let mut count = 0;
        self.walk(select, None, |_| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    pub(super) fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        if !select.labels.is_empty() || !select.attributes.is_empty() {
            let mut tally = Tally::default();
            self.walk(select, None, |record| {
                tally.add(by, &record);
                true
            })?;
            return Ok(tally.most_frequent(limit));
        }
        let states = States::of(&select.states);
        let mut most = MostFrequent::new(limit);
        if by == Facet::State {
            for state in State::ALL.into_iter().filter(|state| states.has(*state)) {
                most.add((None, state.as_str().to_owned()), self.table().count(States::of(&[state])));
            }
            return Ok(most.sorted());
        }
        // The images of a word lie together.
        let (mut word, mut count) = (Vec::new(), 0);
        let mut add = |word: &[u8], count| words::value(by, word).into_iter().for_each(|value| most.add(value, count));
        for entry in self.words.iter() {
            let key = entry.key().map_err(|e| self.home.fault("count words", e))?;
            let Some((next, id)) = words::of_key(&key) else { continue };
            if next != word {
                add(&word, count);
                (word, count) = (next.to_vec(), 0);
            }
            count += u64::from(self.table().is_in(id, states));
        }
        add(&word, count);
        Ok(most.sorted())
    }

    /// Shows selected records, in the order of their ids, until `go_on` says no; true when it did.
    fn walk(
        &self,
        select: &Select,
        mut after: Option<ImageId>,
        mut go_on: impl FnMut(Record) -> bool,
    ) -> Result<bool, StoreError> {
        let states = States::of(&select.states);
        loop {
            let ids = self.ids(select, after, states)?;
            let Some(last) = ids.last() else { return Ok(false) };
            after = Some(*last);
            for id in ids {
                let Some(record) = self.get(id)?.filter(|record| matches(select, record)) else { continue };
                if !go_on(record) {
                    return Ok(true);
                }
            }
        }
    }

    /// The next ids that may be selected, in order; none at the end.
    fn ids(&self, select: &Select, after: Option<ImageId>, states: States) -> Result<BTreeSet<ImageId>, StoreError> {
        let fail = |e| self.home.fault("page through records", e);
        let mut ids = BTreeSet::new();
        let Some(any) = words::any_of(select) else {
            let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id.as_bytes()));
            for entry in self.heads.range((from, Bound::Unbounded)) {
                let (key, value) = entry.into_inner().map_err(fail)?;
                if states.has(head_of(&value)?.state) {
                    ids.extend(words::id_of(&key));
                }
                if ids.len() == IDS {
                    break;
                }
            }
            return Ok(ids);
        };
        for word in any {
            let (from, to) = (after.map(|id| words::key(&word, id)), words::key(&word, ImageId::from_bytes([255; 16])));
            let from = from.map_or_else(|| Bound::Included(words::prefix(&word)), Bound::Excluded);
            for entry in self.words.range((from, Bound::Included(to))).take(IDS) {
                ids.extend(words::id_of(&entry.key().map_err(fail)?));
            }
        }
        // Of each word the next ones are there; beyond the shortest of these lists some may be missing.
        while ids.len() > IDS {
            ids.pop_last();
        }
        Ok(ids)
    }

    /// A write of somebody else into the same database that a commit must cover.
    pub(super) fn wrote(&self) {
        self.written.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes every write that returned before this call durable. Callers who come together share one.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        let mine = self.written.load(Ordering::Acquire);
        if self.committed.load(Ordering::Acquire) >= mine {
            return Ok(());
        }
        let _one_at_a_time = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.committed.load(Ordering::Acquire) < mine {
            let covered = self.written.load(Ordering::Acquire);
            self.database.persist(self.mode).map_err(|e| self.home.fault("commit", e))?;
            self.committed.fetch_max(covered, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Whether a commit waits for the disk.
    pub(super) fn is_synced(&self) -> bool {
        self.mode != PersistMode::Buffer
    }
}

fn head_of(bytes: &[u8]) -> Result<Head, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|e| fault::corrupt(STORE, "heads", e))
}

/// Opens or makes a keyspace.
pub(super) fn keyspace(database: &Database, name: &str) -> fjall::Result<Keyspace> {
    database.keyspace(name, || {
        KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES).manual_journal_persist(true)
    })
}
