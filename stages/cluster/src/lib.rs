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
use lists::Lists;

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
        let candidate = |(record, cosine): (Option<Record>, f32)| {
            Some(Candidate { record: Arc::new(record?), found_by: FoundBy::Vector { cosine } })
        };
        let candidates = records.into_iter().zip(cosines).filter_map(candidate).collect();
        let twins = self.prover.twins(own, candidates).await?;
        Ok(settle(own.id(), own.order(), &twins))
    }

    /// The picture stays: it joins its group. None when it was overtaken.
    async fn stay(
        &self,
        event: &ImageEmbedded,
        own: &Record,
        near: &[NearVector],
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
        let follows = match self.lists(&space).calm(own, near) {
            true => Vec::new(),
            false => self.look_around(own, &space, near).await?,
        };
        Ok(Some(Outcome::emit(Notice::Clustered(clustered)).and_all(follows)))
    }

    /// What follows for others from a picture that stays, and for itself from what happened since it saw `seen`: those that
    /// were let through before it yield, a repeat that it separates from its original is decided anew.
    async fn look_around(
        &self,
        own: &Record,
        space: &VectorSpace,
        seen: &[NearVector],
    ) -> Result<Vec<Notice>, StageError> {
        let (index, lists) = (&*self.index, self.lists(space));
        let near = lists.near(own).await?;
        let compared = lists.of(own, seen);
        let list = lists.of(own, &near);
        let new = list.into_iter().filter(|n| !compared.iter().any(|c| c.image.id == n.image.id));
        if let Settlement::Repeat { of } = self.settle(own, new).await? {
            return Ok(succession::step_down(index, StageName::Cluster, own.id(), &of).await?);
        }
        let mut yields = Vec::new();
        if let Settlement::First { yields: twins } = self.settle(own, lists.juniors(own, &near)).await? {
            for twin in twins {
                let junior = near.iter().find(|n| n.image.id == twin.id);
                if let Some(junior) = junior
                    && lists.is_on_list_of(own.id(), &junior.image).await?
                {
                    yields.push(twin);
                }
            }
        }
        let mut notices = succession::demote_all(index, StageName::Cluster, &own.image, &yields).await?;
        for repeat in lists.crowded_out(own).await? {
            notices.extend(succession::let_go(index, repeat).await?);
        }
        Ok(notices)
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since.
    async fn say_again(&self, event: ImageEmbedded, standing: Standing) -> Result<Outcome, StageError> {
        let ImageEmbedded { image, label_score, space } = event;
        match standing {
            Standing::Superseded => Ok(Outcome::superseded()),
            Standing::Yielded(repeat) => self.answer_repeat(image, &space, repeat).await,
            Standing::Stands(record) => {
                let follows = match record.state.stands() {
                    true => self.look_around(&record, &space, &[]).await?,
                    false => Vec::new(), // refused since
                };
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
        let Some(own) = self.index.get(image.id).await? else { return Ok(answer) };
        let room = self.lists(space).with_room(&own).await?;
        Ok(answer.and_all(room.into_iter().map(|record| succession::look_again(record, space.clone()))))
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
            let near = lists.near(&own).await?;
            match self.settle(&own, lists.of(&own, &near).into_iter()).await? {
                Settlement::First { .. } => {
                    if let Some(outcome) = self.stay(&event, &own, &near).await? {
                        return Ok(outcome);
                    }
                }
                Settlement::Repeat { of } => {
                    let id = event.image.id;
                    if let Some(repeat) = succession::yield_to(&*self.index, id, State::Unique, &of).await? {
                        return self.answer_repeat(event.image, &event.space, repeat).await;
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
