//! Verify: refuses pictures that break a quality rule or are unsafe, and doubts labels that are absurd.
//!
//! Takes    `ImageUnique`. Gives `ImageVerified`, or answers `rejected` (a rule) or `held` (the label).
//! Keeps    the vector of what passes, so that embed need not look again; the state of what does not.
//! Crash    safe at any line: rules and model say the same again, and a refused picture releases its repeats again.
//! Weak at  labels that the classifier's vocabulary lacks: their judgement is left to the neighbours and the cut.

mod config;
mod plausible;
mod rules;

use std::sync::Arc;

pub use config::Config;
use dih_core::{
    Delivery, Notice, Outcome, Stage, StageError, StageName,
    calibration::Calibrations,
    event::{Image, ImageUnique, ImageVerified},
    ports::{Index, Safety, StoreError, Vision},
    record::{Change, State},
    verdict::{Answer, Decision, Status},
};
use dih_repeats::succession;
use dih_taxonomy::witness::Witness;
pub use plausible::{Plausibility, Vocabulary};
pub use rules::{Bound, Breach, Rule, breach, rules};

#[derive(Debug)]
pub struct Verify {
    config: Config,
    index: Arc<dyn Index>,
    vision: Arc<dyn Vision>,
    vocabulary: Vocabulary,
    calibrations: Calibrations,
    safety: Option<Arc<dyn Safety>>,
}

impl Verify {
    pub fn new(config: Config, index: Arc<dyn Index>, vision: Arc<dyn Vision>) -> Self {
        let vocabulary = Vocabulary::new(vision.classes());
        Self { config, index, vision, vocabulary, calibrations: Calibrations::default(), safety: None }
    }

    /// Writes the measured errors of the thresholds into the lineage of what they refuse.
    pub fn calibrated(self, calibrations: Calibrations) -> Self {
        Self { calibrations, ..self }
    }

    /// Has every picture that keeps the rules looked at by a safety model, before any other model.
    #[must_use]
    pub fn guarded(self, safety: Option<Arc<dyn Safety>>) -> Self {
        Self { safety, ..self }
    }

    /// Adds what a class map and the taxonomy say of the classifier's classes.
    #[must_use]
    pub fn knowing(mut self, witness: Witness) -> Self {
        self.vocabulary = self.vocabulary.with(witness);
        self
    }

    /// Refuses the picture; whoever repeated it is decided again.
    async fn reject(&self, mut image: Image, breach: &Breach, by: Option<&str>) -> Result<Outcome, StageError> {
        let decision = Decision::new(StageName::Verify, breach.reason).scored(breach.score, breach.threshold);
        let decision = by.into_iter().fold(decision, Decision::by);
        let error = self.calibrations.of(breach.setting, breach.threshold);
        image.lineage.push(decision.calibrated(error));
        let change = Change { reason: Some(breach.reason.into()), ..Change::to(State::Rejected) };
        self.index.change(image.id, &change).await?;
        let released = succession::release(&*self.index, image.id).await?;
        let answer = Answer::about(&image, Status::Rejected, StageName::Verify, breach.reason);
        Ok(Outcome::answer(answer.because(breach.to_string())).and_all(released))
    }

    /// Asks the safety model, if there is one. Refused, not held: what is held is shown to people, and published beside
    /// the version.
    async fn guard(&self, mut image: Image) -> Result<Outcome, StageError> {
        let Some(safety) = &self.safety else { return self.look(image).await };
        let score = safety.unsafe_score(image.id).await?;
        if let Some(breach) = rules::safety(score, &self.config).breach() {
            return self.reject(image, &breach, Some(safety.model())).await;
        }
        let decision = Decision::new(StageName::Verify, "safe").scored(score, self.config.unsafe_max);
        image.lineage.push(decision.by(safety.model()));
        self.look(image).await
    }

    /// Looks at the picture once, for the label now and for the vector later.
    async fn look(&self, mut image: Image) -> Result<Outcome, StageError> {
        let sight = self.vision.look(image.id).await?;
        let probabilities = sight.probabilities.as_deref().unwrap_or_default();
        let seen = self.vocabulary.judge(&image.labels, probabilities);
        image.lineage.push(self.witness(&seen));
        let absurd = seen.score.filter(|s| *s < self.config.label_score_min);
        match absurd.filter(|_| seen.top_probability >= self.config.top_probability_min) {
            Some(score) => self.hold(image, score, &seen).await,
            None => {
                // Only of what goes on: others would be compared with one that never is itself. The record says so first: if
                // it yields from here on, cluster is to know.
                let space = self.vision.space();
                let change = Change { label_score: seen.score, space: Some(space.clone()), ..Change::default() };
                self.index.change(image.id, &change).await?;
                self.index.put_vector(image.id, space, &sight.embedding).await?;
                Ok(Outcome::emit(Notice::Verified(ImageVerified { image, label_score: seen.score })))
            }
        }
    }

    async fn hold(&self, image: Image, score: f32, seen: &Plausibility) -> Result<Outcome, StageError> {
        const REASON: &str = "label_absurd";
        let change = Change { label_score: Some(score), reason: Some(REASON.into()), ..Change::to(State::Held) };
        let ours = self.index.change_from(image.id, &[State::Unique], &change).await?;
        if !ours && let Some(said) = self.overtaken(&image).await? {
            return Ok(said); // an earlier picture arrived while we looked
        }
        let looks_like = format!("looks like {:?} ({:.2})", seen.top_class, seen.top_probability);
        let answer = Answer::about(&image, Status::Held, StageName::Verify, REASON).scored(Some(score));
        Ok(Outcome::answer(answer.because(looks_like)))
    }

    async fn overtaken(&self, image: &Image) -> Result<Option<Outcome>, StoreError> {
        succession::overtaken(&*self.index, image, StageName::Verify).await
    }

    fn witness(&self, seen: &Plausibility) -> Decision {
        let decision = match seen.score {
            Some(score) => {
                let what = if score < self.config.label_score_min { "label_doubtful" } else { "label_plausible" };
                Decision::new(StageName::Verify, what).scored(score, self.config.label_score_min)
            }
            None => Decision::new(StageName::Verify, "label_unknown"),
        };
        let looks_like = format!("looks most like {:?} ({:.2})", seen.top_class, seen.top_probability);
        decision.by(self.vision.model()).because(looks_like)
    }
}

impl Stage for Verify {
    const CONSUMER: &'static str = "verify";
    type Input = ImageUnique;

    async fn process(&self, delivery: Delivery<ImageUnique>) -> Result<Outcome, StageError> {
        let image = delivery.input.image;
        if let Some(said) = self.overtaken(&image).await? {
            return Ok(said);
        }
        match breach(image.size, &image.measures, &self.config) {
            Some(breach) => self.reject(image, &breach, None).await,
            None => self.guard(image).await,
        }
    }

    async fn fallen(&self, delivery: Delivery<ImageUnique>) -> Result<Outcome, StageError> {
        succession::fall(&*self.index, &delivery.input.image).await
    }
}
