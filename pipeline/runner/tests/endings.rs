//! Stops, outages and second deliveries: nothing is lost, nothing is made twice.

mod world;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use dih_core::{
    config::HumanDuration,
    topology::{DEAD, IMAGES, UPLOADS},
};
use dih_runner::{RunnerConfig, health::State, ledger};
use world::{CurateAll, Obedient, World, config, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_what_is_in_work_finish() {
    let world = World::new().await;
    let uploads = world.submit(&["slow one"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let running = world.run(stage);
    until("it is in work", async || tale.tries("slow one").len() == 1).await;
    running.stop().await.expect("an orderly end");
    assert_eq!(tale.finished.load(Ordering::SeqCst), 1);
    assert!(ledger::answer_of(&world.connection, uploads[0]).await.expect("read").is_some());
    assert_eq!(world.stream_len(UPLOADS).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_handed_back_at_once() {
    let world = World::new().await;
    world.submit(&["stuck one"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let impatient = RunnerConfig { drain: HumanDuration::millis(200), ..config() };
    let running = world.run_with(stage.clone(), impatient, 4);
    until("it is in work", async || tale.tries("stuck one").len() == 1).await;
    let stopping = Instant::now();
    running.stop().await.expect("an orderly end");
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    assert_eq!(tale.cancelled.load(Ordering::SeqCst), 1);
    // Long before its lease of 30 s is over, somebody else has it.
    let next = world.run(stage);
    until("it is in work again", async || tale.tries("stuck one").len() == 2).await;
    assert!(stopping.elapsed() < Duration::from_secs(15), "{:?}", stopping.elapsed());
    next.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn being_handed_back_often_does_not_make_a_message_bad() {
    let world = World::new().await;
    let uploads = world.submit(&["curate at last"]).await;
    for _ in 0..15 {
        let running = world.run(Obedient { halts: true, ..Obedient::new() });
        running.task.await.expect("no panic").expect_err("it halts");
    }
    let running = world.run(Obedient::new());
    until("it is answered", async || ledger::answer_of(&world.connection, uploads[0]).await.expect("read").is_some())
        .await;
    assert_eq!(world.stream_len(DEAD).await, 0);
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_while_the_work_goes_on() {
    // The work takes 1.5 s, more than the lease.
    let world = World::with_lease(Duration::from_millis(900)).await;
    world.submit(&["slow one"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let running = world.run(stage);
    until("it is done", async || world.stream_len(UPLOADS).await == 0).await;
    assert_eq!(tale.tries("slow one").len(), 1);
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_cancels_the_work_and_the_message_comes_again() {
    let mut world = World::with_lease(Duration::from_secs(2)).await;
    world.submit(&["stuck one"]).await;
    let stage = Obedient::new();
    let tale = stage.tale.clone();
    let running = world.run(stage);
    until("it is in work", async || tale.tries("stuck one").len() == 1).await;
    world.kill_broker();
    until("the work is cancelled", async || tale.cancelled.load(Ordering::SeqCst) == 1).await;
    until("the stage is not ready", async || running.health.state() == State::Waiting).await;
    world.start_broker();
    until("it is in work again", async || tale.tries("stuck one").len() == 2).await;
    running.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_delivery_publishes_nothing_twice() {
    let world = World::with_lease(Duration::from_secs(1)).await;
    world.submit(&["emit a"]).await;
    // A replica that does all but acknowledge: it takes the message, and dies.
    let stage = Obedient::new();
    let stream = world.connection.jetstream().get_stream(UPLOADS).await.expect("made by setup");
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("ingest").await.expect("made by setup");
    let mut batch = consumer.fetch().max_messages(1).messages().await.expect("asked");
    let delivery = futures::StreamExt::next(&mut batch).await.expect("one came").expect("whole");
    let fact = dih_core::event::ImageStored { image: world::image(dih_core::UploadSeq(1), "emit a") };
    let id = "ingest.1.dedupe.1.0";
    let publish = async_nats::jetstream::message::PublishMessage::build()
        .payload(dih_proto::Wire::encode(&fact).into())
        .message_id(id);
    let sent = world.connection.jetstream().send_publish("dih.v1.image.stored", publish).await.expect("sent");
    sent.await.expect("stored");
    drop(delivery);
    let running = world.run(stage);
    until("it is done", async || world.stream_len(UPLOADS).await == 0).await;
    assert_eq!(world.stream_len(IMAGES).await, 1);
    running.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_broker_loses_nothing() {
    let mut world = World::with_lease(Duration::from_secs(3)).await;
    let (ingest, dedupe) = (world.run(Obedient::new()), world.run(CurateAll));
    ingest.ready().await;
    let names: Vec<String> = (0..200).map(|n| format!("emit {n}")).collect();
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.kill_broker();
    world.start_broker();
    until("all is answered", async || {
        let audit = dih_runner::audit(&world.connection).await;
        audit.is_ok_and(|audit| audit.answered == 200)
    })
    .await;
    let audit = dih_runner::audit(&world.connection).await.expect("the broker answers");
    assert!(audit.holds(), "{audit:?}");
    ingest.stop().await.expect("an orderly end");
    dedupe.stop().await.expect("an orderly end");
}
