//! Whatever is killed, and wherever: nothing is lost, nothing is answered twice, and the same version comes out.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dih_tests::World;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Image, label and split.
type Member = (String, String, String);

/// The same crowd for the disturbed and the undisturbed run.
fn crowd(world: &World, uploads: u32) -> Result<()> {
    let count = uploads.to_string();
    world.run(&["simulate", &photos()?, "--uploads", &count, "--devices", "8", "--seed", "7"])?;
    Ok(())
}

fn photos() -> Result<String> {
    Ok(dih_tests::tools()?.join("photos").to_string_lossy().into_owned())
}

fn finish(world: &World) -> Result<Vec<Member>> {
    world.run(&["run", "--until-idle"])?;
    world.run(&["datasets", "create", "all"])?;
    world.run(&["datasets", "cut", "all"])?;
    let mut members = world.members("all@1")?;
    members.sort();
    Ok(members)
}

/// Shows only what differs, and how both worlds came to it.
fn check_same(struck: &World, found: &[Member], calm: &World, expected: &[Member]) -> Result<()> {
    let without = |some: &[Member], others: &[Member]| -> Vec<Member> {
        some.iter().filter(|member| !others.contains(member)).cloned().collect()
    };
    let (more, missing) = (without(found, expected), without(expected, found));
    if more.is_empty() && missing.is_empty() {
        return Ok(());
    }
    for (image, label, _) in more.iter().chain(&missing) {
        let explain = |world: &World| world.run(&["explain", image]).unwrap_or_else(|e| format!("{e:#}"));
        eprintln!("{image} {label}\nstruck: {}\nundisturbed: {}", explain(struck), explain(calm));
    }
    eprintln!("struck in {}, undisturbed in {}", struck.home().display(), calm.home().display());
    bail!("the published version differs: has {more:?}, lacks {missing:?}")
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
    struck.audit_is_clean(uploads_of(&calm)?)?;
    check_same(&struck, &members, &calm, &expected)
}

/// What `abort` ends a process with.
const SIGABRT: i32 = 6;
const CONSUMERS: [&str; 6] = ["ingest", "dedupe", "verify", "embed", "cluster", "organize"];
const LINES: [&str; 4] = ["before_commit", "before_publish", "before_ack", "after_ack"];
/// So that a killed delivery comes again soon.
const LEASE: &str = "[broker]\nlease = \"2s\"\n";
const BY_THE_BROKER: &str = "[runner]\nhand_over = false\n";

/// Runs the command until it dies at this line; a run that ends otherwise fails the test.
fn die_at(world: &World, args: &[&str], consumer: &str, line: &str) -> Result<()> {
    let mut command: Command = world.command(args);
    command.env("FAILPOINTS", format!("{consumer}::{line}=return(abort)"));
    let ended = command.output()?;
    if ended.status.signal() != Some(SIGABRT) {
        bail!(
            "{consumer}::{line} did not strike ({}); the binary needs the feature `failpoints`: {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr)
        );
    }
    Ok(())
}

/// The `n`th of many small crowds, so that every stage has work whenever it is its turn to die.
fn small_crowd(world: &World, n: usize) -> Result<()> {
    let seed = (100 + n).to_string();
    world.run(&["simulate", &photos()?, "--uploads", "6", "--broken", "0", "--devices", "2", "--seed", &seed])?;
    Ok(())
}

fn uploads_of(world: &World) -> Result<u64> {
    Ok(world.run_json(&["audit", "--json"])?["uploads"].as_u64().unwrap_or(0))
}

/// Dies once at each of these places, with a small crowd before each death.
fn death_at_each(places: &[(&str, &str)], config: &str) -> Result<()> {
    let calm = World::new()?;
    for n in 0..places.len() {
        small_crowd(&calm, n)?;
    }
    let expected = finish(&calm)?;

    let struck = World::new()?;
    std::fs::write(struck.home().join("dih.toml"), config)?;
    for (n, (consumer, line)) in places.iter().enumerate() {
        small_crowd(&struck, n)?;
        die_at(&struck, &["run", "--until-idle"], consumer, line)?;
    }
    let members = finish(&struck)?;
    struck.audit_is_clean(uploads_of(&calm)?)?;
    check_same(&struck, &members, &calm, &expected)
}

#[test]
fn death_between_write_publish_and_ack_of_any_stage_loses_nothing() -> Result<()> {
    let places: Vec<_> = CONSUMERS.iter().flat_map(|consumer| LINES.map(|line| (*consumer, line))).collect();
    death_at_each(&places, &format!("{LEASE}{BY_THE_BROKER}"))
}

#[test]
fn death_between_two_stages_of_a_chain_and_at_its_end_loses_nothing() -> Result<()> {
    let (first, handed_over) = CONSUMERS.split_first().context("there are stages")?;
    let between = handed_over.iter().map(|consumer| (*consumer, "before_take"));
    let places: Vec<_> = between.chain(LINES.map(|line| (*first, line))).collect();
    death_at_each(&places, LEASE)
}

#[test]
fn death_in_a_cut_or_a_training_leaves_one_whole_version_and_one_model() -> Result<()> {
    let world = World::new()?;
    std::fs::write(world.home().join("dih.toml"), LEASE)?;
    crowd(&world, 120)?;
    let expected = finish(&world)?;
    for (n, line) in LINES.iter().enumerate() {
        let name = format!("again-{n}");
        world.run(&["datasets", "create", &name])?;
        die_at(&world, &["datasets", "cut", &name], "organize-cut", line)?;
        world.run(&["datasets", "cut", &name])?;
        let mut members = world.members(&format!("{name}@1"))?;
        members.sort();
        let images = |members: &[Member]| members.iter().map(|m| m.0.clone()).collect::<Vec<_>>();
        assert_eq!(images(&members), images(&expected), "the version cut after {line} differs");
        world.run(&["datasets", "verify", &format!("{name}@1")])?;

        die_at(&world, &["train", "all@1"], "train", line)?;
        let trained = world.run_json(&["train", "all@1", "--json"])?;
        assert!(trained["accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.3), "{trained}");
    }
    world.audit_is_clean(uploads_of(&world)?)?;
    Ok(())
}
