//! `dih verdicts`: what became of every upload, one line each, in the order of the answers.

use std::collections::HashMap;

use clap::Args;
use dih_core::{
    UploadSeq,
    verdict::{Answer, Status},
};
use dih_runner::{Connection, ledger};
use futures::TryStreamExt;

use crate::{app::App, problem::Exit, scores, verdicts::Line};

#[derive(Debug, Args)]
pub struct Cmd {
    /// Only uploads whose present status is this: curated, duplicate, rejected, held or dead.
    #[arg(long, value_name = "VERDICT")]
    only: Option<Status>,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    let latest = latest(bus.connection()).await?;
    let judged = scores::of_latest_versions(&*bus.state().await?, &*bus.blobs(app)?).await?;
    let mut verdicts = ledger::answers(bus.connection());
    while let Some(first) = verdicts.try_next().await? {
        let score = first.image.and_then(|image| judged.get(&image).copied());
        let line = Line::of(&first, latest.get(&first.upload), score);
        if cmd.only.is_some_and(|only| only != line.verdict) {
            continue;
        }
        match app.out.json {
            true => app.out.json(&line)?,
            false => app.out.line(text(&line))?,
        }
    }
    Ok(Exit::Done)
}

/// The answer of the highest epoch for every upload that was decided anew; few are.
pub(super) async fn latest(connection: &Connection) -> anyhow::Result<HashMap<UploadSeq, Answer>> {
    let mut latest: HashMap<UploadSeq, Answer> = HashMap::new();
    let mut revisions = ledger::revisions(connection);
    while let Some(revision) = revisions.try_next().await? {
        match latest.get(&revision.upload) {
            Some(known) if known.epoch > revision.epoch => {}
            _ => {
                latest.insert(revision.upload, revision);
            }
        }
    }
    Ok(latest)
}

/// Lines stream, so columns have fixed widths.
fn text(line: &Line) -> String {
    let source = line.source.as_deref().unwrap_or("-");
    let score = line.label_score.map_or_else(|| "-".to_owned(), |score| format!("{score:.2}"));
    let mut text = format!(
        "{:>7}  {:<9}  {:<8}  {:<16}  {score:>5}  {:<20}  {source}",
        line.upload, line.verdict, line.stage, line.reason, line.label
    );
    if let Some(of) = line.of_upload {
        text.push_str(&format!("  repeats {of}"));
        if let Some(source) = &line.of_source {
            text.push_str(&format!(" ({source})"));
        }
    }
    text
}
