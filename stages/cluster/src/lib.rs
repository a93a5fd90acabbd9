//! Cluster: finds repeats that only the vector shows, and says who a picture is like.
//!
//! Takes    `ImageEmbedded`. Gives `ImageClustered`, or answers `duplicate` and names the picture it repeats.
//! Keeps    the group of a picture, and what its neighbours are labelled, on its record. Both are a first impression:
//!          a version computes its groups anew from all its members, so it does not depend on the order of arrival.
//! Crash    safe at any line: a second delivery finds its own decision and says it again.
//! Weak at  a repeat whose original is not among its nearest few by vector (tiny crops) is not found.

mod assign;
mod config;

use std::sync::Arc;

pub use config::Config;
use dih_core::{
    Delivery, ImageId, Notice, Outcome, Stage, StageError, StageName,
    event::{Image, ImageClustered, ImageEmbedded, VectorSpace},
    ports::{Index, NearVector, StoreError},
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat, Settlement, Twin, settle},
    verdict::{Answer, Decision},
};
use dih_repeats::{
    Candidate, Prover,
    succession::{self, Standing},
    suspects,
};

/// Neighbours that a picture reads which comes late among many.
const WIDE: usize = 512;

#[derive(Debug)]
pub struct Cluster {
    config: Config,
    index: Arc<dyn Index>,
    prover: Arc<Prover>,
}

impl Cluster {
    pub fn new(config: Config, index: Arc<dyn Index>, prover: Arc<Prover>) -> Self {
        Self { config, index, prover }
    }

    async fn neighbours(&self, own: &Record, space: &VectorSpace) -> Result<Vec<NearVector>, StageError> {
        let missing = || StoreError::NotFound { store: "index", key: format!("{} of {}", space.0, own.id()) };
        let vector = self.index.vector(own.id(), space).await?.ok_or_else(missing)?;
        let mut wanted = self.config.neighbours_max + 1; // itself comes along
        loop {
            let cosine_min = self.config.cosine_min;
            let near = self.index.near_vectors(space, &vector, cosine_min, &State::STANDING, wanted).await?;
            let crowded = near.len() == wanted && near.iter().any(|n| n.record.order() > own.order());
            if !crowded || wanted >= WIDE {
                return Ok(near.into_iter().filter(|n| n.record.id() != own.id()).collect());
            }
            // It comes late, among many that came after it: all of them must be seen.
            wanted = WIDE;
        }
    }

    async fn twins(&self, own: &Record, near: &[NearVector]) -> Result<(Vec<Twin>, f32), StageError> {
        let alike = near.iter().filter(|n| n.cosine >= self.config.repeat_cosine_min);
        let alike = alike.filter(|n| n.record.order() < own.order() || n.record.reach.is_none_or(|r| n.cosine > r));
        let suspects = suspects::of_either_side(own.order(), alike, |n| n.record.order(), self.config.candidates_max);
        let reach = suspects.left_out.and_then(|_| suspects.earlier.last()).map_or(-1.0, |n| n.cosine);
        let candidate =
            |n: &NearVector| Candidate { record: n.record.clone(), found_by: FoundBy::Vector { cosine: n.cosine } };
        Ok((self.prover.twins(own, suspects.into_iter().map(candidate).collect()).await?, reach))
    }

    /// Writes that the picture yields, and releases those that had yielded to it. None when it was overtaken.
    ///
    /// Write, then look, as in dedupe: if the earlier one fell meanwhile, it did not see this one yield.
    async fn yield_to(&self, image: &Image, of: &Twin) -> Result<Option<Repeat>, StageError> {
        let Some(original) = self.index.get(of.id).await? else { return Ok(None) };
        let repeat = Repeat {
            of: of.id,
            of_upload: original.upload(),
            of_source: original.image.source,
            found_by: of.found_by,
            evidence: Some(of.evidence),
        };
        let change = Change { repeat: Some(Some(repeat.clone())), ..Change::to(State::Repeat) };
        if !self.index.change_from(image.id, &[State::Unique], &change).await? {
            return Ok(None);
        }
        let holds = succession::holds(&*self.index, image.id, of.id).await?;
        if !holds && self.index.change_from(image.id, &[State::Repeat], &Change::to(State::Unique)).await? {
            return Ok(None);
        }
        Ok(Some(repeat))
    }

    /// The picture stays: those that were let through before it yield, and it joins its group.
    async fn settle_first(
        &self,
        event: ImageEmbedded,
        near: &[NearVector],
        yields: &[Twin],
        reach: f32,
    ) -> Result<Outcome, StageError> {
        let ImageEmbedded { mut image, label_score, .. } = event;
        let group = assign::group(&image, near, self.config.group_cosine_min);
        image.lineage.push(assign::decision(&group, self.config.group_cosine_min));
        if let Some(opinion) = assign::opinion(&image.labels, near, self.config.opinion_neighbours_min) {
            image.lineage.push(opinion);
        }
        let change = Change {
            repeat: Some(None),
            cluster: Some(group.leader),
            reach: Some(reach),
            image: Some(image.clone()),
            ..Change::to(State::Clustered)
        };
        if !self.index.change_from(image.id, &[State::Unique], &change).await? {
            return self.say_again(image, label_score).await;
        }
        let clustered = ImageClustered { image: image.clone(), label_score, cluster: group.leader };
        let mut outcome = Outcome::emit(Notice::Clustered(clustered));
        for twin in yields {
            outcome = outcome.and_all(succession::demote(&*self.index, StageName::Cluster, &image, twin).await?);
        }
        Ok(outcome)
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since.
    async fn say_again(&self, image: Image, label_score: Option<f32>) -> Result<Outcome, StageError> {
        match succession::standing(&*self.index, &image).await? {
            Standing::Superseded => Ok(Outcome::superseded()),
            Standing::Yielded(repeat) => self.answer_repeat(image, repeat).await,
            Standing::Stands(record) => {
                let again = succession::demoted_before(&*self.index, StageName::Cluster, image.id).await?;
                let cluster = record.cluster.unwrap_or(image.id);
                // As recorded, with the lineage of the try that decided.
                let image = Image { epoch: image.epoch, ..record.image };
                Ok(Outcome::emit(Notice::Clustered(ImageClustered { image, label_score, cluster })).and_all(again))
            }
        }
    }

    async fn answer_repeat(&self, mut image: Image, repeat: Repeat) -> Result<Outcome, StageError> {
        let released = succession::release(&*self.index, image.id).await?;
        let decision = Decision::new(StageName::Cluster, "repeat").because(format!("of upload {}", repeat.of_upload));
        image.lineage.push(match repeat.found_by {
            FoundBy::Vector { cosine } => decision.scored(cosine, self.config.repeat_cosine_min),
            FoundBy::Content | FoundBy::Fingerprint { .. } => decision,
        });
        Ok(Outcome::answer(Answer::repeats(&image, StageName::Cluster, repeat)).and_all(released))
    }
}

impl Stage for Cluster {
    const CONSUMER: &'static str = "cluster";
    type Input = ImageEmbedded;

    async fn process(&self, delivery: Delivery<ImageEmbedded>) -> Result<Outcome, StageError> {
        let event = delivery.input;
        loop {
            let own = match succession::standing(&*self.index, &event.image).await? {
                Standing::Stands(record) if record.state == State::Unique => record,
                _ => return self.say_again(event.image, event.label_score).await,
            };
            let near = self.neighbours(&own, &event.space).await?;
            let (twins, reach) = self.twins(&own, &near).await?;
            match settle(own.id(), own.order(), &twins) {
                Settlement::First { yields } => return self.settle_first(event, &near, &yields, reach).await,
                Settlement::Repeat { of } => {
                    if let Some(repeat) = self.yield_to(&event.image, &of).await? {
                        return self.answer_repeat(event.image, repeat).await;
                    }
                }
            }
        }
    }

    async fn fallen(&self, delivery: Delivery<ImageEmbedded>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
    }
}

/// Where a picture belongs: the group of a picture it is like, or its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) leader: ImageId,
    /// Cosine to the nearest earlier picture, joined or not.
    pub(crate) cosine: Option<f32>,
}
