//! What training needs of a model runner: the backbone to build on, and a way to run the finished file.

use std::{collections::BTreeMap, fmt, fs};

use dih_core::{Class, StageError, event::VectorSpace};
use dih_imaging::Preview;
use dih_inference::{InferenceError, Manifest, Once, Tensor};

/// The pre-trained part of the exported model.
#[derive(Clone, Debug)]
pub struct Backbone {
    pub name: String,
    /// Vectors of this space, and only of this, may be trained on.
    pub space: VectorSpace,
    /// An ONNX file.
    pub onnx: Vec<u8>,
    /// Name of its embedding output.
    pub embedding: String,
    /// Preprocessing, licence and source, for whoever runs the exported file.
    pub metadata: BTreeMap<String, String>,
}

/// Runs models. Calls may block; the stage makes them from its bench.
pub trait Predict: Send + Sync + fmt::Debug + 'static {
    fn backbone(&self) -> Result<Backbone, StageError>;
    /// A preview as the backbone's input, by the same steps as in the embed stage.
    fn prepare(&self, preview: &Preview) -> Result<Tensor, StageError>;
    /// Opens an exported file.
    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Classifier>, StageError>;
}

/// An exported file, opened.
pub trait Classifier: Send {
    /// Probabilities of the labels, a row an input.
    fn probabilities(&mut self, inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, StageError>;
}

/// [`Predict`] by ONNX Runtime.
#[derive(Debug)]
pub struct OnnxPredict {
    manifest: Manifest,
    space: VectorSpace,
    config: dih_inference::Config,
}

impl OnnxPredict {
    /// The model that the embed stage runs, and the space its vectors go to.
    pub fn new(manifest: Manifest, space: VectorSpace, config: dih_inference::Config) -> Self {
        Self { manifest, space, config }
    }
}

impl Predict for OnnxPredict {
    fn backbone(&self) -> Result<Backbone, StageError> {
        let path = self.manifest.model_path();
        let onnx = fs::read(&path).map_err(|source| InferenceError::Read { path, source })?;
        let nothing = || StageError::new(Class::Halt, format!("the model `{}` has no embedding", self.manifest.name));
        let embedding = self.manifest.outputs.embedding.as_ref().ok_or_else(nothing)?.name.clone();
        let metadata = described(&self.manifest);
        Ok(Backbone { name: self.manifest.name.clone(), space: self.space.clone(), onnx, embedding, metadata })
    }

    fn prepare(&self, preview: &Preview) -> Result<Tensor, StageError> {
        Ok(self.manifest.prepare(&preview.rgb, preview.width, preview.height)?)
    }

    fn load(&self, onnx: &[u8]) -> Result<Box<dyn Classifier>, StageError> {
        Ok(Box::new(Opened(Once::load("exported classifier", onnx, &self.config)?)))
    }
}

struct Opened(Once);

impl Classifier for Opened {
    fn probabilities(&mut self, inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, StageError> {
        Ok(self.0.run(dih_proto::onnx::PROBABILITIES, inputs)?)
    }
}

/// The manifest as the metadata of the exported file.
fn described(manifest: &Manifest) -> BTreeMap<String, String> {
    let input = &manifest.input;
    let normalise = input.normalise.as_ref();
    let pairs = [
        ("backbone", manifest.name.clone()),
        ("backbone_sha256", manifest.sha256.clone()),
        ("licence", manifest.licence.clone()),
        ("source", manifest.source.clone()),
        ("input", input.name.clone()),
        ("input_size", input.size.to_string()),
        ("input_layout", lower(&input.layout)),
        ("input_channels", lower(&input.channels)),
        ("input_crop", input.crop.to_string()),
        ("input_filter", lower(&input.filter)),
        ("input_element", if normalise.is_some() { "float32" } else { "uint8" }.to_owned()),
    ];
    let normalised = normalise.map(|n| [("input_mean", numbers(&n.mean)), ("input_std", numbers(&n.std))]);
    let pairs = pairs.into_iter().chain(normalised.into_iter().flatten());
    pairs.map(|(key, value)| (key.to_owned(), value)).collect()
}

fn numbers(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

fn lower(value: &impl fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}
