//! Proves on the pixels that two pictures show the same shot.
//!
//! Takes    a picture and its candidates. Gives those that are proven, with the evidence.
//! Keeps    the features of recently seen pictures in memory (bounded number), nothing else.
//! Weak at  a candidate whose original has been removed counts as unproven.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use dih_core::{
    Class, ImageId, StageError,
    calibration::Calibrated,
    record::Record,
    repeat::{FoundBy, Twin},
    work::Bench,
};
use dih_imaging::{
    Preview,
    confirm::{Features, Pixels, Policy, confirm, features},
};
use dih_previews::Previews;
use lru::LruCache;

/// A picture that may show the same shot, and why it is suspected.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub record: Arc<Record>,
    pub found_by: FoundBy,
}

/// Compares previews; each is described once while it stays in the cache.
#[derive(Debug)]
pub struct Prover {
    previews: Arc<Previews>,
    bench: Bench,
    policy: Policy,
    cache: Mutex<LruCache<ImageId, Arc<Features>>>,
    error: Option<Calibrated>,
}

impl Prover {
    /// `cached`: pictures whose features stay in memory, about 25 kB each.
    pub fn new(previews: Arc<Previews>, bench: Bench, policy: Policy, cached: NonZeroUsize) -> Self {
        Self { previews, bench, policy, cache: Mutex::new(LruCache::new(cached)), error: None }
    }

    /// Keeps the measured error of its policy, for the lineage of what it proves.
    pub fn calibrated(self, error: Option<Calibrated>) -> Self {
        Self { error, ..self }
    }

    /// How often its policy errs, where that was measured.
    pub fn error(&self) -> Option<Calibrated> {
        self.error.clone()
    }

    /// The candidates that are proven to show the same shot as `own`.
    pub async fn twins(&self, own: &Record, candidates: Vec<Candidate>) -> Result<Vec<Twin>, StageError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let gone = || StageError::new(Class::BadInput, format!("the original of {} is gone", own.id()));
        let (order, own) = (own.order(), self.features(own.id()).await?.ok_or_else(gone)?);
        let mut pairs = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if let Some(features) = self.features(candidate.record.id()).await? {
                pairs.push((candidate, features));
            }
        }
        // All in one go: most comparisons take less time than it takes to hand them over.
        let policy = self.policy.clone();
        let twin = move |(Candidate { record, found_by }, other): (Candidate, Arc<Features>)| {
            // Evidence always maps the later picture onto the earlier one, whichever is under decision.
            let (repeat, original) = if order > record.order() { (&own, &other) } else { (&other, &own) };
            let evidence = confirm(repeat, original, &policy)?;
            let (id, order, stands) = (record.id(), record.order(), record.state.stands());
            Some(Twin { id, order, stands, found_by, evidence })
        };
        self.bench.run(move || pairs.into_iter().filter_map(twin).collect()).await
    }

    /// None when the original has been removed.
    async fn features(&self, id: ImageId) -> Result<Option<Arc<Features>>, StageError> {
        if let Some(known) = self.lock().get(&id) {
            return Ok(Some(known.clone()));
        }
        let Some(preview) = self.previews.find(id).await? else { return Ok(None) };
        let described = self.bench.run(move || describe(&preview)).await?;
        let unreadable = || StageError::new(Class::BadInput, format!("the stored preview of {id} is no picture"));
        let described = Arc::new(described.ok_or_else(unreadable)?);
        self.lock().put(id, described.clone());
        Ok(Some(described))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<ImageId, Arc<Features>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(preview: &Preview) -> Option<Features> {
    Pixels::new(preview.width, preview.height, &preview.rgb).map(features)
}
