//! The directory of an embedded index: who owns it, what it was made for, and how it comes back after a crash.
//!
//! ```text
//! index.lock       held by the one process that has it open
//! shard/           made.json: what it was made for
//!   records/       see [`super::records`]
//!   vectors/       the engine's files, see [`super::vectors`]
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
use fjall::{CompressionType, Database};
use qdrant_edge::{EdgeConfig, EdgeShard, external::serde_json};
use serde::{Deserialize, Serialize};

use super::engine::guard;
use crate::{fault, index::STORE};

/// Goes up when points are laid out in another way.
const LAYOUT: u32 = 6;
const MADE: &str = "made.json";
/// Bytes that must stay free on the disk. The engine writes through mapped memory, where a full disk is a signal that
/// kills the process instead of an error; so nothing is written near the end.
const SPARE_BYTES: u64 = 256 << 20;
/// Memory that blocks of the records' files may take.
const BLOCK_CACHE_BYTES: u64 = 32 << 20;
/// Bytes of the records' log after which what is in memory must go to a file.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

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
        if home.shard().exists() && home.check(&made).is_err() && home.is_empty() {
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

    pub(super) fn vectors(&self) -> PathBuf {
        self.shard().join("vectors")
    }

    /// Opens the database of the records.
    pub(super) fn database(&self) -> Result<Database, StoreError> {
        let builder = Database::builder(self.shard().join("records"))
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true)
            // Most of what is logged are vectors, which do not get smaller.
            .journal_compression(CompressionType::None)
            // Of several the first one only flushes, and keeps a core busy asking for as long as another compacts (3.1).
            .worker_threads(1);
        builder.open().map_err(|e| self.fault("open the records", e))
    }

    /// An error of the database as one of the port.
    pub(super) fn fault(&self, action: &str, error: fjall::Error) -> StoreError {
        match error {
            fjall::Error::Poisoned => {
                let remedy = format!("a write to `{}` failed before: see to its disk, then restart", self.place());
                fault::refused(STORE, action, remedy)
            }
            error => fault::on_disk(STORE, action.into(), &self.place(), Box::new(error)),
        }
    }

    /// Refuses, for now, where the disk is nearly full.
    pub(super) fn check_space(&self, action: &str) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.directory).map_err(io::Error::from);
        let free = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let short = match free {
            Ok(free) if free >= SPARE_BYTES => return Ok(()),
            Ok(free) => io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{} MiB are free and {} MiB are kept as a reserve", free >> 20, SPARE_BYTES >> 20),
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

    /// Whether the shard holds nothing yet, as far as can be told: then it may be made for anything.
    fn is_empty(&self) -> bool {
        let records = || self.database().ok()?.keyspace("heads", Default::default).ok()?.is_empty().ok();
        self.shard().join("records").exists() && records().unwrap_or(false)
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
        fs::create_dir_all(fresh.join("vectors")).map_err(fail)?;
        guard(self, "make an index", || {
            EdgeShard::new(&fresh.join("vectors"), config.clone())?.flush();
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
        let good = !name.is_empty() && *numbers > 0;
        if !good || by_name.insert(name.clone(), *numbers).is_some() {
            let remedy = "give each space a name of its own, and its numbers a vector";
            return Err(fault::refused(STORE, format!("have a space `{name}` of {numbers} numbers"), remedy));
        }
    }
    Ok(Made { layout: LAYOUT, spaces: by_name })
}

/// Opens the vectors of a home, without the part of their log that is no longer needed.
pub(super) fn load(home: &Home, config: &EdgeConfig) -> Result<EdgeShard, StoreError> {
    let path = home.vectors();
    let action = format!("open `{}`", home.place());
    prune_log(&path.join("wal")).map_err(|e| fault::on_disk(STORE, action.clone(), &home.place(), Box::new(e)))?;
    guard(home, &action, || EdgeShard::load(&path, Some(config.clone())))
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
