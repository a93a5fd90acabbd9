//! Requests for data-set versions and models, and what became of them.

use dih_core::{
    VersionId,
    event::{CutRequested, DatasetPublished, JobFailed, TrainingCompleted, TrainingRequested},
};

use crate::{
    field::{Fault, Within, from_one, invalid, label_counts, labels, millis, missing, name, need, ranged, text},
    generated as wire,
    wire::Convert,
};

fn version_to_wire(version: &VersionId) -> Option<wire::Version> {
    Some(wire::Version { dataset: version.dataset.to_string(), version: Some(version.version) })
}

fn version(wire: Option<wire::Version>) -> Result<VersionId, Fault> {
    let wire = need(wire, "version")?;
    let read =
        || Ok(VersionId { dataset: name(&wire.dataset, "dataset")?, version: from_one(wire.version, "version")? });
    read().within("version")
}

fn sha256_hex(value: String, field: &str) -> Result<String, Fault> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    match value.len() {
        0 => Err(missing(field)),
        64 if value.bytes().all(hex) => Ok(value),
        _ => Err(invalid(field, "is not 64 lower-case hex digits")),
    }
}

impl Convert for CutRequested {
    type Wire = wire::CutRequested;

    fn to_wire(&self) -> wire::CutRequested {
        wire::CutRequested { dataset: self.dataset.to_string(), request: self.request.clone() }
    }

    fn from_wire(wire: wire::CutRequested) -> Result<Self, Fault> {
        Ok(Self { dataset: name(&wire.dataset, "dataset")?, request: text(wire.request, "request")? })
    }
}

impl Convert for DatasetPublished {
    type Wire = wire::DatasetPublished;

    fn to_wire(&self) -> wire::DatasetPublished {
        wire::DatasetPublished {
            version: version_to_wire(&self.version),
            request: self.request.clone(),
            members: Some(self.members),
            held: Some(self.held),
            labels: self.labels.iter().map(|(label, n)| (label.to_string(), *n)).collect(),
            manifest_sha256: self.manifest_sha256.clone(),
            at_ms: Some(self.at.0),
        }
    }

    fn from_wire(wire: wire::DatasetPublished) -> Result<Self, Fault> {
        Ok(Self {
            version: version(wire.version)?,
            request: text(wire.request, "request")?,
            members: need(wire.members, "members")?,
            held: need(wire.held, "held")?,
            labels: label_counts(wire.labels, "labels")?,
            manifest_sha256: sha256_hex(wire.manifest_sha256, "manifest_sha256")?,
            at: millis(wire.at_ms, "at_ms")?,
        })
    }
}

impl Convert for TrainingRequested {
    type Wire = wire::TrainingRequested;

    fn to_wire(&self) -> wire::TrainingRequested {
        wire::TrainingRequested {
            version: version_to_wire(&self.version),
            labels: self.labels.iter().map(ToString::to_string).collect(),
            request: self.request.clone(),
            seed: self.seed,
        }
    }

    fn from_wire(wire: wire::TrainingRequested) -> Result<Self, Fault> {
        Ok(Self {
            version: version(wire.version)?,
            labels: labels(wire.labels, "labels")?,
            request: text(wire.request, "request")?,
            seed: wire.seed,
        })
    }
}

impl Convert for TrainingCompleted {
    type Wire = wire::TrainingCompleted;

    fn to_wire(&self) -> wire::TrainingCompleted {
        wire::TrainingCompleted {
            version: version_to_wire(&self.version),
            request: self.request.clone(),
            model: self.model.to_string(),
            report: self.report.to_string(),
            accuracy: Some(self.accuracy),
            test_photos: Some(self.test_photos),
            train_photos: Some(self.train_photos),
            at_ms: Some(self.at.0),
        }
    }

    fn from_wire(wire: wire::TrainingCompleted) -> Result<Self, Fault> {
        Ok(Self {
            version: version(wire.version)?,
            request: text(wire.request, "request")?,
            model: name(&wire.model, "model")?,
            report: name(&wire.report, "report")?,
            accuracy: ranged(wire.accuracy, 0.0..=1.0, "accuracy")?,
            test_photos: need(wire.test_photos, "test_photos")?,
            train_photos: need(wire.train_photos, "train_photos")?,
            at: millis(wire.at_ms, "at_ms")?,
        })
    }
}

impl Convert for JobFailed {
    type Wire = wire::JobFailed;

    fn to_wire(&self) -> wire::JobFailed {
        wire::JobFailed { request: self.request.clone(), reason: self.reason.clone(), at_ms: Some(self.at.0) }
    }

    fn from_wire(wire: wire::JobFailed) -> Result<Self, Fault> {
        Ok(Self {
            request: text(wire.request, "request")?,
            reason: text(wire.reason, "reason")?,
            at: millis(wire.at_ms, "at_ms")?,
        })
    }
}
