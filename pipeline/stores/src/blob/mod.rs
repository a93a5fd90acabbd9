//! Blobs through `object_store`: a directory, a bucket of any S3 server, or the memory for tests.
//!
//! Takes    keys that name contents or versions, and bytes.
//! Gives    the same bytes; a typed `NotFound`; one winner for a create.
//! Crash    a key is whole or absent: in a bucket by the server's promise; in a directory a write is staged beside its key
//!          (`key#1`) and then linked or renamed. A killed process may leave a staged file: it is never listed or read,
//!          and the next write of the key picks another name.
//! Power    [`ObjectBlobs::directory`] leaves the moment of writing to the operating system, as the broker does by
//!          default: what was acknowledged in the last seconds before a power cut may be gone. With
//!          [`ObjectBlobs::directory_synced`] each write and its directory reach the disk before the call returns.
//! Weak at  staged files of killed processes stay on the disk until somebody removes them; [`Blobs::list`] holds all keys
//!          in memory.

#[cfg(feature = "s3")]
mod s3;
pub(crate) mod upload;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::{
    BlobKey,
    ports::{Blobs, StoreError},
};
use futures::TryStreamExt;
use object_store::{
    Error as ObjectError, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, local::LocalFileSystem,
    memory::InMemory, path::Path as ObjectPath,
};
use tokio::task::spawn_blocking;

use crate::fault;

const STORE: &str = "blob store";

/// Tries to create a name while others do, before a person hears of it.
const CREATES_MAX: u32 = 5;

/// The blobs below one root.
#[derive(Clone, Debug)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    /// Comes before every key: empty, or ends with `/`.
    prefix: String,
    place: Place,
}

/// Where the root is.
#[derive(Clone, Debug)]
enum Place {
    Memory,
    Directory(PathBuf),
    #[cfg(feature = "s3")]
    Bucket(Arc<s3::Bucket>),
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
        Self { store: Arc::new(InMemory::new()), prefix: String::new(), place: Place::Memory }
    }

    fn open(root: &Path, synced: bool) -> Result<Self, StoreError> {
        let place = root.display().to_string();
        let fail = |source| fault::on_disk(STORE, format!("open `{place}`"), &place, source);
        std::fs::create_dir_all(root).map_err(|e| fail(Box::new(e)))?;
        let root = root.canonicalize().map_err(|e| fail(Box::new(e)))?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|e| fail(Box::new(e)))?;
        let store = Arc::new(files.with_fsync(synced));
        Ok(Self { store, prefix: String::new(), place: Place::Directory(root) })
    }

    /// A blob key is a valid object path by its own rules: parts of letters, digits and `.-_=`.
    fn path(&self, key: &str) -> ObjectPath {
        ObjectPath::from(format!("{}{key}", self.prefix))
    }

    fn fault(&self, verb: &str, key: &str, source: ObjectError) -> StoreError {
        let action = format!("{verb} `{key}`");
        let place = match &self.place {
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => return bucket.fault(action, key, &source),
            Place::Directory(root) => root.display().to_string(),
            Place::Memory => "memory".into(),
        };
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
}

/// In one go, where `object_store` hands a file over twice: to open it and to read it.
async fn read_file(path: PathBuf) -> Result<Bytes, ObjectError> {
    let named = path.display().to_string();
    let read = spawn_blocking(move || std::fs::read(path)).await.map_err(|source| ObjectError::JoinError { source })?;
    read.map(Bytes::from).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory => ObjectError::NotFound { path: named, source: e.into() },
        _ => ObjectError::Generic { store: STORE, source: e.into() },
    })
}

/// Whether a server says that others create the same name at this moment, so that it is open who wins.
fn is_open(error: &ObjectError) -> bool {
    matches!(error, ObjectError::AlreadyExists { source, .. } if source.to_string().contains("status code: 409"))
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn check(&self) -> Result<(), StoreError> {
        match &self.place {
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.check(&self.prefix).await,
            // A directory was tried when it was opened.
            Place::Directory(_) | Place::Memory => Ok(()),
        }
    }

    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.store.put(&self.path(key.as_str()), bytes.into()).await;
        put.map(drop).map_err(|e| self.fault("write", key.as_str(), e))
    }

    async fn put_file(&self, key: &BlobKey, file: &Path) -> Result<(), StoreError> {
        let put = upload::upload(&self.store, &self.path(key.as_str()), file).await;
        put.map_err(|failed| match failed {
            upload::Failed::ToWrite(e) => self.fault("write", key.as_str(), e),
            upload::Failed::ToRead(e) => {
                let file = file.display().to_string();
                fault::on_disk("the disk", format!("read `{file}`"), &file, Box::new(e))
            }
        })
    }

    async fn create(&self, key: &BlobKey, bytes: Bytes) -> Result<bool, StoreError> {
        let path = self.path(key.as_str());
        let mut tries = 1;
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&path, bytes.clone().into(), options).await {
                Ok(_) => return Ok(true),
                Err(e) if is_open(&e) && tries < CREATES_MAX => {
                    tokio::time::sleep(Duration::from_millis(50) * tries).await;
                    tries += 1;
                }
                Err(e) if is_open(&e) => return Err(self.fault("create", key.as_str(), e)),
                Err(ObjectError::AlreadyExists { .. }) => return Ok(false),
                Err(e) => return Err(self.fault("create", key.as_str(), e)),
            }
        }
    }

    async fn get(&self, key: &BlobKey) -> Result<Bytes, StoreError> {
        if let Place::Directory(root) = &self.place {
            return read_file(root.join(key.as_str())).await.map_err(|e| self.fault("read", key.as_str(), e));
        }
        let read = async { self.store.get(&self.path(key.as_str())).await?.bytes().await };
        read.await.map_err(|e| self.fault("read", key.as_str(), e))
    }

    async fn size(&self, key: &BlobKey) -> Result<Option<u64>, StoreError> {
        let found = self.store.head(&self.path(key.as_str())).await;
        match found.map_err(|e| self.fault("look up", key.as_str(), e)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), StoreError> {
        let deleted = self.store.delete(&self.path(key.as_str())).await;
        match deleted.map_err(|e| self.fault("delete", key.as_str(), e)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<BlobKey>, StoreError> {
        let prefix = prefix.trim_matches('/');
        let below = self.path(prefix);
        let below = (!below.as_ref().is_empty()).then_some(below);
        let found: Vec<_> =
            self.store.list(below.as_ref()).try_collect().await.map_err(|e| self.fault("list", prefix, e))?;
        // An object that no key can name was put there by somebody else; it is none of ours.
        let key = |meta: ObjectMeta| BlobKey::new(meta.location.as_ref().strip_prefix(&self.prefix)?).ok();
        let mut keys: Vec<_> = found.into_iter().filter_map(key).collect();
        keys.sort();
        Ok(keys)
    }

    fn location(&self, key: &BlobKey) -> String {
        match &self.place {
            Place::Memory => format!("memory:{key}"),
            Place::Directory(root) => root.join(key.as_str()).display().to_string(),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.location(&self.path(key.as_str())),
        }
    }

    #[cfg(feature = "s3")]
    async fn link(
        &self,
        key: &BlobKey,
        to: dih_core::ports::LinkTo,
        valid: Duration,
    ) -> Result<Option<String>, StoreError> {
        match &self.place {
            Place::Bucket(bucket) => bucket.link(&self.path(key.as_str()), to, valid).await.map(Some),
            Place::Directory(_) | Place::Memory => Ok(None),
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
