//! The files below `<home>/broker/`.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use dih_core::Secret;
use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use super::{
    BrokerError, PAUSE, keys,
    server::{PORT, PORT_BEFORE},
};

/// A log above this is put aside at the next start.
const LOG_BYTES_MAX: u64 = 10 << 20;
const LAST_WORDS_BYTES: u64 = 2_000;
/// Seed of the user that is the hub.
pub(super) const HUB: &str = "hub.nk";

/// What the three locks are for. All are released by the kernel when their holder ends, however it ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lock {
    /// Held by whoever starts a guard.
    Start,
    /// Shared by all users; the guard gets it alone once they are gone.
    Users,
    /// Held by the guard while it lives.
    Guard,
}

impl Lock {
    fn file(self) -> &'static str {
        match self {
            Self::Start => "start.lock",
            Self::Users => "users.lock",
            Self::Guard => "guard.lock",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Files {
    home: PathBuf,
    directory: PathBuf,
}

impl Files {
    pub(super) fn make(home: &Path) -> Result<Self, BrokerError> {
        let directory = home.join("broker");
        let made = fs::create_dir_all(&directory).and_then(|()| home.canonicalize());
        let home = made.map_err(|source| BrokerError::Files { action: "make", path: directory, source })?;
        Ok(Self { directory: home.join("broker"), home })
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("log")
    }

    pub(super) fn open_log(&self) -> Result<File, BrokerError> {
        let path = self.log();
        if self.log_bytes() > LOG_BYTES_MAX {
            let _ = fs::rename(&path, self.path("log.old"));
        }
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened.map_err(|source| BrokerError::Files { action: "open", path, source })
    }

    pub(super) fn log_bytes(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |log| log.len())
    }

    /// What was logged beyond its first `bytes`.
    pub(super) fn log_since(&self, bytes: u64) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.log())?;
            log.seek(SeekFrom::Start(bytes))?;
            let mut words = Vec::new();
            log.read_to_end(&mut words)?;
            Ok(String::from_utf8_lossy(&words).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// The end of the log, for an error message.
    pub(super) fn last_words(&self) -> String {
        self.log_since(self.log_bytes().saturating_sub(LAST_WORDS_BYTES))
    }

    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok().map(|text| text.trim().to_owned())
    }

    /// Whole or not at all.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), BrokerError> {
        let (path, draft) = (self.path(name), self.path(&format!("{name}.new")));
        let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|source| BrokerError::Files { action: "write", path, source })
    }

    /// The seed of the hub's user; made by whoever asks first.
    pub(super) fn hub_seed(&self) -> Result<Secret, BrokerError> {
        if let Some(seed) = self.read(HUB) {
            return Ok(Secret::new(seed));
        }
        let path = self.path(HUB);
        let seed = keys::seed().map_err(|source| BrokerError::Keys { path: path.clone(), source })?;
        let failed = |source| BrokerError::Files { action: "write", path: path.clone(), source };
        // For its owner only, and whole or not at all.
        let mut draft = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed)?;
        draft.write_all(seed.expose().as_bytes()).map_err(failed)?;
        match draft.persist_noclobber(&path) {
            Ok(_) => Ok(seed),
            // Somebody else was faster.
            Err(refused) if refused.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(Secret::new(fs::read_to_string(&path).map_err(failed)?.trim()))
            }
            Err(refused) => Err(failed(refused.error)),
        }
    }

    pub(super) fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// The port that nobody listens on any more; the next server takes it again if it can.
    pub(super) fn retire_port(&self) {
        let _ = fs::rename(self.path(PORT), self.path(PORT_BEFORE));
    }

    pub(super) fn port_before(&self) -> Option<u16> {
        self.read(PORT).or_else(|| self.read(PORT_BEFORE))?.parse().ok()
    }

    fn open_lock(&self, lock: Lock) -> Result<File, BrokerError> {
        let path = self.path(lock.file());
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        opened.map_err(|source| BrokerError::Files { action: "open", path, source })
    }

    pub(super) fn lock(&self, lock: Lock) -> Taking<'_> {
        Taking { files: self, lock, operation: FlockOperation::NonBlockingLockExclusive }
    }

    pub(super) fn share(&self, lock: Lock) -> Taking<'_> {
        Taking { files: self, lock, operation: FlockOperation::NonBlockingLockShared }
    }

    /// Whether some process holds it alone.
    pub(super) fn is_locked(&self, lock: Lock) -> Result<bool, BrokerError> {
        Ok(self.share(lock).now()?.is_none())
    }

    /// Blocks the thread until nobody else holds it.
    pub(super) fn wait_alone(&self, lock: Lock) -> Result<File, BrokerError> {
        let file = self.open_lock(lock)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let path = self.path(lock.file());
                    return Err(BrokerError::Files { action: "lock", path, source: error.into() });
                }
            }
        }
    }
}

/// A lock that is wanted.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    files: &'a Files,
    lock: Lock,
    operation: FlockOperation,
}

impl Taking<'_> {
    /// None when somebody else holds it.
    pub(super) fn now(&self) -> Result<Option<File>, BrokerError> {
        let file = self.files.open_lock(self.lock)?;
        match flock(&file, self.operation) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => {
                let path = self.files.path(self.lock.file());
                Err(BrokerError::Files { action: "lock", path, source: error.into() })
            }
        }
    }

    pub(super) async fn until(&self, deadline: Instant) -> Result<File, BrokerError> {
        loop {
            if let Some(file) = self.now()? {
                return Ok(file);
            }
            if Instant::now() >= deadline {
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "another command holds it for too long");
                let path = self.files.path(self.lock.file());
                return Err(BrokerError::Files { action: "lock", path, source });
            }
            sleep(PAUSE).await;
        }
    }
}
