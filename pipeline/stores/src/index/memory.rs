//! The fake: every record behind one lock, every search exact and by brute force.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq,
    event::VectorSpace,
    image::{Fingerprint, RangeQuery},
    ports::{Among, Counted, Facet, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};

use super::{
    Tally, add_vote, apply, check_space, matches, may_change, nearest_first, nearest_prints, normalised, not_found,
};

/// The index of this process only, gone with it.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    /// None: any space, of any length.
    spaces: Option<Vec<(VectorSpace, usize)>>,
    held: Mutex<BTreeMap<ImageId, Held>>,
    /// Vectors so far, those in place of another not counted.
    put: AtomicU64,
}

#[derive(Debug)]
struct Held {
    record: Record,
    /// Of the claim; a later change of the image does not move it.
    fingerprint: Fingerprint,
    /// Each with the count of those before it, and itself.
    vectors: BTreeMap<VectorSpace, (Vec<f32>, u64)>,
}

impl MemoryIndex {
    /// Takes vectors of these spaces and lengths only. [`MemoryIndex::default`] takes any.
    pub fn with_spaces(spaces: &[(VectorSpace, usize)]) -> Self {
        Self { spaces: Some(spaces.to_vec()), ..Self::default() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<ImageId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, space: &VectorSpace, length: Option<usize>) -> Result<(), StoreError> {
        self.spaces.as_ref().map_or(Ok(()), |known| check_space(known, space, length))
    }
}

#[async_trait]
impl Index for MemoryIndex {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        let mut held = self.held();
        let fresh = || Held {
            record: record.clone(),
            fingerprint: record.image.fingerprints.upright(),
            vectors: BTreeMap::new(),
        };
        Ok(held.entry(record.id()).or_insert_with(fresh).record.clone())
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        Ok(self.held().get(&id).map(|h| h.record.clone()))
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        let mut held = self.held();
        let found = held.get_mut(&id).ok_or_else(|| not_found(id))?;
        apply(&mut found.record, change);
        Ok(())
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        let mut held = self.held();
        let found = held.get_mut(&id).ok_or_else(|| not_found(id))?;
        let matches = may_change(&found.record, from, change);
        if matches {
            apply(&mut found.record, change);
        }
        Ok(matches)
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        let mut held = self.held();
        let found = held.get_mut(&id).ok_or_else(|| not_found(id))?;
        add_vote(&mut found.record, upload, labels);
        Ok(())
    }

    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        let held = self.held();
        let near = |h: &Held| {
            let found = queries.iter().enumerate().filter_map(|(query, q)| Some((q.distance(h.fingerprint)?, query)));
            let (distance, query) = found.min()?;
            Some(NearFingerprint { record: Arc::new(h.record.clone()), distance, query })
        };
        let of_each = among.iter().flat_map(|among| {
            let held = held.values().filter(|h| among.has(h.record.state, h.record.order()));
            nearest_prints(held.filter_map(near).collect(), limit)
        });
        Ok(nearest_prints(of_each.collect(), usize::MAX))
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.check(space, Some(vector.len()))?;
        let unit = normalised(id, vector)?;
        let mut held = self.held();
        let found = held.get_mut(&id).ok_or_else(|| not_found(id))?;
        let count = || self.put.fetch_add(1, Ordering::Relaxed) + 1;
        let put = found.vectors.get(space).map_or_else(count, |(_, put)| *put);
        found.vectors.insert(space.clone(), (unit, put));
        Ok(())
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.check(space, None)?;
        Ok(self.held().get(&id).and_then(|h| h.vectors.get(space).map(|(unit, _)| unit.clone())))
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
        let held = self.held();
        let near = held.values().filter_map(|h| {
            let (stored, put) = h.vectors.get(space).filter(|(stored, _)| stored.len() == unit.len())?;
            let cosine = stored.iter().zip(&unit).map(|(a, b)| a * b).sum();
            Some(NearVector { image: (&h.record).into(), cosine, put: Some(*put) })
        });
        Ok(nearest_first(
            near.filter(|near| among.has(near.image.state, near.image.order)).collect(),
            cosine_min,
            limit,
        ))
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        let of = |h: &&Held| h.record.repeat.as_ref().is_some_and(|r| r.of == id);
        Ok(self.held().values().filter(of).map(|h| h.record.clone()).collect())
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
        let held = self.held();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = held.range((from, Bound::Unbounded)).filter(|(_, h)| matches(select, &h.record));
        let vector = |h: &Held| with.and_then(|space| h.vectors.get(space)).map(|(unit, _)| unit.clone());
        let records: Vec<_> = found.by_ref().take(limit.max(1)).map(|(_, h)| (h.record.clone(), vector(h))).collect();
        let more = found.next().is_some();
        let next = records.last().filter(|_| more).map(|(record, _)| record.id());
        Ok(Page { records, next })
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        Ok(self.held().values().filter(|h| matches(select, &h.record)).count() as u64)
    }

    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        let mut tally = Tally::default();
        self.held().values().filter(|h| matches(select, &h.record)).for_each(|h| tally.add(by, &h.record));
        Ok(tally.most_frequent(limit))
    }

    async fn commit(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_keeps_the_contract() {
        let make = async || Arc::new(MemoryIndex::with_spaces(&contract::spaces())) as Arc<dyn Index>;
        contract::index(make).await;
    }
}
