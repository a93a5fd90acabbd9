//! `dih device`: who may send photos from outside, with which keys, and how many.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use dih_core::{
    DeviceId, Millis, Secret,
    config::ByteSize,
    device::{Device, Quota},
};
use dih_runner::{
    broker::{self, keys},
    ledger,
};
use dih_stores::devices::Registry;
use futures::TryStreamExt;
use serde_json::json;

use super::{explain::time, verdicts::latest};
use crate::{
    app::App,
    bus::Bus,
    output::{Table, say},
    problem::{Exit, OrProblem, Problem},
    reputation::Reputation,
};

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Let a device in: writes its keys into two files, once, for the device alone.
    Add {
        name: DeviceId,
        #[command(flatten)]
        keys: KeyFiles,
        #[command(flatten)]
        limits: Limits,
    },
    /// List devices: their keys, their quota, and what became of their uploads.
    Ls,
    /// Give a device new keys; those it had are refused from now on.
    Rotate {
        name: DeviceId,
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Shut a device out, at once. What it sent stays.
    Revoke { name: DeviceId },
    /// Set the quota of a device.
    Limit {
        name: DeviceId,
        #[command(flatten)]
        limits: Limits,
    },
    /// Print the users of all devices, to be included by a broker of your own; see docs/devices.md.
    Conf,
}

#[derive(Debug, Args)]
struct KeyFiles {
    /// Folder for `NAME.nk` (seed for NATS) and `NAME.password` (for MQTT).
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

/// What is not given is as `[devices]` of the configuration says.
#[derive(Clone, Copy, Debug, Args)]
struct Limits {
    /// Photos within an hour.
    #[arg(long, value_name = "N")]
    photos_per_hour: Option<u64>,
    /// Bytes of photos within an hour, `500MB`.
    #[arg(long, value_name = "SIZE")]
    bytes_per_hour: Option<ByteSize>,
}

impl From<Limits> for Quota {
    fn from(limits: Limits) -> Self {
        Self { photos_per_hour: limits.photos_per_hour, bytes_per_hour: limits.bytes_per_hour }
    }
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    let registry = bus.registry().await?;
    match cmd.what {
        What::Add { name, keys, limits } => add(app, &bus, &registry, name, &keys.dir, limits.into()).await?,
        What::Ls => ls(app, &bus, &registry.all().await?).await?,
        What::Rotate { name, keys } => rotate(app, &bus, &registry, &name, &keys.dir).await?,
        What::Revoke { name } => {
            let revoked = registry.change(&name, |device| {
                device.keys = None;
                device.changed_at = Millis::now();
            });
            revoked.await?.ok_or_else(|| unknown(&name))?;
            admit(&bus, &registry).await?;
            told(app, &name, "is shut out", None)?;
        }
        What::Limit { name, limits } => {
            let limited = registry.change(&name, |device| device.quota = limits.into()).await?;
            let quota = limited.ok_or_else(|| unknown(&name))?.quota.or(app.config.devices);
            told(app, &name, &format!("may send {}", in_words(quota)), None)?;
        }
        What::Conf => {
            let users = broker::users(&registry.all().await?);
            app.out.line(users.trim_end())?;
        }
    }
    Ok(Exit::Done)
}

async fn add(
    app: &App<'_>,
    bus: &Bus,
    registry: &Registry,
    name: DeviceId,
    dir: &Path,
    quota: Quota,
) -> anyhow::Result<()> {
    if registry.get(&name).await?.is_some() {
        return Err(taken(&name));
    }
    let (given, keys) = keys::make()?;
    // Before the registry knows it: keys that are lost would be of no use.
    let files = write_keys(dir, &name, &given)?;
    let now = Millis::now();
    let device = Device { id: name.clone(), keys: Some(keys), quota, added_at: now, changed_at: now };
    if !registry.add(&device).await? {
        for file in &files {
            let _ = fs::remove_file(file);
        }
        return Err(taken(&name));
    }
    admit(bus, registry).await?;
    told(app, &name, "is let in", Some(&files))
}

async fn rotate(app: &App<'_>, bus: &Bus, registry: &Registry, name: &DeviceId, dir: &Path) -> anyhow::Result<()> {
    registry.get(name).await?.ok_or_else(|| unknown(name))?;
    let (given, keys) = keys::make()?;
    let files = write_keys(dir, name, &given)?;
    let changed = registry.change(name, |device| {
        device.keys = Some(keys.clone());
        device.changed_at = Millis::now();
    });
    changed.await?.ok_or_else(|| unknown(name))?;
    admit(bus, registry).await?;
    told(app, name, "has new keys", Some(&files))
}

/// Tells the embedded broker who may come in; of another broker that is its operator's business.
async fn admit(bus: &Bus, registry: &Registry) -> anyhow::Result<()> {
    match bus.embedded() {
        Some(broker) => Ok(broker.admit(&registry.all().await?).await?),
        None => {
            say("load what `dih device conf` prints into your broker, else nothing changes there");
            Ok(())
        }
    }
}

/// For the owner's eyes only; never over what is there.
fn write_keys(dir: &Path, name: &DeviceId, given: &keys::Given) -> anyhow::Result<[PathBuf; 2]> {
    let write = |file: PathBuf, secret: &Secret| {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        let written = made.and_then(|mut made| writeln!(made, "{}", secret.expose()));
        let what = format!("could not write the keys into `{}`", file.display());
        written.or_problem(what, "name a folder with `--dir` that holds no such file yet").map(|()| file)
    };
    fs::create_dir_all(dir).or_problem(format!("could not make `{}`", dir.display()), "name another with `--dir`")?;
    let seed = write(dir.join(format!("{name}.nk")), &given.seed)?;
    match write(dir.join(format!("{name}.password")), &given.password) {
        Ok(password) => Ok([seed, password]),
        Err(error) => {
            let _ = fs::remove_file(seed);
            Err(error)
        }
    }
}

fn told(app: &App<'_>, name: &DeviceId, what: &str, files: Option<&[PathBuf; 2]>) -> anyhow::Result<()> {
    if app.out.json {
        let [seed, password] = files.map_or([None, None], |[seed, password]| [Some(seed), Some(password)]);
        return app.out.json(&json!({ "device": name, "done": what, "nkey_file": seed, "password_file": password }));
    }
    app.out.line(format!("{name} {what}"))?;
    if let Some([seed, password]) = files {
        let inbox = broker::inbox_prefix(name);
        app.out.line(format!("  NATS  seed in `{}`, inbox prefix `{inbox}`", seed.display()))?;
        app.out.line(format!("  MQTT  user `{name}`, password in `{}`", password.display()))?;
    }
    Ok(())
}

async fn ls(app: &App<'_>, bus: &Bus, devices: &[Device]) -> anyhow::Result<()> {
    let reputations = reputations(bus).await?;
    let mut table = Table::new(["device", "keys", "since", "quota", "uploads", "curated"]);
    for device in devices {
        let quota = device.quota.or(app.config.devices);
        let reputation = reputations.get(&device.id).copied().unwrap_or_default();
        let state = if device.keys.is_some() { "given" } else { "revoked" };
        if app.out.json {
            app.out.json(&json!({
                "device": device.id,
                "keys": state,
                "nkey": device.keys.as_ref().map(|keys| &keys.nkey),
                "added_at": device.added_at,
                "changed_at": device.changed_at,
                "quota": quota,
                "uploads": reputation.uploads,
                "curated": reputation.curated,
                "curated_share": reputation.share(),
            }))?;
            continue;
        }
        let share = reputation.share().map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let (id, since, uploads) = (device.id.to_string(), time(device.changed_at), reputation.uploads.to_string());
        table.row([id, state.to_owned(), since, in_words(quota), uploads, share]);
    }
    match (app.out.json, table.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Ok(app.out.line("there is no device; `dih device add NAME` lets one in")?),
        (false, false) => Ok(app.out.table(&table)?),
    }
}

/// Of every device that ever sent anything. Reads all answers.
async fn reputations(bus: &Bus) -> anyhow::Result<BTreeMap<DeviceId, Reputation>> {
    let latest = latest(bus.connection()).await?;
    let mut all: BTreeMap<DeviceId, Reputation> = BTreeMap::new();
    let mut verdicts = ledger::answers(bus.connection());
    while let Some(first) = verdicts.try_next().await? {
        if let Some(device) = &first.device {
            let present = latest.get(&first.upload).unwrap_or(&first);
            all.entry(device.clone()).or_default().count(present.status);
        }
    }
    Ok(all)
}

fn in_words(quota: Quota) -> String {
    let photos = quota.photos_per_hour.map(|photos| format!("{photos} photos/h"));
    let bytes = quota.bytes_per_hour.map(|bytes| format!("{bytes}/h"));
    let parts: Vec<String> = photos.into_iter().chain(bytes).collect();
    if parts.is_empty() { "as much as it likes".to_owned() } else { parts.join(", ") }
}

fn taken(name: &DeviceId) -> anyhow::Error {
    let remedy = format!("`dih device rotate {name}` gives it new keys, `dih device limit {name}` another quota");
    Problem::new(format!("there is a device `{name}` already"), remedy).into()
}

fn unknown(name: &DeviceId) -> Problem {
    Problem::new(format!("there is no device `{name}`"), "`dih device ls` names them")
}
