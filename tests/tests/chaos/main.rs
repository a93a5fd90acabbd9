//! A crowd of uploads through a process a stage, while faults of every kind strike; nothing is lost, nothing is answered
//! twice, and the same members are published as by one process that nobody disturbs.
//!
//! Takes    DIH_CHAOS_UPLOADS, DIH_CHAOS_FAULTS and DIH_CHAOS_SEED; `make chaos` gives large ones. Without a fault it shows how
//!          long verdicts take in any case. Gives a report that names every fault and what the system did, at a path that is
//!          printed.
//! Weak at  times are reported and decide nothing: the machine is shared. docs/chaos.md says how to read them.

mod broker;
#[path = "../bucket/mod.rs"]
mod bucket;
mod crowd;
mod faults;
mod flood;
mod latency;
mod outcome;
mod proxy;
mod report;
mod scene;
mod strike;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use dih_core::StageName;
use dih_runner::{Submitter, idle::is_idle};
use dih_tests::{World, fleet::PATIENCE};
use tokio::time::{sleep, timeout};

use crate::{
    broker::Broker,
    crowd::{Crowd, Progress, connect, now_ms, send},
    faults::{Fault, draw},
    outcome::Outcome,
    report::{Report, Row},
    scene::Scene,
};

/// Uploads under way at most; a few more than two replicas take at once.
const WINDOW: u64 = 64;

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |value| value.parse().with_context(|| format!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_every_kind_lose_nothing_double_nothing_and_change_nothing() -> Result<()> {
    let (uploads, seed) = (setting("DIH_CHAOS_UPLOADS", 1_000)?, setting("DIH_CHAOS_SEED", 1)?);
    let faults = draw(usize::try_from(setting("DIH_CHAOS_FAULTS", 40)?)?, seed);
    let mut report = Report::create(uploads, faults.len(), seed)?;
    eprintln!("seed {seed}; the report grows in {}", report.path().display());
    let begun = Instant::now();
    let crowd = Arc::new(Crowd::shoot(uploads, seed)?);
    eprintln!("{} photos were shot in {:.0?}", crowd.len(), begun.elapsed());
    let (calm, broker) = (World::new()?, Broker::start()?);
    let want = undisturbed(&calm, &broker, &crowd).await?;
    eprintln!("undisturbed: {} members, {:.0?}", want.members.len(), begun.elapsed());
    ensure!(want.members.len() > 30, "too few members to compare: {}", want.members.len());

    let mut scene = Scene::set(World::new()?).await?;
    let found = struck(&mut scene, &crowd, &faults, &mut report).await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            report.say(&format!("FAILED: {error:#}"))?;
            return Err(error);
        }
    };
    let same = found.compare(&scene.world, &want, &calm);
    report.say(&format!(
        "0 lost, 0 twice of {uploads}; {} members, {}; dead letters: {}; {:.0} s in all",
        found.members.len(),
        same.as_ref().map_or_else(ToString::to_string, Clone::clone),
        found.dead.len(),
        begun.elapsed().as_secs_f64()
    ))?;
    println!("report: {}", report.path().display());
    same.map(drop)
}

/// All stages in one process, on stores of its own.
async fn undisturbed(world: &World, broker: &Broker, crowd: &Arc<Crowd>) -> Result<Outcome> {
    let url = format!("nats://{}", broker.address());
    std::fs::write(world.home().join("dih.toml"), format!("[broker]\nurl = \"{url}\"\n"))?;
    world.run(&["setup"])?;
    let bus = connect(&url).await?;
    send(crowd.clone(), Submitter::new(bus.clone(), None), u64::MAX, Arc::new(quick())).await?;
    world.run(&["run", "--until-idle"])?;
    Outcome::of(world, &bus, crowd.len()).await
}

/// A sender that need not wait.
fn quick() -> Progress {
    let progress = Progress::default();
    progress.quota.store(u64::MAX, Ordering::SeqCst);
    progress
}

async fn struck(scene: &mut Scene, crowd: &Arc<Crowd>, faults: &[Fault], report: &mut Report) -> Result<Outcome> {
    let bus = connect(&format!("nats://{}", scene.nats.address())).await?;
    let device = Submitter::new(bus.clone(), None);
    let (begun, uploads) = (Instant::now(), crowd.len());
    let sending = tokio::spawn(send(crowd.clone(), device.clone(), WINDOW, scene.progress.clone()));
    // A tenth flows undisturbed before the first fault and after the last one; in between each fault has its share.
    let (first, last) = (uploads / 10, uploads * 9 / 10);
    let share = (last - first) / faults.len().max(1) as u64;
    let mut struck_at = Vec::new();
    for (n, fault) in faults.iter().enumerate() {
        let turn = first + share * n as u64;
        scene.quick_up_to(turn + share / 2);
        let (before, under_way) = scene.under_way(turn, share / 4, share / 2).await?;
        ensure!(before + under_way <= uploads, "nothing is under way any more at {before} of {uploads}");
        eprintln!("{n} {fault:?}");
        struck_at.push(now_ms());
        let (at, from) = (begun.elapsed(), Instant::now());
        let seen = strike::strike(scene, *fault, crowd, &device).await;
        let seen = seen.with_context(|| format!("fault {} was {fault:?}", n + 1))?;
        let (held, mended) = (from.elapsed(), Instant::now());
        let by_then = scene.answered(0).await?;
        let next = scene.answered((by_then + 1).min(uploads)).await;
        next.with_context(|| format!("after fault {}, {fault:?}", n + 1))?;
        let (answered, quiet) = (by_then.saturating_sub(before), mended.elapsed());
        report.row(&Row { at, fault: fault.name(), seen, held, under_way, answered, quiet })?;
    }
    scene.quick_up_to(uploads);
    scene.answered(uploads).await?;
    timeout(PATIENCE, sending).await???;
    let took = begun.elapsed();
    settled(scene).await?;
    let (sent_again, failed_starts) = (scene.progress.repeated.load(Ordering::SeqCst), scene.failed_starts);
    report.say(&format!(
        "{uploads} uploads in {:.0} s; sends repeated: {sent_again}; processes that could not start and were started again: \
         {failed_starts}",
        took.as_secs_f64()
    ))?;
    latency::tell(scene, &struck_at, report).await?;
    Outcome::of(&scene.world, &scene.bus, uploads).await
}

/// Waits until nothing is on its way to any stage.
async fn settled(scene: &mut Scene) -> Result<()> {
    let begun = Instant::now();
    while !is_idle(&scene.bus, &StageName::ALL).await.unwrap_or(false) {
        scene.tend()?;
        ensure!(begun.elapsed() < PATIENCE, "it does not come to rest:\n{}", scene.diagnosis().await);
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
