//! Scores the labels that were doubted. Pure.
//!
//! Takes    the verdicts after a cut, and the truth. Gives precision and recall of holding wrong labels, and the average
//!          precision of the ranking by label score. Counts photos that reached the cut: curated or held.

use std::collections::HashMap;

use serde::Serialize;

use super::{Score, True, Verdict};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Labels {
    /// Photos whose label was judged.
    pub photos: u64,
    /// Of them, with a wrong label.
    pub wrong: u64,
    pub held: u64,
    pub score: Score,
    /// Mean of the precision at each wrong label, photos ranked by their label score, lowest first. None without any.
    pub average_precision: Option<f64>,
}

pub fn score(verdicts: &[Verdict], truth: &[True]) -> Labels {
    let wrong: HashMap<&str, bool> = truth.iter().map(|t| (t.source.as_str(), t.label != t.true_label)).collect();
    let mut scored = Labels::default();
    let mut ranked: Vec<(f32, bool)> = Vec::new();
    for verdict in verdicts {
        let Some(wrong) = wrong.get(verdict.source.as_str()).copied() else { continue };
        let held = match verdict.verdict.as_str() {
            "held" => true,
            "curated" => false,
            _ => continue,
        };
        scored.photos += 1;
        scored.wrong += u64::from(wrong);
        scored.held += u64::from(held);
        match (held, wrong) {
            (true, true) => scored.score.hits += 1,
            (true, false) => scored.score.false_alarms += 1,
            (false, true) => scored.score.misses += 1,
            (false, false) => {}
        }
        ranked.push((verdict.label_score.unwrap_or(1.0), wrong));
    }
    scored.average_precision = average_precision(ranked);
    scored
}

/// Of equal scores the right label counts first: no credit for a tie.
fn average_precision(mut ranked: Vec<(f32, bool)>) -> Option<f64> {
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut hits, mut sum) = (0_u64, 0.0);
    for (at, _) in ranked.iter().enumerate().filter(|(_, (_, wrong))| *wrong) {
        hits += 1;
        sum += hits as f64 / (at + 1) as f64;
    }
    (hits > 0).then(|| sum / hits as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_with_all_wrong_ones_first_is_perfect_and_a_tie_earns_nothing() {
        assert_eq!(average_precision(vec![(0.9, false), (0.1, true), (0.2, true)]), Some(1.0));
        assert_eq!(average_precision(vec![(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(average_precision(vec![(0.5, false)]), None);
    }

    #[test]
    fn only_photos_that_reached_the_cut_count() {
        let verdict = |source: &str, verdict: &str| Verdict {
            source: source.into(),
            verdict: verdict.into(),
            of_source: None,
            label_score: None,
        };
        let upload = |source: &str, label: &str| True {
            source: source.into(),
            label: label.into(),
            true_label: "cat".into(),
            kind: "shot".into(),
            of_source: String::new(),
            edit: String::new(),
            photo: "p".into(),
        };
        let verdicts = [verdict("a", "held"), verdict("b", "curated"), verdict("c", "rejected"), verdict("d", "held")];
        let truth = [upload("a", "dog"), upload("b", "dog"), upload("c", "dog"), upload("d", "cat")];
        let scored = score(&verdicts, &truth);
        assert_eq!((scored.photos, scored.wrong, scored.held), (3, 2, 2));
        assert_eq!(scored.score, Score { hits: 1, false_alarms: 1, misses: 1 });
    }
}
