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
    ports::Index,
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat, Settlement, Twin, settle},
    verdict::{Answer, Decision},
};
use dih_repeats::{Candidate, Prover, succession, suspects};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
        Self { distance_max: 10, candidates_max: 8 }
    }
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        let sane = self.distance_max <= 24;
        faults.require(sane, "dedupe.distance_max", "is above 24, where fingerprints are random", "try `10`");
        faults.require(self.candidates_max > 0, "dedupe.candidates_max", "is 0: no repeat can be found", "try `8`");
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
    async fn decide(&self, mut image: Image, mut own: Record) -> Result<Outcome, StageError> {
        loop {
            let twins = self.prover.twins(&own, self.candidates(&own).await?).await?;
            match settle(own.id(), own.order(), &twins) {
                Settlement::First { yields } => {
                    image.lineage.push(first(twins.len()));
                    let change = Change { repeat: Some(None), ..Change::to(State::Unique) };
                    if !self.index.change_from(image.id, &[State::Claimed], &change).await? {
                        return self.repeat_decision(image).await;
                    }
                    let mut outcome = Outcome::emit(Notice::Unique(ImageUnique { image: image.clone() }));
                    for twin in &yields {
                        let index = &*self.index;
                        outcome = outcome.and_all(succession::demote(index, StageName::Dedupe, &image, twin).await?);
                    }
                    return Ok(outcome);
                }
                Settlement::Repeat { of } => {
                    if let Some(repeat) = self.yield_to(&image, &of).await? {
                        return Ok(self.answer_repeat(image, repeat));
                    }
                    own = self.index.get(image.id).await?.unwrap_or(own);
                }
            }
        }
    }

    /// Writes that the picture yields. None when the earlier one fell meanwhile, or comes later by now, and all must be
    /// looked at again.
    ///
    /// Write, then look: whoever falls, or learns of an earlier upload, writes first and then looks for those who
    /// yielded. So one of the two always sees the other.
    async fn yield_to(&self, image: &Image, of: &Twin) -> Result<Option<Repeat>, StageError> {
        let Some(original) = self.index.get(of.id).await? else { return Ok(None) };
        let repeat = Repeat {
            of: of.id,
            of_upload: original.upload(),
            of_source: original.image.source,
            found_by: of.found_by,
            evidence: Some(of.evidence),
        };
        let change = Change { repeat: Some(Some(repeat.clone())), ..Change::to(State::Repeat) };
        if !self.index.change_from(image.id, &[State::Claimed], &change).await? {
            return Ok(Some(self.index.get(image.id).await?.and_then(|r| r.repeat).unwrap_or(repeat)));
        }
        if succession::holds(&*self.index, image.id, of.id).await? {
            return Ok(Some(repeat));
        }
        let reopened = self.index.change_from(image.id, &[State::Repeat], &Change::to(State::Claimed)).await?;
        // If somebody released it first, the next epoch carries on and this one is answered as it stood.
        Ok(if reopened { None } else { Some(repeat) })
    }

    async fn candidates(&self, own: &Record) -> Result<Vec<Candidate>, StageError> {
        let queries = &own.image.fingerprints.orientations;
        let most = self.config.candidates_max;
        let wanted = most * suspects::SEARCHED + 1; // itself comes along
        let near = self.index.near_fingerprints(queries, self.config.distance_max, &State::STANDING, wanted).await?;
        let others = near.into_iter().filter(|n| n.record.id() != own.id());
        let candidate = |n: dih_core::ports::NearFingerprint| Candidate {
            record: n.record,
            found_by: FoundBy::Fingerprint { distance: n.distance, orientation: n.query as u8 },
        };
        let suspects = suspects::of_either_side(own.order(), others, |n| n.record.order(), most);
        Ok(suspects.into_iter().map(candidate).collect())
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since: says it again.
    async fn repeat_decision(&self, mut image: Image) -> Result<Outcome, StageError> {
        match succession::standing(&*self.index, &image).await? {
            succession::Standing::Superseded => Ok(Outcome::superseded()),
            succession::Standing::Yielded(repeat) => Ok(self.answer_repeat(image, repeat)),
            succession::Standing::Stands(_) => {
                let again = succession::demoted_before(&*self.index, StageName::Dedupe, image.id).await?;
                if !image.lineage.iter().any(|d| d.what == "first") {
                    image.lineage.push(first(0));
                }
                Ok(Outcome::emit(Notice::Unique(ImageUnique { image })).and_all(again))
            }
        }
    }

    fn answer_repeat(&self, mut image: Image, repeat: Repeat) -> Outcome {
        image.lineage.push(self.found(&repeat));
        Outcome::answer(Answer::repeats(&image, StageName::Dedupe, repeat))
    }

    fn found(&self, repeat: &Repeat) -> Decision {
        let decision = Decision::new(StageName::Dedupe, "repeat").because(format!("of upload {}", repeat.of_upload));
        match repeat.found_by {
            FoundBy::Fingerprint { distance, .. } => decision.scored(distance as f32, self.config.distance_max as f32),
            FoundBy::Content | FoundBy::Vector { .. } => decision,
        }
    }
}

impl Stage for Dedupe {
    const CONSUMER: &'static str = "dedupe";
    type Input = ImageStored;

    async fn process(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        let image = delivery.input.image;
        let holder = self.claim(&image).await?;
        if holder.upload() != image.upload {
            self.index.vote(image.id, image.upload, &image.labels).await?;
            let forward = match image.upload <= holder.order() {
                true => succession::moved_forward(&*self.index, image.id).await?,
                false => Vec::new(),
            };
            return Ok(self.answer_repeat(image, same_content(&holder)).and_all(forward));
        }
        if holder.epoch > image.epoch {
            return Ok(Outcome::superseded());
        }
        if holder.state != State::Claimed {
            return self.repeat_decision(image).await;
        }
        self.decide(image, holder).await
    }

    async fn fallen(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
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
