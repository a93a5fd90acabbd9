//! `dih explain`: every decision about one photo.

use std::time::{Duration, SystemTime};

use clap::Args;
use dih_core::{
    ImageId, Millis, UploadSeq,
    repeat::{FoundBy, Repeat},
    verdict::{Answer, Decision},
};
use dih_runner::{
    Connection,
    ledger::{self, History},
};
use futures::TryStreamExt;

use crate::{
    app::App,
    output::Table,
    problem::{Exit, Problem},
    simulate::truth::joined,
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// Number of the upload, id of the image, or the path it was imported by.
    #[arg(value_name = "IMAGE|UPLOAD")]
    what: String,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    let histories = find(bus.connection(), &cmd.what).await?;
    if histories.is_empty() {
        return Err(unknown(bus.connection(), &cmd.what).await?.into());
    }
    for (n, history) in histories.iter().enumerate() {
        match app.out.json {
            true => {
                let History { verdict, revisions } = history;
                let present = history.present().status;
                app.out.json(&serde_json::json!({ "present": present, "verdict": verdict, "revisions": revisions }))?;
            }
            false => {
                if n > 0 {
                    app.out.line("")?;
                }
                print(app, history)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// All uploads that are meant: several may have sent the same bytes, or used the same path.
async fn find(connection: &Connection, what: &str) -> anyhow::Result<Vec<History>> {
    let mut histories = Vec::new();
    if let Ok(upload) = what.parse() {
        histories.extend(ledger::history_of(connection, UploadSeq(upload)).await?);
        return Ok(histories);
    }
    let image: Option<ImageId> = what.parse().ok();
    let is_meant = |answer: &Answer| match image {
        Some(image) => answer.image == Some(image),
        None => answer.source.as_deref() == Some(what),
    };
    let mut uploads = Vec::new();
    let mut answers = ledger::answers(connection);
    while let Some(answer) = answers.try_next().await? {
        if is_meant(&answer) {
            uploads.push(answer.upload);
        }
    }
    for upload in uploads {
        histories.extend(ledger::history_of(connection, upload).await?);
    }
    Ok(histories)
}

async fn unknown(connection: &Connection, what: &str) -> anyhow::Result<Problem> {
    let last = ledger::last_upload_seq(connection).await?;
    Ok(match what.parse::<u64>() {
        Ok(upload) if (1..=last.0).contains(&upload) => {
            Problem::new(format!("upload {upload} is not answered yet"), "run the stages: `dih run --until-idle`")
        }
        Ok(upload) => {
            Problem::new(format!("there is no upload {upload}; the last one is {last}"), "see `dih verdicts`")
        }
        Err(_) => Problem::new(format!("no answered upload is or is called `{what}`"), "see `dih verdicts`"),
    })
}

fn print(app: &App<'_>, history: &History) -> anyhow::Result<()> {
    let (first, present) = (&history.verdict, history.present());
    let out = app.out;
    out.line(out.bold(&format!("upload {}: {} ({})", first.upload, present.status, present.reason)))?;
    let facts = [
        ("source", present.source.clone().or_else(|| first.source.clone())),
        ("image", present.image.or(first.image).map(|image| image.to_string())),
        ("device", present.device.as_ref().or(first.device.as_ref()).map(ToString::to_string)),
        ("labels", Some(joined(&present.labels)).filter(|labels| !labels.is_empty())),
        ("label score", present.label_score.map(|score| format!("{score:.3}"))),
        ("because", present.detail.clone()),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            out.line(format!("  {name:<12}{value}"))?;
        }
    }
    if let Some(repeat) = &present.repeat {
        evidence(app, repeat)?;
    }
    out.line("")?;
    out.table(&decisions(history))?;
    Ok(())
}

fn evidence(app: &App<'_>, repeat: &Repeat) -> anyhow::Result<()> {
    let source = repeat.of_source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
    app.out.line(format!("  {:<12}upload {}{source}, image {}", "repeats", repeat.of_upload, repeat.of))?;
    let found = match repeat.found_by {
        FoundBy::Content => "the same bytes".to_owned(),
        FoundBy::Fingerprint { distance, orientation } => {
            format!("fingerprints differ in {distance} of 64 bits (orientation {orientation})")
        }
        FoundBy::Vector { cosine } => format!("vectors with cosine {cosine:.3}"),
    };
    app.out.line(format!("  {:<12}{found}", "found by"))?;
    let Some(proof) = &repeat.evidence else { return Ok(()) };
    let mirrored = if proof.mirrored { "mirrored, then " } else { "" };
    let [a, b, c, d, e, f] = proof.transform;
    app.out.line(format!(
        "  {:<12}{} of {} blocks agree on {mirrored}x' = {a:.3}x {b:+.3}y {c:+.1}, y' = {d:.3}x {e:+.3}y {f:+.1}",
        "proof", proof.inliers, proof.matched
    ))?;
    app.out.line(format!(
        "  {:<12}overlap {:.0} %, correlation of luma {:.3}, distance of colour {:.1}",
        "",
        100.0 * proof.overlap,
        proof.correlation,
        proof.colour
    ))?;
    Ok(())
}

/// The lineage of the verdict, then of each revision what is new in it, each closed by its answer.
fn decisions(history: &History) -> Table {
    let mut table = Table::new(["time", "stage", "decision", "score", "threshold", "model", "detail"]);
    let mut told: Vec<&Decision> = Vec::new();
    for answer in std::iter::once(&history.verdict).chain(&history.revisions) {
        for decision in &answer.lineage {
            if !told.contains(&decision) {
                told.push(decision);
                table.row(row(decision));
            }
        }
        let what = match answer.epoch.0 {
            0 => format!("verdict: {}", answer.status),
            epoch => format!("revision {epoch}: {}", answer.status),
        };
        let detail = format!("{} {}", answer.reason, answer.detail.as_deref().unwrap_or_default());
        let none = || "-".to_owned();
        table.row([time(answer.at), answer.stage.to_string(), what, none(), none(), none(), detail]);
    }
    table
}

fn row(decision: &Decision) -> [String; 7] {
    let number = |n: Option<f32>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.4}"));
    [
        time(decision.at),
        decision.stage.to_string(),
        decision.what.clone(),
        number(decision.score),
        number(decision.threshold),
        decision.model.clone().unwrap_or_else(|| "-".to_owned()),
        decision.detail.clone().unwrap_or_default(),
    ]
}

/// As RFC 3339, in UTC.
pub(super) fn time(at: Millis) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use dih_core::{StageName, verdict::Status};

    use super::*;
    use crate::verdicts::tests::answer;

    #[test]
    fn every_decision_is_told_once_and_every_answer_closes_its_own() {
        let decision = |what: &str| Decision { at: Millis(1), ..Decision::new(StageName::Ingest, what) };
        let mut verdict = answer(1, 0, Status::Duplicate);
        verdict.lineage = vec![decision("stored")];
        let mut revision = answer(1, 1, Status::Curated);
        revision.lineage = vec![decision("stored"), decision("promoted")];
        let table = format!("{:?}", decisions(&History { verdict, revisions: vec![revision] }));
        for (what, times) in
            [("\"stored\"", 1), ("\"promoted\"", 1), ("verdict: duplicate", 1), ("revision 1: curated", 1)]
        {
            assert_eq!(table.matches(what).count(), times, "{what} in {table}");
        }
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(time(Millis(1_767_254_400_000)), "2026-01-01T08:00:00.000Z");
    }
}
