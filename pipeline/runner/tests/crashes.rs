//! Killed between write, publish and acknowledgement, then started again: none lost, none made twice.
//!
//! Needs the feature `failpoints`.
#![cfg(feature = "failpoints")]

mod world;

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use dih_core::topology::{DEAD, VERDICTS};
use dih_runner::{ConnectOptions, Connection, Line, Runner, RunnerConfig, audit, dead};
use tokio_util::sync::CancellationToken;
use world::{CurateUnique, Obedient, Second, VICTIM, World, config, until};

/// Set in the process whose stages hand over.
const HANDS_OVER: &str = "DIH_TEST_HANDS_OVER";

/// Not a test: the process that is killed. It does nothing unless a test starts it as such.
#[test]
fn victim_entry() {
    let Ok(url) = std::env::var(VICTIM) else { return };
    let _scenario = fail::FailScenario::setup();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::connect(&url, ConnectOptions::default()).await.expect("it answers");
        let line = Line::default();
        let config = RunnerConfig { hand_over: std::env::var_os(HANDS_OVER).is_some(), ..config() };
        let ingest = Runner::new(connection.clone(), Obedient::new(), None, config.clone()).in_line(&line);
        let dedupe = Runner::new(connection.clone(), Second::default(), None, config.clone()).in_line(&line);
        let verify = Runner::new(connection, CurateUnique, None, config).in_line(&line);
        let stop = CancellationToken::new;
        let (one, two, three) = tokio::join!(ingest.run(stop()), dedupe.run(stop()), verify.run(stop()));
        one.and(two).and(three).expect("it does not end by itself");
    });
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Broker,
    HandOver,
}

fn victim(url: &str, way: Way) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args(["victim_entry", "--exact", "--nocapture"]).env(VICTIM, url);
    if let Way::HandOver = way {
        command.env(HANDS_OVER, "1");
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn run_until_killed(url: &str, way: Way, failpoint: &str) {
    let status = victim(url, way).env("FAILPOINTS", failpoint).status().expect("we can start ourselves");
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(6), "not aborted at {failpoint}: {status}");
}

async fn nothing_is_lost(way: Way, failpoints: impl Iterator<Item = String>) {
    let world = World::with_lease(Duration::from_secs(1)).await;
    let names: Vec<String> = (0..40).map(|n| format!("emit {n}")).collect();
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for failpoint in failpoints {
        // The second of those that pass there, so that the first is at another place.
        let failpoint = format!("{failpoint}=1*off->return(abort)");
        let url = world.connection.url().to_owned();
        let killed = tokio::task::spawn_blocking(move || run_until_killed(&url, way, &failpoint));
        killed.await.expect("it was aborted");
    }
    let running = [world.run(Obedient::new()), world.run(Second::default()), world.run(CurateUnique)];
    until("all is answered", async || audit(&world.connection).await.is_ok_and(|audit| audit.in_flight == 0)).await;
    let found = audit(&world.connection).await.expect("the broker answers");
    assert_eq!((found.uploads, found.answered, found.holds()), (40, 40, true), "{found:?}");
    assert_eq!((world.stream_len(VERDICTS).await, world.stream_len(DEAD).await), (40, 0));
    for stage in running {
        stage.stop().await.expect("an orderly end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_place_nothing_is_lost_and_nothing_is_answered_twice() {
    let places = ["before_commit", "before_publish", "before_ack", "after_ack"];
    let all = ["ingest", "dedupe"].into_iter().flat_map(|stage| places.map(|place| format!("{stage}::{place}")));
    nothing_is_lost(Way::Broker, all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_place_of_a_chain_nothing_is_lost_and_nothing_is_answered_twice() {
    let between = ["dedupe::before_take", "verify::before_take"];
    let after = ["ingest::before_commit", "ingest::before_publish", "ingest::before_ack", "ingest::after_ack"];
    nothing_is_lost(Way::HandOver, between.into_iter().chain(after).map(str::to_owned)).await;
}

/// Gives how often the process died of it.
async fn dies_alone(way: Way, poison: &str, consumer: &str) -> u32 {
    let world = World::with_lease(Duration::from_secs(1)).await;
    let mut names: Vec<String> = (0..20).map(|n| format!("emit {n}")).collect();
    names.insert(5, poison.into());
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let again = || victim(world.connection.url(), way).spawn().expect("we can start ourselves");
    let (mut deaths, mut running) = (0, again());
    until("the poison is dead and all others are answered", async || {
        if running.try_wait().expect("it is our child").is_some() {
            deaths += 1;
            running = again();
        }
        audit(&world.connection).await.is_ok_and(|audit| audit.in_flight == 0)
    })
    .await;
    running.kill().expect("it runs");
    running.wait().expect("it is our child");
    let found = audit(&world.connection).await.expect("the broker answers");
    assert_eq!((found.uploads, found.answered, found.holds()), (21, 21, true), "{found:?}");
    let letters = dead::list(&world.connection).await.expect("the broker answers");
    assert_eq!(letters.iter().map(|dead| dead.letter.consumer.as_str()).collect::<Vec<_>>(), [consumer]);
    deaths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_its_process_dies_alone() {
    let deaths = dies_alone(Way::Broker, "poison", "ingest").await;
    assert!((5..=10).contains(&deaths), "{deaths} deaths before it was found out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_that_kills_its_process_in_a_chain_dies_at_the_stage_that_it_kills_in() {
    let deaths = dies_alone(Way::HandOver, "emit poison", "dedupe").await;
    assert!((7..=13).contains(&deaths), "{deaths} deaths before it was found out");
}
