//! The pre-trained model as the stages see it: an image in, what the model saw out.
//!
//! Takes    an image's id. Gives its vector and class probabilities.
//! Keeps    nothing; decoding and resizing go to the bench, batches and threads are the engine's.

use std::sync::Arc;

use async_trait::async_trait;
use dih_core::{
    Class, ImageId, StageError,
    event::VectorSpace,
    ports::{Sight, Vision},
    work::Bench,
};
use dih_inference::{Engine, Tensor};
use dih_previews::Previews;

/// [`Vision`] by an [`Engine`].
#[derive(Debug)]
pub struct Eye {
    engine: Arc<Engine>,
    space: VectorSpace,
    classes: Vec<String>,
    previews: Arc<Previews>,
    bench: Bench,
}

impl Eye {
    pub fn new(
        engine: Arc<Engine>,
        space: VectorSpace,
        classes: Vec<String>,
        previews: Arc<Previews>,
        bench: Bench,
    ) -> Self {
        Self { engine, space, classes, previews, bench }
    }

    async fn prepare(&self, image: ImageId) -> Result<Tensor, StageError> {
        let (engine, preview) = (self.engine.clone(), self.previews.get(image).await?);
        let prepare = move || engine.manifest().prepare(&preview.rgb, preview.width, preview.height);
        Ok(self.bench.run(prepare).await??)
    }
}

#[async_trait]
impl Vision for Eye {
    fn model(&self) -> &str {
        &self.engine.manifest().name
    }

    fn space(&self) -> &VectorSpace {
        &self.space
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    async fn look(&self, image: ImageId) -> Result<Sight, StageError> {
        let tensor = self.prepare(image).await?;
        let output = self.engine.infer(tensor).await?;
        let missing = || StageError::new(Class::Halt, format!("the model `{}` gives no embedding", self.model()));
        let embedding = output.embedding.ok_or_else(missing)?;
        Ok(Sight { embedding, probabilities: output.probabilities })
    }
}
