//! The loop, the same for every stage: from delivery to confirmed acknowledgement.
//!
//! Takes    a stage, the consumer that feeds it, and a signal to stop. Gives answers to the broker, and health.
//! Keeps    nothing but what is in work, bounded in items and in bytes.
//! Crash    safe at any line, see [`work`].
//! Weak at  one open request a consumer: what comes faster than a round trip waits for it.

mod chain;
mod delay;
mod lease;
mod line;
mod outbox;
mod pull;
mod solo;
mod tries;
mod work;

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use async_nats::Message;
use dih_core::{
    Stage,
    ports::Index,
    topology::{self, ConsumerSpec},
};
use futures::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::line::Line;
use self::{
    outbox::Outbox,
    pull::{Pulled, Puller},
    tries::TriesBook,
    work::Worker,
};
use crate::{
    Arrival, Connection, Health, Input, RunnerConfig,
    error::{BusError, RUN_SETUP},
    health::State,
    trace,
};

/// Why a stage stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What was in work was handed back; nothing is lost.
    #[error("stage {consumer} halted, because a person must act: {reason}")]
    Halted { consumer: &'static str, reason: String },
    #[error("stage {consumer} finds no consumer of its name; {}", RUN_SETUP)]
    NoConsumer { consumer: &'static str, source: BusError },
    #[error("stage {consumer} could not start")]
    Start { consumer: &'static str, source: BusError },
}

/// Room for a message beyond its payload: subject, headers, reply.
const ENVELOPE_BYTES: usize = 4 << 10;
/// The loop comes round at least this often.
const TICK: Duration = Duration::from_secs(1);
/// Between two messages while nothing succeeds: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After the drain, time to hand back what is left.
const HAND_BACK: Duration = Duration::from_secs(5);

/// Runs one stage.
pub struct Runner<S> {
    connection: Connection,
    stage: S,
    index: Option<Arc<dyn Index>>,
    config: RunnerConfig,
    tries_max: u64,
    health: Health,
    line: Line,
}

impl<S: Stage<Input: Input>> fmt::Debug for Runner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("consumer", &S::CONSUMER).field("config", &self.config).finish_non_exhaustive()
    }
}

fn spec_of<S: Stage>() -> &'static ConsumerSpec {
    topology::consumer(S::CONSUMER).expect("a stage names a row of the table")
}

impl<S: Stage<Input: Input>> Runner<S> {
    /// `index`: committed after the stage's writes and before anything is published; None where the stage has none.
    pub fn new(connection: Connection, stage: S, index: Option<Arc<dyn Index>>, config: RunnerConfig) -> Self {
        let tries_max = spec_of::<S>().tries_max;
        let (health, line) = (Health::new(S::CONSUMER), Line::default());
        Self { connection, stage, index, config, tries_max, health, line }
    }

    /// Hands over to the other stages of this line, and takes from them, if [`RunnerConfig::hand_over`] allows it.
    #[must_use]
    pub fn in_line(mut self, line: &Line) -> Self {
        if self.config.hand_over {
            self.line = line.clone();
        }
        self
    }

    /// In place of the number in the table.
    #[must_use]
    pub fn tries_max(mut self, tries_max: u64) -> Self {
        self.tries_max = tries_max;
        self
    }

    /// To be asked while [`Runner::run`] runs.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Works until `shutdown`, then finishes what is in work, within [`RunnerConfig::drain`], and hands back the rest.
    ///
    /// # Errors
    /// When the stage halts: a person must act. Nothing is lost by it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let health = self.health.clone();
        let result = self.start(shutdown).await;
        match &result {
            Ok(()) => health.set(State::Stopped),
            Err(error) => {
                tracing::error!(consumer = S::CONSUMER, error = %dih_core::chain(error), "the stage stopped by itself");
                health.set(State::Halted(dih_core::chain(error).to_string()));
            }
        }
        result
    }

    async fn start(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let (consumer, spec) = (S::CONSUMER, spec_of::<S>());
        let could_not = |source| RunError::Start { consumer, source };
        let lease = lease_of(&self.connection, spec).await?;
        let tries = TriesBook::open(&self.connection).await.map_err(could_not)?;
        let puller = Puller::open(&self.connection, spec.stream, spec.name).await.map_err(could_not)?;
        let room = Room::new(&self.config, self.connection.payload_bytes_max());
        tracing::info!(consumer, lease = ?lease, items_max = self.config.items_max(), "taking work");
        let worker = Arc::new(Worker {
            connection: self.connection,
            stage: self.stage,
            index: self.index,
            guests: Semaphore::new(self.config.items_max()),
            config: self.config,
            tries_max: self.tries_max,
            lease,
            tries,
            health: self.health,
            line: self.line,
            outbox: Outbox::open(),
        });
        let taker: Weak<Worker<S>> = Arc::downgrade(&worker);
        worker.line.join(consumer, taker);
        let work =
            Loop { spec, room, puller, pause: None, tasks: JoinSet::new(), stop: CancellationToken::new(), worker };
        work.run(shutdown).await
    }
}

/// The lease is what the broker was told, not what the table says.
async fn lease_of(connection: &Connection, spec: &'static ConsumerSpec) -> Result<Duration, RunError> {
    let stream = connection.jetstream().get_stream_no_info(spec.stream).await;
    let info = match stream {
        Ok(stream) => stream.consumer_info(spec.name).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    info.map(|info| info.config.ack_wait).map_err(|e| RunError::NoConsumer {
        consumer: spec.name,
        source: BusError::unavailable(format!("look at the consumer {}", spec.name), e),
    })
}

/// How much may be in work.
#[derive(Debug)]
struct Room {
    items: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    items_max: usize,
    bytes_max: usize,
    /// The largest message that can come.
    message_bytes_max: usize,
}

impl Room {
    fn new(config: &RunnerConfig, payload_bytes_max: usize) -> Self {
        let message_bytes_max = payload_bytes_max.max(1 << 20) + ENVELOPE_BYTES;
        let bytes_max = usize::try_from(config.payload_bytes_max.0).unwrap_or(usize::MAX);
        let bytes_max = bytes_max.clamp(message_bytes_max, u32::MAX as usize);
        let items_max = config.items_max();
        let (items, bytes) = (Arc::new(Semaphore::new(items_max)), Arc::new(Semaphore::new(bytes_max)));
        Self { items, bytes, items_max, bytes_max, message_bytes_max }
    }

    /// Items and bytes to ask for, once there is enough of both to be worth it.
    fn free(&self) -> Option<(usize, usize)> {
        let (items, bytes) = (self.items.available_permits(), self.bytes.available_permits());
        (items >= self.items_max.div_ceil(4) && bytes >= self.message_bytes_max).then_some((items, bytes))
    }

    async fn take(&self, bytes: usize) -> Place {
        let bytes = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        let item = self.items.clone().acquire_owned().await.expect("the room is never closed");
        let bytes = self.bytes.clone().acquire_many_owned(bytes).await.expect("the room is never closed");
        Place { _item: item, _bytes: bytes }
    }
}

/// A place in the room; given back when dropped.
struct Place {
    _item: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Between two messages while nothing succeeds.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// Length of the next one.
    next: Duration,
    /// Whether a message is asked for after this one.
    is_due: bool,
}

struct Loop<S> {
    spec: &'static ConsumerSpec,
    room: Room,
    puller: Puller,
    pause: Option<Pause>,
    tasks: JoinSet<Option<String>>,
    /// Cancelled when what is in work must be handed back.
    stop: CancellationToken,
    worker: Arc<Worker<S>>,
}

impl<S: Stage<Input: Input>> Loop<S> {
    async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let halted = self.take_work(&shutdown).await;
        if halted.is_none() {
            tracing::info!(consumer = self.spec.name, in_work = self.tasks.len(), "draining");
            self.worker.health.set(State::Draining);
        }
        let consumer = self.spec.name;
        match self.wind_up(halted).await {
            None => Ok(()),
            Some(reason) => Err(RunError::Halted { consumer, reason }),
        }
    }

    /// Until told to stop, or a reason to halt.
    async fn take_work(&mut self, shutdown: &CancellationToken) -> Option<String> {
        self.worker.health.set(State::Ready);
        // A long job is no reason to take the loop for dead.
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = pin!(shutdown.cancelled());
        loop {
            if let (true, Some((items, bytes))) = (self.puller.is_idle(), self.room.free()) {
                self.ask(items, bytes).await;
            }
            let waiting = self.puller.is_idle();
            tokio::select! {
                biased; // in this order: what can end makes room, and timers are looked at only where there is nothing to do
                () = &mut stopped => return None,
                Some(done) = self.tasks.join_next() => {
                    let more = std::iter::from_fn(|| self.tasks.try_join_next());
                    if let Some(reason) = std::iter::once(done).chain(more).find_map(reason_to_halt) {
                        return Some(reason);
                    }
                }
                pulled = self.puller.next(), if !waiting => self.accept(pulled).await,
                _ = tick.tick() => {}
            }
            self.worker.health.progress();
        }
    }

    /// Asks for as much as there is room for; where nothing succeeds, for one message after a pause that grows.
    async fn ask(&mut self, items: usize, bytes: usize) {
        match (self.worker.health.is_grave(), self.pause.take()) {
            (false, before) => {
                if before.is_some() {
                    tracing::info!(consumer = self.spec.name, "takes as much as it can again");
                }
                self.puller.ask(items, bytes).await;
            }
            (true, None) => {
                tracing::warn!(consumer = self.spec.name, "nothing succeeds, takes one message at a time");
                self.rest(PAUSE_FIRST);
            }
            (true, Some(Pause { next, is_due: true })) => {
                self.pause = Some(Pause { next, is_due: false });
                self.puller.ask(1, bytes).await;
            }
            (true, Some(Pause { next, is_due: false })) => self.rest(next),
        }
    }

    fn rest(&mut self, pause: Duration) {
        self.puller.pause(pause);
        self.pause = Some(Pause { next: (pause * 2).min(PAUSE_MAX), is_due: true });
    }

    async fn accept(&mut self, pulled: Pulled) {
        match pulled {
            Pulled::Message(message) => {
                self.ready(true);
                self.begin(message).await;
            }
            Pulled::Nothing => self.ready(self.worker.connection.is_connected()),
            Pulled::Nobody => self.ready(false),
        }
    }

    fn ready(&self, ready: bool) {
        let health = &self.worker.health;
        match (health.state() != State::Waiting, ready) {
            (true, false) => {
                tracing::warn!(consumer = self.spec.name, "the broker does not answer, waiting for it");
                health.set(State::Waiting);
            }
            (false, true) => health.set(State::Ready),
            _ => {}
        }
    }

    async fn begin(&mut self, message: Message) {
        let place = self.room.take(message.length).await;
        let Some(arrival) = Arrival::read(self.spec, message) else {
            tracing::warn!(consumer = self.spec.name, "something came that no stream delivered, ignored it");
            return;
        };
        let span = tracing::debug_span!(
            "delivery",
            otel.name = self.spec.name,
            consumer = self.spec.name,
            stage = %self.spec.stage,
            upload = arrival.upload().map(|u| u.0),
            sequence = arrival.stream_sequence,
            attempt = arrival.attempt,
        );
        trace::follow(&span, &arrival.headers);
        let (worker, stop) = (self.worker.clone(), self.stop.clone());
        let work = async move {
            let reason = worker.handle(arrival, stop).await;
            drop(place);
            reason
        };
        // Boxed where it is made: it is large, and would be moved at every step from here to the task.
        self.tasks.spawn(work.boxed().instrument(span));
    }

    /// Ends the work that is left: lets it finish, or hands it back at once when the stage halts.
    async fn wind_up(mut self, mut halted: Option<String>) -> Option<String> {
        let connection = self.worker.connection.clone();
        for message in self.puller.close().await {
            if let Some(arrival) = Arrival::read(self.spec, message) {
                arrival.reply.hand_back(&connection, None).await;
            }
        }
        if halted.is_none() {
            let tasks = &mut self.tasks;
            let finish = async {
                while let Some(done) = tasks.join_next().await {
                    if let Some(reason) = reason_to_halt(done) {
                        return Some(reason);
                    }
                }
                None
            };
            halted = timeout(self.worker.config.drain.0, finish).await.unwrap_or(None);
        }
        if !self.tasks.is_empty() {
            tracing::info!(consumer = self.spec.name, left = self.tasks.len(), "handing back what is left");
        }
        self.stop.cancel();
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        // Away: then the leases run out.
        let _ = timeout(HAND_BACK, rest).await;
        let _ = timeout(HAND_BACK, connection.client().flush()).await;
        halted
    }
}

fn reason_to_halt(done: Result<Option<String>, JoinError>) -> Option<String> {
    match done {
        Ok(reason) => reason,
        // The stage's own panics are caught where it is called; this is one of ours, and the lease brings it back.
        Err(error) => {
            tracing::error!(%error, "the handling of a delivery panicked");
            None
        }
    }
}
