//! Dedupe: lets the earliest picture of each group of equals through.
//!
//! Takes    `ImageStored`. Gives `ImageUnique`, or answers `duplicate` and names the picture it repeats.
//! Keeps    one record per content in the index: claimed once; the earliest writer stays.
//! Crash    safe at any line: a second delivery finds its own record and repeats its own decision.
//! Weak at  crops beyond a few per cent and tilts change the fingerprint too much; cluster finds those by vector.

use std::sync::Arc;

use dih_core::{
    Delivery, Notice, Outcome, Stage, StageError, StageName,
    config::Faults,
    event::{Image, ImageStored, ImageUnique},
    ports::{Index, NearFingerprint},
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat, Settlement, Twin, settle},
    verdict::{Answer, Decision},
};
use dih_repeats::{
    Candidate, Prover,
    succession::{self, Standing},
    suspects,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bits by which the distance of two pictures may depend on which of the two is turned: every orientation is taken at a
/// median of its own.
const TURNED: u32 = 2;

/// Settings of the dedupe stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most bits of 64 by which two fingerprints may differ to be compared on their pixels. A candidate is not a
    /// verdict: 10 pairs hundreds of different garments, and finds every recompressed, resized or brightened copy.
    pub distance_max: u32,
    /// Most earlier pictures to compare on their pixels, nearest first, and eight times as many later ones.
    pub candidates_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { distance_max: 10, candidates_max: 32 }
    }
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        let sane = self.distance_max <= 24;
        faults.require(sane, "dedupe.distance_max", "is above 24, where fingerprints are random", "try `10`");
        faults.require(self.candidates_max > 0, "dedupe.candidates_max", "is 0: no repeat can be found", "try `32`");
    }
}

#[derive(Debug)]
pub struct Dedupe {
    config: Config,
    index: Arc<dyn Index>,
    prover: Arc<Prover>,
}

impl Dedupe {
    pub fn new(config: Config, index: Arc<dyn Index>, prover: Arc<Prover>) -> Self {
        Self { config, index, prover }
    }

    /// Takes the content, or finds who has it. A later epoch finds its own record and opens it again.
    async fn claim(&self, image: &Image) -> Result<Record, StageError> {
        let mut holder = self.index.claim(&Record::claimed(image.clone())).await?;
        if holder.upload() == image.upload && holder.epoch < image.epoch {
            let reopened = Change { epoch: Some(image.epoch), ..Change::to(State::Claimed) };
            self.index.change(image.id, &reopened).await?;
            holder = Record { epoch: image.epoch, state: State::Claimed, ..holder };
        }
        Ok(holder)
    }

    /// Settles the picture against its proven twins, and writes the decision down.
    async fn decide(&self, mut image: Image) -> Result<Outcome, StageError> {
        loop {
            let own = match succession::standing(&*self.index, &image).await? {
                Standing::Stands(record) if record.state == State::Claimed => record,
                decided => return self.say_again(image, decided).await,
            };
            match self.settle(&own).await? {
                Settlement::First { yields } => {
                    let change = Change { repeat: Some(None), ..Change::to(State::Unique) };
                    if self.index.change_from(image.id, &[State::Claimed], &change).await? {
                        image.lineage.push(first(yields.len()));
                        return self.stay(image, &yields).await;
                    }
                }
                Settlement::Repeat { of } => {
                    if let Some(repeat) = succession::yield_to(&*self.index, image.id, State::Claimed, &of).await? {
                        return self.answer_repeat(image, repeat).await;
                    }
                }
            }
        }
    }

    async fn settle(&self, own: &Record) -> Result<Settlement, StageError> {
        let twins = self.prover.twins(own, self.candidates(own).await?).await?;
        Ok(settle(own.id(), own.order(), &twins))
    }

    /// The picture goes on, and those that were let through before it yield.
    async fn stay(&self, image: Image, yields: &[Twin]) -> Result<Outcome, StageError> {
        let outcome = Outcome::emit(Notice::Unique(ImageUnique { image: image.clone() }));
        match yields {
            [] => Ok(outcome),
            _ => Ok(outcome.and_all(succession::demote_all(&*self.index, StageName::Dedupe, &image, yields).await?)),
        }
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since: says it again.
    async fn say_again(&self, mut image: Image, standing: Standing) -> Result<Outcome, StageError> {
        match standing {
            Standing::Superseded => Ok(Outcome::superseded()),
            Standing::Yielded(repeat) => self.answer_repeat(image, repeat).await,
            Standing::Stands(own) => {
                let yields = match self.settle(&own).await? {
                    Settlement::First { yields } if own.state.stands() => yields,
                    _ => Vec::new(), // refused since, or the earlier one will make it yield
                };
                let again = succession::demote_all(&*self.index, StageName::Dedupe, &image, &yields).await?;
                image.lineage.push(first(yields.len()));
                Ok(Outcome::emit(Notice::Unique(ImageUnique { image })).and_all(again))
            }
        }
    }

    async fn answer_repeat(&self, mut image: Image, repeat: Repeat) -> Result<Outcome, StageError> {
        image.lineage.push(self.found(&repeat));
        Ok(succession::answer_repeat(&*self.index, &image, StageName::Dedupe, repeat).await?)
    }

    async fn candidates(&self, own: &Record) -> Result<Vec<Candidate>, StageError> {
        let queries = &own.image.fingerprints.orientations;
        let Config { distance_max, candidates_max: most } = self.config;
        let wanted = most * suspects::SEARCHED + 1; // itself comes along
        let near = self.index.near_fingerprints(queries, distance_max + TURNED, &State::STANDING, wanted).await?;
        let others = near.into_iter().filter(|n| n.record.id() != own.id()).map(|n| as_the_later_sees_it(own, n));
        let others = others.filter(|n| n.distance <= distance_max);
        let candidate = |n: NearFingerprint| Candidate {
            record: n.record,
            found_by: FoundBy::Fingerprint { distance: n.distance, orientation: n.query as u8 },
        };
        let suspects = suspects::of_either_side(own.order(), others, |n| n.record.order(), most);
        Ok(suspects.into_iter().map(candidate).collect())
    }

    fn found(&self, repeat: &Repeat) -> Decision {
        let decision = Decision::new(StageName::Dedupe, "repeat").because(format!("of upload {}", repeat.of_upload));
        match repeat.found_by {
            FoundBy::Fingerprint { distance, .. } => {
                let decision = decision.scored(distance as f32, self.config.distance_max as f32);
                decision.calibrated(self.prover.error())
            }
            FoundBy::Content | FoundBy::Vector { .. } => decision,
        }
    }
}

impl Stage for Dedupe {
    const CONSUMER: &'static str = "dedupe";
    type Input = ImageStored;

    async fn process(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        let mut image = delivery.input.image;
        let holder = self.claim(&image).await?;
        if holder.upload() == image.upload {
            return self.decide(image).await;
        }
        self.index.vote(image.id, image.upload, &image.labels).await?;
        // Nothing earlier than the order arrives but the vote that gave it.
        let forward = match image.upload <= holder.order() {
            true => succession::reconsider(&*self.index, image.id).await?,
            false => Vec::new(),
        };
        let repeat = same_content(&holder);
        image.lineage.push(self.found(&repeat));
        Ok(Outcome::answer(Answer::repeats(&image, StageName::Dedupe, repeat)).and_all(forward))
    }

    async fn fallen(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
    }
}

/// The later of two is turned onto the earlier, whichever is under decision: so both find each other, or neither does.
fn as_the_later_sees_it(own: &Record, near: NearFingerprint) -> NearFingerprint {
    if near.record.order() < own.order() {
        return near;
    }
    let onto = own.image.fingerprints.upright();
    let turned = near.record.image.fingerprints.orientations.iter().enumerate();
    let nearest = turned.map(|(query, fingerprint)| (fingerprint.distance(onto), query)).min();
    match nearest {
        Some((distance, query)) => NearFingerprint { distance, query, ..near },
        None => near,
    }
}

fn same_content(holder: &Record) -> Repeat {
    Repeat {
        of: holder.id(),
        of_upload: holder.upload(),
        of_source: holder.image.source.clone(),
        found_by: FoundBy::Content,
        evidence: None,
    }
}

fn first(later: usize) -> Decision {
    let decision = Decision::new(StageName::Dedupe, "first");
    match later {
        0 => decision,
        n => decision.because(format!("{n} later pictures yield to it")),
    }
}
