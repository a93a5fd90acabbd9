//! An index that says what each of its calls costs.
//!
//! Takes    an index. Gives the same, and CPU time by call: of the whole process, so one call at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq,
    event::VectorSpace,
    image::RangeQuery,
    ports::{Among, Counted, Facet, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};

use super::process_cpu;

/// What one kind of call took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    pub calls: u64,
    pub cpu: f64,
    /// Records that were found.
    pub found: u64,
}

#[derive(Debug)]
pub(super) struct Watched {
    index: Arc<dyn Index>,
    spent: Mutex<BTreeMap<&'static str, Spent>>,
}

impl Watched {
    pub(super) fn new(index: Arc<dyn Index>) -> Self {
        Self { index, spent: Mutex::default() }
    }

    /// What was spent since it was asked last, by call.
    pub(super) fn take(&self) -> BTreeMap<&'static str, Spent> {
        std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn watch<T>(
        &self,
        call: &'static str,
        found: impl FnOnce(&T) -> usize,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = process_cpu();
        let done = work.await;
        let cpu = process_cpu() - begun;
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = spent.entry(call).or_default();
        spent.calls += 1;
        spent.cpu += cpu;
        spent.found += done.as_ref().map_or(0, found) as u64;
        done
    }
}

#[async_trait]
impl Index for Watched {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        self.watch("claim", |_| 1, self.index.claim(record)).await
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.watch("get", |found| usize::from(found.is_some()), self.index.get(id)).await
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        self.watch("change", |_| 1, self.index.change(id, change)).await
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        self.watch("change_from", |won| usize::from(*won), self.index.change_from(id, from, change)).await
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        self.watch("vote", |_| 1, self.index.vote(id, upload, labels)).await
    }

    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        let search = self.index.near_fingerprints(queries, among, limit);
        self.watch("near_fingerprints", Vec::len, search).await
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.watch("put_vector", |_| 1, self.index.put_vector(id, space, vector)).await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.watch("vector", |found| usize::from(found.is_some()), self.index.vector(id, space)).await
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        let search = self.index.near_vectors(space, vector, cosine_min, among, limit);
        self.watch("near_vectors", Vec::len, search).await
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.watch("repeats_of", Vec::len, self.index.repeats_of(id)).await
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        let page = self.index.page(select, after, limit, with);
        self.watch("page", |page| page.records.len(), page).await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        self.watch("count", |_| 1, self.index.count(select)).await
    }

    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        self.watch("facet", Vec::len, self.index.facet(by, select, limit)).await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        self.watch("commit", |_| 1, self.index.commit()).await
    }
}
