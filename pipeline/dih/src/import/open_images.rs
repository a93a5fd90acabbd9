//! Sends the photos of Open Images, with the labels, licence and author that its files state.
//!
//! Takes    a folder of the published files, and one of photos named by their ImageID. Gives the books: what became of
//!          every row and of every image.
//! Keeps    refused rows in a CSV, `file,line,problem`; rows in temporary files, so memory does not grow with them.
//! Crash    as any import: see [`super::journal`]. The order is that of the ImageIDs, the same on every try.

use std::{collections::BTreeMap, fs, io, ops::ControlFlow, path::PathBuf};

use bytes::Bytes;
use dih_core::{
    DeviceId, Label,
    event::{Content, Upload},
};
use dih_openimages::{Collection, Entry, FileCount, Options, Problem as Unreadable, Totals, Turn, read};
use dih_taxonomy::Taxonomy;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    AHEAD, Imported,
    journal::Journal,
    photos::{Reader, Room},
    pump, turn,
};
use crate::{
    bus::Bus,
    problem::{OrProblem, Problem},
    progress::Progress,
};

/// Most bytes of the labels that people denied, on one record; those beyond are counted in `absent_more`.
const ABSENT_BYTES_MAX: usize = 8 << 10;

/// What to import and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dir: PathBuf,
    pub photos: PathBuf,
    /// Class descriptions and hierarchies from elsewhere.
    pub more: Vec<PathBuf>,
    /// Least confidence of a machine's label.
    pub machine_min: f32,
    pub device: DeviceId,
    /// Folder for temporary files.
    pub spill: PathBuf,
    /// Where refused rows are written.
    pub refused: PathBuf,
}

/// What became of every row and image.
#[derive(Debug, Serialize)]
pub struct Report {
    pub files: Vec<FileCount>,
    pub totals: Totals,
    /// Files that are nothing of Open Images.
    pub left_alone: Vec<PathBuf>,
    /// CSV of the refused rows, where there are any.
    pub refused: Option<PathBuf>,
    /// Photos that are here, by label.
    pub labels: BTreeMap<Label, u64>,
    /// None where nothing was to be sent.
    pub sent: Option<Imported>,
}

impl Report {
    pub fn rows_refused(&self) -> u64 {
        self.files.iter().map(|file| file.refused).sum()
    }
}

/// Reads everything and sends nothing.
pub fn check(plan: &Plan) -> anyhow::Result<Report> {
    walk(plan, |_, _, _| ControlFlow::Continue(()))
}

/// Reads everything and sends every photo that is here and has a label.
pub async fn send(bus: &Bus, plan: Plan, journal: &mut Journal) -> anyhow::Result<Report> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reader = Reader::new(journal.sent(), Room::default(), sender);
    let stop = CancellationToken::new();
    let told = stop.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut number = 0;
        let each = |plan: &Plan, taxonomy: &Taxonomy, entry: Entry| {
            if told.is_cancelled() {
                return ControlFlow::Break(());
            }
            let Some(photo) = entry.photo.clone().filter(|_| !entry.labels.is_empty()) else {
                return ControlFlow::Continue(());
            };
            number += 1;
            let source = photo.0.to_string_lossy().into_owned();
            reader.read(number, &plan.photos.join(&photo.0), &source, |bytes| upload(plan, taxonomy, &entry, bytes))
        };
        walk(&plan, each)
    });
    let mut progress = Progress::of(0, "photos");
    let sent = pump(bus, receiver, journal, &mut progress, &stop).await;
    stop.cancel();
    let report = reading.await?;
    // Where the broker fails, the reading thread only ends because nobody listens any more.
    let mut sent = sent?;
    let mut report = report?;
    sent.rows = report.totals.here;
    report.sent = Some(sent);
    Ok(report)
}

/// Reads all files and hands out the images; gives the books.
fn walk(plan: &Plan, mut each: impl FnMut(&Plan, &Taxonomy, Entry) -> ControlFlow<()>) -> anyhow::Result<Report> {
    let options = Options {
        photos: Some(plan.photos.clone()),
        more: plan.more.clone(),
        machine_min: plan.machine_min,
        spill: plan.spill.clone(),
    };
    let mut refused = Refused { path: plan.refused.clone(), out: None };
    let mut note = |refusal: &dih_openimages::Refusal| refused.note(refusal);
    let collection: Collection<'_> = read(&plan.dir, &options, &mut note).map_err(explain)?;
    let left_alone = collection.left_alone.clone();
    let mut labels: BTreeMap<Label, u64> = BTreeMap::new();
    let (files, totals) = collection
        .walk(|taxonomy, entry| {
            if entry.photo.is_some() {
                for named in &entry.labels {
                    let label = taxonomy.classes.label(named.class);
                    match labels.get_mut(label) {
                        Some(count) => *count += 1,
                        None => drop(labels.insert(label.clone(), 1)),
                    }
                }
            }
            each(plan, taxonomy, entry)
        })
        .map_err(explain)?;
    let refused = refused.finish()?;
    Ok(Report { files, totals, left_alone, refused, labels, sent: None })
}

fn explain(error: Unreadable) -> anyhow::Error {
    let remedy = match &error {
        Unreadable::Read { .. } => "look whether it is there and yours to read",
        Unreadable::Spill { .. } => "look whether the disk is full; `--spill DIR` names another place",
        Unreadable::Note { .. } => "look whether the disk is full; `--refused FILE` names another place",
        Unreadable::NoImages { .. } => "name the folder that holds the published CSV files",
        Unreadable::NoClasses { .. } => "name class-descriptions.csv with `--classes FILE`",
        Unreadable::TooMany { .. } => "name the folder of the CSV files alone, and that of the photos with `--photos`",
    };
    let what = error.to_string();
    match error {
        Unreadable::NoImages { .. } | Unreadable::NoClasses { .. } | Unreadable::TooMany { .. } => {
            Problem::usage(what, remedy).into()
        }
        Unreadable::Read { source, .. } | Unreadable::Spill { source, .. } | Unreadable::Note { source } => {
            anyhow::Error::from(source).context(Problem::new(what, remedy))
        }
    }
}

/// The CSV of refused rows; it is made with the first of them.
struct Refused {
    path: PathBuf,
    out: Option<csv::Writer<fs::File>>,
}

impl Refused {
    fn note(&mut self, refusal: &dih_openimages::Refusal) -> io::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            none => {
                if let Some(folder) = self.path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let mut out = csv::Writer::from_writer(fs::File::create(&self.path)?);
                out.write_record(["file", "line", "problem"])?;
                none.insert(out)
            }
        };
        let (file, line) = (refusal.file.to_string_lossy(), refusal.line.to_string());
        Ok(out.write_record([file.as_ref(), &line, &refusal.problem])?)
    }

    fn finish(self) -> anyhow::Result<Option<PathBuf>> {
        let Some(mut out) = self.out else { return Ok(None) };
        let what = format!("could not write `{}`", self.path.display());
        out.flush().or_problem(what, "look whether the disk is full")?;
        Ok(Some(self.path))
    }
}

/// The upload of an image, or why it cannot be sent.
fn upload(plan: &Plan, taxonomy: &Taxonomy, entry: &Entry, bytes: Bytes) -> Result<Upload, String> {
    let bytes = match entry.image.turn.filter(|turn| *turn != Turn::None) {
        None => bytes,
        Some(turn) => match turn::turned(&bytes, turn) {
            Some(turned) => turned.into(),
            None => {
                let degrees = turn.degrees();
                return Err(format!("is to be turned by {degrees} degrees, which can be said in a JPEG only"));
            }
        },
    };
    let label = |class| taxonomy.classes.label(class).clone();
    let source = entry.photo.as_ref().map(|photo| photo.0.to_string_lossy().into_owned());
    Ok(Upload {
        device: plan.device.clone(),
        labels: entry.labels.iter().map(|named| label(named.class)).collect(),
        content: Content::Inline(bytes),
        source,
        captured_at: None,
        attributes: attributes(taxonomy, entry),
    })
}

/// What is stated beside the photo, under the names that `docs/open-images.md` lists.
fn attributes(taxonomy: &Taxonomy, entry: &Entry) -> BTreeMap<String, String> {
    let image = &entry.image;
    let each =
        |show: &dyn Fn(&dih_openimages::Named) -> String| entry.labels.iter().map(show).collect::<Vec<_>>().join(";");
    let (mut absent, mut more) = (String::new(), 0_usize);
    for class in &entry.absent {
        let label = taxonomy.classes.label(*class).as_str();
        if absent.len() + label.len() >= ABSENT_BYTES_MAX {
            more += 1;
            continue;
        }
        if !absent.is_empty() {
            absent.push(';');
        }
        absent.push_str(label);
    }
    let rotation = image.turn.map(|turn| turn.degrees().to_string()).unwrap_or_default();
    let more = if more > 0 { more.to_string() } else { String::new() };
    let stated = [
        ("openimages_id", image.id.to_string()),
        ("subset", image.subset.clone()),
        ("licence", image.licence.clone()),
        ("author", image.author.clone()),
        ("author_url", image.author_url.clone()),
        ("title", image.title.clone()),
        ("landing_url", image.landing_url.clone()),
        ("original_url", image.original_url.clone()),
        ("rotation", rotation),
        ("label_ids", each(&|named| taxonomy.classes.id(named.class).to_owned())),
        ("label_confidences", each(&|named| named.confidence.to_string())),
        ("absent", absent),
        ("absent_more", more),
    ];
    let stated = stated.into_iter().filter(|(_, value)| !value.is_empty());
    stated.map(|(name, value)| (name.to_owned(), value)).collect()
}
