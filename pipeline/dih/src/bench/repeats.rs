//! Scores the repeats that were found. Pure.
//!
//! Takes    the verdicts and the truth. Gives, for each kind of edit, how many repeats share the root of the photo they
//!          were made from, and every merge of different photos by name.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Score, True, Verdict};

/// Repeats of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    /// That came.
    pub of: u64,
    pub found: u64,
    /// Rejected or held for their quality: nobody asked whether they repeat something.
    pub refused: u64,
}

/// A photo that gave way to another photo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Merge {
    pub source: String,
    pub of_source: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Repeats {
    pub uploads: u64,
    /// By what was done to the photo; `again` is a retransmission, byte by byte.
    pub by_edit: BTreeMap<String, Found>,
    /// All repeats; false alarms are the merges of different photos.
    pub score: Score,
    pub false_merges: Vec<Merge>,
    /// Different shots of one photo that were merged: neither right nor wrong.
    pub same_photo: u64,
}

pub fn score(verdicts: &[Verdict], truth: &[True]) -> Repeats {
    let by_source: HashMap<&str, &Verdict> = verdicts.iter().map(|v| (v.source.as_str(), v)).collect();
    let truth_of: HashMap<&str, &True> = truth.iter().map(|t| (t.source.as_str(), t)).collect();
    let mut scored = Repeats { uploads: truth.len() as u64, ..Repeats::default() };
    for upload in truth.iter().filter(|t| !t.of_source.is_empty()) {
        let edit = if upload.edit.is_empty() { "again" } else { &upload.edit };
        let row = scored.by_edit.entry(edit.to_owned()).or_default();
        row.of += 1;
        let verdict = by_source.get(upload.source.as_str()).map_or("missing", |v| v.verdict.as_str());
        if root(&by_source, &upload.source) == root(&by_source, &upload.of_source) {
            row.found += 1;
            scored.score.hits += 1;
        } else if matches!(verdict, "rejected" | "held") {
            row.refused += 1;
        } else {
            scored.score.misses += 1;
        }
    }
    for verdict in verdicts.iter().filter(|v| v.verdict == "duplicate") {
        let Some(of_source) = verdict.of_source.as_deref() else { continue };
        let (Some(own), Some(other)) = (truth_of.get(verdict.source.as_str()), truth_of.get(of_source)) else {
            continue;
        };
        if shot(own) == shot(other) {
            continue;
        }
        if own.photo == other.photo {
            scored.same_photo += 1;
        } else {
            scored.score.false_alarms += 1;
            scored.false_merges.push(Merge { source: verdict.source.clone(), of_source: of_source.to_owned() });
        }
    }
    scored
}

/// The shot that an upload is, or repeats.
fn shot(upload: &True) -> &str {
    if upload.of_source.is_empty() { &upload.source } else { &upload.of_source }
}

/// Follows duplicates to the photo that stayed.
fn root<'a>(verdicts: &HashMap<&'a str, &'a Verdict>, source: &'a str) -> &'a str {
    let mut at = source;
    for _ in 0..verdicts.len() {
        match verdicts.get(at).filter(|v| v.verdict == "duplicate").and_then(|v| v.of_source.as_deref()) {
            Some(of) => at = of,
            None => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(source: &str, of: &str) -> Verdict {
        let of_source = (!of.is_empty()).then(|| of.to_owned());
        let verdict = if of.is_empty() { "curated" } else { "duplicate" };
        Verdict { source: source.into(), verdict: verdict.into(), of_source, label_score: None }
    }

    fn upload(source: &str, of: &str, photo: &str) -> True {
        let text = |t: &str| t.to_owned();
        let edit = if of.is_empty() { "" } else { "mirrored" };
        True {
            source: text(source),
            label: text("cat"),
            true_label: text("cat"),
            kind: text("shot"),
            of_source: text(of),
            edit: text(edit),
            photo: text(photo),
        }
    }

    #[test]
    fn a_repeat_is_found_through_a_chain_and_in_either_direction() {
        let truth = [upload("a", "", "p"), upload("b", "a", "p"), upload("c", "a", "p"), upload("d", "", "q")];
        let chained = [verdict("a", "b"), verdict("b", ""), verdict("c", "a"), verdict("d", "")];
        let scored = score(&chained, &truth);
        assert_eq!(scored.by_edit["mirrored"], Found { of: 2, found: 2, refused: 0 });
        assert_eq!(scored.score, Score { hits: 2, false_alarms: 0, misses: 0 });
    }

    #[test]
    fn a_missed_repeat_a_false_merge_and_two_shots_of_one_photo_are_told_apart() {
        let truth = [upload("a", "", "p"), upload("b", "a", "p"), upload("c", "", "p"), upload("d", "", "q")];
        let verdicts = [verdict("a", ""), verdict("b", ""), verdict("c", "a"), verdict("d", "a")];
        let scored = score(&verdicts, &truth);
        assert_eq!(scored.score, Score { hits: 0, false_alarms: 1, misses: 1 });
        assert_eq!(scored.same_photo, 1);
        assert_eq!(scored.false_merges, [Merge { source: "d".into(), of_source: "a".into() }]);
    }

    #[test]
    fn a_repeat_refused_for_its_quality_is_no_miss() {
        let truth = [upload("a", "", "p"), upload("b", "a", "p")];
        let refused = Verdict { verdict: "rejected".into(), ..verdict("b", "") };
        let scored = score(&[verdict("a", ""), refused], &truth);
        assert_eq!(scored.by_edit["mirrored"], Found { of: 1, found: 0, refused: 1 });
        assert_eq!(scored.score.misses, 0);
    }
}
