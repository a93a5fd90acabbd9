//! Scores the repeats that were found. Pure.
//!
//! Takes    the verdicts and the truth. Gives recall and precision of the `duplicate` verdicts for each kind of edit, and by
//!          name every pair that was taken for one shot but is not, so that a person can look.
//! Right    is a `duplicate` that names the photo it was made from, or an earlier copy of that one.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Score, True, Verdict, share};

/// Uploads of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    /// That came.
    pub of: u64,
    /// Answered `duplicate`, of a photo of their own group.
    pub found: u64,
    /// Answered `duplicate`, of another photo.
    pub wrong: u64,
    /// Rejected or held for their quality. They count as missed.
    pub refused: u64,
    /// `found / of`. None where none came.
    pub recall: Option<f64>,
    /// `found / (found + wrong)`. None where none was called a duplicate.
    pub precision: Option<f64>,
}

/// A photo that gave way to another photo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    pub source: String,
    pub of_source: String,
    /// The photos they were made from, below the folders given.
    pub photo: String,
    pub of_photo: String,
}

/// A repeat that was not found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    pub source: String,
    pub verdict: String,
    /// The photo that should have been named, and what became of it.
    pub of_source: String,
    pub of_verdict: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Repeats {
    pub uploads: u64,
    /// By what was done to the photo; `again` is a retransmission, byte by byte.
    pub by_edit: BTreeMap<String, Found>,
    /// Photos that repeat nothing: here `wrong` should be 0.
    pub originals: Found,
    /// All uploads; false alarms are the pairs below.
    pub score: Score,
    pub false_pairs: Vec<Pair>,
    pub missed: Vec<Missed>,
    /// Different shots of one photo that were merged: neither right nor wrong.
    pub same_photo: u64,
}

/// `truth` is in the order of arrival.
pub fn score(verdicts: &[Verdict], truth: &[True]) -> Repeats {
    let verdict_of: HashMap<&str, &Verdict> = verdicts.iter().map(|v| (v.source.as_str(), v)).collect();
    let place_of: HashMap<&str, usize> = truth.iter().enumerate().map(|(n, t)| (t.source.as_str(), n)).collect();
    let mut scored = Repeats { uploads: truth.len() as u64, ..Repeats::default() };
    for (place, upload) in truth.iter().enumerate() {
        let verdict = verdict_of.get(upload.source.as_str());
        let named = verdict.filter(|v| v.verdict == "duplicate").and_then(|v| v.of_source.as_deref());
        let of = named.and_then(|of| place_of.get(of)).map(|n| (*n, &truth[*n]));
        let right = of.is_some_and(|(at, of)| at < place && group(of) == group(upload));
        let same_photo = of.is_some_and(|(_, of)| of.photo == upload.photo);
        let wrong = named.is_some() && !right && !same_photo;
        let row = match upload.of_source.is_empty() {
            true => &mut scored.originals,
            false => scored.by_edit.entry(kind(upload).to_owned()).or_default(),
        };
        row.of += 1;
        row.found += u64::from(right);
        row.wrong += u64::from(wrong);
        row.refused += u64::from(verdict.is_some_and(|v| matches!(v.verdict.as_str(), "rejected" | "held")));
        scored.score.hits += u64::from(right);
        scored.score.false_alarms += u64::from(wrong);
        scored.same_photo += u64::from(same_photo && !right);
        if let (true, Some(named)) = (wrong, named) {
            scored.false_pairs.push(Pair {
                source: upload.source.clone(),
                of_source: named.to_owned(),
                photo: upload.photo.clone(),
                of_photo: of.map(|(_, of)| of.photo.clone()).unwrap_or_default(),
            });
        }
        if !right && !upload.of_source.is_empty() {
            scored.score.misses += 1;
            let said = |v: Option<&&Verdict>| v.map_or_else(|| "missing".to_owned(), |v| v.verdict.clone());
            scored.missed.push(Missed {
                source: upload.source.clone(),
                verdict: said(verdict),
                of_source: upload.of_source.clone(),
                of_verdict: said(verdict_of.get(upload.of_source.as_str())),
            });
        }
    }
    for row in scored.by_edit.values_mut() {
        (row.recall, row.precision) = (share(row.found, row.of), share(row.found, row.found + row.wrong));
    }
    scored
}

fn kind(upload: &True) -> &str {
    if upload.edit.is_empty() { "again" } else { &upload.edit }
}

/// The shot that an upload is, or repeats.
fn group(upload: &True) -> &str {
    if upload.of_source.is_empty() { &upload.source } else { &upload.of_source }
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
        let edit = if of.is_empty() { "" } else { "mirror" };
        True {
            source: text(source),
            device: "device-1".into(),
            label: text("cat"),
            true_label: text("cat"),
            kind: text("shot"),
            of_source: text(of),
            edit: text(edit),
            photo: text(photo),
        }
    }

    #[test]
    fn a_repeat_may_name_an_earlier_copy_of_its_original_but_no_later_one() {
        let truth = [upload("a", "", "p"), upload("b", "a", "p"), upload("c", "a", "p"), upload("d", "a", "p")];
        let verdicts = [verdict("a", ""), verdict("b", "a"), verdict("c", "b"), verdict("d", "d")];
        let scored = score(&verdicts, &truth);
        assert_eq!(scored.score, Score { hits: 2, false_alarms: 0, misses: 1 });
        let row = scored.by_edit["mirror"];
        assert_eq!((row.of, row.found, row.wrong), (3, 2, 0));
        assert_eq!((row.recall, row.precision), (Some(2.0 / 3.0), Some(1.0)));
        assert_eq!(scored.missed[0].source, "d");
    }

    #[test]
    fn a_missed_repeat_a_false_pair_and_two_shots_of_one_photo_are_told_apart() {
        let truth = [upload("a", "", "p"), upload("b", "a", "p"), upload("c", "", "p"), upload("d", "", "q")];
        let verdicts = [verdict("a", ""), verdict("b", ""), verdict("c", "a"), verdict("d", "a")];
        let scored = score(&verdicts, &truth);
        assert_eq!(scored.score, Score { hits: 0, false_alarms: 1, misses: 1 });
        assert_eq!((scored.same_photo, scored.originals.wrong), (1, 1));
        let pair = &scored.false_pairs[0];
        assert_eq!((pair.source.as_str(), pair.of_source.as_str(), pair.of_photo.as_str()), ("d", "a", "p"));
    }

    #[test]
    fn a_copy_that_names_another_photo_is_both_a_miss_and_a_false_alarm() {
        let truth = [upload("a", "", "p"), upload("d", "", "q"), upload("b", "a", "p")];
        let scored = score(&[verdict("a", ""), verdict("d", ""), verdict("b", "d")], &truth);
        assert_eq!(scored.score, Score { hits: 0, false_alarms: 1, misses: 1 });
        assert_eq!(scored.by_edit["mirror"].precision, Some(0.0));
    }

    #[test]
    fn a_repeat_refused_for_its_quality_is_a_miss_and_is_counted_apart() {
        let truth = [upload("a", "", "p"), upload("b", "a", "p")];
        let refused = Verdict { verdict: "rejected".into(), ..verdict("b", "") };
        let scored = score(&[verdict("a", ""), refused], &truth);
        let row = scored.by_edit["mirror"];
        assert_eq!((row.of, row.found, row.refused, scored.score.misses), (1, 0, 1, 1));
    }
}
