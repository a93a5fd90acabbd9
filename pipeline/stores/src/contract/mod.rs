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
mod disturbed;
mod gated;
mod index;
pub mod nats;
pub mod sample;
mod state;
mod stepped;
#[cfg(feature = "s3")]
pub mod weed;

pub use blobs::blobs;
#[cfg(feature = "s3")]
pub use blobs::links;
pub use disturbed::{Disturbed, Event};
pub use gated::{Gate, Gated};
pub use index::{SPACE_NUMBERS, index, spaces};
pub use state::state;
pub use stepped::Stepped;

use std::{
    env,
    future::Future,
    path::{Path, PathBuf},
};

use tokio::task::JoinSet;

/// A certificate of 127.0.0.1 that vouches for itself, and its key, in PEM.
pub fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate can be made");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

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

/// The tool `bin/<name>` that `make setup` has fetched. Fails, saying so, where there is none: a test that needs it must
/// not pass by not running.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    let named = env::var_os("DIH_TOOLS").map(PathBuf::from);
    let tools =
        named.into_iter().chain(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(".tools")));
    let found = tools.map(|tools| tools.join("bin").join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        fail(format!("there is no `{name}` in .tools/bin or $DIH_TOOLS/bin: run `make setup setup-s3`"))
    })
}

/// Ends the test.
#[allow(clippy::panic, reason = "a contract suite fails by panicking, as a test does")]
#[track_caller]
fn fail(why: String) -> ! {
    std::panic::panic_any(why)
}
