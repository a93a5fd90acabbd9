//! Whatever the order and however often: of every group exactly the earliest upload stays.

#![allow(clippy::panic)] // helpers of a test fail by panicking

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
};

use dih_core::{
    BlobKey, Delivery, ImageId, Notice, Stage, UploadSeq,
    event::{Image, ImageStored},
    ports::{Blobs, Index},
    record::{Change, State},
    sample,
    verdict::{Answer, Status},
    work::Bench,
};
use dih_dedupe::{Config, Dedupe};
use dih_imaging::{Limits, confirm::Policy, read, sample::jpeg};
use dih_repeats::{Prover, succession};
use dih_stores::{blob::ObjectBlobs, index::MemoryIndex};

struct Stream {
    stage: Dedupe,
    index: Arc<dyn Index>,
    waiting: VecDeque<Image>,
    /// Highest-epoch answer an image.
    answers: BTreeMap<ImageId, Answer>,
    first_answers: BTreeMap<ImageId, u32>,
}

/// One group a scene; `qualities` are its copies, the order of uploads is the order here.
async fn photos(blobs: &dyn Blobs, scenes: u64, qualities: &[u8]) -> Vec<Image> {
    let mut images = Vec::new();
    for (copy, quality) in qualities.iter().enumerate() {
        for scene in 0..scenes {
            let bytes = jpeg(scene + 1, 320, 240, *quality);
            let decoded = read(&bytes, &Limits::default()).expect("a synthetic photo decodes");
            let mut image = sample::image(0, 1 + images.len() as u64);
            image.id = ImageId::of_bytes(&bytes);
            image.source = Some(format!("scene {scene} copy {copy}"));
            image.fingerprints = decoded.fingerprints;
            blobs.put(&BlobKey::preview(image.id), decoded.preview.to_jpeg().into()).await.expect("memory");
            images.push(image);
        }
    }
    images
}

impl Stream {
    fn new(blobs: Arc<dyn Blobs>) -> Self {
        let index: Arc<dyn Index> = Arc::new(MemoryIndex::with_spaces(&[]));
        let cached = NonZeroUsize::new(16).expect("not zero");
        let prover = Arc::new(Prover::new(blobs, Bench::new(Some(2)), Policy::default(), cached));
        let stage = Dedupe::new(Config::default(), index.clone(), prover);
        Self { stage, index, waiting: VecDeque::new(), answers: BTreeMap::new(), first_answers: BTreeMap::new() }
    }

    async fn settle(&mut self, arrivals: impl IntoIterator<Item = Image>) {
        self.waiting.extend(arrivals);
        while let Some(image) = self.waiting.pop_front() {
            let upload = Some(image.upload);
            let delivery = Delivery { input: ImageStored { image }, upload, attempt: 1 };
            let outcome = self.stage.process(delivery).await.expect("nothing can fail here");
            self.hear(outcome.notices);
        }
    }

    fn hear(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Stored(ImageStored { image }) => self.waiting.push_back(image),
                Notice::Answer(answer) => {
                    let image = answer.image.expect("answers here are about pictures");
                    if answer.epoch.0 == 0 {
                        *self.first_answers.entry(image).or_default() += 1;
                    }
                    let known = self.answers.get(&image).is_some_and(|a| a.epoch > answer.epoch);
                    if !known {
                        self.answers.insert(image, *answer);
                    }
                }
                Notice::Unique(_) => {}
                other => panic!("dedupe does not say {other:?}"),
            }
        }
    }

    async fn state(&self, image: &Image) -> State {
        self.index.get(image.id).await.expect("memory").expect("claimed").state
    }

    /// Only the first copy of each scene stays; every other is answered as its repeat, where it was answered at all.
    async fn check(&self, images: &[Image], scenes: usize, fallen: &[ImageId]) {
        let mut standing: BTreeMap<usize, ImageId> = BTreeMap::new();
        for (i, image) in images.iter().enumerate().filter(|(_, image)| !fallen.contains(&image.id)) {
            let original = *standing.entry(i % scenes).or_insert(image.id);
            let want = if original == image.id { State::Unique } else { State::Repeat };
            assert_eq!(self.state(image).await, want, "{:?}", image.source);
            if want == State::Repeat
                && let Some(answer) = self.answers.get(&image.id)
            {
                assert_eq!(answer.status, Status::Duplicate);
                assert_eq!(answer.repeat.as_ref().map(|r| r.of), Some(original), "{:?}", image.source);
            }
        }
    }
}

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
