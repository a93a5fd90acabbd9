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

    /// Writes the picture unless it is there.
    pub(crate) async fn publish(&self, blobs: &dyn Blobs, image: ImageId) -> Result<(), StageError> {
        if blobs.size(&BlobKey::picture(image)).await?.is_none() {
            self.make(blobs, image).await?;
        }
        Ok(())
    }

    /// The picture's bytes; made anew if somebody removed it.
    pub(crate) async fn picture(&self, blobs: &dyn Blobs, image: ImageId) -> Result<Bytes, StageError> {
        match blobs.get(&BlobKey::picture(image)).await {
            Err(StoreError::NotFound { .. }) => self.make(blobs, image).await,
            found => Ok(found?),
        }
    }

    async fn make(&self, blobs: &dyn Blobs, image: ImageId) -> Result<Bytes, StageError> {
        let original = blobs.get(&BlobKey::original(image)).await?;
        let (side, quality, limits) = (self.side, self.quality, self.limits.clone());
        let made = self.bench.run(move || dih_imaging::picture_jpeg(&original, &limits, side, quality)).await?;
        let picture = made.map_err(|source| PictureError::Make { image, source })?;
        let picture = Bytes::from(picture);
        blobs.put(&BlobKey::picture(image), picture.clone()).await?;
        Ok(picture)
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
