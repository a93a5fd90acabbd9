//! What the stages tell each other. Ids, keys and measurements (about 1 kB, a thumbnail of 384 bytes among them), never
//! a photo or a vector.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    BlobKey, DatasetName, DeviceId, Epoch, ImageId, Label, Millis, UploadSeq, VersionId,
    image::{Fingerprints, Format, Measures, Size, Thumbnail},
    verdict::Decision,
};

/// A photo as a device sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    pub device: DeviceId,
    /// What the uploader says it shows; at least one.
    pub labels: Vec<Label>,
    pub content: Content,
    /// What the uploader calls it: a path, a URL.
    pub source: Option<String>,
    /// Clock of the device; never believed for order.
    pub captured_at: Option<Millis>,
    /// Anything else worth selecting by: `licence`, `author`, `country`, …
    pub attributes: BTreeMap<String, String>,
}

/// The bytes of a photo: in the message, or waiting in the blob store (claim check) when they are too large for one.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Inline(Bytes),
    Stored(BlobKey),
}

/// A decoded picture on its way: what every stage after ingest knows of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub id: ImageId,
    pub upload: UploadSeq,
    pub epoch: Epoch,
    pub device: DeviceId,
    pub labels: Vec<Label>,
    pub source: Option<String>,
    pub captured_at: Option<Millis>,
    pub attributes: BTreeMap<String, String>,
    pub format: Format,
    /// Size of the upright picture in pixels.
    pub size: Size,
    /// Size of the upload in bytes.
    pub bytes: u64,
    pub measures: Measures,
    pub fingerprints: Fingerprints,
    /// Of the preview. None in older records: then its pixels are looked at.
    #[serde(default)]
    pub thumbnail: Option<Thumbnail>,
    /// Decisions so far, in order.
    pub lineage: Vec<Decision>,
}

/// ingest -> dedupe: original and preview are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageStored {
    pub image: Image,
}

/// dedupe -> verify: no earlier picture has its content or its fingerprint.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageUnique {
    pub image: Image,
}

/// verify -> embed: keeps the quality rules, and its label is not absurd.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageVerified {
    pub image: Image,
    /// Probability that the label fits, by the classifier; None where its vocabulary lacks the label.
    pub label_score: Option<f32>,
}

/// embed -> cluster: its vector is in the index.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageEmbedded {
    pub image: Image,
    pub label_score: Option<f32>,
    /// Name of the vector space, one per embedding model version.
    pub space: VectorSpace,
}

/// cluster -> organize: no earlier picture shows the same shot; its neighbours are known.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageClustered {
    pub image: Image,
    pub label_score: Option<f32>,
    /// Earliest picture of the group that looks alike, at this moment; versions compute theirs anew.
    pub cluster: ImageId,
}

/// Name of a vector space in the index, `<model>-<precision>`; vectors of two spaces are never compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VectorSpace(pub String);

/// Someone asks for a new version of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutRequested {
    pub dataset: DatasetName,
    /// Unique per request, so that asking twice by accident cuts once.
    pub request: String,
}

/// A version is complete and readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetPublished {
    pub version: VersionId,
    pub request: String,
    pub members: u64,
    /// Photos that were eligible but are now doubted, see `held.parquet` of the version.
    pub held: u64,
    pub labels: BTreeMap<Label, u64>,
    /// SHA-256 of `manifest.parquet`, hex.
    pub manifest_sha256: String,
    pub at: Millis,
}

/// Someone asks for a model trained on a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRequested {
    pub version: VersionId,
    /// Empty means all labels of the version.
    pub labels: Vec<Label>,
    pub request: String,
    pub seed: u64,
}

/// A model was trained, tested, exported, loaded again and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingCompleted {
    pub version: VersionId,
    pub request: String,
    /// The ONNX file, backbone and head in one.
    pub model: BlobKey,
    /// `report.json`: per-class precision and recall, confusion matrix, settings.
    pub report: BlobKey,
    /// Share of the test split that the model names correctly, 0 to 1.
    pub accuracy: f32,
    pub test_photos: u64,
    pub train_photos: u64,
    pub at: Millis,
}

/// A request that cannot be served, with the reason; it is answered, not retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFailed {
    pub request: String,
    pub reason: String,
    pub at: Millis,
}

/// A message that no stage could process, with its original bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub consumer: String,
    /// Subject, payload and headers as they came.
    pub subject: String,
    pub payload: Bytes,
    pub headers: Vec<(String, String)>,
    pub stream: String,
    pub stream_sequence: u64,
    pub upload: Option<UploadSeq>,
    /// The error and its causes, outermost first.
    pub reasons: Vec<String>,
    pub attempts: u64,
    pub at: Millis,
}
