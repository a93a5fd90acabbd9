//! Copies a version out of the store in the layout that a loader reads.
//!
//! Takes  a published version and an empty place on the disk. Gives it filled, or untouched: all is written beside it
//!        first and moved there at the end.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use bytes::Bytes;
use dih_core::{
    BlobKey, Class, Classify, ImageId, Label, VersionId,
    ports::{Blobs, StoreError},
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    croissant,
    manifest::{self, Listed, ManifestError},
    splits::Split,
    version::{self, Version, VersionError},
};

/// Layout of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `<split>/<label>/<image>.jpg`; a photo of several labels stands under each of them.
    ImageFolder,
    /// `<split>-00000.tar`, …
    WebDataset,
    /// `manifest.parquet` and `pictures/<image>.jpg`.
    Parquet,
}

impl Format {
    pub const ALL: [Format; 3] = [Self::ImageFolder, Self::WebDataset, Self::Parquet];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImageFolder => "image-folder",
            Self::WebDataset => "webdataset",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|v| v.as_str() == s);
        found.ok_or_else(|| format!("unknown format {s:?}; the formats are image-folder, webdataset and parquet"))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("`{place}` is not empty; name a new folder or empty this one")]
    NotEmpty { place: PathBuf },
    #[error("`{version}` was cut without shards; export it as image-folder, or cut it with shards")]
    NoShards { version: VersionId },
    #[error("could not write `{place}`")]
    Disk { place: PathBuf, source: io::Error },
    #[error("could not read `{key}`; `dih datasets verify` checks the whole version")]
    Blob { key: BlobKey, source: StoreError },
    #[error("could not read the description `{key}`; `dih datasets verify` checks the whole version")]
    Description { key: BlobKey, source: serde_json::Error },
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Classify for ExportError {
    fn class(&self) -> Class {
        match self {
            Self::NotEmpty { .. } | Self::NoShards { .. } | Self::Description { .. } => Class::BadInput,
            Self::Disk { .. } => Class::Retry,
            Self::Blob { source, .. } => source.class(),
            Self::Version(error) => error.class(),
            Self::Manifest(error) => error.class(),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    pub photos: u64,
    pub files: u64,
    pub place: PathBuf,
}

/// Pictures under way at once.
const CONCURRENCY: usize = 8;

/// Exports a version to `place`, a folder that is empty or does not exist. `progress` is told (done, all) pictures or
/// shards.
pub async fn export(
    blobs: &dyn Blobs,
    version: &VersionId,
    format: Format,
    place: &Path,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Exported, ExportError> {
    let version = Version::read(blobs, version).await?;
    let beside = Beside::begin(place)?;
    let rows = manifest::read(get(blobs, &version.file(version::MANIFEST)?.key).await?)?;
    let out = Out { blobs, root: beside.dir.path(), progress };
    let mut places = BTreeMap::new();
    let files = match format {
        Format::ImageFolder => out.image_folder(&rows).await?,
        Format::WebDataset => out.shards(&version, &mut places).await?,
        Format::Parquet => out.pictures(&rows).await?,
    };
    let mut papers = vec![version::INDEX, version::CARD, version::MANIFEST];
    if format == Format::Parquet {
        papers.push(version::HELD);
    }
    for name in &papers {
        let key = version::key(&version.version, name)?;
        write(&out.root.join(name), get(blobs, &key).await?).await?;
        places.insert((*name).to_owned(), (*name).to_owned());
    }
    out.description(&version, &places).await?;
    beside.finish()?;
    Ok(Exported { photos: rows.len() as u64, files: files + papers.len() as u64 + 1, place: place.to_owned() })
}

struct Out<'a> {
    blobs: &'a dyn Blobs,
    root: &'a Path,
    progress: &'a (dyn Fn(u64, u64) + Send + Sync),
}

impl Out<'_> {
    async fn image_folder(&self, rows: &[Listed]) -> Result<u64, ExportError> {
        let folder = |split: Split, label: &Label| self.root.join(split.as_str()).join(folder_name(label));
        for row in rows {
            for label in &row.labels {
                let folder = folder(row.given.split, label);
                std::fs::create_dir_all(&folder).map_err(disk(&folder))?;
            }
        }
        let places = rows.iter().map(|row| {
            let folders = row.labels.iter().map(|label| folder(row.given.split, label));
            (row.image, folders.map(|f| f.join(format!("{}.jpg", row.image))).collect())
        });
        self.copy(places.collect()).await
    }

    async fn pictures(&self, rows: &[Listed]) -> Result<u64, ExportError> {
        let folder = self.root.join("pictures");
        std::fs::create_dir_all(&folder).map_err(disk(&folder))?;
        let place = |row: &Listed| (row.image, vec![folder.join(format!("{}.jpg", row.image))]);
        self.copy(rows.iter().map(place).collect()).await
    }

    async fn copy(&self, places: Vec<(ImageId, Vec<PathBuf>)>) -> Result<u64, ExportError> {
        let all = places.len() as u64;
        let copy = |(image, places): (ImageId, Vec<PathBuf>)| async move {
            let picture = get(self.blobs, &BlobKey::picture(image)).await?;
            for place in &places {
                write(place, picture.clone()).await?;
            }
            Ok::<_, ExportError>(places.len() as u64)
        };
        let mut copies = stream::iter(places.into_iter().map(copy)).buffer_unordered(CONCURRENCY);
        let (mut done, mut files) = (0, 0);
        while let Some(written) = copies.try_next().await? {
            done += 1;
            files += written;
            (self.progress)(done, all);
        }
        Ok(files)
    }

    /// Describes the copy to machines, as the version is described in the store.
    async fn description(&self, version: &Version, places: &BTreeMap<String, String>) -> Result<(), ExportError> {
        let key = version::key(&version.version, version::CROISSANT)?;
        let described = get(self.blobs, &key).await?;
        let unreadable = |source| ExportError::Description { key: key.clone(), source };
        let document = croissant::relocated(serde_json::from_slice(&described).map_err(unreadable)?, places);
        let bytes = serde_json::to_vec_pretty(&document).map_err(unreadable)?;
        write(&self.root.join(version::CROISSANT), bytes.into()).await
    }

    /// `places` learns where each shard lies.
    async fn shards(&self, version: &Version, places: &mut BTreeMap<String, String>) -> Result<u64, ExportError> {
        if version.shards.is_empty() {
            return Err(ExportError::NoShards { version: version.version.clone() });
        }
        let all = version.shards.len() as u64;
        let mut numbers = [0; 3];
        for (at, shard) in version.shards.iter().enumerate() {
            let number = &mut numbers[shard.split as usize];
            let name = format!("{}-{number:05}.tar", shard.split);
            *number += 1;
            write(&self.root.join(&name), get(self.blobs, &shard.key).await?).await?;
            places.insert(croissant::shard_id(shard), name);
            (self.progress)(at as u64 + 1, all);
        }
        Ok(all)
    }
}

/// Most bytes of a folder's name; the longest label has 480, and file systems take 255.
const FOLDER_BYTES_MAX: usize = 200;

/// The label itself, or where that is too long its beginning and a hash of the whole.
fn folder_name(label: &Label) -> String {
    let text = label.as_str();
    if text.len() <= FOLDER_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=FOLDER_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}-{}", &text[..end], &version::sha256_hex(text.as_bytes())[..12])
}

/// A folder beside the place to be filled, so that the place is full or untouched.
struct Beside {
    dir: tempfile::TempDir,
    place: PathBuf,
}

impl Beside {
    fn begin(place: &Path) -> Result<Self, ExportError> {
        match std::fs::read_dir(place).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(ExportError::NotEmpty { place: place.to_owned() }),
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(disk(place)(source)),
            _ => {}
        }
        let absolute = std::path::absolute(place).map_err(disk(place))?;
        let parent = absolute.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(disk(parent))?;
        let dir = tempfile::Builder::new().prefix(".dih-export-").tempdir_in(parent).map_err(disk(parent))?;
        Ok(Self { dir, place: absolute })
    }

    fn finish(self) -> Result<(), ExportError> {
        // Temporary folders are private; an export is for everybody who may look into its parent.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(self.dir.path(), open).map_err(disk(&self.place))?;
        }
        // Renaming replaces an empty folder, and fails on one that somebody filled meanwhile.
        std::fs::rename(self.dir.path(), &self.place).map_err(disk(&self.place))?;
        let _moved = self.dir.keep();
        Ok(())
    }
}

async fn get(blobs: &dyn Blobs, key: &BlobKey) -> Result<Bytes, ExportError> {
    blobs.get(key).await.map_err(|source| ExportError::Blob { key: key.clone(), source })
}

async fn write(place: &Path, bytes: Bytes) -> Result<(), ExportError> {
    tokio::fs::write(place, bytes).await.map_err(disk(place))
}

fn disk(place: &Path) -> impl Fn(io::Error) -> ExportError {
    let place = place.to_owned();
    move |source| ExportError::Disk { place: place.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_become_names_that_a_disk_takes() {
        let long = |end: &str| folder_name(&Label::new(format!("{}{end}", "ß".repeat(119))).expect("valid"));
        assert!(long("a").len() <= 255);
        assert_ne!(long("a"), long("b"));
        assert_eq!(folder_name(&Label::new("T-shirt").expect("valid")), "T-shirt");
    }
}
