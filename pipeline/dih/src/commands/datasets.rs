//! `dih datasets`: makes, cuts, shows, copies out and checks data sets.

use std::{path::PathBuf, sync::Mutex};

use clap::{Args, Subcommand};
use dih_core::{
    DatasetName, Label, StageName, VersionId,
    event::{CutRequested, DatasetPublished},
    ports::{Blobs, SmallState},
};
use dih_organize::{
    datasets::{self, Definition, Keep},
    export::{Format, export},
    verify::verify,
    version::Version,
};
use dih_runner::jobs::{self, Done};
use serde_json::json;

use crate::{
    app::App,
    bus::{self, Bus},
    output::Table,
    problem::{Exit, OrProblem, Problem},
    progress::Progress,
    work,
};

/// Faults of a version that are printed one by one.
const FAULTS_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all data sets.
    Ls,
    /// Show what a data set selects, and its versions; with NAME@V what a version holds.
    Show {
        #[arg(value_name = "NAME[@V]")]
        what: String,
    },
    /// Name a selection of photos.
    Create(Create),
    /// Cut a new version out of what is curated now.
    Cut { name: DatasetName },
    /// Copy a version out in the layout that a loader reads.
    Export {
        /// NAME@V, or NAME for its latest version.
        #[arg(id = "dataset-version", value_name = "NAME[@V]")]
        version: String,
        /// image-folder, webdataset or parquet.
        #[arg(long, value_name = "FORMAT")]
        format: Format,
        /// A folder that is empty or not there.
        out: PathBuf,
    },
    /// Read every file of a version again, and hold it against its hash.
    Verify {
        /// NAME@V, or NAME for its latest version.
        #[arg(id = "dataset-version", value_name = "NAME[@V]")]
        version: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Lower-case letters, digits, `-` and `_`.
    name: DatasetName,
    /// Photos that show any of these; all labels without.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    labels: Vec<Label>,
    /// Take all kinds of these labels, too, by the taxonomy of the configuration: of `Animal` also `Cat` and `Dog`.
    #[arg(long, requires = "labels")]
    descendants: bool,
    /// Photos with this attribute; may be given more than once.
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = super::pair)]
    attributes: Vec<(String, String)>,
    /// Least probability that the label fits, by the classifier.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    label_score_min: f32,
    /// Most photos of one cluster of look-alikes; the earliest stay.
    #[arg(long, value_name = "N")]
    cluster_cap: Option<u32>,
    /// Leave out outliers: photos with a mean cosine distance to their nearest ones above this (the manifest's
    /// `outlier`; look at it in an earlier version to choose).
    #[arg(long, value_name = "DISTANCE")]
    outlier_max: Option<f32>,
    /// Only the N most different photos of all, by their vectors (k-centre, greedy: first the most typical one, then
    /// again and again the one farthest from all before).
    #[arg(long, value_name = "N", conflicts_with = "diverse_per_label")]
    diverse: Option<u32>,
    /// Only the N most different photos of each label.
    #[arg(long, value_name = "N")]
    diverse_per_label: Option<u32>,
    /// Which copy of a repeated photo is published: earliest, largest or sharpest.
    #[arg(long, default_value = "earliest", value_parser = keep)]
    keep: Keep,
    /// Changes the draw of the splits.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Publish photos with doubtful labels too.
    #[arg(long)]
    no_hold: bool,
    /// Write no WebDataset shards.
    #[arg(long)]
    no_shards: bool,
    /// For the data card.
    #[arg(long)]
    title: Option<String>,
    /// For the data card.
    #[arg(long)]
    description: Option<String>,
    /// Licence of the whole, an SPDX name or URL.
    #[arg(long)]
    licence: Option<String>,
}

impl Create {
    fn definition(self) -> (DatasetName, Definition) {
        let definition = Definition {
            labels: self.labels,
            attributes: self.attributes.into_iter().collect(),
            label_score_min: self.label_score_min,
            cluster_cap: self.cluster_cap,
            outlier_max: self.outlier_max,
            diverse: self.diverse,
            diverse_per_label: self.diverse_per_label,
            keep: self.keep,
            seed: self.seed,
            hold: !self.no_hold,
            shards: !self.no_shards,
            title: self.title,
            description: self.description,
            licence: self.licence,
            ..Definition::default()
        };
        (self.name, definition)
    }
}

fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "earliest" => Ok(Keep::Earliest),
        "largest" => Ok(Keep::Largest),
        "sharpest" => Ok(Keep::Sharpest),
        _ => Err("is earliest, largest or sharpest".to_owned()),
    }
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    let (state, blobs) = (bus.state().await?, bus.blobs(app)?);
    match cmd.what {
        What::Ls => ls(app, &*state).await,
        What::Show { what } => show(app, &*state, &*blobs, &what).await,
        What::Create(mut create) => {
            if create.descendants {
                create.labels = super::taxonomy::kinds(app, &create.labels)?;
            }
            let (name, definition) = create.definition();
            datasets::create(&*state, &name, &definition).await?;
            match app.out.json {
                true => app.out.json(&json!({ "name": name, "definition": definition }))?,
                false => app.out.line(format!("made `{name}`; `dih datasets cut {name}` cuts a version"))?,
            }
            Ok(Exit::Done)
        }
        What::Cut { name } => {
            datasets::definition(&*state, &name).await?;
            let published = cut(app, &bus, name).await?;
            print_cut(app, &published)
        }
        What::Export { version, format, out } => {
            let version = datasets::resolve(&*state, &version).await?;
            copy_out(app, &*blobs, &version, format, out).await
        }
        What::Verify { version } => {
            let version = datasets::resolve(&*state, &version).await?;
            check(app, &*blobs, &version).await
        }
    }
}

/// Asks for a version and waits until it is published, by whoever does it.
async fn cut(app: &App<'_>, bus: &Bus, name: DatasetName) -> anyhow::Result<DatasetPublished> {
    let request = bus::request_id();
    jobs::request_cut(bus.connection(), &CutRequested { dataset: name, request: request.clone() }).await?;
    match work::until(app, bus, "datasets cut", &[StageName::Organize], bus.answer(&request)).await? {
        Done::Published(published) => Ok(published),
        odd => anyhow::bail!("the request to cut was answered with {odd:?}"),
    }
}

fn print_cut(app: &App<'_>, published: &DatasetPublished) -> anyhow::Result<Exit> {
    let DatasetPublished { version, members, held, .. } = published;
    match app.out.json {
        true => app.out.json(&json!({
            "name": version.dataset,
            "version": version.version,
            "members": members,
            "held": held,
            "labels": published.labels,
            "manifest_sha256": published.manifest_sha256,
        }))?,
        false => app.out.line(format!("{version}: {members} members, {held} held"))?,
    }
    Ok(Exit::Done)
}

async fn ls(app: &App<'_>, state: &dyn SmallState) -> anyhow::Result<Exit> {
    let mut table = Table::new(["name", "version", "labels", "title"]);
    for set in datasets::list(state).await? {
        if app.out.json {
            app.out.json(&set)?;
            continue;
        }
        let version = set.head.as_ref().map_or(0, |head| head.version);
        let labels = match set.definition.labels.len() {
            0 => "all".to_owned(),
            _ => set.definition.labels.iter().map(Label::as_str).collect::<Vec<_>>().join(","),
        };
        table.row([set.name.to_string(), version.to_string(), labels, set.definition.title.unwrap_or_default()]);
    }
    match (app.out.json, table.is_empty()) {
        (true, _) => {}
        (false, true) => app.out.line("there is no data set yet; `dih datasets create NAME` makes one")?,
        (false, false) => app.out.table(&table)?,
    }
    Ok(Exit::Done)
}

async fn show(app: &App<'_>, state: &dyn SmallState, blobs: &dyn Blobs, what: &str) -> anyhow::Result<Exit> {
    let name = what.split('@').next().unwrap_or(what);
    let name: DatasetName = name.parse().map_err(|e| Problem::usage(format!("{e}"), "see `dih datasets ls`"))?;
    let set = datasets::show(state, &name).await?;
    let published = set.head.as_ref().is_some_and(|head| head.version > 0);
    let version = match published || what.contains('@') {
        true => Some(Version::read(blobs, &datasets::resolve(state, what).await?).await?),
        false => None,
    };
    if app.out.json {
        app.out.json(&json!({ "dataset": set, "version": version }))?;
        return Ok(Exit::Done);
    }
    app.out.line(app.out.bold(&format!("data set {name}")))?;
    app.out.line(serde_json::to_string_pretty(&set.definition)?)?;
    match version {
        Some(version) => print_version(app, blobs, &version),
        None => Ok(app.out.line(format!("no version yet; `dih datasets cut {name}` cuts one"))?),
    }?;
    Ok(Exit::Done)
}

fn print_version(app: &App<'_>, blobs: &dyn Blobs, version: &Version) -> anyhow::Result<()> {
    let id = &version.version;
    let counts = format!("{} members, {} held, {} shards", version.members, version.held, version.shards.len());
    app.out.line(app.out.bold(&format!("version {id}: {counts}")))?;
    let mut table = Table::new(["label", "photos"]);
    for (label, photos) in &version.labels {
        table.row([label.to_string(), photos.to_string()]);
    }
    app.out.table(&table)?;
    for file in &version.files {
        app.out.line(app.out.dim(&blobs.location(&file.key)))?;
    }
    Ok(())
}

async fn copy_out(
    app: &App<'_>,
    blobs: &dyn Blobs,
    version: &VersionId,
    format: Format,
    place: PathBuf,
) -> anyhow::Result<Exit> {
    let progress: Mutex<Option<Progress>> = Mutex::new(None);
    let tell = |_done, all| {
        if let Ok(mut progress) = progress.lock() {
            progress.get_or_insert_with(|| Progress::of(all, "files")).step();
        }
    };
    let written = export(blobs, version, format, &place, &tell).await?;
    drop(progress);
    match app.out.json {
        true => app.out.json(&written)?,
        false => {
            app.out.line(format!("{} photos of {version} as {format} in `{}`", written.photos, place.display()))?
        }
    }
    Ok(Exit::Done)
}

async fn check(app: &App<'_>, blobs: &dyn Blobs, version: &VersionId) -> anyhow::Result<Exit> {
    let found =
        verify(blobs, version).await.or_problem(format!("could not check {version}"), "see `dih datasets ls`")?;
    if app.out.json {
        app.out.json(&found)?;
    } else {
        let line = format!("{version}: {} photos, {} files, {} shards", found.photos, found.files, found.shards);
        app.out.line(format!("{line}, {} faults", found.faults.len()))?;
        for fault in found.faults.iter().take(FAULTS_SHOWN) {
            app.out.line(format!("  {fault}"))?;
        }
    }
    Ok(if found.faults.is_empty() { Exit::Done } else { Exit::Failed })
}
