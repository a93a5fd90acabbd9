//! Pictures whose relations are entangled: parts of a few scenes, of which some repeat each other and some do not, with made-up
//! fingerprints and vectors by which some are suspected and some are not; and a few that are refused, held or cannot be looked at.

use std::{collections::HashMap, num::NonZeroUsize, ops::RangeInclusive, sync::Arc};

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use dih_core::{
    BlobKey, Class, ImageId, StageError,
    config::ByteSize,
    event::{Image, VectorSpace},
    image::Fingerprint,
    ports::{Blobs, Sight, Vision},
    sample,
    work::Bench,
};
use dih_imaging::{Limits, Preview, confirm::Policy, read, sample::photo, thumbnail};
use dih_previews::Previews;
use dih_repeats::Prover;
use dih_stores::blob::ObjectBlobs;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::stages::Stages;

/// Numbers of a vector.
pub(crate) const NUMBERS: usize = 6;
const UPLOADS: u64 = 32;
/// Scenes of which there are many pictures, and of which there are few: these stand in the others' way.
const POPULAR: RangeInclusive<u64> = 1..=2;
const OTHERS: RangeInclusive<u64> = 3..=20;
/// Sides of a scene in pixels.
const SCENE: [u32; 2] = [240, 180];
/// Bits in which an entropy is too low.
const FLAT: f32 = 0.1;

pub(crate) fn space() -> VectorSpace {
    VectorSpace("made-up".into())
}

/// Uploads in their order, and all that stages need to judge them.
pub(crate) struct Crowd {
    pub(crate) uploads: Vec<Image>,
    pub(crate) stages: Stages,
}

impl Crowd {
    pub(crate) async fn draw(seed: u64) -> Result<Self> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let (mut uploads, mut sights) = (Vec::new(), HashMap::new());
        for upload in 1..=UPLOADS {
            let scene = if dice.random_bool(0.5) { dice.random_range(POPULAR) } else { dice.random_range(OTHERS) };
            let bytes = part(scene, dice.random_range(0..4) * 32, dice.random_range(0..4));
            let decoded = read(&bytes, &Limits::default()).map_err(|e| anyhow!("a part of a scene: {e}"))?;
            let id = ImageId::of_bytes(&bytes);
            blobs.put(&BlobKey::original(id), bytes.into()).await?;
            let sight = sights.entry(id).or_insert_with(|| sight(&mut dice)).clone();
            let mut image = Image { id, size: decoded.size, ..sample::image(0, upload) };
            image.source = Some(format!("scene {scene}"));
            image.thumbnail = Some(thumbnail(&decoded.preview));
            let mut of_content = ChaCha8Rng::seed_from_u64(id.as_uuid().as_u64_pair().0);
            let bits = if of_content.random_bool(0.4) { scene } else { of_content.next_u64() };
            image.fingerprints.orientations = [Fingerprint(ChaCha8Rng::seed_from_u64(bits).next_u64()); 8];
            if of_content.random_bool(0.1) {
                image.measures.entropy = FLAT;
            }
            uploads.push(image);
            sights.insert(id, sight);
        }
        let bench = Bench::new(Some(1));
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize::mib(32)));
        let cached = NonZeroUsize::new(UPLOADS as usize).expect("not zero");
        let prover = Arc::new(Prover::new(previews, blobs.clone(), bench.clone(), Policy::default(), cached));
        let eyes = Arc::new(Eyes { space: space(), classes: ["cat", "truck"].map(String::from).to_vec(), sights });
        let (candidates_max, neighbours_max) = (dice.random_range(1..5), dice.random_range(4..33));
        let cluster = dih_cluster::Config { candidates_max, neighbours_max, ..dih_cluster::Config::default() };
        Ok(Self { uploads, stages: Stages { eyes, blobs, bench, prover, cluster } })
    }

    /// Whether it is refused or fails, if it comes so far.
    pub(crate) fn is_hopeless(&self, image: &Image) -> bool {
        image.measures.entropy <= FLAT || self.stages.eyes.sights.get(&image.id).is_none_or(Option::is_none)
    }
}

/// A part of a scene as JPEG. Those beside each other repeat each other, those at its ends do not.
fn part(scene: u64, left: u32, top: u32) -> Vec<u8> {
    let [width, height] = SCENE;
    let whole = photo(scene, width, height);
    let (columns, rows) = (left..left + width * 3 / 5, top..height - 4 + top);
    let row = |y: u32| (y * width + columns.start) as usize * 3..(y * width + columns.end) as usize * 3;
    let rgb = rows.clone().flat_map(|y| whole.rgb[row(y)].to_vec()).collect();
    Preview { width: columns.end - columns.start, height: rows.end - rows.start, rgb }.to_jpeg()
}

/// All are alike enough to be suspects. None: the model fails on it.
fn sight(dice: &mut ChaCha8Rng) -> Option<Sight> {
    let mut embedding: Vec<f32> = (0..NUMBERS).map(|_| dice.random::<f32>() * 0.5).collect();
    embedding[0] += 1.0;
    let cat = if dice.random_bool(0.1) { 0.001 } else { 0.9 };
    dice.random_bool(0.95).then(|| Sight { embedding, probabilities: Some(vec![cat, 1.0 - cat]) })
}

/// Sees what was drawn.
#[derive(Debug)]
pub(crate) struct Eyes {
    space: VectorSpace,
    classes: Vec<String>,
    sights: HashMap<ImageId, Option<Sight>>,
}

#[async_trait]
impl Vision for Eyes {
    fn model(&self) -> &str {
        "made-up"
    }

    fn space(&self) -> &VectorSpace {
        &self.space
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    async fn look(&self, image: ImageId) -> Result<Sight, StageError> {
        let sight = self.sights.get(&image).cloned().flatten();
        sight.ok_or_else(|| StageError::new(Class::BadInput, "the model fails on it"))
    }
}
