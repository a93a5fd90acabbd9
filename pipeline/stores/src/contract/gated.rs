//! An index at whose calls something happens. A test says what.

use std::{fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq,
    event::VectorSpace,
    image::RangeQuery,
    ports::{Among, Counted, Facet, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};

/// What every call goes through.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    fn read<T: Send>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    fn write<T: Send>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    /// Whoever puts a vector decides nothing, so it counts as a read where only writes matter.
    fn put_vector<T: Send>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        self.read(call)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Gated<G> {
    pub(super) index: Arc<dyn Index>,
    pub(super) gate: G,
}

impl<G: Gate> Gated<G> {
    pub fn behind(gate: G, index: Arc<dyn Index>) -> Self {
        Self { index, gate }
    }
}

#[async_trait]
impl<G: Gate> Index for Gated<G> {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        self.gate.write(self.index.claim(record)).await
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.gate.read(self.index.get(id)).await
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        self.gate.write(self.index.change(id, change)).await
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        self.gate.write(self.index.change_from(id, from, change)).await
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        self.gate.write(self.index.vote(id, upload, labels)).await
    }

    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        self.gate.read(self.index.near_fingerprints(queries, among, limit)).await
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.gate.put_vector(self.index.put_vector(id, space, vector)).await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.gate.read(self.index.vector(id, space)).await
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.gate.read(self.index.near_vectors(space, vector, cosine_min, among, limit)).await
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.gate.read(self.index.repeats_of(id)).await
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        self.gate.read(self.index.page(select, after, limit, with)).await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        self.gate.read(self.index.count(select)).await
    }

    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        self.gate.read(self.index.facet(by, select, limit)).await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        self.index.commit().await
    }
}
