//! Repeats of what was refused: a repeat that is refused, too, is a repeat all the same, and a good one is not lost.

mod stream;

use std::sync::Arc;

use dih_core::{
    Epoch,
    event::Image,
    ports::Blobs,
    record::{Change, State},
    verdict::Status,
};
use dih_repeats::succession;
use dih_stores::blob::ObjectBlobs;
use stream::{Stream, photos};

/// A refused original, two copies that break a rule as it does, and a good copy.
async fn refused_original() -> (Stream, Vec<Image>) {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = photos(&*blobs, 1, &[92, 60, 35, 80]).await;
    let bad = images[..3].iter().map(|image| image.id).collect();
    let mut stream = Stream::new(blobs).refusing(bad);
    stream.settle([images[0].clone()]).await;
    assert_eq!(stream.state(&images[0]).await, State::Unique, "it repeats nothing: the rules are for a later stage");
    stream.index.change(images[0].id, &Change::to(State::Rejected)).await.expect("claimed");
    (stream, images)
}

async fn check_repeat_of_the_refused(stream: &Stream, image: &Image, original: &Image) {
    assert_eq!(stream.state(image).await, State::Rejected);
    let answer = stream.answers.get(&image.id).expect("answered");
    assert_eq!((answer.status, answer.reason.as_str()), (Status::Duplicate, "same_shot"));
    assert_eq!(answer.repeat.as_ref().map(|r| r.of), Some(original.id));
    assert!(answer.lineage.iter().any(|decision| decision.what == "blurred"), "{:?}", answer.lineage);
}

#[tokio::test]
async fn what_breaks_a_rule_and_repeats_a_refused_picture_is_a_duplicate_and_says_so_again() {
    let (mut stream, images) = refused_original().await;
    for _ in 0..2 {
        stream.settle(images[1..3].to_vec()).await;
        for copy in &images[1..3] {
            check_repeat_of_the_refused(&stream, copy, &images[0]).await;
        }
    }
}

#[tokio::test]
async fn a_good_copy_of_a_refused_picture_goes_on() {
    let (mut stream, images) = refused_original().await;
    stream.settle(images.clone()).await;
    assert_eq!(stream.state(&images[3]).await, State::Unique);
    assert!(!stream.answers.contains_key(&images[3].id));
}

#[tokio::test]
async fn a_refused_repeat_is_not_decided_again_when_its_original_is_refused_again() {
    let (mut stream, images) = refused_original().await;
    stream.settle([images[1].clone()]).await;
    assert!(succession::release(&*stream.index, images[0].id).await.expect("memory").is_empty());
    check_repeat_of_the_refused(&stream, &images[1], &images[0]).await;
}

#[tokio::test]
async fn whoever_yielded_before_its_original_was_refused_is_decided_again_and_repeats_it_still() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = photos(&*blobs, 1, &[92, 60, 80]).await;
    let bad = images[..2].iter().map(|image| image.id).collect();
    let mut stream = Stream::new(blobs).refusing(bad);
    stream.settle(images.clone()).await;
    for copy in &images[1..] {
        assert_eq!(stream.state(copy).await, State::Repeat);
    }
    stream.index.change(images[0].id, &Change::to(State::Rejected)).await.expect("claimed");
    let released = succession::release(&*stream.index, images[0].id).await.expect("memory");
    stream.hear(released);
    stream.settle([]).await;
    check_repeat_of_the_refused(&stream, &images[1], &images[0]).await;
    assert_eq!(stream.answers[&images[1].id].epoch, Epoch(1));
    assert_eq!(stream.state(&images[2]).await, State::Unique, "a good copy takes over");
}

#[tokio::test]
async fn a_picture_that_yielded_to_one_that_is_refused_with_its_original_is_released() {
    let (mut stream, images) = refused_original().await;
    // The bad copy is claimed and under decision when the good one comes and finds it standing.
    let record = dih_core::record::Record::claimed(images[1].clone());
    stream.index.claim(&record).await.expect("memory");
    stream.settle([images[3].clone()]).await;
    assert_eq!(stream.state(&images[3]).await, State::Repeat);
    stream.settle([images[1].clone()]).await;
    check_repeat_of_the_refused(&stream, &images[1], &images[0]).await;
    assert_eq!(stream.state(&images[3]).await, State::Unique);
}
