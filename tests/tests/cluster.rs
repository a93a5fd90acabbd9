//! A process a stage, two replicas each, with blobs in a bucket and an index that is served by a process of its own.

mod bucket;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dih_stores::contract::weed::WeedServer;
use dih_tests::World;

const STAGES: [&str; 7] = ["ingest", "dedupe", "verify", "embed", "cluster", "organize", "train"];
const UPLOADS: u64 = 200;
/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Processes of one home, ended with it.
struct Cluster<'a> {
    world: &'a World,
    index: Child,
    stages: Vec<(String, Child)>,
}

impl<'a> Cluster<'a> {
    fn start(world: &'a World, blobs: &str) -> Result<Self> {
        let (index, url) = serve_index(world)?;
        fs::write(world.home().join("dih.toml"), format!("{blobs}[stores.qdrant]\nurl = \"{url}\"\n"))?;
        let mut cluster = Self { world, index, stages: Vec::new() };
        let told = world.run(&["setup"])?;
        assert!(told.contains("has its collection"), "{told}");
        for stage in STAGES {
            for replica in 1..=2 {
                let name = format!("{stage}-{replica}");
                let process = spawn(world, &name, &["run", stage])?;
                cluster.stages.push((name, process));
            }
        }
        Ok(cluster)
    }

    /// Restarts every process of every stage: one of two is asked to end, the other is killed.
    fn roll(&mut self) -> Result<()> {
        for at in 0..self.stages.len() {
            let (name, process) = &mut self.stages[at];
            match at % 2 {
                0 => {
                    Command::new("kill").args(["-TERM", &process.id().to_string()]).status()?;
                    let ended = process.wait()?;
                    assert!(
                        ended.success(),
                        "{name} ended with {ended}: {}",
                        fs::read_to_string(log(self.world, name))?
                    );
                }
                _ => {
                    process.kill()?;
                    process.wait()?;
                }
            }
            let stage = STAGES[at / 2];
            *process = spawn(self.world, name, &["run", stage])?;
        }
        Ok(())
    }

    /// All that was sent is answered.
    fn settle(&mut self, uploads: u64) -> Result<()> {
        let begun = Instant::now();
        loop {
            let audit = self.world.run_json(&["audit", "--json"])?;
            if audit["answered"] == uploads {
                return Ok(());
            }
            for (name, process) in &mut self.stages {
                if let Some(ended) = process.try_wait()? {
                    bail!("{name} ended with {ended}:\n{}", fs::read_to_string(log(self.world, name))?);
                }
            }
            if begun.elapsed() > PATIENCE {
                bail!("not all is answered: {audit}");
            }
            sleep(Duration::from_millis(300));
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for (_, process) in &mut self.stages {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = self.index.kill();
        let _ = self.index.wait();
    }
}

fn log(world: &World, name: &str) -> PathBuf {
    world.home().join(format!("{name}.log"))
}

fn spawn(world: &World, name: &str, args: &[&str]) -> Result<Child> {
    let log = File::create(log(world, name))?;
    Ok(world.command(args).stdout(Stdio::null()).stderr(log).spawn()?)
}

/// Serves the index on a free port, which is known once it says so.
fn serve_index(world: &World) -> Result<(Child, String)> {
    let config = world.home().join("index.toml");
    fs::write(&config, "[stores.served]\nlisten = \"127.0.0.1:0\"\n")?;
    let mut process = spawn(world, "index", &["run", "index", "--config", &config.to_string_lossy()])?;
    let begun = Instant::now();
    loop {
        let said = fs::read_to_string(log(world, "index"))?;
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
        sleep(Duration::from_millis(50));
    }
}

fn send(world: &World) -> Result<u64> {
    let photos = dih_tests::tools()?.join("photos");
    let (photos, uploads) = (photos.to_string_lossy().into_owned(), UPLOADS.to_string());
    world.run(&["simulate", &photos, "--uploads", &uploads, "--devices", "4", "--seed", "5"])?;
    world.run_json(&["audit", "--json"])?["uploads"].as_u64().context("uploads")
}

fn published(world: &World) -> Result<BTreeSet<(String, String, String)>> {
    world.run(&["datasets", "create", "crowd"])?;
    world.run(&["datasets", "cut", "crowd"])?;
    world.run(&["datasets", "verify", "crowd@1"])?;
    Ok(world.members("crowd@1")?.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_a_stage_on_networked_stores_publishes_the_same_as_one_for_all() -> Result<()> {
    let alone = World::new()?;
    let uploads = send(&alone)?;
    alone.run(&["run", "--until-idle"])?;
    alone.audit_is_clean(uploads)?;
    let want = published(&alone)?;
    assert!(want.len() > 30, "{} members", want.len());

    let (server, world) = (WeedServer::start().await, World::new()?);
    let mut cluster = Cluster::start(&world, &bucket::section(&world, &server, "dih-cluster")?)?;
    assert_eq!(send(&world)?, uploads, "the same crowd");
    cluster.roll()?;
    cluster.settle(uploads)?;
    world.audit_is_clean(uploads)?;
    assert_eq!(published(&world)?, want);
    Ok(())
}
