//! Named data sets: what each selects, and which version is its latest.
//!
//! Keeps  in the small state, `datasets.<name>.definition` (what to select), `datasets.<name>.head` (the latest version
//!        and the requests that made the last ones) and `datasets.<name>.cutting` (who is at work on the next one).
//! Crash  safe: each is changed by compare-and-set, and a version is visible only once the head names it.

use std::collections::BTreeMap;

use bytes::Bytes;
use dih_core::{
    BlobKey, Class, Classify, DatasetName, Label, Millis, VersionId,
    ids::InvalidId,
    ports::{SmallState, StoreError},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::splits::Ratios;

/// What a data set selects and how it is laid out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Definition {
    /// Photos that show any of these; empty means every label.
    pub labels: Vec<Label>,
    /// Attributes that a photo must have, for example `country = "DE"`.
    #[serde(rename = "where")]
    pub attributes: BTreeMap<String, String>,
    /// Least probability that the label fits, by the classifier. Photos that it could not judge stay.
    pub label_score_min: f32,
    /// Most photos of one cluster of look-alikes; the earliest stay.
    pub cluster_cap: Option<u32>,
    /// Largest outlier score (the column `outlier` of the manifest), 0 to 1; photos without a score stay.
    pub outlier_max: Option<f32>,
    /// Only this many photos, the most different ones of all; those without a vector are left out.
    pub diverse: Option<u32>,
    /// Only this many photos of each label, the most different ones of it; by their primary label.
    pub diverse_per_label: Option<u32>,
    /// Which copy of a repeated photo is published.
    pub keep: Keep,
    pub splits: Ratios,
    /// Changes the draw of the splits. Photos that have a split keep it whatever this says.
    pub seed: u64,
    /// Whether photos whose label looks wrong are held back; if not, they are published with the score beside them.
    pub hold: bool,
    /// Whether WebDataset shards are written with the version.
    pub shards: bool,
    /// For the data card.
    pub title: Option<String>,
    pub description: Option<String>,
    /// Licence of the whole, an SPDX name or URL; photos may carry their own in the attribute `licence`.
    pub licence: Option<String>,
}

impl Default for Definition {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            attributes: BTreeMap::new(),
            label_score_min: 0.0,
            cluster_cap: None,
            outlier_max: None,
            diverse: None,
            diverse_per_label: None,
            keep: Keep::Earliest,
            splits: Ratios::default(),
            seed: 0,
            hold: true,
            shards: true,
            title: None,
            description: None,
            licence: None,
        }
    }
}

/// Which copy of a repeated photo is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The first to arrive.
    #[default]
    Earliest,
    /// The one with most pixels.
    Largest,
    /// The one with the highest measured sharpness.
    Sharpest,
}

/// The latest version of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// 0 before the first.
    pub version: u32,
    /// `version.json` of the latest version, which lists all its files.
    pub index: Option<BlobKey>,
    /// The last versions and who asked for them, newest last, so that a request that comes again finds its version.
    pub recent: Vec<Cut>,
}

/// A version and the request that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    pub version: u32,
    pub request: String,
    pub at: Millis,
}

/// Requests that the head remembers.
const RECENT_MAX: usize = 64;

impl Head {
    /// The version that this request made, if it did.
    pub fn made_by(&self, request: &str) -> Option<&Cut> {
        self.recent.iter().find(|cut| cut.request == request)
    }

    pub(crate) fn advanced(&self, request: &str, index: BlobKey, at: Millis) -> Self {
        let version = self.version + 1;
        let mut recent = self.recent.clone();
        recent.push(Cut { version, request: request.into(), at });
        recent.drain(..recent.len().saturating_sub(RECENT_MAX));
        Self { version, index: Some(index), recent }
    }
}

/// A data set by name, as `dih datasets ls` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub name: DatasetName,
    pub definition: Definition,
    pub head: Option<Head>,
}

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("there is no data set `{name}`; make it with `dih datasets create {name}`")]
    Unknown { name: DatasetName },
    #[error("there is a data set `{name}` already, with another definition; choose another name")]
    Taken { name: DatasetName },
    #[error("data set `{name}` has no version {version}; `dih datasets show {name}` lists them")]
    NoVersion { name: DatasetName, version: u32 },
    #[error("the definition of `{name}` cannot be used: {problem}")]
    Definition { name: DatasetName, problem: String },
    #[error("`{key}` of the small state is unreadable; it may stem from another release")]
    Unreadable { key: String, source: serde_json::Error },
    #[error("`{what}` gives no valid blob key")]
    Key { what: String, source: InvalidId },
    #[error("could not reach the small state for `{key}`")]
    State { key: String, source: StoreError },
}

impl Classify for DatasetError {
    fn class(&self) -> Class {
        match self {
            Self::State { source, .. } => source.class(),
            Self::Unreadable { .. } => Class::Halt,
            Self::Unknown { .. } | Self::Taken { .. } | Self::NoVersion { .. } => Class::BadInput,
            Self::Definition { .. } | Self::Key { .. } => Class::BadInput,
        }
    }
}

/// Makes a data set. Making the same one twice is fine.
pub async fn create(state: &dyn SmallState, name: &DatasetName, definition: &Definition) -> Result<(), DatasetError> {
    check(name, definition)?;
    let key = definition_key(name);
    let value = encode(&key, definition)?;
    let written = state.create(&key, value).await.map_err(|source| DatasetError::State { key, source })?;
    if written.is_none() && self::definition(state, name).await? != *definition {
        return Err(DatasetError::Taken { name: name.clone() });
    }
    Ok(())
}

/// All data sets, by name.
pub async fn list(state: &dyn SmallState) -> Result<Vec<Summary>, DatasetError> {
    let prefix = "datasets.";
    let keys = state.keys(prefix).await;
    let keys = keys.map_err(|source| DatasetError::State { key: prefix.into(), source })?;
    let names = keys.iter().filter_map(|key| key.strip_prefix(prefix)?.strip_suffix(".definition"));
    let mut found = Vec::new();
    for name in names.filter_map(|name| DatasetName::new(name).ok()) {
        found.push(show(state, &name).await?);
    }
    Ok(found)
}

/// One data set with its definition and its latest version.
pub async fn show(state: &dyn SmallState, name: &DatasetName) -> Result<Summary, DatasetError> {
    let definition = definition(state, name).await?;
    Ok(Summary { name: name.clone(), definition, head: head(state, name).await? })
}

/// What a data set selects.
pub async fn definition(state: &dyn SmallState, name: &DatasetName) -> Result<Definition, DatasetError> {
    let found = read(state, &definition_key(name)).await?;
    found.map(|(definition, _)| definition).ok_or_else(|| DatasetError::Unknown { name: name.clone() })
}

/// The latest version; None before the first.
pub async fn head(state: &dyn SmallState, name: &DatasetName) -> Result<Option<Head>, DatasetError> {
    Ok(read(state, &head_key(name)).await?.map(|(head, _)| head))
}

/// `NAME` is its latest version, `NAME@V` the one it names, if it is published.
pub async fn resolve(state: &dyn SmallState, text: &str) -> Result<VersionId, DatasetError> {
    let wrong = |source| DatasetError::Key { what: text.into(), source };
    let (name, version) = match text.contains('@') {
        true => text.parse().map(|id: VersionId| (id.dataset, Some(id.version))).map_err(wrong)?,
        false => (DatasetName::new(text).map_err(wrong)?, None),
    };
    definition(state, &name).await?;
    let latest = head(state, &name).await?.map_or(0, |head| head.version);
    let version = version.unwrap_or(latest.max(1));
    match (1..=latest).contains(&version) {
        true => Ok(VersionId { dataset: name, version }),
        false => Err(DatasetError::NoVersion { name, version }),
    }
}

fn check(name: &DatasetName, definition: &Definition) -> Result<(), DatasetError> {
    let problem = if !definition.splits.are_shares() {
        "the shares of the splits must add up to 1, for example train 0.8, val 0.1, test 0.1"
    } else if !(0.0..=1.0).contains(&definition.label_score_min) {
        "`label_score_min` must be between 0 and 1"
    } else if definition.cluster_cap == Some(0) {
        "`cluster_cap` must be at least 1"
    } else if definition.diverse == Some(0) || definition.diverse_per_label == Some(0) {
        "`diverse` and `diverse_per_label` must be at least 1"
    } else if definition.diverse.is_some() && definition.diverse_per_label.is_some() {
        "`diverse` and `diverse_per_label` cannot both be given; use one of them"
    } else if definition.outlier_max.is_some_and(|max| !(0.0..=2.0).contains(&max)) {
        "`outlier_max` must be between 0 and 2, for example 0.4"
    } else {
        return Ok(());
    };
    Err(DatasetError::Definition { name: name.clone(), problem: problem.into() })
}

fn definition_key(name: &DatasetName) -> String {
    format!("datasets.{name}.definition")
}

pub(crate) fn head_key(name: &DatasetName) -> String {
    format!("datasets.{name}.head")
}

pub(crate) fn cutting_key(name: &DatasetName) -> String {
    format!("datasets.{name}.cutting")
}

/// A value of the small state with its revision.
pub(crate) async fn read<T: DeserializeOwned>(
    state: &dyn SmallState,
    key: &str,
) -> Result<Option<(T, u64)>, DatasetError> {
    let entry = state.get(key).await.map_err(|source| DatasetError::State { key: key.into(), source })?;
    let Some(entry) = entry else { return Ok(None) };
    let value = serde_json::from_slice(&entry.value);
    let value = value.map_err(|source| DatasetError::Unreadable { key: key.into(), source })?;
    Ok(Some((value, entry.revision)))
}

/// Writes over `revision`, or where nothing is if that is None. None when somebody else was faster.
pub(crate) async fn write<T: Serialize>(
    state: &dyn SmallState,
    key: &str,
    value: &T,
    revision: Option<u64>,
) -> Result<Option<u64>, DatasetError> {
    let value = encode(key, value)?;
    let written = match revision {
        Some(revision) => state.replace(key, value, revision).await,
        None => state.create(key, value).await,
    };
    written.map_err(|source| DatasetError::State { key: key.into(), source })
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Bytes, DatasetError> {
    let bytes = serde_json::to_vec(value);
    bytes.map(Bytes::from).map_err(|source| DatasetError::Unreadable { key: key.into(), source })
}
