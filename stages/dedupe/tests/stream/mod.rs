//! Synthetic photos, and a stream of them through dedupe alone.
#![allow(dead_code, unreachable_pub, clippy::panic)] // each test file uses a part; helpers of a test fail by panicking

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroUsize,
    ops::Range,
    sync::Arc,
};

use dih_core::{
    BlobKey, Delivery, ImageId, Notice, Stage,
    config::ByteSize,
    event::{Image, ImageStored},
    ports::{Blobs, Index},
    record::State,
    sample,
    verdict::{Answer, Status},
    work::Bench,
};
use dih_dedupe::{Config, Dedupe, Foresight};
use dih_imaging::{
    Limits, Preview,
    confirm::Policy,
    read,
    sample::{jpeg, photo},
};
use dih_previews::Previews;
use dih_repeats::Prover;
use dih_stores::index::MemoryIndex;

/// Dedupe, and all that it says comes back to it.
pub struct Stream {
    pub stage: Dedupe,
    pub index: Arc<dyn Index>,
    pub waiting: VecDeque<Image>,
    /// Highest-epoch answer an image.
    pub answers: BTreeMap<ImageId, Answer>,
    prover: Arc<Prover>,
}

/// One group a scene; `qualities` are its copies, the order of uploads is the order here.
pub async fn photos(blobs: &dyn Blobs, scenes: u64, qualities: &[u8]) -> Vec<Image> {
    let mut images = Vec::new();
    for (copy, quality) in qualities.iter().enumerate() {
        for scene in 0..scenes {
            let bytes = jpeg(scene + 1, 320, 240, *quality);
            let source = format!("scene {scene} copy {copy}");
            images.push(stored(blobs, &bytes, 1 + images.len() as u64, source).await);
        }
    }
    images
}

/// A part of a synthetic photo as JPEG, in hundredths of its width and height.
pub fn part(seed: u64, across: Range<u32>, down: Range<u32>) -> Vec<u8> {
    let whole = photo(seed, 320, 240);
    let (columns, rows) =
        (across.start * 320 / 100..across.end * 320 / 100, down.start * 240 / 100..down.end * 240 / 100);
    let row = |y: u32| (y * 320 + columns.start) as usize * 3..(y * 320 + columns.end) as usize * 3;
    let rgb = rows.clone().flat_map(|y| whole.rgb[row(y)].to_vec()).collect();
    Preview { width: columns.end - columns.start, height: rows.end - rows.start, rgb }.to_jpeg()
}

/// A photo that ingest has let through.
pub async fn stored(blobs: &dyn Blobs, bytes: &[u8], upload: u64, source: String) -> Image {
    let decoded = read(bytes, &Limits::default()).expect("a synthetic photo decodes");
    let id = ImageId::of_bytes(bytes);
    blobs.put(&BlobKey::preview(id), decoded.preview.to_jpeg().into()).await.expect("memory");
    Image { id, source: Some(source), fingerprints: decoded.fingerprints, ..sample::image(0, upload) }
}

impl Stream {
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        let index: Arc<dyn Index> = Arc::new(MemoryIndex::with_spaces(&[]));
        let cached = NonZeroUsize::new(16).expect("not zero");
        let bench = Bench::new(Some(2));
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize::mib(8)));
        let prover = Arc::new(Prover::new(previews, blobs, bench, Policy::default(), cached));
        let stage = Dedupe::new(Config::default(), index.clone(), prover.clone());
        Self { stage, index, waiting: VecDeque::new(), answers: BTreeMap::new(), prover }
    }

    /// Where these pictures break a rule.
    pub fn refusing(self, ids: Vec<ImageId>) -> Self {
        let broken = Foresight::new(move |image| ids.contains(&image.id).then_some("blurred"));
        Self { stage: self.stage.foreseeing(broken), ..self }
    }

    /// The same stage in another process, which sees the index through `index`.
    pub fn beside(&self, index: Arc<dyn Index>) -> Dedupe {
        Dedupe::new(Config::default(), index, self.prover.clone())
    }

    pub async fn settle(&mut self, arrivals: impl IntoIterator<Item = Image>) {
        self.waiting.extend(arrivals);
        while let Some(image) = self.waiting.pop_front() {
            let upload = Some(image.upload);
            let delivery = Delivery { input: ImageStored { image }, upload, received_at: None, attempt: 1 };
            let outcome = self.stage.process(delivery).await.expect("nothing can fail here");
            self.hear(outcome.notices);
        }
    }

    pub fn hear(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Stored(ImageStored { image }) => self.waiting.push_back(image),
                Notice::Answer(answer) => {
                    let image = answer.image.expect("answers here are about pictures");
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

    pub async fn state(&self, image: &Image) -> State {
        self.index.get(image.id).await.expect("memory").expect("claimed").state
    }

    /// Only the first copy of each scene stays; every other is answered as its repeat, where it was answered at all.
    pub async fn check(&self, images: &[Image], scenes: usize, fallen: &[ImageId]) {
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
