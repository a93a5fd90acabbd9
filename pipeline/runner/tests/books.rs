//! The ledger, the audit, and knowing when all is settled.

mod world;

use std::time::Duration;

use dih_core::{
    Epoch, StageName, UploadSeq,
    event::{CutRequested, JobFailed},
    topology::{UPLOADS, subject},
    verdict::{Answer, Status},
};
use dih_proto::Wire;
use dih_runner::{Audit, Submitter, audit, dead, idle, jobs, ledger, topology};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;
use world::{CurateAll, Obedient, World, answer, photo, until};

async fn say(world: &World, answer: &Answer) {
    let subject = match answer.epoch {
        Epoch(0) => subject::verdict(answer.upload),
        _ => subject::revision(answer.upload),
    };
    let sent = world.connection.jetstream().publish(subject, answer.encode().into()).await.expect("sent");
    sent.await.expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_setup_makes_check_accepts() {
    let world = World::new().await;
    topology::setup(&world.connection, &topology::Options::default()).await.expect("twice changes nothing");
    topology::check(&world.connection, &topology::Options::default()).await.expect("all is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_every_difference_and_the_remedy_and_setup_mends_them() {
    let world = World::new().await;
    let jetstream = world.connection.jetstream();
    jetstream.delete_stream("EVENTS").await.expect("it was there");
    jetstream.delete_consumer_from_stream("dedupe", "IMAGES").await.expect("it was there");
    let mut uploads = jetstream.get_stream(UPLOADS).await.expect("there").cached_info().config.clone();
    uploads.duplicate_window = Duration::from_secs(1);
    jetstream.update_stream(uploads).await.expect("allowed");
    let options = topology::Options::default();
    let told = topology::check(&world.connection, &options).await.expect_err("it differs").to_string();
    for part in ["dih setup", "stream EVENTS", "consumer dedupe", "stream UPLOADS: found duplicate window 1s"] {
        assert!(told.contains(part), "{told}");
    }
    topology::setup(&world.connection, &options).await.expect("mended");
    topology::check(&world.connection, &options).await.expect("all is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_names_what_is_missing_and_counts_what_holds_now() {
    let world = World::new().await;
    // 1 curated then held; 2 in flight as an upload; 3 in flight as an image; 4 lost; 5 rejected.
    world.submit(&["a", "b", "emit c", "d", "e"]).await;
    say(&world, &answer(UploadSeq(1), Status::Curated)).await;
    say(&world, &Answer { epoch: Epoch(2), ..answer(UploadSeq(1), Status::Held) }).await;
    say(&world, &Answer { epoch: Epoch(1), ..answer(UploadSeq(1), Status::Dead) }).await;
    say(&world, &answer(UploadSeq(5), Status::Rejected)).await;
    let stream = world.connection.jetstream().get_stream(UPLOADS).await.expect("there");
    for gone in [1, 3, 4, 5] {
        stream.delete_message(gone).await.expect("it was there");
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Dih-Upload", "3");
    let sent = world.connection.jetstream().publish_with_headers("dih.v1.image.unique", headers, "x".into()).await;
    sent.expect("sent").await.expect("stored");
    let found = audit(&world.connection).await.expect("the broker answers");
    let want = Audit {
        uploads: 5,
        answered: 2,
        in_flight: 2,
        missing: vec![UploadSeq(4)],
        twice: vec![],
        by_verdict: [(Status::Held, 1), (Status::Rejected, 1)].into(),
    };
    assert_eq!(found, want);
    assert!(!found.holds());
    assert_eq!(
        serde_json::to_value(&found).expect("plain"),
        serde_json::json!({"uploads": 5, "answered": 2, "in_flight": 2, "missing": [4], "twice": [],
            "by_verdict": {"held": 1, "rejected": 1}})
    );
    let history = ledger::history_of(&world.connection, UploadSeq(1)).await.expect("read").expect("answered");
    assert_eq!((history.verdict.status, history.revisions.len()), (Status::Curated, 2));
    assert_eq!(history.present().status, Status::Held);
    let all: Vec<_> = ledger::answers(&world.connection).try_collect().await.expect("read");
    assert_eq!(all.iter().map(|a| a.upload.0).collect::<Vec<_>>(), [1, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_ledger_holds_and_is_idle() {
    let world = World::new().await;
    let found = audit(&world.connection).await.expect("the broker answers");
    assert_eq!(found, Audit::default());
    assert_eq!(ledger::last_upload_seq(&world.connection).await.expect("read"), UploadSeq(0));
    assert!(idle::is_idle(&world.connection, &StageName::ALL).await.expect("the broker answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_means_that_every_consumer_is_done() {
    let world = World::new().await;
    world.submit(&["emit a", "slow b", "third-time c"]).await;
    assert!(
        !idle::is_idle(&world.connection, &StageName::ALL).await.expect("the broker answers"),
        "three uploads wait"
    );
    let ingest = world.run(Obedient::new());
    until("ingest is done", async || world.stream_len(UPLOADS).await == 0).await;
    assert!(!idle::is_idle(&world.connection, &StageName::ALL).await.expect("the broker answers"), "one image waits");
    let dedupe = world.run(CurateAll);
    assert!(
        idle::wait_until_idle(&world.connection, &StageName::ALL, CancellationToken::new())
            .await
            .expect("the broker answers")
    );
    let found = audit(&world.connection).await.expect("the broker answers");
    assert_eq!((found.answered, found.in_flight, found.holds()), (3, 0, true));
    ingest.stop().await.expect("an orderly end");
    dedupe.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_keep_their_order_and_a_repeated_id_its_number() {
    let world = World::new().await;
    let submitter = Submitter::new(world.connection.clone(), None);
    let photos = (0..300).map(|n| (photo(&n.to_string()), Some(format!("import.{n}"))));
    let receipts: Vec<_> = submitter.submit_all(futures::stream::iter(photos)).try_collect().await.expect("all taken");
    assert!(receipts.iter().enumerate().all(|(n, r)| r.upload.0 == n as u64 + 1 && !r.again));
    let again = submitter.submit((photo("7"), Some("import.7".into()))).await.expect("taken");
    assert_eq!((again.upload.0, again.again), (8, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_too_large_for_a_message_needs_a_blob_store() {
    let world = World::new().await;
    let submitter = Submitter::new(world.connection.clone(), None).inline_bytes_max(10);
    let error = submitter.submit((photo("larger than ten bytes"), None)).await.expect_err("too large");
    assert!(error.to_string().contains("21 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_uploads_and_says_what_to_do() {
    let world = World::new().await;
    let options = topology::Options {
        bytes_max: [("UPLOADS", dih_core::config::ByteSize(2_000))].into(),
        ..topology::Options::default()
    };
    topology::setup(&world.connection, &options).await.expect("updated");
    let submitter = Submitter::new(world.connection.clone(), None);
    let photos = futures::stream::iter((0..50).map(|n| (photo(&n.to_string()), None)));
    let results: Vec<_> = submitter.submit_all(photos).collect().await;
    let error = results.into_iter().find_map(Result::err).expect("2 kB do not hold 50 uploads");
    let told = dih_core::chain(&error).to_string();
    assert!(told.contains("stream UPLOADS is full") && told.contains("start its stages"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_done_once_and_its_answer_is_found() {
    let world = World::new().await;
    let request = CutRequested { dataset: "clothing".parse().expect("valid"), request: "cut 1.5".into() };
    jobs::request_cut(&world.connection, &request).await.expect("taken");
    jobs::request_cut(&world.connection, &request).await.expect("taken");
    assert_eq!(world.stream_len("JOBS").await, 1);
    let failed = JobFailed { request: "cut 1.5".into(), reason: "empty".into(), at: dih_core::Millis(1) };
    let running = world.run(FailingCut(failed.clone()));
    let done = jobs::wait_for(&world.connection, "cut 1.5", CancellationToken::new()).await.expect("read");
    assert_eq!(done, Some(jobs::Done::Failed(failed)));
    assert!(jobs::published(&world.connection, None).await.expect("read").is_empty());
    running.stop().await.expect("an orderly end");
}

struct FailingCut(JobFailed);

impl dih_core::Stage for FailingCut {
    const CONSUMER: &'static str = "organize-cut";
    type Input = CutRequested;

    async fn process(&self, _: dih_core::Delivery<CutRequested>) -> Result<dih_core::Outcome, dih_core::StageError> {
        Ok(dih_core::Outcome::emit(dih_core::Notice::JobFailed(self.0.clone())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_upload_gets_a_new_number_and_its_old_one_says_so() {
    let world = World::new().await;
    world.submit(&["bad photo"]).await;
    let running = world.run(Obedient::new());
    until("it is dead", async || world.stream_len("DEAD").await == 1).await;
    running.stop().await.expect("an orderly end");
    let replayed = dead::replay(&world.connection, 1).await.expect("replayed");
    assert_eq!(replayed.upload, Some(UploadSeq(2)));
    let old = ledger::answer_of(&world.connection, UploadSeq(1)).await.expect("read").expect("answered");
    assert_eq!((old.epoch, old.reason.as_str()), (Epoch(1), "replayed"));
    assert_eq!(world.stream_len(UPLOADS).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_image_goes_on_in_a_later_epoch_and_its_answer_is_a_revision() {
    let world = World::new().await;
    world.submit(&["emit a"]).await;
    let ingest = world.run(Obedient::new());
    let broken = world.run(PanickingDedupe);
    until("it is dead", async || world.stream_len("DEAD").await == 1).await;
    broken.stop().await.expect("an orderly end");
    dead::replay(&world.connection, 1).await.expect("replayed");
    let mended = world.run(CurateAll);
    until("it is revised", async || world.stream_len("REVISIONS").await == 1).await;
    let history = ledger::history_of(&world.connection, UploadSeq(1)).await.expect("read").expect("answered");
    assert_eq!(history.verdict.status, Status::Dead);
    assert_eq!((history.present().status, history.present().epoch), (Status::Curated, Epoch(1)));
    assert!(audit(&world.connection).await.expect("read").holds());
    ingest.stop().await.expect("an orderly end");
    mended.stop().await.expect("an orderly end");
}

struct PanickingDedupe;

impl dih_core::Stage for PanickingDedupe {
    const CONSUMER: &'static str = "dedupe";
    type Input = dih_core::event::ImageStored;

    async fn process(&self, _: dih_core::Delivery<Self::Input>) -> Result<dih_core::Outcome, dih_core::StageError> {
        unreachable!("told to")
    }

    async fn fallen(
        &self,
        delivery: dih_core::Delivery<Self::Input>,
    ) -> Result<dih_core::Outcome, dih_core::StageError> {
        assert_eq!(delivery.upload, Some(UploadSeq(1)));
        Ok(dih_core::Outcome::default())
    }
}
