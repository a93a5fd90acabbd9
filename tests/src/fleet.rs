//! Processes of one home: a stage each, or the index that they share.
//!
//! Takes    a [`World`] and the name of a replica, `<stage>-<number>`. Gives the process; what it writes to standard error is
//!          added to a log of that name in the home.
//! Weak at  whoever starts a process ends it, too: a dropped [`Child`] lives on.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::World;

pub const STAGES: [&str; 7] = ["ingest", "dedupe", "verify", "embed", "cluster", "organize", "train"];
/// Longer than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn log(world: &World, name: &str) -> PathBuf {
    world.home().join(format!("{name}.log"))
}

/// What processes of this name have said, from a place in their log on; [`said_so_far`] gives such places.
pub fn said(world: &World, name: &str, from: usize) -> String {
    let log = fs::read(log(world, name)).unwrap_or_default();
    String::from_utf8_lossy(log.get(from..).unwrap_or_default()).into_owned()
}

/// Length of a log in bytes.
pub fn said_so_far(world: &World, name: &str) -> usize {
    fs::metadata(log(world, name)).map_or(0, |log| usize::try_from(log.len()).unwrap_or(usize::MAX))
}

/// The command of a replica; the stage is what stands before the `-`.
pub fn replica(world: &World, name: &str) -> Result<Command> {
    Ok(world.command(&["run", name.split('-').next().context("a name")?]))
}

pub fn spawn_replica(world: &World, name: &str) -> Result<Child> {
    spawn(world, name, replica(world, name)?)
}

pub fn spawn(world: &World, name: &str, mut command: Command) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log(world, name))?;
    Ok(command.stdout(Stdio::null()).stderr(log).spawn()?)
}

/// Serves the index at an address, as `settings` of `[stores.served]` say; the port is known once it says so.
pub fn serve_index(world: &World, listen: &str, settings: &str) -> Result<(Child, String)> {
    let config = world.home().join("index.toml");
    fs::write(&config, format!("[stores.served]\nlisten = \"{listen}\"\n{settings}"))?;
    let before = said_so_far(world, "index");
    let command = world.command(&["run", "index", "--config", &config.to_string_lossy()]);
    let mut process = spawn(world, "index", command)?;
    let begun = Instant::now();
    loop {
        let said = said(world, "index", before);
        if let Some(url) = said.lines().find_map(|line| line.split_once("serving the index at ")) {
            return Ok((process, url.1.trim().to_owned()));
        }
        if let Some(ended) = process.try_wait()? {
            bail!("the index ended with {ended}:\n{said}");
        }
        if begun.elapsed() > PATIENCE {
            let _ = process.kill();
            bail!("the index is not served:\n{said}");
        }
        sleep(LOOK_EVERY);
    }
}

/// Looks again and again, as long as that may take.
pub fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            bail!("in vain waited until {what}");
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Makes the crowd's data set, cuts it, and gives `(image, label, split)` of its first version.
pub fn publish(world: &World) -> Result<std::collections::BTreeSet<(String, String, String)>> {
    world.run(&["datasets", "create", "crowd"])?;
    world.run(&["datasets", "cut", "crowd"])?;
    world.run(&["datasets", "verify", "crowd@1"])?;
    Ok(world.members("crowd@1")?.into_iter().collect())
}
