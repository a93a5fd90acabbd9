//! `dih calibrate`: proposes thresholds from the user's own photos; `--accept` writes them into the configuration.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use dih_core::Millis;

use crate::{
    app::App,
    bench::{quality, sample},
    calibrate::{
        self,
        choose::{Error, Share},
        decisions::Decisions,
        proposal::{self, Proposal},
        repeats,
    },
    output::Table,
    problem::{Exit, OrProblem, Problem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// Folder of photos: one folder a label, or with a `labels.csv`. Left out, the originals in the home are taken.
    #[arg(conflicts_with = "accept")]
    dir: Option<PathBuf>,
    /// CSV with the columns `file,label`.
    #[arg(long, value_name = "CSV", requires = "dir")]
    labels: Option<PathBuf>,
    /// What people decided: CSV with the columns `file,question,answer`; questions are blurred, too_dark, overexposed and
    /// low_information, answers yes and no, files below the folder.
    #[arg(long, value_name = "CSV", requires = "dir")]
    decisions: Option<PathBuf>,
    /// Photos at most; those that people decided about come first.
    #[arg(long, default_value_t = 300, value_name = "N")]
    photos: usize,
    /// The same seed gives the same photos and damage.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show a proposal again and write its values into the configuration: the newest, or the one named.
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    accept: Option<String>,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    match &cmd.accept {
        Some(id) => accept(app, Some(id.as_str()).filter(|id| !id.is_empty())),
        None => propose(app, cmd).await,
    }
}

async fn propose(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let home = app.home()?;
    let said = cmd.decisions.as_deref().map(Decisions::read).transpose()?.unwrap_or_default();
    // A bucket is no folder: what is measured is copied out of the store, wherever it is.
    let copies = tempfile::tempdir()?;
    let files = chosen(app, &cmd, &said, copies.path()).await?;
    let (config, seed, decisions) = (app.config.clone(), cmd.seed, said.len() as u64);
    let measured = tokio::task::spawn_blocking(move || settings(&files, &said, &config, seed)).await?;
    let (settings, photos) = measured?;
    let proposal = Proposal { id: String::new(), at: Millis::now(), photos, decisions, seed, settings };
    let proposal = proposal::keep(home.root(), proposal)?;
    show(app, &proposal)?;
    if !app.out.json {
        app.out
            .line(format!("nothing has changed; `dih calibrate --accept {}` takes the proposed values", proposal.id))?;
    }
    Ok(Exit::Done)
}

fn accept(app: &App<'_>, id: Option<&str>) -> anyhow::Result<Exit> {
    let home = app.home()?;
    let proposal = proposal::load(home.root(), id)?;
    if proposal.settings.iter().all(|setting| setting.proposed.is_none()) {
        let what = format!("{} proposes nothing", proposal.id);
        return Err(Problem::new(what, "calibrate with more photos").into());
    }
    show(app, &proposal)?;
    let file = app.config_file().unwrap_or_else(|| home.root().join("dih.toml"));
    let what = format!("could not take the values into `{}`", file.display());
    proposal::accept(&file, &proposal).or_problem(what, "put them there by hand, or correct the file")?;
    if !app.out.json {
        app.out.line(format!("written into `{}`; stages take it when they start again", file.display()))?;
    }
    Ok(Exit::Done)
}

/// Photos by the name that decisions use: those decided about, then others drawn by the seed.
async fn chosen(app: &App<'_>, cmd: &Cmd, said: &Decisions, copies: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let most = cmd.photos.max(1);
    let Some(dir) = &cmd.dir else { return originals(app, most, copies).await };
    let mut names = BTreeSet::new();
    let mut files = Vec::new();
    let drawn = sample::photos(dir, cmd.labels.as_deref(), most, cmd.seed)?;
    let name = |path: &PathBuf| path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned();
    let decided: BTreeSet<String> = said.files().map(str::to_owned).collect();
    for file in &decided {
        let path = dir.join(file);
        let what = format!("`{file}`, which is decided about, is not in `{}`", dir.display());
        anyhow::ensure!(path.is_file(), Problem::usage(what, "write paths below the folder"));
    }
    let decided = decided.into_iter().map(|file| (file.clone(), dir.join(file)));
    for (name, path) in decided.chain(drawn.into_iter().map(|path| (name(&path), path))) {
        if names.insert(name.clone()) {
            files.push((name, path));
        }
    }
    files.truncate(most.max(said.files().collect::<BTreeSet<_>>().len()));
    Ok(files)
}

/// Copies of the first originals by their content hash, which is as good as drawn.
async fn originals(app: &App<'_>, most: usize, copies: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let blobs = crate::parts::blobs(&app.home()?, &app.config.stores)?;
    let keys = blobs.list("originals").await?;
    if keys.is_empty() {
        return Err(Problem::usage("this home holds no photos yet", "name a folder: `dih calibrate DIR`").into());
    }
    let mut files = Vec::new();
    for (n, key) in keys.into_iter().take(most).enumerate() {
        let file = copies.join(n.to_string());
        let bytes = blobs.get(&key).await?;
        tokio::fs::write(&file, bytes).await.with_context(|| format!("could not write `{}`", file.display()))?;
        files.push((key.to_string(), file));
    }
    Ok(files)
}

fn settings(
    files: &[(String, PathBuf)],
    said: &Decisions,
    config: &crate::config::Config,
    seed: u64,
) -> anyhow::Result<(Vec<proposal::Setting>, u64)> {
    let limits = &config.ingest.limits;
    let paths: Vec<&PathBuf> = files.iter().map(|(_, path)| path).collect();
    let mut names = Vec::new();
    let mut photos = Vec::new();
    for (name, path) in files {
        let bytes = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
        if dih_imaging::read(&bytes, limits).is_ok() && image::load_from_memory(&bytes).is_ok() {
            names.push(name.clone());
            photos.push(bytes);
        }
    }
    let (cases, _) = quality::measure(&paths, limits, seed)?;
    anyhow::ensure!(
        !cases.is_empty() && cases.len() == names.len(),
        Problem::usage("none of the files is a photo", "name a folder of photos")
    );
    let mut settings = calibrate::quality(&names, &cases, said, &config.verify);
    settings.push(repeats::repeats(&photos, limits, &config.repeats.confirm)?);
    Ok((settings, cases.len() as u64))
}

fn show(app: &App<'_>, proposal: &Proposal) -> anyhow::Result<()> {
    if app.out.json {
        return app.out.json(proposal);
    }
    let mut table = Table::new(["setting", "", "value", "precision", "recall", "wrongly named", "samples"]);
    for setting in &proposal.settings {
        row(&mut table, &setting.setting, "present", Some(setting.present), Some(&setting.at_present));
        row(&mut table, "", "proposed", setting.proposed, setting.at_proposed.as_ref());
    }
    app.out.table(&table)?;
    let Proposal { id, photos, decisions, .. } = proposal;
    app.out.line(format!("{id}: {photos} photos, {decisions} decisions of people; in brackets, the 95 % interval"))?;
    Ok(())
}

fn row(table: &mut Table, setting: &str, which: &str, value: Option<f32>, error: Option<&Error>) {
    let share = |share: Option<Option<Share>>| match share.flatten() {
        Some(Share { share, low, high }) => format!("{share:.3} ({low:.3} to {high:.3})"),
        None => "-".to_owned(),
    };
    let value = value.map_or_else(|| "none: good and bad cannot be told apart".to_owned(), |value| value.to_string());
    let samples = error.map_or(0, |e| e.hits + e.false_alarms + e.misses + e.passed).to_string();
    table.row([
        setting.to_owned(),
        which.to_owned(),
        value,
        share(error.map(|e| e.precision)),
        share(error.map(|e| e.recall)),
        share(error.map(|e| e.wrongly)),
        samples,
    ]);
}
