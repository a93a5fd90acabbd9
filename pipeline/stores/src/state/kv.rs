//! Small state in a NATS key-value bucket, history 1.

use async_nats::jetstream::{
    self,
    context::KeyValueErrorKind,
    kv::{CreateErrorKind, Operation, Store, UpdateErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    ports::{Entry, SmallState, StoreError},
    topology::STATE_BUCKET,
};
use futures::TryStreamExt;

use super::{STORE, check};

/// A bucket of a broker. `dih setup` makes it.
#[derive(Clone, Debug)]
pub struct KvState {
    bucket: Store,
}

impl KvState {
    /// The bucket [`STATE_BUCKET`].
    pub async fn open(client: async_nats::Client) -> Result<Self, StoreError> {
        Self::open_bucket(client, STATE_BUCKET).await
    }

    /// Looks the bucket up; refuses, naming the remedy, where there is none.
    pub async fn open_bucket(client: async_nats::Client, name: &str) -> Result<Self, StoreError> {
        let action = format!("open the bucket `{name}`");
        match jetstream::new(client).get_key_value(name).await {
            Ok(bucket) => Ok(Self { bucket }),
            Err(e) if e.kind() == KeyValueErrorKind::GetBucket && is_missing(&e) => {
                let remedy = "run `dih setup`, which makes it".into();
                Err(StoreError::Refused { store: STORE, action, remedy, source: Some(Box::new(e)) })
            }
            Err(e) => Err(StoreError::Unavailable { store: STORE, action, source: Box::new(e) }),
        }
    }
}

/// Whether the server said that there is no such stream, rather than nothing.
fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(jetstream) = error.downcast_ref::<jetstream::Error>() {
            return jetstream.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND;
        }
        if let Some(stream) = error.downcast_ref::<jetstream::context::GetStreamError>()
            && let jetstream::context::GetStreamErrorKind::JetStream(jetstream) = stream.kind()
        {
            return jetstream.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND;
        }
        next = error.source();
    }
    false
}

fn unavailable<E: std::error::Error + Send + Sync + 'static>(verb: &str, key: &str) -> impl FnOnce(E) -> StoreError {
    let action = format!("{verb} `{key}`");
    move |source| StoreError::Unavailable { store: STORE, action, source: Box::new(source) }
}

#[async_trait]
impl SmallState for KvState {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check(key)?;
        let entry = self.bucket.entry(key).await.map_err(unavailable("read", key))?;
        let live = entry.filter(|e| e.operation == Operation::Put);
        Ok(live.map(|e| Entry { value: e.value, revision: e.revision }))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Option<u64>, StoreError> {
        check(key)?;
        match self.bucket.create(key, value).await {
            Ok(revision) => Ok(Some(revision)),
            Err(e) if e.kind() == CreateErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(unavailable("create", key)(e)),
        }
    }

    async fn replace(&self, key: &str, value: Bytes, revision: u64) -> Result<Option<u64>, StoreError> {
        check(key)?;
        if revision == 0 {
            return Ok(None); // to the broker 0 would mean: where nothing is
        }
        match self.bucket.update(key, value, revision).await {
            Ok(revision) => Ok(Some(revision)),
            Err(e) if e.kind() == UpdateErrorKind::WrongLastRevision => Ok(None),
            Err(e) => Err(unavailable("replace", key)(e)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check(key)?;
        self.bucket.purge(key).await.map_err(unavailable("delete", key))
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let all = self.bucket.keys().await.map_err(unavailable("list", prefix))?;
        let all: Vec<String> = all.try_collect().await.map_err(unavailable("list", prefix))?;
        let mut keys: Vec<_> = all.into_iter().filter(|k| k.starts_with(prefix)).collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }
}
