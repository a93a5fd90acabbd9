//! `dih capacity`: how much it takes for so many photos a day.

use std::{fs, path::PathBuf};

use clap::Args;
use dih_core::config::ByteSize;
use serde_json::json;

use crate::{
    app::App,
    capacity::{
        Bill, Load, Need, bill,
        costs::Cost,
        plot,
        scaler::{self, SPAN_S, Trace},
    },
    output::Table,
    problem::{Exit, OrProblem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// Photos that devices send a day.
    #[arg(long, value_name = "N", value_parser = positive)]
    photos_per_day: f64,
    /// The busiest hour over the mean one.
    #[arg(long, default_value = "3", value_name = "TIMES", value_parser = at_least_one)]
    peak: f64,
    /// Mean size of an uploaded file.
    #[arg(long, default_value = "200kB", value_name = "SIZE")]
    photo_bytes: ByteSize,
    /// Share of uploads that are curated, 0 to 1.
    #[arg(long, default_value = "0.7", value_name = "SHARE", value_parser = share)]
    curated: f64,
    /// Days that photos are kept.
    #[arg(long, default_value = "365", value_name = "N", value_parser = positive)]
    days: f64,
    /// CPU-milliseconds a photo of a stage, or of `index`, in place of those in docs/BENCHMARKS.md: `verify=7.5`.
    #[arg(long = "cost", value_name = "STAGE=MS", value_parser = cost)]
    costs: Vec<(String, f64)>,
    /// Photos a second that verify does on one of your GPUs, as `dih bench speed` says there.
    #[arg(long, value_name = "N", value_parser = positive)]
    gpu: Option<f64>,
    /// Draw what the scalers of k8s/ make of a day with an hour's burst.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// A stage through a day with a burst.
struct Day<'a> {
    need: &'a Need,
    trace: Trace,
}

pub fn run(app: &App<'_>, cmd: &Cmd) -> anyhow::Result<Exit> {
    let load = Load {
        photos_per_day: cmd.photos_per_day,
        peak: cmd.peak,
        photo_bytes: cmd.photo_bytes.0 as f64,
        curated: cmd.curated,
        days: cmd.days,
    };
    let mut costs = Cost::default();
    for (name, milliseconds) in &cmd.costs {
        costs.set(name, *milliseconds);
    }
    let bill = bill(&load, &costs, cmd.gpu);
    let arriving: Vec<f64> = (0..SPAN_S).map(|second| scaler::arriving(&load, second)).collect();
    let days = days(&bill, &arriving);
    if let Some(file) = &cmd.plot {
        let stages: Vec<_> = days.iter().map(|day| (day.need.stage.as_str(), day.trace.clone())).collect();
        let what = format!("could not write `{}`", file.display());
        fs::write(file, plot::svg(&arriving, &stages)).or_problem(what, "name a file in a folder of yours")?;
    }
    match app.out.json {
        true => app.out.json(&json!({ "bill": bill, "burst": days.iter().map(in_json).collect::<Vec<_>>() }))?,
        false => print(app, &load, &bill, &days)?,
    }
    Ok(Exit::Done)
}

/// What one stage hands on comes to the next.
fn days<'a>(bill: &'a Bill, arriving: &[f64]) -> Vec<Day<'a>> {
    let mut coming = arriving.to_vec();
    let mut days = Vec::new();
    for need in &bill.stages {
        let (trace, handed_on) = scaler::run(need, &coming);
        coming = handed_on;
        days.push(Day { need, trace });
    }
    days
}

fn in_json(day: &Day<'_>) -> serde_json::Value {
    let speed = scaler::per_replica(day.need);
    json!({
        "stage": day.need.stage,
        "replicas_most": day.trace.replicas.iter().max(),
        "longest_wait_s": day.trace.longest_wait_s(speed),
        "caught_up_after_s": day.trace.caught_up_after_s(speed),
        "regretted": day.trace.regretted,
    })
}

fn print(app: &App<'_>, load: &Load, bill: &Bill, days: &[Day<'_>]) -> anyhow::Result<()> {
    let out = app.out;
    out.line(format!("{:.1} photos a second, {:.1} in the busiest hour", load.mean(), load.busiest()))?;
    let mut table = Table::new(["stage", "ms a photo", "replicas", "cores", "longest wait", "caught up after"]);
    for Day { need, trace } in days {
        let speed = scaler::per_replica(need);
        let caught_up = trace.caught_up_after_s(speed).map_or_else(|| "never".to_owned(), |s| format!("{s} s"));
        table.row([
            need.stage.to_string(),
            format!("{:.1}", need.cpu_ms_per_photo),
            format!("{} to {}", need.replicas_min, need.replicas_max),
            format!("{:.2}", need.cores),
            format!("{:.0} s", trace.longest_wait_s(speed)),
            caught_up,
        ]);
    }
    out.table(&table)?;
    out.line(format!(
        "cores     {:.1}, of them {:.1} busy with the index in the busiest hour",
        bill.cores, bill.index_cores
    ))?;
    if let Some(gpus) = bill.gpus {
        out.line(format!("GPUs      {gpus} for verify, in place of its cores"))?;
    }
    out.line(format!("pictures  {} for {} days", size(bill.pictures_bytes), load.days))?;
    out.line(format!(
        "index     {} of disk, {} of memory",
        size(bill.index_disk_bytes),
        size(bill.index_memory_bytes)
    ))?;
    out.line(format!("broker    {}, an hour of uploads that nobody takes among it", size(bill.broker_bytes)))?;
    out.line(out.dim(
        "replicas: `minReplicaCount` and `maxReplicaCount`; waits: of an hour at the peak, under the scalers of k8s/",
    ))?;
    Ok(())
}

fn size(bytes: f64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6)];
    let (unit, one) = units.into_iter().find(|(_, one)| bytes >= *one).unwrap_or(("kB", 1e3));
    format!("{:.1} {unit}", bytes / one)
}

fn number(text: &str, fits: impl Fn(f64) -> bool, otherwise: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if number.is_finite() && fits(number) { Ok(number) } else { Err(otherwise.to_owned()) }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |n| n > 0.0, "must be above 0")
}

fn at_least_one(text: &str) -> Result<f64, String> {
    number(text, |n| n >= 1.0, "must be at least 1")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |n| (0.0..=1.0).contains(&n), "must be between 0 and 1")
}

fn cost(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("write STAGE=MS, for example verify=7.5")?;
    let value = positive(value)?;
    match Cost::default().set(name, value) {
        true => Ok((name.to_owned(), value)),
        false => Err(format!("{name:?} is neither a stage nor `index`")),
    }
}
