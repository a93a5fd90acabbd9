//! The loop with small stages through real streams: what becomes of a delivery.

mod world;

use std::{
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use dih_core::{
    BlobKey, StageName, UploadSeq,
    config::HumanDuration,
    event::{Content, Upload},
    topology::{DEAD, IMAGES, UPLOADS, VERDICTS},
    verdict::Status,
};
use dih_runner::{RunError, RunnerConfig, dead, health::State, ledger};
use world::{CurateAll, Obedient, World, config, photo, until};

async fn answered(world: &World, upload: UploadSeq) -> Status {
    let answer = async || ledger::answer_of(&world.connection, upload).await.expect("the broker answers");
    until("the upload is answered", async || answer().await.is_some()).await;
    answer().await.expect("just seen").status
}

async fn emptied(world: &World, stream: &str) {
    until("the stream is empty", async || world.stream_len(stream).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_answered_and_acknowledged() {
    let world = World::new().await;
    let uploads = world.submit(&["curate a", "reject b"]).await;
    let running = world.run(Obedient::new());
    assert_eq!(answered(&world, uploads[0]).await, Status::Curated);
    assert_eq!(answered(&world, uploads[1]).await, Status::Rejected);
    emptied(&world, UPLOADS).await;
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_stage_emits_the_next_one_takes() {
    let world = World::new().await;
    let uploads = world.submit(&["emit a", "emit b"]).await;
    let (ingest, dedupe) = (world.run(Obedient::new()), world.run(CurateAll));
    for upload in uploads {
        assert_eq!(answered(&world, upload).await, Status::Curated);
    }
    emptied(&world, IMAGES).await;
    ingest.stop().await.expect("an orderly end");
    dedupe.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_try_is_repeated_with_growing_delay() {
    let world = World::new().await;
    let uploads = world.submit(&["third-time lucky"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let running = world.run(stage);
    assert_eq!(answered(&world, uploads[0]).await, Status::Curated);
    let tries = tale.tries("third-time lucky");
    assert_eq!(tries.len(), 3);
    let (first, second) = (tries[1] - tries[0], tries[2] - tries[1]);
    // 100 ms and 200 ms, shortened by a quarter at most.
    assert!(first >= Duration::from_millis(75) && second >= Duration::from_millis(150), "{first:?} {second:?}");
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_succeeds_is_given_up_after_its_tries_and_answered_dead() {
    let world = World::new().await;
    let uploads = world.submit(&["never mind"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let running = world.run(stage);
    assert_eq!(answered(&world, uploads[0]).await, Status::Dead);
    emptied(&world, UPLOADS).await;
    assert_eq!(tale.tries("never mind").len(), 4);
    let letters = dead::list(&world.connection).await.expect("the broker answers");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].letter.reasons.first().map(String::as_str), Some("gave_up"));
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_succeeds_a_message_is_not_given_up() {
    let world = World::new().await;
    world.submit(&["never mind"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let patient = RunnerConfig { patience: HumanDuration::secs(600), ..config() };
    let running = world.run_with(stage, patient, 2);
    until("it was tried five times", async || tale.tries("never mind").len() >= 5).await;
    assert_eq!(world.stream_len(DEAD).await, 0);
    assert_eq!(running.health.state(), State::Ill("never".into()));
    // Now something else succeeds, so it is the message.
    let healthy = world.submit(&["curate this"]).await;
    assert_eq!(answered(&world, healthy[0]).await, Status::Curated);
    until("the stage is ready again", async || running.health.is_ready()).await;
    until("it is given up", async || world.stream_len(DEAD).await == 1).await;
    running.stop().await.expect("an orderly end");
}

/// Else an outage of an hour would age all that wait, and each would be given up.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_store_is_away_few_of_many_are_tried_and_all_once_it_is_back() {
    let world = World::new().await;
    let names: Vec<String> = (0..60).map(|n| format!("curate {n}")).collect();
    let uploads = world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let stage = Obedient { away: Arc::new(true.into()), ..Obedient::new() };
    let (tale, away) = (stage.tale.clone(), stage.away.clone());
    let few = RunnerConfig { patience: HumanDuration::secs(600), items_max: NonZeroUsize::new(4), ..config() };
    let running = world.run_with(stage, few, 2);
    let tries = || names.iter().flat_map(|name| tale.tries(name)).collect::<Vec<_>>();
    let went_on = || tries().len() > 10 && tries().iter().min().is_some_and(|at| at.elapsed() > Duration::from_secs(1));
    until("it went on for a second", async || went_on()).await;
    let tried = names.iter().filter(|name| !tale.tries(name).is_empty()).count();
    assert!((4..30).contains(&tried), "{tried} of 60 were tried");
    away.store(false, Ordering::SeqCst);
    for upload in uploads {
        assert_eq!(answered(&world, upload).await, Status::Curated);
    }
    assert!(running.health.is_ready());
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_goes_to_the_dead_letters_with_its_bytes_and_all_reasons() {
    let world = World::new().await;
    let uploads = world.submit(&["bad photo"]).await;
    let running = world.run(Obedient::new());
    assert_eq!(answered(&world, uploads[0]).await, Status::Dead);
    emptied(&world, UPLOADS).await;
    let dead = dead::show(&world.connection, 1).await.expect("the broker answers").expect("it is dead");
    assert_eq!(dead.letter.reasons, ["bad_input", "outer reason", "inner reason"]);
    assert_eq!(dead.letter.payload, dih_proto::Wire::encode(&photo("bad photo")));
    assert_eq!(dead.letter.subject, "dih.v1.upload.cam1");
    assert_eq!((dead.letter.upload, dead.letter.attempts), (Some(uploads[0]), 1));
    let answer = ledger::answer_of(&world.connection, uploads[0]).await.expect("read").expect("answered");
    assert_eq!((answer.stage, answer.reason.as_str()), (StageName::Ingest, "bad_input"));
    assert_eq!(answer.source.as_deref(), Some("bad photo"));
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_dead_letter_and_the_loop_goes_on() {
    let world = World::new().await;
    let uploads = world.submit(&["panic now", "curate this"]).await;
    let running = world.run(Obedient::new());
    assert_eq!(answered(&world, uploads[0]).await, Status::Dead);
    assert_eq!(answered(&world, uploads[1]).await, Status::Curated);
    let dead = dead::show(&world.connection, 1).await.expect("the broker answers").expect("it is dead");
    assert_eq!(dead.letter.reasons[0], "panicked");
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_are_answered_dead_under_their_number() {
    let world = World::new().await;
    let jetstream = world.connection.jetstream();
    let sent = jetstream.publish("dih.v1.upload.cam9", "no protobuf".into()).await.expect("sent");
    let upload = UploadSeq(sent.await.expect("stored").sequence);
    let running = world.run(Obedient::new());
    assert_eq!(answered(&world, upload).await, Status::Dead);
    let answer = ledger::answer_of(&world.connection, upload).await.expect("read").expect("answered");
    assert_eq!(answer.reason, "undecodable");
    assert_eq!(answer.device.map(|d| d.to_string()).as_deref(), Some("cam9"));
    let dead = dead::show(&world.connection, 1).await.expect("the broker answers").expect("it is dead");
    assert_eq!(dead.letter.payload, "no protobuf");
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_cannot_speak_for_another() {
    let world = World::new().await;
    let body = dih_proto::Wire::encode(&photo("curate this"));
    let sent = world.connection.jetstream().publish("dih.v1.upload.mallory", body.into()).await.expect("sent");
    let upload = UploadSeq(sent.await.expect("stored").sequence);
    let running = world.run(Obedient::new());
    assert_eq!(answered(&world, upload).await, Status::Dead);
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_cannot_have_what_is_not_its_own_read_or_removed() {
    let world = World::new().await;
    let running = world.run(Obedient::new());
    let image = dih_core::ImageId::of_bytes(b"of another");
    for key in [format!("originals/ab/{image}"), format!("inbox/cam2/{image}"), "datasets/a/1/manifest.parquet".into()]
    {
        let content = Content::Stored(BlobKey::new(key.clone()).expect("valid"));
        let body = dih_proto::Wire::encode(&Upload { content, ..photo("curate this") });
        let sent = world.connection.jetstream().publish("dih.v1.upload.cam1", body.into()).await.expect("sent");
        let upload = UploadSeq(sent.await.expect("stored").sequence);
        assert_eq!(answered(&world, upload).await, Status::Dead, "{key}");
    }
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_halts_loses_nothing_and_fills_no_dead_letters() {
    let world = World::new().await;
    let uploads = world.submit(&["curate a", "curate b", "curate c"]).await;
    for _ in 0..3 {
        let running = world.run(Obedient { halts: true, ..Obedient::new() });
        let health = running.health.clone();
        let error = running.task.await.expect("no panic").expect_err("it halts");
        assert!(matches!(&error, RunError::Halted { reason, .. } if reason == "the password is wrong"), "{error}");
        assert!(matches!(health.state(), State::Halted(_)));
        assert!(!health.is_ready());
    }
    assert_eq!((world.stream_len(UPLOADS).await, world.stream_len(DEAD).await), (3, 0));
    let running = world.run(Obedient::new());
    for upload in uploads {
        assert_eq!(answered(&world, upload).await, Status::Curated);
    }
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_verdict_is_refused_by_the_broker_and_is_no_error() {
    let world = World::new().await;
    let uploads = world.submit(&["twice said"]).await;
    let running = world.run(Obedient::new());
    assert_eq!(answered(&world, uploads[0]).await, Status::Curated);
    emptied(&world, UPLOADS).await;
    assert_eq!((world.stream_len(VERDICTS).await, world.stream_len(DEAD).await), (1, 0));
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_for_than_there_is_room() {
    let world = World::new().await;
    let names: Vec<String> = (0..400).map(|n| format!("brief {n}")).collect();
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let narrow = RunnerConfig { items_max: NonZeroUsize::new(4), ..config() };
    let running = world.run_with(Obedient::new(), narrow, 4);
    let stream = world.connection.jetstream().get_stream(UPLOADS).await.expect("made by setup");
    until("all is done", async || {
        let info = stream.consumer_info("ingest").await.expect("made by setup");
        assert!(info.num_ack_pending <= 4, "{} wait for an answer", info.num_ack_pending);
        info.num_pending == 0 && info.num_ack_pending == 0
    })
    .await;
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn received_is_answered_plus_in_flight_at_every_moment() {
    let world = World::new().await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let running = world.run(stage);
    world.submit(&["curate a", "bad b", "third-time c", "slow d", "panic e", "reject f"]).await;
    until("all is done", async || {
        let counts = running.health.counts();
        assert_eq!(counts.received, counts.answered + counts.in_flight);
        world.stream_len(UPLOADS).await == 0
    })
    .await;
    until("nothing is in work", async || running.health.counts().in_flight == 0).await;
    // Six uploads, one of them tried three times.
    assert_eq!(running.health.counts().received, 8);
    assert_eq!(tale.tries("third-time c").len(), 3);
    running.stop().await.expect("an orderly end");
}
