//! What the runner must know of an input besides its bytes: its name, its upload, and who must hear of its death.

use dih_core::{
    Epoch, Millis, Notice, UploadSeq,
    event::{
        CutRequested, Image, ImageClustered, ImageEmbedded, ImageStored, ImageUnique, ImageVerified, JobFailed,
        TrainingRequested, Upload,
    },
    verdict::{Answer, Status},
};
use dih_proto::Wire;

use crate::arrival::Arrival;

/// A message that a stage takes.
pub trait Input: Wire + Send + 'static {
    /// The same for every delivery of the same work, and for nothing else. Names what follows from it.
    fn identity(&self, arrival: &Arrival) -> String;

    /// The upload it belongs to; None for jobs.
    fn upload(&self, arrival: &Arrival) -> Option<UploadSeq>;

    /// The epoch of its image; the first for all others.
    fn epoch(&self) -> Epoch {
        Epoch(0)
    }

    /// Reads it out of what another stage says, where it is such a fact.
    fn handed(_notice: Notice) -> Option<Self> {
        None
    }

    /// Says what is wrong with an input that can be read but must not be believed.
    fn fault(&self, _arrival: &Arrival) -> Option<String> {
        None
    }

    /// Tells whoever waits for it that it died. `input` is None when its bytes could not be read.
    fn obituary(input: Option<Self>, arrival: &Arrival, death: &Death) -> Option<Notice>;
}

/// Why an input ends in the dead letters.
#[derive(Clone, Debug)]
pub struct Death {
    /// A code from a small closed set: `undecodable`, `bad_input`, `gave_up`, `panicked`, `crashed`.
    pub reason: &'static str,
    /// The error and its causes, outermost first.
    pub chain: Vec<String>,
}

impl Death {
    fn detail(&self) -> String {
        self.chain.join(": ")
    }
}

impl Input for Upload {
    fn identity(&self, arrival: &Arrival) -> String {
        arrival.stream_sequence.to_string()
    }

    fn upload(&self, arrival: &Arrival) -> Option<UploadSeq> {
        Some(UploadSeq(arrival.stream_sequence))
    }

    /// Devices may publish to their own subject only, so the subject is what to believe.
    fn fault(&self, arrival: &Arrival) -> Option<String> {
        let subject = arrival.subject.rsplit('.').next().unwrap_or_default();
        let device = self.device.as_str();
        (subject != device)
            .then(|| format!("it says to be of device `{device}` but came on the subject of `{subject}`"))
    }

    fn obituary(input: Option<Self>, arrival: &Arrival, death: &Death) -> Option<Notice> {
        let mut answer = bare(UploadSeq(arrival.stream_sequence), Epoch(0), arrival, death);
        if let Some(upload) = input {
            answer.device = Some(upload.device);
            answer.labels = upload.labels;
            answer.source = upload.source;
        } else {
            answer.device = arrival.subject.rsplit('.').next().and_then(|device| device.parse().ok());
        }
        Some(Notice::Answer(Box::new(answer)))
    }
}

/// An answer that knows no more than its upload.
fn bare(upload: UploadSeq, epoch: Epoch, arrival: &Arrival, death: &Death) -> Answer {
    Answer {
        upload,
        epoch,
        image: None,
        status: Status::Dead,
        stage: arrival.consumer.stage,
        reason: death.reason.to_owned(),
        detail: Some(death.detail()),
        repeat: None,
        device: None,
        labels: Vec::new(),
        label_score: None,
        source: None,
        measures: None,
        lineage: Vec::new(),
        at: Millis::now(),
    }
}

/// Of every fact about an image. The upload belongs to the name: two uploads of the same bytes have one image, and two
/// answers.
pub(crate) fn identity_of(image: &Image) -> String {
    format!("{}.{}.{}", image.upload, image.id, image.epoch)
}

macro_rules! facts {
    ($($name:ident, $notice:ident: $label_score:expr),* $(,)?) => {$(
        impl Input for $name {
            fn identity(&self, _: &Arrival) -> String {
                identity_of(&self.image)
            }

            fn upload(&self, _: &Arrival) -> Option<UploadSeq> {
                Some(self.image.upload)
            }

            fn epoch(&self) -> Epoch {
                self.image.epoch
            }

            fn handed(notice: Notice) -> Option<Self> {
                match notice {
                    Notice::$notice(fact) => Some(fact),
                    _ => None,
                }
            }

            fn obituary(input: Option<Self>, arrival: &Arrival, death: &Death) -> Option<Notice> {
                let answer = match input {
                    Some(fact) => {
                        let score: fn(&Self) -> Option<f32> = $label_score;
                        Answer::about(&fact.image, Status::Dead, arrival.consumer.stage, death.reason)
                            .scored(score(&fact))
                            .because(death.detail())
                    }
                    None => bare(arrival.upload()?, arrival.epoch().unwrap_or_default(), arrival, death),
                };
                Some(Notice::Answer(Box::new(answer)))
            }
        }
    )*};
}

facts! {
    ImageStored, Stored: |_| None,
    ImageUnique, Unique: |_| None,
    ImageVerified, Verified: |fact| fact.label_score,
    ImageEmbedded, Embedded: |fact| fact.label_score,
    ImageClustered, Clustered: |fact| fact.label_score,
}

macro_rules! jobs {
    ($($name:ident),*) => {$(
        impl Input for $name {
            fn identity(&self, _: &Arrival) -> String {
                self.request.clone()
            }

            fn upload(&self, _: &Arrival) -> Option<UploadSeq> {
                None
            }

            fn obituary(input: Option<Self>, _: &Arrival, death: &Death) -> Option<Notice> {
                let failed = JobFailed { request: input?.request, reason: death.detail(), at: Millis::now() };
                Some(Notice::JobFailed(failed))
            }
        }
    )*};
}

jobs!(CutRequested, TrainingRequested);
