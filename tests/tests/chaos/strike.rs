//! What each fault does, and how it is known that it struck.
//!
//! Takes    the scene and a fault. Gives who was struck and what was seen; by then it is mended.
//! Weak at  how long a fault holds is its own nature, so here a test sleeps; whether it struck is always asked for.

use std::{
    cell::Cell,
    fs,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dih_runner::{Submitter, dead};
use dih_tests::fleet::PATIENCE;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    crowd::Crowd,
    faults::{Fault, Place, Server},
    flood,
    proxy::{Mode, Proxy},
    scene::{AT_WORK, LEASE, Scene, Setting, is_stopped, kill, signal},
};

/// Whom a fault struck, and what came of it at once.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) told: String,
}

impl Seen {
    fn at(target: impl ToString, told: impl Into<String>) -> Result<Self> {
        Ok(Self { target: target.to_string(), told: told.into() })
    }
}

/// For as long as a fault of no particular length holds.
const WHILE: Duration = Duration::from_secs(3);
/// Who must come to work and does not for so long is sent more.
const HUNGRY_AFTER: Duration = Duration::from_secs(5);
const ABORTED: i32 = 6;

pub(crate) async fn strike(scene: &mut Scene, fault: Fault, crowd: &Crowd, device: &Submitter) -> Result<Seen> {
    match fault {
        Fault::KillStage(at) => {
            scene.replace(at, Setting::default())?;
            Seen::at(&scene.replicas[at].name, "ended by signal 9, started again")
        }
        Fault::Abort(at, line) => abort(scene, at, line).await,
        Fault::KillBroker => {
            kill(scene.broker.child())?;
            sleep(Duration::from_millis(700)).await;
            scene.restart_broker()?;
            Seen::at(Server::Broker, "ended by signal 9, started again on its store")
        }
        Fault::KillIndex => {
            kill(&mut scene.index)?;
            scene.restart_index()?;
            Seen::at(Server::Index, "ended by signal 9, started again")
        }
        Fault::Stop(server, ms) => stop(scene, server, ms).await,
        Fault::StopStage(at) => stop_stage(scene, at).await,
        Fault::Freeze(server, ms) => {
            let pieces = hold(scene, server, Mode::Freeze, ms, false).await?;
            Seen::at(server, format!("{pieces} pieces held back for {ms} ms"))
        }
        Fault::Refuse(server, ms) => {
            let refused = hold(scene, server, Mode::Refuse, ms, true).await?;
            Seen::at(server, format!("{refused} connections refused in {ms} ms"))
        }
        Fault::Cut(server) => {
            let way = way(scene, server);
            let mut cut = 0;
            scene.until("a connection is there to cut", |_| Ok(way.open() > 0)).await?;
            cut += way.cut();
            ensure!(cut > 0, "no connection to cut");
            Seen::at(server, format!("{cut} connections cut"))
        }
        Fault::Slow(server, ms) => {
            let slow = Mode::Slow(Duration::from_millis(ms));
            let pieces = hold(scene, server, slow, 3_000, false).await?;
            Seen::at(server, format!("{pieces} pieces came {ms} ms late"))
        }
        Fault::SlowStage(at) => {
            let stage = scene.replicas[at].stage().to_owned();
            let failpoints = Some(format!("{stage}::before_commit=sleep(400)"));
            scene.replace(at, Setting { failpoints, ..Setting::default() })?;
            at_work(scene, at).await?;
            sleep(WHILE).await;
            scene.replace(at, Setting::default())?;
            Seen::at(&scene.replicas[at].name, "400 ms more before each commit, then replaced")
        }
        Fault::FullPictures => {
            let refused = hold(scene, Server::Pictures, Mode::Full, 3_000, true).await?;
            scene.s3.cut();
            Seen::at(Server::Pictures, format!("{refused} writes answered with 507"))
        }
        Fault::FullStream(stream) => flood::fill(scene, stream).await,
        Fault::Clock(at, hours) => clock(scene, at, hours).await,
        Fault::DuplicateFacts => flood::facts_again(scene).await,
        Fault::DuplicateUploads => flood::uploads_again(scene, crowd, device).await,
        Fault::Reorder(consumer) => flood::reorder(scene, consumer).await,
        Fault::BadStart(at, config) => bad_start(scene, at, config).await,
        Fault::Denied(at) => denied(scene, at).await,
    }
}

fn way(scene: &Scene, server: Server) -> Proxy {
    match server {
        Server::Broker => scene.nats.clone(),
        Server::Pictures => scene.s3.clone(),
        Server::Index => scene.qdrant.clone(),
    }
}

/// Has the way to a server misbehave until it has struck somebody, and `ms` at least. Says how often it struck.
async fn hold(scene: &mut Scene, server: Server, mode: Mode, ms: u64, cut: bool) -> Result<u64> {
    let way = way(scene, server);
    let before = way.struck();
    way.set(mode);
    if cut {
        way.cut();
    }
    sleep(Duration::from_millis(ms)).await;
    let struck = scene.until("somebody is struck", |_| Ok(way.struck() > before)).await;
    way.set(Mode::Pass);
    struck?;
    Ok(way.struck() - before)
}

/// Waits until a replica ends as it is meant to; who ends before it comes to work, without these words, is started again: what
/// it needs was not back yet.
async fn ended(scene: &mut Scene, at: Place, words: &str) -> Result<(ExitStatus, String)> {
    let fed = Cell::new(Instant::now());
    let ended = |scene: &mut Scene| {
        if scene.replicas[at].process.try_wait()?.is_none() {
            // Of what trickles the other replica may take all.
            if fed.get().elapsed() > HUNGRY_AFTER {
                scene.burst(8);
                fed.set(Instant::now());
            }
            return Ok(false);
        }
        let said = scene.replicas[at].said(&scene.world);
        if said.contains(AT_WORK) || said.contains(words) {
            return Ok(true);
        }
        scene.could_not_start(at).map(|()| false)
    };
    scene.until("the replica ends", ended).await?;
    Ok((scene.replicas[at].process.wait()?, scene.replicas[at].said(&scene.world)))
}

async fn abort(scene: &mut Scene, at: Place, line: &'static str) -> Result<Seen> {
    let (name, stage) = (scene.replicas[at].name.clone(), scene.replicas[at].stage().to_owned());
    let failpoints = Some(format!("{stage}::{line}=30%return(abort)"));
    scene.replace(at, Setting { failpoints, ..Setting::default() })?;
    let (ended, said) = ended(scene, at, AT_WORK).await?;
    ensure!(ended.signal() == Some(ABORTED), "{name} ended with {ended} instead of at {line}: {said}");
    scene.start_again(at, Setting::default())?;
    Seen::at(name, format!("died {line}, started again"))
}

async fn stop(scene: &mut Scene, server: Server, ms: u64) -> Result<Seen> {
    let pid = match server {
        Server::Broker => scene.broker.child().id(),
        Server::Pictures => scene.server.pid(),
        Server::Index => scene.index.id(),
    };
    signal(pid, Signal::STOP)?;
    let stopped = scene.until("the process is stopped", |_| is_stopped(pid)).await;
    sleep(Duration::from_millis(ms)).await;
    signal(pid, Signal::CONT)?;
    stopped?;
    Seen::at(server, format!("stood still for {ms} ms"))
}

async fn stop_stage(scene: &mut Scene, at: Place) -> Result<Seen> {
    let (name, pid) = (scene.replicas[at].name.clone(), scene.replicas[at].process.id());
    let lost = |scene: &Scene| scene.replicas[at].said(&scene.world).matches("lost the lease").count();
    let before = lost(scene);
    scene.burst(10);
    let (begun, stage) = (Instant::now(), scene.replicas[at].stage().to_owned());
    while scene.in_work(&stage).await == 0 {
        ensure!(begun.elapsed() < PATIENCE, "{stage} has nothing in work");
        scene.look().await;
    }
    signal(pid, Signal::STOP)?;
    let stopped = scene.until("the process is stopped", |_| is_stopped(pid)).await;
    let still = LEASE + Duration::from_millis(1_500);
    sleep(still).await;
    signal(pid, Signal::CONT)?;
    stopped?;
    sleep(Duration::from_millis(200)).await; // for what it says of its leases, which decides nothing
    let lost = lost(scene) - before;
    Seen::at(name, format!("stood still for {} ms, leases lost: {lost}", still.as_millis()))
}

/// Waits until a replica takes work.
async fn at_work(scene: &mut Scene, at: Place) -> Result<()> {
    let ready = |scene: &mut Scene| {
        scene.tend()?;
        Ok(scene.replicas[at].said(&scene.world).contains(AT_WORK))
    };
    scene.until("the replica is at work", ready).await
}

/// One replica's clock jumps while it works, and back again later.
async fn clock(scene: &mut Scene, at: Place, hours: i64) -> Result<Seen> {
    let name = scene.replicas[at].name.clone();
    at_work(scene, at).await?;
    fs::write(scene.clock(&name), (hours * 3_600_000).to_string())?;
    sleep(WHILE).await;
    fs::remove_file(scene.clock(&name))?;
    Seen::at(name, format!("{hours:+} h, and back"))
}

async fn dead_letters(scene: &Scene) -> Result<usize> {
    Ok(dead::list(&scene.bus).await?.len())
}

/// A replica is replaced by one that may not use a store; it must not begin.
async fn bad_start(scene: &mut Scene, at: Place, config: &'static str) -> Result<Seen> {
    let (name, dead) = (scene.replicas[at].name.clone(), dead_letters(scene).await?);
    scene.replace(at, Setting { config: Some(config), ..Setting::default() })?;
    let remedy = if config.contains("secret") { "stores.s3.access_key_id" } else { "stores.qdrant.api_key_file" };
    let (ended, said) = ended(scene, at, remedy).await?;
    ensure!(ended.code() == Some(1), "{name} with {config} ended with {ended}: {said}");
    ensure!(!said.contains(AT_WORK), "{name} with {config} took work: {said}");
    ensure!(said.contains(remedy), "{name} does not name {remedy}: {said}");
    ensure!(dead_letters(scene).await? == dead, "{name} with {config} sent something to the dead letters");
    scene.start_again(at, Setting::default())?;
    Seen::at(name, format!("{config}: refused to start, named `{remedy}`, no dead letter; replaced by a good one"))
}

/// A replica is replaced by one that is denied the pictures once it is at work; it must halt.
async fn denied(scene: &mut Scene, at: Place) -> Result<Seen> {
    let (name, dead) = (scene.replicas[at].name.clone(), dead_letters(scene).await?);
    scene.replace(at, Setting { config: Some("trial.toml"), ..Setting::default() })?;
    at_work(scene, at).await?;
    let before = scene.trial.struck();
    scene.trial.set(Mode::Deny);
    scene.trial.cut();
    let halted = ended(scene, at, AT_WORK).await;
    scene.trial.set(Mode::Pass);
    let (ended, said) = halted?;
    ensure!(ended.code() == Some(1) && said.contains("halted"), "{name} ended with {ended}: {said}");
    ensure!(dead_letters(scene).await? == dead, "{name} sent something to the dead letters");
    let denied = scene.trial.struck() - before;
    scene.start_again(at, Setting::default())?;
    Seen::at(name, format!("halted after {denied} denials, ended, no dead letter; replaced by a good one"))
}
