//! The image index: claims, fingerprints, vectors and states.
//!
//! The rules that all adapters share stand here; how each keeps its records stands in its own file.

#[cfg(feature = "edge")]
pub mod edge;
mod memory;
#[cfg(feature = "qdrant")]
pub mod qdrant;

#[cfg(feature = "edge")]
pub use edge::EdgeIndex;
pub use memory::MemoryIndex;
#[cfg(feature = "qdrant")]
pub use qdrant::QdrantIndex;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use dih_core::{
    ImageId, Label, UploadSeq,
    event::VectorSpace,
    ports::{Counted, Facet, NearFingerprint, NearVector, Select, StoreError},
    record::{Change, Record, State},
};

use crate::fault;

const STORE: &str = "index";

/// How far a cosine may miss `cosine_min` and still count: what adding 1,280 rounded products may lose.
const COSINE_TOLERANCE: f32 = 1e-5;

fn not_found(id: ImageId) -> StoreError {
    StoreError::NotFound { store: STORE, key: id.to_string() }
}

/// Whether a compare-and-set may change a record as it is. What begins an epoch was decided in the one before.
fn may_change(record: &Record, from: &[State], change: &Change) -> bool {
    from.contains(&record.state) && change.epoch.is_none_or(|epoch| record.epoch.next() == epoch)
}

fn apply(record: &mut Record, change: &Change) {
    let Change { state, epoch, repeat, label_score, space, cluster, reason, prior, image } = change.clone();
    record.state = state.unwrap_or(record.state);
    record.epoch = epoch.unwrap_or(record.epoch);
    record.repeat = repeat.unwrap_or(record.repeat.take());
    record.label_score = label_score.or(record.label_score);
    record.space = space.or(record.space.take());
    record.cluster = cluster.or(record.cluster);
    record.reason = reason.or(record.reason.take());
    record.prior = prior.or(record.prior);
    if let Some(image) = image {
        record.image = image;
    }
}

/// Adds labels to the votes of an upload. False when nothing changed: all are known, or it is the holder's own upload.
fn add_vote(record: &mut Record, upload: UploadSeq, labels: &[Label]) -> bool {
    if upload == record.upload() {
        return false;
    }
    let mut changed = !record.votes.contains_key(&upload);
    let known = record.votes.entry(upload).or_default();
    for label in labels {
        if !known.contains(label) {
            known.push(label.clone());
            changed = true;
        }
    }
    changed
}

fn matches(select: &Select, record: &Record) -> bool {
    let Select { states, labels, attributes } = select;
    (states.is_empty() || states.contains(&record.state))
        && (labels.is_empty() || labels.iter().any(|l| record.image.labels.contains(l)))
        && attributes.iter().all(|(key, value)| record.image.attributes.get(key) == Some(value))
}

/// The vector scaled to length 1. One that has no direction (zero, not finite) is refused as unreadable.
fn normalised(id: impl ToString, vector: &[f32]) -> Result<Vec<f32>, StoreError> {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length < f64::from(f32::MIN_POSITIVE) {
        return Err(fault::corrupt(STORE, id, "the vector has no direction: it is zero or not finite"));
    }
    Ok(vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

/// Whether it is one of these spaces, and a vector of it has so many numbers.
fn check_space(known: &[(VectorSpace, usize)], space: &VectorSpace, length: Option<usize>) -> Result<(), StoreError> {
    let found = known.iter().find(|(name, _)| name == space);
    let (_, want) = found.ok_or_else(|| unknown_space(space, known))?;
    match length {
        Some(got) if got != *want => Err(wrong_length(space, got, *want)),
        _ => Ok(()),
    }
}

/// What a record is counted by: of an attribute its key, and the value.
type FacetValue = (Option<String>, String);

/// Each once.
fn values(by: Facet, record: &Record) -> BTreeSet<FacetValue> {
    match by {
        Facet::State => [(None, record.state.as_str().to_owned())].into(),
        Facet::Label => record.image.labels.iter().map(|label| (None, label.to_string())).collect(),
        Facet::Attribute => {
            record.image.attributes.clone().into_iter().map(|(key, value)| (Some(key), value)).collect()
        }
    }
}

/// Ranks counted values, however many there are, in memory for as many as are wanted.
#[derive(Debug)]
struct MostFrequent {
    wanted: usize,
    ranked: BTreeSet<(Reverse<u64>, FacetValue)>,
}

impl MostFrequent {
    fn new(wanted: usize) -> Self {
        Self { wanted, ranked: BTreeSet::new() }
    }

    /// A value is added once.
    fn add(&mut self, value: FacetValue, records: u64) {
        if records > 0 {
            self.ranked.insert((Reverse(records), value));
        }
        if self.ranked.len() > self.wanted {
            self.ranked.pop_last();
        }
    }

    fn sorted(self) -> Vec<Counted> {
        let counted = |(Reverse(records), (key, value))| Counted { key, value, records };
        self.ranked.into_iter().map(counted).collect()
    }
}

/// Counts the values of records that are read one by one.
#[derive(Debug, Default)]
struct Tally(BTreeMap<FacetValue, u64>);

impl Tally {
    fn add(&mut self, by: Facet, record: &Record) {
        values(by, record).into_iter().for_each(|value| *self.0.entry(value).or_default() += 1);
    }

    fn most_frequent(self, wanted: usize) -> Vec<Counted> {
        let mut most = MostFrequent::new(wanted);
        self.0.into_iter().for_each(|(value, records)| most.add(value, records));
        most.sorted()
    }
}

/// So many of the nearest, nearest first.
fn nearest_prints(mut near: Vec<NearFingerprint>, limit: usize) -> Vec<NearFingerprint> {
    near.sort_by_key(|n| (n.distance, n.record.order(), n.record.id()));
    near.truncate(limit);
    near
}

/// Of these the nearest, of at least this cosine; of equally near ones the first one uploaded.
fn nearest_first(mut near: Vec<NearVector>, cosine_min: f32, limit: usize) -> Vec<NearVector> {
    near.retain(|near| is_near(near.cosine, cosine_min));
    near.sort_by(|a, b| {
        b.cosine.total_cmp(&a.cosine).then_with(|| (a.image.order, a.image.id).cmp(&(b.image.order, b.image.id)))
    });
    near.truncate(limit);
    near.iter_mut().for_each(|near| near.cosine = near.cosine.clamp(-1.0, 1.0));
    near
}

fn is_near(cosine: f32, cosine_min: f32) -> bool {
    cosine + COSINE_TOLERANCE >= cosine_min
}

fn unknown_space(space: &VectorSpace, known: &[(VectorSpace, usize)]) -> StoreError {
    let names: Vec<_> = known.iter().map(|(space, _)| format!("`{}`", space.0)).collect();
    let remedy = format!("use one of the spaces it was opened with: {}", names.join(", "));
    fault::refused(STORE, format!("use the vector space `{}`", space.0), remedy)
}

fn wrong_length(space: &VectorSpace, got: usize, want: usize) -> StoreError {
    let action = format!("take a vector of {got} numbers for the space `{}`, which has {want}", space.0);
    fault::refused(STORE, action, "use the embedding model that the space is named after")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_of_more_values_than_are_kept_are_found() {
        let values = 3_000;
        let mut most = MostFrequent::new(3);
        (0..values).for_each(|n| most.add((None, format!("{n:05}")), 1 + n * 7 % values)); // each count once
        let found: Vec<_> = most.sorted().into_iter().map(|Counted { value, records, .. }| (value, records)).collect();
        let wanted = |records: u64| (0..values).find(|n| 1 + n * 7 % values == records).expect("one has it");
        let wanted = [values, values - 1, values - 2].map(|records| (format!("{:05}", wanted(records)), records));
        assert_eq!(found, wanted);
    }
}
