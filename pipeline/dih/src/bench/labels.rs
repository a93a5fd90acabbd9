//! Scores the labels that were doubted, and what that is worth to a model.
//!
//! Takes    a labelled folder, and how its labels are made wrong. Gives precision and recall of holding wrong labels, the
//!          average precision of the ranking, how far the probabilities can be trusted, and on demand the accuracy of
//!          models trained with and without. Counts photos that reached the cut: curated or held.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use dih_train::{OnnxPredict, TrainingReport};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    Score, True, Verdict,
    flips::{self, Confusions, Habits},
    lesson,
    trial::{Crowd, Trial},
};
use crate::{
    app::App,
    import::labelled::{self, Row},
    model,
    simulate::truth::joined,
};

/// What a wrong label is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flips {
    /// Any other label, all alike.
    Uniform,
    /// What a probe on the right labels takes the photo's label for.
    Confusable,
}

/// Options of `dih bench labels`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How labels are made wrong.
    #[arg(long, value_enum, default_value_t = Flips::Uniform)]
    pub flips: Flips,
    /// Share of wrong labels.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE", value_parser = share)]
    pub wrong: f64,
    /// Share of the devices that are careless: wrong eight times as often as the others, the whole share the same.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub careless: f64,
    /// Train three models as well, on right labels, on what the cut left, and on all: their accuracy on photos that none
    /// of them saw (those with `test` in the column `split` or as their first folder, else a fifth).
    #[arg(long)]
    pub train: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|_| "is no number".to_owned())?;
    if (0.0..=0.9).contains(&share) { Ok(share) } else { Err("is a share between 0 and 0.9".to_owned()) }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Labels {
    /// Photos whose label was judged.
    pub photos: u64,
    /// Of them, with a wrong label.
    pub wrong: u64,
    pub held: u64,
    pub score: Score,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    /// Mean of the precision at each wrong label, photos ranked by their label score, lowest first. None without any.
    pub average_precision: Option<f64>,
    /// Mean squared distance of the probability that a label is wrong from the truth.
    pub brier: Option<f64>,
    /// Mean gap between that probability and the share that is wrong, over ten bins weighted by their size.
    pub calibration_error: Option<f64>,
    /// Devices made careless.
    pub careless: BTreeSet<String>,
    pub accuracy: Option<Accuracy>,
}

/// Share of unseen photos that are named rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Accuracy {
    pub test_photos: u64,
    /// After training on right labels.
    pub untouched: f64,
    /// On what the cut left of the wrong ones.
    pub curated: f64,
    /// On all, as they came: none counts less because its label is doubted.
    pub uncurated: f64,
}

/// Makes labels wrong, streams, cuts, scores.
pub async fn run(app: &App<'_>, crowd: Crowd<'_>, options: &Options, right: Trial) -> anyhow::Result<Labels> {
    let folder = tempfile::tempdir().context("could not make a temporary folder")?;
    let list = folder.path().join("learn.csv");
    let mut held_out = Vec::new();
    let mut crowd = crowd;
    if options.train {
        let found = labelled::read(crowd.photos, crowd.labels)?;
        let (learn, test) = parted(found.rows, crowd.seed);
        held_out = test;
        write_list(&list, &learn)?;
        crowd.labels = Some(&list);
    }
    let mut truth = right.make(&crowd).await?;
    let mut noisy = right.twin()?;
    if options.train || options.flips == Flips::Confusable {
        right.run(app, &[]).await?;
        right.cut_as("bench", &["--no-hold"]).await?;
    }
    let confusions: Confusions = match options.flips {
        Flips::Uniform => flips::uniform(&truth),
        Flips::Confusable => lesson::confusions(right.manifest("bench")?.into())?,
    };
    let habits = Habits { seed: crowd.seed, share: options.wrong, careless: options.careless };
    let careless = flips::flip(&mut truth, &confusions, &habits);
    noisy.relabel(&truth)?;
    noisy.run(app, &[]).await?;
    noisy.cut().await?;
    let mut scored = score(&noisy.verdicts().await?, &truth);
    scored.careless = careless;
    if options.train {
        noisy.cut_as("all", &["--no-hold"]).await?;
        let untouched = taught(app, &right, "bench", &held_out).await?;
        let curated = taught(app, &noisy, "bench", &held_out).await?;
        let mut config = app.config.clone();
        config.train.weigh_doubts = false;
        noisy.configure(&config)?;
        let uncurated = taught(app, &noisy, "all", &held_out).await?;
        scored.accuracy = Some(Accuracy { test_photos: held_out.len() as u64, untouched, curated, uncurated });
    }
    Ok(scored)
}

/// Photos to learn from, and those that no stream sees.
fn parted(mut rows: Vec<Row>, seed: u64) -> (Vec<Row>, Vec<Row>) {
    let is_test = |row: &Row| match row.attributes.get("split") {
        Some(split) => split == "test",
        None => row.source.split('/').next() == Some("test"),
    };
    if !rows.iter().any(is_test) {
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let test = rows.split_off(rows.len() - rows.len() / 5);
        return (rows, test);
    }
    rows.into_iter().partition(|row| !is_test(row))
}

fn write_list(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let mut list = csv::Writer::from_path(path)?;
    list.write_record(["file", "label"])?;
    for row in rows {
        list.write_record([&row.source, &joined(&row.labels)])?;
    }
    list.flush().with_context(|| format!("could not write `{}`", path.display()))
}

/// Trains on a version; the accuracy on photos that it has not seen.
async fn taught(app: &App<'_>, trial: &Trial, name: &str, photos: &[Row]) -> anyhow::Result<f64> {
    let said = trial.train(name).await?;
    let place =
        |key: &str| said[key].as_str().map(PathBuf::from).with_context(|| format!("`dih train` names no {key}"));
    let (model, report) = (place("model")?, place("report")?);
    let report = std::fs::read(&report).context("could not read the report of the training")?;
    let labels = serde_json::from_slice::<TrainingReport>(&report)?.labels;
    let manifest = model::manifest(&trial.home(), &app.config.model)?;
    let (space, _) = model::space(&manifest)?;
    let predict = OnnxPredict::new(manifest, space, app.config.inference.clone());
    let photos = photos.to_vec();
    tokio::task::spawn_blocking(move || lesson::accuracy(&predict, &model, &labels, &photos)).await?
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
    (scored.precision, scored.recall) = (scored.score.precision(), scored.score.recall());
    scored.f1 = scored.score.f1();
    (scored.brier, scored.calibration_error) = calibration(&ranked);
    scored.average_precision = average_precision(ranked);
    scored
}

/// Brier score, and the expected calibration error over ten bins, of "the label is wrong" (1 - the label score).
fn calibration(scores: &[(f32, bool)]) -> (Option<f64>, Option<f64>) {
    const BINS: usize = 10;
    if scores.is_empty() {
        return (None, None);
    }
    let mut gaps = [0.0; BINS];
    let mut square = 0.0;
    for (score, wrong) in scores {
        let said = 1.0 - f64::from(*score);
        let gap = said - f64::from(u8::from(*wrong));
        square += gap * gap;
        gaps[((said * BINS as f64) as usize).min(BINS - 1)] += gap;
    }
    let photos = scores.len() as f64;
    (Some(square / photos), Some(gaps.iter().map(|gap: &f64| gap.abs()).sum::<f64>() / photos))
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
    fn a_probability_that_holds_on_average_is_calibrated_though_it_tells_nothing() {
        let (brier, gap) = calibration(&[(0.5, true), (0.5, false)]);
        assert_eq!((brier, gap), (Some(0.25), Some(0.0)));
        let (brier, gap) = calibration(&[(0.0, true), (0.0, false)]);
        assert_eq!((brier, gap), (Some(0.5), Some(0.5)));
        assert_eq!(calibration(&[]), (None, None));
    }

    #[test]
    fn photos_to_test_on_are_named_by_column_or_folder_or_drawn() {
        let row = |source: &str, split: Option<&str>| Row {
            number: 1,
            source: source.into(),
            path: source.into(),
            labels: vec![dih_core::Label::new("cat").expect("valid")],
            device: None,
            attributes: split.map(|s| ("split".to_owned(), s.to_owned())).into_iter().collect(),
        };
        let counts = |rows: Vec<Row>| {
            let (learn, test) = parted(rows, 1);
            (learn.len(), test.len())
        };
        assert_eq!(counts(vec![row("a", Some("test")), row("b", Some("train"))]), (1, 1));
        assert_eq!(counts(vec![row("test/a", None), row("b", None), row("c", None)]), (2, 1));
        assert_eq!(counts((0..10).map(|n| row(&n.to_string(), None)).collect()), (8, 2));
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
            device: "device-1".into(),
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
