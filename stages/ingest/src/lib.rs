//! Ingest: turns an upload into a stored, measured picture, or refuses it.
//!
//! Takes    `Upload`. Gives `ImageStored`, or rejects with the reason of the decoder.
//! Keeps    the original bytes, of a large one the preview, and what other processes compare it by, keyed by content: written
//!          once, the same whoever writes.
//! Crash    safe at any line: a second delivery writes the same blobs and says the same.
//! Weak at  a claim-check upload whose bytes never arrive is tried for minutes before it is dead-lettered.

use std::{
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::Bytes;
use dih_core::{
    BlobKey, Class, Delivery, Epoch, ImageId, Millis, Notice, Outcome, Stage, StageError, StageName, UploadSeq,
    config::Faults,
    device::{Admission, Hour, Quota},
    event::{Content, Image, ImageStored, Upload},
    image::{Fingerprints, Format, Measures, Size, Thumbnail},
    metrics::DECODE_SECONDS,
    ports::{Blobs, Quotas, StoreError},
    verdict::{Answer, Decision, Status},
    work::Bench,
};
use dih_imaging::{
    Decoded, Limits, Preview, Refusal,
    confirm::{Pixels, features},
    read,
};
use dih_previews::{Fresh, Previews};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the ingest stage.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What a picture may be at most and must be at least; read from its header before anything is decoded.
    pub limits: Limits,
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        self.limits.check("ingest.limits", faults);
    }
}

/// A picture after its one decode.
struct Developed {
    format: Format,
    size: Size,
    measures: Measures,
    fingerprints: Fingerprints,
    thumbnail: Thumbnail,
    preview: Fresh,
    /// What it takes to compare the picture with others, where that is shared.
    features: Option<Vec<u8>>,
}

#[derive(Debug)]
pub struct Ingest {
    config: Config,
    blobs: Arc<dyn Blobs>,
    previews: Arc<Previews>,
    bench: Bench,
    quotas: Option<Arc<dyn Quotas>>,
    shares: bool,
}

impl Ingest {
    pub fn new(config: Config, blobs: Arc<dyn Blobs>, previews: Arc<Previews>, bench: Bench) -> Self {
        Self { config, blobs, previews, bench, quotas: None, shares: false }
    }

    /// Refuses what is over the quota of its device.
    #[must_use]
    pub fn limited(self, quotas: Arc<dyn Quotas>) -> Self {
        Self { quotas: Some(quotas), ..self }
    }

    /// Leaves what it takes to compare a picture with others in the blob store: processes without its pixels need not
    /// decode it again.
    #[must_use]
    pub fn sharing(self) -> Self {
        Self { shares: true, ..self }
    }

    async fn bytes_of(&self, upload: &Upload) -> Result<Bytes, StageError> {
        let key = match &upload.content {
            Content::Inline(bytes) => return Ok(bytes.clone()),
            Content::Stored(key) => key,
        };
        match (self.blobs.get(key).await, key.waiting(&upload.device)) {
            // Taken out of the inbox by a try that died before it could say so.
            (Err(StoreError::NotFound { .. }), Some(id)) => Ok(self.blobs.get(&BlobKey::original(id)).await?),
            (got, _) => Ok(got?),
        }
    }

    /// When the hour of a device that has used it up ends.
    async fn over_quota(&self, upload: &Upload, at: Option<Millis>, bytes: u64) -> Result<Option<String>, StageError> {
        let (Some(quotas), Some(at)) = (&self.quotas, at) else { return Ok(None) };
        match quotas.admit(&upload.device, at, bytes).await? {
            Admission::Within => Ok(None),
            Admission::Over(quota) => Ok(Some(used_up(quota, Hour::of(at)))),
        }
    }

    /// Hashes, decodes and measures on the bench.
    async fn develop(&self, bytes: Bytes) -> Result<(ImageId, Result<Developed, Refusal>), StageError> {
        let (limits, shares) = (self.config.limits.clone(), self.shares);
        let job = move || {
            let begun = Instant::now();
            let developed = read(&bytes, &limits).map(|decoded| {
                let Decoded { format, size, preview, measures, fingerprints, thumbnail, .. } = decoded;
                let preview = Fresh::new(size, preview);
                let features = shares.then(|| described(preview.preview())).flatten();
                Developed { format, size, measures, fingerprints, thumbnail, preview, features }
            });
            let outcome = if developed.is_ok() { "decoded" } else { "refused" };
            metrics::histogram!(DECODE_SECONDS, "outcome" => outcome).record(begun.elapsed());
            (ImageId::of_bytes(&bytes), developed)
        };
        self.bench.run(job).await
    }
}

impl Stage for Ingest {
    const CONSUMER: &'static str = "ingest";
    type Input = Upload;

    async fn process(&self, delivery: Delivery<Upload>) -> Result<Outcome, StageError> {
        let unnumbered = || StageError::new(Class::BadInput, "the upload came without its sequence number");
        let number = delivery.upload.ok_or_else(unnumbered)?;
        let upload = delivery.input;
        let bytes = self.bytes_of(&upload).await?;
        let size = bytes.len() as u64;
        if let Some(told) = self.over_quota(&upload, delivery.received_at, size).await? {
            return Ok(Outcome::answer(reject(number, ImageId::of_bytes(&bytes), &upload, OVER_QUOTA, &told)));
        }
        let (id, developed) = match self.develop(bytes.clone()).await? {
            (id, Ok(developed)) => (id, developed),
            (id, Err(refusal)) => {
                return Ok(Outcome::answer(reject(number, id, &upload, refusal.reason.as_str(), &refusal.detail)));
            }
        };
        self.blobs.create(&BlobKey::original(id), bytes).await?;
        if let Some(features) = &developed.features {
            self.blobs.create(&BlobKey::features(id), features.clone().into()).await?;
        }
        let image = describe(number, id, &upload, &developed, size);
        self.previews.keep(id, developed.preview).await?;
        if let Content::Stored(key) = &upload.content {
            self.blobs.delete(key).await?;
        }
        Ok(Outcome::emit(Notice::Stored(ImageStored { image })))
    }
}

fn described(preview: &Preview) -> Option<Vec<u8>> {
    Some(features(Pixels::new(preview.width, preview.height, &preview.rgb)?).to_bytes())
}

fn describe(number: UploadSeq, id: ImageId, upload: &Upload, developed: &Developed, bytes: u64) -> Image {
    let Developed { format, size, measures, fingerprints, ref thumbnail, .. } = *developed;
    let stored = format!("{} {size}, {bytes} bytes", format.as_str());
    Image {
        id,
        upload: number,
        epoch: Epoch(0),
        device: upload.device.clone(),
        labels: upload.labels.clone(),
        source: upload.source.clone(),
        captured_at: upload.captured_at,
        attributes: upload.attributes.clone(),
        format,
        size,
        bytes,
        measures,
        fingerprints,
        thumbnail: Some(thumbnail.clone()),
        lineage: vec![Decision::new(StageName::Ingest, "stored").because(stored)],
    }
}

/// Reason of what a device sends beyond its quota.
const OVER_QUOTA: &str = "over_quota";

/// What was promised, and when there is more.
fn used_up(quota: Quota, hour: Hour) -> String {
    let photos = quota.photos_per_hour.map(|photos| format!("{photos} photos"));
    let bytes = quota.bytes_per_hour.map(|bytes| bytes.to_string());
    let promised = [photos, bytes].into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let next = UNIX_EPOCH + Duration::from_millis(u64::try_from(hour.end().0).unwrap_or(0));
    format!("{promised} an hour are used up; the next hour begins at {}", humantime::format_rfc3339_seconds(next))
}

/// The picture was never decoded, so there is no `Image` to speak about.
fn reject(number: UploadSeq, id: ImageId, upload: &Upload, reason: &'static str, detail: &str) -> Answer {
    let decision = Decision::new(StageName::Ingest, reason).because(detail.to_owned());
    Answer {
        upload: number,
        epoch: Epoch(0),
        image: Some(id),
        status: Status::Rejected,
        stage: StageName::Ingest,
        reason: reason.into(),
        detail: Some(detail.to_owned()),
        repeat: None,
        device: Some(upload.device.clone()),
        labels: upload.labels.clone(),
        label_score: None,
        source: upload.source.clone(),
        measures: None,
        at: decision.at,
        lineage: vec![decision],
    }
}
