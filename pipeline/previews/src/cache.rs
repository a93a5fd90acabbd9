//! Decoded previews, the last ones seen, bounded in bytes.

use std::sync::Arc;

use dih_core::{ImageId, config::ByteSize};
use dih_imaging::Preview;
use lru::LruCache;

#[derive(Debug)]
pub(crate) struct Cache {
    previews: LruCache<ImageId, Arc<Preview>>,
    bytes: u64,
    bytes_max: u64,
}

impl Cache {
    pub(crate) fn new(bytes_max: ByteSize) -> Self {
        Self { previews: LruCache::unbounded(), bytes: 0, bytes_max: bytes_max.0 }
    }

    pub(crate) fn get(&mut self, id: ImageId) -> Option<Arc<Preview>> {
        self.previews.get(&id).cloned()
    }

    pub(crate) fn put(&mut self, id: ImageId, preview: Arc<Preview>) {
        self.bytes += size(&preview);
        if let Some(before) = self.previews.put(id, preview) {
            self.bytes -= size(&before);
        }
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.previews.pop_lru()
        {
            self.bytes -= size(&oldest);
        }
    }
}

fn size(preview: &Preview) -> u64 {
    preview.rgb.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(bytes: usize) -> Arc<Preview> {
        Arc::new(Preview { width: bytes as u32 / 3, height: 1, rgb: vec![0; bytes] })
    }

    fn id(n: u8) -> ImageId {
        ImageId::from_bytes([n; 16])
    }

    #[test]
    fn the_oldest_give_way_and_the_bytes_are_kept() {
        let mut cache = Cache::new(ByteSize(100));
        for n in 0..10 {
            cache.put(id(n), preview(30));
            cache.put(id(n), preview(30));
        }
        let kept: Vec<u8> = (0..10).filter(|n| cache.get(id(*n)).is_some()).collect();
        assert_eq!(kept, [7, 8, 9]);
    }

    #[test]
    fn what_is_larger_than_all_room_is_not_kept() {
        let mut cache = Cache::new(ByteSize(100));
        cache.put(id(1), preview(300));
        assert!(cache.get(id(1)).is_none());
        assert_eq!(cache.bytes, 0);
    }
}
