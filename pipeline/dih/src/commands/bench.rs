//! `dih bench`: measures decisions, speed and memory on photos whose truth is known.

mod repeats;
mod scale;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dih_core::StageName;
use serde::Serialize;

use crate::{
    app::App,
    bench::{
        True,
        cost::{self, Memory, Speed},
        labels::{self, Labels},
        quality::{self, Kind, Quality},
        sample,
        trial::{Crowd, Trial},
    },
    output::Table,
    problem::Exit,
};

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Are edited copies found, and only they? Streams photos, and copies of them edited in eight ways.
    Repeats(repeats::Cmd),
    /// Are wrong labels held? Flips a tenth of the labels, cuts a version, looks at what it held.
    Labels {
        #[command(flatten)]
        setting: Setting,
        #[command(flatten)]
        options: labels::Options,
    },
    /// Are damaged photos refused, and only they? Damages each photo in many ways, measures, asks the rules.
    Quality(Setting),
    /// What does a photo cost? Beside it, what must be paid: taking it in without a model, and the bare model.
    Speed(Setting),
    /// Does a photo cost more in a large collection? Fills an index with made-up points of real photos.
    Scale(scale::Cmd),
    /// How much memory does the process take, and does it grow?
    Memory(Setting),
}

#[derive(Debug, Args)]
struct Setting {
    /// Folder of photos: one folder a label, or with a `labels.csv`.
    dir: PathBuf,
    /// CSV with the columns `file,label`.
    #[arg(long, value_name = "CSV")]
    labels: Option<PathBuf>,
    /// Uploads at most; fewer come when the photos are fewer.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    uploads: usize,
    /// The same seed gives the same uploads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take new shots of each photo (crop, tilt, light, noise) in place of the photo itself: for few photos.
    #[arg(long)]
    shots: bool,
}

impl Setting {
    fn crowd(&self, repeats: f64, wrong_labels: f64) -> Crowd<'_> {
        Crowd {
            photos: &self.dir,
            labels: self.labels.as_deref(),
            uploads: self.uploads,
            seed: self.seed,
            shots: self.shots,
            repeats,
            wrong_labels,
        }
    }
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let trial = || Trial::new(app.config_file());
    match cmd.what {
        What::Quality(setting) => quality(app, &setting).await?,
        What::Repeats(cmd) => return repeats::run(app, cmd).await,
        What::Scale(cmd) => return scale::run(app, cmd).await,
        What::Labels { setting, options } => labels(app, trial()?, &setting, &options).await?,
        What::Speed(setting) => speed(app, &trial()?, &setting).await?,
        What::Memory(setting) => memory(app, &trial()?, &setting).await?,
    }
    Ok(Exit::Done)
}

async fn labels(app: &App<'_>, trial: Trial, setting: &Setting, options: &labels::Options) -> anyhow::Result<()> {
    let scored = labels::run(app, setting.crowd(0.0, 0.0), options, trial).await?;
    print(app, &scored, |scored: &Labels, table| {
        table.row(["photos judged".into(), scored.photos.to_string()]);
        table.row(["with a wrong label".into(), scored.wrong.to_string()]);
        table.row(["held".into(), scored.held.to_string()]);
        scores(table, scored.score);
        table.row(["average precision of the ranking".into(), fraction(scored.average_precision)]);
        table.row(["calibration error".into(), fraction(scored.calibration_error)]);
        table.row(["Brier score".into(), fraction(scored.brier)]);
        if let Some(accuracy) = scored.accuracy {
            let of = |share| format!("{share:.3} on {} test photos", accuracy.test_photos);
            table.row(["model of right labels".into(), of(accuracy.untouched)]);
            table.row(["model of what the cut left".into(), of(accuracy.curated)]);
            table.row(["model of all, wrong ones too".into(), of(accuracy.uncurated)]);
        }
    })
}

async fn quality(app: &App<'_>, setting: &Setting) -> anyhow::Result<()> {
    let files = sample::photos(&setting.dir, setting.labels.as_deref(), setting.uploads, setting.seed)?;
    let (limits, seed) = (app.config.ingest.limits.clone(), setting.seed);
    let measured = tokio::task::spawn_blocking(move || quality::measure(&files, &limits, seed)).await?;
    let (cases, unread) = measured?;
    let scored = quality::score(&cases, unread, &app.config.verify);
    if app.out.json {
        return app.out.json(&scored);
    }
    app.out.table(&kinds(&scored))?;
    let share = fraction(scored.refused_share);
    app.out.line(format!("untouched: {} photos, {} refused ({share})", scored.photos, scored.refused))?;
    for (reason, refused) in &scored.refused_for {
        app.out.line(format!("  {reason}: {refused}"))?;
    }
    Ok(())
}

fn kinds(scored: &Quality) -> Table {
    let mut table =
        Table::new(["damage", "to be refused as", "AUROC", "refused", "so named", "precision", "recall", "F1"]);
    let share = |part: u64, kind: &Kind| fraction((kind.photos > 0).then(|| part as f64 / kind.photos as f64));
    for kind in scored.kinds.iter().chain(&scored.questions) {
        let named = if kind.expected.is_some() { share(kind.named, kind) } else { "-".to_owned() };
        let [precision, recall, f1] = [kind.precision, kind.recall, kind.f1].map(fraction);
        let expected = kind.expected.unwrap_or("nothing").to_owned();
        let (auroc, refused) = (fraction(kind.auroc), share(kind.refused, kind));
        table.row([kind.damage.to_owned(), expected, auroc, refused, named, precision, recall, f1]);
    }
    table
}

async fn speed(app: &App<'_>, trial: &Trial, setting: &Setting) -> anyhow::Result<()> {
    let truth = trial.make(&setting.crowd(0.0, 0.0)).await?;
    let run = trial.run(app, &[]).await?;
    let taking = Trial::new(app.config_file())?;
    taking.make(&setting.crowd(0.0, 0.0)).await?;
    let taken = taking.run(app, &[StageName::Ingest, StageName::Dedupe]).await?;
    let (decode_cpu_ms, inference_cpu_ms) = bare(app, trial, &truth).await?;
    let photos = truth.len() as u64;
    let each = |seconds: f64| 1000.0 * seconds / photos as f64;
    let (cpu_ms, taking_cpu_ms) = (each(run.cpu()), each(taken.cpu()));
    let speed = Speed {
        photos,
        seconds: run.seconds,
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        cpu_ms,
        broker_cpu_ms: each(run.broker_cpu),
        taking_cpu_ms,
        decode_cpu_ms,
        inference_cpu_ms,
        over_sum: cpu_ms / (taking_cpu_ms + inference_cpu_ms),
    };
    print(app, &speed, |speed: &Speed, table| {
        let ms = |ms: f64| format!("{ms:.2} ms");
        table.row(["photos".into(), speed.photos.to_string()]);
        table.row(["a second, all cores".into(), format!("{:.1} on {}", photos as f64 / speed.seconds, speed.cores)]);
        table.row(["CPU a photo, all stages".into(), ms(speed.cpu_ms)]);
        table.row(["CPU a photo, broker".into(), ms(speed.broker_cpu_ms)]);
        table.row(["CPU a photo, ingest and dedupe alone".into(), ms(speed.taking_cpu_ms)]);
        table.row(["CPU of the bare model".into(), ms(speed.inference_cpu_ms)]);
        table.row(["all stages, over the sum of these two".into(), format!("{:.2}", speed.over_sum)]);
        table.row(["CPU of one full decode".into(), ms(speed.decode_cpu_ms)]);
    })
}

/// CPU milliseconds of one decode of the uploads, and of the model on one picture.
async fn bare(app: &App<'_>, trial: &Trial, truth: &[True]) -> anyhow::Result<(f64, f64)> {
    const INFERENCES: usize = 200;
    let files = trial.files(truth);
    let manifest = crate::model::manifest(&trial.home(), &app.config.model)?;
    let config = app.config.inference.clone();
    let measure = move || Ok((cost::decode_cpu_ms(&files)?, cost::inference_cpu_ms(&manifest, &config, INFERENCES)?));
    tokio::task::spawn_blocking(measure).await?
}

async fn memory(app: &App<'_>, trial: &Trial, setting: &Setting) -> anyhow::Result<()> {
    trial.make(&setting.crowd(0.0, 0.0)).await?;
    let memory = cost::memory(&trial.run(app, &[]).await?.samples);
    let mib = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.0} MiB"));
    print(app, &memory, |memory: &Memory, table| {
        table.row(["photos".into(), memory.photos.to_string()]);
        table.row(["most, broker apart".into(), mib(Some(memory.peak_mib))]);
        table.row(["at the 500th photo".into(), mib(memory.at_500_mib)]);
        table.row(["most after it".into(), mib(memory.after_500_mib)]);
        table.row(["growth after it, 1,000 photos".into(), mib(memory.growth_mib)]);
    })
}

fn scores(table: &mut Table, score: crate::bench::Score) {
    table.row(["precision".into(), fraction(score.precision())]);
    table.row(["recall".into(), fraction(score.recall())]);
    table.row(["F1".into(), fraction(score.f1())]);
}

fn fraction(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"))
}

fn print<T: Serialize>(app: &App<'_>, figures: &T, rows: impl Fn(&T, &mut Table)) -> anyhow::Result<()> {
    if app.out.json {
        return app.out.json(figures);
    }
    let mut table = Table::new(["figure", "value"]);
    rows(figures, &mut table);
    Ok(app.out.table(&table)?)
}
