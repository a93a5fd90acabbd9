//! The directory of an embedded index: who owns it, what it was made for, and how it comes back after a crash.
//!
//! ```text
//! index.lock       held by the one process that has it open
//! shard/           the engine's files; made.json: what they were made for; repair.json: see [`super::repair`]
//! shard.new/       a shard that is being made; thrown away when found
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use dih_core::{event::VectorSpace, ports::StoreError};
use qdrant_edge::{
    CountRequest, CreateIndex, EdgeConfig, EdgeShard, FieldIndexOperations, UpdateOperation, external::serde_json,
};
use serde::{Deserialize, Serialize};

use super::{engine::guard, points, repair};
use crate::{fault, index::STORE};

/// Goes up when points are laid out in another way.
const LAYOUT: u32 = 3;
const MADE: &str = "made.json";
/// In the shard while it is repaired.
const ASIDE: &str = "repair.json";

/// What a shard was made for. Opening it for anything else is refused, unless nothing is in it yet.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    layout: u32,
    /// Numbers in a vector, by space.
    spaces: BTreeMap<String, usize>,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.spaces.is_empty() {
            return f.write_str("no model");
        }
        for (n, (space, numbers)) in self.spaces.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}`{space}` ({numbers} numbers)")?;
        }
        Ok(())
    }
}

/// A directory that this process owns.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    /// The lock goes when this is dropped, and when the process dies in whatever way.
    _lock: File,
}

impl Home {
    /// Makes the directory and the shard where there is none, and takes the lock.
    pub(super) fn open(
        directory: &Path,
        spaces: &[(VectorSpace, usize)],
        config: &EdgeConfig,
    ) -> Result<Self, StoreError> {
        let place = directory.display().to_string();
        let fail = |e: io::Error| fault::on_disk(STORE, format!("open `{place}`"), &place, Box::new(e));
        fs::create_dir_all(directory).map_err(fail)?;
        let directory = directory.canonicalize().map_err(fail)?;
        let lock = lock(&directory)?;
        let home = Self { directory, _lock: lock };
        let made = made(spaces)?;
        if home.shard().exists() && home.check(&made).is_err() && home.is_empty()? {
            fs::remove_dir_all(home.shard()).map_err(fail)?;
        }
        match home.shard().exists() {
            true => home.check(&made)?,
            false => home.make(&made, config)?,
        }
        Ok(home)
    }

    pub(super) fn place(&self) -> String {
        self.directory.display().to_string()
    }

    fn shard(&self) -> PathBuf {
        self.directory.join("shard")
    }

    /// Refuses, for now, where the disk has not this many bytes free.
    pub(super) fn check_space(&self, action: &str, bytes: u64) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.directory).map_err(io::Error::from);
        let free = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let short = match free {
            Ok(free) if free >= bytes => return Ok(()),
            Ok(free) => io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{} MiB are free and {} MiB are kept as a reserve", free >> 20, bytes >> 20),
            ),
            Err(e) => e,
        };
        Err(fault::on_disk(STORE, action.into(), &self.place(), Box::new(short)))
    }

    fn check(&self, want: &Made) -> Result<(), StoreError> {
        let path = self.shard().join(MADE);
        let place = self.place();
        let unreadable = |e: io::Error| fault::corrupt(STORE, path.display(), e);
        let have: Made =
            serde_json::from_slice(&fs::read(&path).map_err(unreadable)?).map_err(|e| unreadable(e.into()))?;
        if have == *want {
            return Ok(());
        }
        let (action, remedy) = if have.layout == want.layout {
            (
                format!("open `{place}`: it holds vectors of {have}, and the model gives {want}"),
                "name the model it was made with (`model.manifest` in the configuration), or begin anew in another home",
            )
        } else {
            (
                format!("open `{place}`: its layout is {}, and this program reads {}", have.layout, want.layout),
                "use the version of this program that made it, or begin anew in another home",
            )
        };
        Err(fault::refused(STORE, action, remedy))
    }

    /// Whether the shard holds nothing yet: then it may be made for anything.
    fn is_empty(&self) -> Result<bool, StoreError> {
        let path = self.shard();
        guard(self, "look into the index", || {
            let shard = EdgeShard::load(&path, None)?;
            Ok(shard.count(CountRequest { filter: None, exact: true })? == 0)
        })
    }

    /// Makes a shard aside and moves it into place, so that a half-made one is never taken for a whole one.
    fn make(&self, made: &Made, config: &EdgeConfig) -> Result<(), StoreError> {
        let place = self.place();
        let fail = |e: io::Error| fault::on_disk(STORE, format!("make an index in `{place}`"), &place, Box::new(e));
        let fresh = self.directory.join("shard.new");
        match fs::remove_dir_all(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        fs::create_dir_all(&fresh).map_err(fail)?;
        guard(self, "make an index", || {
            let shard = EdgeShard::new(&fresh, config.clone())?;
            let index = CreateIndex { field_name: points::words_field(), field_schema: Some(points::keyword_index()) };
            shard.update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(index)))?;
            shard.flush();
            Ok(())
        })?;
        let written = serde_json::to_vec_pretty(made).map_err(|e| fail(e.into()))?;
        fs::write(fresh.join(MADE), written).map_err(fail)?;
        File::open(fresh.join(MADE)).and_then(|f| f.sync_all()).map_err(fail)?;
        fs::rename(&fresh, self.shard()).map_err(fail)?;
        File::open(&self.directory).and_then(|d| d.sync_all()).map_err(fail)
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("index.lock");
    let place = directory.display().to_string();
    let fail = |e: io::Error| fault::on_disk(STORE, format!("lock `{}`", path.display()), &place, Box::new(e));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(fault::refused(
            STORE,
            format!("open `{place}`, which another process has open (it holds `{}`)", path.display()),
            "stop that process, or give this one its own directory",
        )),
        Err(TryLockError::Error(e)) => Err(fail(e)),
    }
}

fn made(spaces: &[(VectorSpace, usize)]) -> Result<Made, StoreError> {
    let mut by_name = BTreeMap::new();
    for (VectorSpace(name), numbers) in spaces {
        let good = !name.is_empty() && name != points::FINGERPRINT && *numbers > 0;
        if !good || by_name.insert(name.clone(), *numbers).is_some() {
            let remedy = "give each space a name of its own, other than `fingerprint`, and its numbers a vector";
            return Err(fault::refused(STORE, format!("have a space `{name}` of {numbers} numbers"), remedy));
        }
    }
    Ok(Made { layout: LAYOUT, spaces: by_name })
}

/// Opens the shard of a home, without the part of its log that it no longer needs, and repairs it.
pub(super) fn load(home: &Home, config: &EdgeConfig) -> Result<EdgeShard, StoreError> {
    let path = home.shard();
    let action = format!("open `{}`", home.place());
    prune_log(&path.join("wal")).map_err(|e| fault::on_disk(STORE, action.clone(), &home.place(), Box::new(e)))?;
    guard(home, &action, || {
        let shard = EdgeShard::load(&path, Some(config.clone()))?;
        repair::repair(&shard, &path.join(ASIDE))?;
        Ok(shard)
    })
}

/// Deletes all closed files of the log but the last. The engine neither reads nor deletes them, but it numbers its
/// writes from the end of the log, so the end must stay: a write numbered below its point's last one would be ignored.
fn prune_log(log: &Path) -> io::Result<()> {
    let mut closed = Vec::new();
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        let start = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("closed-"));
        if let Some(start) = start.and_then(|s| s.parse::<u64>().ok()) {
            closed.push((start, path));
        }
    }
    closed.sort();
    closed.pop();
    // From the oldest on: what is left has no gap, wherever a crash stops this.
    closed.iter().try_for_each(|(_, path)| fs::remove_file(path))
}
