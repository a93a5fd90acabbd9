//! What the stages need of the world. One contract suite a port; every adapter and every fake passes it.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    BlobKey, Class, Classify, DeviceId, ImageId, Label, Millis, StageError, UploadSeq,
    device::Admission,
    event::VectorSpace,
    image::RangeQuery,
    record::{Change, Record, State, Summary},
};

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{store} did not find `{key}`")]
    NotFound { store: &'static str, key: String },
    /// Slow, full for now, restarting: later may be better.
    #[error("{store} could not {action}")]
    Unavailable { store: &'static str, action: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// Denied, wrong schema, no such bucket: a person must act. `remedy` says how.
    #[error("{store} refuses to {action}; {remedy}")]
    Refused {
        store: &'static str,
        action: String,
        remedy: String,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// What is stored cannot be understood.
    #[error("{store} holds something unreadable under `{key}`")]
    Corrupt { store: &'static str, key: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Retry,
            // A blob that an event names was written before the event: it is late, or somebody removed it.
            Self::NotFound { .. } => Class::Retry,
            Self::Refused { .. } => Class::Halt,
            Self::Corrupt { .. } => Class::BadInput,
        }
    }
}

/// What a link lets its holder do with the one blob it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTo {
    Read,
    /// Writes or overwrites.
    Write,
}

/// Originals, previews, pictures, shards, models. Keys name contents or versions, so writing twice changes nothing.
#[async_trait]
pub trait Blobs: Send + Sync + fmt::Debug {
    /// Looks, before any work begins, whether the store is there and keeps what this trait promises.
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Writes or overwrites; whole or not at all.
    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), StoreError>;
    /// Writes a file of this machine's disk, as [`Blobs::put`] does. An adapter that can stream should: this reads it whole.
    async fn put_file(&self, key: &BlobKey, file: &Path) -> Result<(), StoreError> {
        let unread = |source| StoreError::Unavailable {
            store: "the disk",
            action: format!("read `{}`", file.display()),
            source: Box::new(source),
        };
        let bytes = tokio::fs::read(file).await.map_err(unread)?;
        self.put(key, bytes.into()).await
    }
    /// Writes only where nothing is. True when this call wrote it.
    async fn create(&self, key: &BlobKey, bytes: Bytes) -> Result<bool, StoreError>;
    async fn get(&self, key: &BlobKey) -> Result<Bytes, StoreError>;
    /// Size in bytes, or None where there is nothing.
    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, StoreError>;
    /// Removing what is not there is fine.
    async fn delete(&self, key: &BlobKey) -> Result<(), StoreError>;
    /// Keys below `prefix` (whole path parts), sorted; for people and tests, not for the way of a photo.
    async fn list(&self, prefix: &str) -> Result<Vec<BlobKey>, StoreError>;
    /// Where a person finds it: a path or a URL.
    fn location(&self, key: &BlobKey) -> String;
    /// An address at which whoever has it can do this by plain HTTP, without an account, until `valid` is over. None where
    /// the store is not reached by HTTP. The address is a secret of its reader: it belongs into no log.
    async fn link(&self, _key: &BlobKey, _to: LinkTo, _valid: Duration) -> Result<Option<String>, StoreError> {
        Ok(None)
    }
}

/// A picture whose fingerprint is near.
#[derive(Clone, Debug, PartialEq)]
pub struct NearFingerprint {
    pub record: Arc<Record>,
    /// Differing bits.
    pub distance: u32,
    /// Position of the nearest query.
    pub query: usize,
}

/// A picture whose vector is near. Many are found for each photo and few looked into, so their records are not read.
#[derive(Clone, Debug, PartialEq)]
pub struct NearVector {
    pub image: Summary,
    pub cosine: f32,
    /// Where its first vector is among those that were put, by the store's own count; None where the store cannot tell.
    pub put: Option<u64>,
}

impl NearVector {
    /// Whether every search since its own vector was put would find this other one, if that is near.
    pub fn was_put_after(&self, other: &Self) -> bool {
        self.put.zip(other.put).is_some_and(|(own, other)| own > other)
    }
}

/// Which images to search among.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Among<'a> {
    /// Those in one of these states; empty means any.
    pub states: &'a [State],
    /// Those that come after this upload in the order.
    pub after: Option<UploadSeq>,
    /// This upload and those that come before it.
    pub until: Option<UploadSeq>,
}

impl<'a> Among<'a> {
    pub fn states(states: &'a [State]) -> Self {
        Self { states, ..Self::default() }
    }

    /// Whether an image in such a state and place is among them.
    pub fn has(&self, state: State, order: UploadSeq) -> bool {
        let is_within = self.after.is_none_or(|after| order > after) && self.until.is_none_or(|until| order <= until);
        is_within && (self.states.is_empty() || self.states.contains(&state))
    }
}

/// Which records to page through. Empty means no restriction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Select {
    pub states: Vec<State>,
    /// Any of these among the image's labels.
    pub labels: Vec<Label>,
    /// All of these among its attributes.
    pub attributes: BTreeMap<String, String>,
}

/// What records are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facet {
    State,
    /// Each of the image's labels.
    Label,
    /// Each of its attributes, with its value.
    Attribute,
}

/// A value that some records have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whose value it is; of an attribute only.
    pub key: Option<String>,
    pub value: String,
    pub records: u64,
}

/// Records in the order of their ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub records: Vec<(Record, Option<Vec<f32>>)>,
    /// Pass it as `after` for the next page; None at the end.
    pub next: Option<ImageId>,
}

/// Claims, fingerprints, vectors and states of images.
///
/// A write is visible to every later read at once, and durable after [`Index::commit`]: the runner commits before it
/// publishes.
#[async_trait]
pub trait Index: Send + Sync + fmt::Debug {
    /// Inserts the record if its id is free (with its upright fingerprint), then reads back whoever holds it.
    async fn claim(&self, record: &Record) -> Result<Record, StoreError>;
    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError>;
    /// Like [`Index::get`] for each, in their order, where a request costs more than a record.
    async fn get_all(&self, ids: &[ImageId]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            records.push(self.get(*id).await?);
        }
        Ok(records)
    }
    /// Changes fields of a record that is there; `NotFound` otherwise.
    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError>;
    /// Like [`Index::change`], but only while the record's state is one of `from`, and, when the change begins an epoch,
    /// its epoch the one before: a compare-and-set. True when this call changed it; false when state or epoch is another
    /// one by now. Of racers from the same state at most one wins when the change leaves that state or begins an epoch.
    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError>;
    /// Adds the labels that another upload of the same bytes gave. Adding twice changes nothing.
    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError>;
    /// Records that any of the queries finds, nearest first and of equals the first one uploaded, each once; up to
    /// `limit` of each of `among`, which have none in common.
    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError>;
    /// Stores a vector; it need not be normalised.
    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError>;
    /// The stored vector, normalised to length 1.
    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError>;
    /// Images with a vector in this space of at least this cosine, nearest first and of equals the first one uploaded.
    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError>;
    /// Records whose `repeat.of` is this image.
    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError>;
    /// A page of the selection, in the order of ids, with vectors (normalised) where a space is named.
    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError>;
    async fn count(&self, select: &Select) -> Result<u64, StoreError>;
    /// The values that selected records have, and how many have each: those that most have first, of equals by name; up to
    /// `limit`.
    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError>;
    /// Makes all writes that returned before this call durable. Concurrent calls share one flush.
    async fn commit(&self) -> Result<(), StoreError>;
}

/// What a vision model saw in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// Feature vector, not normalised.
    pub embedding: Vec<f32>,
    /// Probability of each of [`Vision::classes`], summing to 1; None when the model has no classifier.
    pub probabilities: Option<Vec<f32>>,
}

/// A pre-trained model that looks at images, by their previews.
#[async_trait]
pub trait Vision: Send + Sync + fmt::Debug {
    /// Name for lineage: `efficientnet-lite0`.
    fn model(&self) -> &str;
    /// Where its vectors live in the index; another model or precision is another space.
    fn space(&self) -> &VectorSpace;
    /// Names of its classes in the order of its probabilities; empty when it has no classifier.
    fn classes(&self) -> &[String];
    /// Looks at the preview of an image that is stored.
    async fn look(&self, image: ImageId) -> Result<Sight, StageError>;
}

/// A model that says how likely a picture is one that not everybody should be shown.
#[async_trait]
pub trait Safety: Send + Sync + fmt::Debug {
    /// Name for lineage: `open-nsfw`.
    fn model(&self) -> &str;
    /// Probability that the picture is unsafe, by the preview of an image that is stored.
    async fn unsafe_score(&self, image: ImageId) -> Result<f32, StageError>;
}

/// Counts what devices send.
#[async_trait]
pub trait Quotas: Send + Sync + fmt::Debug {
    /// Counts a photo of so many bytes that came at `at`, unless its device sent too much within that hour. Counted twice
    /// where it is asked twice.
    async fn admit(&self, device: &DeviceId, at: Millis, bytes: u64) -> Result<Admission, StoreError>;
}

/// A value of the small state and the revision to compare with.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub value: Bytes,
    pub revision: u64,
}

/// Data-set definitions and heads, jobs, tokens: small values changed by compare-and-set.
#[async_trait]
pub trait SmallState: Send + Sync + fmt::Debug {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;
    /// Writes only where nothing is. None when something was there, else its revision.
    async fn create(&self, key: &str, value: Bytes) -> Result<Option<u64>, StoreError>;
    /// Writes only over this revision. None when somebody else was faster, else the new revision.
    async fn replace(&self, key: &str, value: Bytes, revision: u64) -> Result<Option<u64>, StoreError>;
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// Keys that begin with `prefix`, sorted.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
}
