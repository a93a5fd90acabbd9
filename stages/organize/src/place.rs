//! Organize: puts a photo on offer to every data set.
//!
//! Takes    `ImageClustered`. Gives the upload's answer: curated, or a repeat if it became one on the way.
//! Keeps    `pictures/ab/<image>.jpg`, the picture as it is published, and the record's state `Curated`.
//! Crash    safe at any line: the picture is a function of the original, the state is written before the answer.
//! Weak at  an original that was removed: the message is tried again until it is dead-lettered.

use std::sync::Arc;

use dih_core::{
    BlobKey, Delivery, Epoch, ImageId, Outcome, Stage, StageError, StageName,
    event::{Image, ImageClustered},
    ports::{Blobs, Index, StoreError},
    record::{Change, State},
    verdict::{Answer, Decision, Status},
    work::Bench,
};
use dih_imaging::Limits;
use dih_repeats::succession;

use crate::{REASON_CURATED, config::Config, counted::Counted, pictures::Studio};

#[derive(Debug)]
pub struct Organize {
    index: Arc<dyn Index>,
    blobs: Arc<dyn Blobs>,
    studio: Studio,
    counted: Counted,
}

impl Organize {
    pub fn new(config: &Config, limits: Limits, index: Arc<dyn Index>, blobs: Arc<dyn Blobs>, bench: Bench) -> Self {
        Self { index, blobs, studio: Studio::new(config, limits, bench), counted: Counted::default() }
    }
}

impl Organize {
    /// Writes that the photo is on offer. False when it was decided anew meanwhile, or had been written before.
    async fn offer(&self, image: &Image, label_score: Option<f32>, cluster: ImageId) -> Result<bool, StoreError> {
        let change = Change {
            reason: Some(REASON_CURATED.into()),
            label_score,
            cluster: Some(cluster),
            image: Some(image.clone()),
            ..Change::to(State::Curated)
        };
        self.index.change_from(image.id, &[State::Clustered], &change).await
    }
}

impl Stage for Organize {
    const CONSUMER: &'static str = "organize";
    type Input = ImageClustered;

    async fn process(&self, delivery: Delivery<ImageClustered>) -> Result<Outcome, StageError> {
        let ImageClustered { mut image, label_score, cluster } = delivery.input;
        self.studio.publish(&*self.blobs, image.id, image.epoch == Epoch(0)).await?;
        let key = BlobKey::picture(image.id);
        image.lineage.push(Decision::new(StageName::Organize, REASON_CURATED).because(format!("picture `{key}`")));
        if self.offer(&image, label_score, cluster).await? {
            self.counted.count(&image.labels);
        }
        if let Some(said) = succession::overtaken(&*self.index, &image, StageName::Organize).await? {
            return Ok(said);
        }
        let answer = Answer::about(&image, Status::Curated, StageName::Organize, REASON_CURATED);
        Ok(Outcome::answer(answer.scored(label_score)))
    }

    async fn fallen(&self, delivery: Delivery<ImageClustered>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
    }
}
