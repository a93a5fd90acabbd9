//! A small world for the tests: the stores' fakes, photos with vectors that tell their labels apart, and stores that
//! fail when told to.

#![allow(dead_code, unreachable_pub, clippy::panic, reason = "each test file uses its part, and fails by panicking")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    BlobKey, DatasetName, Delivery, DeviceId, Epoch, ImageId, Label, Notice, Outcome, Stage, StageError, UploadSeq,
    VersionId,
    event::{CutRequested, DatasetPublished, Image, VectorSpace},
    image::{Fingerprint, Fingerprints, Format, Measures, RangeQuery, Size},
    ports::{
        Among, Blobs, Counted, Entry, Facet, Index, NearFingerprint, NearVector, Page, Select, SmallState, StoreError,
    },
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat},
    verdict::{Answer, Status},
    work::Bench,
};
use dih_imaging::Limits;
use dih_organize::{
    Config, Cut, Organize,
    datasets::{self, Definition},
};
use dih_stores::{blob::ObjectBlobs, index::MemoryIndex, state::MemoryState};

pub const LABELS: [&str; 3] = ["hat", "shirt", "shoe"];
const DIMENSIONS: usize = 24;

pub fn space() -> VectorSpace {
    VectorSpace("test-fp32".into())
}

pub fn label(name: &str) -> Label {
    Label::new(name).expect("a valid label")
}

pub fn name() -> DatasetName {
    DatasetName::new("clothes").expect("a valid name")
}

pub fn version(version: u32) -> VersionId {
    VersionId { dataset: name(), version }
}

/// One photo to be streamed in.
#[derive(Clone, Debug)]
pub struct Photo {
    pub number: u64,
    pub labels: Vec<Label>,
    /// What it really shows, as a place in `LABELS`.
    pub shows: usize,
    /// Photos of one shot have nearly the same vector.
    pub shot: u64,
    pub repeat_of: Option<u64>,
    pub votes: BTreeMap<UploadSeq, Vec<Label>>,
    pub label_score: Option<f32>,
    pub size: Size,
    pub attributes: BTreeMap<String, String>,
}

impl Photo {
    pub fn new(number: u64, shows: usize) -> Self {
        Self {
            number,
            labels: vec![label(LABELS[shows])],
            shows,
            shot: number,
            repeat_of: None,
            votes: BTreeMap::new(),
            label_score: Some(0.9),
            size: Size { width: 48, height: 40 },
            attributes: [("licence", "CC0-1.0"), ("author", "somebody")].map(|(k, v)| (k.into(), v.into())).into(),
        }
    }

    pub fn claims(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|l| label(l)).collect();
        self
    }

    pub fn repeats(mut self, of: u64) -> Self {
        self.repeat_of = Some(of);
        self
    }

    pub fn original(&self) -> Vec<u8> {
        let n = self.number;
        let pixel = |x: u32, y: u32| image::Rgb([(n * 37 % 256) as u8, (x * 5) as u8, (y * 6 + n as u32) as u8]);
        let mut jpeg = Vec::new();
        let picture = image::RgbImage::from_fn(48, 40, pixel);
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&picture).expect("encodes");
        jpeg.extend(n.to_be_bytes()); // no two alike, whatever the codec makes of the pixels
        jpeg
    }

    pub fn id(&self) -> ImageId {
        ImageId::of_bytes(&self.original())
    }

    pub fn vector(&self) -> Vec<f32> {
        let noise = |i: usize, seed: u64| {
            let hash = ImageId::of_bytes(format!("{seed} {i}").as_bytes());
            f32::from(hash.as_bytes()[0]) / 255.0 - 0.5
        };
        let own = |i: usize| if i == self.shows { 1.0 } else { 0.0 };
        (0..DIMENSIONS)
            .map(|i| own(i) + 0.55 * noise(i, self.shot) + 0.01 * noise(i, self.number + 1_000_000))
            .collect()
    }

    pub fn image(&self) -> Image {
        Image {
            id: self.id(),
            upload: UploadSeq(self.number),
            epoch: Epoch(0),
            device: DeviceId::new(format!("cam-{}", self.number % 3)).expect("valid"),
            labels: self.labels.clone(),
            source: Some(format!("{}.jpg", self.number)),
            captured_at: None,
            attributes: self.attributes.clone(),
            format: Format::Jpeg,
            size: self.size,
            bytes: 1000 + self.number,
            measures: Measures { sharpness: self.number as f32, aspect: 1.2, ..Measures::default() },
            fingerprints: Fingerprints { orientations: [Fingerprint(self.number); 8], parts: None },
            thumbnail: None,
            lineage: Vec::new(),
        }
    }
}

/// `each` photos of each label, numbered from 1, label after label in turn.
pub fn crowd(each: u64) -> Vec<Photo> {
    (0..each * 3).map(|n| Photo::new(n + 1, (n % 3) as usize)).collect()
}

#[derive(Debug)]
pub struct World {
    pub index: Arc<Failing<MemoryIndex>>,
    pub blobs: Arc<ObjectBlobs>,
    pub state: Arc<Failing<MemoryState>>,
    pub config: Config,
}

impl Default for World {
    fn default() -> Self {
        Self {
            index: Arc::new(Failing::new(MemoryIndex::default())),
            blobs: Arc::new(ObjectBlobs::memory()),
            state: Arc::new(Failing::new(MemoryState::default())),
            config: Config::default(),
        }
    }
}

impl World {
    /// A world with a data set and these photos curated.
    pub async fn with(photos: &[Photo], definition: Definition) -> Self {
        let world = Self::default();
        datasets::create(&*world.state, &name(), &definition).await.expect("a fresh name");
        for photo in photos {
            world.add(photo, photos).await;
        }
        world
    }

    pub async fn add(&self, photo: &Photo, all: &[Photo]) {
        let original = Bytes::from(photo.original());
        let id = photo.id();
        for key in [BlobKey::original(id), BlobKey::preview(id)] {
            self.blobs.put(&key, original.clone()).await.expect("memory");
        }
        let repeat = photo.repeat_of.map(|of| Repeat {
            of: all.iter().find(|p| p.number == of).expect("the original is there").id(),
            of_upload: UploadSeq(of),
            of_source: None,
            found_by: FoundBy::Content,
            evidence: None,
        });
        let record = Record {
            state: if repeat.is_some() { State::Repeat } else { State::Curated },
            repeat,
            votes: photo.votes.clone(),
            label_score: photo.label_score,
            ..Record::claimed(photo.image())
        };
        self.index.claim(&record).await.expect("memory");
        self.index.put_vector(id, &space(), &photo.vector()).await.expect("memory");
    }

    pub fn organize(&self) -> Organize {
        let (index, blobs) = (self.index.clone(), self.blobs.clone());
        Organize::new(&self.config, Limits::default(), index, blobs, Bench::new(Some(2)))
    }

    pub async fn try_cut(&self, request: &str) -> Result<Outcome, StageError> {
        let (index, blobs, state) = (self.index.clone(), self.blobs.clone(), self.state.clone());
        let cut = Cut::new(&self.config, Limits::default(), space(), index, blobs, state, Bench::new(Some(2)));
        let input = CutRequested { dataset: name(), request: request.into() };
        cut.process(Delivery { input, upload: None, received_at: None, attempt: 1 }).await
    }

    pub async fn cut(&self, request: &str) -> (DatasetPublished, Vec<Answer>) {
        published(self.try_cut(request).await.expect("the cut works"))
    }

    pub async fn record(&self, id: ImageId) -> Record {
        self.index.get(id).await.expect("memory").expect("is there")
    }

    pub async fn file(&self, of: u32, file: &str) -> Bytes {
        let key = BlobKey::in_version(&version(of), file).expect("valid");
        self.blobs.get(&key).await.expect("the version has this file")
    }
}

/// The version and all answers: before each revision stands the answer of the epoch that it ends.
pub fn published(outcome: Outcome) -> (DatasetPublished, Vec<Answer>) {
    let mut notices = outcome.notices.into_iter();
    let Some(Notice::Published(event)) = notices.next() else { panic!("no version was published") };
    let answer = |notice| match notice {
        Notice::Answer(answer) => *answer,
        other => panic!("unexpected {other:?}"),
    };
    (event, notices.map(answer).collect())
}

/// The last answer about each upload.
pub fn statuses(answers: &[Answer]) -> Vec<(UploadSeq, Status, Epoch)> {
    let last = |a: &&Answer| !answers.iter().any(|b| b.upload == a.upload && b.epoch > a.epoch);
    answers.iter().filter(last).map(|a| (a.upload, a.status, a.epoch)).collect()
}

/// A store whose writes fail after a number of them, until it is mended.
#[derive(Debug)]
pub struct Failing<S> {
    store: S,
    /// Writes that still succeed; below zero none fails.
    left: AtomicI64,
}

impl<S> Failing<S> {
    fn new(store: S) -> Self {
        Self { store, left: AtomicI64::new(-1) }
    }

    pub fn fail_after(&self, writes: i64) {
        self.left.store(writes, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.left.store(-1, Ordering::SeqCst);
    }

    fn write(&self) -> Result<(), StoreError> {
        match self.left.load(Ordering::SeqCst) {
            0 => {
                Err(StoreError::Unavailable { store: "a fake", action: "write".into(), source: "told to fail".into() })
            }
            1.. => {
                self.left.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl SmallState for Failing<MemoryState> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }
    async fn create(&self, key: &str, value: Bytes) -> Result<Option<u64>, StoreError> {
        self.write()?;
        self.store.create(key, value).await
    }
    async fn replace(&self, key: &str, value: Bytes, revision: u64) -> Result<Option<u64>, StoreError> {
        self.write()?;
        self.store.replace(key, value, revision).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.write()?;
        self.store.delete(key).await
    }
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.store.keys(prefix).await
    }
}

#[async_trait]
impl Index for Failing<MemoryIndex> {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        self.write()?;
        self.store.claim(record).await
    }
    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.store.get(id).await
    }
    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        self.write()?;
        self.store.change(id, change).await
    }
    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        self.write()?;
        self.store.change_from(id, from, change).await
    }
    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        self.write()?;
        self.store.vote(id, upload, labels).await
    }
    async fn near_fingerprints(
        &self,
        queries: &[RangeQuery],
        among: &[Among<'_>],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        self.store.near_fingerprints(queries, among, limit).await
    }
    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.write()?;
        self.store.put_vector(id, space, vector).await
    }
    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.store.vector(id, space).await
    }
    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        among: Among<'_>,
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.store.near_vectors(space, vector, cosine_min, among, limit).await
    }
    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.store.repeats_of(id).await
    }
    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        self.store.page(select, after, limit, with).await
    }
    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        self.store.count(select).await
    }
    async fn facet(&self, by: Facet, select: &Select, limit: usize) -> Result<Vec<Counted>, StoreError> {
        self.store.facet(by, select, limit).await
    }
    async fn commit(&self) -> Result<(), StoreError> {
        self.store.commit().await
    }
}
