//! `dih dead`: what no stage could process.

use clap::{Args, Subcommand};
use dih_runner::dead::{self, Dead};
use serde_json::{Value, json};

use super::explain::time;
use crate::{
    app::App,
    output::{Table, say},
    problem::{Exit, Problem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all dead letters.
    Ls,
    /// Show one with its reasons.
    Show { id: u64 },
    /// Send dead letters on their way again, once what ailed them is mended.
    Replay {
        #[arg(required_unless_present = "all")]
        ids: Vec<u64>,
        /// Every dead letter there is.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    match cmd.what {
        What::Ls => ls(app, &dead::list(bus.connection()).await?),
        What::Show { id } => {
            let missing = || Problem::new(format!("there is no dead letter {id}"), "`dih dead ls` names them");
            show(app, &dead::show(bus.connection(), id).await?.ok_or_else(missing)?)
        }
        What::Replay { ids, all } => {
            let ids = match all {
                true => dead::list(bus.connection()).await?.iter().map(|dead| dead.id).collect(),
                false => ids,
            };
            let mut failed = 0;
            for id in &ids {
                match dead::replay(bus.connection(), *id).await {
                    Ok(done) if app.out.json => {
                        app.out.json(&json!({ "id": id, "subject": done.subject, "upload": done.upload }))?;
                    }
                    Ok(done) => {
                        let upload = done.upload.map(|upload| format!(" as upload {upload}")).unwrap_or_default();
                        app.out.line(format!("{id} is on its way again{upload}"))?;
                    }
                    Err(error) => {
                        failed += 1;
                        say(dih_core::chain(&error).to_string());
                    }
                }
            }
            Ok(match failed {
                0 => Exit::Done,
                n if n < ids.len() => Exit::Partly,
                _ => Exit::Failed,
            })
        }
    }
}

fn ls(app: &App<'_>, letters: &[Dead]) -> anyhow::Result<Exit> {
    let mut table = Table::new(["id", "time", "stage", "upload", "attempts", "reason"]);
    for dead in letters {
        if app.out.json {
            app.out.json(&value(dead))?;
            continue;
        }
        let letter = &dead.letter;
        let upload = letter.upload.map_or_else(|| "-".to_owned(), |upload| upload.to_string());
        let reason = letter.reasons.first().cloned().unwrap_or_default();
        let (id, attempts) = (dead.id.to_string(), letter.attempts.to_string());
        table.row([id, time(letter.at), letter.consumer.clone(), upload, attempts, reason]);
    }
    match (app.out.json, table.is_empty()) {
        (true, _) => {}
        (false, true) => app.out.line("there is no dead letter")?,
        (false, false) => app.out.table(&table)?,
    }
    Ok(Exit::Done)
}

fn show(app: &App<'_>, dead: &Dead) -> anyhow::Result<Exit> {
    if app.out.json {
        app.out.json(&value(dead))?;
        return Ok(Exit::Done);
    }
    let (out, letter) = (app.out, &dead.letter);
    out.line(out.bold(&format!("dead letter {} of {}, {}", dead.id, letter.consumer, time(letter.at))))?;
    if let Some(upload) = letter.upload {
        out.line(format!("  upload    {upload}"))?;
    }
    out.line(format!("  from      {}, message {} of {}", letter.subject, letter.stream_sequence, letter.stream))?;
    out.line(format!("  payload   {} bytes, after {} attempts", letter.payload.len(), letter.attempts))?;
    for (name, value) in &letter.headers {
        out.line(format!("  header    {name}: {value}"))?;
    }
    for reason in &letter.reasons {
        out.line(format!("  reason    {reason}"))?;
    }
    out.line(format!("once that is mended: `dih dead replay {}`", dead.id))?;
    Ok(Exit::Done)
}

/// Without the payload, which may be a photo.
fn value(dead: &Dead) -> Value {
    let letter = &dead.letter;
    json!({
        "id": dead.id,
        "consumer": letter.consumer,
        "subject": letter.subject,
        "headers": letter.headers,
        "payload_bytes": letter.payload.len(),
        "stream": letter.stream,
        "stream_sequence": letter.stream_sequence,
        "upload": letter.upload,
        "reasons": letter.reasons,
        "attempts": letter.attempts,
        "at": letter.at,
    })
}
