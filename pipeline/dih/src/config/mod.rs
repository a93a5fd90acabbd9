//! One configuration for all parts.
//!
//! Takes    `--config FILE` (or DIH_CONFIG), else `dih.toml` in the home folder, else nothing.
//! Gives    settings without a fault, or all faults with their paths and hints; a faulty file stops every command.

mod broker;
mod index;
mod print;
mod read;
mod stores;
mod telemetry;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use dih_core::{
    calibration::Calibrations,
    config::{Fault, Faults},
    device::Quota,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::broker::{Broker, Devices};
pub use self::index::{Qdrant, Served};
pub use self::print::print;
pub use self::read::read;
pub use self::stores::{S3, Stores};
pub use self::telemetry::{LogFormat, Telemetry};
use crate::problem::{OrProblem, Problem};

/// Settings of Deep Images Hub.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The message broker: an embedded one by default.
    pub broker: Broker,
    /// What every device may send within an hour of the broker's clock; `dih device` says otherwise for one. What is over it
    /// is answered `over_quota`. Left out, there is no limit.
    pub devices: Quota,
    /// Where pictures and the index lie.
    pub stores: Stores,
    /// The pre-trained model that looks at every picture.
    pub model: Model,
    /// The labels that are known, and their hierarchy. Left out, a label is only its name.
    pub taxonomy: dih_taxonomy::Config,
    /// How models are run.
    pub inference: dih_inference::Config,
    /// How every stage takes work.
    pub runner: dih_runner::RunnerConfig,
    /// Versions that are cut and models that are trained, when a command asks for them.
    pub jobs: Jobs,
    /// How two pictures are proven to show the same shot; dedupe and cluster use it.
    pub repeats: Repeats,
    /// The first stage: checks, decodes, measures and stores uploads.
    pub ingest: dih_ingest::Config,
    /// Finds repeats by content and fingerprint.
    pub dedupe: dih_dedupe::Config,
    /// Holds pictures against the rules of quality, and labels against the classifier.
    pub verify: dih_verify::Config,
    /// Finds repeats by vector, and groups of pictures that look alike.
    pub cluster: dih_cluster::Config,
    /// Publishes pictures and cuts versions of data sets.
    pub organize: dih_organize::Config,
    /// Trains a classifier on a version.
    pub train: dih_train::Config,
    /// What a process tells of itself. Metrics are asked for: `dih run --listen`.
    pub telemetry: Telemetry,
    /// Measured errors of thresholds, by the path of the setting. Written by `dih calibrate --accept`; they go into the
    /// lineage of every decision by that threshold, as long as it has the value that they were measured at.
    pub calibration: Calibrations,
}

/// The pre-trained model that looks at every picture.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// A built-in model, or the manifest file of another. Left out, `efficientnet-lite0-int8`; on a GPU, and for a
    /// collection begun with it, `efficientnet-lite0-fp32`. Vectors of different models are never compared.
    pub manifest: Option<PathBuf>,
    /// A model that tells unsafe pictures, which verify then refuses above `verify.unsafe_max`: `open-nsfw`, which
    /// `tools/setup safety` fetches, or the manifest file of one with a class called `unsafe`. Left out, none is asked.
    pub safety: Option<PathBuf>,
    /// Folder that holds the model files. Left out, the one that `make setup` filled is found.
    pub folder: Option<PathBuf>,
    /// CSV that says which labels the classes stand for (`class,name,label`). Left out, that of the built-in model.
    pub class_map: Option<PathBuf>,
}

/// Versions that are cut and models that are trained, when a command asks for them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// Whether other processes do them. `dih datasets cut` and `dih train` then only ask and wait, however long; else they
    /// do the work themselves where no process owns the home.
    pub elsewhere: bool,
}

/// How two pictures are proven to show the same shot.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Repeats {
    /// Pictures whose features stay in memory, 22 kB each. Those of others are read from the blob store.
    pub cached: NonZeroUsize,
    /// What two pictures must share.
    pub confirm: dih_imaging::confirm::Policy,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { cached: NonZeroUsize::new(2_048).expect("not zero"), confirm: dih_imaging::confirm::Policy::default() }
    }
}

impl Config {
    /// Collects every fault, with its path and a hint, before anything connects.
    pub fn check(&self, faults: &mut Faults) {
        self.broker.check(faults);
        self.stores.check(faults);
        self.inference.check(faults);
        self.runner.check("runner", faults);
        self.repeats.confirm.check("repeats.confirm", faults);
        self.ingest.check(faults);
        self.dedupe.check(faults);
        self.verify.check(faults);
        self.cluster.check(faults);
        self.organize.check(faults);
        self.train.check(faults);
        self.telemetry.check(faults);
        self.calibration.check(faults);
    }

    /// Reads and checks a text.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let config: Self = read(text)?;
        let mut faults = Faults::default();
        config.check(&mut faults);
        if faults.is_empty() { Ok(config) } else { Err(faults.into_vec()) }
    }

    /// Reads the file of this run, if there is one.
    pub fn load(home: &Path, named: Option<&Path>) -> anyhow::Result<Self> {
        let own = home.join("dih.toml");
        let path = match named {
            Some(path) => path,
            None if own.is_file() => &own,
            None => return Ok(Self::default()),
        };
        let what = format!("could not read the configuration `{}`", path.display());
        let text = fs::read_to_string(path);
        let text = text.map_err(|e| {
            anyhow::Error::from(e).context(Problem::usage(what, "name a file that is there with `--config FILE`"))
        })?;
        Self::parse(&text).map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            let what =
                format!("the configuration `{}` has {} fault(s):{}", path.display(), faults.len(), lines.concat());
            Problem::usage(what, "correct the file; `dih config check` looks again").into()
        })
    }

    /// As `config/dih.toml` and `dih config print` show it.
    pub fn print(&self) -> anyhow::Result<String> {
        let body = print(self).or_problem("could not print the configuration", "")?;
        Ok(format!("{HEAD}{body}"))
    }
}

const HEAD: &str = "\
# Settings of Deep Images Hub, all with their defaults. Printed by `dih config print`; do not edit this copy, but put
# what you want otherwise into `dih.toml` in the home folder, or into a file named by `--config` or DIH_CONFIG.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault_and_read_back() {
        let text = Config::default().print().expect("prints");
        let again = Config::parse(&text).expect("the printed defaults have no fault");
        assert_eq!(again.print().expect("prints"), text);
    }

    #[test]
    fn the_file_in_the_repository_is_what_the_code_prints() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/dih.toml");
        let found = fs::read_to_string(&path).expect("config/dih.toml is in the repository");
        let wanted = Config::default().print().expect("prints");
        assert!(found == wanted, "write it anew: `cargo run -p dih -- config print --defaults > config/dih.toml`");
    }

    #[test]
    fn every_setting_has_a_comment() {
        let text = Config::default().print().expect("prints");
        let lines: Vec<&str> = text.lines().collect();
        let is_comment = |line: &str| line.starts_with("# ");
        for (n, line) in lines.iter().enumerate().filter(|(_, l)| !l.is_empty() && !is_comment(l)) {
            assert!(n > 0 && is_comment(lines[n - 1]), "`{line}` has no comment");
        }
    }

    #[test]
    fn faults_of_all_parts_are_found_and_named() {
        let faults = Config::parse("[broker]\nreplicas = 2\n[dedupe]\ncandidates_max = 0\n").expect_err("two faults");
        let paths: Vec<&str> = faults.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["broker.replicas", "dedupe.candidates_max"]);
    }

    #[test]
    fn a_faulty_file_stops_the_start_with_exit_code_2() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("dih.toml"), "[brokr]\n").expect("writable");
        let error = Config::load(dir.path(), None).expect_err("a fault");
        let problem = error.downcast_ref::<Problem>().expect("a problem");
        assert_eq!(problem.exit, crate::problem::Exit::Usage);
        assert!(problem.what.contains("`brokr` is no setting; perhaps `broker` is meant"), "{}", problem.what);
    }
}
