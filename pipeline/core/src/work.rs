//! CPU work away from the async threads, bounded in number.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{Class, StageError};

/// Places at the bench: as many jobs at once as there are cores, whoever asks.
#[derive(Clone, Debug)]
pub struct Bench {
    places: Arc<Semaphore>,
}

impl Bench {
    /// `None`: one place a core.
    pub fn new(places: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self { places: Arc::new(Semaphore::new(places.unwrap_or_else(cores).max(1))) }
    }

    /// Runs `job` on a blocking thread once there is a place. A panic in it is dead-lettered, not spread.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, StageError> {
        let closed = |_| StageError::new(Class::Retry, "the process is shutting down");
        let place = self.places.clone().acquire_owned().await.map_err(closed)?;
        let done = spawn_blocking(move || {
            let result = job();
            drop(place);
            result
        });
        done.await.map_err(|e| match e.is_panic() {
            true => StageError::new(Class::BadInput, format!("the work panicked: {e}")),
            false => StageError::new(Class::Retry, "the process is shutting down"),
        })
    }
}
