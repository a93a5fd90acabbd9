//! A process a stage, two replicas each, with blobs in a bucket and an index that is served by a process of its own.

mod bucket;

use std::{
    fs,
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dih_stores::contract::{self, weed::WeedServer};
use dih_tests::{
    World,
    fleet::{PATIENCE, STAGES, publish, said, serve_index, spawn_replica},
};

const UPLOADS: u64 = 300;

/// Processes of one home, ended with it.
struct Cluster<'a> {
    world: &'a World,
    index: Child,
    /// Of its configuration.
    served: String,
    address: String,
    stages: Vec<(String, Child)>,
}

impl<'a> Cluster<'a> {
    fn start(world: &'a World, blobs: &str) -> Result<Self> {
        let served = by_tls(world)?;
        let (index, url) = serve_index(world, "127.0.0.1:0", &served)?;
        fs::write(world.home().join("dih.toml"), format!("{blobs}[stores.qdrant]\nurl = \"{url}\"\n"))?;
        let address = url.trim_start_matches("https://").to_owned();
        let cluster = Self { world, index, served, address, stages: Vec::new() };
        let told = world.run(&["setup"])?;
        assert!(told.contains("has its collection"), "{told}");
        world.run(&["setup", "--check"])?;
        Ok(cluster)
    }

    fn start_stages(&mut self) -> Result<()> {
        for name in STAGES.iter().flat_map(|stage| [format!("{stage}-1"), format!("{stage}-2")]) {
            let process = spawn_replica(self.world, &name)?;
            self.stages.push((name, process));
        }
        Ok(())
    }

    /// Strikes three times while photos are under way: the first replica of every stage is asked to end, the index is
    /// killed, the second replicas are killed. What is gone is started again at once.
    fn strike(&mut self, uploads: u64) -> Result<()> {
        self.under_way(uploads / 8, uploads)?;
        for (name, process) in self.stages.iter_mut().step_by(2) {
            Command::new("kill").args(["-TERM", &process.id().to_string()]).status()?;
            let ended = process.wait()?;
            assert!(ended.success(), "{name} ended with {ended}: {}", said(self.world, name, 0));
            *process = spawn_replica(self.world, name)?;
        }
        self.under_way(uploads / 4, uploads)?;
        self.index.kill()?;
        self.index.wait()?;
        (self.index, _) = serve_index(self.world, &self.address, &self.served)?;
        self.under_way(uploads / 2, uploads)?;
        for (name, process) in self.stages.iter_mut().skip(1).step_by(2) {
            process.kill()?;
            process.wait()?;
            *process = spawn_replica(self.world, name)?;
        }
        Ok(())
    }

    /// Waits until so many uploads are answered, and not all.
    fn under_way(&mut self, answered: u64, uploads: u64) -> Result<()> {
        let now = self.wait_for(answered)?;
        assert!(now < uploads, "nothing is under way any more");
        eprintln!("{now} of {uploads} are answered");
        Ok(())
    }

    /// Waits until so many uploads are answered, and says how many are.
    fn wait_for(&mut self, answered: u64) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let now = audited(self.world, "answered")?;
            if now >= answered {
                return Ok(now);
            }
            for (name, process) in &mut self.stages {
                if let Some(ended) = process.try_wait()? {
                    bail!("{name} ended with {ended}:\n{}", said(self.world, name, 0));
                }
            }
            if begun.elapsed() > PATIENCE {
                bail!("only {now} of {answered} are answered");
            }
            sleep(Duration::from_millis(50));
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

/// The settings by which the index is served with a certificate; the processes of this home trust it.
fn by_tls(world: &World) -> Result<String> {
    let (certificate, key) = contract::certificate();
    let key_file = world.home().join("index.key");
    fs::write(world.trusted(), certificate)?;
    fs::write(&key_file, key)?;
    Ok(format!("cert_file = \"{}\"\nkey_file = \"{}\"\n", world.trusted().display(), key_file.display()))
}

fn send(world: &World) -> Result<u64> {
    let photos = dih_tests::tools()?.join("photos");
    let (photos, uploads) = (photos.to_string_lossy().into_owned(), UPLOADS.to_string());
    world.run(&["simulate", &photos, "--uploads", &uploads, "--devices", "4", "--seed", "5"])?;
    audited(world, "uploads")
}

fn audited(world: &World, what: &str) -> Result<u64> {
    world.run_json(&["audit", "--json"])?[what].as_u64().context("a number in the audit")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_a_stage_on_networked_stores_publishes_the_same_as_one_for_all() -> Result<()> {
    let alone = World::new()?;
    let uploads = send(&alone)?;
    alone.run(&["run", "--until-idle"])?;
    alone.audit_is_clean(uploads)?;
    let want = publish(&alone)?;
    assert!(want.len() > 30, "{} members", want.len());

    let (server, world) = (WeedServer::start().await, World::new()?);
    let mut cluster = Cluster::start(&world, &bucket::section(&world, &server, "dih-cluster")?)?;
    assert_eq!(send(&world)?, uploads, "the same crowd");
    cluster.start_stages()?;
    cluster.strike(uploads)?;
    cluster.wait_for(uploads)?;
    world.audit_is_clean(uploads)?;
    assert_eq!(publish(&world)?, want);
    jobs_are_left_to_others(&world)
}

/// As the pod that is asked where only others have a GPU: it could not do the work itself.
fn jobs_are_left_to_others(world: &World) -> Result<()> {
    let (shared, unable) = (fs::read_to_string(world.home().join("dih.toml"))?, world.home().join("unable.toml"));
    let train = ["train", "crowd@1", "--json", "--config", &unable.to_string_lossy()];
    fs::write(&unable, format!("{shared}[model]\nmanifest = \"nowhere.toml\"\n"))?;
    let itself = world.try_run(&train)?;
    assert!(String::from_utf8_lossy(&itself.stderr).contains("nowhere.toml"), "{itself:?}");
    fs::write(&unable, format!("{shared}[model]\nmanifest = \"nowhere.toml\"\n[jobs]\nelsewhere = true\n"))?;
    assert!(world.run_json(&train)?["train_photos"].as_u64() > Some(0));
    Ok(())
}
