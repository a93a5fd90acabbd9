//! Says what deliveries have to say to the broker, from one task: what is ready together leaves in one write.
//!
//! Takes    errands: futures that wait for the broker. Gives each asker what its errand ended with.
//! Why      a delivery is a task, and when it speaks, the connection's task runs next and writes that one message: a system call
//!          for each, and a wake-up for each answer.
//! Keeps    the order in which errands come. One whose asker has gone is dropped where it stands.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, pending},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
};
use tracing::Instrument;

type Errand = BoxFuture<'static, ()>;

/// See the head of this file. Its task ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    errands: mpsc::UnboundedSender<Errand>,
}

impl Outbox {
    pub(super) fn open() -> Self {
        let (errands, come) = mpsc::unbounded_channel();
        tokio::spawn(run(come));
        Self { errands }
    }

    /// Panics as the errand does.
    pub(super) async fn run<T: Send + 'static>(&self, errand: impl Future<Output = T> + Send + 'static) -> T {
        let (mut asker, ended) = oneshot::channel();
        let errand = async move {
            tokio::select! {
                biased;
                end = AssertUnwindSafe(errand).catch_unwind() => drop(asker.send(end)),
                () = asker.closed() => {}
            }
        };
        // Its task is gone only where the runtime ends, and whoever asks ends with it.
        let _ = self.errands.send(errand.in_current_span().boxed());
        match ended.await {
            Ok(end) => end.unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => pending().await,
        }
    }
}

async fn run(mut come: mpsc::UnboundedReceiver<Errand>) {
    let mut errands = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = errands.next() => {}
            errand = come.recv() => {
                let Some(errand) = errand else { return };
                errands.push(errand);
                // All that are ready to speak do so first.
                yield_now().await;
                errands.extend(std::iter::from_fn(|| come.try_recv().ok()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn what_is_ready_together_is_begun_in_order_after_all_have_spoken() {
        let (outbox, log) = (Outbox::open(), Arc::new(Mutex::new(Vec::new())));
        let say = |n: usize| {
            let (outbox, log) = (outbox.clone(), log.clone());
            tokio::spawn(async move {
                log.lock().expect("whole").push(format!("speaks {n}"));
                let begun = log.clone();
                outbox.run(async move { begun.lock().expect("whole").push(format!("begins {n}")) }).await;
            })
        };
        for task in [say(1), say(2), say(3)] {
            task.await.expect("no panic");
        }
        let want = ["speaks 1", "speaks 2", "speaks 3", "begins 1", "begins 2", "begins 3"];
        assert_eq!(*log.lock().expect("whole"), want);
    }

    #[tokio::test]
    async fn an_errand_is_dropped_with_its_asker() {
        let outbox = Outbox::open();
        let (kept, dropped) = oneshot::channel::<()>();
        let asker = tokio::spawn({
            let outbox = outbox.clone();
            async move {
                outbox
                    .run(async move {
                        let _kept = kept;
                        pending::<()>().await
                    })
                    .await;
            }
        });
        yield_now().await;
        yield_now().await;
        asker.abort();
        dropped.await.expect_err("nobody holds it");
        assert_eq!(outbox.run(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn a_panic_comes_to_its_asker_alone() {
        let outbox = Outbox::open();
        let asker = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.run(async { panic!("on purpose") }).await }
        });
        assert!(asker.await.expect_err("panics").is_panic());
        assert_eq!(outbox.run(async { 7 }).await, 7);
    }
}
