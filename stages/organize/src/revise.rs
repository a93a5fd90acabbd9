//! What a published version changes in the status of photos: held, or curated again.
//!
//! Takes  the list that the version itself keeps (`revisions.json`), so a second delivery finds the same list whatever
//!        has been changed already. Gives one revision an image.
//! Crash  safe at any line: each change names the epoch it leads to; a record that has it already is not changed, one
//!        that has gone further was decided anew by somebody else and is left alone.

use dih_core::{
    Epoch, ImageId, Label, Millis, Notice, StageName,
    ports::{Index, StoreError},
    record::{Change, Record, State},
    verdict::{Answer, Decision, Status},
};
use serde::{Deserialize, Serialize};

use crate::{REASON_CLEARED, REASON_CURATED, REASON_DOUBTED};

/// One change of status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) image: ImageId,
    pub(crate) to: State,
    /// The epoch that the change leads to.
    pub(crate) epoch: Epoch,
    /// Probability that the label is wrong, and the one from which a photo is held.
    pub(crate) p_label_wrong: Option<f32>,
    pub(crate) threshold: f32,
    pub(crate) suggested: Option<Label>,
    /// What each witness says.
    #[serde(default)]
    pub(crate) evidence: String,
    /// What judged: the vector space.
    pub(crate) model: String,
}

impl Revision {
    fn reason(&self) -> &'static str {
        match self.to {
            State::Held => REASON_DOUBTED,
            _ => REASON_CLEARED,
        }
    }

    /// What the epoch before was answered with.
    fn ended(&self) -> (Status, &'static str) {
        match self.to {
            State::Held => (Status::Curated, REASON_CURATED),
            _ => (Status::Held, REASON_DOUBTED),
        }
    }

    fn decision(&self) -> Decision {
        let decision = Decision::new(StageName::Organize, self.reason()).by(&self.model);
        let decision = match self.p_label_wrong {
            Some(p) => decision.scored(p, self.threshold),
            None => decision,
        };
        match &self.suggested {
            Some(label) if self.to == State::Held => {
                let odds = if self.evidence.is_empty() { "" } else { ", for it in logarithms of odds: " };
                decision.because(format!("it is rather `{label}`{odds}{}", self.evidence))
            }
            Some(label) => decision.because(format!("`{label}` would be the next best")),
            None => decision,
        }
    }
}

/// Changes the records and names the revisions to publish.
pub(crate) async fn apply(index: &dyn Index, revisions: &[Revision]) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::with_capacity(revisions.len());
    for revision in revisions {
        let Some(record) = index.get(revision.image).await? else { continue };
        if record.epoch < revision.epoch && matches!(record.state, State::Curated | State::Held) {
            let mut image = record.image.clone();
            image.epoch = revision.epoch;
            image.lineage.push(revision.decision());
            let change = Change {
                epoch: Some(revision.epoch),
                reason: Some(revision.reason().into()),
                prior: Some(revision.ended().0),
                image: Some(image),
                ..Change::to(revision.to)
            };
            index.change_from(revision.image, &[State::Curated, State::Held], &change).await?;
        }
        // Of two that change a record at once, only the one whose change stands may speak.
        let Some(record) = index.get(revision.image).await? else { continue };
        if record.epoch == revision.epoch && record.state == revision.to {
            // Whoever ends an epoch publishes its answer: the first one may not have been heard.
            let (ended, reason) = revision.ended();
            let ended = Answer::about(&record.image, ended, StageName::Organize, reason);
            notices.push(Notice::Answer(Box::new(ended.in_epoch(revision.epoch.previous()))));
            notices.push(Notice::Answer(Box::new(answer(record, revision))));
        }
    }
    Ok(notices)
}

fn answer(record: Record, revision: &Revision) -> Answer {
    let image = record.image;
    let detail = revision.decision().detail;
    Answer {
        upload: image.upload,
        epoch: revision.epoch,
        image: Some(image.id),
        status: if revision.to == State::Held { Status::Held } else { Status::Curated },
        stage: StageName::Organize,
        reason: revision.reason().into(),
        detail,
        repeat: None,
        device: Some(image.device),
        labels: image.labels,
        label_score: record.label_score,
        source: image.source,
        measures: Some(image.measures),
        lineage: image.lineage,
        at: Millis::now(),
    }
}
