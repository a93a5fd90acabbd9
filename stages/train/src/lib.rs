//! Train: a classifier head on the vectors of a data-set version, exported with its backbone as one ONNX file.
//!
//! Takes    `TrainingRequested`. Gives `TrainingCompleted`, or `JobFailed` where the request cannot be served.
//! Keeps    `models/<dataset>/<version>/<request>/{model.onnx,report.json,confusion.png,README.md}`.
//! Crash    safe at any line: equal requests give equal files, so a second delivery writes the same again.
//! Weak at  versions that do not fit in memory: beyond `train.photos_max` photos an even part of them is used.

mod card;
mod config;
mod job;
mod picture;
mod predict;
mod report;
mod table;

use std::sync::Arc;

use dih_core::{
    BlobKey, Delivery, Millis, Notice, Outcome, Stage, StageError,
    event::{JobFailed, TrainingCompleted, TrainingRequested},
    ports::{Blobs, StoreError},
    work::Bench,
};
use dih_imaging::Preview;
use dih_inference::Tensor;
use dih_previews::Previews;

pub use config::Config;
pub use predict::{Backbone, Classifier, OnnxPredict, Predict};
pub use report::TrainingReport;

use job::{Draft, Unservable};

/// The stage. See the crate.
#[derive(Debug)]
pub struct Train {
    config: Arc<Config>,
    blobs: Arc<dyn Blobs>,
    previews: Arc<Previews>,
    predict: Arc<dyn Predict>,
    bench: Bench,
}

impl Train {
    pub fn new(
        config: Config,
        blobs: Arc<dyn Blobs>,
        previews: Arc<Previews>,
        predict: Arc<dyn Predict>,
        bench: Bench,
    ) -> Self {
        Self { config: Arc::new(config), blobs, previews, predict, bench }
    }
}

impl Stage for Train {
    const CONSUMER: &'static str = "train";
    type Input = TrainingRequested;

    async fn process(&self, delivery: Delivery<TrainingRequested>) -> Result<Outcome, StageError> {
        let request = delivery.input;
        let name = request.request.clone();
        match self.serve(request).await? {
            Ok(done) => Ok(Outcome::emit(Notice::Trained(done))),
            Err(Unservable(reason)) => {
                tracing::info!(request = name, reason, "cannot serve a training request");
                Ok(Outcome::emit(Notice::JobFailed(JobFailed { request: name, reason, at: Millis::now() })))
            }
        }
    }
}

/// Inputs prepared and run at a time while the export is checked.
const CHECKED_AT_ONCE: usize = 8;

impl Train {
    async fn serve(&self, request: TrainingRequested) -> Result<Result<TrainingCompleted, Unservable>, StageError> {
        let Some(keys) = Keys::of(&request) else {
            return Ok(Err(Unservable("the name of the request may hold letters, digits and `.-_=` only".into())));
        };
        let manifest = match self.blobs.get(&keys.manifest).await {
            Ok(manifest) => manifest,
            Err(StoreError::NotFound { .. }) => {
                return Ok(Err(Unservable(format!("there is no version {}", request.version))));
            }
            Err(error) => return Err(error.into()),
        };
        let (predict, config) = (self.predict.clone(), self.config.clone());
        let drafted = self.bench.run(move || job::draft(&manifest, &request, &*predict, &config)).await??;
        let draft = match drafted {
            Ok(draft) => draft,
            Err(unservable) => return Ok(Err(unservable)),
        };
        let (draft, difference) = match self.check(draft).await? {
            Ok(checked) => checked,
            Err(unservable) => return Ok(Err(unservable)),
        };
        if difference > self.config.tolerance || difference.is_nan() {
            let allowed = self.config.tolerance;
            return Ok(Err(Unservable(format!(
                "the exported model differs from the trainer by {difference} in a probability, {allowed} is allowed; \
                 check that the configured model is the one that made the vectors (`train.tolerance` is the limit)"
            ))));
        }
        self.publish(draft, difference, &keys).await.map(Ok)
    }

    /// Opens the exported file and compares it with the trainer on the previews of test photos.
    async fn check(&self, draft: Draft) -> Result<Result<(Draft, f32), Unservable>, StageError> {
        let (predict, onnx) = (self.predict.clone(), draft.onnx.clone());
        let mut classifier = self.bench.run(move || predict.load(&onnx)).await??;
        let (mut worst, mut checked) = (0.0_f32, 0);
        for expected in draft.expected.chunks(CHECKED_AT_ONCE) {
            let mut previews: Vec<(Arc<Preview>, Vec<f32>)> = Vec::new();
            for (image, probabilities) in expected {
                // One that is gone was taken down since the version was cut.
                if let Some(preview) = self.previews.find(*image).await? {
                    previews.push((preview, probabilities.clone()));
                }
            }
            if previews.is_empty() {
                continue;
            }
            checked += previews.len();
            let predict = self.predict.clone();
            let compared = self.bench.run(move || {
                let inputs = previews.iter().map(|(preview, _)| predict.prepare(preview));
                let inputs: Vec<Tensor> = inputs.collect::<Result<_, StageError>>()?;
                let answers = classifier.probabilities(&inputs)?;
                let expected = previews.iter().map(|(_, probabilities)| probabilities);
                Ok::<_, StageError>((job::difference(expected, &answers), classifier))
            });
            let (difference, opened) = compared.await??;
            classifier = opened;
            worst = if difference.is_nan() { f32::NAN } else { worst.max(difference) };
        }
        if checked == 0 {
            return Ok(Err(Unservable("no preview of a test photo is left to check the exported model on".into())));
        }
        let mut draft = draft;
        draft.report.checked_photos = checked as u64;
        Ok(Ok((draft, worst)))
    }

    async fn publish(&self, draft: Draft, difference: f32, keys: &Keys) -> Result<TrainingCompleted, StageError> {
        let Draft { version, onnx, mut report, .. } = draft;
        report.checked_difference = difference;
        let (files, report) = self.bench.run(move || (job::files(&report), report)).await?;
        let files = files?;
        self.blobs.put(&keys.model, onnx).await?;
        self.blobs.put(&keys.confusion, files.confusion).await?;
        self.blobs.put(&keys.card, files.card).await?;
        // Last, so that whoever finds a report finds all that it speaks of.
        self.blobs.put(&keys.report, files.report).await?;
        tracing::info!(request = report.request, accuracy = report.test.accuracy, "trained a model");
        Ok(TrainingCompleted {
            version,
            request: report.request,
            model: keys.model.clone(),
            report: keys.report.clone(),
            accuracy: report.test.accuracy,
            test_photos: report.test.photos,
            train_photos: report.train_photos,
            at: Millis::now(),
        })
    }
}

/// Where everything of one request lies.
struct Keys {
    manifest: BlobKey,
    model: BlobKey,
    report: BlobKey,
    confusion: BlobKey,
    card: BlobKey,
}

impl Keys {
    /// None when the request's name cannot be part of a key.
    fn of(request: &TrainingRequested) -> Option<Self> {
        let version = &request.version;
        if request.request.contains('/') {
            return None;
        }
        let file =
            |name| BlobKey::new(format!("models/{}/{}/{}/{name}", version.dataset, version.version, request.request));
        Some(Self {
            manifest: BlobKey::in_version(version, "manifest.parquet").ok()?,
            model: file("model.onnx").ok()?,
            report: file("report.json").ok()?,
            confusion: file("confusion.png").ok()?,
            card: file("README.md").ok()?,
        })
    }
}

#[cfg(test)]
mod tests;
