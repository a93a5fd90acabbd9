//! Embed: gives every verified picture its feature vector.
//!
//! Takes    `ImageVerified`. Gives `ImageEmbedded`.
//! Keeps    one vector per picture and vector space in the index.
//! Crash    safe at any line: the vector of a picture is the same whoever computes it.
//! Weak at  nothing of its own; where verify ran the same model, the vector is there already and no model is asked.

use std::sync::Arc;

use dih_core::{
    Delivery, Notice, Outcome, Stage, StageError, StageName,
    event::{ImageEmbedded, ImageVerified},
    ports::{Index, Vision},
    record::Change,
    verdict::Decision,
};
use dih_repeats::succession;

#[derive(Debug)]
pub struct Embed {
    index: Arc<dyn Index>,
    vision: Arc<dyn Vision>,
}

impl Embed {
    pub fn new(index: Arc<dyn Index>, vision: Arc<dyn Vision>) -> Self {
        Self { index, vision }
    }
}

impl Stage for Embed {
    const CONSUMER: &'static str = "embed";
    type Input = ImageVerified;

    async fn process(&self, delivery: Delivery<ImageVerified>) -> Result<Outcome, StageError> {
        let ImageVerified { mut image, label_score } = delivery.input;
        if let Some(said) = succession::overtaken(&*self.index, &image, StageName::Embed).await? {
            return Ok(said);
        }
        let space = self.vision.space().clone();
        if self.index.vector(image.id, &space).await?.is_none() {
            let sight = self.vision.look(image.id).await?;
            self.index.change(image.id, &Change { space: Some(space.clone()), ..Change::default() }).await?;
            self.index.put_vector(image.id, &space, &sight.embedding).await?;
        }
        image.lineage.push(Decision::new(StageName::Embed, "embedded").by(self.vision.model()));
        Ok(Outcome::emit(Notice::Embedded(ImageEmbedded { image, label_score, space })))
    }

    async fn fallen(&self, delivery: Delivery<ImageVerified>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
    }
}
