//! What passes, what is refused, and who takes over.

#![allow(clippy::panic)] // helpers of a test fail by panicking

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dih_core::{
    Delivery, ImageId, Notice, Outcome, Stage, StageError, UploadSeq,
    event::{Image, ImageUnique, VectorSpace},
    ports::{Index, Safety, Sight, Vision},
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat},
    sample::{self, image},
    verdict::Status,
};
use dih_stores::index::MemoryIndex;
use dih_verify::{Config, Verify};

/// Sees the same in every picture.
#[derive(Debug)]
struct FixedSight {
    space: VectorSpace,
    classes: Vec<String>,
    probabilities: Vec<f32>,
    index: Arc<dyn Index>,
    /// What others do to a record while this one looks.
    meanwhile: Arc<Meanwhile>,
}

type Meanwhile = Mutex<Option<(ImageId, Change)>>;

#[async_trait]
impl Vision for FixedSight {
    fn model(&self) -> &str {
        "fixed"
    }
    fn space(&self) -> &VectorSpace {
        &self.space
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    async fn look(&self, _image: ImageId) -> Result<Sight, StageError> {
        let meanwhile = self.meanwhile.lock().expect("one test").take();
        if let Some((id, change)) = meanwhile {
            self.index.change(id, &change).await?;
        }
        Ok(Sight { embedding: vec![3.0, 4.0], probabilities: Some(self.probabilities.clone()) })
    }
}

/// Says the same of every picture.
#[derive(Debug)]
struct FixedSafety(f32);

#[async_trait]
impl Safety for FixedSafety {
    fn model(&self) -> &str {
        "guard"
    }
    async fn unsafe_score(&self, _image: ImageId) -> Result<f32, StageError> {
        Ok(self.0)
    }
}

struct Scene {
    stage: Verify,
    index: Arc<dyn Index>,
    space: VectorSpace,
    meanwhile: Arc<Meanwhile>,
}

/// The classifier gives `cat` this probability, and `dog` the rest.
async fn scene(cat: f32) -> Scene {
    let space = VectorSpace("fixed".into());
    let index: Arc<dyn Index> = Arc::new(MemoryIndex::with_spaces(&[(space.clone(), 2)]));
    let meanwhile = Arc::new(Meanwhile::default());
    let vision = FixedSight {
        space: space.clone(),
        classes: vec!["tabby, cat".into(), "dog".into()],
        probabilities: vec![cat, 1.0 - cat],
        index: index.clone(),
        meanwhile: meanwhile.clone(),
    };
    let stage = Verify::new(Config::default(), index.clone(), Arc::new(vision));
    Scene { stage, index, space, meanwhile }
}

impl Scene {
    async fn claim(&self, image: &Image, state: State) {
        self.index.claim(&Record::claimed(image.clone())).await.expect("memory");
        self.index.change(image.id, &Change::to(state)).await.expect("memory");
    }

    async fn process(&self, image: Image) -> Outcome {
        let upload = Some(image.upload);
        let delivery = Delivery { input: ImageUnique { image }, upload, received_at: None, attempt: 1 };
        self.stage.process(delivery).await.expect("nothing can fail here")
    }

    async fn state(&self, image: &Image) -> State {
        self.index.get(image.id).await.expect("memory").expect("claimed").state
    }
}

#[tokio::test]
async fn a_good_photo_passes_and_its_vector_is_kept() {
    let scene = scene(0.7).await;
    let photo = image(1, 1);
    scene.claim(&photo, State::Unique).await;
    let outcome = scene.process(photo.clone()).await;
    let [Notice::Verified(verified)] = &outcome.notices[..] else { panic!("{outcome:?}") };
    assert_eq!(verified.label_score, Some(0.7));
    let vector = scene.index.vector(photo.id, &scene.space).await.expect("memory").expect("kept");
    assert!((vector[0] - 0.6).abs() < 1e-6 && (vector[1] - 0.8).abs() < 1e-6, "{vector:?}");
}

#[tokio::test]
async fn a_label_the_classifier_cannot_know_passes_without_a_score() {
    let scene = scene(0.0).await;
    let mut photo = image(1, 1);
    photo.labels = vec![sample::label("aardvark")];
    scene.claim(&photo, State::Unique).await;
    let outcome = scene.process(photo).await;
    let [Notice::Verified(verified)] = &outcome.notices[..] else { panic!("{outcome:?}") };
    assert_eq!(verified.label_score, None);
}

#[tokio::test]
async fn an_absurd_label_is_held_with_what_it_looks_like() {
    let scene = scene(0.0001).await;
    let photo = image(1, 1);
    scene.claim(&photo, State::Unique).await;
    let outcome = scene.process(photo.clone()).await;
    let [Notice::Answer(answer)] = &outcome.notices[..] else { panic!("{outcome:?}") };
    assert_eq!((answer.status, answer.reason.as_str()), (Status::Held, "label_absurd"));
    assert!(answer.detail.as_ref().is_some_and(|d| d.contains("dog")), "{answer:?}");
    assert_eq!(scene.state(&photo).await, State::Held);
    let vector = scene.index.vector(photo.id, &scene.space).await.expect("memory");
    assert_eq!(vector, None, "nobody may be a repeat of a picture that is compared with nobody");
}

#[tokio::test]
async fn a_refused_photo_hands_over_to_its_repeats_and_says_so_again_when_asked_again() {
    let scene = scene(0.7).await;
    let (mut dark, copy) = (image(1, 1), image(2, 2));
    dark.measures.luma_p99 = 0.05;
    scene.claim(&dark, State::Unique).await;
    scene.claim(&copy, State::Unique).await;
    scene.index.change(copy.id, &yielded_to(&dark)).await.expect("memory");
    for _ in 0..2 {
        let outcome = scene.process(dark.clone()).await;
        let [Notice::Answer(refused), Notice::Answer(ended), Notice::Stored(again)] = &outcome.notices[..] else {
            panic!("{outcome:?}")
        };
        assert_eq!((refused.status, refused.reason.as_str()), (Status::Rejected, "too_dark"));
        assert_eq!((ended.upload, ended.epoch.0, ended.status), (UploadSeq(2), 0, Status::Duplicate));
        assert_eq!((again.image.id, again.image.epoch.0), (copy.id, 1));
    }
    assert_eq!(scene.state(&dark).await, State::Rejected);
}

#[tokio::test]
async fn an_unsafe_photo_is_refused_by_score_and_model_and_never_looked_at() {
    let mut scene = scene(0.7).await;
    scene.stage = scene.stage.guarded(Some(Arc::new(FixedSafety(0.81))));
    let photo = image(1, 1);
    scene.claim(&photo, State::Unique).await;
    let outcome = scene.process(photo.clone()).await;
    let [Notice::Answer(answer)] = &outcome.notices[..] else { panic!("{outcome:?}") };
    assert_eq!((answer.status, answer.reason.as_str()), (Status::Rejected, "unsafe"));
    let decision = answer.lineage.last().expect("the decision");
    assert_eq!((decision.score, decision.threshold, decision.model.as_deref()), (Some(0.81), Some(0.8), Some("guard")));
    assert_eq!(scene.state(&photo).await, State::Rejected);
    assert_eq!(scene.index.vector(photo.id, &scene.space).await.expect("memory"), None);
}

#[tokio::test]
async fn a_safe_photo_passes_with_its_score() {
    let mut scene = scene(0.7).await;
    scene.stage = scene.stage.guarded(Some(Arc::new(FixedSafety(0.1))));
    let photo = image(1, 1);
    scene.claim(&photo, State::Unique).await;
    let outcome = scene.process(photo).await;
    let [Notice::Verified(verified)] = &outcome.notices[..] else { panic!("{outcome:?}") };
    let said: Vec<_> = verified.image.lineage.iter().map(|d| (d.what.as_str(), d.score)).collect();
    assert_eq!(said, [("safe", Some(0.1)), ("label_plausible", Some(0.7))]);
}

#[tokio::test]
async fn a_photo_that_had_to_yield_on_the_way_is_answered_as_a_repeat() {
    let scene = scene(0.7).await;
    let (earlier, photo) = (image(1, 1), image(2, 2));
    scene.claim(&earlier, State::Unique).await;
    scene.claim(&photo, State::Unique).await;
    scene.index.change(photo.id, &yielded_to(&earlier)).await.expect("memory");
    let outcome = scene.process(photo).await;
    assert_eq!(outcome.kind(), "duplicate");
}

#[tokio::test]
async fn a_photo_that_has_to_yield_while_its_label_is_looked_at_is_answered_as_a_repeat() {
    let scene = scene(0.0001).await;
    let (earlier, photo) = (image(1, 1), image(2, 2));
    scene.claim(&earlier, State::Unique).await;
    scene.claim(&photo, State::Unique).await;
    *scene.meanwhile.lock().expect("one test") = Some((photo.id, yielded_to(&earlier)));
    let outcome = scene.process(photo.clone()).await;
    assert_eq!(outcome.kind(), "duplicate");
    assert_eq!(scene.state(&photo).await, State::Repeat);
}

fn yielded_to(earlier: &Image) -> Change {
    let of = Repeat {
        of: earlier.id,
        of_upload: earlier.upload,
        of_source: None,
        found_by: FoundBy::Fingerprint { distance: 1, orientation: 0 },
        evidence: None,
    };
    Change { repeat: Some(Some(of)), ..Change::to(State::Repeat) }
}
