//! Whatever the order and however often: of every group exactly the earliest upload stays.

mod stream;

use std::sync::Arc;

use dih_core::{
    ImageId, UploadSeq,
    event::Image,
    image::{Fingerprint, Fingerprints},
    ports::Blobs,
    record::{Change, State},
    sample,
};
use dih_repeats::succession;
use dih_stores::blob::ObjectBlobs;
use stream::{Stream, part, photos, stored};

const SCENES: usize = 3;
const COPIES: [u8; 3] = [92, 60, 35];

/// Every rotation and the reverse of the order of uploads.
fn orders(images: &[Image]) -> Vec<Vec<Image>> {
    let mut orders: Vec<Vec<Image>> = (0..images.len())
        .map(|by| {
            let mut order = images.to_vec();
            order.rotate_left(by);
            order
        })
        .collect();
    orders.push(images.iter().rev().cloned().collect());
    orders
}

#[tokio::test]
async fn of_every_group_the_earliest_stays_in_any_order_and_if_all_comes_twice() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = photos(&*blobs, SCENES as u64, &COPIES).await;
    for order in orders(&images) {
        let mut stream = Stream::new(blobs.clone());
        stream.settle(order.clone()).await;
        stream.check(&images, SCENES, &[]).await;
        stream.settle(order).await;
        stream.check(&images, SCENES, &[]).await;
    }
}

#[tokio::test]
async fn when_the_earliest_falls_the_next_takes_over_in_any_order() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = photos(&*blobs, SCENES as u64, &COPIES).await;
    let fallen: Vec<ImageId> = images[..SCENES].iter().map(|i| i.id).collect();
    for order in orders(&images) {
        let mut stream = Stream::new(blobs.clone());
        stream.settle(order).await;
        for id in &fallen {
            stream.index.change(*id, &Change::to(State::Rejected)).await.expect("claimed");
            // Twice: the first try may have died before it could publish what it released.
            let _unheard = succession::release(&*stream.index, *id).await.expect("memory");
            let heard = succession::release(&*stream.index, *id).await.expect("memory");
            stream.hear(heard);
        }
        stream.settle([]).await;
        stream.check(&images, SCENES, &fallen).await;
    }
}

#[tokio::test]
async fn the_same_bytes_again_are_a_repeat_and_a_vote() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let first = photos(&*blobs, 1, &[90]).await.remove(0);
    let mut again = first.clone();
    again.upload = dih_core::UploadSeq(2);
    again.labels = vec![sample::label("dog")];
    let mut stream = Stream::new(blobs);
    stream.settle([first.clone(), again.clone(), again.clone()]).await;
    let record = stream.index.get(first.id).await.expect("memory").expect("claimed");
    assert_eq!(record.votes.into_iter().collect::<Vec<_>>(), vec![(again.upload, again.labels)]);
    let answer = stream.answers.get(&first.id).expect("answered");
    assert_eq!((answer.upload, answer.reason.as_str()), (again.upload, "same_content"));
}

#[tokio::test]
async fn of_equal_bytes_the_first_upload_gives_the_order_whichever_is_processed_first() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = photos(&*blobs, 1, &[92, 60]).await;
    let again = Image { upload: UploadSeq(3), ..images[0].clone() };
    let (first, copy) = (&images[0], &images[1]);
    for order in orders(&[first.clone(), copy.clone(), again.clone()])
        .into_iter()
        .chain([vec![again.clone(), first.clone(), copy.clone()], vec![first.clone(), again.clone(), copy.clone()]])
    {
        let mut stream = Stream::new(blobs.clone());
        for _ in 0..2 {
            stream.settle(order.clone()).await;
            assert_eq!(stream.state(first).await, State::Unique, "{:?}", order.iter().map(|i| i.upload));
            assert_eq!(stream.state(copy).await, State::Repeat);
        }
    }
}

#[tokio::test]
async fn a_pair_of_which_only_one_would_find_the_other_is_none_from_either_side() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let mut images = photos(&*blobs, 1, &[92, 60]).await;
    let (earlier, later) = (0x0f0f_0f0f_0f0f_0f0f_u64, 0xffff_ffff_0000_0000_u64);
    let far = 0x5555_5555_5555_5555;
    // The later one, turned, is 4 bits from the earlier; the earlier one, turned, is so many from the later.
    for (bits, scenes) in [(0xf_u64, 1), (0x3f, 2)] {
        for (image, upright, turned) in [(0, earlier, later ^ bits), (1, later, earlier ^ 0xf)] {
            let mut orientations = [Fingerprint(far); 8];
            (orientations[0], orientations[2]) = (Fingerprint(upright), Fingerprint(turned));
            images[image].fingerprints = Fingerprints { orientations, parts: None };
        }
        for order in orders(&images) {
            let mut stream = Stream::new(blobs.clone());
            stream.settle(order).await;
            stream.check(&images, scenes, &[]).await;
        }
    }
}

#[tokio::test]
async fn what_is_cropped_by_up_to_a_tenth_of_each_side_is_found_by_fingerprint_in_any_order() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let mut images = photos(&*blobs, SCENES as u64, &[92]).await;
    for percent in [90, 80] {
        for scene in 1..=SCENES as u64 {
            let (upload, source) = (1 + images.len() as u64, format!("scene {scene}, {percent} %"));
            let margin = (100 - percent) / 2;
            let cropped = part(scene, margin..100 - margin, margin..100 - margin);
            images.push(stored(&*blobs, &cropped, upload, source).await);
        }
    }
    for order in orders(&images) {
        let mut stream = Stream::new(blobs.clone());
        stream.settle(order).await;
        stream.check(&images, SCENES, &[]).await;
    }
}
