//! The engine behind one door: its panics become errors, its writes go one by one, and its flush meets no write.
//!
//! Takes    closures over the shard, from blocking threads.
//! Why      Qdrant Edge 0.7.2 panics where it should answer (a flush beside a write, a full disk), keeps its log for ever,
//!          and forgets everything that was not flushed. See [`Engine::write`], [`Engine::flush`] and [`super::files`].
//! Weak at  writes wait for one another, and all wait for a flush (tens of milliseconds).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
};

use dih_core::ports::StoreError;
use qdrant_edge::{EdgeConfig, EdgeShard, OperationError, OperationResult, UpdateOperation};

use super::files::{self, Home};
use crate::{fault, index::STORE};

#[derive(Debug)]
pub(super) struct Engine {
    home: Arc<Home>,
    config: EdgeConfig,
    /// Bytes of log after which the shard is closed and opened again: only so does the engine let go of its log.
    log_bytes_max: u64,
    /// None after an attempt to open it again failed.
    shard: RwLock<Option<EdgeShard>>,
    writer: Mutex<()>,
    logged_bytes: AtomicU64,
}

impl Engine {
    pub(super) fn open(home: Arc<Home>, config: EdgeConfig, log_bytes_max: u64) -> Result<Self, StoreError> {
        let shard = files::load(&home, &config)?;
        Ok(Self {
            home,
            config,
            log_bytes_max,
            shard: RwLock::new(Some(shard)),
            writer: Mutex::new(()),
            logged_bytes: AtomicU64::new(0),
        })
    }

    pub(super) fn read<T>(
        &self,
        action: &str,
        read: impl FnOnce(&EdgeShard) -> OperationResult<T>,
    ) -> Result<T, StoreError> {
        let slot = self.shard.read().unwrap_or_else(PoisonError::into_inner);
        let shard = slot.as_ref().ok_or_else(|| self.gone(action))?;
        guard(&self.home, action, || read(shard))
    }

    /// Lets nobody else write until `write` is done, so that it may read first and then decide.
    pub(super) fn write<T>(
        &self,
        action: &str,
        write: impl FnOnce(&Writer<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let turn = self.turn();
        self.home.check_space(action)?;
        write(&Writer { engine: self, _turn: turn })
    }

    /// Whether a write would wait for another, or for a flush.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.writer.try_lock(), Err(TryLockError::WouldBlock))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings every write so far to the disk, then lets `flushed` note it before the next write.
    pub(super) fn flush(&self, flushed: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let _turn = self.turn();
        self.read("flush", |shard| {
            shard.flush();
            Ok(())
        })?;
        flushed()?;
        match self.logged_bytes.load(Ordering::Relaxed) > self.log_bytes_max {
            true => self.drop_log(),
            false => Ok(()),
        }
    }

    /// Closes the shard and opens it again without the log it no longer needs. All is flushed when this is called.
    fn drop_log(&self) -> Result<(), StoreError> {
        let mut slot = self.shard.write().unwrap_or_else(PoisonError::into_inner);
        close(&self.home, slot.take());
        *slot = Some(files::load(&self.home, &self.config)?);
        self.logged_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn gone(&self, action: &str) -> StoreError {
        let remedy = format!("see why `{}` could not be opened again, and restart", self.home.place());
        fault::refused(STORE, action, remedy)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let slot = self.shard.get_mut().unwrap_or_else(PoisonError::into_inner);
        close(&self.home, slot.take());
    }
}

/// The shard flushes once more when dropped, and panics when it cannot. Nothing that was committed depends on it.
fn close(home: &Home, shard: Option<EdgeShard>) {
    if let Err(e) = guard(home, "close", move || {
        drop(shard);
        Ok(())
    }) {
        tracing::warn!(error = %dih_core::chain(&e), "index was not closed cleanly");
    }
}

/// The right to write.
pub(super) struct Writer<'a> {
    engine: &'a Engine,
    _turn: MutexGuard<'a, ()>,
}

impl Writer<'_> {
    pub(super) fn read<T>(
        &self,
        action: &str,
        read: impl FnOnce(&EdgeShard) -> OperationResult<T>,
    ) -> Result<T, StoreError> {
        self.engine.read(action, read)
    }

    /// One write, whole or not at all. `bytes` is about what the log will take.
    pub(super) fn update(&self, action: &str, bytes: usize, operation: UpdateOperation) -> Result<(), StoreError> {
        let done = self.engine.read(action, |shard| shard.update(operation));
        self.engine.logged_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        done
    }
}

/// Turns the engine's errors and panics into errors of the port.
pub(super) fn guard<T>(home: &Home, action: &str, call: impl FnOnce() -> OperationResult<T>) -> Result<T, StoreError> {
    let source: Box<dyn std::error::Error + Send + Sync> = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) if is_full(&e.to_string()) => full(e.to_string()),
        Ok(Err(e)) => Box::<OperationError>::from(e),
        Err(panic) => match told(&*panic) {
            told if is_full(&told) => full(told),
            told => format!("the engine panicked: {told}").into(),
        },
    };
    Err(fault::on_disk(STORE, action.to_owned(), &home.place(), source))
}

/// The engine passes the operating system's word on as text only.
fn is_full(text: &str) -> bool {
    ["No space left on device", "StorageFull", "os error 28", "Disk quota exceeded"].iter().any(|w| text.contains(w))
}

fn full(text: String) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(std::io::Error::new(std::io::ErrorKind::StorageFull, text))
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".into())
}
