//! A model run from one place, without queue or threads: to check an exported classifier.

use crate::{config::Config, error::InferenceError, manifest::Manifest, prepare::Tensor, runtime::Runner};

/// A plain session.
#[derive(Debug)]
pub struct Once {
    runner: Runner,
}

impl Once {
    /// Loads a model with one input from the bytes of an ONNX file; `name` is for errors.
    pub fn load(name: &str, onnx: &[u8], config: &Config) -> Result<Self, InferenceError> {
        Ok(Self { runner: Runner::load(name, onnx, config, None, false)? })
    }

    /// As [`Once::load`], of a model with a manifest.
    pub fn of(manifest: &Manifest, config: &Config) -> Result<Self, InferenceError> {
        let runner = Runner::load(&manifest.name, &manifest.model_bytes()?, config, None, manifest.reduce_range)?;
        Ok(Self { runner })
    }

    /// Runs the inputs as one batch; gives one row of the named output for each. Rows of more axes come flattened.
    pub fn run(&mut self, output: &str, inputs: &[Tensor]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let rows = self.runner.run(&inputs, &[output])?;
        Ok(rows.into_iter().next().expect("one output was asked for"))
    }
}
