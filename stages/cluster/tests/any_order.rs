//! In a crowd, where a picture is compared with its nearest few elders only, the same stay whatever the order.

#![allow(clippy::panic)] // helpers of a test fail by panicking

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZeroUsize,
    sync::Arc,
};

use dih_cluster::{Cluster, Config};
use dih_core::{
    BlobKey, Delivery, ImageId, Notice, Stage, UploadSeq,
    config::ByteSize,
    event::{Image, ImageEmbedded, VectorSpace},
    ports::{Blobs, Index},
    record::{Change, Record, State},
    sample,
    work::Bench,
};
use dih_imaging::{Limits, confirm::Policy, read, sample::jpeg};
use dih_previews::Previews;
use dih_repeats::Prover;
use dih_stores::{blob::ObjectBlobs, index::MemoryIndex};

const SCENES: u64 = 4;
const QUALITIES: [u8; 5] = [92, 80, 65, 50, 35];
const DIMENSIONS: usize = 6;

/// A picture, the scene that it shows, and its vector.
#[derive(Clone)]
struct Shot {
    image: Image,
    scene: u64,
    vector: Vec<f32>,
}

fn space() -> VectorSpace {
    VectorSpace("made-up".into())
}

/// Shots of all scenes in turn, whose vectors say little of the scene: so a list holds shots of others, too.
async fn crowd(blobs: &dyn Blobs, seed: u64) -> Vec<Shot> {
    let mut dice = Dice(seed);
    let mut shots = Vec::new();
    for quality in QUALITIES {
        for scene in 0..SCENES {
            let bytes = jpeg(scene + 1, 320, 240, quality);
            let decoded = read(&bytes, &Limits::default()).expect("a synthetic photo decodes");
            let mut image = sample::image(0, 1 + shots.len() as u64);
            image.id = ImageId::of_bytes(&bytes);
            blobs.put(&BlobKey::preview(image.id), decoded.preview.to_jpeg().into()).await.expect("memory");
            let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| dice.share() * 0.5).collect();
            vector[0] += 1.0; // all are alike enough to be suspects
            shots.push(Shot { image, scene, vector: unit(vector) });
        }
    }
    shots
}

fn unit(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector.into_iter().map(|v| v / length).collect()
}

/// A small generator: the tests need variety, not quality.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn share(&mut self) -> f32 {
        (self.next() % 1000) as f32 / 1000.0
    }

    fn shuffled<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        let mut all = all.to_vec();
        for i in (1..all.len()).rev() {
            all.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        all
    }
}

/// What must stay: in the order of uploads, whoever has none of its scene among its nearest few that stay.
fn greedy(shots: &[Shot], config: &Config) -> BTreeSet<UploadSeq> {
    let mut stay: Vec<&Shot> = Vec::new();
    for shot in shots {
        let cosine = |other: &Shot| other.vector.iter().zip(&shot.vector).map(|(a, b)| a * b).sum::<f32>();
        let mut elders: Vec<_> =
            stay.iter().map(|other| (cosine(other), other.scene)).filter(|e| e.0 >= config.repeat_cosine_min).collect();
        elders.sort_by(|a, b| b.0.total_cmp(&a.0));
        if elders.iter().take(config.candidates_max).all(|elder| elder.1 != shot.scene) {
            stay.push(shot);
        }
    }
    stay.iter().map(|shot| shot.image.upload).collect()
}

/// Cluster; what it releases comes back to it, and what it lets through is placed at some time.
struct Stream<'a> {
    stage: Cluster,
    index: Arc<dyn Index>,
    shots: &'a [Shot],
    waiting: VecDeque<ImageEmbedded>,
    dice: Dice,
}

impl Stream<'_> {
    async fn arrive(&mut self, shot: &Shot) {
        self.index.claim(&Record::claimed(shot.image.clone())).await.expect("memory");
        let fresh = self.index.change_from(shot.image.id, &[State::Claimed], &Change::to(State::Unique)).await;
        if fresh.expect("memory") {
            self.index.put_vector(shot.image.id, &space(), &shot.vector).await.expect("memory");
        }
        self.waiting.push_back(ImageEmbedded { image: shot.image.clone(), label_score: None, space: space() });
    }

    async fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 5_000, "it never settles");
            let Some(input) = self.waiting.pop_front() else { return };
            let upload = Some(input.image.upload);
            let outcome = self.stage.process(Delivery { input, upload, received_at: None, attempt: 1 }).await;
            for notice in outcome.expect("nothing can fail here").notices {
                self.hear(notice).await;
            }
        }
    }

    async fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Embedded(event) => self.waiting.push_back(event),
            Notice::Stored(event) => {
                // Released: dedupe and verify let it through again.
                let change = Change { repeat: Some(None), ..Change::to(State::Unique) };
                self.index.change_from(event.image.id, &[State::Claimed], &change).await.expect("memory");
                let event = ImageEmbedded { image: event.image, label_score: None, space: space() };
                self.waiting.push_back(event);
            }
            Notice::Clustered(event) if self.dice.next().is_multiple_of(2) => {
                let placed = Change::to(State::Curated);
                self.index.change_from(event.image.id, &[State::Clustered], &placed).await.expect("memory");
            }
            Notice::Clustered(_) | Notice::Answer(_) => {}
            other => panic!("cluster does not say {other:?}"),
        }
    }

    async fn standing(&self) -> BTreeSet<UploadSeq> {
        let mut standing = BTreeSet::new();
        for shot in self.shots {
            let record = self.index.get(shot.image.id).await.expect("memory").expect("claimed");
            if record.state.stands() {
                standing.insert(record.upload());
            }
        }
        standing
    }
}

async fn check(seed: u64, candidates_max: usize) {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let shots = crowd(&*blobs, seed).await;
    let config = Config { candidates_max, neighbours_max: shots.len(), ..Config::default() };
    let want = greedy(&shots, &config);
    let cached = NonZeroUsize::new(32).expect("not zero");
    let bench = Bench::new(Some(2));
    let previews = Arc::new(Previews::new(blobs, bench.clone(), ByteSize::mib(8)));
    let prover = Arc::new(Prover::new(previews, bench, Policy::default(), cached));
    for round in 0..6 {
        let index: Arc<dyn Index> = Arc::new(MemoryIndex::with_spaces(&[(space(), DIMENSIONS)]));
        let stage = Cluster::new(config.clone(), index.clone(), prover.clone());
        let mut dice = Dice(seed * 100 + round);
        let order = if round == 0 { shots.clone() } else { dice.shuffled(&shots) };
        let mut stream = Stream { stage, index, shots: &shots, waiting: VecDeque::new(), dice };
        for shot in &order {
            stream.arrive(shot).await;
            // Some arrive while others are still under way.
            if stream.dice.next().is_multiple_of(3) {
                stream.settle().await;
            }
        }
        stream.settle().await;
        assert_eq!(stream.standing().await, want, "seed {seed}, list of {candidates_max}, round {round}");
        for shot in stream.dice.shuffled(&shots) {
            stream.arrive(&shot).await; // every message comes again
        }
        stream.settle().await;
        assert_eq!(stream.standing().await, want, "again: seed {seed}, list of {candidates_max}, round {round}");
    }
}

#[tokio::test]
async fn with_short_lists_the_same_stay_in_any_order_and_if_all_comes_twice() {
    for seed in 1..4 {
        for candidates_max in [1, 2, 3] {
            check(seed, candidates_max).await;
        }
    }
}
