//! Does a label fit what the classifier sees? Known only for labels that its vocabulary holds.

use std::collections::{BTreeSet, HashMap};

use dih_core::Label;
use dih_taxonomy::witness::Witness;

/// Which classes of the classifier speak for which label.
///
/// A class speaks for a label when one of its names is the label, or ends in it (a "cowboy hat" is a hat): English
/// compounds carry their kind last. Names are compared without case, hyphens or underscores. A class map and the
/// taxonomy add to that: see [`Witness`].
#[derive(Clone, Debug)]
pub struct Vocabulary {
    classes: Vec<String>,
    by_word: HashMap<String, Vec<usize>>,
    witness: Witness,
}

/// What the classifier says about the labels of a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Plausibility {
    /// Probability of the most plausible known label; None when it knows none of them. A classifier that names one
    /// thing a photo cannot refute that there is a second one.
    pub score: Option<f32>,
    pub top_class: String,
    pub top_probability: f32,
}

impl Vocabulary {
    /// `classes`: one entry a class, its names separated by commas: `cowboy hat, ten-gallon hat`.
    pub fn new(classes: &[String]) -> Self {
        let mut by_word: HashMap<String, Vec<usize>> = HashMap::new();
        for (class, names) in classes.iter().enumerate() {
            for ending in names.split(',').flat_map(endings) {
                let speakers = by_word.entry(ending).or_default();
                if speakers.last() != Some(&class) {
                    speakers.push(class);
                }
            }
        }
        Self { classes: classes.to_vec(), by_word, witness: Witness::default() }
    }

    /// Adds what a class map and the taxonomy say.
    #[must_use]
    pub fn with(self, witness: Witness) -> Self {
        Self { witness, ..self }
    }

    /// `probabilities`: one a class, in the order of the classes; empty when the model has no classifier.
    pub fn judge(&self, labels: &[Label], probabilities: &[f32]) -> Plausibility {
        let best = probabilities.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let (top, top_probability) = best.unwrap_or_default();
        let mass = |label: &Label| {
            let named = self.by_word.get(&normal(label.as_str())).map_or(&[][..], Vec::as_slice);
            let mapped = self.witness.speakers(label).unwrap_or_default();
            let speakers: BTreeSet<usize> = named.iter().chain(mapped).copied().collect();
            (!speakers.is_empty()).then_some(())?;
            Some(speakers.iter().filter_map(|class| probabilities.get(*class)).sum::<f32>().min(1.0))
        };
        let known = labels.iter().filter_map(mass).filter(|_| !probabilities.is_empty());
        let score = known.max_by(f32::total_cmp);
        Plausibility { score, top_class: self.classes.get(top).cloned().unwrap_or_default(), top_probability }
    }
}

/// `ten-gallon hat` -> `ten gallon hat`, `gallon hat`, `hat`.
fn endings(name: &str) -> Vec<String> {
    let name = normal(name);
    let words: Vec<_> = name.split(' ').filter(|w| !w.is_empty()).collect();
    (0..words.len()).map(|from| words[from..].join(" ")).collect()
}

fn normal(name: &str) -> String {
    let spaced = name.to_lowercase().replace(['-', '_'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::new(
            &["cowboy hat, ten-gallon hat", "jean, blue jean, denim", "T-shirt", "hatchet"].map(String::from),
        )
    }

    #[track_caller]
    fn check(label: &str, want: Option<f32>) {
        let label = Label::new(label).expect("valid");
        assert_eq!(vocabulary().judge(&[label], &[0.5, 0.25, 0.125, 0.125]).score, want);
    }

    #[test]
    fn a_label_is_known_by_any_name_or_by_its_kind() {
        check("hat", Some(0.5));
        check("Ten-Gallon Hat", Some(0.5));
        check("denim", Some(0.25));
        check("t_shirt", Some(0.125));
    }

    #[test]
    fn a_word_inside_another_is_not_kin() {
        check("hatch", None);
        check("cowboy", None);
    }

    #[test]
    fn a_class_map_speaks_beside_the_names() {
        let label = |name: &str| Label::new(name).expect("valid");
        let vocabulary = vocabulary().with(Witness::new(&[(2, label("Top")), (3, label("Hat"))], None));
        let score = |names: &[&str]| {
            let labels: Vec<Label> = names.iter().map(|name| label(name)).collect();
            vocabulary.judge(&labels, &[0.5, 0.25, 0.125, 0.125]).score
        };
        assert_eq!(score(&["Top"]), Some(0.125));
        assert_eq!(score(&["Hat"]), Some(0.625), "by its name and by the map");
        assert_eq!(score(&["Top", "Hat", "Unknown"]), Some(0.625), "the most plausible one counts");
    }

    #[test]
    fn without_a_classifier_nothing_is_known() {
        let label = Label::new("hat").expect("valid");
        assert_eq!(vocabulary().judge(&[label], &[]).score, None);
    }
}
