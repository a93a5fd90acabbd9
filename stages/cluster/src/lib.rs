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
    verdict::Decision,
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

    /// Settles a picture against its proven twins. Also gives the cosine down to which it looked at elders, -1 for all.
    async fn settle(&self, own: &Record, near: &[NearVector]) -> Result<(Settlement, f32), StageError> {
        let alike = near.iter().filter(|n| n.cosine >= self.config.repeat_cosine_min);
        let alike = alike.filter(|n| n.record.order() < own.order() || n.record.reach.is_none_or(|r| n.cosine > r));
        let suspects = suspects::of_either_side(own.order(), alike, |n| n.record.order(), self.config.candidates_max);
        let reach = suspects.left_out.and_then(|_| suspects.earlier.last()).map_or(-1.0, |n| n.cosine);
        let candidate =
            |n: &NearVector| Candidate { record: n.record.clone(), found_by: FoundBy::Vector { cosine: n.cosine } };
        let twins = self.prover.twins(own, suspects.into_iter().map(candidate).collect()).await?;
        Ok((settle(own.id(), own.order(), &twins), reach))
    }

    /// The picture stays: it joins its group, and those that were let through before it yield. None when it was overtaken.
    async fn stay(
        &self,
        event: &ImageEmbedded,
        near: &[NearVector],
        yields: &[Twin],
        reach: f32,
    ) -> Result<Option<Outcome>, StageError> {
        let ImageEmbedded { mut image, label_score, .. } = event.clone();
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
            return Ok(None);
        }
        let clustered = ImageClustered { image: image.clone(), label_score, cluster: group.leader };
        let outcome = Outcome::emit(Notice::Clustered(clustered));
        let follows = match yields {
            [] => Vec::new(),
            _ => succession::demote_all(&*self.index, StageName::Cluster, &image, yields).await?,
        };
        Ok(Some(outcome.and_all(follows)))
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since.
    async fn say_again(&self, event: ImageEmbedded, standing: Standing) -> Result<Outcome, StageError> {
        let ImageEmbedded { image, label_score, space } = event;
        match standing {
            Standing::Superseded => Ok(Outcome::superseded()),
            Standing::Yielded(repeat) => self.answer_repeat(image, repeat).await,
            Standing::Stands(record) => {
                let near = self.neighbours(&record, &space).await?;
                let yields = match self.settle(&record, &near).await? {
                    (Settlement::First { yields }, _) if record.state.stands() => yields,
                    _ => Vec::new(), // refused since, or the earlier one will make it yield
                };
                let again = succession::demote_all(&*self.index, StageName::Cluster, &image, &yields).await?;
                let cluster = record.cluster.unwrap_or(image.id);
                // As recorded, with the lineage of the try that decided.
                let image = Image { epoch: image.epoch, ..record.image };
                Ok(Outcome::emit(Notice::Clustered(ImageClustered { image, label_score, cluster })).and_all(again))
            }
        }
    }

    async fn answer_repeat(&self, mut image: Image, repeat: Repeat) -> Result<Outcome, StageError> {
        let decision = Decision::new(StageName::Cluster, "repeat").because(format!("of upload {}", repeat.of_upload));
        image.lineage.push(match repeat.found_by {
            FoundBy::Vector { cosine } => decision.scored(cosine, self.config.repeat_cosine_min),
            FoundBy::Content | FoundBy::Fingerprint { .. } => decision,
        });
        Ok(succession::answer_repeat(&*self.index, &image, StageName::Cluster, repeat).await?)
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
                decided => return self.say_again(event, decided).await,
            };
            let near = self.neighbours(&own, &event.space).await?;
            match self.settle(&own, &near).await? {
                (Settlement::First { yields }, reach) => {
                    if let Some(outcome) = self.stay(&event, &near, &yields, reach).await? {
                        return Ok(outcome);
                    }
                }
                (Settlement::Repeat { of }, _) => {
                    let id = event.image.id;
                    if let Some(repeat) = succession::yield_to(&*self.index, id, State::Unique, &of).await? {
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
