//! Inference: runs pre-trained models by ONNX Runtime, loaded at run time.
//!
//! Takes    a [`Manifest`] (which file, how a picture becomes its input, what its outputs mean) and pixels.
//! Gives    an [`Engine`] that answers one picture at a time and batches behind the scenes, or [`Once`] for a model that
//!          is run from one place.
//! Keeps    nothing on disk. One library a process; one session a thread, each with its own copy of the weights.
//! Crash    loses only what is in memory; whoever asked asks again.
//! Weak at  machines with very many cores and large models: memory grows with `sessions`, so cap it there.

mod config;
mod engine;
mod error;
mod manifest;
mod once;
mod prepare;
mod runtime;

pub use config::{Config, LIBRARY_FILE, Provider, tools_dir};
pub use engine::{Engine, Output};
pub use error::InferenceError;
pub use manifest::{Channels, Filter, Input, Layout, Manifest, Normalise, OutputOf, Outputs};
pub use once::Once;
pub use prepare::Tensor;
