//! Model manifests: what a model file is, how pixels become its input, what its outputs mean.
//!
//! Takes    a TOML file of `config/models/` and the folder that holds the models.
//! Gives    a checked [`Manifest`]; a model file that is missing or has another hash is refused here.
//! Weak at  a file swapped between this check and its loading; so the engine hashes again what it loads.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::InferenceError;

/// Order of the input's axes; the batch always comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channel, row, column.
    Nchw,
    /// Batch, row, column, channel.
    Nhwc,
}

/// Order of the three colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    Rgb,
    Bgr,
}

/// How the picture is brought to size; every filter widens when it shrinks (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic with a = -0.5, as Pillow's `BICUBIC`.
    CatmullRom,
    /// As Pillow's `LANCZOS`.
    Lanczos3,
}

/// How a byte (0..=255) becomes a float32: (byte - mean) / std, in the order red, green, blue.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalise {
    fn makes_sense(&self) -> bool {
        self.std.iter().all(|s| s.is_normal()) && self.mean.iter().all(|m| m.is_finite())
    }
}

/// How a picture becomes the model's input.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name in the graph.
    pub name: String,
    /// Side of the square input, in pixels.
    pub size: u32,
    pub layout: Layout,
    pub channels: Channels,
    /// How a byte becomes a number. Left out, the graph takes the bytes themselves, as uint8.
    pub normalise: Option<Normalise>,
    /// Side of the centre square that is looked at, as a part of the picture's shorter side (0 < crop <= 1).
    pub crop: f64,
    pub filter: Filter,
}

/// One output of the graph: a vector of `dim` numbers a picture.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OutputOf {
    /// Name in the graph.
    pub name: String,
    pub dim: usize,
}

/// What is asked of the graph; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    /// The feature vector.
    pub embedding: Option<OutputOf>,
    /// Class scores before softmax.
    pub logits: Option<OutputOf>,
    /// Class probabilities, of a graph that ends in its softmax; in place of `logits`.
    pub probabilities: Option<OutputOf>,
}

impl Outputs {
    /// Those that are there, the embedding first, then the classes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &OutputOf> {
        self.embedding.iter().chain(self.classes())
    }

    /// Logits or probabilities.
    fn classes(&self) -> Option<&OutputOf> {
        self.logits.as_ref().or(self.probabilities.as_ref())
    }
}

/// What a model is. Read by [`Manifest::load`] only, so a manifest at hand has been checked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name in metrics and records.
    pub name: String,
    /// File below the models folder.
    pub file: PathBuf,
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: String,
    /// What the weights are stored as: `fp32`, `fp16`, `int8`, … Vectors of different precisions are never compared.
    pub precision: String,
    /// Whether its 8-bit weights are at most 64, as ONNX Runtime's option of this name makes them. Then the fast kernels
    /// are exact on every CPU; else those without VNNI take slower ones.
    #[serde(default)]
    pub reduce_range: bool,
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// File below the models folder: one class a line in the order of the scores, synonyms separated by `, `.
    pub labels: Option<PathBuf>,
    pub input: Input,
    pub outputs: Outputs,
    #[serde(skip)]
    models_dir: PathBuf,
}

impl Manifest {
    /// Reads a manifest and checks the file it names, hash included.
    pub fn load(path: &Path, models_dir: &Path) -> Result<Self, InferenceError> {
        let text = fs::read_to_string(path).map_err(|source| InferenceError::Read { path: path.into(), source })?;
        let parsed: Result<Self, _> = toml::from_str(&text);
        let mut manifest =
            parsed.map_err(|source| InferenceError::ParseManifest { path: path.into(), source: Box::new(source) })?;
        if let Some(fault) = manifest.fault() {
            return Err(InferenceError::BadManifest { path: path.into(), fault });
        }
        manifest.models_dir = models_dir.into();
        manifest.model_bytes()?;
        Ok(manifest)
    }

    /// Path of the model file.
    pub fn model_path(&self) -> PathBuf {
        self.models_dir.join(&self.file)
    }

    /// The class names in the order of the scores, each with its synonyms separated by `, `; empty without a list.
    pub fn labels(&self) -> Result<Vec<String>, InferenceError> {
        let (Some(file), Some(classes)) = (&self.labels, self.outputs.classes()) else { return Ok(Vec::new()) };
        let path = self.models_dir.join(file);
        let bytes = self.read(&path)?;
        let names: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        if names.len() != classes.dim {
            let fault = format!("`{}` has {} lines, the model {} classes", path.display(), names.len(), classes.dim);
            return Err(InferenceError::WrongModel { model: self.name.clone(), fault });
        }
        Ok(names)
    }

    /// The model file's bytes, after their hash was compared.
    pub(crate) fn model_bytes(&self) -> Result<Vec<u8>, InferenceError> {
        let path = self.model_path();
        let bytes = self.read(&path)?;
        let have: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if have != self.sha256 {
            return Err(InferenceError::WrongHash { path, have, want: self.sha256.clone() });
        }
        Ok(bytes)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, InferenceError> {
        fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InferenceError::MissingFile { model: self.name.clone(), path: path.into() },
            _ => InferenceError::Read { path: path.into(), source },
        })
    }

    /// What the parser cannot see: values that make no sense.
    fn fault(&self) -> Option<String> {
        let input = &self.input;
        let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let fault = if self.name.is_empty() {
            "`name` is empty; name the model, for example `efficientnet-lite0`"
        } else if self.sha256.len() != 64 || !self.sha256.bytes().all(lower_hex) {
            "`sha256` is not 64 lower-case hex digits; print them with `sha256sum FILE`"
        } else if !(1..=4096).contains(&input.size) {
            "`input.size` is not between 1 and 4096 pixels"
        } else if !(input.crop > 0.0 && input.crop <= 1.0) {
            "`input.crop` is not above 0 and at most 1"
        } else if !input.normalise.as_ref().is_none_or(Normalise::makes_sense) {
            "`mean` and `std` of `input.normalise` must be numbers, and no `std` zero"
        } else if self.outputs.iter().next().is_none() {
            "none of `outputs.embedding`, `logits` and `probabilities` is there; a model without outputs is of no use"
        } else if self.outputs.logits.is_some() && self.outputs.probabilities.is_some() {
            "`outputs.logits` and `outputs.probabilities` are both there; name one of them"
        } else if self.outputs.iter().any(|o| o.dim == 0) {
            "an output's `dim` is 0"
        } else {
            return None;
        };
        Some(fault.to_owned())
    }
}
