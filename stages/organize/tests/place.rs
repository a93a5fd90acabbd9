//! Organize answers a photo at the end of its way.

#![allow(clippy::panic, reason = "helpers of a test fail by panicking")]

mod world;

use dih_core::{
    BlobKey, Delivery, Epoch, Notice, Outcome, Stage, UploadSeq,
    event::ImageClustered,
    ports::{Blobs, Index},
    record::{Change, State},
    repeat::{FoundBy, Repeat},
    verdict::{Answer, Status},
};
use world::{Photo, World};

async fn place(world: &World, photo: &Photo) -> Outcome {
    let input = ImageClustered { image: photo.image(), label_score: Some(0.8), cluster: photo.id() };
    let delivery = Delivery { input, upload: Some(UploadSeq(photo.number)), received_at: None, attempt: 1 };
    world.organize().process(delivery).await.expect("the stage works")
}

fn answer(outcome: Outcome) -> Answer {
    match outcome.notices.into_iter().next() {
        Some(Notice::Answer(answer)) => *answer,
        other => panic!("no answer but {other:?}"),
    }
}

/// A photo on its way: clustered, not placed.
async fn arriving() -> (World, Photo) {
    let (world, photo) = (World::default(), Photo::new(1, 0));
    world.add(&photo, &[]).await;
    world.index.change(photo.id(), &Change::to(State::Clustered)).await.expect("memory");
    (world, photo)
}

#[tokio::test]
async fn a_photo_is_published_as_a_picture_and_curated() {
    let (world, photo) = arriving().await;
    let answer = answer(place(&world, &photo).await);
    assert_eq!((answer.status, answer.reason.as_str(), answer.epoch), (Status::Curated, "curated", Epoch(0)));
    assert_eq!(answer.lineage.last().map(|d| d.what.as_str()), Some("curated"));
    assert_eq!(answer.label_score, Some(0.8));
    let picture = world.blobs.get(&BlobKey::picture(photo.id())).await.expect("the picture is there");
    assert_eq!(image::load_from_memory(&picture).expect("a picture").width(), 48);
    let record = world.record(photo.id()).await;
    assert_eq!((record.state, record.label_score), (State::Curated, Some(0.8)));
}

#[tokio::test]
async fn a_second_delivery_gives_the_same_answer() {
    let (world, photo) = arriving().await;
    let strip = |mut answer: Answer| {
        answer.at = Default::default();
        answer.lineage.iter_mut().for_each(|d| d.at = Default::default());
        answer
    };
    let first = strip(answer(place(&world, &photo).await));
    assert_eq!(strip(answer(place(&world, &photo).await)), first);
    assert_eq!(world.record(photo.id()).await.image.lineage.len(), 1);
}

#[tokio::test]
async fn a_photo_that_was_decided_anew_is_left_to_whoever_did_that() {
    let (world, photo) = arriving().await;
    let change = Change { epoch: Some(Epoch(1)), ..Change::to(State::Held) };
    world.index.change(photo.id(), &change).await.expect("memory");
    assert_eq!(place(&world, &photo).await, Outcome::superseded());
    assert_eq!(world.record(photo.id()).await.state, State::Held);
}

/// Makes the photo yield to another, as an earlier upload that is processed late does.
async fn yields(world: &World, photo: &Photo, of: &Photo) {
    world.add(of, &[]).await;
    let repeat = Repeat {
        of: of.id(),
        of_upload: UploadSeq(of.number),
        of_source: None,
        found_by: FoundBy::Vector { cosine: 0.99 },
        evidence: None,
    };
    let change = Change { repeat: Some(Some(repeat)), ..Change::to(State::Repeat) };
    world.index.change(photo.id(), &change).await.expect("memory");
}

#[tokio::test]
async fn a_photo_that_became_a_repeat_on_the_way_is_answered_as_one() {
    let (world, photo) = arriving().await;
    let earlier = Photo::new(0, 0);
    yields(&world, &photo, &earlier).await;
    let answer = answer(place(&world, &photo).await);
    assert_eq!((answer.status, answer.repeat.map(|r| r.of)), (Status::Duplicate, Some(earlier.id())));
    assert_eq!(world.record(photo.id()).await.state, State::Repeat);
}

#[tokio::test]
async fn a_photo_that_became_a_repeat_of_one_that_fell_since_is_decided_anew() {
    let (world, photo) = arriving().await;
    let earlier = Photo::new(0, 0);
    yields(&world, &photo, &earlier).await;
    world.index.change(earlier.id(), &Change::to(State::Fallen)).await.expect("memory");
    let notices = place(&world, &photo).await.notices;
    assert!(
        notices.iter().any(|n| matches!(n, Notice::Stored(stored) if stored.image.epoch == Epoch(1))),
        "{notices:?}"
    );
    let record = world.record(photo.id()).await;
    assert_eq!((record.state, record.epoch), (State::Claimed, Epoch(1)));
}
