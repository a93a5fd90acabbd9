//! Previews: the small upright picture that every later stage looks at, decoded once a process.
//!
//! Takes    an image's id. Gives its preview, the same pixels wherever they come from.
//! Keeps    in memory the last ones that were seen, bounded in bytes. In the store `previews/ab/<image>.jpg`, but only of a
//!          large original: the preview of a small one is made of it again as quickly as a file of its own is read.
//! Crash    nothing to put right: a preview is a function of the original.

mod cache;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dih_core::{
    BlobKey, Class, ImageId, StageError,
    config::ByteSize,
    image::Size,
    ports::{Blobs, StoreError},
    work::Bench,
};
use dih_imaging::{Limits, Preview, preview_of};

use crate::cache::Cache;

/// Most pixels of an original that has no preview of its own: a full decode takes about 3 ms.
const SMALL_PIXELS: u64 = 1 << 20;

/// See the head of this file.
#[derive(Debug)]
pub struct Previews {
    blobs: Arc<dyn Blobs>,
    bench: Bench,
    cache: Mutex<Cache>,
}

/// A preview that was just made.
#[derive(Debug)]
pub struct Fresh {
    preview: Preview,
    jpeg: Option<Vec<u8>>,
}

impl Fresh {
    /// As everybody else will see it.
    pub fn preview(&self) -> &Preview {
        &self.preview
    }

    /// `original` is the size of the picture that the preview was made of. CPU work.
    pub fn new(original: Size, preview: Preview) -> Self {
        if original.pixels() <= SMALL_PIXELS {
            return Self { preview, jpeg: None };
        }
        let jpeg = preview.to_jpeg();
        // As everybody else will see it.
        let preview = Preview::from_jpeg(&jpeg).unwrap_or(preview);
        Self { preview, jpeg: Some(jpeg) }
    }
}

impl Previews {
    /// `cached`: memory that decoded previews may take, about 260 kB each.
    pub fn new(blobs: Arc<dyn Blobs>, bench: Bench, cached: ByteSize) -> Self {
        Self { blobs, bench, cache: Mutex::new(Cache::new(cached)) }
    }

    /// Keeps a preview that was just made of an original that is stored.
    pub async fn keep(&self, id: ImageId, fresh: Fresh) -> Result<(), StoreError> {
        if let Some(jpeg) = fresh.jpeg {
            self.blobs.create(&BlobKey::preview(id), jpeg.into()).await?;
        }
        self.cache().put(id, Arc::new(fresh.preview));
        Ok(())
    }

    /// The preview of an image whose original is stored.
    pub async fn get(&self, id: ImageId) -> Result<Arc<Preview>, StageError> {
        let gone = || StoreError::NotFound { store: "blob store", key: BlobKey::original(id).to_string() };
        Ok(self.find(id).await?.ok_or_else(gone)?)
    }

    /// Whether [`Previews::find`] need not read it.
    pub fn has_at_hand(&self, id: ImageId) -> bool {
        self.cache().get(id).is_some()
    }

    /// None when the original is not stored, or not any more.
    pub async fn find(&self, id: ImageId) -> Result<Option<Arc<Preview>>, StageError> {
        if let Some(known) = self.cache().get(id) {
            return Ok(Some(known));
        }
        let decoded = match self.blobs.get(&BlobKey::preview(id)).await {
            Ok(jpeg) => self.bench.run(move || Preview::from_jpeg(&jpeg)).await?,
            Err(StoreError::NotFound { .. }) => {
                let original = match self.blobs.get(&BlobKey::original(id)).await {
                    Err(StoreError::NotFound { .. }) => return Ok(None),
                    original => original?,
                };
                self.bench.run(move || preview_of(&original, &accepted())).await?
            }
            Err(error) => return Err(error.into()),
        };
        let unreadable =
            |refusal| StageError::new(Class::BadInput, format!("the stored preview of {id} is unreadable: {refusal}"));
        let preview = Arc::new(decoded.map_err(unreadable)?);
        self.cache().put(id, preview.clone());
        Ok(Some(preview))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever ingest took by the limits of its day is read again.
fn accepted() -> Limits {
    Limits {
        pixels_max: SMALL_PIXELS,
        side_min: 1,
        aspect_max: f32::INFINITY,
        scans_max: u32::MAX,
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use dih_imaging::{read, sample};
    use dih_stores::blob::ObjectBlobs;

    use super::*;

    const BYTES: ByteSize = ByteSize(1 << 20);

    fn previews(blobs: &Arc<dyn Blobs>, cached: ByteSize) -> Previews {
        Previews::new(blobs.clone(), Bench::new(Some(1)), cached)
    }

    /// What a process that made the preview sees, and what one sees that only has the store.
    async fn seen(width: u32, height: u32) -> (Arc<Preview>, Arc<Preview>, bool) {
        let jpeg = sample::photo(3, width, height).to_jpeg();
        let id = ImageId::of_bytes(&jpeg);
        let decoded = read(&jpeg, &Limits::default()).expect("is a photo");
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        blobs.create(&BlobKey::original(id), jpeg.into()).await.expect("memory");
        let maker = previews(&blobs, BYTES);
        maker.keep(id, Fresh::new(decoded.size, decoded.preview)).await.expect("memory");
        let stored = blobs.size(&BlobKey::preview(id)).await.expect("memory").is_some();
        let made = maker.get(id).await.expect("is there");
        (made, previews(&blobs, BYTES).get(id).await.expect("is there"), stored)
    }

    #[tokio::test]
    async fn all_processes_see_the_same_pixels() {
        for (width, height, has_file) in [(400, 533, false), (1024, 1024, false), (1300, 1000, true)] {
            let (made, read, stored) = seen(width, height).await;
            assert_eq!((made == read, stored), (true, has_file), "{width}x{height}");
        }
    }

    #[tokio::test]
    async fn without_its_original_a_preview_is_not_found() {
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let (previews, id) = (previews(&blobs, BYTES), ImageId::of_bytes(b"gone"));
        assert!(previews.find(id).await.expect("memory").is_none());
        let error = previews.get(id).await.expect_err("nothing is there");
        assert!(error.to_string().contains("originals/"), "{error}");
    }
}
