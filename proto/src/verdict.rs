//! The answer to an upload, and the decisions that led to it.

use dih_core::{
    Epoch, StageName,
    calibration::Calibrated,
    image::Measures,
    repeat::{Evidence, FoundBy, Repeat},
    verdict::{Answer, Decision, Status},
};

use crate::{
    field::{
        Fault, Within, finite, from_one, id_bytes, image_id, invalid, labels, millis, missing, name, need,
        need_image_id, optional, ranged, share, text, upload,
    },
    generated::{self as wire, repeat::FoundBy as WireFoundBy},
    wire::Convert,
};

fn stage_to_wire(stage: StageName) -> wire::Stage {
    match stage {
        StageName::Ingest => wire::Stage::Ingest,
        StageName::Dedupe => wire::Stage::Dedupe,
        StageName::Verify => wire::Stage::Verify,
        StageName::Embed => wire::Stage::Embed,
        StageName::Cluster => wire::Stage::Cluster,
        StageName::Organize => wire::Stage::Organize,
        StageName::Train => wire::Stage::Train,
    }
}

fn stage(stage: wire::Stage) -> Result<StageName, Fault> {
    match stage {
        wire::Stage::Unspecified => Err(missing("stage")),
        wire::Stage::Ingest => Ok(StageName::Ingest),
        wire::Stage::Dedupe => Ok(StageName::Dedupe),
        wire::Stage::Verify => Ok(StageName::Verify),
        wire::Stage::Embed => Ok(StageName::Embed),
        wire::Stage::Cluster => Ok(StageName::Cluster),
        wire::Stage::Organize => Ok(StageName::Organize),
        wire::Stage::Train => Ok(StageName::Train),
    }
}

fn status_to_wire(status: Status) -> wire::Status {
    match status {
        Status::Curated => wire::Status::Curated,
        Status::Duplicate => wire::Status::Duplicate,
        Status::Rejected => wire::Status::Rejected,
        Status::Held => wire::Status::Held,
        Status::Dead => wire::Status::Dead,
    }
}

fn status(status: wire::Status) -> Result<Status, Fault> {
    match status {
        wire::Status::Unspecified => Err(missing("status")),
        wire::Status::Curated => Ok(Status::Curated),
        wire::Status::Duplicate => Ok(Status::Duplicate),
        wire::Status::Rejected => Ok(Status::Rejected),
        wire::Status::Held => Ok(Status::Held),
        wire::Status::Dead => Ok(Status::Dead),
    }
}

impl Convert for Decision {
    type Wire = wire::Decision;

    fn to_wire(&self) -> wire::Decision {
        wire::Decision {
            stage: stage_to_wire(self.stage).into(),
            what: self.what.clone(),
            score: self.score,
            threshold: self.threshold,
            model: self.model.clone(),
            detail: self.detail.clone(),
            at_ms: Some(self.at.0),
            calibrated: self.calibrated.as_ref().map(Convert::to_wire),
        }
    }

    fn from_wire(wire: wire::Decision) -> Result<Self, Fault> {
        Ok(Self {
            stage: stage(wire.stage())?,
            what: text(wire.what, "what")?,
            score: optional(wire.score, |v| finite(v, "score"))?,
            threshold: optional(wire.threshold, |v| finite(v, "threshold"))?,
            model: wire.model,
            detail: wire.detail,
            at: millis(wire.at_ms, "at_ms")?,
            calibrated: optional(wire.calibrated, Calibrated::from_wire).within("calibrated")?,
        })
    }
}

impl Convert for Calibrated {
    type Wire = wire::Calibrated;

    fn to_wire(&self) -> wire::Calibrated {
        wire::Calibrated {
            id: self.id.clone(),
            precision: Some(self.precision),
            recall: Some(self.recall),
            samples: Some(self.samples),
        }
    }

    fn from_wire(wire: wire::Calibrated) -> Result<Self, Fault> {
        Ok(Self {
            id: text(wire.id, "id")?,
            precision: ranged(wire.precision, 0.0..=1.0, "precision")?,
            recall: ranged(wire.recall, 0.0..=1.0, "recall")?,
            samples: from_one(wire.samples, "samples")?,
        })
    }
}

pub(crate) fn lineage(decisions: Vec<wire::Decision>) -> Result<Vec<Decision>, Fault> {
    decisions.into_iter().map(Decision::from_wire).collect::<Result<_, _>>().within("lineage")
}

impl Convert for Evidence {
    type Wire = wire::Evidence;

    fn to_wire(&self) -> wire::Evidence {
        wire::Evidence {
            transform: self.transform.to_vec(),
            mirrored: self.mirrored,
            inliers: self.inliers,
            matched: self.matched,
            overlap: Some(self.overlap),
            correlation: Some(self.correlation),
            colour: Some(self.colour),
        }
    }

    fn from_wire(wire: wire::Evidence) -> Result<Self, Fault> {
        let found = wire.transform.len();
        let transform = <[f32; 6]>::try_from(wire.transform.as_slice());
        let transform = transform.map_err(|_| invalid("transform", format!("has {found} entries, not 6")))?;
        transform.iter().try_for_each(|v| finite(*v, "transform").map(drop))?;
        Ok(Self {
            transform,
            mirrored: wire.mirrored,
            inliers: wire.inliers,
            matched: wire.matched,
            overlap: ranged(wire.overlap, 0.0..=1.0, "overlap")?,
            correlation: ranged(wire.correlation, -1.0..=1.0, "correlation")?,
            colour: ranged(wire.colour, 0.0..=255.0, "colour")?,
        })
    }
}

impl Convert for Repeat {
    type Wire = wire::Repeat;

    fn to_wire(&self) -> wire::Repeat {
        wire::Repeat {
            of: Some(id_bytes(self.of)),
            of_upload: Some(self.of_upload.0),
            of_source: self.of_source.clone(),
            found_by: Some(match self.found_by {
                FoundBy::Content => WireFoundBy::Content(wire::repeat::ByContent {}),
                FoundBy::Fingerprint { distance, orientation } => {
                    WireFoundBy::Fingerprint(wire::repeat::ByFingerprint { distance, orientation: orientation.into() })
                }
                FoundBy::Vector { cosine } => WireFoundBy::Vector(wire::repeat::ByVector { cosine: Some(cosine) }),
            }),
            evidence: self.evidence.as_ref().map(Convert::to_wire),
        }
    }

    fn from_wire(wire: wire::Repeat) -> Result<Self, Fault> {
        Ok(Self {
            of: need_image_id(wire.of, "of")?,
            of_upload: upload(wire.of_upload, "of_upload")?,
            of_source: wire.of_source,
            found_by: found_by(need(wire.found_by, "found_by")?)?,
            evidence: optional(wire.evidence, |e| Evidence::from_wire(e).within("evidence"))?,
        })
    }
}

fn found_by(wire: WireFoundBy) -> Result<FoundBy, Fault> {
    match wire {
        WireFoundBy::Content(_) => Ok(FoundBy::Content),
        WireFoundBy::Fingerprint(near) if near.distance > 64 => {
            Err(invalid("fingerprint.distance", format!("is {}, outside 0 to 64", near.distance)))
        }
        WireFoundBy::Fingerprint(near) => match u8::try_from(near.orientation) {
            Ok(orientation @ 0..8) => Ok(FoundBy::Fingerprint { distance: near.distance, orientation }),
            _ => Err(invalid("fingerprint.orientation", format!("is {}, outside 0 to 7", near.orientation))),
        },
        // A cosine computed in 32 bits may pass 1 by a rounding error.
        WireFoundBy::Vector(near) => {
            Ok(FoundBy::Vector { cosine: ranged(near.cosine, -1.001..=1.001, "vector.cosine")? })
        }
    }
}

impl Convert for Answer {
    type Wire = wire::Answer;

    fn to_wire(&self) -> wire::Answer {
        wire::Answer {
            upload: Some(self.upload.0),
            epoch: self.epoch.0,
            image: self.image.map(id_bytes),
            status: status_to_wire(self.status).into(),
            stage: stage_to_wire(self.stage).into(),
            reason: self.reason.clone(),
            detail: self.detail.clone(),
            repeat: self.repeat.as_ref().map(Convert::to_wire),
            device: self.device.as_ref().map(ToString::to_string),
            labels: self.labels.iter().map(ToString::to_string).collect(),
            label_score: self.label_score,
            source: self.source.clone(),
            measures: self.measures.as_ref().map(Convert::to_wire),
            lineage: self.lineage.iter().map(Convert::to_wire).collect(),
            at_ms: Some(self.at.0),
        }
    }

    fn from_wire(wire: wire::Answer) -> Result<Self, Fault> {
        Ok(Self {
            upload: upload(wire.upload, "upload")?,
            epoch: Epoch(wire.epoch),
            status: status(wire.status())?,
            stage: stage(wire.stage())?,
            image: optional(wire.image, |id| image_id(&id, "image"))?,
            reason: text(wire.reason, "reason")?,
            detail: wire.detail,
            repeat: optional(wire.repeat, |r| Repeat::from_wire(r).within("repeat"))?,
            device: optional(wire.device, |d| name(&d, "device"))?,
            labels: labels(wire.labels, "labels")?,
            label_score: share(wire.label_score, "label_score")?,
            source: wire.source,
            measures: optional(wire.measures, |m| Measures::from_wire(m).within("measures"))?,
            lineage: lineage(wire.lineage)?,
            at: millis(wire.at_ms, "at_ms")?,
        })
    }
}
