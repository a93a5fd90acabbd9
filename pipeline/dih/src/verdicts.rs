//! What became of an upload, as one line for scripts and people. Pure.

use dih_core::{
    DeviceId, UploadSeq,
    image::Measures,
    verdict::{Answer, Status},
};
use serde::Serialize;

use crate::simulate::truth::joined;

/// One upload: its present status, and the first answer it got.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub upload: UploadSeq,
    /// What the uploader calls it.
    pub source: Option<String>,
    pub image: Option<String>,
    /// Who sent it.
    pub device: Option<DeviceId>,
    /// Present status: that of the revision of the highest epoch, else the first answer.
    pub verdict: Status,
    pub stage: &'static str,
    /// Code of the reason, from a small closed set.
    pub reason: String,
    /// The `source` of the photo it repeats.
    pub of_source: Option<String>,
    /// Number of the upload it repeats.
    pub of_upload: Option<UploadSeq>,
    /// Labels as they were given, joined by `;`.
    pub label: String,
    /// Probability that the label fits, 0 to 1: by the latest version that judged it, else by the classifier.
    pub label_score: Option<f32>,
    pub quality: Option<Measures>,
    pub first_verdict: Status,
}

impl Line {
    /// `judged` is what the latest data-set version thinks of the label.
    pub fn of(first: &Answer, latest: Option<&Answer>, judged: Option<f32>) -> Self {
        let present = latest.filter(|latest| latest.epoch >= first.epoch).unwrap_or(first);
        Self {
            upload: first.upload,
            source: present.source.clone().or_else(|| first.source.clone()),
            image: present.image.or(first.image).map(|image| image.to_string()),
            device: first.device.clone(),
            verdict: present.status,
            stage: present.stage.as_str(),
            reason: present.reason.clone(),
            of_source: present.repeat.as_ref().and_then(|repeat| repeat.of_source.clone()),
            of_upload: present.repeat.as_ref().map(|repeat| repeat.of_upload),
            label: joined(if present.labels.is_empty() { &first.labels } else { &present.labels }),
            label_score: judged.or(present.label_score).or(first.label_score),
            quality: present.measures.or(first.measures),
            first_verdict: first.status,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use dih_core::{Epoch, Label, Millis, StageName};

    use super::*;

    pub(crate) fn answer(upload: u64, epoch: u32, status: Status) -> Answer {
        Answer {
            upload: UploadSeq(upload),
            epoch: Epoch(epoch),
            image: None,
            status,
            stage: StageName::Verify,
            reason: "too_dark".into(),
            detail: None,
            repeat: None,
            device: None,
            labels: vec![Label::new("cat").expect("valid"), Label::new("dog").expect("valid")],
            label_score: Some(0.5),
            source: Some("a.jpg".into()),
            measures: None,
            lineage: Vec::new(),
            at: Millis(0),
        }
    }

    #[test]
    fn the_present_status_is_the_latest_and_the_first_is_kept() {
        let first = answer(7, 0, Status::Duplicate);
        let line = Line::of(&first, Some(&answer(7, 2, Status::Curated)), None);
        assert_eq!((line.verdict, line.first_verdict), (Status::Curated, Status::Duplicate));
        assert_eq!(Line::of(&first, None, None).verdict, Status::Duplicate);
    }

    #[test]
    fn a_version_knows_more_of_a_label_than_the_classifier() {
        let first = answer(7, 0, Status::Curated);
        assert_eq!(Line::of(&first, None, Some(0.9)).label_score, Some(0.9));
        assert_eq!(Line::of(&first, None, None).label_score, Some(0.5));
    }

    #[test]
    fn scripts_find_the_fields_they_rely_on() {
        let line = serde_json::to_value(Line::of(&answer(7, 0, Status::Rejected), None, None)).expect("is JSON");
        for field in [
            "upload",
            "source",
            "image",
            "device",
            "verdict",
            "stage",
            "reason",
            "of_source",
            "label",
            "label_score",
            "quality",
            "first_verdict",
        ] {
            assert!(line.get(field).is_some(), "{field}");
        }
        assert_eq!(
            (&line["verdict"], &line["label"], &line["stage"]),
            (&"rejected".into(), &"cat;dog".into(), &"verify".into())
        );
    }
}
