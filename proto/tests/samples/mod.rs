//! One whole value of every message; the golden samples hold their bytes.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::collections::BTreeMap;

use bytes::Bytes;
use dih_core::{
    BlobKey, Epoch, ImageId, Label, Millis, StageName, UploadSeq, VersionId,
    calibration::Calibrated,
    event::{
        Content, CutRequested, DatasetPublished, DeadLetter, Image, ImageClustered, ImageEmbedded, ImageStored,
        ImageUnique, ImageVerified, JobFailed, TrainingCompleted, TrainingRequested, Upload, VectorSpace,
    },
    image::{Fingerprint, Fingerprints, Format, Measures, Size, Thumbnail},
    repeat::{Evidence, FoundBy, Repeat},
    verdict::{Answer, Decision, Status},
};

pub fn label(text: &str) -> Label {
    Label::new(text).expect("valid")
}

pub fn upload() -> Upload {
    Upload {
        device: "cam-1".parse().expect("valid"),
        labels: vec![label("T-shirt, größe M"), label("shirt")],
        content: Content::Inline(Bytes::from_static(b"\xff\xd8\xff\xe0 bytes of a photo")),
        source: Some("shelf/1.jpg".into()),
        captured_at: Some(Millis(1_790_000_000_123)),
        attributes: [("country".into(), "DE".into()), ("licence".into(), "CC-BY-4.0".into())].into(),
    }
}

pub fn upload_stored() -> Upload {
    let content = Content::Stored(BlobKey::new(format!("inbox/{}", ImageId::of_bytes(b"large"))).expect("valid"));
    Upload { content, source: None, captured_at: None, attributes: BTreeMap::new(), ..upload() }
}

pub fn decision() -> Decision {
    Decision {
        stage: StageName::Verify,
        what: "label_plausible".into(),
        score: Some(0.75),
        threshold: Some(0.25),
        model: Some("efficientnet-lite0".into()),
        detail: Some("jersey, T-shirt".into()),
        at: Millis(1_790_000_000_456),
        calibrated: Some(Calibrated { id: "calibration-3".into(), precision: 0.96875, recall: 0.9375, samples: 640 }),
    }
}

pub fn measures() -> Measures {
    Measures {
        sharpness: 812.5,
        brightness: 0.5,
        luma_p05: 0.125,
        luma_p95: 0.875,
        luma_p99: 0.9375,
        contrast: 0.25,
        entropy: 7.25,
        aspect: 1.5,
        colourfulness: 0.0625,
        grayscale: false,
        transparent: 0.0,
        acuity: Some(0.5),
        noise: Some(0.015625),
        bars: Some(0.25),
        overexposure: None,
    }
}

pub fn image() -> Image {
    let orientations = std::array::from_fn(|n| Fingerprint(0x0123_4567_89ab_cdef_u64.rotate_left(n as u32 * 8)));
    Image {
        id: ImageId::of_bytes(b"a photo"),
        upload: UploadSeq(41),
        epoch: Epoch(2),
        device: "cam-1".parse().expect("valid"),
        labels: vec![label("shirt")],
        source: Some("shelf/1.jpg".into()),
        captured_at: Some(Millis(-1)),
        attributes: [("licence".into(), "CC0".into())].into(),
        format: Format::Webp,
        size: Size { width: 4032, height: 3024 },
        bytes: 2_345_678,
        measures: measures(),
        fingerprints: Fingerprints { orientations, parts: None },
        thumbnail: None,
        lineage: vec![decision()],
    }
}

pub fn answer() -> Answer {
    let evidence = Evidence {
        transform: [1.0, 0.0, -2.5, 0.0, 1.0, 3.5],
        mirrored: true,
        inliers: 48,
        matched: 60,
        overlap: 0.96875,
        correlation: 0.984375,
        colour: 2.25,
    };
    let repeat = Repeat {
        of: ImageId::of_bytes(b"an earlier photo"),
        of_upload: UploadSeq(7),
        of_source: Some("shelf/0.jpg".into()),
        found_by: FoundBy::Fingerprint { distance: 4, orientation: 5 },
        evidence: Some(evidence),
    };
    let at = Millis(1_790_000_000_789);
    Answer { at, ..Answer::repeats(&image(), StageName::Dedupe, repeat) }.scored(Some(0.5)).because("mirrored")
}

/// Knows as little as an answer may.
pub fn answer_bare() -> Answer {
    Answer {
        upload: UploadSeq(1),
        epoch: Epoch(0),
        image: None,
        status: Status::Dead,
        stage: StageName::Ingest,
        reason: "undecodable".into(),
        detail: None,
        repeat: None,
        device: None,
        labels: Vec::new(),
        label_score: None,
        source: None,
        measures: None,
        lineage: Vec::new(),
        at: Millis(0),
    }
}

pub fn stored() -> ImageStored {
    ImageStored { image: image() }
}

pub fn stored_with_parts() -> ImageStored {
    let mut image = image();
    let parts = std::array::from_fn(|n| Fingerprint(0xfedc_ba98_7654_3210_u64.rotate_right(n as u32 * 8)));
    image.fingerprints.parts = Some(parts);
    image.measures.overexposure = Some(0.375);
    ImageStored { image }
}

pub fn stored_with_thumbnail() -> ImageStored {
    let thumbnail = Thumbnail::from(std::array::from_fn(|n| (n * 7 % 256) as u8));
    ImageStored { image: Image { thumbnail: Some(thumbnail), ..stored_with_parts().image } }
}

pub fn unique() -> ImageUnique {
    ImageUnique { image: image() }
}

pub fn verified() -> ImageVerified {
    ImageVerified { image: image(), label_score: Some(0.875) }
}

pub fn embedded() -> ImageEmbedded {
    ImageEmbedded { image: image(), label_score: None, space: VectorSpace("efficientnet-lite0-fp32".into()) }
}

pub fn clustered() -> ImageClustered {
    ImageClustered { image: image(), label_score: Some(1.0), cluster: ImageId::of_bytes(b"founder") }
}

pub fn version() -> VersionId {
    "clothing@12".parse().expect("valid")
}

pub fn cut_requested() -> CutRequested {
    CutRequested { dataset: "clothing".parse().expect("valid"), request: "cut-1".into() }
}

pub fn published() -> DatasetPublished {
    DatasetPublished {
        version: version(),
        request: "cut-1".into(),
        members: 1500,
        held: 0,
        labels: [(label("shirt"), 700), (label("shoe"), 800)].into(),
        manifest_sha256: "0123456789abcdef".repeat(4),
        at: Millis(1_790_000_001_000),
    }
}

pub fn training_requested() -> TrainingRequested {
    TrainingRequested { version: version(), labels: vec![label("shirt")], request: "train-1".into(), seed: 7 }
}

pub fn training_completed() -> TrainingCompleted {
    TrainingCompleted {
        version: version(),
        request: "train-1".into(),
        model: "models/clothing/12/model.onnx".parse().expect("valid"),
        report: "models/clothing/12/report.json".parse().expect("valid"),
        accuracy: 0.84375,
        test_photos: 150,
        train_photos: 1200,
        at: Millis(1_790_000_002_000),
    }
}

pub fn job_failed() -> JobFailed {
    JobFailed { request: "cut-2".into(), reason: "no photo fits the selection".into(), at: Millis(1) }
}

pub fn dead_letter() -> DeadLetter {
    DeadLetter {
        consumer: "dedupe".into(),
        subject: "dih.v1.image.stored".into(),
        payload: Bytes::from_static(b"\x00\xffno protobuf"),
        headers: vec![("Dih-Upload".into(), "41".into()), ("Nats-Msg-Id".into(), "ingest.41.0".into())],
        stream: "IMAGES".into(),
        stream_sequence: 99,
        upload: Some(UploadSeq(41)),
        reasons: vec!["undecodable".into(), "ImageStored is no valid protobuf".into()],
        attempts: 1,
        at: Millis(1_790_000_003_000),
    }
}

/// Calls a macro with every message: name of its golden sample, type, value.
#[macro_export]
macro_rules! each_message {
    ($do:ident) => {
        $do!("upload", Upload, samples::upload());
        $do!("upload_stored", Upload, samples::upload_stored());
        $do!("image_stored", ImageStored, samples::stored());
        $do!("image_stored_parts", ImageStored, samples::stored_with_parts());
        $do!("image_stored_thumbnail", ImageStored, samples::stored_with_thumbnail());
        $do!("image_unique", ImageUnique, samples::unique());
        $do!("image_verified", ImageVerified, samples::verified());
        $do!("image_embedded", ImageEmbedded, samples::embedded());
        $do!("image_clustered", ImageClustered, samples::clustered());
        $do!("answer", Answer, samples::answer());
        $do!("answer_bare", Answer, samples::answer_bare());
        $do!("cut_requested", CutRequested, samples::cut_requested());
        $do!("dataset_published", DatasetPublished, samples::published());
        $do!("training_requested", TrainingRequested, samples::training_requested());
        $do!("training_completed", TrainingCompleted, samples::training_completed());
        $do!("job_failed", JobFailed, samples::job_failed());
        $do!("dead_letter", DeadLetter, samples::dead_letter());
    };
}
