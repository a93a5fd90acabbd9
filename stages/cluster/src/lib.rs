//! Cluster: finds repeats that only the vector shows, and says who a picture is like.
//!
//! Takes    `ImageEmbedded`. Gives `ImageClustered`, or answers `duplicate` and names the picture it repeats.
//! Keeps    the group of a picture, and what its neighbours are labelled, on its record. Both are a first impression:
//!          a version computes its groups anew from all its members, so it does not depend on the order of arrival.
//! Crash    safe at any line: a second delivery finds its own decision and says it again.
//! Weak at  a repeat whose original is not among its nearest few by vector (tiny crops) is not found.

mod assign;
mod config;
mod lists;
mod reconcile;

use std::sync::Arc;

pub use config::Config;
use dih_core::{
    Delivery, ImageId, Notice, Outcome, Stage, StageError, StageName,
    event::{Image, ImageClustered, ImageEmbedded, VectorSpace},
    ports::{Index, NearVector},
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat, Settlement, settle},
    verdict::Decision,
};
use dih_repeats::{
    Candidate, Prover,
    succession::{self, Standing},
};
use lists::{Lists, Place};
use reconcile::Since;

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

    fn lists<'a>(&'a self, space: &'a VectorSpace) -> Lists<'a> {
        Lists { index: &*self.index, space, config: &self.config }
    }

    /// Settles a picture against those of its suspects that are proven.
    async fn settle(
        &self,
        own: &Record,
        suspects: impl Iterator<Item = &NearVector> + Send,
    ) -> Result<Settlement, StageError> {
        let (ids, cosines): (Vec<ImageId>, Vec<f32>) = suspects.map(|n| (n.image.id, n.cosine)).unzip();
        let records = if ids.is_empty() { Vec::new() } else { self.index.get_all(&ids).await? };
        let suspect = |(record, cosine): (Option<Record>, f32)| Some(candidate(record?, cosine));
        let candidates = records.into_iter().zip(cosines).filter_map(suspect).collect();
        let twins = self.prover.twins(own, candidates).await?;
        Ok(settle(own.id(), own.order(), &twins))
    }

    /// The picture stays: it joins its group. None when it was overtaken.
    async fn stay(
        &self,
        event: &ImageEmbedded,
        own: &Record,
        place: &Place,
        near: &[NearVector],
        since: Since<'_>,
    ) -> Result<Option<Outcome>, StageError> {
        let ImageEmbedded { mut image, label_score, space } = event.clone();
        let group = assign::group(&image, near, self.config.group_cosine_min);
        image.lineage.push(assign::decision(&group, self.config.group_cosine_min));
        if let Some(opinion) = assign::opinion(&image.labels, near, self.config.opinion_neighbours_min) {
            image.lineage.push(opinion);
        }
        let change = Change {
            repeat: Some(None),
            cluster: Some(group.leader),
            space: Some(space.clone()),
            image: Some(image.clone()),
            ..Change::to(State::Clustered)
        };
        if !self.index.change_from(image.id, &[State::Unique], &change).await? {
            return Ok(None);
        }
        let clustered = ImageClustered { image, label_score, cluster: group.leader };
        let lists = self.lists(&space);
        let follows = match &*lists.later(place).await? {
            [] => Vec::new(), // as in a stream that flows in order
            later => self.look_ahead(own, &lists, later, since).await?,
        };
        Ok(Some(Outcome::emit(Notice::Clustered(clustered)).and_all(follows)))
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since.
    async fn say_again(&self, event: ImageEmbedded, standing: Standing) -> Result<Outcome, StageError> {
        let ImageEmbedded { image, label_score, space } = event;
        let lists = self.lists(&space);
        match standing {
            Standing::Superseded => Ok(succession::superseded(&*self.index, &image, StageName::Cluster).await?),
            Standing::Yielded(own, repeat) => {
                let anew = match lists.find(&(&*own).into()).await? {
                    Some(place) => self.check_name(own.id(), &lists, &place, &[]).await?,
                    None => Vec::new(),
                };
                Ok(self.answer_repeat(image, &space, repeat).await?.and_all(anew))
            }
            Standing::Stands(record) => {
                let follows = match record.state.stands() {
                    true => {
                        let place = lists.place(&*record).await?;
                        match self.look_back(&record, &lists, &place).await? {
                            Some(follows) => follows,
                            None => {
                                self.look_ahead(&record, &lists, &lists.later(&place).await?, Since::Before).await?
                            }
                        }
                    }
                    false => self.leave(&record, &lists).await?, // refused since
                };
                if record.state == State::Claimed {
                    return Ok(Outcome::default().and_all(follows)); // to be decided anew, and comes again
                }
                let cluster = record.cluster.unwrap_or(image.id);
                // As recorded, with the lineage of the try that decided.
                let image = Image { epoch: image.epoch, ..record.image };
                Ok(Outcome::emit(Notice::Clustered(ImageClustered { image, label_score, cluster })).and_all(follows))
            }
        }
    }

    /// Answers a repeat, and has those looked at again on whose list it was.
    async fn answer_repeat(
        &self,
        mut image: Image,
        space: &VectorSpace,
        repeat: Repeat,
    ) -> Result<Outcome, StageError> {
        let decision = Decision::new(StageName::Cluster, "repeat").because(format!("of upload {}", repeat.of_upload));
        image.lineage.push(match repeat.found_by {
            FoundBy::Vector { cosine } => {
                decision.scored(cosine, self.config.repeat_cosine_min).calibrated(self.prover.error())
            }
            FoundBy::Content | FoundBy::Fingerprint { .. } => decision,
        });
        let answer = succession::answer_repeat(&*self.index, &image, StageName::Cluster, repeat).await?;
        match self.index.get(image.id).await? {
            Some(own) => Ok(answer.and_all(self.leave(&own, &self.lists(space)).await?)),
            None => Ok(answer),
        }
    }
}

impl Stage for Cluster {
    const CONSUMER: &'static str = "cluster";
    type Input = ImageEmbedded;

    async fn process(&self, delivery: Delivery<ImageEmbedded>) -> Result<Outcome, StageError> {
        let event = delivery.input;
        loop {
            let own = match succession::standing(&*self.index, &event.image).await? {
                Standing::Stands(record) if record.state == State::Unique => *record,
                decided => return self.say_again(event, decided).await,
            };
            let lists = self.lists(&event.space);
            let place = lists.place(&own).await?;
            let (itself, near) = lists.around(&place).await?;
            match self.settle(&own, lists.of(&place, &near).into_iter()).await? {
                Settlement::First { .. } => {
                    let since = Since::now(&event, &own, itself.as_ref());
                    if let Some(outcome) = self.stay(&event, &own, &place, &near, since).await? {
                        return Ok(outcome);
                    }
                }
                Settlement::Repeat { of } => {
                    let id = event.image.id;
                    if let Some(repeat) = succession::yield_to(&*self.index, id, State::Unique, &of).await? {
                        let seen = lists.of(&place, &near);
                        let anew = self.check_name(id, &lists, &place, &seen).await?;
                        return Ok(self.answer_repeat(event.image, &event.space, repeat).await?.and_all(anew));
                    }
                }
            }
        }
    }

    async fn fallen(&self, delivery: Delivery<ImageEmbedded>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
    }
}

fn candidate(record: Record, cosine: f32) -> Candidate {
    Candidate { record: Arc::new(record), found_by: FoundBy::Vector { cosine } }
}

/// Where a picture belongs: the group of a picture it is like, or its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) leader: ImageId,
    /// Cosine to the nearest earlier picture, joined or not.
    pub(crate) cosine: Option<f32>,
}
