//! An index before one of whose writes something else happens, and after which the process may die.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq,
    event::VectorSpace,
    image::Fingerprint,
    ports::{Among, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};

/// What happens before the write.
pub type Event = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the head of this file. Vectors are no writes here: whoever puts one decides nothing.
pub struct Disturbed {
    index: Arc<dyn Index>,
    writes: AtomicUsize,
    at: usize,
    dies: bool,
    event: Mutex<Option<Event>>,
}

impl Disturbed {
    /// `at` is the position of the write, from 0.
    pub fn new(index: Arc<dyn Index>, at: usize, dies: bool, event: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { index, writes: AtomicUsize::new(0), at, dies, event: Mutex::new(Some(Box::pin(event))) }
    }

    /// What did not happen, as there were fewer writes.
    pub fn left(&self) -> Option<Event> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let now = self.writes.fetch_add(1, Ordering::SeqCst) == self.at;
        if now && let Some(event) = self.left() {
            event.await;
        }
        let done = write.await?;
        match now && self.dies {
            true => Err(StoreError::Unavailable { store: "test", action: "live".into(), source: "killed".into() }),
            false => Ok(done),
        }
    }
}

impl fmt::Debug for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disturbed").field("at", &self.at).field("dies", &self.dies).finish_non_exhaustive()
    }
}

#[async_trait]
impl Index for Disturbed {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        self.write(self.index.claim(record)).await
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.index.get(id).await
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        self.write(self.index.change(id, change)).await
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        self.write(self.index.change_from(id, from, change)).await
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        self.write(self.index.vote(id, upload, labels)).await
    }

    async fn near_fingerprints(
        &self,
        queries: &[Fingerprint],
        radius: u32,
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        self.index.near_fingerprints(queries, radius, among, limit).await
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.index.put_vector(id, space, vector).await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.index.vector(id, space).await
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.index.near_vectors(space, vector, cosine_min, among, limit).await
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.index.repeats_of(id).await
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        self.index.page(select, after, limit, with).await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        self.index.count(select).await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        self.index.commit().await
    }
}
