//! A home of its own in which the real commands are run and watched.
//!
//! Gives    their output, and samples of the process that runs the stages.
//! Crash    the folder is temporary; the embedded broker ends by itself when nobody uses it any more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use dih_core::StageName;
use dih_runner::{broker::server_pid, ledger};
use rustix::param::clock_ticks_per_second;
use serde::de::DeserializeOwned;
use tokio::{
    process::Child,
    time::{MissedTickBehavior, interval},
};

use super::{True, Verdict, cost::Sample};
use crate::{app::App, bus::Bus, config::Config, home::Home, problem::Problem};

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is sent, beside the folder it is made from: options of `dih simulate`.
#[derive(Clone, Debug)]
pub struct Crowd<'a> {
    pub photos: &'a Path,
    pub labels: Option<&'a Path>,
    pub uploads: usize,
    pub seed: u64,
    /// New shots of each photo, in place of each photo once as it is.
    pub shots: bool,
    pub repeats: f64,
    pub wrong_labels: f64,
}

/// What running the stages took.
#[derive(Clone, Debug)]
pub struct Run {
    pub samples: Vec<Sample>,
    /// CPU seconds of the broker meanwhile.
    pub broker_cpu: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl Run {
    /// CPU seconds of the process with the stages.
    pub fn cpu(&self) -> f64 {
        self.samples.last().map_or(0.0, |sample| sample.cpu)
    }
}

#[derive(Debug)]
pub struct Trial {
    folder: tempfile::TempDir,
    config: Option<PathBuf>,
}

impl Trial {
    pub fn new(config: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dih-bench-").tempdir();
        Ok(Self { folder: folder.context("could not make a temporary folder")?, config })
    }

    /// Has the commands to come do as this configuration says.
    pub fn configure(&mut self, config: &Config) -> anyhow::Result<()> {
        let path = self.folder.path().join("dih.toml");
        fs::write(&path, config.print()?).with_context(|| format!("could not write `{}`", path.display()))?;
        self.config = Some(path);
        Ok(())
    }

    /// The home of its own.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Makes the uploads; gives the truth about them, in the order in which they will be sent.
    pub async fn make(&self, crowd: &Crowd<'_>) -> anyhow::Result<Vec<True>> {
        let truth = self.folder.path().join("truth.csv");
        let mut command = self.command(&["simulate"]);
        command.arg(crowd.photos).arg("--out").arg(self.uploads()).arg("--truth").arg(&truth);
        command.args(["--uploads", &crowd.uploads.to_string(), "--seed", &crowd.seed.to_string()]);
        command.args(["--retransmissions", "0", "--broken", "0"]);
        command.args(["--repeats", &crowd.repeats.to_string(), "--wrong-labels", &crowd.wrong_labels.to_string()]);
        if let Some(labels) = crowd.labels {
            command.arg("--labels").arg(labels);
        }
        if !crowd.shots {
            command.arg("--originals");
        }
        output(command).await?;
        let rows: Result<Vec<True>, _> = csv::Reader::from_path(&truth)?.deserialize().collect();
        rows.context("could not read the truth about the crowd")
    }

    /// The uploads' files, in the order of `truth`.
    pub fn files(&self, truth: &[True]) -> Vec<PathBuf> {
        truth.iter().map(|upload| self.uploads().join(&upload.source)).collect()
    }

    /// Sends all, then runs these stages, or all when none is named, until they have nothing left to do, and watches them.
    pub async fn run(&self, app: &App<'_>, only: &[StageName]) -> anyhow::Result<Run> {
        let mut import = self.command(&["import"]);
        import.arg(self.uploads());
        output(import).await?;
        let home = Home::open(&self.home())?;
        let bus = Bus::attach(&home, &app.config).await?;
        let broker_cpu = || server_pid(home.root()).and_then(cpu_seconds).unwrap_or(0.0);
        let broker_before = broker_cpu();
        let begun = Instant::now();
        let mut stages = self.command(&["run", "--until-idle"]);
        stages.args(only.iter().map(|stage| stage.as_str()));
        let mut stages = tokio::process::Command::from(stages);
        let mut stages = stages.kill_on_drop(true).spawn().context("could not start `dih run`")?;
        let samples = watch(&mut stages, &bus, begun).await?;
        let status = stages.wait().await?;
        anyhow::ensure!(status.success(), "`dih run --until-idle` ended with {status}");
        Ok(Run { samples, broker_cpu: broker_cpu() - broker_before, seconds: begun.elapsed().as_secs_f64() })
    }

    /// Cuts a version of everything, which doubts labels.
    pub async fn cut(&self) -> anyhow::Result<()> {
        self.cut_as("bench", &[]).await
    }

    /// Cuts a version of everything under a name, with further options of `dih datasets create`.
    pub async fn cut_as(&self, name: &str, options: &[&str]) -> anyhow::Result<()> {
        let mut create = self.command(&["datasets", "create", name, "--no-shards"]);
        create.args(options);
        output(create).await?;
        output(self.command(&["datasets", "cut", name])).await.map(drop)
    }

    /// Lets the uploads claim what `truth` says they do, in place of what they claimed when they were made.
    pub fn relabel(&self, truth: &[True]) -> anyhow::Result<()> {
        let path = self.uploads().join("labels.csv");
        let mut rows = csv::Writer::from_path(&path)?;
        rows.write_record(["file", "label", "device"])?;
        for upload in truth {
            rows.write_record([&upload.source, &upload.label, &upload.device])?;
        }
        rows.flush().with_context(|| format!("could not write `{}`", path.display()))
    }

    /// The same uploads, for another home.
    pub fn twin(&self) -> anyhow::Result<Self> {
        let twin = Self::new(self.config.clone())?;
        copy_folder(&self.uploads(), &twin.uploads()).context("could not copy the uploads")?;
        Ok(twin)
    }

    /// The manifest of version 1 of a data set.
    pub fn manifest(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let found = walk(&self.home())?;
        let wanted = Path::new("datasets").join(name).join("1").join("manifest.parquet");
        let path = found.into_iter().find(|path| path.ends_with(&wanted));
        Ok(fs::read(path.with_context(|| format!("`{name}` has no manifest"))?)?)
    }

    /// Trains on version 1 of a data set; what `dih train --json` says.
    pub async fn train(&self, name: &str) -> anyhow::Result<serde_json::Value> {
        let said = output(self.command(&["train", &format!("{name}@1"), "--json"])).await?;
        serde_json::from_str(&said).with_context(|| format!("could not read {said}"))
    }

    pub async fn verdicts(&self) -> anyhow::Result<Vec<Verdict>> {
        lines(&output(self.command(&["verdicts", "--json"])).await?)
    }

    /// Where the uploads lie before they are sent.
    pub fn uploads(&self) -> PathBuf {
        self.folder.path().join("uploads")
    }

    fn command(&self, args: &[&str]) -> Command {
        let own = std::env::current_exe().unwrap_or_else(|_| "dih".into());
        let mut command = Command::new(own);
        command.args(args).arg("--home").arg(self.home()).stdin(Stdio::null());
        command.env_remove("DIH_HOME").env_remove("DIH_CONFIG");
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
    }
}

/// Runs to the end; what it says on standard error shows how far it is.
async fn output(mut command: Command) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    command.stdout(Stdio::piped());
    // Not `output`, which would keep standard error to itself.
    let child = tokio::process::Command::from(command).spawn().with_context(|| format!("could not run {what}"))?;
    let done = child.wait_with_output().await.with_context(|| format!("could not run {what}"))?;
    if !done.status.success() {
        return Err(Problem::new(format!("{what} ended with {}", done.status), "its reason stands above").into());
    }
    String::from_utf8(done.stdout).context("its output is not UTF-8")
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?
        } else {
            fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}

fn walk(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(walk(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}

fn lines<T: DeserializeOwned>(text: &str) -> anyhow::Result<Vec<T>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("could not read {line}"))).collect()
}

async fn watch(stages: &mut Child, bus: &Bus, begun: Instant) -> anyhow::Result<Vec<Sample>> {
    let pid = stages.id().context("`dih run` ended at once")?;
    let mut samples = Vec::new();
    let mut tact = interval(LOOK_EVERY);
    tact.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stages.wait() => break,
            _ = tact.tick() => {}
        }
        let (Some(cpu), Some((resident, peak))) = (cpu_seconds(pid), memory(pid)) else { continue };
        let answered = ledger::answered(bus.connection()).await?;
        samples.push(Sample { at: begun.elapsed().as_secs_f64(), answered, cpu, resident, peak });
    }
    // What was answered between the last look and the end.
    if let Some(last) = samples.last_mut() {
        last.answered = ledger::answered(bus.connection()).await?;
    }
    Ok(samples)
}

/// User and system time of a process, from `/proc/PID/stat`.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold spaces; after its parenthesis, the 12th and 13th field are the times.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / clock_ticks_per_second() as f64)
}

/// Bytes in physical memory: now, and most ever.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_be_looked_at() {
        let own = std::process::id();
        let (resident, peak) = memory(own).expect("it runs");
        assert!(resident > 0 && peak >= resident);
        assert!(cpu_seconds(own).is_some_and(|seconds| seconds >= 0.0));
        assert_eq!(cpu_seconds(u32::MAX), None);
    }
}
