//! `report.json`: everything measured, and all that is needed to train the same model again.

use std::collections::BTreeMap;

use dih_learning::{Epoch, Report};
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// No clock in it: equal requests give equal reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    pub version: String,
    pub request: String,
    pub seed: u64,
    /// In the order of the probabilities, of `classes` and of the confusion matrix.
    pub labels: Vec<String>,
    /// Labels of the version with too few photos to learn from; only when no labels were chosen.
    #[serde(default)]
    pub left_out: Vec<String>,
    pub backbone: String,
    pub embedding: String,
    pub metadata: BTreeMap<String, String>,
    pub settings: Config,
    pub train_photos: u64,
    pub val_photos: u64,
    /// Photos of the chosen labels that could not take part: no vector, or one of another model.
    pub without_vector: u64,
    /// None where the version has no validation photos of these labels.
    pub val: Option<Report>,
    pub test: Report,
    pub history: Vec<Epoch>,
    /// Index into `history` of the epoch whose weights stayed.
    pub chosen_epoch: usize,
    pub temperature: f32,
    /// Test photos whose preview went through the exported file.
    pub checked_photos: u64,
    /// Largest difference of a probability between the exported file and the trainer.
    pub checked_difference: f32,
    /// SHA-256 of `model.onnx`, hex.
    pub model_sha256: String,
}
