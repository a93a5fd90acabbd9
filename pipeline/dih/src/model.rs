//! Where the pre-trained model lies, and what it is.
//!
//! Takes    the configuration and the tools folder. Gives a checked manifest: its file is there and has its hash.
//! Keeps    a copy of the built-in manifest below `models/` of the home, so that a person can read what is used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dih_core::event::VectorSpace;
use dih_inference::Manifest;

use crate::{
    config,
    problem::{OrProblem, Problem},
};

/// The model that is used when none is named: file name and text of its manifest.
pub const BUILT_IN: (&str, &str) =
    ("efficientnet-lite0.toml", include_str!("../../../config/models/efficientnet-lite0.toml"));

/// What to do when the model or the library is not there.
pub const MAKE_SETUP: &str = "run `make setup`, or name the files in the configuration (`dih config print`)";

/// Manifest and model folder of this run, as paths.
pub fn places(home: &Path, model: &config::Model) -> anyhow::Result<(PathBuf, PathBuf)> {
    let tools = || dih_inference::tools_dir().map(|tools| tools.join("models"));
    let folder = model.folder.clone().or_else(tools);
    let folder = folder.ok_or_else(|| Problem::new("there is no folder of models", MAKE_SETUP))?;
    let manifest = match &model.manifest {
        Some(manifest) => manifest.clone(),
        None => built_in(&home.join("models"))?,
    };
    Ok((manifest, folder))
}

/// The manifest of this run; its file has been held against its hash.
pub fn manifest(home: &Path, model: &config::Model) -> anyhow::Result<Manifest> {
    let (manifest, folder) = places(home, model)?;
    Manifest::load(&manifest, &folder).or_problem("the model cannot be used", MAKE_SETUP)
}

/// Where its vectors live in the index: another model or precision is another space.
pub fn space(manifest: &Manifest) -> anyhow::Result<(VectorSpace, usize)> {
    let what = || Problem::new(format!("the model `{}` gives no embedding", manifest.name), "choose another model");
    let embedding = manifest.outputs.embedding.as_ref().ok_or_else(what)?;
    Ok((VectorSpace(format!("{}-{}", manifest.name, manifest.precision)), embedding.dim))
}

fn built_in(folder: &Path) -> anyhow::Result<PathBuf> {
    let (name, text) = BUILT_IN;
    let path = folder.join(name);
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(path);
    }
    let write = || {
        fs::create_dir_all(folder)?;
        let beside = folder.join(format!(".{name}.{}", std::process::id()));
        fs::write(&beside, text)?;
        fs::rename(&beside, &path)
    };
    let what = format!("could not write `{}`", path.display());
    write().or_problem(what, "look whether the disk is full and the home folder is yours")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifest_is_written_once_and_mended() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = built_in(dir.path()).expect("writes");
        fs::write(&path, "old").expect("writable");
        built_in(dir.path()).expect("mends");
        assert_eq!(fs::read_to_string(&path).expect("is there"), BUILT_IN.1);
        assert_eq!(fs::read_dir(dir.path()).expect("is there").count(), 1);
    }
}
