//! How long verdicts took: before the first fault, while faults struck, and after the last one; by tenths where none strikes.
//!
//! Takes    when each upload was sent, and when its verdict came into its stream, both by clocks that nobody sets wrong.
//! Gives    percentiles for the report, and how many verdicts bear the time of a clock that was set wrong.

use std::sync::PoisonError;

use anyhow::{Result, ensure};
use dih_core::topology::VERDICTS;
use dih_runner::ledger;
use futures::TryStreamExt;

use crate::{crowd::now_ms, report::Report, scene::Scene};

/// A clock further off than this was set wrong by a fault.
const OFF_MS: i64 = 30 * 60 * 1_000;
/// Windows after the last fault, in seconds after it.
const WINDOWS: [(i64, i64); 4] = [(0, 15), (15, 30), (30, 60), (60, i64::MAX / 1_000)];

pub(crate) async fn tell(scene: &Scene, struck_at: &[i64], report: &mut Report) -> Result<()> {
    let verdicts = verdicts(scene).await?;
    let mut told =
        String::from("Upload to verdict, seconds:\n\n| sent | uploads | p50 | p99 | most |\n|---|---|---|---|---|\n");
    let mut row = |when: &str, of: &dyn Fn(i64, i64) -> bool| {
        let took = verdicts.iter().filter(|(sent, answered)| of(*sent, *answered)).map(|(s, a)| a - s);
        told.push_str(&percentiles(when, took.collect()));
    };
    let (Some(first), Some(last)) = (struck_at.first(), struck_at.last()) else {
        let mut sent_at: Vec<i64> = verdicts.iter().map(|(sent, _)| *sent).collect();
        sent_at.sort_unstable();
        for (tenth, of) in sent_at.chunks(sent_at.len().div_ceil(10).max(1)).enumerate() {
            row(&format!("tenth {}", tenth + 1), &|sent, _| of.first() <= Some(&sent) && Some(&sent) <= of.last());
        }
        return report.say(&told);
    };
    row("and answered before the first fault", &|_, answered| answered < *first);
    row("while faults struck", &|sent, answered| answered >= *first && sent < *last);
    for (from, to) in WINDOWS {
        let after =
            move |sent: i64| sent >= last + from * 1_000 && sent < last.saturating_add(to.saturating_mul(1_000));
        let to = if to > 60 { String::new() } else { format!(" to {to}") };
        row(&format!("from {from}{to} s after the last one, a kill"), &|sent, _| after(sent));
    }
    report.say(&told)?;
    let off = wrong_clocks(scene).await?;
    ensure!(off > 0, "no verdict bears the time of a clock that was set wrong");
    report.say(&format!("{off} verdicts bear the time of a clock that was set wrong"))
}

/// A row of the table; none of nothing.
fn percentiles(when: &str, mut took_ms: Vec<i64>) -> String {
    took_ms.sort_unstable();
    let Some(most) = took_ms.last() else { return String::new() };
    let at = |share: f64| took_ms.get((took_ms.len() as f64 * share) as usize).map_or(0.0, |ms| *ms as f64 / 1e3);
    format!("| {when} | {} | {:.1} | {:.1} | {:.1} |\n", took_ms.len(), at(0.5), at(0.99), *most as f64 / 1e3)
}

/// When each upload was sent and answered, in milliseconds since 1970.
async fn verdicts(scene: &Scene) -> Result<Vec<(i64, i64)>> {
    let sent_at = scene.progress.sent_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let stream = scene.bus.jetstream().get_stream(VERDICTS).await?;
    let mut verdicts = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let Ok(message) = stream.direct_get(sequence).await else { continue };
        let upload = message.subject.rsplit('.').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or_default();
        let Some(sent) = upload.checked_sub(1).and_then(|n| sent_at.get(n)) else { continue };
        verdicts.push((*sent, i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000)?));
    }
    Ok(verdicts)
}

async fn wrong_clocks(scene: &Scene) -> Result<usize> {
    let (now, mut off) = (now_ms(), 0);
    let mut answers = ledger::answers(&scene.bus);
    while let Some(answer) = answers.try_next().await? {
        let times = answer.lineage.iter().map(|decision| decision.at).chain([answer.at]);
        off += usize::from(times.into_iter().any(|at| (at.0 - now).abs() > OFF_MS + 3_600_000));
    }
    Ok(off)
}
