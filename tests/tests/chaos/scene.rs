//! All processes of the struck run, and the proxies between them.
//!
//! Takes    nothing but the tools. Gives a broker, an S3 server, an index and two replicas of each stage, each of which knows
//!          the others only by their proxies; and a way to the broker that is never struck, to watch by.
//! Keeps    watch over the replicas: whoever ends without having been struck fails the test, unless it never came to work
//!          because what it needs was away; then it is started again, as any scheduler would.

use std::{
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    process::Child,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use dih_runner::{Connection, ledger};
use dih_stores::contract::weed::WeedServer;
use dih_tests::{
    World,
    fleet::{self, PATIENCE, STAGES, said, said_so_far, serve_index},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::{
    broker::Broker,
    bucket,
    crowd::{Progress, connect},
    flood::Fact,
    proxy::Proxy,
};

/// Of a delivery; so a stopped stage loses its messages soon.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a replica says once it does.
pub(crate) const AT_WORK: &str = "taking work";
const KEY: &str = "key-of-the-index";

/// What a replica is started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) failpoints: Option<String>,
    /// A file of the home, in place of `dih.toml`.
    pub(crate) config: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) process: Child,
    pub(crate) setting: Setting,
    /// Length of its log when this process began.
    from: usize,
}

impl Replica {
    pub(crate) fn stage(&self) -> &str {
        self.name.split('-').next().unwrap_or_default()
    }

    /// What this process has said.
    pub(crate) fn said(&self, world: &World) -> String {
        said(world, &self.name, self.from)
    }
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) server: WeedServer,
    pub(crate) broker: Broker,
    pub(crate) index: Child,
    /// The ways of the stages to the broker, the pictures and the index.
    pub(crate) nats: Proxy,
    pub(crate) s3: Proxy,
    pub(crate) qdrant: Proxy,
    /// The way to the pictures of a deployment that is tried.
    pub(crate) trial: Proxy,
    watch: Proxy,
    /// To the broker, by a way that is never struck.
    pub(crate) bus: Connection,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) progress: Arc<Progress>,
    /// Facts that were published twice, to come once more much later.
    pub(crate) facts: Vec<Fact>,
    /// Replicas that ended before they came to work.
    pub(crate) failed_starts: u64,
}

fn address(url: &str) -> Result<SocketAddr> {
    Ok(url.split("://").last().unwrap_or_default().parse()?)
}

impl Scene {
    pub(crate) async fn set(world: World) -> Result<Self> {
        let (server, mut broker) = (WeedServer::start().await, Broker::start()?);
        fs::write(world.home().join("index-key"), KEY)?;
        let served = format!("api_key_file = {:?}\n", world.home().join("index-key"));
        let (index, url) = serve_index(&world, "127.0.0.1:0", &served)?;
        let (nats, watch) = (Proxy::to(broker.address()).await?, Proxy::to(broker.address()).await?);
        let (s3, trial) = (Proxy::to(address(&server.url())?).await?, Proxy::to(address(&server.url())?).await?);
        let qdrant = Proxy::to(address(&url)?).await?;
        ensure!(broker.child().try_wait()?.is_none(), "the broker ended");
        let bus = connect(&format!("nats://{}", watch.address())).await?;
        let (replicas, progress) = (Vec::new(), Arc::default());
        let mut scene = Self {
            world,
            server,
            broker,
            index,
            nats,
            s3,
            qdrant,
            trial,
            watch,
            bus,
            replicas,
            progress,
            facts: Vec::new(),
            failed_starts: 0,
        };
        scene.configure(Duration::from_secs(30))?;
        scene.world.run(&["setup"])?;
        scene.configure(Duration::from_secs(2))?;
        scene.start_stages()?;
        Ok(scene)
    }

    /// Writes the good configuration, and three bad ones; `patience` is with a store that does not answer.
    fn configure(&self, patience: Duration) -> Result<()> {
        let home = self.world.home();
        let bucket = bucket::section(&self.world, &self.server, "dih-chaos")?;
        let s3 = |way: &Proxy| bucket.replace(&self.server.url(), &format!("http://{}", way.address()));
        let config = |s3: String, key: &str| {
            format!(
                "[broker]\nurl = \"nats://{}\"\nlease = \"{}s\"\n[runner]\nretry_first = \"200ms\"\nretry_max = \"2s\"\n\
                 {s3}timeout = \"{patience:?}\"\nretry_for = \"{patience:?}\"\n[stores.qdrant]\nurl = \"http://{}\"\ntimeout = \"{patience:?}\"\n\
                 api_key_file = {:?}\n",
                self.nats.address(),
                LEASE.as_secs(),
                self.qdrant.address(),
                home.join(key)
            )
        };
        fs::write(home.join("wrong"), "not-this-one")?;
        let wrong_secret = s3(&self.s3).replace(bucket::SECRET_FILE, "wrong");
        fs::write(home.join("dih.toml"), config(s3(&self.s3), "index-key"))?;
        fs::write(home.join("trial.toml"), config(s3(&self.trial), "index-key"))?;
        fs::write(home.join("wrong-secret.toml"), config(wrong_secret, "index-key"))?;
        Ok(fs::write(home.join("wrong-key.toml"), config(s3(&self.s3), "wrong"))?)
    }

    fn start_stages(&mut self) -> Result<()> {
        // A training can be asked for, but none is here: one process for it will do.
        let names = STAGES.iter().flat_map(|stage| (1..=2).map(move |n| format!("{stage}-{n}")));
        for name in names.filter(|name| name != "train-2") {
            let setting = Setting::default();
            let (process, from) = self.spawn(&name, &setting)?;
            self.replicas.push(Replica { name, process, setting, from });
        }
        Ok(())
    }

    fn spawn(&self, name: &str, setting: &Setting) -> Result<(Child, usize)> {
        let mut command = fleet::replica(&self.world, name)?;
        command.env("RUST_LOG", "warn,dih_runner=info,async_nats=error");
        command.env("DIH_TEST_CLOCK", self.clock(name));
        if let Some(failpoints) = &setting.failpoints {
            command.env("FAILPOINTS", failpoints);
        }
        if let Some(config) = setting.config {
            command.arg("--config").arg(self.world.home().join(config));
        }
        let from = said_so_far(&self.world, name);
        Ok((fleet::spawn(&self.world, name, command)?, from))
    }

    /// The file that says by how much the clock of a replica is wrong.
    pub(crate) fn clock(&self, name: &str) -> std::path::PathBuf {
        self.world.home().join(format!("{name}.clock"))
    }

    /// Kills a replica and starts it again.
    pub(crate) fn replace(&mut self, at: usize, setting: Setting) -> Result<()> {
        kill(&mut self.replicas[at].process)?;
        self.start_again(at, setting)
    }

    /// Starts a replica that has ended.
    pub(crate) fn start_again(&mut self, at: usize, setting: Setting) -> Result<()> {
        let name = self.replicas[at].name.clone();
        let (process, from) = self.spawn(&name, &setting)?;
        self.replicas[at] = Replica { name, process, setting, from };
        Ok(())
    }

    pub(crate) fn restart_broker(&mut self) -> Result<()> {
        self.broker.restart()?;
        self.nats.retarget(self.broker.address());
        self.watch.retarget(self.broker.address());
        Ok(())
    }

    pub(crate) fn restart_index(&mut self) -> Result<()> {
        let served = format!("api_key_file = {:?}\n", self.world.home().join("index-key"));
        let (index, url) = serve_index(&self.world, "127.0.0.1:0", &served)?;
        self.index = index;
        self.qdrant.retarget(address(&url)?);
        Ok(())
    }

    /// Starts again who could not start; fails where somebody ended who had been at work.
    pub(crate) fn tend(&mut self) -> Result<()> {
        for at in 0..self.replicas.len() {
            if let Some(ended) = self.replicas[at].process.try_wait()? {
                let (name, said) = (&self.replicas[at].name, self.replicas[at].said(&self.world));
                ensure!(!said.contains(AT_WORK), "{name} was at work and ended with {ended}:\n{said}");
                self.could_not_start(at)?;
            }
        }
        Ok(())
    }

    /// Starts again a replica that ended before it came to work, with what it was started with.
    pub(crate) fn could_not_start(&mut self, at: usize) -> Result<()> {
        let replica = &mut self.replicas[at];
        let (ended, setting) = (replica.process.wait()?, replica.setting.clone());
        let (name, said) = (&self.replicas[at].name, self.replicas[at].said(&self.world));
        ensure!(ended.code() == Some(1), "{name} could not start and ended with {ended}:\n{said}");
        self.failed_starts += 1;
        self.start_again(at, setting)
    }

    /// Looks how many uploads are answered; None while the broker does not say.
    pub(crate) async fn look(&self) -> Option<u64> {
        let answered = tokio::time::timeout(Duration::from_secs(2), ledger::answered(&self.bus)).await.ok()?.ok()?;
        self.progress.answered.fetch_max(answered, Ordering::SeqCst);
        Some(answered)
    }

    /// Waits until so many uploads are answered, and says how many are. None at all for too long is an error.
    pub(crate) async fn answered(&mut self, at_least: u64) -> Result<u64> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            self.tend()?;
            if let Some(now) = self.look().await {
                if now >= at_least {
                    return Ok(now);
                }
                if now > last {
                    (last, moved) = (now, Instant::now());
                }
            }
            if moved.elapsed() > PATIENCE {
                bail!("nothing is answered any more, at {last} of {at_least}:\n{}", self.diagnosis().await);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Lets the sender be quick until so many are sent.
    pub(crate) fn quick_up_to(&self, sent: u64) {
        self.progress.quota.fetch_max(sent, Ordering::SeqCst);
    }

    /// Lets the sender be quick for so many more.
    pub(crate) fn burst(&self, uploads: u64) {
        self.quick_up_to(self.progress.sent.load(Ordering::SeqCst) + uploads);
    }

    /// Waits until so many are answered and so many more are under way, for which `burst` are sent at once where they are
    /// fewer. Says how many of each.
    pub(crate) async fn under_way(&mut self, answered: u64, at_least: u64, burst: u64) -> Result<(u64, u64)> {
        let begun = Instant::now();
        loop {
            let now = self.answered(answered).await?;
            let sent = self.progress.sent.load(Ordering::SeqCst);
            let under_way = sent.saturating_sub(now);
            if under_way >= at_least {
                return Ok((now, under_way));
            }
            self.burst(burst);
            ensure!(begun.elapsed() < PATIENCE, "only {under_way} are under way, {now} answered");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a state for as long as [`PATIENCE`].
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&mut Self) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done(self)? {
            if begun.elapsed() > PATIENCE {
                bail!("in vain waited until {what}:\n{}", self.diagnosis().await);
            }
            self.look().await;
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Deliveries of a stage that are in work, in all its replicas; 0 while the broker does not say.
    pub(crate) async fn in_work(&self, stage: &str) -> usize {
        let spec = dih_core::topology::consumer(stage).expect("a stage has a consumer of its name");
        let info = async {
            let stream = self.bus.jetstream().get_stream_no_info(spec.stream).await.ok()?;
            stream.consumer_info(spec.name).await.ok()
        };
        info.await.map_or(0, |info| info.num_ack_pending)
    }

    /// How things are, for a failing test to print.
    pub(crate) async fn diagnosis(&self) -> String {
        let mut told = String::new();
        for spec in dih_core::topology::CONSUMERS {
            let info = async {
                let stream = self.bus.jetstream().get_stream_no_info(spec.stream).await.ok()?;
                stream.consumer_info(spec.name).await.ok()
            };
            let info = info.await.map(|info| (info.num_pending, info.num_ack_pending, info.num_redelivered));
            told += &format!("{}: pending, in work, again: {info:?}\n", spec.name);
        }
        for replica in &self.replicas {
            let said = replica.said(&self.world);
            let tail: Vec<&str> = said.lines().rev().take(6).collect();
            told += &format!("{} ({}):\n", replica.name, replica.process.id());
            tail.iter().rev().for_each(|line| told += &format!("    {line}\n"));
        }
        told
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let all = self.replicas.iter_mut().map(|replica| &mut replica.process).chain([&mut self.index]);
        for process in all {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// kill -9; that it was this which ended the process is part of the fault.
pub(crate) fn kill(process: &mut Child) -> Result<()> {
    process.kill()?;
    let ended = process.wait()?;
    ensure!(ended.signal() == Some(9), "it had ended before, with {ended}");
    Ok(())
}

pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process has a number")?;
    Ok(kill_process(pid, signal)?)
}

/// Whether the kernel says that it is stopped.
pub(crate) fn is_stopped(pid: u32) -> Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}
