//! A made-up stream of any length, and the store that its photos lie in.
//!
//! Takes    real photos with their vectors and measurements. Gives photo number `n` of a stream: the same one for the same
//!          seed, without the others, so that a million need no room.
//! How      a photo shows one of a growing number of *subjects*: one for every [`SHOTS`] photos so far, so that a photo has
//!          as many neighbours in a large collection as in a small one. A subject's vector takes each part from one of three
//!          real vectors, which keeps the spread of real ones; a photo's vector is its subject's, and a difference of two
//!          real ones. One photo in [`EDITED`] is nearly an earlier one, by vector and by fingerprint; all other fingerprints
//!          are random. Its pixels are those of one of the real photos.
//! Weak at  pixels and vectors have nothing to do with each other: hardly any suspect is proven, so nearly all photos stay.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    BlobKey, DeviceId, Epoch, ImageId, Label, UploadSeq,
    event::Image,
    image::{Fingerprint, Fingerprints, Measures, Size, Thumbnail},
    ports::{Blobs, StoreError},
};
use dih_imaging::confirm::{Pixels, features};

/// Photos for every subject.
pub const SHOTS: u64 = 40;
/// One photo in so many is an edited copy of an earlier one.
pub const EDITED: u64 = 20;
/// Numbers of a vector that a subject takes together.
const PART: usize = 32;
/// How far a photo's vector lies from its subject's, least and most, where that has length 1: two of one subject have a
/// cosine of .6 to .9.
const SPREAD: (f32, f32) = (0.35, 0.8);
/// As [`SPREAD`], for an edited copy: a cosine of .93 to .99.
const EDIT_SPREAD: (f32, f32) = (0.1, 0.28);
/// Most bits that an edit flips.
const EDIT_BITS: u64 = 10;

/// A real photo.
#[derive(Clone, Debug)]
pub struct Base {
    pub bytes: Bytes,
    pub size: Size,
    pub measures: Measures,
    pub thumbnail: Thumbnail,
    /// As they are stored.
    pub features: Bytes,
    /// Of length 1.
    pub vector: Vec<f32>,
}

#[derive(Clone, Debug)]
pub struct World {
    bases: Arc<Vec<Base>>,
    seed: u64,
}

impl World {
    /// At least one real photo.
    pub fn new(bases: Vec<Base>, seed: u64) -> Self {
        assert!(!bases.is_empty(), "a world is made of something");
        Self { bases: Arc::new(bases), seed }
    }

    pub fn image(&self, n: u64) -> Image {
        let (id, base) = (id(n), self.base(n));
        let label = Label::new(format!("label-{}", self.subject(n) % 1_000)).expect("a valid label");
        Image {
            id,
            upload: UploadSeq(n + 1),
            epoch: Epoch(0),
            device: DeviceId::new(format!("device-{}", n % 50)).expect("a valid device"),
            labels: vec![label],
            source: Some(format!("made-up/{n}.jpg")),
            captured_at: None,
            attributes: BTreeMap::from([("licence".to_owned(), "CC-BY-4.0".to_owned())]),
            format: dih_core::image::Format::Jpeg,
            size: base.size,
            bytes: base.bytes.len() as u64,
            measures: base.measures,
            fingerprints: self.fingerprints(n),
            thumbnail: Some(base.thumbnail.clone()),
            lineage: Vec::new(),
        }
    }

    /// The vector of a photo, not normalised.
    pub fn vector(&self, n: u64) -> Vec<f32> {
        match self.edited(n) {
            Some(of) => self.moved(self.vector(of), n, EDIT_SPREAD),
            None => self.moved(self.subject_vector(self.subject(n)), n, SPREAD),
        }
    }

    /// The real photo whose pixels a photo has.
    fn base(&self, n: u64) -> &Base {
        base_of(&self.bases, id(n))
    }

    /// The earlier photo that this one is an edited copy of.
    fn edited(&self, n: u64) -> Option<u64> {
        let dice = self.dice(n, 1);
        (n > 0 && dice.is_multiple_of(EDITED)).then(|| dice / EDITED % n)
    }

    fn subject(&self, n: u64) -> u64 {
        self.dice(n, 2) % (n / SHOTS + 1)
    }

    fn subject_vector(&self, subject: u64) -> Vec<f32> {
        let parent = |i: u64| &self.bases[(self.dice(subject, 10 + i) % self.bases.len() as u64) as usize].vector;
        let parents = [parent(0), parent(1), parent(2)];
        let parts = parents[0].len().div_ceil(PART);
        let chosen = (0..parts).flat_map(|part| {
            let of = parents[(self.dice(subject, 100 + part as u64) % 3) as usize];
            &of[part * PART..of.len().min((part + 1) * PART)]
        });
        unit(chosen.copied().collect())
    }

    /// Moves a vector of length 1 by the difference of two real ones, in the direction that photo `n` gives.
    fn moved(&self, from: Vec<f32>, n: u64, (least, most): (f32, f32)) -> Vec<f32> {
        let real = |i: u64| &self.bases[(self.dice(n, i) % self.bases.len() as u64) as usize].vector;
        let towards = unit(real(3).iter().zip(real(4)).map(|(a, b)| a - b).collect());
        let spread = least + (most - least) * (self.dice(n, 5) >> 40) as f32 / (1_u64 << 24) as f32;
        let from = unit(from);
        from.iter().zip(&towards).map(|(at, step)| at + spread * step).collect()
    }

    fn fingerprints(&self, n: u64) -> Fingerprints {
        let mut bits: [u64; 8] = std::array::from_fn(|i| self.dice(n, 1_000 + i as u64));
        if let Some(of) = self.edited(n) {
            let flips = self.dice(n, 6) % (EDIT_BITS + 1);
            let near = self.fingerprints(of).upright().0;
            bits[0] = (0..flips).fold(near, |bits, i| bits ^ 1 << (self.dice(n, 2_000 + i) % 64));
        }
        let parts = std::array::from_fn(|i| Fingerprint(self.dice(n, 1_100 + i as u64)));
        Fingerprints { orientations: bits.map(Fingerprint), parts: Some(parts) }
    }

    /// A random number for photo or subject `n`, one of many.
    fn dice(&self, n: u64, which: u64) -> u64 {
        scatter(scatter(scatter(self.seed) ^ n) ^ which)
    }

    /// A store in which every photo lies.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(Borrowed { bases: self.bases.clone() })
    }

    /// The bytes of a photo.
    pub fn bytes(&self, n: u64) -> &Bytes {
        &self.base(n).bytes
    }
}

pub fn id(n: u64) -> ImageId {
    let [high, low] = [scatter(n), scatter(n ^ u64::MAX)].map(u64::to_be_bytes);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high);
    id[8..].copy_from_slice(&low);
    ImageId::from_bytes(id)
}

fn base_of(bases: &[Base], id: ImageId) -> &Base {
    let (number, _) = id.as_bytes().split_first_chunk().expect("an id has 16 bytes");
    &bases[(u64::from_be_bytes(*number) % bases.len() as u64) as usize]
}

/// Scales to length 1; what has no length stays.
pub fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

/// Scatters a number over 64 bits (splitmix64, Steele et al., OOPSLA 2014).
fn scatter(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Every original is one of the real photos, with features that had to make room in somebody's cache, and there are no
/// previews: small photos have none.
#[derive(Debug)]
struct Borrowed {
    bases: Arc<Vec<Base>>,
}

impl Borrowed {
    fn bytes(&self, key: &BlobKey) -> Option<Bytes> {
        let (folder, file) = key.as_str().rsplit_once('/')?;
        let base = base_of(&self.bases, file.parse().ok()?);
        match folder.split('/').next()? {
            "originals" => Some(base.bytes.clone()),
            "features" => Some(base.features.clone()),
            _ => None,
        }
    }
}

#[async_trait]
impl Blobs for Borrowed {
    async fn put(&self, _: &BlobKey, _: Bytes) -> Result<(), StoreError> {
        Ok(())
    }

    async fn create(&self, _: &BlobKey, _: Bytes) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, StoreError> {
        let missing = || StoreError::NotFound { store: "made-up photos", key: key.to_string() };
        self.bytes(key).ok_or_else(missing)
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, StoreError> {
        Ok(self.bytes(key).map(|bytes| bytes.len() as u64))
    }

    async fn delete(&self, _: &BlobKey) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self, _: &str) -> Result<Vec<BlobKey>, StoreError> {
        Ok(Vec::new())
    }

    fn location(&self, key: &BlobKey) -> String {
        key.to_string()
    }
}

/// Reads the photos of a folder. `embed` gives the vector of a preview.
pub fn read(
    files: &[impl AsRef<Path>],
    limits: &dih_imaging::Limits,
    mut embed: impl FnMut(&dih_imaging::Preview) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Vec<Base>> {
    let mut bases = Vec::with_capacity(files.len());
    for file in files {
        let bytes = Bytes::from(std::fs::read(file)?);
        let Ok(decoded) = dih_imaging::read(&bytes, limits) else { continue };
        let vector = unit(embed(&decoded.preview)?);
        let dih_imaging::Decoded { size, measures, thumbnail, preview, .. } = decoded;
        let Some(pixels) = Pixels::new(preview.width, preview.height, &preview.rgb) else { continue };
        let features = features(pixels).to_bytes().into();
        bases.push(Base { bytes, size, measures, thumbnail, features, vector });
    }
    anyhow::ensure!(!bases.is_empty(), "none of the files is a photo");
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: usize = 320;

    fn world() -> World {
        let base = |n: u64| Base {
            bytes: Bytes::from(n.to_string()),
            size: Size { width: 1, height: 1 },
            measures: Measures::default(),
            thumbnail: [0; Thumbnail::BYTES].into(),
            features: Bytes::new(),
            vector: unit((0..NUMBERS as u64).map(|i| (scatter(n * 1_000 + i) % 1_000) as f32).collect()),
        };
        World::new((0..50).map(base).collect(), 7)
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn an_edited_copy_is_near_by_vector_and_by_fingerprint() {
        let world = world();
        let edits: Vec<_> = (0..4_000).filter_map(|n| Some((n, world.edited(n)?))).collect();
        assert!((150..250).contains(&edits.len()), "{}", edits.len());
        for (n, of) in edits {
            let near = cosine(&unit(world.vector(n)), &unit(world.vector(of)));
            assert!(near > 0.9, "{n} of {of}: {near}");
            let bits = world.fingerprints(n).upright().distance(world.fingerprints(of).upright());
            assert!(u64::from(bits) <= EDIT_BITS, "{n} of {of}: {bits} bits");
        }
    }

    #[test]
    fn a_photo_of_a_large_collection_has_no_more_of_its_subject_than_one_of_a_small_one() {
        let world = world();
        for size in [4_000_u64, 40_000] {
            let mut shots = std::collections::HashMap::<u64, u64>::new();
            (0..size).for_each(|n| *shots.entry(world.subject(n)).or_default() += 1);
            let others = (size..size + 500).map(|n| shots.get(&world.subject(n)).copied().unwrap_or(0)).sum::<u64>();
            let mean = others as f64 / 500.0;
            assert!((0.6..1.4).contains(&(mean / SHOTS as f64)), "{mean} of {size}");
        }
    }

    #[tokio::test]
    async fn the_store_holds_the_bytes_that_a_photo_is_made_of() {
        let world = world();
        for n in [0, 3, 999] {
            let image = world.image(n);
            let stored = world.blobs().get(&BlobKey::original(image.id)).await.expect("is there");
            assert_eq!((&stored, stored.len() as u64), (world.bytes(n), image.bytes));
            assert!(world.blobs().get(&BlobKey::preview(image.id)).await.is_err());
        }
    }
}
