//! The answer to an upload, and the decisions that led to it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    DeviceId, Epoch, ImageId, Label, Millis, StageName, UploadSeq,
    calibration::Calibrated,
    event::Image,
    image::Measures,
    repeat::{FoundBy, Repeat},
};

/// What became of an upload. Every upload ends in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Good, and on offer to every data set.
    Curated,
    /// Shows what an earlier upload shows.
    Duplicate,
    /// Breaks a rule.
    Rejected,
    /// Doubtful: waits for a person.
    Held,
    /// Could not be processed; the original bytes are in the dead letters.
    Dead,
}

impl Status {
    pub const ALL: [Status; 5] = [Self::Curated, Self::Duplicate, Self::Rejected, Self::Held, Self::Dead];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Curated => "curated",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Held => "held",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|v| v.as_str() == s);
        found.ok_or_else(|| format!("unknown verdict {s:?}"))
    }
}

/// One thing a stage found out about a photo, with the number it went by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub stage: StageName,
    /// A code from a small closed set: `stored`, `first`, `repeat`, `too_dark`, `label_plausible`, …
    pub what: String,
    pub score: Option<f32>,
    pub threshold: Option<f32>,
    /// Name of the model that gave the score.
    pub model: Option<String>,
    /// For people.
    pub detail: Option<String>,
    pub at: Millis,
    /// How often the threshold errs, where that was measured.
    #[serde(default)]
    pub calibrated: Option<Calibrated>,
}

impl Decision {
    pub fn new(stage: StageName, what: impl Into<String>) -> Self {
        let at = Millis::now();
        Self { stage, what: what.into(), score: None, threshold: None, model: None, detail: None, at, calibrated: None }
    }

    pub fn scored(mut self, score: f32, threshold: f32) -> Self {
        self.score = Some(score);
        self.threshold = Some(threshold);
        self
    }

    pub fn calibrated(mut self, by: Option<Calibrated>) -> Self {
        self.calibrated = by;
        self
    }

    pub fn by(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// The answer to one upload: a verdict (epoch 0), or a revision of it (later epochs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub upload: UploadSeq,
    pub epoch: Epoch,
    /// None when the bytes never became a picture.
    pub image: Option<ImageId>,
    pub status: Status,
    pub stage: StageName,
    /// A code from a small closed set, for scripts: `curated`, `repeat`, `truncated`, `too_dark`, …
    pub reason: String,
    /// For people.
    pub detail: Option<String>,
    pub repeat: Option<Repeat>,
    pub device: Option<DeviceId>,
    pub labels: Vec<Label>,
    /// Probability that the label fits the picture, 0 to 1, where a witness could tell.
    pub label_score: Option<f32>,
    /// What the uploader called it: a path, a URL.
    pub source: Option<String>,
    pub measures: Option<Measures>,
    /// Every decision about the photo up to here, in order.
    pub lineage: Vec<Decision>,
    pub at: Millis,
}

impl Answer {
    /// An answer about a picture, in its own epoch.
    pub fn about(image: &Image, status: Status, stage: StageName, reason: impl Into<String>) -> Self {
        Self {
            upload: image.upload,
            epoch: image.epoch,
            image: Some(image.id),
            status,
            stage,
            reason: reason.into(),
            detail: None,
            repeat: None,
            device: Some(image.device.clone()),
            labels: image.labels.clone(),
            label_score: None,
            source: image.source.clone(),
            measures: Some(image.measures),
            lineage: image.lineage.clone(),
            at: Millis::now(),
        }
    }

    /// The picture repeats an earlier one.
    pub fn repeats(image: &Image, stage: StageName, repeat: Repeat) -> Self {
        let reason = match repeat.found_by {
            FoundBy::Content => "same_content",
            FoundBy::Fingerprint { .. } | FoundBy::Vector { .. } => "same_shot",
        };
        Self { repeat: Some(repeat), ..Self::about(image, Status::Duplicate, stage, reason) }
    }

    pub fn scored(mut self, label_score: Option<f32>) -> Self {
        self.label_score = label_score;
        self
    }

    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same answer, given for another epoch of the same image.
    pub fn in_epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self
    }
}
