//! What a calibration found, kept in the home until a person accepts it.
//!
//! Keeps    `calibration-<n>.json` in the home folder; accepted, the values stand in the configuration file, and beside
//!          them, under `[calibration]`, the error at which each was measured.
//! Crash    files are written aside and renamed: a proposal or a configuration is whole or the old one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use dih_core::Millis;
use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value};

use super::choose::Error;
use crate::{
    config::Config,
    problem::{OrProblem, Problem},
};

/// All that one run of `dih calibrate` measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// `calibration-3`.
    pub id: String,
    pub at: Millis,
    /// Photos that it was measured on, and decisions of people among them.
    pub photos: u64,
    pub decisions: u64,
    pub seed: u64,
    pub settings: Vec<Setting>,
}

/// One threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its path: `verify.acuity_min`.
    pub setting: String,
    pub present: f32,
    pub at_present: Error,
    /// None where the samples do not tell good from bad.
    pub proposed: Option<f32>,
    pub at_proposed: Option<Error>,
}

/// Writes a proposal under the next free number, which becomes its id.
pub fn keep(home: &Path, mut proposal: Proposal) -> anyhow::Result<Proposal> {
    proposal.id = format!("calibration-{}", numbers(home)?.into_iter().max().unwrap_or(0) + 1);
    let path = path_of(home, &proposal.id);
    write(&path, &serde_json::to_string_pretty(&proposal)?)?;
    Ok(proposal)
}

/// The named proposal, or the newest.
pub fn load(home: &Path, id: Option<&str>) -> anyhow::Result<Proposal> {
    let newest = numbers(home)?.into_iter().max().map(|n| format!("calibration-{n}"));
    let missing = || Problem::usage("there is no such calibration in this home", "run `dih calibrate DIR` first");
    let id = id.map(str::to_owned).or(newest).ok_or_else(missing)?;
    let known = id.strip_prefix("calibration-").and_then(|n| n.parse::<u64>().ok());
    anyhow::ensure!(known.is_some(), Problem::usage(format!("`{id}` is no calibration"), "write `calibration-1`"));
    let path = path_of(home, &id);
    let text = fs::read_to_string(&path).map_err(|e| anyhow::Error::from(e).context(missing()))?;
    let what = format!("could not understand `{}`", path.display());
    serde_json::from_str(&text).or_problem(what, "run `dih calibrate DIR` again")
}

fn path_of(home: &Path, id: &str) -> PathBuf {
    home.join(format!("{id}.json"))
}

fn numbers(home: &Path) -> anyhow::Result<Vec<u64>> {
    let what = || format!("could not look into `{}`", home.display());
    let number = |name: &str| name.strip_prefix("calibration-")?.strip_suffix(".json")?.parse::<u64>().ok();
    let mut numbers = Vec::new();
    for entry in fs::read_dir(home).with_context(what)? {
        numbers.extend(entry.with_context(what)?.file_name().to_str().and_then(number));
    }
    Ok(numbers)
}

/// Writes the proposed values and their errors into the configuration file; what else stands there stays, comments too.
pub fn accept(file: &Path, proposal: &Proposal) -> anyhow::Result<()> {
    let old = if file.is_file() { fs::read_to_string(file)? } else { String::new() };
    let text = accepted(&old, proposal)?;
    write(file, &text)
}

fn accepted(old: &str, proposal: &Proposal) -> anyhow::Result<String> {
    let mut document: DocumentMut = old.parse().context("the configuration file is no TOML")?;
    for setting in &proposal.settings {
        let (Some(value), Some(error)) = (setting.proposed, &setting.at_proposed) else { continue };
        place(document.as_table_mut(), &setting.setting, value)?;
        let share = |share: Option<super::choose::Share>| share.map_or(0.0, |share| share.share);
        let mut entry = InlineTable::new();
        entry.insert("id", proposal.id.as_str().into());
        entry.insert("threshold", number(value));
        entry.insert("precision", share(error.precision).into());
        entry.insert("recall", share(error.recall).into());
        let samples = error.hits + error.false_alarms + error.misses + error.passed;
        entry.insert("samples", i64::try_from(samples).unwrap_or(i64::MAX).into());
        let known = document.entry("calibration").or_insert_with(|| Item::Table(Table::new()));
        let known = known.as_table_like_mut().context("`calibration` in the configuration file is no table")?;
        known.insert(&setting.setting, Item::Value(Value::InlineTable(entry)));
    }
    let text = document.to_string();
    let faults = |faults: Vec<_>| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect::<Vec<String>>();
        Problem::new(format!("the values do not fit the configuration: {}", all.join("; ")), "correct the file first")
    };
    Config::parse(&text).map_err(|found: Vec<dih_core::config::Fault>| faults(found))?;
    Ok(text)
}

/// Sets `a.b.c`; tables that are missing are made.
fn place(document: &mut Table, path: &str, value: f32) -> anyhow::Result<()> {
    let (parents, name) = path.rsplit_once('.').context("a setting stands in a section")?;
    let mut table: &mut dyn toml_edit::TableLike = document;
    for part in parents.split('.') {
        let item = table.entry(part).or_insert_with(|| Item::Table(Table::new()));
        table =
            item.as_table_like_mut().with_context(|| format!("`{part}` in the configuration file is no section"))?;
    }
    table.insert(name, Item::Value(number(value)));
    Ok(())
}

/// As many digits as a 32-bit number needs: `0.3`, not `0.30000001192092896`.
fn number(value: f32) -> Value {
    format!("{value:?}").parse::<f64>().unwrap_or_else(|_| f64::from(value)).into()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let what = format!("could not write `{}`", path.display());
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
    written.or_problem(what, "look whether the disk is full and the folder is yours")
}

#[cfg(test)]
mod tests {
    use dih_verify::Bound;

    use super::{
        super::choose::{Sample, error},
        *,
    };

    fn proposal() -> Proposal {
        let samples = [(0.1, true), (0.5, false), (0.6, false)].map(|(score, named)| Sample { score, named });
        let at = |threshold| error(&samples, Bound::AtLeast, threshold);
        let setting = Setting {
            setting: "verify.acuity_min".into(),
            present: 0.25,
            at_present: at(0.25),
            proposed: Some(0.3),
            at_proposed: Some(at(0.3)),
        };
        let id = String::new();
        Proposal { id, at: Millis(1), photos: 3, decisions: 0, seed: 1, settings: vec![setting] }
    }

    #[test]
    fn accepting_keeps_comments_and_sets_value_and_error() {
        let proposal = Proposal { id: "calibration-2".into(), ..proposal() };
        let text = accepted("# mine\n[verify]\nside_min = 80 # wide\n", &proposal).expect("fits");
        assert!(text.contains("# mine") && text.contains("# wide"), "{text}");
        let config = Config::parse(&text).expect("no fault");
        assert_eq!((config.verify.side_min, config.verify.acuity_min), (80, 0.3));
        let known = config.calibration.of("verify.acuity_min", 0.3).expect("is known");
        assert_eq!((known.id.as_str(), known.precision, known.samples), ("calibration-2", 1.0, 3));
    }

    #[test]
    fn a_faulty_file_is_left_alone() {
        assert!(accepted("verify = 3\n", &proposal()).is_err());
        assert!(accepted("[verfy]\n", &proposal()).is_err());
    }

    #[test]
    fn proposals_are_numbered_and_the_newest_is_found() {
        let home = tempfile::tempdir().expect("a temporary folder");
        assert!(load(home.path(), None).is_err());
        keep(home.path(), proposal()).expect("kept");
        let second = keep(home.path(), proposal()).expect("kept");
        assert_eq!(second.id, "calibration-2");
        assert_eq!(load(home.path(), None).expect("found"), second);
        assert_eq!(load(home.path(), Some("calibration-1")).expect("found").id, "calibration-1");
        assert!(load(home.path(), Some("../x")).is_err());
    }
}
