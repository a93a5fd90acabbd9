//! Pictures for publication: upright, without metadata, of bounded size.
//!
//! Takes  the original's bytes. Gives `pictures/ab/<image>.jpg`, the same bytes for the same original and settings.

use bytes::Bytes;
use dih_core::{
    BlobKey, ImageId, StageError,
    ports::{Blobs, StoreError},
    work::Bench,
};
use dih_imaging::Limits;

use crate::config::Config;

/// Makes published pictures of originals.
#[derive(Clone, Debug)]
pub(crate) struct Studio {
    pub(crate) side: u32,
    pub(crate) quality: u8,
    pub(crate) limits: Limits,
    pub(crate) bench: Bench,
}

impl Studio {
    pub(crate) fn new(config: &Config, limits: Limits, bench: Bench) -> Self {
        Self { side: config.picture_side.get(), quality: config.picture_quality, limits, bench }
    }

    /// Writes the picture; one that is there stays. Of a photo that is decided for the first time there is none yet.
    pub(crate) async fn publish(&self, blobs: &dyn Blobs, image: ImageId, is_first: bool) -> Result<(), StageError> {
        let key = BlobKey::picture(image);
        if is_first || blobs.size(&key).await?.is_none() {
            blobs.create(&key, self.make(blobs, image).await?).await?;
        }
        Ok(())
    }

    /// The picture's bytes; made anew if somebody removed it.
    pub(crate) async fn picture(&self, blobs: &dyn Blobs, image: ImageId) -> Result<Bytes, StageError> {
        let key = BlobKey::picture(image);
        match blobs.get(&key).await {
            Err(StoreError::NotFound { .. }) => {
                let picture = self.make(blobs, image).await?;
                blobs.put(&key, picture.clone()).await?;
                Ok(picture)
            }
            found => Ok(found?),
        }
    }

    async fn make(&self, blobs: &dyn Blobs, image: ImageId) -> Result<Bytes, StageError> {
        let original = blobs.get(&BlobKey::original(image)).await?;
        let (side, quality, limits) = (self.side, self.quality, self.limits.clone());
        let made = self.bench.run(move || dih_imaging::picture_jpeg(&original, &limits, side, quality)).await?;
        Ok(made.map_err(|source| PictureError::Make { image, source })?.into())
    }
}

#[derive(Debug, thiserror::Error)]
enum PictureError {
    #[error("could not make the published picture of `{image}`, which was decoded before")]
    Make { image: ImageId, source: dih_imaging::Refusal },
}

impl dih_core::Classify for PictureError {
    fn class(&self) -> dih_core::Class {
        match self {
            Self::Make { .. } => dih_core::Class::BadInput,
        }
    }
}
