//! Where the pre-trained model lies, and what it is.
//!
//! Takes    the configuration and the tools folder. Gives a checked manifest: its file is there and has its hash.
//! Keeps    a copy of the built-in manifest below `models/` of the home, so that a person can read what is used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dih_core::event::VectorSpace;
use dih_inference::{Manifest, Provider};
use dih_taxonomy::{Taxonomy, map, witness::Witness};

use crate::{
    config,
    problem::{OrProblem, Problem},
    vision::UNSAFE,
};

/// The models that come with the program: their names, and the texts of their manifests. The first is used when none is
/// named.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("efficientnet-lite0-int8", include_str!("../../../config/models/efficientnet-lite0-int8.toml")),
    ("efficientnet-lite0-fp32", include_str!("../../../config/models/efficientnet-lite0-fp32.toml")),
];

/// The safety models that come with the program; none is used when none is named.
const SAFETY: [(&str, &str); 1] = [("open-nsfw", include_str!("../../../config/models/open-nsfw.toml"))];

/// What to do when the model or the library is not there.
pub const MAKE_SETUP: &str = "run `make setup`, or name the files in the configuration (`dih config print`)";

/// What to do where the model cannot be run.
pub fn remedy(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => MAKE_SETUP,
        Provider::Cuda | Provider::TensorRt => "mend the GPU, or set `inference.provider` to `cpu`",
    }
}

/// Manifest and model folder of this run, as paths.
pub fn places(home: &Path, model: &config::Model) -> anyhow::Result<(PathBuf, PathBuf)> {
    Ok((chosen(home, model.manifest.as_deref())?, folder(model)?))
}

fn folder(model: &config::Model) -> anyhow::Result<PathBuf> {
    let tools = || dih_inference::tools_dir().map(|tools| tools.join("models"));
    let folder = model.folder.clone().or_else(tools);
    Ok(folder.ok_or_else(|| Problem::new("there is no folder of models", MAKE_SETUP))?)
}

/// The manifest of this run; its file has been held against its hash.
pub fn manifest(home: &Path, model: &config::Model) -> anyhow::Result<Manifest> {
    let (manifest, folder) = places(home, model)?;
    Manifest::load(&manifest, &folder).or_problem("the model cannot be used", MAKE_SETUP)
}

/// What to do when the safety model is not there.
pub const SETUP_SAFETY: &str = "run `tools/setup safety`, or leave out `model.safety`";

/// The manifest of the safety model, and which of its classes counts; None where the configuration names none.
pub fn safety(home: &Path, model: &config::Model) -> anyhow::Result<Option<(Manifest, usize)>> {
    let Some(named) = &model.safety else { return Ok(None) };
    let path = known(home, "model.safety", named, &SAFETY)?;
    let manifest =
        Manifest::load(&path, &folder(model)?).or_problem("the safety model cannot be used", SETUP_SAFETY)?;
    let classes = manifest.labels().or_problem("the safety model's classes cannot be read", SETUP_SAFETY)?;
    let class = classes.iter().position(|class| class == UNSAFE);
    let what =
        || Problem::usage(format!("`{}` has no class called `{UNSAFE}`", manifest.name), "name it in its `labels`");
    let class = class.ok_or_else(what)?;
    Ok(Some((manifest, class)))
}

/// Hex digits of a file's hash that tell versions of a model apart.
const VERSION_DIGITS: usize = 8;

/// Where its vectors live in the index: another file is another space, whatever it is called.
pub fn space(manifest: &Manifest) -> anyhow::Result<(VectorSpace, usize)> {
    let what = || Problem::new(format!("the model `{}` gives no embedding", manifest.name), "choose another model");
    let embedding = manifest.outputs.embedding.as_ref().ok_or_else(what)?;
    let Manifest { name, precision, sha256, .. } = manifest;
    Ok((VectorSpace(format!("{name}-{precision}-{}", &sha256[..VERSION_DIGITS])), embedding.dim))
}

/// Class map of the built-in model onto the labels of Open Images; see `docs/open-images.md`.
const BUILT_IN_MAP: &str = include_str!("../../../config/models/imagenet1k-openimages.csv");

/// Which classes of the model speak for which labels: by its class map and the taxonomy.
pub fn witness(manifest: &Manifest, model: &config::Model, taxonomy: Option<&Taxonomy>) -> anyhow::Result<Witness> {
    const REMEDY: &str = "correct `model.class_map`; `dih taxonomy map` makes one";
    let Some(classes) = manifest.outputs.logits.as_ref().map(|logits| logits.dim) else {
        return Ok(Witness::default());
    };
    let is_built_in = |named: &PathBuf| BUILT_IN.iter().any(|(name, _)| named == Path::new(name));
    let map = match &model.class_map {
        Some(path) => map::read(path, classes).or_problem("the class map cannot be used", REMEDY)?,
        None if !model.manifest.as_ref().is_none_or(is_built_in) => Vec::new(),
        None => map::parse(BUILT_IN_MAP.as_bytes(), classes)
            .map_err(|(line, problem)| anyhow::anyhow!("the built-in class map, line {line} {problem}"))?,
    };
    let labels = map::labels(&map, taxonomy).map_err(|problem| Problem::usage(problem, REMEDY))?;
    Ok(Witness::new(&labels, taxonomy))
}

/// The manifest of a built-in model, or the file that is named.
fn chosen(home: &Path, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let Some(named) = named else { return built_in(&home.join("models"), BUILT_IN[0]) };
    known(home, "model.manifest", named, &BUILT_IN)
}

/// The manifest of one of these models, or the file that is named.
fn known(home: &Path, setting: &str, named: &Path, models: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
    match models.iter().find(|(name, _)| named == Path::new(name)) {
        Some(model) => built_in(&home.join("models"), *model),
        None if named.is_file() => Ok(named.to_owned()),
        None => {
            let names = models.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            let what = format!("`{}` (`{setting}`) is no file and no built-in model", named.display());
            Err(Problem::new(what, format!("name {names}, or the file of a manifest")).into())
        }
    }
}

fn built_in(folder: &Path, (name, text): (&str, &str)) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{name}.toml"));
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
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = chosen(home.path(), None).expect("writes");
        fs::write(&path, "old").expect("writable");
        chosen(home.path(), None).expect("mends");
        assert_eq!(fs::read_to_string(&path).expect("is there"), BUILT_IN[0].1);
        assert_eq!(fs::read_dir(home.path().join("models")).expect("is there").count(), 1);
    }

    #[test]
    fn a_model_is_named_by_its_built_in_name_or_by_its_file() {
        let home = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in BUILT_IN {
            let path = chosen(home.path(), Some(Path::new(name))).expect("is built in");
            assert_eq!(fs::read_to_string(&path).expect("is there"), text);
            assert_eq!(chosen(home.path(), Some(&path)).expect("is a file"), path);
        }
        let error = chosen(home.path(), Some(Path::new("resnet"))).expect_err("there is none").to_string();
        assert!(error.contains("`resnet`"), "{error}");
    }

    #[test]
    fn a_safety_model_that_is_not_there_is_named_with_the_remedy() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let model = |named: Option<&str>| config::Model {
            safety: named.map(PathBuf::from),
            folder: Some(home.path().join("nothing")),
            ..config::Model::default()
        };
        assert!(safety(home.path(), &model(None)).expect("none is named").is_none());
        let error = safety(home.path(), &model(Some("open-nsfw"))).expect_err("is not there");
        let problem = error.downcast_ref::<Problem>().expect("a problem");
        assert!(problem.remedy.contains("tools/setup safety"), "{problem:?}");
        let error = safety(home.path(), &model(Some("nudenet"))).expect_err("there is none").to_string();
        assert!(error.contains("`nudenet` (`model.safety`)"), "{error}");
    }

    #[test]
    fn a_model_s_vectors_are_called_as_it_is_and_by_its_file() {
        let space_of = |text: &str| {
            let manifest: Manifest = toml::from_str(text).expect("a manifest");
            space(&manifest).expect("it has an embedding").0.0
        };
        for (name, text) in BUILT_IN {
            let own = space_of(text);
            assert!(own.starts_with(&format!("{name}-")), "{own}");
            assert_ne!(space_of(&text.replacen("sha256 = \"", "sha256 = \"0", 1)), own);
            assert_eq!(space_of(&text.replacen("Apache-2.0", "MIT", 1)), own);
        }
    }
}
