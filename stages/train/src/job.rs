//! One training, from the manifest to the files: no store, no clock.
//!
//! Takes    the manifest's bytes, the request, the backbone. Gives a [`Draft`] with what the exported file must answer,
//!          or the reason why the request cannot be served.

use bytes::Bytes;
use dih_core::{Class, Classify, ImageId, StageError, VersionId, event::TrainingRequested};
use dih_learning::{LearningError, Report, train_head};
use dih_proto::onnx::{self, HeadSpec, OnnxError};
use ndarray::Array2;
use sha2::{Digest, Sha256};

use crate::{
    card,
    config::Config,
    picture,
    predict::Predict,
    report::TrainingReport,
    table::{self, Choice, Part, Table},
};

/// Why a request gets no model; said to whoever asked.
#[derive(Debug, PartialEq)]
pub(crate) struct Unservable(pub(crate) String);

#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error("could not fit the classifier")]
    Learn { source: LearningError },
    #[error("could not put the classifier on the backbone `{backbone}`")]
    Export { backbone: String, source: OnnxError },
    #[error("could not draw the confusion matrix")]
    Draw { source: image::ImageError },
    #[error("could not write the report")]
    Write { source: serde_json::Error },
}

impl Classify for JobError {
    fn class(&self) -> Class {
        match self {
            Self::Learn { .. } | Self::Draw { .. } | Self::Write { .. } => Class::BadInput,
            // The backbone is part of this place's configuration.
            Self::Export { .. } => Class::Halt,
        }
    }
}

/// A trained and exported model that has not been checked yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) version: VersionId,
    pub(crate) onnx: Bytes,
    pub(crate) report: TrainingReport,
    /// What the trainer says of test photos; the exported file must agree.
    pub(crate) expected: Vec<(ImageId, Vec<f32>)>,
}

/// Trains, tests and exports.
pub(crate) fn draft(
    manifest: &Bytes,
    request: &TrainingRequested,
    predict: &dyn Predict,
    config: &Config,
) -> Result<Result<Draft, Unservable>, StageError> {
    let backbone = predict.backbone()?;
    let choice = Choice {
        labels: &request.labels,
        space: &backbone.space,
        photos_max: config.photos_max.get(),
        weigh_doubts: config.weigh_doubts,
    };
    let mut table = table::read(manifest.clone(), &choice)?;
    let left_out = match request.labels.as_slice() {
        [] => table.leave_out_small(config.label_photos_min.get()),
        _chosen => Vec::new(),
    };
    if let Err(unservable) = enough(&table, config, &backbone.space.0) {
        return Ok(Err(unservable));
    }
    let learn = |source| StageError::from(JobError::Learn { source });
    let classes = table.labels.len();
    let val = Some(&table.val).filter(|part| !part.images.is_empty());
    let trained =
        train_head(classes, table.train.split(), val.map(Part::split), &config.head(request.seed)).map_err(learn)?;
    let head = &trained.head;
    let answers = head.probabilities(table.test.rows());
    let labels: Vec<String> = table.labels.iter().map(ToString::to_string).collect();
    let weights: Vec<f32> = head.weights.iter().copied().collect();
    let mut metadata = backbone.metadata.clone();
    metadata.insert("dataset".into(), request.version.to_string());
    metadata.insert("request".into(), request.request.clone());
    let spec = HeadSpec {
        embedding: &backbone.embedding,
        normalise: true,
        weights: &weights,
        bias: &head.bias.to_vec(),
        labels: &labels,
        metadata: &metadata,
    };
    let exported = onnx::with_head(&backbone.onnx, &spec);
    let onnx = exported.map_err(|source| JobError::Export { backbone: backbone.name.clone(), source })?;
    let model_sha256 = Sha256::digest(&onnx).iter().map(|byte| format!("{byte:02x}")).collect();
    let report = TrainingReport {
        version: request.version.to_string(),
        request: request.request.clone(),
        seed: request.seed,
        labels,
        left_out: left_out.iter().map(ToString::to_string).collect(),
        backbone: backbone.name,
        embedding: backbone.embedding,
        metadata,
        settings: config.clone(),
        train_photos: table.train.images.len() as u64,
        val_photos: table.val.images.len() as u64,
        without_vector: table.without_vector,
        val: val.map(|part| report_of(classes, part, &head.probabilities(part.rows()))),
        test: report_of(classes, &table.test, &answers),
        history: trained.history,
        chosen_epoch: trained.chosen,
        temperature: head.temperature,
        checked_photos: 0,
        checked_difference: 0.0,
        model_sha256,
    };
    let expected = spread(&table.test.images, &answers, config.checked_max.get());
    Ok(Ok(Draft { version: request.version.clone(), onnx: onnx.into(), report, expected }))
}

fn enough(table: &Table, config: &Config, space: &str) -> Result<(), Unservable> {
    let least = config.label_photos_min.get();
    let lacking = match table.without_vector {
        0 => String::new(),
        n => format!("; {n} photos have no vector of the model `{space}`"),
    };
    if table.labels.len() < 2 {
        let found = table.labels.len();
        return Err(Unservable(format!(
            "{found} label(s) to tell apart with {least} photos each to learn from; a classifier needs at least two{lacking}"
        )));
    }
    let few = table.labels.iter().zip(table.to_learn()).filter(|(_, photos)| *photos < least);
    let few: Vec<String> = few.map(|(label, photos)| format!("`{label}` has {photos}")).collect();
    if !few.is_empty() {
        let some = few.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        return Err(Unservable(format!("every label needs {least} photos to learn from, but {some}{lacking}")));
    }
    match table.test.images.is_empty() {
        true => Err(Unservable("no photo of these labels is in the test split; cut a larger version".into())),
        false => Ok(()),
    }
}

fn report_of(classes: usize, part: &Part, answers: &Array2<f32>) -> Report {
    let rows = answers.rows().into_iter().map(|row| row.to_vec()).collect::<Vec<_>>();
    Report::of(classes, part.classes.iter().copied().zip(rows.iter().map(Vec::as_slice)))
}

/// At most `most` of the answers, evenly spread.
fn spread(images: &[ImageId], answers: &Array2<f32>, most: usize) -> Vec<(ImageId, Vec<f32>)> {
    let step = images.len().div_ceil(most).max(1);
    (0..images.len()).step_by(step).map(|i| (images[i], answers.row(i).to_vec())).collect()
}

/// Largest difference of any two probabilities; infinite where the shapes differ, NaN where a number is none.
pub(crate) fn difference<'a>(expected: impl ExactSizeIterator<Item = &'a Vec<f32>>, found: &[Vec<f32>]) -> f32 {
    if expected.len() != found.len() {
        return f32::INFINITY;
    }
    let mut worst = 0.0_f32;
    for (expected, found) in expected.zip(found) {
        if expected.len() != found.len() {
            return f32::INFINITY;
        }
        for (a, b) in expected.iter().zip(found) {
            let gap = (a - b).abs();
            if gap.is_nan() {
                return f32::NAN;
            }
            worst = worst.max(gap);
        }
    }
    worst
}

/// What lies beside the model.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) report: Bytes,
    pub(crate) confusion: Bytes,
    pub(crate) card: Bytes,
}

pub(crate) fn files(report: &TrainingReport) -> Result<Files, StageError> {
    let confusion = picture::confusion_png(&report.labels, &report.test.confusion);
    let json = serde_json::to_vec_pretty(report).map_err(|source| JobError::Write { source })?;
    Ok(Files {
        report: json.into(),
        confusion: confusion.map_err(|source| JobError::Draw { source })?.into(),
        card: card::card(report).into(),
    })
}
