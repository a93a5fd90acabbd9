//! Blobs through `object_store`: a directory, or the memory for tests.
//!
//! Takes    keys that name contents or versions, and bytes.
//! Gives    the same bytes; a typed `NotFound`; one winner for a create.
//! Crash    a write is staged beside its key (`key#1`) and then linked or renamed, so a key is whole or absent. A killed
//!          process may leave a staged file: it is never listed or read, and the next write of the key picks another name.
//! Power    [`ObjectBlobs::directory`] leaves the moment of writing to the operating system, as the broker does by
//!          default: what was acknowledged in the last seconds before a power cut may be gone. With
//!          [`ObjectBlobs::directory_synced`] each write and its directory reach the disk before the call returns.
//! Weak at  staged files of killed processes stay on the disk until somebody removes them; [`Blobs::list`] holds all keys
//!          in memory.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    BlobKey,
    ports::{Blobs, StoreError},
};
use futures::TryStreamExt;
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, local::LocalFileSystem, memory::InMemory,
    path::Path as ObjectPath,
};

use crate::fault;

const STORE: &str = "blob store";

/// The blobs below one root.
#[derive(Clone, Debug)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    /// None: in memory.
    root: Option<PathBuf>,
}

impl ObjectBlobs {
    /// Blobs as files below `root`, which is made if it is missing. Safe against kill -9.
    pub fn directory(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open(root.as_ref(), false)
    }

    /// As [`ObjectBlobs::directory`], and safe against a power cut: each write waits for the disk.
    pub fn directory_synced(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open(root.as_ref(), true)
    }

    /// Blobs of this process only, gone with it.
    pub fn memory() -> Self {
        Self { store: Arc::new(InMemory::new()), root: None }
    }

    fn open(root: &Path, synced: bool) -> Result<Self, StoreError> {
        let place = root.display().to_string();
        let fail = |source| fault::on_disk(STORE, format!("open `{place}`"), &place, source);
        std::fs::create_dir_all(root).map_err(|e| fail(Box::new(e)))?;
        let root = root.canonicalize().map_err(|e| fail(Box::new(e)))?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|e| fail(Box::new(e)))?;
        Ok(Self { store: Arc::new(files.with_fsync(synced)), root: Some(root) })
    }

    fn fault(&self, verb: &str, key: &str, source: ObjectError) -> StoreError {
        let action = format!("{verb} `{key}`");
        let place = self.place();
        match source {
            ObjectError::NotFound { .. } => StoreError::NotFound { store: STORE, key: key.into() },
            ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. } => StoreError::Refused {
                store: STORE,
                action,
                remedy: format!("give this process access to `{place}`"),
                source: Some(Box::new(source)),
            },
            source => fault::on_disk(STORE, action, &place, Box::new(source)),
        }
    }

    fn place(&self) -> String {
        self.root.as_ref().map_or_else(|| "memory".into(), |root| root.display().to_string())
    }
}

/// A blob key is a valid object path by its own rules: parts of letters, digits and `.-_=`.
fn path(key: &BlobKey) -> ObjectPath {
    ObjectPath::from(key.as_str())
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.store.put(&path(key), bytes.into()).await;
        put.map(drop).map_err(|e| self.fault("write", key.as_str(), e))
    }

    async fn create(&self, key: &BlobKey, bytes: Bytes) -> Result<bool, StoreError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path(key), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(ObjectError::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(self.fault("create", key.as_str(), e)),
        }
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, StoreError> {
        let read = async { self.store.get(&path(key)).await?.bytes().await };
        read.await.map_err(|e| self.fault("read", key.as_str(), e))
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, StoreError> {
        match self.store.head(&path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.fault("look up", key.as_str(), e)),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), StoreError> {
        match self.store.delete(&path(key)).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.fault("delete", key.as_str(), e)),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobKey>, StoreError> {
        let prefix = prefix.trim_matches('/');
        let below = (!prefix.is_empty()).then(|| ObjectPath::from(prefix));
        let found: Vec<_> =
            self.store.list(below.as_ref()).try_collect().await.map_err(|e| self.fault("list", prefix, e))?;
        // A file that no key can name was put there by somebody else; it is none of ours.
        let mut keys: Vec<_> = found.into_iter().filter_map(|m| BlobKey::new(m.location.to_string()).ok()).collect();
        keys.sort();
        Ok(keys)
    }

    fn location(&self, key: &BlobKey) -> String {
        match &self.root {
            Some(root) => root.join(key.as_str()).display().to_string(),
            None => format!("memory:{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, sample::key};
    use dih_core::{Class, Classify, chain};

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_keeps_the_contract() {
        contract::blobs(async || Arc::new(ObjectBlobs::memory()) as Arc<dyn Blobs>).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_keeps_the_contract() {
        let roots = tempfile::tempdir().expect("a temporary folder");
        contract::blobs(async || {
            let root = tempfile::tempdir_in(&roots).expect("a temporary folder").keep();
            Arc::new(ObjectBlobs::directory(root).expect("opens")) as Arc<dyn Blobs>
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_synced_directory_keeps_the_contract() {
        let roots = tempfile::tempdir().expect("a temporary folder");
        contract::blobs(async || {
            let root = tempfile::tempdir_in(&roots).expect("a temporary folder").keep();
            Arc::new(ObjectBlobs::directory_synced(root).expect("opens")) as Arc<dyn Blobs>
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_is_neither_listed_nor_in_the_way() {
        let root = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(root.path().join("a#1"), b"half").expect("writes");
        let blobs = ObjectBlobs::directory(root.path()).expect("opens");
        assert!(blobs.list("").await.expect("lists").is_empty());
        assert_eq!(blobs.size(&key("a")).await.expect("looks"), None);
        assert!(blobs.create(&key("a"), Bytes::from_static(b"whole")).await.expect("creates"));
        assert_eq!(blobs.get(&key("a")).await.expect("reads"), "whole");
        assert_eq!(blobs.list("").await.expect("lists"), [key("a")]);
    }

    #[test]
    fn a_root_that_cannot_be_a_directory_is_refused_with_a_remedy() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let refused = ObjectBlobs::directory(file.path().join("below")).expect_err("a file holds no files");
        assert_eq!(refused.class(), Class::Halt);
        assert!(chain(&refused).to_string().contains("must be a directory"), "{}", chain(&refused));
    }

    #[tokio::test]
    async fn a_location_is_the_path_of_the_file() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let blobs = ObjectBlobs::directory(root.path()).expect("opens");
        blobs.put(&key("a/b"), Bytes::from_static(b"1")).await.expect("writes");
        assert_eq!(std::fs::read(blobs.location(&key("a/b"))).expect("is a file"), b"1");
    }
}
