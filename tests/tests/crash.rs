//! Whatever is killed, and wherever: nothing is lost, nothing is answered twice, and the same version comes out.

use std::{
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use dih_tests::World;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The same crowd for the disturbed and the undisturbed run.
fn crowd(world: &World, uploads: u32) -> Result<()> {
    let count = uploads.to_string();
    world.run(&["simulate", &photos()?, "--uploads", &count, "--devices", "8", "--seed", "7"])?;
    Ok(())
}

fn photos() -> Result<String> {
    Ok(dih_tests::tools()?.join("photos").to_string_lossy().into_owned())
}

fn finish(world: &World) -> Result<Vec<(String, String, String)>> {
    world.run(&["run", "--until-idle"])?;
    world.run(&["datasets", "create", "all"])?;
    world.run(&["datasets", "cut", "all"])?;
    let mut members = world.members("all@1")?;
    members.sort();
    Ok(members)
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill()?; // SIGKILL
    child.wait()?;
    Ok(())
}

/// Kills the process at `kills` seeded moments of its life, restarting it each time.
fn run_killed(world: &World, kills: u32, seed: u64) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..kills {
        let mut running = world.start(&["run"])?;
        let life = Duration::from_millis(random.random_range(300..2500));
        let end = Instant::now() + life;
        while Instant::now() < end {
            if let Some(status) = running.try_wait()? {
                bail!("`dih run` ended by itself: {status}; {}", log(world));
            }
            thread::sleep(Duration::from_millis(20)); // the moment of the kill is the input of this test
        }
        kill(&mut running)?;
    }
    Ok(())
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.home().join("started.log")).unwrap_or_default()
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn kill_9_at_random_moments_loses_nothing_and_changes_nothing() -> Result<()> {
    let (uploads, kills, seed) = (setting("DIH_UPLOADS", 120), setting("DIH_KILLS", 5), setting("DIH_SEED", 1));
    eprintln!("{uploads} uploads, {kills} kills, seed {seed}");
    let calm = World::new()?;
    crowd(&calm, uploads)?;
    let expected = finish(&calm)?;
    assert!(!expected.is_empty(), "the undisturbed run published nothing");

    let struck = World::new()?;
    crowd(&struck, uploads)?;
    run_killed(&struck, kills, u64::from(seed))?;
    let members = finish(&struck)?;
    struck.audit_is_clean(calm.run_json(&["audit", "--json"])?["uploads"].as_u64().unwrap_or(0))?;
    assert_eq!(members, expected, "the published version differs");
    Ok(())
}

const CONSUMERS: [&str; 6] = ["ingest", "dedupe", "verify", "embed", "cluster", "organize"];
const LINES: [&str; 4] = ["before_commit", "before_publish", "before_ack", "after_ack"];

#[test]
#[ignore = "takes long: each of 24 deaths waits out a lease of 30 s; `cargo test -p dih-tests -- --ignored`"]
fn death_between_write_publish_and_ack_of_any_stage_loses_nothing() -> Result<()> {
    let calm = World::new()?;
    crowd(&calm, 60)?;
    let expected = finish(&calm)?;
    let struck = World::new()?;
    crowd(&struck, 60)?;
    let mut died = 0;
    for consumer in CONSUMERS {
        for line in LINES {
            let mut command: Command = struck.command(&["run", "--until-idle"]);
            command.env("FAILPOINTS", format!("{consumer}::{line}=1*off->1*return(abort)"));
            let ended = command.output()?; // well, when too few messages were left to come by this line
            died += u32::from(!ended.status.success());
        }
    }
    assert!(died >= 12, "only {died} of 24 fail points struck: the binary needs the feature `failpoints`");
    let members = finish(&struck)?;
    struck.audit_is_clean(calm.run_json(&["audit", "--json"])?["uploads"].as_u64().unwrap_or(0))?;
    assert_eq!(members, expected, "the published version differs");
    Ok(())
}
