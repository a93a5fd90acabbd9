//! Where the tools and the shared data lie.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    env,
    path::{Path, PathBuf},
};

use dih_inference::{Config, LIBRARY_FILE, Manifest, Provider};

fn above(folder: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|dir| dir.join(folder)).find(|dir| dir.is_dir())
}

/// The folder `make setup` fills. A test cannot do without.
pub(crate) fn tools() -> PathBuf {
    let named = env::var_os("DIH_TOOLS").map(PathBuf::from);
    let tools = named.or_else(|| above(".tools")).expect("no tools folder; run `make setup`");
    assert!(tools.join(LIBRARY_FILE).is_file(), "no {LIBRARY_FILE} in {}; run `make setup`", tools.display());
    tools
}

/// The folder beside the repository with photos and golden values; a test without it says so and passes.
pub(crate) fn shared() -> Option<PathBuf> {
    let data = above("shared/data");
    if data.is_none() {
        eprintln!("skipped: no shared/data above this crate");
    }
    data.map(|data| data.parent().expect("data lies in shared").to_owned())
}

/// What the models run on: the CPU, or what `DIH_TEST_PROVIDER` names.
pub(crate) fn provider() -> Provider {
    match env::var("DIH_TEST_PROVIDER").unwrap_or_default().as_str() {
        "" | "cpu" => Provider::Cpu,
        other => {
            assert_eq!(other, "cuda", "DIH_TEST_PROVIDER is `cpu` or `cuda`");
            Provider::Cuda
        }
    }
}

/// Batches of one unless a test asks for more, as is the default on the CPU.
pub(crate) fn config() -> Config {
    let library = match provider() {
        Provider::Cpu => tools().join(LIBRARY_FILE),
        _ => tools().join("lib-cuda").join(Path::new(LIBRARY_FILE).file_name().expect("a file")),
    };
    Config { library: Some(library), provider: provider(), sessions: 2, batch_max: 1, ..Config::default() }
}

pub(crate) fn manifest_path(name: &str) -> PathBuf {
    above("config/models").expect("the repository has its manifests").join(format!("{name}.toml"))
}

pub(crate) const DEFAULT: &str = "efficientnet-lite0-int8";

/// The default model.
pub(crate) fn manifest() -> Manifest {
    named(DEFAULT)
}

pub(crate) fn fp32() -> Manifest {
    named("efficientnet-lite0-fp32")
}

fn named(name: &str) -> Manifest {
    Manifest::load(&manifest_path(name), &tools().join("models")).expect("run `make setup`")
}
