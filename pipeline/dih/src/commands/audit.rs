//! `dih audit`: is every upload answered exactly once?

use std::fmt::Display;

use clap::Args;
use dih_core::{UploadSeq, verdict::Status};
use dih_runner::audit::{Audit, audit};

use crate::{app::App, output::Table, problem::Exit};

/// Uploads that are named in text for people; JSON names all.
const NAMED: usize = 20;

#[derive(Debug, Args)]
pub struct Cmd {
    /// Print one line: `AUDIT uploads=N answered=N missing=0 twice=0`.
    #[arg(long)]
    line: bool,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    let found = audit(bus.connection()).await?;
    match (app.out.json, cmd.line) {
        (true, _) => app.out.json(&found)?,
        (false, true) => app.out.line(line(&found))?,
        (false, false) => print(app, &found)?,
    }
    Ok(if found.holds() { Exit::Done } else { Exit::Failed })
}

fn line(found: &Audit) -> String {
    let Audit { uploads, answered, missing, twice, .. } = found;
    format!("AUDIT uploads={uploads} answered={answered} missing={} twice={}", missing.len(), twice.len())
}

fn print(app: &App<'_>, found: &Audit) -> anyhow::Result<()> {
    let mut table = Table::new(["", "uploads"]);
    let mut row = |what: &str, count: &dyn Display| table.row([what.to_owned(), count.to_string()]);
    row("came", &found.uploads);
    row("answered", &found.answered);
    for status in Status::ALL {
        row(&format!("  {status}"), &found.by_verdict.get(&status).copied().unwrap_or_default());
    }
    row("on their way", &found.in_flight);
    row("missing", &found.missing.len());
    row("answered twice", &found.twice.len());
    app.out.table(&table)?;
    for (what, uploads) in [("missing", &found.missing), ("answered twice", &found.twice)] {
        if !uploads.is_empty() {
            app.out.line(format!("{what}: {}", named(uploads)))?;
        }
    }
    Ok(())
}

fn named(uploads: &[UploadSeq]) -> String {
    let mut text = uploads.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if uploads.len() > NAMED {
        text.push_str(&format!(" and {} more (`--json` names all)", uploads.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_what_scripts_look_for() {
        let found = Audit { uploads: 9, answered: 8, missing: vec![UploadSeq(3)], ..Audit::default() };
        assert_eq!(line(&found), "AUDIT uploads=9 answered=8 missing=1 twice=0");
    }
}
