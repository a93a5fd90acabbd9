//! Work that goes on from one call of the index to the next, and only when it is told to: so a test draws who goes on.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use dih_core::ports::{Index, StoreError};

use super::gated::{Gate, Gated};

/// Dropped before it has ended, it is a process that died.
pub struct Stepped<T> {
    work: Pin<Box<dyn Future<Output = T> + Send>>,
    turn: Turn,
}

impl<T> Stepped<T> {
    /// `work` gets the index whose calls it stops at.
    pub fn new<F>(index: Arc<dyn Index>, work: impl FnOnce(Arc<dyn Index>) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let turn = Turn::default();
        let work = work(Arc::new(Gated::behind(turn.clone(), index)));
        Self { work: Box::pin(work), turn }
    }

    /// Makes the call it stands before, and goes on to the next one, or to its end.
    pub async fn step(&mut self) -> Option<T> {
        self.turn.goes_on.store(true, Ordering::SeqCst);
        self.turn.waits.store(false, Ordering::SeqCst);
        poll_fn(|context| match self.work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.turn.waits.load(Ordering::SeqCst) => Poll::Ready(None),
            Poll::Pending => Poll::Pending, // it waits for something else than its turn
        })
        .await
    }
}

impl<T> fmt::Debug for Stepped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepped").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default)]
struct Turn {
    waits: Arc<AtomicBool>,
    goes_on: Arc<AtomicBool>,
}

impl Turn {
    async fn wait(&self) {
        poll_fn(|_| match self.goes_on.swap(false, Ordering::SeqCst) {
            true => Poll::Ready(()),
            false => {
                self.waits.store(true, Ordering::SeqCst);
                Poll::Pending
            }
        })
        .await;
    }
}

impl Gate for Turn {
    async fn read<T: Send>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.wait().await;
        call.await
    }

    async fn write<T: Send>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.wait().await;
        call.await
    }
}
