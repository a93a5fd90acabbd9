//! A request ends in a checked model or in a reason, never in silence.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use arrow_array::{
    ArrayRef, Float32Array, RecordBatch, StringArray,
    builder::{Float32Builder, ListBuilder, StringBuilder},
};
use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{Class, ImageId, Label, config::ByteSize, event::VectorSpace};
use image::ImageEncoder;
use parquet::arrow::ArrowWriter;

use super::*;

const DIM: usize = 6;

#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl Blobs for Memory {
    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), StoreError> {
        self.0.lock().expect("no panic holds it").insert(key.to_string(), bytes);
        Ok(())
    }
    async fn create(&self, key: &BlobKey, bytes: Bytes) -> Result<bool, StoreError> {
        Ok(self.0.lock().expect("no panic holds it").insert(key.to_string(), bytes).is_none())
    }
    async fn get(&self, key: &BlobKey) -> Result<Bytes, StoreError> {
        let found = self.0.lock().expect("no panic holds it").get(key.as_str()).cloned();
        found.ok_or_else(|| StoreError::NotFound { store: "memory", key: key.to_string() })
    }
    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, StoreError> {
        Ok(self.0.lock().expect("no panic holds it").get(key.as_str()).map(|b| b.len() as u64))
    }
    async fn delete(&self, key: &BlobKey) -> Result<(), StoreError> {
        self.0.lock().expect("no panic holds it").remove(key.as_str());
        Ok(())
    }
    async fn list(&self, prefix: &str) -> Result<Vec<BlobKey>, StoreError> {
        let held = self.0.lock().expect("no panic holds it");
        Ok(held
            .keys()
            .filter(|k| k.starts_with(prefix))
            .map(|k| BlobKey::new(k.as_str()).expect("was a key"))
            .collect())
    }
    fn location(&self, key: &BlobKey) -> String {
        key.to_string()
    }
}

/// A model runner whose pictures are their own embeddings: the pixels of a preview are DIM floats.
#[derive(Debug)]
struct Echo {
    space: VectorSpace,
    /// Added to what the exported file answers.
    error: f32,
}

/// Minimal ONNX file: `embedding` is `input`, by an Identity node. Written by hand so that no encoder is needed here:
/// field 7 (graph) { field 1 (node) { 1: "input", 2: "embedding", 4: "Identity" }, 11: input, 12: output }.
fn backbone() -> Vec<u8> {
    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(body.len()).expect("short")];
        out.extend_from_slice(body);
        out
    }
    let node = [field(1, b"input"), field(2, b"embedding"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(11, &field(1, b"input")), field(12, &field(1, b"embedding"))].concat();
    field(7, &graph)
}

impl Predict for Echo {
    fn backbone(&self) -> Result<Backbone, StageError> {
        Ok(Backbone {
            name: "echo".into(),
            space: self.space.clone(),
            onnx: backbone(),
            embedding: "embedding".into(),
            metadata: BTreeMap::new(),
        })
    }

    fn prepare(&self, preview: &Preview) -> Result<Tensor, StageError> {
        let values = preview.rgb.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).take(DIM).collect();
        Ok(Tensor::new([1, 1, DIM], values)?)
    }

    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Classifier>, StageError> {
        let weights = floats_of(onnx, b"head_weights");
        let bias = floats_of(onnx, b"head_bias");
        Ok(Box::new(Linear { weights, bias, error: self.error }))
    }
}

struct Linear {
    weights: Vec<f32>,
    bias: Vec<f32>,
    error: f32,
}

impl Classifier for Linear {
    fn probabilities(&mut self, inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, StageError> {
        let answer = |input: &Tensor| {
            let values = input.numbers();
            let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt();
            let logits = self
                .weights
                .chunks(DIM)
                .zip(&self.bias)
                .map(|(row, bias)| row.iter().zip(&*values).map(|(w, x)| w * x / norm).sum::<f32>() + bias);
            let odds: Vec<f32> = logits.map(f32::exp).collect();
            let sum: f32 = odds.iter().sum();
            odds.iter().map(|o| o / sum + self.error).collect()
        };
        Ok(inputs.iter().map(answer).collect())
    }
}

/// The raw data of a weight in an ONNX file: after its name (field 8) comes field 9 with a length.
fn floats_of(onnx: &[u8], name: &[u8]) -> Vec<f32> {
    let places = onnx.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(i, _)| i + name.len());
    let mut raw = places.filter(|at| onnx.get(*at) == Some(&(9 << 3 | 2)));
    let mut at = raw.next().expect("the weight is in the file") + 1;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        length |= usize::from(onnx[at] & 127) << shift;
        shift += 7;
        at += 1;
        if onnx[at - 1] < 128 {
            break;
        }
    }
    onnx[at..at + length].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A lossless picture whose pixels are these numbers.
fn picture(numbers: &[f32]) -> Vec<u8> {
    let mut rgb: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
    rgb.resize(rgb.len().next_multiple_of(3), 0);
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    let width = u32::try_from(rgb.len() / 3).expect("short");
    encoder.write_image(&rgb, width, 1, image::ExtendedColorType::Rgb8).expect("memory");
    png
}

/// A version of three labels, 40 photos each, one axis a label, with previews.
async fn version(blobs: &Memory, space: &str) {
    version_with(blobs, space, 0).await;
}

/// The same with some photos of a fourth label.
async fn version_with(blobs: &Memory, space: &str, boats: usize) {
    let photos = 120 + boats;
    let names = ["dress", "hat", "shoes", "boat"];
    let (mut images, mut labels, mut splits) = (Vec::new(), Vec::new(), Vec::new());
    let mut lists = ListBuilder::new(StringBuilder::new());
    let mut vectors = ListBuilder::new(Float32Builder::new());
    for photo in 0..photos {
        let image = ImageId::of_bytes(&photo.to_le_bytes());
        let class = if photo < 120 { photo % 3 } else { 3 };
        let raw: Vec<f32> =
            (0..DIM).map(|j| ((photo * 7 + j * 13) as f32).sin() * 0.2 + if j == class { 1.0 } else { 0.0 }).collect();
        let norm = raw.iter().map(|v| v * v).sum::<f32>().sqrt();
        let unit: Vec<f32> = raw.iter().map(|v| v / norm).collect();
        blobs.put(&BlobKey::original(image), picture(&unit).into()).await.expect("memory");
        images.push(image.to_string());
        labels.push(names[class]);
        splits.push(match photo / 3 % 5 {
            3 => "val",
            4 => "test",
            _ => "train",
        });
        lists.values().append_value(names[class]);
        lists.append(true);
        vectors.values().append_slice(&unit);
        vectors.append(true);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("image", Arc::new(StringArray::from(images))),
        ("label", Arc::new(StringArray::from(labels))),
        ("labels", Arc::new(lists.finish())),
        ("split", Arc::new(StringArray::from(splits))),
        ("vector", Arc::new(vectors.finish())),
        ("space", Arc::new(StringArray::from(vec![space; photos]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("equal lengths");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("memory");
    writer.close().expect("memory");
    let key = BlobKey::new("datasets/clothing/1/manifest.parquet").expect("a key");
    blobs.put(&key, bytes.into()).await.expect("memory");
}

fn asked(version: &str, labels: &[&str]) -> TrainingRequested {
    TrainingRequested {
        version: version.parse().expect("a version"),
        labels: labels.iter().map(|l| Label::new(*l).expect("a label")).collect(),
        request: "r1".into(),
        seed: 1,
    }
}

async fn answer(blobs: &Arc<Memory>, request: TrainingRequested, error: f32) -> Result<Notice, StageError> {
    let predict = Arc::new(Echo { space: VectorSpace("echo-fp32".into()), error });
    let bench = Bench::new(Some(1));
    let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize::mib(1)));
    let stage = Train::new(Config::default(), blobs.clone(), previews, predict, bench);
    let outcome = stage.process(Delivery { input: request, upload: None, received_at: None, attempt: 1 }).await?;
    Ok(outcome.notices.into_iter().next().expect("every request is answered"))
}

async fn world() -> Arc<Memory> {
    let blobs = Arc::new(Memory::default());
    version(&blobs, "echo-fp32").await;
    blobs
}

#[track_caller]
fn refused(notice: &Notice, wanted: &str) {
    match notice {
        Notice::JobFailed(failed) => assert!(failed.reason.contains(wanted), "{}", failed.reason),
        other => assert!(matches!(other, Notice::JobFailed(_)), "{other:?}"),
    }
}

#[tokio::test]
async fn a_model_is_trained_checked_and_laid_down_with_its_report() {
    let blobs = world().await;
    let notice = answer(&blobs, asked("clothing@1", &[]), 0.0).await.expect("served");
    let Notice::Trained(done) = &notice else { return assert!(matches!(notice, Notice::Trained(_)), "{notice:?}") };
    assert!(done.accuracy > 0.95, "{}", done.accuracy);
    assert_eq!((done.train_photos, done.test_photos), (72, 24));
    let report = blobs.get(&done.report).await.expect("is there");
    let report: TrainingReport = serde_json::from_slice(&report).expect("reads back");
    assert_eq!(report.labels, ["dress", "hat", "shoes"]);
    assert_eq!(report.checked_photos, 24);
    assert!(report.checked_difference < 1e-4);
    let files = blobs.list("models/clothing/1/r1/").await.expect("memory");
    let files: Vec<&str> = files.iter().map(|k| k.as_str().rsplit('/').next().expect("a name")).collect();
    assert_eq!(files, ["README.md", "confusion.png", "model.onnx", "report.json"]);
}

#[tokio::test]
async fn a_second_delivery_writes_the_same_files() {
    let blobs = world().await;
    let models = || {
        let held = blobs.0.lock().expect("no panic holds it");
        held.iter().filter(|(k, _)| k.starts_with("models/")).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    answer(&blobs, asked("clothing@1", &[]), 0.0).await.expect("served");
    let first = models();
    answer(&blobs, asked("clothing@1", &[]), 0.0).await.expect("served");
    assert_eq!(first, models());
}

#[tokio::test]
async fn chosen_labels_alone_are_learnt() {
    let blobs = world().await;
    let notice = answer(&blobs, asked("clothing@1", &["hat", "dress"]), 0.0).await.expect("served");
    let Notice::Trained(done) = &notice else { return assert!(matches!(notice, Notice::Trained(_)), "{notice:?}") };
    assert_eq!(done.test_photos, 16);
}

#[tokio::test]
async fn a_label_with_too_few_photos_is_left_out_by_name_unless_it_was_asked_for() {
    let blobs = Arc::new(Memory::default());
    version_with(&blobs, "echo-fp32", 4).await;
    let notice = answer(&blobs, asked("clothing@1", &[]), 0.0).await.expect("served");
    let Notice::Trained(done) = &notice else { return assert!(matches!(notice, Notice::Trained(_)), "{notice:?}") };
    assert_eq!((done.train_photos, done.test_photos), (72, 24));
    let report = blobs.get(&done.report).await.expect("is there");
    let report: TrainingReport = serde_json::from_slice(&report).expect("reads back");
    assert_eq!((report.labels.len(), report.left_out), (3, vec!["boat".to_owned()]));
    refused(&answer(&blobs, asked("clothing@1", &["hat", "boat"]), 0.0).await.expect("answered"), "`boat` has 4");
}

#[tokio::test]
async fn what_cannot_be_served_is_answered_with_the_reason() {
    let blobs = world().await;
    let ask = |version, labels| answer(&blobs, asked(version, labels), 0.0);
    refused(&ask("clothing@2", &[]).await.expect("answered"), "no version clothing@2");
    refused(&ask("clothing@1", &["hat"]).await.expect("answered"), "at least two");
    refused(&ask("clothing@1", &["hat", "boat"]).await.expect("answered"), "`boat` has 0");
    let odd = TrainingRequested { request: "../up".into(), ..asked("clothing@1", &[]) };
    refused(&answer(&blobs, odd, 0.0).await.expect("answered"), "name of the request");
    version(&blobs, "other-model").await;
    refused(&ask("clothing@1", &[]).await.expect("answered"), "120 photos have no vector");
}

#[tokio::test]
async fn a_model_that_answers_otherwise_than_its_trainer_is_not_published() {
    let blobs = world().await;
    for error in [0.5, f32::NAN] {
        refused(&answer(&blobs, asked("clothing@1", &[]), error).await.expect("answered"), "differs from the trainer");
    }
    assert!(blobs.list("models/").await.expect("memory").is_empty());
}

#[tokio::test]
async fn photos_taken_down_since_are_not_checked_on() {
    let blobs = world().await;
    let originals = blobs.list("originals/").await.expect("memory");
    for key in &originals[..60] {
        blobs.delete(key).await.expect("memory");
    }
    assert!(matches!(answer(&blobs, asked("clothing@1", &[]), 0.0).await, Ok(Notice::Trained(_))));
    for key in &originals {
        blobs.delete(key).await.expect("memory");
    }
    refused(&answer(&blobs, asked("clothing@1", &[]), 0.0).await.expect("answered"), "no preview");
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_an_error_not_an_answer() {
    let blobs = world().await;
    let key = BlobKey::new("datasets/clothing/1/manifest.parquet").expect("a key");
    blobs.put(&key, Bytes::from_static(b"no parquet")).await.expect("memory");
    let error = answer(&blobs, asked("clothing@1", &[]), 0.0).await.expect_err("unreadable");
    assert_eq!(error.class(), Class::BadInput);
}

#[test]
fn a_photo_counts_the_less_the_likelier_its_label_is_wrong() {
    let wrong = [Some(0.25), None, Some(f32::NAN), Some(1.0)];
    let (mut lists, mut vectors) = (ListBuilder::new(StringBuilder::new()), ListBuilder::new(Float32Builder::new()));
    for _ in wrong {
        lists.append(true);
        vectors.values().append_slice(&[1.0, 0.0]);
        vectors.append(true);
    }
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; wrong.len()])) };
    let image = ImageId::of_bytes(b"photo").to_string();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("image", text(&image)),
        ("label", text("hat")),
        ("labels", Arc::new(lists.finish())),
        ("p_label_wrong", Arc::new(Float32Array::from(wrong.to_vec()))),
        ("split", text("train")),
        ("vector", Arc::new(vectors.finish())),
        ("space", text("echo-fp32")),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("equal lengths");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("memory");
    writer.close().expect("memory");
    let space = VectorSpace("echo-fp32".into());
    let bytes = bytes::Bytes::from(bytes);
    for (weigh_doubts, sure) in [(true, [0.75, 1.0, 1.0, 0.0]), (false, [1.0; 4])] {
        let choice = table::Choice { labels: &[], space: &space, photos_max: 10, weigh_doubts };
        let table = table::read(bytes.clone(), &choice).expect("reads");
        assert_eq!(table.train.split().sure, Some(&sure[..]));
    }
}
