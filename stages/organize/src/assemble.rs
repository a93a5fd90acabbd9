//! Turns a planned member into the row and the sample that are published of it.

use dih_core::{BlobKey, Label, StageError, event::VectorSpace, ports::Index, record::Record};
use dih_learning::Reason;

use crate::{
    REASON_DOUBTED,
    gather::{GatherError, Gathered, Member},
    manifest::{Doubt, Row},
    plan::Placed,
    second_look::Looked,
    shards::Sample,
};

/// Everything that is known of the members of one version.
#[derive(Debug)]
pub(crate) struct Assembler<'a> {
    pub(crate) index: &'a dyn Index,
    pub(crate) gathered: &'a Gathered,
    pub(crate) looked: &'a Looked,
    /// Outlier scores of the members.
    pub(crate) outliers: &'a [Option<f32>],
    pub(crate) space: &'a VectorSpace,
}

/// A member with its own record and the one of the copy that is published.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) own: Record,
    kept: Option<Record>,
}

impl Known {
    fn published(&self) -> &Record {
        self.kept.as_ref().unwrap_or(&self.own)
    }
}

impl Assembler<'_> {
    pub(crate) fn member(&self, placed: &Placed) -> &Member {
        &self.gathered.members[placed.member as usize]
    }

    fn labels(&self, member: &Member) -> Vec<Label> {
        member.labels.iter().map(|class| self.gathered.classes[*class as usize].clone()).collect()
    }

    pub(crate) async fn known(&self, placed: &Placed) -> Result<Known, StageError> {
        let member = self.member(placed);
        let own = self.gathered.spool.record(member.record)?;
        let kept = match member.kept == member.image {
            true => None,
            false => self.index.get(member.kept).await.map_err(|source| GatherError::Index { source })?,
        };
        Ok(Known { own, kept })
    }

    pub(crate) fn sample(&self, placed: &Placed, known: &Known) -> Sample {
        let member = self.member(placed);
        let image = &known.published().image;
        let labels = self.labels(member);
        Sample {
            image: image.id,
            label: labels.first().cloned(),
            labels,
            label_score: member.label_score,
            source: image.source.clone(),
            licence: image.attributes.get("licence").cloned(),
            attributes: image.attributes.clone(),
            class: member.labels.first().copied().unwrap_or(0),
        }
    }

    pub(crate) fn row(
        &self,
        placed: &Placed,
        known: &Known,
        shard: Option<&BlobKey>,
        held: bool,
    ) -> Result<Row, StageError> {
        let member = self.member(placed);
        let judgement = &self.looked.judgements[placed.member as usize];
        let image = &known.published().image;
        let vector = member.vector.map(|slot| {
            let mut vector = Vec::with_capacity(self.gathered.spool.dimensions());
            self.gathered.spool.vector(slot, &mut vector).map(|()| vector)
        });
        let doubt = held.then(|| Doubt {
            reason: judgement.reason.map_or(REASON_DOUBTED, Reason::as_str).into(),
            threshold: judgement.threshold,
            suggested: judgement.suggested.map(|class| self.gathered.classes[class as usize].clone()),
            evidence: judgement.spelled(),
        });
        Ok(Row {
            image: image.id,
            earliest: member.image,
            upload: member.upload,
            labels: self.labels(member),
            given: placed.given,
            label_score: member.label_score,
            fits: judgement.fits,
            p_label_wrong: judgement.p_label_wrong,
            outlier: self.outliers[placed.member as usize],
            votes: member.voters,
            votes_agreeing: member.agreeing,
            cluster: self.gathered.members[placed.cluster as usize].image,
            width: image.size.width,
            height: image.size.height,
            bytes: image.bytes,
            format: image.format.as_str(),
            fingerprint: image.fingerprints.upright().0,
            measures: image.measures,
            device: image.device.to_string(),
            source: image.source.clone(),
            licence: image.attributes.get("licence").cloned(),
            attributes: serde_json::json!(image.attributes).to_string(),
            lineage: lineage(&known.own),
            vector: vector.transpose()?,
            space: self.space.0.clone(),
            shard: shard.map(BlobKey::to_string),
            picture: BlobKey::picture(image.id).to_string(),
            doubt,
        })
    }
}

/// The decisions about a photo without their times, which differ from run to run.
fn lineage(record: &Record) -> String {
    let mut decisions = serde_json::json!(record.image.lineage);
    for decision in decisions.as_array_mut().into_iter().flatten() {
        if let Some(fields) = decision.as_object_mut() {
            fields.remove("at");
        }
    }
    decisions.to_string()
}
