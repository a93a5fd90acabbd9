//! Proves on the pixels that two pictures show the same shot.
//!
//! Takes    a picture and its candidates. Gives those that are proven, with the evidence. Thumbnails are looked at first:
//!          they come with the records, so a preview is read only of what may be a twin.
//! Keeps    the features of recently seen pictures in memory (bounded number). Those that have to make room go to the blob
//!          store: to read them there is little work compared with decoding the picture again.
//! Weak at  a candidate whose original has been removed counts as unproven.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use dih_core::{
    BlobKey, Class, ImageId, StageError, UploadSeq,
    calibration::Calibrated,
    chain,
    image::Thumbnail,
    ports::{Blobs, StoreError},
    record::Record,
    repeat::{FoundBy, Twin},
    work::Bench,
};
use dih_imaging::{
    Preview,
    confirm::{Features, Glance, Look, Pixels, Policy, features, look, prove},
    thumbnail,
};
use dih_previews::Previews;
use lru::LruCache;

/// Thumbnails that are looked at where the caller runs, 4 to 40 us each: to hand them over costs as much.
const FEW: usize = 8;

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
    cache: Mutex<LruCache<ImageId, Known>>,
    /// Where features lie that ingest left for all processes, or that had to make room here.
    blobs: Arc<dyn Blobs>,
    error: Option<Calibrated>,
}

/// A picture in the cache.
#[derive(Clone, Debug)]
struct Known {
    features: Arc<Features>,
    /// Whether the blob store has them, too.
    is_stored: bool,
}

impl Prover {
    /// `cached`: pictures whose features stay in memory, about 22 kB each.
    pub fn new(
        previews: Arc<Previews>,
        blobs: Arc<dyn Blobs>,
        bench: Bench,
        policy: Policy,
        cached: NonZeroUsize,
    ) -> Self {
        Self { previews, bench, policy, cache: Mutex::new(LruCache::new(cached)), blobs, error: None }
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
        let suspects = self.suspects(own, candidates).await?;
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        let features = self.features(own.id()).await?.ok_or_else(|| gone(own))?;
        let mut pairs = Vec::with_capacity(suspects.len());
        for (candidate, look) in suspects {
            if let Some(features) = self.features(candidate.record.id()).await? {
                pairs.push((candidate, look, features));
            }
        }
        let (order, policy) = (own.order(), self.policy.clone());
        let twin = move |(Candidate { record, found_by }, look, other): (Candidate, Look, Arc<Features>)| {
            let (repeat, original) = later_first(order, &record, &features, &other);
            let evidence = prove(&look, repeat, original, &policy).ok()?;
            let (id, order, stands) = (record.id(), record.order(), record.state.stands());
            Some(Twin { id, order, stands, found_by, evidence })
        };
        // All in one go: most comparisons take less time than it takes to hand them over.
        self.bench.run(move || pairs.into_iter().filter_map(twin).collect()).await
    }

    /// Those that may be twins by their thumbnails. Most are not, and no picture was read for them.
    async fn suspects(&self, own: &Record, candidates: Vec<Candidate>) -> Result<Vec<(Candidate, Look)>, StageError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let here = self.thumbnail(own).await?.ok_or_else(|| gone(own))?;
        let mut pairs = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            if let Some(thumbnail) = self.thumbnail(&candidate.record).await? {
                pairs.push((candidate, thumbnail));
            }
        }
        let (order, size, policy) = (own.order(), own.image.size, self.policy.clone());
        let few = pairs.len() <= FEW;
        let looks = move || {
            let here = Glance::of(&here, size);
            let suspect = |(candidate, thumbnail): (Candidate, Thumbnail)| {
                let there = Glance::of(&thumbnail, candidate.record.image.size);
                let (repeat, original) = later_first(order, &candidate.record, &here, &there);
                let look = look(repeat, original, &policy).ok()?;
                Some((candidate, look))
            };
            pairs.into_iter().filter_map(suspect).collect()
        };
        if few { Ok(looks()) } else { self.bench.run(looks).await }
    }

    /// From the record; of an older one from its preview. None when the original has been removed.
    async fn thumbnail(&self, record: &Record) -> Result<Option<Thumbnail>, StageError> {
        if let Some(thumbnail) = &record.image.thumbnail {
            return Ok(Some(thumbnail.clone()));
        }
        let Some(preview) = self.previews.find(record.id()).await? else { return Ok(None) };
        self.bench.run(move || Some(thumbnail(&preview))).await
    }

    /// None when the original has been removed.
    async fn features(&self, id: ImageId) -> Result<Option<Arc<Features>>, StageError> {
        if let Some(known) = self.lock().get(&id) {
            return Ok(Some(known.features.clone()));
        }
        // The preview of a picture that has just come is at hand, and describing it costs less than asking a store.
        if !self.previews.has_at_hand(id)
            && let Some(stored) = self.stored(id).await?
        {
            return Ok(Some(self.keep(id, stored, true).await));
        }
        let Some(preview) = self.previews.find(id).await? else { return Ok(None) };
        let described = self.bench.run(move || describe(&preview)).await?;
        let unreadable = || StageError::new(Class::BadInput, format!("the stored preview of {id} is no picture"));
        Ok(Some(self.keep(id, described.ok_or_else(unreadable)?, false).await))
    }

    /// None where nobody left any, or in a form that this version does not read.
    async fn stored(&self, id: ImageId) -> Result<Option<Features>, StageError> {
        match self.blobs.get(&BlobKey::features(id)).await {
            Ok(bytes) => Ok(Features::from_bytes(&bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Into the cache; whoever makes room for it goes to the blob store.
    async fn keep(&self, id: ImageId, features: Features, is_stored: bool) -> Arc<Features> {
        let features = Arc::new(features);
        let known = Known { features: features.clone(), is_stored };
        let gone = self.lock().push(id, known).filter(|(gone, known)| *gone != id && !known.is_stored);
        if let Some((gone, known)) = gone
            && let Err(error) = self.blobs.create(&BlobKey::features(gone), known.features.to_bytes().into()).await
        {
            // They can be made again.
            tracing::debug!(image = %gone, error = %chain(&error), "features could not be stored");
        }
        features
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<ImageId, Known>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(own: &Record) -> StageError {
    StageError::new(Class::BadInput, format!("the original of {} is gone", own.id()))
}

/// Evidence always maps the later picture onto the earlier one, whichever is under decision.
fn later_first<'a, T>(own: UploadSeq, other: &Record, here: &'a T, there: &'a T) -> (&'a T, &'a T) {
    if own > other.order() { (here, there) } else { (there, here) }
}

fn describe(preview: &Preview) -> Option<Features> {
    Pixels::new(preview.width, preview.height, &preview.rgb).map(features)
}

#[cfg(test)]
mod tests {
    use dih_core::{
        Epoch,
        config::ByteSize,
        event::Image,
        image::{Fingerprint, Fingerprints, Format, Measures, Size},
        record::Record,
    };
    use dih_imaging::sample;
    use dih_stores::blob::ObjectBlobs;

    use super::*;

    fn record(upload: u64, preview: &Preview) -> Record {
        Record::claimed(Image {
            id: ImageId::of_bytes(&upload.to_le_bytes()),
            upload: UploadSeq(upload),
            epoch: Epoch(0),
            device: "cam1".parse().expect("valid"),
            labels: vec!["shirt".parse().expect("valid")],
            source: None,
            captured_at: None,
            attributes: Default::default(),
            format: Format::Jpeg,
            size: Size { width: preview.width, height: preview.height },
            bytes: 1,
            measures: Measures::default(),
            fingerprints: Fingerprints { orientations: [Fingerprint(0); 8], parts: None },
            thumbnail: Some(thumbnail(preview)),
            lineage: Vec::new(),
        })
    }

    #[tokio::test]
    async fn what_ingest_left_is_enough_to_compare_by() {
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let preview = sample::photo(3, 400, 300);
        let (first, second) = (record(1, &preview), record(2, &preview));
        for record in [&first, &second] {
            let features = describe(&preview).expect("a picture").to_bytes();
            blobs.create(&BlobKey::features(record.id()), features.into()).await.expect("memory");
        }
        let bench = Bench::new(Some(1));
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize::mib(1)));
        let prover = |blobs| Prover::new(previews.clone(), blobs, bench.clone(), Policy::default(), NonZeroUsize::MIN);
        let candidate = || Candidate { record: Arc::new(first.clone()), found_by: FoundBy::Content };
        let twins = prover(blobs).twins(&second, vec![candidate()]).await.expect("compares");
        assert_eq!(twins.iter().map(|twin| twin.id).collect::<Vec<_>>(), [first.id()]);
        let nothing = Arc::new(ObjectBlobs::memory());
        prover(nothing).twins(&second, vec![candidate()]).await.expect_err("neither preview nor original is there");
    }

    #[tokio::test]
    async fn who_makes_room_in_the_cache_is_found_in_the_store() {
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let bench = Bench::new(Some(1));
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize(1)));
        let prover = Prover::new(previews, blobs.clone(), bench, Policy::default(), NonZeroUsize::MIN);
        let (preview, other) = (sample::photo(3, 400, 300), sample::photo(4, 400, 300));
        let (first, second) = (record(1, &preview), record(2, &other));
        for (record, preview) in [(&first, &preview), (&second, &other)] {
            let jpeg = preview.to_jpeg().into();
            blobs.create(&BlobKey::original(record.id()), jpeg).await.expect("memory");
        }
        let described = prover.features(first.id()).await.expect("is there").expect("is a picture");
        prover.features(second.id()).await.expect("is there").expect("is a picture");
        blobs.delete(&BlobKey::original(first.id())).await.expect("memory");
        let again = prover.features(first.id()).await.expect("is there").expect("is not decoded again");
        assert_eq!(again, described);
    }
}
