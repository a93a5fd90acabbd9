//! Hand-over: a photo goes on from stage to stage of this process within its one delivery.
//!
//! Takes    what a stage made of a delivery, and the other stages. Gives all that is left to be published, each message
//!          under the name that it would have by way of the broker.
//! Keeps    nothing. The writes of all its stages are made durable together, and only then is anything published.
//! Crash    safe at any line: the delivery comes again, and every stage finds what it wrote and says it again.
//! Weak at  a photo that kills its process is tried twice more: alone it goes by way of the broker, where it is found out.
//!
//! Only the fact that continues the delivery's own photo is handed over, and only downstream: so a chain is as long as the
//! table at most. What follows for other photos is published. A stage that cannot do its work is no reason to do that of
//! the others again: the fact is published, and the stage's own consumer tries it, counts, and buries it.

use std::sync::Arc;

use dih_core::{Epoch, Millis, Notice, Outcome, StageName, UploadSeq, ports::Index, topology::ConsumerSpec};

use super::line::{Line, Taker};
use crate::{
    Health,
    failpoint::{Place, pass},
    health::InFlight,
    input::identity_of,
    outgoing::{Outgoing, taker_of},
};

/// The photo that a delivery is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Photo {
    pub(super) upload: UploadSeq,
    pub(super) epoch: Epoch,
    /// When the broker took it.
    pub(super) received_at: Option<Millis>,
    /// Of the delivery.
    pub(super) attempt: u64,
}

/// One stage's part in a chain; counts as in flight until the whole chain is done.
pub(super) struct Link {
    health: Health,
    in_flight: InFlight,
    outcome: &'static str,
    index: Option<Arc<dyn Index>>,
}

impl Link {
    pub(super) fn new(
        health: Health,
        in_flight: InFlight,
        outcome: &'static str,
        index: Option<Arc<dyn Index>>,
    ) -> Self {
        Self { health, in_flight, outcome, index }
    }
}

/// What came of a delivery.
#[derive(Default)]
pub(super) struct Chain {
    messages: Vec<Outgoing>,
    links: Vec<Link>,
}

impl Chain {
    /// What a single stage says, not handed over.
    pub(super) fn of(cause: &str, notices: &[Notice]) -> Self {
        let messages = notices.iter().map(|notice| Outgoing::notice(notice, cause)).collect();
        Self { messages, links: Vec::new() }
    }

    /// Hands on what `from` says about the photo, as far as there are stages to take it.
    pub(super) async fn follow(
        line: &Line,
        mut from: &'static ConsumerSpec,
        mut cause: String,
        outcome: Outcome,
        photo: Option<Photo>,
    ) -> Self {
        let mut chain = Self::default();
        let mut notices = outcome.notices;
        while let Some(photo) = photo
            && let Some(at) = notices.iter().position(|notice| continues(notice, photo, from.stage))
            && let Some((to, next_cause, taker)) = taker(line, &notices[at])
        {
            pass(to.name, Place::BeforeTake);
            match taker.take(notices[at].clone(), photo).await {
                Ok((outcome, link)) => {
                    notices.remove(at);
                    chain.say(&cause, &notices);
                    chain.links.push(link);
                    (from, cause, notices) = (to, next_cause, outcome.notices);
                }
                Err(failure) => {
                    tracing::debug!(
                        consumer = to.name,
                        error = failure.reason(),
                        "could not be handed over, is published"
                    );
                    break;
                }
            }
        }
        chain.say(&cause, &notices);
        chain
    }

    /// Notes on all that is about this photo when the broker took it.
    pub(super) fn received(&mut self, photo: Option<Photo>) {
        let Some(photo) = photo else { return };
        for message in self.messages.iter_mut().filter(|message| message.upload == Some(photo.upload)) {
            message.received_at = photo.received_at;
        }
    }

    /// Notes on all to which trace they belong.
    pub(super) fn traced(&mut self, trace: Option<&str>) {
        for message in &mut self.messages {
            message.trace = trace.map(str::to_owned);
        }
    }

    fn say(&mut self, cause: &str, notices: &[Notice]) {
        self.messages.extend(notices.iter().map(|notice| Outgoing::notice(notice, cause)));
    }

    /// Leaves none.
    pub(super) fn take_messages(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.messages)
    }

    /// Every index that was written to, once; `own` is that of the first stage.
    pub(super) fn indexes<'a>(&'a self, own: Option<&'a Arc<dyn Index>>) -> Vec<&'a Arc<dyn Index>> {
        let mut indexes: Vec<&Arc<dyn Index>> = Vec::new();
        for index in own.into_iter().chain(self.links.iter().filter_map(|link| link.index.as_ref())) {
            if !indexes.iter().any(|known| Arc::ptr_eq(known, index)) {
                indexes.push(index);
            }
        }
        indexes
    }

    /// All is published and acknowledged.
    pub(super) fn succeeded(self) {
        for link in self.links {
            link.health.succeeded();
            link.in_flight.answered(link.outcome);
        }
    }
}

/// Whether a notice is how this very photo goes on.
fn continues(notice: &Notice, photo: Photo, from: StageName) -> bool {
    taker_of(notice)
        .is_some_and(|(taker, image)| taker.stage > from && (image.upload, image.epoch) == (photo.upload, photo.epoch))
}

/// The stage that takes a fact here, its consumer, and the cause of what it will say.
fn taker(line: &Line, fact: &Notice) -> Option<(&'static ConsumerSpec, String, Arc<dyn Taker>)> {
    let (spec, image) = taker_of(fact)?;
    Some((spec, format!("{}.{}", spec.name, identity_of(image)), line.ready(spec.name)?))
}
