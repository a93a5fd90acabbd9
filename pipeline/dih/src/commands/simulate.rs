//! `dih simulate`: sends what a crowd of devices would.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use dih_core::{
    UploadSeq,
    event::{Content, Upload},
};
use futures::{StreamExt, pin_mut};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    app::App,
    bus::Bus,
    import::labelled,
    problem::{Exit, OrProblem, Problem},
    progress::Progress,
    simulate::{
        plan::{Crowd, Photo, Sending, plan},
        studio::Studio,
        truth::{Truth, joined},
    },
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// Folder of photos that the crowd stands before: one folder a label, or with a `labels.csv`.
    dir: PathBuf,
    /// CSV with the columns `file,label`.
    #[arg(long, value_name = "CSV")]
    labels: Option<PathBuf>,
    /// Uploads in all.
    #[arg(long, default_value_t = 500, value_name = "N")]
    uploads: usize,
    /// Devices that send.
    #[arg(long, default_value_t = 8, value_name = "N")]
    devices: usize,
    /// Uploads a second; as fast as possible without.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// The same seed gives the same bytes in the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of uploads that are an earlier shot, edited.
    #[arg(long, default_value_t = 0.10, value_name = "SHARE", value_parser = share)]
    repeats: f64,
    /// Share of uploads that are an earlier shot, byte by byte.
    #[arg(long, default_value_t = 0.04, value_name = "SHARE", value_parser = share)]
    retransmissions: f64,
    /// Share of uploads that are of no use: cut off, garbage, flat, dark, blurred, …
    #[arg(long, default_value_t = 0.06, value_name = "SHARE", value_parser = share)]
    broken: f64,
    /// Share of uploads with a wrong label.
    #[arg(long, default_value_t = 0.04, value_name = "SHARE", value_parser = share)]
    wrong_labels: f64,
    /// Share of uploads that arrive late.
    #[arg(long, default_value_t = 0.10, value_name = "SHARE", value_parser = share)]
    late: f64,
    /// Send each photo once as it is, instead of new shots of it; repeats and broken ones come among them.
    #[arg(long)]
    originals: bool,
    /// Write the truth about every upload to this CSV.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Write the files and a `labels.csv` to this folder instead of sending them.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Cmd {
    fn crowd(&self) -> Crowd {
        Crowd {
            uploads: self.uploads,
            devices: self.devices,
            seed: self.seed,
            repeats: self.repeats,
            retransmissions: self.retransmissions,
            broken: self.broken,
            wrong_labels: self.wrong_labels,
            late: self.late,
            originals: self.originals,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().map_err(|_| "is no number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("is a share between 0 and 1".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if (0.001..=100_000.0).contains(&rate) { Ok(rate) } else { Err("is uploads a second, above 0".to_owned()) }
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let (photos, paths) = photos(&cmd)?;
    let names: Vec<String> = paths.iter().map(|path| below(&cmd.dir, path)).collect();
    let sendings = plan(&photos, &cmd.crowd());
    let sendings = sendings.map_err(|e| Problem::usage(e.to_string(), "see `dih simulate --help`"))?;
    let mut to = match &cmd.out {
        Some(dir) => To::Folder(Box::new(Folder::create(dir)?)),
        None => To::Bus { bus: Box::new(app.bus().await?), tact: cmd.rate.map(tact), seed: cmd.seed },
    };
    let mut truth = cmd.truth.as_deref().map(Truth::create).transpose()?;
    let mut progress = Progress::of(sendings.len() as u64, "photos");
    let mut counts = Counts::default();
    let shots = Studio::new(paths).shoot(sendings);
    pin_mut!(shots);
    while let Some(shot) = shots.next().await {
        let (sending, bytes) = shot?;
        let upload = to.send(&sending, bytes?, &mut counts).await?;
        if let Some(truth) = &mut truth {
            truth.row(&sending, &names[sending.photo], upload).context("could not write the truth")?;
        }
        progress.step();
    }
    truth.map(Truth::finish).transpose().context("could not write the truth")?;
    to.finish()?;
    drop(progress);
    report(app, &counts)?;
    Ok(Exit::Done)
}

#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    sent: u64,
    /// The broker had them already: this very crowd was sent within the hour.
    dropped: u64,
}

fn report(app: &App<'_>, counts: &Counts) -> anyhow::Result<()> {
    match (app.out.json, counts.dropped) {
        (true, _) => app.out.json(counts),
        (false, 0) => Ok(app.out.line(format!("{} sent", counts.sent))?),
        (false, n) => {
            Ok(app.out.line(format!("{} sent, {n} already there (another --seed is another crowd)", counts.sent))?)
        }
    }
}

/// The photos and their files; a row that cannot be read stops the simulation, for its truth would be wrong.
fn photos(cmd: &Cmd) -> anyhow::Result<(Vec<Photo>, Vec<PathBuf>)> {
    let found = labelled::read(&cmd.dir, cmd.labels.as_deref())?;
    if let Some(fault) = found.faults.first() {
        return Err(Problem::usage(fault.to_string(), "correct the row, or take it out").into());
    }
    let name = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let photo = |row: &labelled::Row| Photo { name: name(&row.path), labels: row.labels.clone() };
    let photos = found.rows.iter().map(photo).collect();
    Ok((photos, found.rows.into_iter().map(|row| row.path).collect()))
}

fn below(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

fn tact(rate: f64) -> Interval {
    let mut tact = interval(Duration::from_secs_f64(1.0 / rate));
    tact.set_missed_tick_behavior(MissedTickBehavior::Burst); // the rate holds on the whole
    tact
}

/// Where the crowd's photos go.
enum To {
    Bus { bus: Box<Bus>, tact: Option<Interval>, seed: u64 },
    Folder(Box<Folder>),
}

impl To {
    async fn send(
        &mut self,
        sending: &Sending,
        bytes: Bytes,
        counts: &mut Counts,
    ) -> anyhow::Result<Option<UploadSeq>> {
        let Self::Bus { bus, tact, seed } = self else {
            let Self::Folder(folder) = self else { return Ok(None) };
            counts.sent += 1;
            return folder.write(sending, &bytes).map(|()| None);
        };
        if let Some(tact) = tact {
            tact.tick().await;
        }
        let upload = Upload {
            device: sending.device.clone(),
            labels: sending.labels.clone(),
            content: Content::Inline(bytes),
            source: Some(sending.source.clone()),
            captured_at: Some(sending.captured_at),
            attributes: Default::default(),
        };
        // A device that only lost the answer sends the same bytes in a message of its own, as over MQTT.
        let sent = bus.submit(upload, &format!("simulate-{seed}-{}", sending.source)).await?;
        match sent.again {
            true => counts.dropped += 1,
            false => counts.sent += 1,
        }
        Ok(Some(sent.upload))
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Bus { .. } => Ok(()),
            Self::Folder(folder) => folder.finish(),
        }
    }
}

/// A folder that `dih import` reads.
pub(crate) struct Folder {
    root: PathBuf,
    labels: csv::Writer<fs::File>,
}

impl Folder {
    pub(crate) fn create(root: &Path) -> anyhow::Result<Self> {
        let what = format!("could not make `{}`", root.display());
        let make = || {
            fs::create_dir_all(root.join("crowd"))?;
            fs::File::create(root.join("labels.csv"))
        };
        let mut labels = csv::Writer::from_writer(make().or_problem(what, "name another folder with `--out DIR`")?);
        labels.write_record(["file", "label", "device"])?;
        Ok(Self { root: root.to_owned(), labels })
    }

    pub(crate) fn write(&mut self, sending: &Sending, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.root.join(&sending.source);
        fs::write(&path, bytes).with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(self.labels.write_record([&sending.source, &joined(&sending.labels), sending.device.as_str()])?)
    }

    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.labels.flush()?)
    }
}
