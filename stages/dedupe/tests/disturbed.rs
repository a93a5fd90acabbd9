//! Whatever happens between two writes, and wherever the process dies: of every group exactly the earliest upload stays.
//!
//! A picture is under decision while another arrives or falls, right before each of its writes in turn; and in every second
//! case the process dies right after that write, and the message comes again last of all.

mod stream;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use dih_core::{
    Delivery, ImageId, Label, Notice, Stage, UploadSeq,
    event::{Image, ImageStored, VectorSpace},
    image::Fingerprint,
    ports::{Blobs, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
};
use dih_dedupe::Dedupe;
use dih_repeats::succession;
use dih_stores::blob::ObjectBlobs;
use stream::{Stream, photos};

/// Writes of one decision, at most.
const WRITES: usize = 6;

#[derive(Clone, Debug)]
enum Event {
    Arrives(Image),
    Falls(Image),
}

/// An index before one of whose writes something happens, and after which the process may die.
#[derive(Debug)]
struct Disturbed {
    index: Arc<dyn Index>,
    writes: AtomicUsize,
    at: usize,
    dies: bool,
    event: Mutex<Option<(Dedupe, Event)>>,
    heard: Mutex<Vec<Notice>>,
}

impl Disturbed {
    fn take(&self) -> Option<(Dedupe, Event)> {
        self.event.lock().expect("no panic holds it").take()
    }

    /// Gives whether this is the write.
    async fn before(&self) -> bool {
        let now = self.writes.fetch_add(1, Ordering::SeqCst) == self.at;
        if now && let Some((beside, event)) = self.take() {
            let outcome = match event {
                Event::Arrives(image) => beside.process(delivery(image)).await,
                Event::Falls(image) => succession::fall(&*self.index, &image).await,
            };
            self.heard.lock().expect("no panic holds it").extend(outcome.expect("memory").notices);
        }
        now
    }

    fn after<T>(&self, now: bool, done: T) -> Result<T, StoreError> {
        match now && self.dies {
            true => Err(StoreError::Unavailable { store: "test", action: "live".into(), source: "killed".into() }),
            false => Ok(done),
        }
    }
}

#[async_trait]
impl Index for Disturbed {
    async fn claim(&self, record: &Record) -> Result<Record, StoreError> {
        let now = self.before().await;
        self.after(now, self.index.claim(record).await?)
    }

    async fn get(&self, id: ImageId) -> Result<Option<Record>, StoreError> {
        self.index.get(id).await
    }

    async fn change(&self, id: ImageId, change: &Change) -> Result<(), StoreError> {
        let now = self.before().await;
        self.after(now, self.index.change(id, change).await?)
    }

    async fn change_from(&self, id: ImageId, from: &[State], change: &Change) -> Result<bool, StoreError> {
        let now = self.before().await;
        self.after(now, self.index.change_from(id, from, change).await?)
    }

    async fn vote(&self, id: ImageId, upload: UploadSeq, labels: &[Label]) -> Result<(), StoreError> {
        let now = self.before().await;
        self.after(now, self.index.vote(id, upload, labels).await?)
    }

    async fn near_fingerprints(
        &self,
        queries: &[Fingerprint],
        radius: u32,
        states: &[State],
        limit: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        self.index.near_fingerprints(queries, radius, states, limit).await
    }

    async fn put_vector(&self, id: ImageId, space: &VectorSpace, vector: &[f32]) -> Result<(), StoreError> {
        self.index.put_vector(id, space, vector).await
    }

    async fn vector(&self, id: ImageId, space: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        self.index.vector(id, space).await
    }

    async fn near_vectors(
        &self,
        space: &VectorSpace,
        vector: &[f32],
        cosine_min: f32,
        states: &[State],
        limit: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        self.index.near_vectors(space, vector, cosine_min, states, limit).await
    }

    async fn repeats_of(&self, id: ImageId) -> Result<Vec<Record>, StoreError> {
        self.index.repeats_of(id).await
    }

    async fn page(
        &self,
        select: &Select,
        after: Option<ImageId>,
        limit: usize,
        with: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        self.index.page(select, after, limit, with).await
    }

    async fn count(&self, select: &Select) -> Result<u64, StoreError> {
        self.index.count(select).await
    }

    async fn commit(&self) -> Result<(), StoreError> {
        self.index.commit().await
    }
}

fn delivery(image: Image) -> Delivery<ImageStored> {
    let upload = Some(image.upload);
    Delivery { input: ImageStored { image }, upload, received_at: None, attempt: 1 }
}

/// Decides `image` while `event` happens at one of its writes; then lets all come to rest.
async fn disturb(stream: &mut Stream, image: &Image, event: Event, at: usize, dies: bool) {
    let beside = stream.beside(stream.index.clone());
    let index = Arc::new(Disturbed {
        index: stream.index.clone(),
        writes: AtomicUsize::new(0),
        at,
        dies,
        event: Mutex::new(Some((beside, event))),
        heard: Mutex::default(),
    });
    let decided = stream.beside(index.clone()).process(delivery(image.clone())).await;
    stream.hear(std::mem::take(&mut *index.heard.lock().expect("no panic holds it")));
    match decided {
        Ok(outcome) => stream.hear(outcome.notices),
        Err(_) => stream.waiting.push_back(image.clone()),
    }
    // If there were fewer writes, it happens now.
    match index.take() {
        Some((_, Event::Arrives(other))) => stream.waiting.push_back(other),
        Some((_, Event::Falls(other))) => {
            let fallen = succession::fall(&*stream.index, &other).await.expect("memory");
            stream.hear(fallen.notices);
        }
        None => {}
    }
    stream.settle([]).await;
}

/// Three copies of one shot, and the bytes of the first once more.
async fn crowd(blobs: &dyn Blobs) -> Vec<Image> {
    let mut images = photos(blobs, 1, &[92, 60, 35]).await;
    images.push(Image { upload: UploadSeq(4), ..images[0].clone() });
    images
}

/// Of all that did not fall the first by upload stands, and all others repeat it.
async fn check(stream: &Stream, images: &[Image], told: &str) {
    let mut first: Option<ImageId> = None;
    for image in images {
        let record = stream.index.get(image.id).await.expect("memory").expect("claimed");
        if record.state == State::Fallen {
            continue;
        }
        let original = *first.get_or_insert(image.id);
        let want = if original == image.id { State::Unique } else { State::Repeat };
        assert_eq!(record.state, want, "upload {} when {told}", image.upload);
        if want == State::Repeat {
            assert_eq!(record.repeat.map(|r| r.of), Some(original), "upload {} when {told}", image.upload);
        }
    }
}

#[tokio::test]
async fn another_arrives_between_any_two_writes() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = crowd(&*blobs).await;
    for (decided, arriving) in pairs(images.len()) {
        let mut before: Vec<Image> = others(&images, &[decided, arriving]);
        for _ in 0..2 {
            before.reverse();
            for (at, dies) in moments() {
                let mut stream = Stream::new(blobs.clone());
                stream.settle(before.clone()).await;
                let event = Event::Arrives(images[arriving].clone());
                disturb(&mut stream, &images[decided], event, at, dies).await;
                let (d, a) = (images[decided].upload, images[arriving].upload);
                check(&stream, &images, &format!("{a} arrives at write {at} of {d}, which dies: {dies}")).await;
            }
        }
    }
}

#[tokio::test]
async fn another_falls_between_any_two_writes() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    let images = crowd(&*blobs).await;
    for (decided, falling) in pairs(images.len()).filter(|(d, f)| images[*d].id != images[*f].id) {
        let mut before = others(&images, &[decided]);
        for _ in 0..2 {
            before.reverse();
            for (at, dies) in moments() {
                let mut stream = Stream::new(blobs.clone());
                stream.settle(before.clone()).await;
                disturb(&mut stream, &images[decided], Event::Falls(images[falling].clone()), at, dies).await;
                let (d, f) = (images[decided].upload, images[falling].upload);
                check(&stream, &images, &format!("{f} falls at write {at} of {d}, which dies: {dies}")).await;
            }
        }
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}

fn others(images: &[Image], without: &[usize]) -> Vec<Image> {
    (0..images.len()).filter(|i| !without.contains(i)).map(|i| images[i].clone()).collect()
}

fn moments() -> impl Iterator<Item = (usize, bool)> {
    (0..WRITES).flat_map(|at| [(at, false), (at, true)])
}
