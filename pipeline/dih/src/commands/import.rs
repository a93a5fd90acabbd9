//! `dih import`: sends all photos of a labelled folder, or of Open Images.

use std::path::PathBuf;

use clap::Args;
use dih_core::DeviceId;

use crate::{
    app::App,
    import::{
        self, Imported,
        journal::Journal,
        labelled,
        open_images::{self, Plan, Report},
    },
    output::{Table, say},
    problem::{Exit, OrProblem, Problem},
};

/// Faults that are printed one by one; more are only counted.
const FAULTS_SHOWN: usize = 20;
/// What to do after an import that did not come to its end.
const AGAIN: &str = "run the same command again: it goes on where it ended";

#[derive(Debug, Args)]
pub struct Cmd {
    /// Folder of photos: one folder a label, or with a `labels.csv`.
    #[arg(required_unless_present = "open_images")]
    dir: Option<PathBuf>,
    /// CSV with the columns `file,label` (several labels: `a;b`), perhaps `device`; further columns ride along.
    #[arg(long, value_name = "CSV", conflicts_with = "open_images")]
    labels: Option<PathBuf>,
    /// Device of the photos that the CSV gives none.
    #[arg(long, default_value = "import")]
    device: DeviceId,
    /// Send everything, also what an import that was cut short has sent.
    #[arg(long)]
    again: bool,
    /// Folder of the published files of Open Images (V1 to V7), in place of a labelled folder.
    #[arg(long, value_name = "DIR", conflicts_with = "dir")]
    open_images: Option<PathBuf>,
    #[command(flatten)]
    more: OpenImages,
}

#[derive(Debug, Args)]
struct OpenImages {
    /// Folder of the photos, `<ImageID>.jpg` at any depth; without it that of the files.
    #[arg(long, value_name = "DIR", requires = "open_images", conflicts_with = "dir")]
    photos: Option<PathBuf>,
    /// Class descriptions or a hierarchy from elsewhere.
    #[arg(long, value_name = "FILE", requires = "open_images", conflicts_with = "dir")]
    classes: Vec<PathBuf>,
    /// Least confidence of a machine's label, above 0; above 1 none is taken. Of those from 0.9, people confirm 90 %.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = confidence, requires = "open_images", conflicts_with = "dir")]
    machine_min: f32,
    /// Where refused rows are written; without it into `import` of the home folder.
    #[arg(long, value_name = "CSV", requires = "open_images", conflicts_with = "dir")]
    refused: Option<PathBuf>,
    /// Folder for temporary files, as large as the files that are read; without it `import` of the home folder.
    #[arg(long, value_name = "DIR", requires = "open_images", conflicts_with = "dir")]
    spill: Option<PathBuf>,
    /// Read and account for everything, and send nothing.
    #[arg(long, requires = "open_images", conflicts_with = "dir")]
    check: bool,
}

fn confidence(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|share: &f32| *share > 0.0 && share.is_finite());
    number.ok_or_else(|| "is no number above 0".to_owned())
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    if let Some(dir) = cmd.open_images {
        return open_images(app, dir, cmd.more, cmd.device, cmd.again).await;
    }
    let dir = cmd.dir.unwrap_or_default();
    let labelled = labelled::read(&dir, cmd.labels.as_deref())?;
    let csv = cmd.labels.unwrap_or_default();
    let mut journal = Journal::open(&app.home()?.import(), &[&dir, &csv], cmd.again)?;
    let bus = app.bus().await?;
    let sent = import::send(&bus, labelled, &mut journal, &cmd.device).await;
    let done = sent.or_problem("the import stopped", AGAIN)?;
    if done.faults.is_empty() && !done.stopped {
        journal.finish().or_problem("could not end the journal", "look into `import` of the home folder")?;
    }
    match app.out.json {
        true => app.out.json(&done)?,
        false => print(app, &done)?,
    }
    Ok(if done.faults.is_empty() && !done.stopped { Exit::Done } else { Exit::Partly })
}

async fn open_images(
    app: &App<'_>,
    dir: PathBuf,
    cmd: OpenImages,
    device: DeviceId,
    again: bool,
) -> anyhow::Result<Exit> {
    let photos = cmd.photos.unwrap_or_else(|| dir.clone());
    for folder in [&dir, &photos] {
        if !folder.is_dir() {
            let what = format!("`{}` is no folder", folder.display());
            return Err(Problem::usage(what, "name the folder of the published files, and that of the photos").into());
        }
    }
    let own = app.home()?.import();
    let plan = Plan {
        dir: dir.clone(),
        photos: photos.clone(),
        more: cmd.classes,
        machine_min: cmd.machine_min,
        device,
        spill: cmd.spill.unwrap_or_else(|| own.clone()),
        refused: cmd.refused.unwrap_or_else(|| own.join("refused.csv")),
    };
    let report = match cmd.check {
        true => tokio::task::spawn_blocking(move || open_images::check(&plan)).await??,
        false => {
            let mut journal = Journal::open(&own, &[&dir, &photos], again)?;
            let bus = app.bus().await?;
            let sent = open_images::send(&bus, plan, &mut journal).await;
            let report = sent.or_problem("the import stopped", AGAIN)?;
            if report.sent.as_ref().is_some_and(|sent| sent.faults.is_empty() && !sent.stopped) {
                journal.finish().or_problem("could not end the journal", "look into `import` of the home folder")?;
            }
            report
        }
    };
    match app.out.json {
        true => app.out.json(&report)?,
        false => print_books(app, &report)?,
    }
    let Some(sent) = &report.sent else {
        return Ok(if report.rows_refused() > 0 { Exit::Partly } else { Exit::Done });
    };
    if report.totals.here == 0 && !sent.stopped {
        app.out.flush()?;
        let what = format!("`{}` holds the photo of none of the {} images", photos.display(), report.totals.images);
        let remedy = "name the folder of the photos with `--photos DIR`, or only look at the files with `--check`";
        return Err(Problem::new(what, remedy).into());
    }
    let whole = report.rows_refused() == 0 && sent.faults.is_empty() && !sent.stopped;
    Ok(if whole { Exit::Done } else { Exit::Partly })
}

fn print(app: &App<'_>, done: &Imported) -> anyhow::Result<()> {
    for fault in done.faults.iter().take(FAULTS_SHOWN) {
        say(format!("row {} ({}): {}", fault.row, fault.source, fault.problem));
    }
    if let Some(more) = done.faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
        say(format!("and {more} more; `--json` names all"));
    }
    if done.stopped {
        say(format!("stopped before the end; {AGAIN}"));
    }
    let mut line = format!("{} of {} sent", done.sent, done.rows);
    for (count, what) in
        [(done.sent_before, "sent before"), (done.dropped, "already there"), (done.faults.len() as u64, "not sent")]
    {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    Ok(app.out.line(line)?)
}

fn print_books(app: &App<'_>, report: &Report) -> anyhow::Result<()> {
    let mut table = Table::new(["file", "holds", "rows", "taken", "refused"]);
    for file in &report.files {
        let counts = [file.rows, file.taken, file.refused].map(|n| n.to_string());
        let [rows, taken, refused] = counts;
        table.row([file.file.display().to_string(), file.kind.as_str().to_owned(), rows, taken, refused]);
    }
    app.out.table(&table)?;
    if !report.left_alone.is_empty() {
        let names: Vec<String> = report.left_alone.iter().map(|path| path.display().to_string()).collect();
        app.out.line(format!("left alone, as they are nothing of Open Images: {}", names.join(", ")))?;
    }
    if let Some(path) = &report.refused {
        app.out.line(format!("refused rows, with line and reason: {}", path.display()))?;
    }
    let t = &report.totals;
    app.out.line(format!(
        "images: {}, of which {} here and {} not here; {} here without a label; {} rows again",
        t.images, t.here, t.not_here, t.without_label, t.images_again
    ))?;
    app.out.line(format!(
        "label rows: {} taken, {} absent by people's word, {} too unsure, {} again, {} denied",
        t.labels_taken, t.labels_absent, t.labels_unsure, t.labels_again, t.labels_denied
    ))?;
    app.out.line(format!(
        "photos: {} labels; {} of no image, {} second ones of an image",
        report.labels.len(),
        t.photos_unknown,
        t.photos_again
    ))?;
    match &report.sent {
        Some(sent) => print(app, sent),
        None => Ok(()),
    }
}
