//! WebDataset shards: tar files that a training loop streams.
//!
//! Takes  the published photos with their splits. Gives, per split, tars of `<image>.jpg`, `<image>.json` and
//!        `<image>.cls` (class number), in the order of image ids.
//! Keeps  `datasets/<name>/shards/<sha256>.tar`: named by content and cut by the leading bits of the image id, so a
//!        version that adds a few photos writes few shards anew. Scores that change with every cut are not in here.

use std::collections::BTreeMap;

use bytes::Bytes;
use dih_core::{BlobKey, DatasetName, ImageId, Label, StageError, ports::Blobs, work::Bench};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::{
    pictures::Studio,
    splits::Split,
    version::{ShardEntry, VersionError, sha256_hex},
};

/// What a shard says of a photo, beside its pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    pub(crate) image: ImageId,
    pub(crate) label: Option<Label>,
    pub(crate) labels: Vec<Label>,
    /// Probability of the label by the classifier that saw the photo arrive.
    pub(crate) label_score: Option<f32>,
    pub(crate) source: Option<String>,
    pub(crate) licence: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    #[serde(skip)]
    pub(crate) class: u32,
}

/// Which shard of its split a photo belongs to: the leading bits of its id, as few as keep `photos_max` on average.
pub(crate) fn bucket(image: ImageId, photos: usize, photos_max: usize) -> u32 {
    let mut bits = 0;
    while photos > photos_max << bits && bits < 24 {
        bits += 1;
    }
    let [a, b, c, d, ..] = *image.as_bytes();
    u32::from_be_bytes([a, b, c, d]).checked_shr(32 - bits).unwrap_or(0)
}

/// Builds one shard and stores it where it is not yet. `samples` in the order of image ids.
pub(crate) async fn write(
    blobs: &dyn Blobs,
    studio: &Studio,
    dataset: &DatasetName,
    split: Split,
    samples: Vec<Sample>,
    concurrency: usize,
) -> Result<ShardEntry, StageError> {
    let photos = samples.len() as u64;
    let fetch = |sample: Sample| async move {
        let picture = studio.picture(blobs, sample.image).await?;
        Ok::<_, StageError>((sample, picture))
    };
    let mut fetched = stream::iter(samples.into_iter().map(fetch)).buffered(concurrency);
    let mut tar = Tar::default();
    while let Some((sample, picture)) = fetched.try_next().await? {
        tar.add(&sample, &picture)?;
    }
    let (bytes, sha256) = seal(tar, &studio.bench).await?;
    let file = format!("datasets/{dataset}/shards/{sha256}.tar");
    let key = BlobKey::new(file.clone()).map_err(|source| VersionError::Key { file, source })?;
    let entry = ShardEntry { key, split, photos, bytes: bytes.len() as u64, sha256 };
    if blobs.size(&entry.key).await? != Some(entry.bytes) {
        blobs.put(&entry.key, bytes).await?;
    }
    Ok(entry)
}

async fn seal(tar: Tar, bench: &Bench) -> Result<(Bytes, String), StageError> {
    let sealed = bench.run(move || {
        let bytes = tar.finish()?;
        let sha256 = sha256_hex(&bytes);
        Ok::<_, std::io::Error>((Bytes::from(bytes), sha256))
    });
    sealed.await?.map_err(tar_failed)
}

fn tar_failed(source: std::io::Error) -> StageError {
    StageError::new(dih_core::Class::BadInput, source)
}

/// A tar whose bytes depend on its contents only: no times, no owners.
struct Tar(tar::Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Tar {
    fn add(&mut self, sample: &Sample, picture: &[u8]) -> Result<(), StageError> {
        let json = serde_json::to_vec(sample).map_err(|e| tar_failed(e.into()))?;
        let class = sample.class.to_string();
        for (suffix, bytes) in [("cls", class.as_bytes()), ("jpg", picture), ("json", &json)] {
            self.entry(&format!("{}.{suffix}", sample.image), bytes).map_err(tar_failed)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        self.0.append_data(&mut header, name, bytes)
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> ImageId {
        let mut bytes = [7; 16];
        bytes[0] = first;
        ImageId::from_bytes(bytes)
    }

    #[test]
    fn a_small_split_is_one_shard_and_a_large_one_is_cut_by_the_leading_bits() {
        assert_eq!(bucket(id(0xff), 250, 250), 0);
        assert_eq!([0x00, 0x7f, 0x80, 0xff].map(|b| bucket(id(b), 500, 250)), [0, 0, 1, 1]);
        assert_eq!([0x00, 0x7f, 0x80, 0xff].map(|b| bucket(id(b), 501, 250)), [0, 1, 2, 3]);
    }

    #[test]
    fn equal_samples_give_equal_bytes() {
        let sample = Sample {
            image: id(1),
            label: None,
            labels: Vec::new(),
            label_score: Some(0.5),
            source: None,
            licence: None,
            attributes: BTreeMap::new(),
            class: 3,
        };
        let build = || {
            let mut tar = Tar::default();
            tar.add(&sample, b"pixels").expect("memory is writable");
            tar.finish().expect("memory is writable")
        };
        assert_eq!(build(), build());
    }
}
