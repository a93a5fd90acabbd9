//! `dih bench repeats`: are edited copies found, and only they?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use futures::{StreamExt, pin_mut};

use super::{fraction, print, scores};
use crate::{
    app::App,
    bench::{
        copies::{self, Wish, is_photo},
        repeats::{self, Found, Repeats},
        trial::Trial,
    },
    commands::simulate::Folder,
    import::labelled::Row,
    output::say,
    problem::{Exit, OrProblem, Problem},
    progress::Progress,
    simulate::{plan::Sending, studio::Studio, truth::Truth},
};

/// Pairs and misses that are printed by name; JSON names all.
const NAMED: usize = 10;

/// Streams photos, and edited copies of them, in a shuffled order; each original comes before its copies.
///
/// The eight edits: q30 (JPEG quality 30), half (half of each side), crop5 and crop10 (5 % and 10 % cut off each of the four
/// sides), bright20 (each channel times 1.2), rot2 (2 degrees clockwise in a frame of the same size, black corners), mirror
/// (left and right), watermark (half-transparent white letters over the middle, 60 % of the width, 10 % of the height). All
/// but q30 are saved with JPEG quality 88. A `duplicate` is right when it names the original or an earlier copy of it.
#[derive(Debug, Args)]
pub(super) struct Cmd {
    /// Folders of photos; every photo in them and below is an original.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Uploads at most, originals and copies together; fewer come when the photos are fewer.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    uploads: usize,
    /// Copies of each original, each edited in another way; the edits take turns.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=8))]
    copies: u64,
    /// The same seed gives the same uploads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take new shots of each photo (crop, tilt, light, noise) in place of the photo itself: for few photos.
    #[arg(long)]
    shots: bool,
    /// Only write the files, a `labels.csv` and the truth (`truth.csv`) to this folder, for others to read.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(super) async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let (photos, names) = photos(&cmd.dirs)?;
    let wish = Wish { uploads: cmd.uploads, copies: cmd.copies as usize, shots: cmd.shots, seed: cmd.seed };
    let plan = copies::plan(&photos, &wish);
    if plan.is_empty() {
        let what = format!("no photo, or no room for one in {} uploads", cmd.uploads);
        return Err(
            Problem::usage(what, "name a folder of photos, and as many `--uploads` as one and its copies").into()
        );
    }
    let paths = photos.into_iter().map(|row| row.path).collect();
    if let Some(folder) = &cmd.write {
        let count = plan.len();
        write(folder, plan, Studio::new(paths), &names).await?;
        say(format!("{count} files, labels.csv and truth.csv written to {}", folder.display()));
        return Ok(Exit::Done);
    }
    let trial = Trial::new(app.config_file())?;
    write(&trial.uploads(), plan, Studio::new(paths), &names).await?;
    let truth = csv::Reader::from_path(trial.uploads().join(TRUTH))?.deserialize().collect::<Result<Vec<_>, _>>()?;
    if truth.is_empty() {
        return Err(Problem::new("none of the photos can be read", "name a folder of photos").into());
    }
    trial.run(app, &[]).await?;
    report(app, &repeats::score(&trial.verdicts().await?, &truth))?;
    Ok(Exit::Done)
}

const TRUTH: &str = "truth.csv";

/// All photos below the folders, in the order of their paths, and what each is called: its folder and its path in it.
fn photos(dirs: &[PathBuf]) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let (mut rows, mut names) = (Vec::new(), Vec::new());
    for dir in dirs {
        let mut files = Vec::new();
        let remedy = "name a folder of photos that is yours to read";
        walk(dir, &mut files).or_problem(format!("could not read the folder `{}`", dir.display()), remedy)?;
        files.sort();
        let folder = dir.file_name().map(PathBuf::from).unwrap_or_default();
        for path in files {
            let source = folder.join(path.strip_prefix(dir).unwrap_or(&path)).display().to_string();
            let label = copies::folder_label(path.parent().and_then(Path::file_name));
            let number = rows.len() as u64 + 1;
            names.push(source.clone());
            rows.push(Row { number, source, path, labels: vec![label], device: None, attributes: BTreeMap::new() });
        }
    }
    Ok((rows, names))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            walk(&path, files)?;
        } else if is_photo(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Makes the files of a plan, and writes down what each of them is. Says which photos cannot be read: neither they nor copies
/// of them are there.
async fn write(to: &Path, plan: Vec<Sending>, studio: Studio, names: &[String]) -> anyhow::Result<()> {
    let mut folder = Folder::create(to)?;
    let mut truth = Truth::create(&to.join(TRUTH))?;
    let mut progress = Progress::of(plan.len() as u64, "photos");
    let mut left_out = BTreeSet::new();
    let shots = studio.shoot(plan);
    pin_mut!(shots);
    while let Some(shot) = shots.next().await {
        let (sending, bytes) = shot?;
        match bytes {
            Ok(bytes) => {
                folder.write(&sending, &bytes)?;
                truth.row(&sending, &names[sending.photo], None).context("could not write the truth")?;
            }
            Err(error) if left_out.insert(sending.photo) => say(format!("left out: {error}")),
            Err(_) => {}
        }
        progress.step();
    }
    folder.finish()?;
    truth.finish().context("could not write the truth")
}

fn report(app: &App<'_>, found: &Repeats) -> anyhow::Result<()> {
    print(app, found, |found: &Repeats, table| {
        for (edit, row) in &found.by_edit {
            let Found { of, found, wrong, refused, recall, precision } = *row;
            let refused = if refused > 0 { format!(", {refused} refused for their quality") } else { String::new() };
            let (recall, precision) = (fraction(recall), fraction(precision));
            let text = format!("recall {recall}, precision {precision} ({found} of {of}{refused}; {wrong} wrong)");
            table.row([edit.clone(), text]);
        }
        let originals = found.originals;
        table.row(["originals called duplicates".into(), format!("{} of {}", originals.wrong, originals.of)]);
        scores(table, found.score);
        table.row(["shots of one photo merged".into(), found.same_photo.to_string()]);
    })?;
    let named = if app.out.json { 0 } else { NAMED };
    for pair in found.false_pairs.iter().take(named) {
        app.out.line(format!("taken for one though different: {} and {}", pair.source, pair.of_source))?;
    }
    for missed in found.missed.iter().take(named) {
        app.out.line(format!("missed: {} ({}; original {})", missed.source, missed.verdict, missed.of_verdict))?;
    }
    Ok(())
}
