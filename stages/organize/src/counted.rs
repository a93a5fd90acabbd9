//! Counts curated photos by label, for people who wait for thousands of one thing.
//!
//! Keeps    the labels it has counted: a metric's labels must be a closed set, so those beyond [`LABELS_MAX`] are one.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use dih_core::{Label, metrics as names};

const LABELS_MAX: usize = 500;
const OTHER: &str = "other";

#[derive(Debug, Default)]
pub(crate) struct Counted {
    labels: Mutex<BTreeSet<Label>>,
}

impl Counted {
    /// One photo, by its first label.
    pub(crate) fn count(&self, labels: &[Label]) {
        if let Some(label) = labels.first() {
            metrics::counter!(names::CURATED, "label" => self.name_of(label)).increment(1);
        }
    }

    fn name_of(&self, label: &Label) -> String {
        let mut known = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < LABELS_MAX {
            known.insert(label.clone());
        }
        known.get(label).map_or(OTHER, Label::as_str).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_most_are_counted_together() {
        let counted = Counted::default();
        let label = |n: usize| Label::new(format!("label {n}")).expect("valid");
        let names: BTreeSet<String> = (0..2 * LABELS_MAX).map(|n| counted.name_of(&label(n))).collect();
        assert_eq!(names.len(), LABELS_MAX + 1);
        assert_eq!(counted.name_of(&label(0)), "label 0");
        assert_eq!(counted.name_of(&label(LABELS_MAX)), OTHER);
    }
}
