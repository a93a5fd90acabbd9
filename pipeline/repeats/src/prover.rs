//! Proves on the pixels that two pictures show the same shot.
//!
//! Takes    a picture and its candidates. Gives those that are proven, with the evidence.
//! Keeps    the features of recently seen pictures in memory (bounded number), nothing else.
//! Weak at  a candidate whose preview has been removed counts as unproven.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use dih_core::{
    BlobKey, Class, ImageId, StageError,
    ports::{Blobs, StoreError},
    record::Record,
    repeat::{Evidence, FoundBy, Twin},
    work::Bench,
};
use dih_imaging::{
    Preview,
    confirm::{Features, Pixels, Policy, confirm, features},
};
use lru::LruCache;

/// A picture that may show the same shot, and why it is suspected.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub record: Record,
    pub found_by: FoundBy,
}

/// Compares previews; each is decoded and described once while it stays in the cache.
#[derive(Debug)]
pub struct Prover {
    blobs: Arc<dyn Blobs>,
    bench: Bench,
    policy: Policy,
    cache: Mutex<LruCache<ImageId, Arc<Features>>>,
}

impl Prover {
    /// `cached`: pictures whose features stay in memory, a few tens of kB each.
    pub fn new(blobs: Arc<dyn Blobs>, bench: Bench, policy: Policy, cached: NonZeroUsize) -> Self {
        Self { blobs, bench, policy, cache: Mutex::new(LruCache::new(cached)) }
    }

    /// The candidates that are proven to show the same shot as `own`.
    pub async fn twins(&self, own: &Record, candidates: Vec<Candidate>) -> Result<Vec<Twin>, StageError> {
        let mut twins = Vec::new();
        if candidates.is_empty() {
            return Ok(twins);
        }
        let (order, own) = (own.order(), self.features(own.id()).await?);
        for Candidate { record, found_by } in candidates {
            let other = match self.features(record.id()).await {
                Ok(features) => features,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            };
            let own_is_later = order > record.order();
            if let Some(evidence) = self.prove(own.clone(), other, own_is_later).await? {
                let (id, order, stands) = (record.id(), record.order(), record.state.stands());
                twins.push(Twin { id, order, stands, found_by, evidence });
            }
        }
        Ok(twins)
    }

    /// Evidence always maps the later picture onto the earlier one, whichever is under decision.
    async fn prove(
        &self,
        own: Arc<Features>,
        other: Arc<Features>,
        own_is_later: bool,
    ) -> Result<Option<Evidence>, StageError> {
        let (repeat, original) = if own_is_later { (own, other) } else { (other, own) };
        let policy = self.policy.clone();
        self.bench.run(move || confirm(&repeat, &original, &policy)).await
    }

    async fn features(&self, id: ImageId) -> Result<Arc<Features>, StageError> {
        if let Some(known) = self.lock().get(&id) {
            return Ok(known.clone());
        }
        let jpeg = self.blobs.get(&BlobKey::preview(id)).await?;
        let described = self.bench.run(move || describe(&jpeg)).await?;
        let unreadable = || StageError::new(Class::BadInput, format!("the stored preview of {id} is no picture"));
        let described = Arc::new(described.ok_or_else(unreadable)?);
        self.lock().put(id, described.clone());
        Ok(described)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<ImageId, Arc<Features>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(jpeg: &[u8]) -> Option<Features> {
    let preview = Preview::from_jpeg(jpeg).ok()?;
    Pixels::new(preview.width, preview.height, &preview.rgb).map(features)
}

fn is_gone(error: &StageError) -> bool {
    matches!(error.as_error().downcast_ref::<StoreError>(), Some(StoreError::NotFound { .. }))
}
