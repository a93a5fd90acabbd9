//! One delivery: decode, process, commit, publish, acknowledge; and what to do when one of these fails.
//!
//! Takes    an [`Arrival`]. Gives an answer to the broker, in every case: done, dead, or handed back.
//! Crash    safe at any line: the delivery comes again, finds what was written, and publishes under the same names.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::jetstream::AckKind;
use dih_core::{
    Class, Classify, Delivery, Millis, Notice, Outcome, Stage, StageError, chain, event::DeadLetter, metrics as names,
    ports::Index,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    chain::{Chain, Link, Photo},
    delay::{Failing, delay, give_up},
    lease,
    line::{Line, Taker},
    outbox::Outbox,
    solo::{self, Company, Judgement},
    tries::{Tries, TriesBook},
};
use crate::{
    Arrival, BusError, Connection, Death, Health, Input, RunnerConfig,
    arrival::Reply,
    error::Cause,
    failpoint::{Place, pass},
    outgoing::Outgoing,
    publish::publish_all,
    trace,
};

/// Longest wait for the broker to confirm an answer.
const CONFIRM_MAX: Duration = Duration::from_secs(10);

/// Everything one delivery needs; shared by all that are in work.
pub(super) struct Worker<S> {
    pub(super) connection: Connection,
    pub(super) stage: S,
    pub(super) index: Option<Arc<dyn Index>>,
    pub(super) config: RunnerConfig,
    pub(super) tries_max: u64,
    pub(super) lease: Duration,
    pub(super) tries: TriesBook,
    pub(super) health: Health,
    pub(super) line: Line,
    /// Places for what other stages hand over.
    pub(super) guests: Semaphore,
    pub(super) outbox: Outbox,
}

/// What kept a delivery from being done.
pub(super) enum Failure {
    /// The stage asks for another try; the message may be at fault.
    Retry(StageError),
    /// A store or the broker is away; the message is not at fault.
    Away(String),
    /// The message will never do.
    Bad(Death),
    /// This place is misconfigured.
    Halt(String),
}

impl Failure {
    /// An error of our own surroundings, not of the stage.
    fn around(error: &(impl Classify + 'static)) -> Self {
        match error.class() {
            Class::Halt => Self::Halt(chain(error).to_string()),
            Class::Retry | Class::BadInput => Self::Away(chain(error).to_string()),
        }
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::Retry(error) => error.to_string(),
            Self::Away(reason) | Self::Halt(reason) => reason.clone(),
            Self::Bad(death) => death.chain.join(": "),
        }
    }

    fn of_stage(error: StageError) -> Self {
        match error.class() {
            Class::Retry => Self::Retry(error),
            Class::BadInput => Self::Bad(Death { reason: "bad_input", chain: levels(error.as_error()) }),
            Class::Halt => Self::Halt(error.to_string()),
        }
    }
}

/// The error and its causes, one string each, outermost first.
fn levels(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect()
}

impl<S: Stage<Input: Input>> Worker<S> {
    /// Works on one delivery until it is answered. Gives the reason when the stage must halt.
    pub(super) async fn handle(self: &Arc<Self>, arrival: Arrival, stop: CancellationToken) -> Option<String> {
        let in_flight = self.health.received(arrival.attempt);
        let ended = tokio::select! {
            biased; // most are done before anybody needs to look at the lease
            ended = self.attend(&arrival) => ended,
            () = lease::until_lost(&self.connection, &arrival, self.lease) => {
                metrics::counter!(names::STAGE_LEASES_LOST, "consumer" => S::CONSUMER).increment(1);
                tracing::warn!(sequence = arrival.stream_sequence, "lost the lease, the work was cancelled");
                Ok("lease_lost")
            }
            () = stop.cancelled() => {
                Box::pin(self.hand_back(&arrival)).await;
                Ok("handed_back")
            }
        };
        match ended {
            Ok(outcome) => {
                in_flight.answered(outcome);
                None
            }
            Err(reason) => {
                Box::pin(self.hand_back(&arrival)).await;
                in_flight.answered("halted");
                Some(reason)
            }
        }
    }

    /// Gives the outcome's name, or the reason to halt.
    async fn attend(self: &Arc<Self>, arrival: &Arrival) -> Result<&'static str, String> {
        let tries = match self.tries.of(arrival).await {
            Ok(tries) => tries,
            Err(error) => {
                let reason = chain(&error).to_string();
                return Ok(Box::pin(self.postpone(arrival, Tries::default(), &reason)).await);
            }
        };
        let (tries, failure) = match solo::judge(tries, arrival.attempt) {
            Judgement::Guilty => (tries, Failure::Bad(crashed(tries))),
            judgement => {
                let (tries, _company) = self.company(arrival, tries, judgement).await;
                // What a suspect says goes through the broker, so that the stage is found in which it kills.
                let line = if judgement == Judgement::Innocent { &self.line } else { &Line::default() };
                match self.work(arrival, line).await {
                    Ok(outcome) => return Ok(outcome),
                    Err(failure) => (tries, failure),
                }
            }
        };
        // In a box, as everything that is rare: what is not stays small, and is moved about in little time.
        Box::pin(self.fail(arrival, tries, failure)).await
    }

    /// Gives the name of what became of a delivery that could not be done, or the reason to halt.
    async fn fail(&self, arrival: &Arrival, tries: Tries, mut failure: Failure) -> Result<&'static str, String> {
        // Twice at most: a death may itself fail, and then is no death any more.
        loop {
            failure = match failure {
                Failure::Halt(reason) => return Err(reason),
                Failure::Away(reason) => return Ok(self.postpone(arrival, tries, &reason).await),
                Failure::Retry(error) => match self.try_again(arrival, tries, &error).await {
                    Some(death) => Failure::Bad(death),
                    None => return Ok("retried"),
                },
                Failure::Bad(death) => match self.bury(arrival, &death).await {
                    Ok(()) => return Ok("dead"),
                    Err(Failure::Bad(death)) => {
                        return Ok(self.postpone(arrival, tries, &death.chain.join(": ")).await);
                    }
                    Err(other) => other,
                },
            }
        }
    }

    /// Lets a suspect begin alone, and notes that before it does.
    async fn company(&self, arrival: &Arrival, tries: Tries, judgement: Judgement) -> (Tries, Company) {
        if judgement != Judgement::Suspect {
            return (tries, solo::among_others(arrival.consumer).await);
        }
        let company = solo::alone().await;
        let tries = tries.begun_alone();
        Box::pin(self.tries.note(arrival, tries)).await;
        (tries, company)
    }

    async fn work(self: &Arc<Self>, arrival: &Arrival, line: &Line) -> Result<&'static str, Failure> {
        let input = self.decode(arrival)?;
        let cause = format!("{}.{}", arrival.consumer.name, input.identity(arrival));
        let (upload, epoch, attempt) = (input.upload(arrival), input.epoch(), arrival.attempt);
        let received_at = arrival.received_at();
        let outcome = self.process(Delivery { input, upload, received_at, attempt }).await?;
        let kind = outcome.kind();
        let photo = upload.map(|upload| Photo { upload, epoch, received_at, attempt });
        let mut chain = Chain::follow(line, arrival.consumer, cause, outcome, photo).await;
        chain.received(photo);
        chain.traced(trace::passed_on(&arrival.headers).as_deref());
        self.commit(&chain).await?;
        let told = self.outbox.run(self.clone().tell_all(chain.take_messages(), arrival.reply.clone()));
        match told.await.map_err(|e| Failure::around(&e))? {
            Ok(()) => self.tries.forget(arrival).await,
            Err(error) => tracing::debug!(%error, "an acknowledgement was not confirmed, the message will come again"),
        }
        self.health.succeeded();
        chain.succeeded();
        pass(S::CONSUMER, Place::AfterAck);
        Ok(kind)
    }

    fn decode(&self, arrival: &Arrival) -> Result<S::Input, Failure> {
        let undecodable = |chain| Failure::Bad(Death { reason: "undecodable", chain });
        let input = S::Input::read(arrival).map_err(|e| undecodable(levels(&e)))?;
        match input.fault(arrival) {
            Some(fault) => Err(Failure::Bad(Death { reason: "bad_input", chain: vec![fault] })),
            None => Ok(input),
        }
    }

    async fn process(&self, delivery: Delivery<S::Input>) -> Result<Outcome, Failure> {
        match AssertUnwindSafe(self.stage.process(delivery)).catch_unwind().await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => Err(Failure::of_stage(error)),
            Err(panic) => Err(Failure::Bad(Death { reason: "panicked", chain: vec![words(&*panic)] })),
        }
    }

    /// Makes the writes of all stages of the chain durable.
    async fn commit(&self, chain: &Chain) -> Result<(), Failure> {
        pass(S::CONSUMER, Place::BeforeCommit);
        for index in chain.indexes(self.index.as_ref()) {
            index.commit().await.map_err(|e| Failure::around(&e))?;
        }
        Ok(())
    }

    /// Tells everybody, then acknowledges. Only a confirmed answer is one: without it the delivery comes again, and changes
    /// nothing.
    async fn tell_all(self: Arc<Self>, messages: Vec<Outgoing>, reply: Reply) -> Result<Result<(), Cause>, BusError> {
        pass(S::CONSUMER, Place::BeforePublish);
        publish_all(&self.connection, &messages).await?;
        pass(S::CONSUMER, Place::BeforeAck);
        Ok(reply.confirm(&self.connection, AckKind::Ack, CONFIRM_MAX).await)
    }

    /// Hands the message back after a growing delay, or tells why it is given up.
    async fn try_again(&self, arrival: &Arrival, tries: Tries, error: &StageError) -> Option<Death> {
        let now = Millis::now();
        let tries = tries.failed(now);
        let for_so_long = Duration::from_millis(u64::try_from(now.0 - tries.failing_since).unwrap_or(0));
        let others_succeed = self.health.succeeded_within(for_so_long);
        let failing = Failing { failures: tries.failures, for_so_long, others_succeed };
        if give_up(failing, self.tries_max, self.config.patience.0) {
            let told = format!("given up after {} tries in {} s", tries.failures, for_so_long.as_secs());
            let chain = std::iter::once(told).chain(levels(error.as_error())).collect();
            return Some(Death { reason: "gave_up", chain });
        }
        let wait = delay(tries.failures, self.config.retry_first.0, self.config.retry_max.0, rand::random());
        self.tell("the stage could not do its work, will retry", &error.to_string(), tries.failures, wait);
        self.tries.note(arrival, tries).await;
        arrival.reply.hand_back(&self.connection, Some(wait)).await;
        None
    }

    /// Hands the message back for no fault of its own.
    async fn postpone(&self, arrival: &Arrival, tries: Tries, reason: &str) -> &'static str {
        let tries = tries.handed_back();
        let wait = delay(tries.handed_back, self.config.retry_first.0, self.config.retry_max.0, rand::random());
        self.tell("a store or the broker is away, will retry", reason, tries.handed_back, wait);
        self.tries.note(arrival, tries).await;
        arrival.reply.hand_back(&self.connection, Some(wait)).await;
        "handed_back"
    }

    /// Tells of a failed try, unless people were told just now.
    fn tell(&self, what: &'static str, reason: &str, attempt: u64, wait: Duration) {
        match self.health.failed(reason) {
            Some(untold) => {
                tracing::warn!(consumer = S::CONSUMER, attempt, ?wait, untold, error = reason, "{what}");
            }
            None => tracing::debug!(consumer = S::CONSUMER, attempt, ?wait, error = reason, "{what}"),
        }
    }

    /// Hands the message back at once: we stop.
    async fn hand_back(&self, arrival: &Arrival) {
        if let Ok(tries) = self.tries.of(arrival).await {
            self.tries.note(arrival, tries.handed_back()).await;
        }
        arrival.reply.hand_back(&self.connection, None).await;
    }

    /// Moves a message to the dead letters, answers its upload, and lets the stage put right what depends on it.
    async fn bury(&self, arrival: &Arrival, death: &Death) -> Result<(), Failure> {
        let input = S::Input::read(arrival).ok();
        let upload = input.as_ref().map_or_else(|| arrival.upload(), |input| input.upload(arrival));
        let cause = match &input {
            Some(input) => format!("{}.{}.dead", arrival.consumer.name, input.identity(arrival)),
            None => format!("{}.#{}.dead", arrival.consumer.name, arrival.stream_sequence),
        };
        if let Some(input) = input {
            let delivery = Delivery { input, upload, received_at: arrival.received_at(), attempt: arrival.attempt };
            match AssertUnwindSafe(self.stage.fallen(delivery)).catch_unwind().await {
                Ok(Ok(outcome)) => {
                    let mut chain = Chain::of(&format!("{cause}.fallen"), &outcome.notices);
                    self.commit(&chain).await?;
                    let messages = chain.take_messages();
                    publish_all(&self.connection, &messages).await.map_err(|e| Failure::around(&e))?;
                }
                Ok(Err(error)) if error.class() == Class::Retry => return Err(Failure::Away(error.to_string())),
                Ok(Err(error)) if error.class() == Class::Halt => return Err(Failure::Halt(error.to_string())),
                Ok(Err(error)) => tracing::error!(%error, "what depends on a dead message was not put right"),
                Err(panic) => {
                    tracing::error!(error = words(&*panic), "what depends on a dead message was not put right")
                }
            }
        }
        let input = S::Input::read(arrival).ok();
        let obituary = S::Input::obituary(input, arrival, death);
        let upload = upload.or(match &obituary {
            Some(Notice::Answer(answer)) => Some(answer.upload),
            _ => None,
        });
        let mut messages = vec![Outgoing::dead(&letter(arrival, death, upload))];
        messages.extend(obituary.map(|notice| Outgoing::notice(&notice, &cause)));
        publish_all(&self.connection, &messages).await.map_err(|e| Failure::around(&e))?;
        metrics::counter!(names::STAGE_DEAD, "consumer" => S::CONSUMER).increment(1);
        tracing::warn!(reason = death.reason, error = death.chain.join(": "), "a message went to the dead letters");
        if let Err(error) = arrival.reply.confirm(&self.connection, AckKind::Term, CONFIRM_MAX).await {
            tracing::debug!(%error, "the end of a message was not confirmed, it will come again");
        }
        self.tries.forget(arrival).await;
        Ok(())
    }
}

impl<S: Stage<Input: Input>> Taker for Worker<S> {
    fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    fn take(&self, fact: Notice, photo: Photo) -> BoxFuture<'_, Result<(Outcome, Link), Failure>> {
        let Photo { upload, received_at, attempt, .. } = photo;
        let span = tracing::debug_span!(
            "handed over",
            otel.name = S::CONSUMER,
            consumer = S::CONSUMER,
            upload = upload.0,
            attempt
        );
        let take = async move {
            let _place = self.guests.acquire().await.expect("the places are never closed");
            let mut in_flight = self.health.received(attempt);
            let input = S::Input::handed(fact).expect("the line knows who takes what");
            match self.process(Delivery { input, upload: Some(upload), received_at, attempt }).await {
                Ok(outcome) => {
                    in_flight.processed();
                    let link = Link::new(self.health.clone(), in_flight, outcome.kind(), self.index.clone());
                    Ok((outcome, link))
                }
                Err(failure) => {
                    in_flight.answered("handed_back");
                    Err(failure)
                }
            }
        };
        take.instrument(span).boxed()
    }
}

fn letter(arrival: &Arrival, death: &Death, upload: Option<dih_core::UploadSeq>) -> DeadLetter {
    let headers = arrival.headers.iter();
    let headers = headers.flat_map(|(name, values)| values.iter().map(move |v| (name.to_string(), v.to_string())));
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    DeadLetter {
        consumer: arrival.consumer.name.to_owned(),
        subject: arrival.subject.clone(),
        payload: arrival.payload.clone(),
        headers,
        stream: arrival.consumer.stream.to_owned(),
        stream_sequence: arrival.stream_sequence,
        upload,
        reasons: std::iter::once(death.reason.to_owned()).chain(death.chain.iter().cloned()).collect(),
        attempts: arrival.attempt,
        at: Millis::now(),
    }
}

fn crashed(tries: Tries) -> Death {
    let told = format!("the process died, or lost its lease, {} times while it worked on this alone", tries.alone);
    Death { reason: "crashed", chain: vec![told] }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the stage panicked: {}", text.unwrap_or_else(|| "no message".to_owned()))
}
