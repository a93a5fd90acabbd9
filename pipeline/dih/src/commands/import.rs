//! `dih import`: sends all photos of a labelled folder.

use std::path::PathBuf;

use clap::Args;
use dih_core::DeviceId;

use crate::{
    app::App,
    import::{self, Imported, journal::Journal, labelled},
    output::say,
    problem::{Exit, OrProblem},
};

/// Faults that are printed one by one; more are only counted.
const FAULTS_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub struct Cmd {
    /// Folder of photos: one folder a label, or with a `labels.csv`.
    dir: PathBuf,
    /// CSV with the columns `file,label` (several labels: `a;b`), perhaps `device`; further columns ride along.
    #[arg(long, value_name = "CSV")]
    labels: Option<PathBuf>,
    /// Device of the photos that the CSV gives none.
    #[arg(long, default_value = "import")]
    device: DeviceId,
    /// Send everything, also what an import that was cut short has sent.
    #[arg(long)]
    again: bool,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let labelled = labelled::read(&cmd.dir, cmd.labels.as_deref())?;
    let home = app.home()?;
    let mut journal = Journal::open(&home.import(), &cmd.dir, cmd.labels.as_deref(), cmd.again)?;
    let bus = app.bus().await?;
    let sent = import::send(&bus, labelled, &mut journal, &cmd.device).await;
    let done = sent.or_problem("the import stopped", "run the same command again: it goes on where it ended")?;
    if done.faults.is_empty() {
        journal.finish().or_problem("could not end the journal", "look into `import` of the home folder")?;
    }
    report(app, &done)?;
    Ok(if done.faults.is_empty() { Exit::Done } else { Exit::Partly })
}

fn report(app: &App<'_>, done: &Imported) -> anyhow::Result<()> {
    if app.out.json {
        return app.out.json(done);
    }
    for fault in done.faults.iter().take(FAULTS_SHOWN) {
        say(format!("row {} ({}): {}", fault.row, fault.source, fault.problem));
    }
    if let Some(more) = done.faults.len().checked_sub(FAULTS_SHOWN).filter(|more| *more > 0) {
        say(format!("and {more} more; `--json` names all"));
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
