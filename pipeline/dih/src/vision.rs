//! Pre-trained models as the stages see them: an image in, what the model saw out.
//!
//! Takes    an image's id. Gives its vector and class probabilities, or how likely it is unsafe.
//! Keeps    nothing; decoding goes to the bench, batches and threads are the engine's.

use std::sync::Arc;

use async_trait::async_trait;
use dih_core::{
    Class, ImageId, StageError,
    event::VectorSpace,
    ports::{Safety, Sight, Vision},
};
use dih_inference::{Engine, Output};
use dih_previews::Previews;

/// [`Vision`] by an [`Engine`].
#[derive(Debug)]
pub struct Eye {
    engine: Arc<Engine>,
    space: VectorSpace,
    classes: Vec<String>,
    previews: Arc<Previews>,
}

impl Eye {
    pub fn new(engine: Arc<Engine>, space: VectorSpace, classes: Vec<String>, previews: Arc<Previews>) -> Self {
        Self { engine, space, classes, previews }
    }
}

/// What an engine says about the preview of an image.
async fn seen(engine: &Engine, image: ImageId, previews: &Previews) -> Result<Output, StageError> {
    let preview = previews.get(image).await?;
    // Where it runs: .02 ms for a graph that takes bytes, as ours do, some .1 ms for one that takes numbers.
    let tensor = engine.manifest().prepare(&preview.rgb, preview.width, preview.height)?;
    Ok(engine.infer(tensor).await?)
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
        let output = seen(&self.engine, image, &self.previews).await?;
        let missing = || StageError::new(Class::Halt, format!("the model `{}` gives no embedding", self.model()));
        let embedding = output.embedding.ok_or_else(missing)?;
        Ok(Sight { embedding, probabilities: output.probabilities })
    }
}

/// [`Safety`] by an [`Engine`] whose classes hold one that is called [`UNSAFE`].
#[derive(Debug)]
pub struct Guard {
    engine: Arc<Engine>,
    class: usize,
    previews: Arc<Previews>,
}

/// Name of the class whose probability counts.
pub const UNSAFE: &str = "unsafe";

impl Guard {
    /// `class` is the position of [`UNSAFE`] among the classes.
    pub fn new(engine: Arc<Engine>, class: usize, previews: Arc<Previews>) -> Self {
        Self { engine, class, previews }
    }
}

#[async_trait]
impl Safety for Guard {
    fn model(&self) -> &str {
        &self.engine.manifest().name
    }

    async fn unsafe_score(&self, image: ImageId) -> Result<f32, StageError> {
        let output = seen(&self.engine, image, &self.previews).await?;
        let score = output.probabilities.and_then(|scores| scores.get(self.class).copied());
        score.ok_or_else(|| StageError::new(Class::Halt, format!("the model `{}` gives no classes", self.model())))
    }
}
