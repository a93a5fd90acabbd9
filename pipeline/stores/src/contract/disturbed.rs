//! An index before one of whose writes something else happens, and after which the process may die.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use dih_core::ports::{Index, StoreError};

use super::gated::{Gate, Gated};

/// What happens before the write.
pub type Event = Pin<Box<dyn Future<Output = ()> + Send>>;

/// See the head of this file.
pub type Disturbed = Gated<Disturbance>;

pub struct Disturbance {
    writes: AtomicUsize,
    at: usize,
    dies: bool,
    event: Mutex<Option<Event>>,
}

impl Disturbed {
    /// `at` is the position of the write, from 0.
    pub fn new(index: Arc<dyn Index>, at: usize, dies: bool, event: impl Future<Output = ()> + Send + 'static) -> Self {
        let event: Event = Box::pin(event);
        Self::behind(Disturbance { writes: AtomicUsize::new(0), at, dies, event: Mutex::new(Some(event)) }, index)
    }

    /// What did not happen, as there were fewer writes.
    pub fn left(&self) -> Option<Event> {
        self.gate.take()
    }
}

impl Disturbance {
    fn take(&self) -> Option<Event> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Gate for Disturbance {
    async fn read<T: Send>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        call.await
    }

    async fn write<T: Send>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let now = self.writes.fetch_add(1, Ordering::SeqCst) == self.at;
        if now && let Some(event) = self.take() {
            event.await;
        }
        let done = call.await?;
        match now && self.dies {
            true => Err(StoreError::Unavailable { store: "test", action: "live".into(), source: "killed".into() }),
            false => Ok(done),
        }
    }
}

impl fmt::Debug for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disturbance").field("at", &self.at).field("dies", &self.dies).finish_non_exhaustive()
    }
}
