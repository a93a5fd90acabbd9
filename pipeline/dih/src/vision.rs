//! The pre-trained model as the stages see it: a preview in, what the model saw out.
//!
//! Takes    a preview's bytes. Gives its vector and class probabilities.
//! Keeps    nothing; decoding and resizing go to the bench, batches and threads are the engine's.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    Class, StageError,
    event::VectorSpace,
    ports::{Sight, Vision},
    work::Bench,
};
use dih_imaging::Preview;
use dih_inference::{Engine, Tensor};

/// [`Vision`] by an [`Engine`].
#[derive(Debug)]
pub struct Eye {
    engine: Arc<Engine>,
    space: VectorSpace,
    classes: Vec<String>,
    bench: Bench,
}

impl Eye {
    pub fn new(engine: Arc<Engine>, space: VectorSpace, classes: Vec<String>, bench: Bench) -> Self {
        Self { engine, space, classes, bench }
    }

    async fn prepare(&self, preview: Bytes) -> Result<Tensor, StageError> {
        let engine = self.engine.clone();
        let prepared = self.bench.run(move || {
            let preview = Preview::from_jpeg(&preview).map_err(|refusal| {
                StageError::new(Class::BadInput, format!("the stored preview is unreadable: {refusal}"))
            })?;
            Ok::<_, StageError>(engine.manifest().prepare(&preview.rgb, preview.width, preview.height)?)
        });
        prepared.await?
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

    async fn look(&self, preview: Bytes) -> Result<Sight, StageError> {
        let tensor = self.prepare(preview).await?;
        let output = self.engine.infer(tensor).await?;
        let missing = || StageError::new(Class::Halt, format!("the model `{}` gives no embedding", self.model()));
        let embedding = output.embedding.ok_or_else(missing)?;
        Ok(Sight { embedding, probabilities: output.probabilities })
    }
}
