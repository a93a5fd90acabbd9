//! What ingest answers to uploads of devices, on stores in memory.

use std::sync::Arc;

use bytes::Bytes;
use dih_core::{
    BlobKey, Delivery, DeviceId, ImageId, Millis, Notice, Stage, UploadSeq,
    config::ByteSize,
    device::Quota,
    event::{Content, Upload},
    ports::Blobs,
    verdict::Status,
    work::Bench,
};
use dih_ingest::{Config, Ingest};
use dih_previews::Previews;
use dih_stores::{
    blob::ObjectBlobs,
    devices::{HourlyQuotas, Registry},
    state::MemoryState,
};

struct World {
    blobs: Arc<dyn Blobs>,
    ingest: Ingest,
}

impl World {
    fn new(photos_per_hour: Option<u64>) -> Self {
        let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
        let bench = Bench::new(None);
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), ByteSize::mib(1)));
        let quota = Quota { photos_per_hour, bytes_per_hour: None };
        let registry = Registry::new(Arc::new(MemoryState::default()));
        let quotas = Arc::new(HourlyQuotas::new(registry, Arc::new(MemoryState::default()), quota));
        let ingest = Ingest::new(Config::default(), blobs.clone(), previews, bench).limited(quotas);
        Self { blobs, ingest }
    }

    fn sharing(self) -> Self {
        Self { ingest: self.ingest.sharing(), ..self }
    }

    async fn send(&self, content: Content, at: i64) -> Notice {
        let labels = vec!["shirt".parse().expect("valid")];
        let upload =
            Upload { device: cam(), labels, content, source: None, captured_at: None, attributes: Default::default() };
        let received_at = Some(Millis(at));
        let delivery = Delivery { input: upload, upload: Some(UploadSeq(1)), received_at, attempt: 1 };
        let mut notices = self.ingest.process(delivery).await.expect("answers").notices;
        assert_eq!(notices.len(), 1);
        notices.remove(0)
    }
}

fn cam() -> DeviceId {
    "cam1".parse().expect("valid")
}

/// A grey picture of 64 x 64 pixels: a PGM would be smaller, but is none of the formats.
fn photo() -> Bytes {
    let mut bmp = b"BM".to_vec();
    let pixels = 64 * 64 * 3;
    for word in [54 + pixels, 0, 54, 40, 64, 64] {
        bmp.extend(u32::to_le_bytes(word));
    }
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);
    bmp.extend((0..pixels).map(|at| u8::try_from(at % 251).expect("below 251")));
    bmp.into()
}

#[tokio::test]
async fn what_compares_a_picture_is_left_for_others_where_that_is_wanted() {
    let (alone, among_others) = (World::new(None), World::new(None).sharing());
    let key = BlobKey::features(ImageId::of_bytes(&photo()));
    for (world, left) in [(alone, false), (among_others, true)] {
        assert!(matches!(world.send(Content::Inline(photo()), 0).await, Notice::Stored(_)));
        assert_eq!(world.blobs.size(&key).await.expect("memory").is_some(), left);
    }
}

const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn what_is_over_the_quota_is_answered_and_again_let_in_an_hour_later() {
    let world = World::new(Some(2));
    for _ in 0..2 {
        assert!(matches!(world.send(Content::Inline(photo()), 0).await, Notice::Stored(_)));
    }
    let Notice::Answer(answer) = world.send(Content::Inline(photo()), HOUR - 1).await else { unreachable!("refused") };
    assert_eq!((answer.status, answer.reason.as_str()), (Status::Rejected, "over_quota"));
    let told = answer.detail.as_deref().unwrap_or_default();
    assert_eq!(told, "2 photos an hour are used up; the next hour begins at 1970-01-01T01:00:00Z");
    assert!(matches!(world.send(Content::Inline(photo()), HOUR).await, Notice::Stored(_)));
}

#[tokio::test]
async fn a_photo_that_was_taken_out_of_the_inbox_is_found_when_it_comes_again() {
    let world = World::new(None);
    let key = BlobKey::inbox(&cam(), ImageId::of_bytes(&photo()));
    world.blobs.create(&key, photo()).await.expect("kept");
    let first = world.send(Content::Stored(key.clone()), 0).await;
    assert!(world.blobs.get(&key).await.is_err(), "the inbox is empty");
    let (Notice::Stored(first), Notice::Stored(again)) = (first, world.send(Content::Stored(key), 0).await) else {
        unreachable!("both are stored")
    };
    assert_eq!(first.image.id, again.image.id);
}
