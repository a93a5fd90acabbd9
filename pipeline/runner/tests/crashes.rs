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
use dih_runner::{ConnectOptions, Connection, Runner, audit};
use tokio_util::sync::CancellationToken;
use world::{CurateAll, Obedient, VICTIM, World, config, until};

/// Not a test: the process that is killed. It does nothing unless a test starts it as such.
#[test]
fn victim_entry() {
    let Ok(url) = std::env::var(VICTIM) else { return };
    let _scenario = fail::FailScenario::setup();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::connect(&url, ConnectOptions::default()).await.expect("it answers");
        let ingest = Runner::new(connection.clone(), Obedient::new(), None, config());
        let dedupe = Runner::new(connection, CurateAll, None, config());
        let (one, other) = tokio::join!(ingest.run(CancellationToken::new()), dedupe.run(CancellationToken::new()));
        one.and(other).expect("it does not end by itself");
    });
}

fn victim(url: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args(["victim_entry", "--exact", "--nocapture"]).env(VICTIM, url);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn run_until_killed(url: &str, failpoint: &str) {
    let status = victim(url).env("FAILPOINTS", failpoint).status().expect("we can start ourselves");
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(6), "not aborted at {failpoint}: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_place_nothing_is_lost_and_nothing_is_answered_twice() {
    let world = World::with_lease(Duration::from_secs(1)).await;
    let names: Vec<String> = (0..40).map(|n| format!("emit {n}")).collect();
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for consumer in ["ingest", "dedupe"] {
        for place in ["before_commit", "before_publish", "before_ack", "after_ack"] {
            // The second of those that pass there, so that the first is at another place.
            let failpoint = format!("{consumer}::{place}=1*off->return(abort)");
            let url = world.connection.url().to_owned();
            let killed = tokio::task::spawn_blocking(move || run_until_killed(&url, &failpoint));
            killed.await.expect("it was aborted");
        }
    }
    let (ingest, dedupe) = (world.run(Obedient::new()), world.run(CurateAll));
    until("all is answered", async || audit(&world.connection).await.is_ok_and(|audit| audit.in_flight == 0)).await;
    let found = audit(&world.connection).await.expect("the broker answers");
    assert_eq!((found.uploads, found.answered, found.holds()), (40, 40, true), "{found:?}");
    assert_eq!((world.stream_len(VERDICTS).await, world.stream_len(DEAD).await), (40, 0));
    ingest.stop().await.expect("an orderly end");
    dedupe.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_its_process_dies_alone() {
    let world = World::with_lease(Duration::from_secs(1)).await;
    let mut names: Vec<String> = (0..20).map(|n| format!("emit {n}")).collect();
    names.insert(5, "poison".into());
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (mut deaths, mut running) = (0, victim(world.connection.url()).spawn().expect("we can start ourselves"));
    until("the poison is dead and all others are answered", async || {
        if running.try_wait().expect("it is our child").is_some() {
            deaths += 1;
            running = victim(world.connection.url()).spawn().expect("we can start ourselves");
        }
        audit(&world.connection).await.is_ok_and(|audit| audit.in_flight == 0)
    })
    .await;
    running.kill().expect("it runs");
    running.wait().expect("it is our child");
    let found = audit(&world.connection).await.expect("the broker answers");
    assert_eq!((found.uploads, found.answered, found.holds()), (21, 21, true), "{found:?}");
    assert_eq!(world.stream_len(DEAD).await, 1);
    assert!((5..=10).contains(&deaths), "{deaths} deaths before it was found out");
}
