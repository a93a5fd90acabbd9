//! What can go wrong, and whether trying again helps.

use std::{io, path::PathBuf};

use dih_core::{Class, Classify};

use crate::config::Provider;

#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    #[error("no ONNX Runtime library at `{path}`; run `make setup`, or name one with `inference.library`")]
    MissingLibrary { path: PathBuf },
    #[error("`{path}` is no usable ONNX Runtime library; run `make setup`, or name another with `inference.library`")]
    LoadLibrary { path: PathBuf, source: ort::LoadDynamicError },
    #[error("`{wanted}` cannot be loaded beside `{loaded}`: one ONNX Runtime library a process")]
    OtherLibrary { loaded: PathBuf, wanted: PathBuf },
    #[error("could not start ONNX Runtime")]
    Environment { source: ort::Error },
    #[error("could not read `{path}`; check that it is there and readable")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` is no model manifest; correct the line it names")]
    ParseManifest { path: PathBuf, source: Box<toml::de::Error> },
    #[error("model manifest `{path}`: {fault}")]
    BadManifest { path: PathBuf, fault: String },
    #[error("no `{path}`, which model `{model}` needs; run `make setup`")]
    MissingFile { model: String, path: PathBuf },
    #[error("`{path}` has SHA-256 {have} instead of {want}; remove it and run `make setup`, or correct the manifest")]
    WrongHash { path: PathBuf, have: String, want: String },
    #[error("ONNX Runtime cannot run model `{model}`; it is damaged, or not as its manifest says")]
    LoadModel { model: String, source: ort::Error },
    #[error(
        "`{provider}` cannot run here; install its libraries and name its build with `inference.library`, or set `inference.provider` to `cpu`"
    )]
    NoProvider { provider: Provider, source: ort::Error },
    #[error("`{provider}` cannot run model `{model}` here; see that `nvidia-smi` shows a GPU with memory left")]
    NoDevice { provider: Provider, model: String, source: ort::Error },
    #[error("model `{model}` is not as its manifest says: {fault}")]
    WrongModel { model: String, fault: String },
    #[error("the input does not fit: {fault}")]
    WrongInput { fault: String },
    #[error("model `{model}` failed on a batch of {items}")]
    Run { model: String, items: usize, source: ort::Error },
    #[error(
        "the GPU runs model `{model}` no more; start the process again, and look at the node's GPU if that does not help"
    )]
    DeviceLost { model: String, source: Box<InferenceError> },
    #[error("model `{model}` answered with numbers that are not finite")]
    NotFinite { model: String },
    #[error("the threads of model `{model}` have ended; restart the process and report what it logged before")]
    Stopped { model: String },
}

impl InferenceError {
    /// A model that does not load: on a GPU it is most often the GPU.
    pub(crate) fn cannot_load(provider: Provider, model: &str, source: ort::Error) -> Self {
        let model = model.to_owned();
        match provider {
            Provider::Cpu => Self::LoadModel { model, source },
            Provider::Cuda | Provider::TensorRt => Self::NoDevice { provider, model, source },
        }
    }
}

impl Classify for InferenceError {
    fn class(&self) -> Class {
        match self {
            // Whatever this place lacks, every picture would meet.
            Self::MissingLibrary { .. }
            | Self::LoadLibrary { .. }
            | Self::OtherLibrary { .. }
            | Self::Environment { .. }
            | Self::Read { .. }
            | Self::ParseManifest { .. }
            | Self::BadManifest { .. }
            | Self::MissingFile { .. }
            | Self::WrongHash { .. }
            | Self::LoadModel { .. }
            | Self::NoProvider { .. }
            | Self::NoDevice { .. }
            | Self::WrongModel { .. }
            | Self::DeviceLost { .. }
            | Self::Stopped { .. } => Class::Halt,
            Self::WrongInput { .. } => Class::BadInput,
            // Memory may be short for a moment, and another device may do better.
            Self::Run { .. } | Self::NotFinite { .. } => Class::Retry,
        }
    }
}
