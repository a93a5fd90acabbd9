//! Dedupe: lets the earliest picture of each group of equals through.
//!
//! Takes    `ImageStored`. Gives `ImageUnique`, or answers `duplicate` and names the picture it repeats.
//! Keeps    one record per content in the index: claimed once; the earliest writer stays.
//! Refused  pictures have repeats, too: what breaks a rule and repeats a refused picture is answered `duplicate`, and what
//!          breaks none goes on, so nothing is lost because its first copy was bad.
//! Crash    safe at any line: a second delivery finds its own record and repeats its own decision.
//! Weak at  crops beyond a tenth of each side, off the centre or of a turned picture, and tilts, change the fingerprint too
//!          much; cluster finds those by vector. A repeat that is processed before its refused original is refused by itself.

mod candidates;
mod foresight;

use std::sync::Arc;

use dih_core::{
    Delivery, ImageId, Notice, Outcome, Stage, StageError, StageName,
    config::Faults,
    event::{Image, ImageStored, ImageUnique},
    ports::Index,
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat, Settlement, Twin, settle},
    verdict::{Answer, Decision},
};
use dih_repeats::{
    Prover,
    succession::{self, Standing},
};
pub use foresight::Foresight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the dedupe stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most bits of 64 by which two fingerprints may differ to be compared on their pixels; it is always even. A candidate
    /// is not a verdict: 8 pairs dozens of different garments, and finds every recompressed, resized or brightened copy and
    /// nearly every one that is cropped by up to a tenth of each side. The others are found by vector. Turned and mirrored
    /// copies are looked for within half as many bits, as hardly one changes.
    pub distance_max: u32,
    /// Most earlier pictures to compare on their pixels, nearest first, and eight times as many later ones.
    pub candidates_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { distance_max: 8, candidates_max: 32 }
    }
}

impl Config {
    pub fn check(&self, faults: &mut Faults) {
        let sane = self.distance_max <= 24;
        faults.require(sane, "dedupe.distance_max", "is above 24, where fingerprints are random", "try `8`");
        faults.require(self.candidates_max > 0, "dedupe.candidates_max", "is 0: no repeat can be found", "try `32`");
    }
}

#[derive(Debug)]
pub struct Dedupe {
    config: Config,
    index: Arc<dyn Index>,
    prover: Arc<Prover>,
    foresight: Foresight,
}

impl Dedupe {
    pub fn new(config: Config, index: Arc<dyn Index>, prover: Arc<Prover>) -> Self {
        Self { config, index, prover, foresight: Foresight::default() }
    }

    /// Tells which pictures will be refused for their quality: they may also repeat what was refused.
    #[must_use]
    pub fn foreseeing(self, foresight: Foresight) -> Self {
        Self { foresight, ..self }
    }

    /// Takes the content, or finds who has it. A later epoch finds its own record and opens it again.
    async fn claim(&self, image: &Image) -> Result<Record, StageError> {
        let mut holder = self.index.claim(&Record::claimed(image.clone())).await?;
        if holder.upload() == image.upload && holder.epoch < image.epoch {
            let reopened = Change { epoch: Some(image.epoch), ..Change::to(State::Claimed) };
            self.index.change(image.id, &reopened).await?;
            holder = self.index.get(image.id).await?.unwrap_or(holder);
        }
        Ok(holder)
    }

    /// Settles the picture against its proven twins, and writes the decision down.
    async fn decide(&self, mut image: Image, claimed: Record) -> Result<Outcome, StageError> {
        let mut just_read = Some(claimed);
        loop {
            let standing = match just_read.take() {
                Some(record) => succession::standing_by(record, &image),
                None => succession::standing(&*self.index, &image).await?,
            };
            let own = match standing {
                Standing::Stands(record) if record.state == State::Claimed => record,
                decided => return self.say_again(image, decided).await,
            };
            let mut settlement = self.settle(&own).await?;
            if let Settlement::First { .. } = settlement
                && let Some(twin) = self.original_of_refused(&own).await?
            {
                if !twin.stands {
                    match succession::refuse_with(&*self.index, image.id, &twin).await? {
                        Some(repeat) => return self.answer_refused(image, repeat).await,
                        None => continue, // overtaken
                    }
                }
                settlement = Settlement::Repeat { of: twin };
            }
            match settlement {
                Settlement::First { yields } => {
                    let change = Change { repeat: Some(None), ..Change::to(State::Unique) };
                    if self.index.change_from(image.id, &[State::Claimed], &change).await? {
                        image.lineage.push(first(yields.len()));
                        return self.stay(image, &own, &yields).await;
                    }
                }
                Settlement::Repeat { of } => {
                    if let Some(repeat) = succession::yield_to(&*self.index, image.id, State::Claimed, &of).await? {
                        let before = if own.epoch.0 > 0 { self.stood(*own).await? } else { Vec::new() };
                        return Ok(self.answer_repeat(image, repeat).await?.and_all(before));
                    }
                }
            }
        }
    }

    /// What follows from a picture having yielded that may have stood before. Says again of later repeats that they were let go:
    /// perhaps it did so while it stood, and died before it could. And others may have been compared with its vector.
    async fn stood(&self, own: Record) -> Result<Vec<Notice>, StageError> {
        let later = candidates::of(&*self.index, &own, &self.config).await?.into_iter().map(|c| c.record);
        let mut notices = Vec::new();
        for record in later.filter(|record| record.order() > own.order() && record.state == State::Claimed) {
            notices.extend(succession::let_go(&*self.index, (*record).clone()).await?);
        }
        notices.extend(succession::look_again(own));
        Ok(notices)
    }

    /// Settles a picture against its proven twins. To one that stays also those yield that had yielded to another.
    async fn settle(&self, own: &Record) -> Result<Settlement, StageError> {
        let candidates = candidates::of(&*self.index, own, &self.config).await?;
        let twins = self.prover.twins(own, candidates).await?;
        let mut settlement = settle(own.id(), own.order(), &twins);
        if let Settlement::First { yields } = &mut settlement {
            yields.extend(twins.into_iter().filter(|twin| !twin.stands));
        }
        Ok(settlement)
    }

    /// The earliest picture, refused or not, that a picture repeats which will be refused. It is never published, so whom
    /// it yields to changes nothing for others.
    async fn original_of_refused(&self, own: &Record) -> Result<Option<Twin>, StageError> {
        if self.foresight.breach(&own.image).is_none() {
            return Ok(None);
        }
        let candidates = candidates::of_refused(&*self.index, own, &self.config).await?;
        Ok(self.prover.twins(own, candidates).await?.into_iter().min_by_key(|twin| twin.order))
    }

    /// The picture goes on, and those that were let through before it yield.
    async fn stay(&self, image: Image, own: &Record, yields: &[Twin]) -> Result<Outcome, StageError> {
        let outcome = Outcome::emit(Notice::Unique(ImageUnique { image }));
        match yields {
            [] => Ok(outcome),
            _ => Ok(outcome.and_all(succession::demote_all(&*self.index, StageName::Dedupe, own, yields).await?)),
        }
    }

    /// What follows for others from a picture that stays, said again or after it moved forward in the order; and for how many.
    async fn follows(&self, own: &Record) -> Result<(usize, Vec<Notice>), StageError> {
        let yields = match self.settle(own).await? {
            Settlement::First { yields } if own.state.stands() => yields,
            _ => Vec::new(), // refused since, or the earlier one will make it yield
        };
        let notices = succession::demote_all(&*self.index, StageName::Dedupe, own, &yields).await?;
        Ok((yields.len(), notices))
    }

    /// The decision was made before, by an earlier try or by an earlier picture that arrived since: says it again.
    async fn say_again(&self, mut image: Image, standing: Standing) -> Result<Outcome, StageError> {
        match standing {
            Standing::Superseded => Ok(succession::superseded(&*self.index, &image, StageName::Dedupe).await?),
            Standing::Yielded(own, repeat) => {
                let anew = match self.settle(&own).await? {
                    Settlement::Repeat { of } => succession::prefer(&*self.index, &own, &of).await?,
                    Settlement::First { .. } => Vec::new(),
                };
                let before = self.stood(*own).await?;
                Ok(self.answer_repeat(image, repeat).await?.and_all(anew).and_all(before))
            }
            Standing::Stands(own) => {
                if let (State::Rejected, Some(repeat)) = (own.state, own.repeat.clone()) {
                    return self.answer_refused(image, repeat).await;
                }
                let (yields, follows) = self.follows(&own).await?;
                image.lineage.push(first(yields));
                Ok(Outcome::emit(Notice::Unique(ImageUnique { image })).and_all(follows))
            }
        }
    }

    /// What follows from a picture having moved forward in the order.
    async fn move_forward(&self, id: ImageId) -> Result<Vec<Notice>, StageError> {
        let mut notices = succession::reconsider(&*self.index, id).await?;
        let Some(own) = self.index.get(id).await? else { return Ok(notices) };
        if own.state.stands() {
            notices.extend(self.follows(&own).await?.1);
        }
        if own.state.stands() || own.state == State::Repeat {
            notices.extend(succession::look_again(own)); // it is compared with others by now
        }
        Ok(notices)
    }

    async fn answer_repeat(&self, mut image: Image, repeat: Repeat) -> Result<Outcome, StageError> {
        image.lineage.push(self.found(&repeat));
        Ok(succession::answer_repeat(&*self.index, &image, StageName::Dedupe, repeat).await?)
    }

    /// Both break a rule: a repeat all the same. Whoever yielded to it meanwhile is decided again.
    async fn answer_refused(&self, mut image: Image, repeat: Repeat) -> Result<Outcome, StageError> {
        let broken = self.foresight.breach(&image).unwrap_or("refused");
        image.lineage.push(Decision::new(StageName::Dedupe, broken));
        image.lineage.push(self.found(&repeat));
        let released = succession::release(&*self.index, image.id).await?;
        let answer = Answer::repeats(&image, StageName::Dedupe, repeat);
        Ok(Outcome::answer(answer.because(format!("both are refused, this one as {broken}"))).and_all(released))
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
            return self.decide(image, holder).await;
        }
        self.index.vote(image.id, image.upload, &image.labels).await?;
        // Nothing earlier than the order arrives but the vote that gave it.
        let forward = match image.upload <= holder.order() {
            true => self.move_forward(image.id).await?,
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
