//! Stages of one process hand photos over: what that saves, and that nobody downstream can tell the difference.

mod world;

use std::collections::BTreeSet;

use dih_core::{
    UploadSeq,
    topology::{DEAD, IMAGES, UPLOADS},
    verdict::Status,
};
use dih_runner::{Line, RunnerConfig, dead, health::Counts, ledger};
use futures::StreamExt;
use world::{CurateUnique, Obedient, Running, Second, World, config, until};

/// Ingest, dedupe and verify in one process.
fn start(world: &World) -> [Running; 3] {
    let line = Line::default();
    [
        world.run_in_line(&line, Obedient::new()),
        world.run_in_line(&line, Second::default()),
        world.run_in_line(&line, CurateUnique),
    ]
}

async fn stop(running: [Running; 3]) {
    for stage in running {
        stage.stop().await.expect("an orderly end");
    }
}

async fn ready(running: &[Running; 3]) {
    for stage in running {
        stage.ready().await;
    }
}

async fn done(world: &World) {
    until("all is done", async || world.stream_len(UPLOADS).await + world.stream_len(IMAGES).await == 0).await;
}

async fn status(world: &World, upload: UploadSeq) -> Status {
    ledger::answer_of(&world.connection, upload).await.expect("the broker answers").expect("it was answered").status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_goes_all_its_way_within_one_delivery_and_counts_at_every_stage() {
    let world = World::new().await;
    let running = start(&world);
    ready(&running).await;
    let names: Vec<String> = (0..100).map(|n| format!("emit {n}")).collect();
    let uploads = world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    done(&world).await;
    for upload in uploads {
        assert_eq!(status(&world, upload).await, Status::Curated);
    }
    assert_eq!(world.ever_in(IMAGES).await, 0, "no stage asked the broker for a photo");
    until("nothing is in work", async || running.iter().all(|stage| stage.health.counts().in_flight == 0)).await;
    for stage in &running {
        assert_eq!(stage.health.counts(), Counts { received: 100, answered: 100, in_flight: 0 });
    }
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_ends_where_a_stage_answers_or_was_overtaken() {
    let world = World::new().await;
    let running = start(&world);
    ready(&running).await;
    let uploads = world.submit(&["emit ends", "emit overtaken", "reject this"]).await;
    done(&world).await;
    assert_eq!(status(&world, uploads[0]).await, Status::Duplicate);
    assert!(ledger::answer_of(&world.connection, uploads[1]).await.expect("read").is_none());
    assert_eq!(status(&world, uploads[2]).await, Status::Rejected);
    assert_eq!(world.ever_in(IMAGES).await, 0);
    assert_eq!(running[2].health.counts().received, 0);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stage_cannot_do_when_it_is_handed_over_its_own_consumer_tries_and_buries() {
    let world = World::new().await;
    let running = start(&world);
    ready(&running).await;
    let uploads = world.submit(&["emit second-time", "emit bad", "emit panic", "emit on"]).await;
    done(&world).await;
    for (upload, want) in uploads.iter().zip([Status::Curated, Status::Dead, Status::Dead, Status::Curated]) {
        assert_eq!(status(&world, *upload).await, want);
    }
    let letters = dead::list(&world.connection).await.expect("the broker answers");
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|dead| dead.letter.consumer == "dedupe" && dead.letter.attempts == 1), "{letters:?}");
    assert_eq!(world.ever_in(IMAGES).await, 3);
    // Handed over and by the broker; the upload itself was taken once.
    assert_eq!(running[0].health.counts().received, 4);
    assert_eq!(running[1].health.counts().received, 7);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_halts_in_a_chain_stops_alone_and_keeps_its_photo() {
    let world = World::new().await;
    let [ingest, dedupe, verify] = start(&world);
    for stage in [&ingest, &dedupe, &verify] {
        stage.ready().await;
    }
    let halting = world.submit(&["emit halt-once"]).await;
    // Handed over it halts the first time; by the broker it succeeds: this stage was mended in between.
    done(&world).await;
    assert_eq!(status(&world, halting[0]).await, Status::Curated);
    assert_eq!((world.ever_in(IMAGES).await, world.stream_len(DEAD).await), (1, 0));
    assert!(ingest.health.is_ready(), "the stage before it goes on");
    stop([ingest, dedupe, verify]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_for_another_photo_is_published() {
    let world = World::new().await;
    let running = start(&world);
    ready(&running).await;
    world.submit(&["emit frees another"]).await;
    done(&world).await;
    assert_eq!(world.ever_in(IMAGES).await, 1);
    assert_eq!(world.stream_len("REVISIONS").await, 1, "the other was decided in its own epoch");
    assert_eq!(status(&world, UploadSeq(1)).await, Status::Curated);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_has_ended_is_handed_nothing() {
    let world = World::new().await;
    let line = Line::default();
    let ingest = world.run_in_line(&line, Obedient::new());
    let dedupe = world.run_in_line(&line, Second::default());
    ingest.ready().await;
    dedupe.ready().await;
    dedupe.stop().await.expect("an orderly end");
    let uploads = world.submit(&["emit a"]).await;
    until("it waits", async || world.stream_len(IMAGES).await == 1).await;
    let next = [world.run_in_line(&line, Second::default()), world.run_in_line(&line, CurateUnique)];
    done(&world).await;
    assert_eq!(status(&world, uploads[0]).await, Status::Curated);
    ingest.stop().await.expect("an orderly end");
    for stage in next {
        stage.stop().await.expect("an orderly end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_every_step_goes_through_the_broker() {
    let world = World::new().await;
    let line = Line::default();
    let by_broker = RunnerConfig { hand_over: false, ..config() };
    let runner = dih_runner::Runner::new(world.connection.clone(), Second::default(), None, by_broker).in_line(&line);
    let dedupe = world::start_runner(runner);
    let others = [world.run_in_line(&line, Obedient::new()), world.run_in_line(&line, CurateUnique)];
    dedupe.ready().await;
    let uploads = world.submit(&["emit a", "emit b"]).await;
    done(&world).await;
    for upload in uploads {
        assert_eq!(status(&world, upload).await, Status::Curated);
    }
    assert_eq!(world.ever_in(IMAGES).await, 4);
    dedupe.stop().await.expect("an orderly end");
    for stage in others {
        stage.stop().await.expect("an orderly end");
    }
}

/// Subject and name of every message that waits for verify.
async fn names(world: &World) -> BTreeSet<(String, String)> {
    let stream = world.connection.jetstream().get_stream(IMAGES).await.expect("made by setup");
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("verify").await.expect("made by setup");
    let waiting = consumer.fetch().max_messages(10).messages().await.expect("asked");
    let name = |message: async_nats::jetstream::Message| {
        let headers = message.headers.clone().expect("ours have headers");
        (message.subject.to_string(), headers.get("Nats-Msg-Id").expect("ours are named").to_string())
    };
    waiting.map(|message| name(message.expect("whole"))).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_has_the_same_name_whichever_way_it_came() {
    let mut said = Vec::new();
    for hand_over in [true, false] {
        let world = World::new().await;
        let line = Line::default();
        let config = RunnerConfig { hand_over, ..config() };
        let dedupe = dih_runner::Runner::new(world.connection.clone(), Second::default(), None, config.clone());
        let dedupe = world::start_runner(dedupe.in_line(&line));
        dedupe.ready().await;
        let ingest = dih_runner::Runner::new(world.connection.clone(), Obedient::new(), None, config);
        let ingest = world::start_runner(ingest.in_line(&line));
        world.submit(&["emit a", "emit b"]).await;
        until("both wait for verify", async || {
            world.stream_len(UPLOADS).await == 0
                && world.stream_len(IMAGES).await == 2
                && dedupe.health.counts() == Counts { received: 2, answered: 2, in_flight: 0 }
        })
        .await;
        assert_eq!(world.ever_in(IMAGES).await, if hand_over { 2 } else { 4 });
        said.push(names(&world).await);
        ingest.stop().await.expect("an orderly end");
        dedupe.stop().await.expect("an orderly end");
    }
    assert_eq!(said[0].len(), 2);
    assert_eq!(said[0], said[1]);
}
