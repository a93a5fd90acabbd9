//! Shots of a few scenes, and a stream of them through cluster alone.
#![allow(dead_code, unreachable_pub, clippy::panic)] // each test file uses a part; helpers of a test fail by panicking

use std::{
    collections::{BTreeMap, VecDeque},
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

const DIMENSIONS: usize = 6;

/// A picture, the scene that it shows, and its vector.
#[derive(Clone)]
pub struct Shot {
    pub image: Image,
    scene: u64,
    vector: Vec<f32>,
}

fn space() -> VectorSpace {
    VectorSpace("made-up".into())
}

/// Shots of all scenes in turn, whose vectors say little of the scene: so a list holds shots of others, too.
async fn crowd(blobs: &dyn Blobs, scenes: u64, qualities: &[u8], seed: u64) -> Vec<Shot> {
    let mut dice = Dice(seed);
    let mut shots = Vec::new();
    for quality in qualities {
        for scene in 0..scenes {
            let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| dice.share() * 0.5).collect();
            vector[0] += 1.0; // all are alike enough to be suspects
            shots.push(shot(blobs, 1 + shots.len() as u64, scene, *quality, vector).await);
        }
    }
    shots
}

async fn shot(blobs: &dyn Blobs, upload: u64, scene: u64, quality: u8, vector: Vec<f32>) -> Shot {
    let bytes = jpeg(scene + 1, 320, 240, quality);
    let decoded = read(&bytes, &Limits::default()).expect("a synthetic photo decodes");
    let image = Image { id: ImageId::of_bytes(&bytes), ..sample::image(0, upload) };
    blobs.put(&BlobKey::preview(image.id), decoded.preview.to_jpeg().into()).await.expect("memory");
    Shot { image, scene, vector: unit(vector) }
}

fn unit(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    vector.into_iter().map(|v| v / length).collect()
}

/// A small generator: the tests need variety, not quality.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn share(&mut self) -> f32 {
        (self.next() % 1000) as f32 / 1000.0
    }

    pub fn shuffled<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        let mut all = all.to_vec();
        for i in (1..all.len()).rev() {
            all.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        all
    }
}

/// Each upload, and which one it repeats, if it does not stay.
pub type Fates = BTreeMap<UploadSeq, Option<UploadSeq>>;

/// What must become of all: in the order of uploads stays whoever has none of its scene among its nearest few that stay;
/// others name the earliest of these.
fn greedy(shots: &[Shot], config: &Config) -> Fates {
    let (mut stay, mut fates): (Vec<&Shot>, Fates) = Default::default();
    for shot in shots {
        let cosine = |other: &Shot| other.vector.iter().zip(&shot.vector).map(|(a, b)| a * b).sum::<f32>();
        let mut elders: Vec<_> =
            stay.iter().map(|other| (cosine(other), other)).filter(|e| e.0 >= config.repeat_cosine_min).collect();
        elders.sort_by(|a, b| b.0.total_cmp(&a.0));
        let list = elders.iter().take(config.candidates_max).map(|elder| elder.1);
        let named = list.filter(|elder| elder.scene == shot.scene).map(|elder| elder.image.upload).min();
        fates.insert(shot.image.upload, named);
        if named.is_none() {
            stay.push(shot);
        }
    }
    fates
}

/// A crowd, and what must become of it.
pub struct World {
    pub shots: Vec<Shot>,
    pub want: Fates,
    config: Config,
    prover: Arc<Prover>,
}

impl World {
    /// With lists of so many.
    pub async fn new(scenes: u64, qualities: &[u8], seed: u64, candidates_max: usize) -> Self {
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let shots = crowd(&*blobs, scenes, qualities, seed).await;
        Self::of(shots, blobs, candidates_max)
    }

    /// Shots of these scenes, whose vectors stand at these angles in degrees.
    pub async fn around(placed: &[(u64, f32)], candidates_max: usize) -> Self {
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let mut shots = Vec::new();
        for ((scene, angle), upload) in placed.iter().zip(1..) {
            let (sin, cos) = angle.to_radians().sin_cos();
            let vector = [cos, sin, 0.0, 0.0, 0.0, 0.0].to_vec();
            shots.push(shot(&*blobs, upload, *scene, 90 - 2 * upload as u8, vector).await);
        }
        Self::of(shots, blobs, candidates_max)
    }

    fn of(shots: Vec<Shot>, blobs: Arc<dyn Blobs>, candidates_max: usize) -> Self {
        let config = Config { candidates_max, neighbours_max: shots.len(), ..Config::default() };
        let want = greedy(&shots, &config);
        let cached = NonZeroUsize::new(32).expect("not zero");
        let bench = Bench::new(Some(2));
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize::mib(8)));
        let prover = Arc::new(Prover::new(previews, blobs, bench, Policy::default(), cached));
        Self { shots, want, config, prover }
    }

    /// Nothing has arrived yet.
    pub fn stream(&self, seed: u64) -> Stream<'_> {
        let index: Arc<dyn Index> = Arc::new(MemoryIndex::with_spaces(&[(space(), DIMENSIONS)]));
        Stream { stage: self.stage(index.clone()), index, world: self, waiting: VecDeque::new(), dice: Dice(seed) }
    }

    pub fn stage(&self, index: Arc<dyn Index>) -> Cluster {
        Cluster::new(self.config.clone(), index, self.prover.clone())
    }
}

/// Cluster; what it releases comes back to it, and what it lets through is placed at some time.
pub struct Stream<'a> {
    pub stage: Cluster,
    pub index: Arc<dyn Index>,
    pub waiting: VecDeque<ImageEmbedded>,
    pub dice: Dice,
    world: &'a World,
}

/// What comes before cluster.
pub async fn embed(index: &dyn Index, shot: &Shot) -> ImageEmbedded {
    index.claim(&Record::claimed(shot.image.clone())).await.expect("memory");
    let fresh = index.change_from(shot.image.id, &[State::Claimed], &Change::to(State::Unique)).await;
    if fresh.expect("memory") {
        index.put_vector(shot.image.id, &space(), &shot.vector).await.expect("memory");
    }
    ImageEmbedded { image: shot.image.clone(), label_score: None, space: space() }
}

/// What comes back to cluster from what it said.
pub async fn follows(index: &dyn Index, notice: Notice) -> Option<ImageEmbedded> {
    match notice {
        Notice::Embedded(event) => Some(event),
        Notice::Stored(event) => {
            // Released: dedupe and verify let it through again.
            let change = Change { repeat: Some(None), ..Change::to(State::Unique) };
            index.change_from(event.image.id, &[State::Claimed], &change).await.expect("memory");
            Some(ImageEmbedded { image: event.image, label_score: None, space: space() })
        }
        _ => None,
    }
}

pub fn delivery(input: ImageEmbedded) -> Delivery<ImageEmbedded> {
    Delivery { upload: Some(input.image.upload), input, received_at: None, attempt: 1 }
}

impl Stream<'_> {
    pub async fn arrive(&mut self, shot: &Shot) {
        let event = embed(&*self.index, shot).await;
        self.waiting.push_back(event);
    }

    pub async fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 5_000, "it never settles");
            let Some(input) = self.waiting.pop_front() else { return };
            let outcome = self.stage.process(delivery(input)).await;
            for notice in outcome.expect("nothing can fail here").notices {
                self.hear(notice).await;
            }
        }
    }

    pub async fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Embedded(_) | Notice::Stored(_) => self.waiting.extend(follows(&*self.index, notice).await),
            Notice::Clustered(event) if self.dice.next().is_multiple_of(2) => {
                let placed = Change::to(State::Curated);
                self.index.change_from(event.image.id, &[State::Clustered], &placed).await.expect("memory");
            }
            Notice::Clustered(_) | Notice::Answer(_) => {}
            other => panic!("cluster does not say {other:?}"),
        }
    }

    pub async fn fates(&self) -> Fates {
        let mut fates = Fates::new();
        for shot in &self.world.shots {
            let record = self.index.get(shot.image.id).await.expect("memory").expect("claimed");
            let named = record.repeat.as_ref().filter(|_| !record.state.stands()).map(|repeat| repeat.of_upload);
            assert_eq!(named.is_none(), record.state.stands(), "{record:?}");
            fates.insert(record.upload(), named);
        }
        fates
    }
}
