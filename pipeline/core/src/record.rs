//! What the index keeps of an image.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Epoch, ImageId, Label, UploadSeq,
    event::{Image, VectorSpace},
    repeat::Repeat,
    verdict::Status,
};

/// One image in the index, keyed by its id. The holder of the claim: whoever wrote it first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// As it arrived; `image.upload` is the upload that holds the claim, and is answered for what becomes of the image.
    pub image: Image,
    pub state: State,
    /// How often it was decided anew; the answer of epoch 0 is the verdict.
    pub epoch: Epoch,
    /// Set while `state` is `Repeat`, and of a refused picture that repeats a refused one.
    pub repeat: Option<Repeat>,
    /// Labels that uploads of equal bytes gave, by upload. The image's own labels are not among them.
    pub votes: BTreeMap<UploadSeq, Vec<Label>>,
    /// Probability that the label fits, by the classifier.
    pub label_score: Option<f32>,
    /// Space of the vector by which it was clustered, once it was.
    #[serde(default)]
    pub space: Option<VectorSpace>,
    /// Group of pictures that look alike, at the time of clustering.
    pub cluster: Option<ImageId>,
    /// Code of the answer, once given.
    pub reason: Option<String>,
    /// What the epoch before this one was answered with. Whoever ends an epoch publishes its answer, so that nobody
    /// else has to.
    #[serde(default)]
    pub prior: Option<Status>,
}

impl Record {
    pub fn claimed(image: Image) -> Self {
        Self {
            epoch: image.epoch,
            image,
            state: State::Claimed,
            repeat: None,
            votes: BTreeMap::new(),
            label_score: None,
            space: None,
            cluster: None,
            reason: None,
            prior: None,
        }
    }

    pub fn id(&self) -> ImageId {
        self.image.id
    }

    /// The upload that holds the claim: of equal bytes, the one that was processed first.
    pub fn upload(&self) -> UploadSeq {
        self.image.upload
    }

    /// The first upload of these bytes, whichever was processed first: the image's place among all others.
    pub fn order(&self) -> UploadSeq {
        self.votes.keys().next().map_or(self.upload(), |vote| self.upload().min(*vote))
    }
}

/// What an index has at hand of an image without reading its whole record.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub id: ImageId,
    /// As [`Record::order`].
    pub order: UploadSeq,
    pub state: State,
    pub labels: Arc<[Label]>,
    pub cluster: Option<ImageId>,
}

impl From<&Record> for Summary {
    fn from(record: &Record) -> Self {
        Self {
            id: record.id(),
            order: record.order(),
            state: record.state,
            labels: record.image.labels.as_slice().into(),
            cluster: record.cluster,
        }
    }
}

/// How far an image has come. Written by the stage that decided, before it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its content is claimed; nothing is decided.
    Claimed,
    /// Dedupe found no earlier picture like it.
    Unique,
    /// Yields to an earlier picture.
    Repeat,
    /// Verified and embedded, and no earlier picture shows the same shot.
    Clustered,
    Curated,
    Held,
    Rejected,
    /// Removed at somebody's wish, or dead-lettered.
    Fallen,
}

impl State {
    pub const ALL: [State; 8] = [
        Self::Claimed,
        Self::Unique,
        Self::Repeat,
        Self::Clustered,
        Self::Curated,
        Self::Held,
        Self::Rejected,
        Self::Fallen,
    ];

    /// Those that others may repeat: no repeat themselves, and not refused.
    pub const STANDING: [Self; 5] = [Self::Claimed, Self::Unique, Self::Clustered, Self::Curated, Self::Held];

    pub fn stands(self) -> bool {
        Self::STANDING.contains(&self)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Unique => "unique",
            Self::Repeat => "repeat",
            Self::Clustered => "clustered",
            Self::Curated => "curated",
            Self::Held => "held",
            Self::Rejected => "rejected",
            Self::Fallen => "fallen",
        }
    }
}

/// A change to a record. Fields that are None stay as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    pub state: Option<State>,
    pub epoch: Option<Epoch>,
    /// `Some(None)` clears it.
    pub repeat: Option<Option<Repeat>>,
    pub label_score: Option<f32>,
    pub space: Option<VectorSpace>,
    pub cluster: Option<ImageId>,
    pub reason: Option<String>,
    pub prior: Option<Status>,
    /// Replaces the image as it travels (its lineage grows).
    pub image: Option<Image>,
}

impl Change {
    pub fn to(state: State) -> Self {
        Self { state: Some(state), ..Self::default() }
    }
}
