//! Ports whose calls are measured: how long each takes, and how it fails.
//!
//! Takes    an adapter. Gives the same port. The names stand in [`dih_core::metrics`]; labels are the port and the method.

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    BlobKey, Class, Classify, ImageId, Label, UploadSeq,
    event::VectorSpace,
    image::RangeQuery,
    metrics::{STORE_CALL_SECONDS, STORE_ERRORS},
    ports::{Among, Blobs, Counted, Facet, Index, LinkTo, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};
use tracing::Instrument;

/// Notes how long a call takes, and its error by what it means.
async fn measured<T>(
    store: &'static str,
    call: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let begun = Instant::now();
    let done = work.instrument(tracing::debug_span!("store", otel.name = format!("{store} {call}"))).await;
    metrics::histogram!(STORE_CALL_SECONDS, "store" => store, "call" => call).record(begun.elapsed());
    match &done {
        // An answer: not every image has a preview of its own, and not every key is taken.
        Ok(_) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => count_error(store, call, error),
    }
    done
}

fn count_error(store: &'static str, call: &'static str, error: &StoreError) {
    let class = match error.class() {
        Class::Retry => "retry",
        Class::BadInput => "bad_input",
        Class::Halt => "halt",
    };
    metrics::counter!(STORE_ERRORS, "store" => store, "call" => call, "class" => class).increment(1);
}

/// An index whose calls are measured.
#[derive(Debug)]
pub struct MeteredIndex(pub Arc<dyn Index>);

const INDEX: &str = "index";

#[async_trait]
impl Index for MeteredIndex {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        measured(INDEX, "claim", self.0.claim(record)).await
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        measured(INDEX, "get", self.0.get(id)).await
    }

    async fn get_all(&self, ids: &[ImageId]) -> Result<Vec<Option<Record>>, StoreError> {
        measured(INDEX, "get_all", self.0.get_all(ids)).await
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        measured(INDEX, "change", self.0.change(id, change)).await
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        measured(INDEX, "change_from", self.0.change_from(id, from, change)).await
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        measured(INDEX, "vote", self.0.vote(id, upload, labels)).await
    }

    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        measured(INDEX, "near_fingerprints", self.0.near_fingerprints(queries, among, limit)).await
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        measured(INDEX, "put_vector", self.0.put_vector(id, space, vector)).await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        measured(INDEX, "vector", self.0.vector(id, space)).await
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        measured(INDEX, "near_vectors", self.0.near_vectors(space, vector, cosine_min, among, limit)).await
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        measured(INDEX, "repeats_of", self.0.repeats_of(id)).await
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        measured(INDEX, "page", self.0.page(select, after, limit, with)).await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        measured(INDEX, "count", self.0.count(select)).await
    }

    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        measured(INDEX, "facet", self.0.facet(by, select, limit)).await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        measured(INDEX, "commit", self.0.commit()).await
    }
}

/// Blobs whose calls are measured.
#[derive(Debug)]
pub struct MeteredBlobs(pub Arc<dyn Blobs>);

const BLOBS: &str = "blobs";

#[async_trait]
impl Blobs for MeteredBlobs {
    async fn check(&self) -> Result<(), StoreError> {
        measured(BLOBS, "check", self.0.check()).await
    }

    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), StoreError> {
        measured(BLOBS, "put", self.0.put(key, bytes)).await
    }

    async fn put_file(&self, key: &BlobKey, file: &Path) -> Result<(), StoreError> {
        measured(BLOBS, "put_file", self.0.put_file(key, file)).await
    }

    async fn create(&self, key: &BlobKey, bytes: Bytes) -> Result<bool, StoreError> {
        measured(BLOBS, "create", self.0.create(key, bytes)).await
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, StoreError> {
        measured(BLOBS, "get", self.0.get(key)).await
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, StoreError> {
        measured(BLOBS, "size", self.0.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), StoreError> {
        measured(BLOBS, "delete", self.0.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobKey>, StoreError> {
        measured(BLOBS, "list", self.0.list(prefix)).await
    }

    fn location(&self, key: &BlobKey) -> String {
        self.0.location(key)
    }

    async fn link(&self, key: &BlobKey, to: LinkTo, valid: Duration) -> Result<Option<String>, StoreError> {
        measured(BLOBS, "link", self.0.link(key, to, valid)).await
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::{contract::sample, index::MemoryIndex};

    #[test]
    fn that_nothing_is_there_is_no_error_of_the_store() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let index = MeteredIndex(Arc::new(MemoryIndex::with_spaces(&[])));
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let change = Change::to(State::Held);
                index.change(sample::id(1), &change).await.expect_err("is not there");
                let space = VectorSpace("unknown".into());
                index.put_vector(sample::id(1), &space, &[1.0]).await.expect_err("has no such space");
            });
        });
        let seen = recorder.handle().render();
        let errors: Vec<_> = seen.lines().filter(|line| line.starts_with(&format!("{STORE_ERRORS}{{"))).collect();
        assert_eq!(errors, [format!("{STORE_ERRORS}{{store=\"index\",call=\"put_vector\",class=\"halt\"}} 1")]);
    }
}
