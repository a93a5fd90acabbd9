//! What every adapter and every fake of a port must do, one suite a port; behind the feature `contract`.
//!
//! Takes    `make`, which gives a fresh, empty store each time it is called.
//! Gives    a panic that says which sentence does not hold. The sentence under test is printed before it is tried.
//!
//! A suite is run inside a multi-threaded tokio runtime, for its races are to be real ones:
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn memory_keeps_the_contract() {
//!     contract::state(async || Arc::new(MemoryState::default()) as Arc<dyn SmallState>).await;
//! }
//! ```

mod blobs;
mod index;
pub mod nats;
pub mod sample;
mod state;

pub use blobs::blobs;
pub use index::{SPACE_NUMBERS, index, spaces};
pub use state::state;

use std::future::Future;

use tokio::task::JoinSet;

/// Prints each sentence and tries it on a store of its own.
macro_rules! sentences {
    ($suite:literal, $make:expr, $($sentence:ident),+ $(,)?) => {$(
        eprintln!("{}: {}", $suite, stringify!($sentence).replace('_', " "));
        $sentence($make().await).await;
    )+};
}
use sentences;

/// Lets `n` tasks run at once and collects what they answer, in order of their number.
async fn race<T, F>(n: usize, racer: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut racers = JoinSet::new();
    for i in 0..n {
        let run = racer(i);
        racers.spawn(async move { (i, run.await) });
    }
    let mut done = racers.join_all().await;
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, answer)| answer).collect()
}
