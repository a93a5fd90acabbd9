//! The built-in models on the real ONNX Runtime.

#![allow(clippy::panic)] // helpers of a test fail by panicking

mod common;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use common::{DEFAULT, config, fp32, manifest, manifest_path, provider, shared, tools};
use dih_core::{Class, Classify, config::HumanDuration};
use dih_inference::{Config, Engine, InferenceError, Manifest, Once, Output, Provider, Tensor};
use tokio::time::timeout;

/// How far from the reference an answer may lie.
struct Tolerance {
    pixel: f32,
    mean: f32,
    /// Relative.
    norm: f32,
    probability: f32,
}

/// The same bytes come out of every PNG decoder, so what is left is the resize, exact to one step of 1/128.
const LOSSLESS: Tolerance = Tolerance { pixel: 1.01 / 128.0, mean: 1e-4, norm: 1e-3, probability: 0.005 };
/// JPEG decoders differ by a step or two in a byte. One random step in every byte alone moves a probability by up to 0.12
/// on these photos (tried in the reference).
const LOSSY: Tolerance = Tolerance { pixel: 3.5 / 128.0, mean: 0.002, norm: 0.01, probability: 0.05 };
/// Sums in another order; relative to the vector's length.
const BATCH_TOLERANCE: f32 = 1e-4;
/// What 8 bits may cost one photo: mean .989, least .975 on 80 photos (docs/BENCHMARKS.md).
const INT8_COSINE_MIN: f32 = 0.97;
const INT8_PROBABILITY: f32 = 0.1;
const PATIENCE: Duration = Duration::from_secs(60);

fn picture(path: &Path) -> image::RgbImage {
    image::open(path).expect("the photo decodes").into_rgb8()
}

fn prepared(manifest: &Manifest, picture: &image::RgbImage) -> Tensor {
    manifest.prepare(picture.as_raw(), picture.width(), picture.height()).expect("a decoded picture fits")
}

fn tensor(manifest: &Manifest, path: &Path) -> Tensor {
    prepared(manifest, &picture(path))
}

/// Tensors that all differ: one photo, shifted in brightness.
fn many(manifest: &Manifest, count: u8) -> Vec<Tensor> {
    let photo = picture(&tools().join("photos/rocket.jpg"));
    let shifted = |by: u8| {
        let mut shifted = photo.clone();
        shifted.iter_mut().for_each(|byte| *byte = *byte / 2 + by);
        prepared(manifest, &shifted)
    };
    (0..count).map(shifted).collect()
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

#[track_caller]
fn same(a: &Output, b: &Output) {
    let vectors = |o: &Output| [o.embedding.clone().expect("asked for"), o.probabilities.clone().expect("asked for")];
    for (a, b) in vectors(a).iter().zip(&vectors(b)) {
        let apart = distance(a, b) / norm(a);
        assert!(apart < BATCH_TOLERANCE, "relative distance {apart}");
    }
}

/// What the reference (Pillow, Python's ONNX Runtime) says about one photo.
struct Golden<'a> {
    mean: f32,
    first: f32,
    middle: f32,
    norm: f32,
    /// `name:probability`, by falling probability.
    top: &'a str,
}

async fn check(engine: &Engine, path: &Path, tolerance: &Tolerance, want: Golden<'_>) {
    let at = path.display();
    let tensor = tensor(engine.manifest(), path);
    // As the network sees them, behind what makes numbers of bytes.
    let values: Vec<f32> = tensor.numbers().iter().map(|byte| (byte - 127.0) / 128.0).collect();
    let near = |what, have: f32, want: f32, tolerance| {
        assert!((have - want).abs() <= tolerance, "{at}: {what} is {have}, not {want}");
    };
    near("mean", values.iter().sum::<f32>() / values.len() as f32, want.mean, tolerance.mean);
    near("first pixel", values[0], want.first, tolerance.pixel);
    near("middle pixel", values[(112 * 224 + 112) * 3 + 1], want.middle, tolerance.pixel);

    let output = engine.infer(tensor).await.expect("the model runs");
    let embedding = output.embedding.expect("the manifest asks for it");
    near("norm", norm(&embedding), want.norm, want.norm * tolerance.norm);

    let probabilities = output.probabilities.expect("the manifest asks for them");
    let labels = engine.manifest().labels().expect("the class names are there");
    let names = labels.iter().map(|l| l.split(", ").next().unwrap_or_default().replace(' ', "_"));
    let by_name: BTreeMap<String, f32> = names.zip(probabilities.iter().copied()).collect();
    let most = by_name.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("there are classes");
    assert!(want.top.starts_with(&format!("{}:", most.0)), "{at}: {most:?} instead of {}", want.top);
    for claim in want.top.split(' ') {
        let (name, probability) = claim.split_once(':').expect("name:probability");
        near(name, by_name[name], probability.parse().expect("a number"), tolerance.probability);
    }
}

#[tokio::test]
async fn the_demo_photos_are_seen_as_the_reference_sees_them() {
    let engine = Engine::load(fp32(), &config()).expect("the model loads");
    let photos = tools().join("photos");
    let cat = Golden {
        mean: -0.14383,
        first: 0.32812,
        middle: 0.16406,
        norm: 15.7198,
        top: "tiger_cat:0.408 Egyptian_cat:0.340 tabby:0.167",
    };
    check(&engine, &photos.join("chelsea.png"), &LOSSLESS, cat).await;
    let coffee =
        Golden { mean: -0.25329, first: 0.25, middle: 0.96875, norm: 13.8219, top: "espresso:0.951 cup:0.015" };
    check(&engine, &photos.join("coffee.png"), &LOSSLESS, coffee).await;
    let palace =
        Golden { mean: 0.13884, first: 0.48438, middle: 0.51562, norm: 14.9454, top: "palace:0.280 bell_cote:0.181" };
    check(&engine, &photos.join("china.jpg"), &LOSSY, palace).await;
}

#[tokio::test]
async fn the_shared_golden_photos_are_seen_as_the_reference_sees_them() {
    let Some(shared) = shared() else { return };
    let engine = Engine::load(fp32(), &config()).expect("the model loads");
    let mut rows = csv::Reader::from_path(shared.join("reference/golden_lite0.csv")).expect("the golden table");
    let mut seen = 0;
    for row in rows.records() {
        let row = row.expect("a row");
        let number = |column: usize| row[column].parse().expect("a number");
        let want = Golden { mean: number(3), first: number(4), middle: number(5), norm: number(6), top: &row[8] };
        check(&engine, &shared.join("data").join(&row[0]), &LOSSY, want).await;
        seen += 1;
    }
    assert_eq!(seen, 9);
}

/// The int8 model against the fp32 model, which is held against the reference above.
async fn close(int8: &Engine, fp32: &Engine, path: &Path) {
    let at = path.display();
    let ask = async |engine: &Engine| {
        let output = engine.infer(tensor(engine.manifest(), path)).await.expect("the model runs");
        (output.embedding.expect("asked for"), output.probabilities.expect("asked for"))
    };
    let ((a, p), (b, q)) = (ask(int8).await, ask(fp32).await);
    let cosine = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>() / (norm(&a) * norm(&b));
    assert!(cosine >= INT8_COSINE_MIN, "{at}: cosine {cosine} to fp32");
    let apart = p.iter().zip(&q).map(|(p, q)| (p - q).abs()).fold(0.0, f32::max);
    assert!(apart <= INT8_PROBABILITY, "{at}: a probability is {apart} away from fp32");
}

#[tokio::test]
async fn int8_sees_what_fp32_sees() {
    let int8 = Engine::load(manifest(), &config()).expect("the model loads");
    let fp32 = Engine::load(fp32(), &config()).expect("the model loads");
    let mut photos: Vec<_> =
        ["chelsea.png", "coffee.png", "china.jpg", "rocket.jpg"].map(|f| tools().join("photos").join(f)).into();
    if let Some(shared) = shared() {
        let mut rows = csv::Reader::from_path(shared.join("reference/golden_lite0.csv")).expect("the golden table");
        photos.extend(rows.records().map(|row| shared.join("data").join(&row.expect("a row")[0])));
    }
    for photo in &photos {
        close(&int8, &fp32, photo).await;
    }
}

#[test]
fn both_models_take_the_same_bytes() {
    let photo = tools().join("photos/coffee.png");
    assert_eq!(tensor(&manifest(), &photo), tensor(&fp32(), &photo));
}

#[tokio::test]
async fn a_batch_answers_as_its_pictures_alone() {
    let alone = Engine::load(manifest(), &Config { batch_max: 1, ..config() }).expect("the model loads");
    let patient = HumanDuration::millis(500);
    let batched = Config { sessions: 1, batch_max: 8, batch_age: patient, ..config() };
    let together = Arc::new(Engine::load(manifest(), &batched).expect("the model loads"));

    let tensors = many(together.manifest(), 8);
    let ask = |tensor: &Tensor| {
        let (engine, tensor) = (together.clone(), tensor.clone());
        tokio::spawn(async move { engine.infer(tensor).await })
    };
    let asked: Vec<_> = tensors.iter().map(ask).collect();
    for (tensor, asked) in tensors.iter().zip(asked) {
        let in_batch = asked.await.expect("no panic").expect("the batch runs");
        same(&in_batch, &alone.infer(tensor.clone()).await.expect("the model runs"));
    }
}

#[tokio::test]
async fn every_one_of_64_callers_gets_the_answer_to_its_own_picture() {
    let small_queue = Config { batch_max: 4, queue_max: 8, ..config() };
    let engine = Arc::new(Engine::load(manifest(), &small_queue).expect("the model loads"));
    let tensors = many(engine.manifest(), 64);
    let ask = |tensor: &Tensor| {
        let (engine, tensor) = (engine.clone(), tensor.clone());
        tokio::spawn(async move { timeout(PATIENCE, engine.infer(tensor)).await })
    };
    let asked: Vec<_> = tensors.iter().map(ask).collect();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.expect("no panic").expect("in time").expect("the model runs"));
    }
    for (tensor, answer) in tensors.iter().zip(&answers).step_by(9) {
        same(answer, &engine.infer(tensor.clone()).await.expect("the model runs"));
    }
}

#[tokio::test]
async fn callers_that_go_away_leave_room_for_those_who_stay() {
    let one = Config { sessions: 1, batch_max: 4, queue_max: 4, ..config() };
    let engine = Engine::load(manifest(), &one).expect("the model loads");
    let tensors = many(engine.manifest(), 12);
    for tensor in &tensors {
        // Polled once, so it is queued or waiting for a place, then dropped; answered already only if this thread slept.
        drop(timeout(Duration::ZERO, engine.infer(tensor.clone())).await);
    }
    let answer = timeout(PATIENCE, engine.infer(tensors[0].clone())).await;
    answer.expect("the queue is not wedged").expect("the model runs");
    drop(engine); // joins its threads; a wedged one would hang the test
}

#[tokio::test]
async fn an_input_of_another_shape_or_element_is_bad_input() {
    let engine = Engine::load(manifest(), &config()).expect("the model loads");
    let small = Tensor::of_bytes([2, 2, 3], vec![0; 12]).expect("twelve bytes");
    let floats = Tensor::new([224, 224, 3], vec![0.0; 224 * 224 * 3]).expect("so many values");
    for odd in [small, floats] {
        let error = engine.infer(odd).await.expect_err("the model takes the bytes of 224 x 224 pixels");
        assert_eq!(error.class(), Class::BadInput, "{error}");
    }
}

#[test]
fn a_model_file_with_another_hash_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("efficientnet-lite0-int8.onnx"), "not a model").expect("the folder is writable");
    let error = Manifest::load(&manifest_path(DEFAULT), folder.path()).expect_err("the hash differs");
    assert_eq!(error.class(), Class::Halt);
    assert!(matches!(error, InferenceError::WrongHash { .. }) && error.to_string().contains("make setup"), "{error}");

    let empty = tempfile::tempdir().expect("a temporary folder");
    let error = Manifest::load(&manifest_path(DEFAULT), empty.path()).expect_err("the file is missing");
    assert!(matches!(error, InferenceError::MissingFile { .. }) && error.to_string().contains("make setup"), "{error}");
}

/// A manifest as the real one, with one piece of text replaced.
fn changed(models: &Path, from: &str, to: &str) -> Result<Manifest, InferenceError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = fs::read_to_string(manifest_path(DEFAULT)).expect("the real manifest");
    assert!(text.contains(from), "{from:?} is in the real manifest");
    let path = folder.path().join("changed.toml");
    fs::write(&path, text.replace(from, to)).expect("the folder is writable");
    Manifest::load(&path, models)
}

#[test]
fn a_text_file_that_passes_its_hash_is_still_no_model() {
    let models = tempfile::tempdir().expect("a temporary folder");
    fs::write(models.path().join("efficientnet-lite0-int8.onnx"), "hello\n").expect("the folder is writable");
    let real = manifest().sha256;
    let of_hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    let manifest = changed(models.path(), &real, of_hello).expect("the hash fits");
    let error = Engine::load(manifest, &config()).expect_err("this is no model");
    // A GPU is suspected first.
    let refused = matches!(error, InferenceError::LoadModel { .. } | InferenceError::NoDevice { .. });
    assert!(refused && error.class() == Class::Halt, "{error}");
}

#[test]
fn a_manifest_that_does_not_describe_its_model_stops_the_start() {
    let models = tools().join("models");
    let wrong = [
        ("name = \"embedding\"", "name = \"features\""),
        ("dim = 1280", "dim = 1281"),
        ("size = 224", "size = 192"),
        ("crop = 0.875", "crop = 0.875\nnormalise = { mean = [0.0, 0.0, 0.0], std = [1.0, 1.0, 1.0] }"),
    ];
    for (from, to) in wrong {
        let manifest = changed(&models, from, to).expect("it reads well");
        let error = Engine::load(manifest, &config()).expect_err("the graph is another");
        assert_eq!(error.class(), Class::Halt, "{to}: {error:?}");
    }
    for (from, to) in [("size = 224", "size = 0"), ("crop = 0.875", "crop = 1.5"), ("licence", "license")] {
        let error = changed(&models, from, to).expect_err("it makes no sense");
        assert_eq!(error.class(), Class::Halt, "{to}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_no_silent_cpu() {
    if provider() != Provider::Cpu {
        return eprintln!("skipped: the library of this run is built for GPUs");
    }
    // The library `make setup` fetches is built without GPUs, so this holds on machines that have one, too.
    for provider in [Provider::Cuda, Provider::TensorRt] {
        let error = Engine::load(manifest(), &Config { provider, ..config() }).expect_err("no such provider");
        assert!(matches!(error, InferenceError::NoProvider { .. }) && error.class() == Class::Halt, "{error:?}");
    }
}

#[tokio::test]
async fn once_answers_as_the_engine_does() {
    let manifest = manifest();
    let onnx = fs::read(manifest.model_path()).expect("the model file");
    let mut once = Once::load("check", &onnx, &config()).expect("the model loads");
    let tensors = many(&manifest, 3);
    let rows = once.run("embedding", &tensors).expect("the model runs");
    let engine = Engine::load(manifest, &config()).expect("the model loads");
    for (tensor, row) in tensors.into_iter().zip(&rows) {
        let output = engine.infer(tensor).await.expect("the model runs");
        let apart = distance(row, &output.embedding.expect("asked for")) / norm(row);
        assert!(apart < BATCH_TOLERANCE, "relative distance {apart}");
    }
    assert!(once.run("no such output", &many(engine.manifest(), 1)).is_err());
    assert!(once.run("embedding", &[]).is_err());
}
