//! `stats.json`: the numbers of a version. Pure but for the counting.

use std::collections::{BTreeMap, BTreeSet};

use dih_core::{DeviceId, Label, VersionId};
use serde::Serialize;

use crate::{datasets::Definition, manifest::Row, second_look::Found, splits::Split};

/// The numbers of a version, counted while its rows are written.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Stats {
    pub(crate) version: Option<VersionId>,
    pub(crate) members: u64,
    /// Held back because the label looks wrong.
    pub(crate) held: u64,
    /// Left out: score of the label below `label_score_min`; outlier score above `outlier_max`; cluster full; too like
    /// those that were picked.
    pub(crate) below_label_score: u64,
    pub(crate) above_outlier_max: u64,
    pub(crate) beyond_cluster_cap: u64,
    pub(crate) too_alike: u64,
    /// Newcomers left out because they look like photos of two splits, which may not be joined.
    pub(crate) between_splits: u64,
    /// Photos of each label in each split; a photo of two labels counts under both.
    pub(crate) labels: BTreeMap<Label, BTreeMap<&'static str, u64>>,
    pub(crate) held_labels: BTreeMap<Label, u64>,
    pub(crate) splits: BTreeMap<&'static str, u64>,
    pub(crate) clusters: u64,
    pub(crate) largest_cluster: u64,
    pub(crate) multi_label: u64,
    /// Photos on whose labels more than one upload voted, and those where they disagreed.
    pub(crate) voted: u64,
    pub(crate) disputed: u64,
    pub(crate) without_vector: u64,
    pub(crate) licences: BTreeMap<String, u64>,
    pub(crate) authors: BTreeMap<String, u64>,
    pub(crate) devices: u64,
    /// What the second look found, where one was had.
    pub(crate) labels_judged: Option<Judged>,
    pub(crate) definition: Definition,
    #[serde(skip)]
    pub(crate) seen_devices: BTreeSet<String>,
    #[serde(skip)]
    pub(crate) seen_clusters: BTreeMap<dih_core::ImageId, u64>,
}

/// What the second look found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Judged {
    /// `p_label_wrong` from which photos are held.
    pub(crate) hold_threshold: f32,
    /// Expected share of wrong labels among those at or above it; null when there is none.
    pub(crate) expected_precision: Option<f32>,
    /// Expected share of wrong labels among all.
    pub(crate) expected_wrong: f32,
    /// Devices by how often their labels are wrong, the least reliable first.
    pub(crate) contributors: Vec<Contributor>,
}

/// How often the labels of a device are wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Contributor {
    pub(crate) device: String,
    /// Labels of it that were judged.
    pub(crate) labels: u64,
    /// Expected share of wrong ones, drawn towards the average of all as if it had 20 labels more.
    pub(crate) expected_wrong: f32,
}

/// Contributors named one by one.
const CONTRIBUTORS_MAX: usize = 1000;

impl Judged {
    pub(crate) fn of(found: &Found, devices: &[DeviceId]) -> Self {
        let named = devices.iter().zip(&found.devices).filter(|(_, rate)| rate.claims > 0.0);
        let mut contributors: Vec<Contributor> = named
            .map(|(device, rate)| Contributor {
                device: device.to_string(),
                labels: rate.claims.round() as u64,
                expected_wrong: rate.wrong as f32,
            })
            .collect();
        let least = |a: &Contributor, b: &Contributor| b.expected_wrong.total_cmp(&a.expected_wrong);
        contributors.sort_by(|a, b| least(a, b).then_with(|| a.device.cmp(&b.device)));
        contributors.truncate(CONTRIBUTORS_MAX);
        Self {
            hold_threshold: found.threshold,
            expected_precision: found.precision,
            expected_wrong: found.wrong,
            contributors,
        }
    }
}

/// Authors named one by one in the card; more are only counted.
const AUTHORS_MAX: usize = 200;

impl Stats {
    pub(crate) fn count(&mut self, row: &Row) {
        self.members += 1;
        *self.splits.entry(row.given.split.as_str()).or_default() += 1;
        for label in &row.labels {
            *self.labels.entry(label.clone()).or_default().entry(row.given.split.as_str()).or_default() += 1;
        }
        self.multi_label += u64::from(row.labels.len() > 1);
        self.voted += u64::from(row.votes > 1);
        self.disputed += u64::from(row.votes_agreeing < row.votes);
        self.without_vector += u64::from(row.vector.is_none());
        *self.licences.entry(row.licence.clone().unwrap_or_else(|| "unknown".into())).or_default() += 1;
        self.seen_devices.insert(row.device.clone());
        self.devices = self.seen_devices.len() as u64;
        let cluster = self.seen_clusters.entry(row.cluster).or_default();
        *cluster += 1;
        self.largest_cluster = self.largest_cluster.max(*cluster);
        self.clusters = self.seen_clusters.len() as u64;
    }

    pub(crate) fn count_author(&mut self, author: &str) {
        if self.authors.len() < AUTHORS_MAX || self.authors.contains_key(author) {
            *self.authors.entry(author.into()).or_default() += 1;
        }
    }

    pub(crate) fn count_held(&mut self, row: &Row) {
        self.held += 1;
        if let Some(label) = row.labels.first() {
            *self.held_labels.entry(label.clone()).or_default() += 1;
        }
    }

    /// Photos of each label.
    pub(crate) fn label_totals(&self) -> BTreeMap<Label, u64> {
        self.labels.iter().map(|(label, splits)| (label.clone(), splits.values().sum())).collect()
    }

    pub(crate) fn of(&self, label: &Label, split: Split) -> u64 {
        self.labels.get(label).and_then(|splits| splits.get(split.as_str())).copied().unwrap_or(0)
    }
}
