//! Checks a published version from its bytes alone: nothing changed, nothing missing, no leak between the splits.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dih_core::{
    BlobKey, VersionId,
    ports::{Blobs, StoreError},
};
use serde::Serialize;

use crate::{
    manifest::{self, Listed},
    splits::Split,
    version::{self, Version, VersionError, sha256_hex},
};

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub files: u64,
    pub shards: u64,
    pub photos: u64,
    pub bytes: u64,
    /// Clusters in several splits because their old members had theirs before; known when the version was cut.
    pub straddling_clusters: u64,
    /// Everything that is wrong; empty means that the version is as it was published.
    pub faults: Vec<String>,
}

/// Reads every file of a version again. An error means that the check could not be made, a fault that it failed.
pub async fn verify(blobs: &dyn Blobs, version: &VersionId) -> Result<Verified, VersionError> {
    let version = Version::read(blobs, version).await?;
    let mut found = Verified::default();
    let mut manifest = None;
    for file in &version.files {
        let bytes = found.check(blobs, &file.key, file.bytes, &file.sha256).await?;
        found.files += 1;
        if file.name == version::MANIFEST {
            manifest = bytes;
        }
    }
    let mut in_shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for shard in &version.shards {
        let bytes = found.check(blobs, &shard.key, shard.bytes, &shard.sha256).await?;
        found.shards += 1;
        match bytes.map(|bytes| pictures(&bytes)) {
            None => {}
            Some(Ok(images)) => {
                if images.len() as u64 != shard.photos {
                    found.fault(format!("`{}` holds {} photos, not {}", shard.key, images.len(), shard.photos));
                }
                in_shards.insert(shard.key.to_string(), images);
            }
            Some(Err(problem)) => found.fault(format!("`{}` is no shard: {problem}", shard.key)),
        }
    }
    match manifest.map(manifest::read) {
        None => {} // named above
        Some(Err(error)) => found.fault(dih_core::chain(&error).to_string()),
        Some(Ok(rows)) => {
            found.photos = rows.len() as u64;
            if found.photos != version.members {
                found.fault(format!("the manifest has {} rows, not {}", rows.len(), version.members));
            }
            let (faults, straddling) = check_rows(&rows, version.version.version, &in_shards);
            found.faults.extend(faults);
            found.straddling_clusters = straddling;
        }
    }
    Ok(found)
}

impl Verified {
    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// The bytes of a file if they are what was published.
    async fn check(
        &mut self,
        blobs: &dyn Blobs,
        key: &BlobKey,
        size: u64,
        sha256: &str,
    ) -> Result<Option<Bytes>, VersionError> {
        let bytes = match blobs.get(key).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                self.fault(format!("`{key}` is missing"));
                return Ok(None);
            }
            Err(source) => return Err(VersionError::Read { key: key.clone(), source }),
        };
        self.bytes += bytes.len() as u64;
        if bytes.len() as u64 != size || sha256_hex(&bytes) != sha256 {
            self.fault(format!("`{key}` is not what was published: its SHA-256 or size differs"));
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}

/// Names of the pictures in a shard, each of which must be whole: with its JSON and its class.
fn pictures(tar: &[u8]) -> Result<BTreeSet<String>, String> {
    let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let entry = entry.map_err(|e| e.to_string())?;
        let path = entry.path().map_err(|e| e.to_string())?.to_string_lossy().into_owned();
        let (name, suffix) = path.split_once('.').ok_or_else(|| format!("stray file `{path}`"))?;
        if !parts.entry(name.into()).or_default().insert(suffix.into()) {
            return Err(format!("`{path}` is there twice"));
        }
    }
    match parts.iter().find(|(_, suffixes)| suffixes.iter().ne(["cls", "jpg", "json"])) {
        Some((name, suffixes)) => Err(format!("sample `{name}` consists of {suffixes:?}")),
        None => Ok(parts.into_keys().collect()),
    }
}

/// Faults of the rows, and how many clusters straddle by inheritance.
fn check_rows(rows: &[Listed], version: u32, in_shards: &BTreeMap<String, BTreeSet<String>>) -> (Vec<String>, u64) {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let mut of_cluster: BTreeMap<&str, (BTreeSet<Split>, BTreeSet<Split>)> = BTreeMap::new();
    let mut sharded = 0;
    for row in rows {
        if !seen.insert(row.image) {
            faults.push(format!("image `{}` is listed twice", row.image));
        }
        let (all, new) = of_cluster.entry(&row.cluster).or_default();
        all.insert(row.given.split);
        if row.given.since == version {
            new.insert(row.given.split);
        }
        if let Some(shard) = &row.shard {
            sharded += 1;
            // A shard that is damaged was named already.
            if in_shards.get(shard).is_some_and(|images| !images.contains(&row.image.to_string())) {
                faults.push(format!("image `{}` is not in its shard `{shard}`", row.image));
            }
        }
    }
    let in_any: usize = in_shards.values().map(BTreeSet::len).sum();
    if in_any > sharded {
        faults.push(format!("the shards hold {in_any} photos, the manifest lists {sharded}"));
    }
    let leaks = of_cluster.iter().filter(|(_, (_, new))| new.len() > 1);
    faults.extend(leaks.map(|(cluster, _)| format!("new members of cluster `{cluster}` stand in several splits")));
    let straddling = of_cluster.values().filter(|(all, new)| all.len() > 1 && new.len() <= 1).count();
    (faults, straddling as u64)
}
