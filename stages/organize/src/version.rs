//! `version.json`: what a version consists of, with the size and SHA-256 of every file.

use std::collections::BTreeMap;

use dih_core::{
    BlobKey, Class, Classify, Label, VersionId,
    event::VectorSpace,
    ids::InvalidId,
    ports::{Blobs, StoreError},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{datasets::Definition, splits::Split};

pub const INDEX: &str = "version.json";
pub const MANIFEST: &str = "manifest.parquet";
pub const HELD: &str = "held.parquet";
pub const SPLITS: &str = "splits.parquet";
pub const REVISIONS: &str = "revisions.json";
pub const STATS: &str = "stats.json";
pub const CROISSANT: &str = "croissant.json";
pub const CARD: &str = "README.md";
pub const SHEET: &str = "preview.jpg";

/// A complete version. It holds no clock and no request, so equal sets give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub version: VersionId,
    pub members: u64,
    pub held: u64,
    /// Class names in the order of their numbers, as `.cls` files of the shards use them.
    pub classes: Vec<Label>,
    /// Photos of each label; a photo of two labels counts under both.
    pub labels: BTreeMap<Label, u64>,
    pub space: VectorSpace,
    /// As it was when the version was cut.
    pub definition: Definition,
    pub files: Vec<FileEntry>,
    pub shards: Vec<ShardEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub key: BlobKey,
    pub bytes: u64,
    pub sha256: String,
}

/// A WebDataset tar, named by its content and shared by every version that has the same photos in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardEntry {
    pub key: BlobKey,
    pub split: Split,
    pub photos: u64,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("`{version}` is not published; `dih datasets ls` shows what is")]
    Unpublished { version: VersionId },
    #[error("could not read `{key}`")]
    Read { key: BlobKey, source: StoreError },
    #[error("`{key}` is unreadable; it may stem from another release")]
    Unreadable { key: BlobKey, source: serde_json::Error },
    #[error("`{version}` lists no file `{name}`")]
    NoFile { version: VersionId, name: &'static str },
    #[error("`{file}` gives no valid blob key")]
    Key { file: String, source: InvalidId },
}

impl Classify for VersionError {
    fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } => source.class(),
            Self::Unpublished { .. } | Self::Unreadable { .. } | Self::NoFile { .. } | Self::Key { .. } => {
                Class::BadInput
            }
        }
    }
}

impl Version {
    /// Reads a published version.
    pub async fn read(blobs: &dyn Blobs, version: &VersionId) -> Result<Self, VersionError> {
        let key = key(version, INDEX)?;
        let bytes = match blobs.get(&key).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Err(VersionError::Unpublished { version: version.clone() }),
            Err(source) => return Err(VersionError::Read { key, source }),
        };
        serde_json::from_slice(&bytes).map_err(|source| VersionError::Unreadable { key, source })
    }

    pub fn file(&self, name: &'static str) -> Result<&FileEntry, VersionError> {
        let found = self.files.iter().find(|f| f.name == name);
        found.ok_or_else(|| VersionError::NoFile { version: self.version.clone(), name })
    }

    /// SHA-256 of the manifest, hex: the name of what is published.
    pub fn manifest_sha256(&self) -> Result<&str, VersionError> {
        Ok(&self.file(MANIFEST)?.sha256)
    }
}

pub(crate) fn key(version: &VersionId, file: &str) -> Result<BlobKey, VersionError> {
    BlobKey::in_version(version, file).map_err(|source| VersionError::Key { file: file.into(), source })
}

/// SHA-256 as lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
