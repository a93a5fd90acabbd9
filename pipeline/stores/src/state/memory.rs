//! The fake: a map behind a lock.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use dih_core::ports::{Entry, SmallState, StoreError};

use super::check;

/// Small state of this process only, gone with it.
#[derive(Debug, Default)]
pub struct MemoryState {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    entries: BTreeMap<String, Entry>,
    /// Of the last write to any key, as in a stream.
    revision: u64,
}

impl Held {
    fn write(&mut self, key: &str, value: Bytes) -> u64 {
        self.revision += 1;
        self.entries.insert(key.into(), Entry { value, revision: self.revision });
        self.revision
    }
}

impl MemoryState {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SmallState for MemoryState {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check(key)?;
        Ok(self.held().entries.get(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Option<u64>, StoreError> {
        check(key)?;
        let mut held = self.held();
        Ok(if held.entries.contains_key(key) { None } else { Some(held.write(key, value)) })
    }

    async fn replace(&self, key: &str, value: Bytes, revision: u64) -> Result<Option<u64>, StoreError> {
        check(key)?;
        let mut held = self.held();
        let same = held.entries.get(key).is_some_and(|e| e.revision == revision);
        Ok(same.then(|| held.write(key, value)))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check(key)?;
        self.held().entries.remove(key);
        Ok(())
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.held().entries.keys().filter(|k| k.starts_with(prefix)).cloned().collect())
    }
}
