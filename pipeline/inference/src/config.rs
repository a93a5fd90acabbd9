//! Settings of inference, and where the library lies when none is named.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    thread,
};

use dih_core::config::{Faults, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::InferenceError;

/// The library that `make setup` fetches, below the tools folder.
pub const LIBRARY_FILE: &str = "lib/libonnxruntime.so.1.31.1";

/// What runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    #[default]
    Cpu,
    /// An NVIDIA GPU; the library must be a build with CUDA.
    Cuda,
    /// An NVIDIA GPU through TensorRT, which compiles the model at the first start (minutes).
    TensorRt,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        })
    }
}

/// Settings of inference. Defaults stand in `impl Default`, as plain values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The ONNX Runtime library. Left out, the one that `make setup` fetched is found.
    pub library: Option<PathBuf>,
    /// `cpu`, `cuda` or `tensorrt`. A GPU that cannot be used stops the start; there is no silent fall back to the CPU.
    pub provider: Provider,
    /// Sessions, each with a thread and a copy of the weights. 0: one a core on the CPU, three on a GPU (one copies while
    /// the others compute).
    pub sessions: usize,
    /// Most pictures in a batch. 0: 1 on the CPU, where a batch only costs more time a picture, and 16 on a GPU, where more
    /// go no faster.
    pub batch_max: usize,
    /// Longest time the first picture of a batch waits for others, written `2ms`.
    pub batch_age: HumanDuration,
    /// Most pictures waiting or being worked on; who comes after them waits before the queue.
    pub queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            library: None,
            provider: Provider::Cpu,
            sessions: 0,
            batch_max: 0,
            batch_age: HumanDuration::millis(2),
            queue_max: 64,
        }
    }
}

impl Config {
    /// Collects every fault, with its path and a hint, before anything is loaded.
    pub fn check(&self, faults: &mut Faults) {
        faults.require(self.sessions <= 256, "inference.sessions", "is above 256", "try `0`: one a core");
        faults.require(self.batch_max <= 1024, "inference.batch_max", "is above 1024", "try `0`: by the provider");
        let second = HumanDuration::secs(1);
        faults.require(self.batch_age <= second, "inference.batch_age", "is above 1s", "try `2ms`");
        let room = (self.batch_size()..=65536).contains(&self.queue_max);
        faults.require(room, "inference.queue_max", "holds no full batch, or is above 65536", "try `64`");
    }

    pub(crate) fn session_count(&self) -> usize {
        match (self.sessions, self.provider) {
            (0, Provider::Cpu) => thread::available_parallelism().map_or(1, Into::into),
            (0, _) => 3,
            (n, _) => n,
        }
    }

    pub(crate) fn batch_size(&self) -> usize {
        match (self.batch_max, self.provider) {
            (0, Provider::Cpu) => 1,
            (0, _) => 16,
            (n, _) => n,
        }
    }

    /// Pictures in every run, blank ones among them, where the size must not change: a GPU plans its work anew whenever it does,
    /// for 20 to 300 ms (cuDNN 9 on an H100; a run takes 5).
    pub(crate) fn run_size(&self) -> Option<usize> {
        (self.provider != Provider::Cpu).then(|| self.batch_size())
    }

    /// The library to load: the configured one, else the one in the tools folder.
    pub fn library_path(&self) -> Result<PathBuf, InferenceError> {
        let tools = || tools_dir().unwrap_or_else(|| PathBuf::from(".tools"));
        let path = self.library.clone().unwrap_or_else(|| tools().join(LIBRARY_FILE));
        if path.is_file() { Ok(path) } else { Err(InferenceError::MissingLibrary { path }) }
    }
}

/// The folder that `make setup` fills: `$DIH_TOOLS`, or the nearest `.tools` at or above the working folder or the
/// running program.
pub fn tools_dir() -> Option<PathBuf> {
    if let Some(named) = env::var_os("DIH_TOOLS").filter(|v| !v.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let above = |from: PathBuf| from.ancestors().map(|dir: &Path| dir.join(".tools")).find(|dir| dir.is_dir());
    let working = env::current_dir().ok().and_then(above);
    working.or_else(|| env::current_exe().ok().and_then(above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: Config, want: &[&str]) {
        let mut faults = Faults::default();
        config.check(&mut faults);
        let paths: Vec<_> = faults.into_vec().into_iter().map(|f| f.path).collect();
        assert_eq!(paths, want);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        check(Config::default(), &[]);
        check(Config { batch_max: 128, ..Config::default() }, &["inference.queue_max"]);
        let all_wrong = Config {
            sessions: 300,
            batch_max: 2000,
            batch_age: HumanDuration::secs(2),
            queue_max: 0,
            ..Config::default()
        };
        check(all_wrong, &["inference.sessions", "inference.batch_max", "inference.batch_age", "inference.queue_max"]);
    }

    #[test]
    fn a_library_that_is_not_there_is_named_with_the_remedy() {
        let config = Config { library: Some("/nowhere/libonnxruntime.so".into()), ..Config::default() };
        let error = config.library_path().expect_err("there is no such file").to_string();
        assert!(error.contains("/nowhere/libonnxruntime.so") && error.contains("make setup"), "{error}");
    }
}
