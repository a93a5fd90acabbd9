//! What is wrong around a run is named together with its remedy, and costs nothing: once it is mended, all goes on.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use dih_tests::{World, fleet::until, repository, tools};

const UPLOADS: &str = "30";

fn crowd(world: &World) -> Result<()> {
    let photos = tools()?.join("photos");
    world.run(&["simulate", &photos.to_string_lossy(), "--uploads", UPLOADS, "--seed", "9"])?;
    Ok(())
}

fn configure(world: &World, toml: &str) -> Result<()> {
    Ok(fs::write(world.home().join("dih.toml"), toml)?)
}

fn mend(world: &World) -> Result<()> {
    Ok(fs::remove_file(world.home().join("dih.toml"))?)
}

/// Ended with this exit code, and said all of these words.
fn refused(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {} instead of {code}: {told}", output.status);
    for word in words {
        ensure!(told.contains(word), "does not say {word:?}: {told}");
    }
    Ok(())
}

/// Whatever was wrong, nothing came of it: all uploads still wait, and are answered once it is mended.
fn goes_on(world: &World) -> Result<()> {
    world.run(&["run", "--until-idle"])?;
    world.audit_is_clean(UPLOADS.parse()?)?;
    Ok(())
}

#[test]
fn a_bad_line_of_the_configuration_is_named() -> Result<()> {
    let world = World::new()?;
    configure(&world, "[broker]\nleese = \"5s\"\n")?;
    refused(&world.try_run(&["run"])?, 2, &["dih.toml", "broker.leese", "lease", "next:"])?;
    configure(&world, "[dedupe]\ndistance_max = 90\n")?;
    refused(&world.try_run(&["audit"])?, 2, &["dih.toml", "dedupe.distance_max", "24", "next:"])?;
    configure(&world, "[broker\n")?;
    refused(&world.try_run(&["config", "check"])?, 2, &["dih.toml", "line 1", "next:"])
}

#[test]
fn a_broken_model_file_is_named_and_nothing_is_lost() -> Result<()> {
    let world = World::new()?;
    crowd(&world)?;
    let folder = world.home().join("broken-models");
    fs::create_dir(&folder)?;
    let models = tools()?.join("models");
    fs::copy(models.join("imagenet1k-labels.txt"), folder.join("imagenet1k-labels.txt"))?;
    let whole = fs::read(models.join("efficientnet-lite0-int8.onnx"))?;
    fs::write(folder.join("efficientnet-lite0-int8.onnx"), &whole[..whole.len() / 2])?;
    configure(&world, &format!("[model]\nfolder = {folder:?}\n"))?;
    let words = ["broken-models/efficientnet-lite0-int8.onnx", "SHA-256", "make setup"];
    refused(&world.try_run(&["run", "--until-idle"])?, 1, &words)?;
    refused(&world.try_run(&["models", "check"])?, 1, &words)?;
    mend(&world)?;
    goes_on(&world)
}

/// A manifest of the built-in model with one thing changed.
fn other_manifest(world: &World, from: &str, to: &str) -> Result<()> {
    let manifest = fs::read_to_string(repository().join("config/models/efficientnet-lite0-int8.toml"))?;
    ensure!(manifest.contains(from), "the manifest has no {from:?}");
    let path = world.home().join("other.toml");
    fs::write(&path, manifest.replacen(from, to, 1))?;
    configure(world, &format!("[model]\nmanifest = {path:?}\n"))
}

#[test]
fn a_manifest_that_does_not_fit_its_model_leaves_no_trace() -> Result<()> {
    let world = World::new()?;
    crowd(&world)?;
    other_manifest(&world, "dim = 1280", "dim = 640")?;
    refused(&world.try_run(&["run", "--until-idle"])?, 1, &["efficientnet-lite0", "1280 numbers instead of 640"])?;
    mend(&world)?;
    goes_on(&world)
}

#[test]
fn an_index_of_another_model_is_refused() -> Result<()> {
    let world = World::new()?;
    crowd(&world)?;
    goes_on(&world)?;
    other_manifest(&world, "name = \"efficientnet-lite0\"", "name = \"another\"")?;
    let words = ["index", "efficientnet-lite0-int8", "another-int8", "model.manifest"];
    refused(&world.try_run(&["run", "--until-idle"])?, 1, &words)?;
    mend(&world)?;
    goes_on(&world)
}

#[test]
fn a_broker_out_of_reach_is_named() -> Result<()> {
    let world = World::new()?;
    configure(&world, "[broker]\nurl = \"nats://127.0.0.1:1\"\n")?;
    let photo = tools()?.join("photos/coffee.png");
    for args in [&["run"][..], &["audit"], &["submit", &photo.to_string_lossy(), "--label", "Coffee"]] {
        refused(&world.try_run(args)?, 1, &["nats://127.0.0.1:1", "broker.url"])?;
    }
    Ok(())
}

#[test]
fn a_broker_that_dies_is_started_again_and_nothing_is_lost() -> Result<()> {
    let world = World::new()?;
    crowd(&world)?;
    let mut running = world.start(&["run", "--until-idle"])?;
    until("something is answered", || Ok(world.run_json(&["audit", "--json"])?["answered"].as_u64() > Some(0)))?;
    let pid = fs::read_to_string(world.home().join("broker/nats.pid"))?;
    let killed = Command::new("sh").args(["-c", "kill -9 $0", pid.trim()]).status()?;
    ensure!(killed.success(), "no broker {pid} to kill");
    until("the run ends", || Ok(running.try_wait()?.is_some()))?;
    let status = running.wait()?;
    ensure!(status.success(), "the run ended with {status}");
    world.audit_is_clean(UPLOADS.parse()?)?;
    Ok(())
}

/// What the child of [`a_full_disk_is_named_and_once_there_is_space_all_goes_on`] mounts a small disk over.
const SMALL_DISK: &str = "DIH_TEST_SMALL_DISK";

#[test]
fn a_full_disk_is_named_and_once_there_is_space_all_goes_on() -> Result<()> {
    let unshare = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount"]).arg(program);
        command
    };
    if !unshare(Path::new("true")).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs `unshare` and leave to mount a small disk in a namespace of its own");
        return Ok(());
    }
    let disk = tempfile::tempdir()?;
    let mut child = unshare(&std::env::current_exe()?);
    child.args(["--exact", "on_a_disk_that_fills_up", "--ignored", "--nocapture"]);
    child.env(SMALL_DISK, disk.path()).env("TMPDIR", disk.path());
    let output = child.output()?;
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && told.contains("1 passed"), "{told}");
    Ok(())
}

#[test]
#[ignore = "runs in the namespace of a_full_disk_is_named_and_once_there_is_space_all_goes_on"]
fn on_a_disk_that_fills_up() -> Result<()> {
    let disk = std::env::var(SMALL_DISK).context("the parent says where to mount")?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=420m", "dih-test", &disk]).status()?;
    ensure!(mounted.success(), "could not mount a small disk");
    let world = World::new()?;
    crowd(&world)?;
    configure(&world, "[runner]\nretry_max = \"2s\"\n")?;
    // Less is left than the index keeps in reserve.
    let filler = Path::new(&disk).join("filler");
    fs::write(&filler, vec![1; 280 << 20])?;
    let mut running = world.start(&["run", "--until-idle", "--listen", "127.0.0.1:0"])?;
    until("the stage is unready and says why", || {
        let told = world.ready().unwrap_or_default();
        Ok(told.contains("503") && told.contains("dedupe") && told.contains("is full: free some space there"))
    })?;
    // It comes to the worst: nobody can write anything any more.
    let _full = fs::write(Path::new(&disk).join("filler-too"), vec![1; 420 << 20]);
    thread::sleep(Duration::from_secs(3)); // the fault itself: for so long there is no space
    ensure!(running.try_wait()?.is_none(), "the run did not outlive a full disk");
    fs::remove_file(&filler)?;
    fs::remove_file(Path::new(&disk).join("filler-too"))?;
    until("the run ends", || Ok(running.try_wait()?.is_some()))?;
    let status = running.wait()?;
    ensure!(status.success(), "the run ended with {status}");
    world.audit_is_clean(UPLOADS.parse()?)?;
    Ok(())
}
