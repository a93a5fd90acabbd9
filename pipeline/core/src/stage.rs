//! What a stage is: one function from an input to an outcome. It never connects, publishes, acknowledges or sleeps.

use std::{fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Millis, StageError, UploadSeq,
    event::{
        DatasetPublished, ImageClustered, ImageEmbedded, ImageStored, ImageUnique, ImageVerified, JobFailed,
        TrainingCompleted,
    },
    verdict::Answer,
};

/// The stages, in the order a photo travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    Ingest,
    Dedupe,
    Verify,
    Embed,
    Cluster,
    Organize,
    Train,
}

impl StageName {
    pub const ALL: [StageName; 7] =
        [Self::Ingest, Self::Dedupe, Self::Verify, Self::Embed, Self::Cluster, Self::Organize, Self::Train];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Dedupe => "dedupe",
            Self::Verify => "verify",
            Self::Embed => "embed",
            Self::Cluster => "cluster",
            Self::Organize => "organize",
            Self::Train => "train",
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StageName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|v| v.as_str() == s);
        found.ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|v| v.as_str()).collect();
            format!("unknown stage {s:?}; the stages are {}", all.join(", "))
        })
    }
}

/// An input as it reached the stage.
#[derive(Clone, Debug)]
pub struct Delivery<I> {
    pub input: I,
    /// The upload it belongs to; its own sequence at ingest. None for jobs.
    pub upload: Option<UploadSeq>,
    /// When the broker took that upload, by the broker's clock.
    pub received_at: Option<Millis>,
    /// 1 on the first try.
    pub attempt: u64,
}

/// Something a stage says besides its answer. Each carries all it needs to be published under a fixed name.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Stored(ImageStored),
    Unique(ImageUnique),
    Verified(ImageVerified),
    Embedded(ImageEmbedded),
    Clustered(ImageClustered),
    /// A verdict, or (from epoch 1) a revision.
    Answer(Box<Answer>),
    Published(DatasetPublished),
    Trained(TrainingCompleted),
    JobFailed(JobFailed),
}

/// What a stage made of an input: all that must be published before the input may be acknowledged.
///
/// An empty outcome is right only where the input turned out to be superseded: its image was decided anew, and the
/// newer epoch answers.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Outcome {
    pub notices: Vec<Notice>,
}

impl Outcome {
    /// The input was overtaken by a later epoch of the same image, which carries on.
    pub fn superseded() -> Self {
        Self::default()
    }

    pub fn emit(notice: Notice) -> Self {
        Self { notices: vec![notice] }
    }

    pub fn answer(answer: Answer) -> Self {
        Self::emit(Notice::Answer(Box::new(answer)))
    }

    pub fn and(mut self, notice: Notice) -> Self {
        self.notices.push(notice);
        self
    }

    pub fn and_all(mut self, notices: impl IntoIterator<Item = Notice>) -> Self {
        self.notices.extend(notices);
        self
    }

    /// For metrics: what happened, from a small closed set.
    pub fn kind(&self) -> &'static str {
        match self.notices.first() {
            None => "superseded",
            Some(Notice::Answer(answer)) => answer.status.as_str(),
            Some(Notice::JobFailed(_)) => "failed",
            Some(_) => "emitted",
        }
    }
}

/// One consumer of the pipeline. Safe to run in any number of replicas, and to be killed at any line.
pub trait Stage: Send + Sync + 'static {
    /// Row of [`crate::topology::CONSUMERS`] that feeds it.
    const CONSUMER: &'static str;
    type Input: Send + 'static;

    fn process(&self, delivery: Delivery<Self::Input>) -> impl Future<Output = Result<Outcome, StageError>> + Send;

    /// Asked before this input is dead-lettered, so that what depends on it can be put right: the image's record is
    /// marked fallen, and its repeats are decided anew. The notices are published before the dead letter; the answer
    /// to the upload itself is the runner's. Must be safe to repeat, as `process` is.
    fn fallen(&self, _delivery: Delivery<Self::Input>) -> impl Future<Output = Result<Outcome, StageError>> + Send {
        async { Ok(Outcome::default()) }
    }
}
