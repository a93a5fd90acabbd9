//! What the runner must know of an input besides its bytes: its name, its upload, and who must hear of its death.

use std::collections::BTreeMap;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use dih_core::{
    Epoch, Label, Millis, Notice, UploadSeq,
    event::{
        Content, CutRequested, Image, ImageClustered, ImageEmbedded, ImageStored, ImageUnique, ImageVerified,
        JobFailed, TrainingRequested, Upload,
    },
    topology::subject,
    verdict::{Answer, Status},
};
use dih_proto::{Wire, WireError};
use sha2::{Digest, Sha256};

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

    /// Reads it as it came; large byte fields stay where they are.
    fn read(arrival: &Arrival) -> Result<Self, Unreadable> {
        Ok(Self::decode_shared(arrival.payload.clone())?)
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

/// Why a message is no input.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Body(#[from] WireError),
    #[error("a photo without an envelope came on the subject `{subject}`: {problem}")]
    Subject { subject: String, problem: String },
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

    fn read(arrival: &Arrival) -> Result<Self, Unreadable> {
        match arrival.subject.starts_with(RAW) {
            true => raw(&arrival.subject, arrival.payload.clone()),
            false => Ok(Self::decode_shared(arrival.payload.clone())?),
        }
    }

    /// Devices may publish to their own subject only, so the subject is what to believe.
    fn fault(&self, arrival: &Arrival) -> Option<String> {
        let (device, sender) = (&self.device, subject::sender(&arrival.subject));
        if sender.as_ref() != Some(device) {
            let sender = sender.map_or_else(|| arrival.subject.clone(), |sender| sender.to_string());
            return Some(format!("it says to be of device `{device}` but came on the subject of `{sender}`"));
        }
        match &self.content {
            Content::Stored(key) if key.waiting(device).is_none() => {
                Some(format!("`content_key` is `{key}`, which is not in the inbox of `{device}`"))
            }
            _ => None,
        }
    }

    fn obituary(input: Option<Self>, arrival: &Arrival, death: &Death) -> Option<Notice> {
        let mut answer = bare(UploadSeq(arrival.stream_sequence), Epoch(0), arrival, death);
        if let Some(upload) = input {
            answer.device = Some(upload.device);
            answer.labels = upload.labels;
            answer.source = upload.source;
        } else {
            answer.device = subject::sender(&arrival.subject);
        }
        Some(Notice::Answer(Box::new(answer)))
    }
}

const RAW: &str = "dih.v1.raw.";

/// A photo whose subject says all there is to say of it: `dih.v1.raw.<device>.<label, percent-encoded>`.
fn raw(subject: &str, photo: Bytes) -> Result<Upload, Unreadable> {
    let wrong = |problem: String| Unreadable::Subject { subject: subject.to_owned(), problem };
    let device = subject::sender(subject).ok_or_else(|| wrong("it names no device".to_owned()))?;
    let label = subject.strip_prefix(RAW).and_then(|rest| rest.split_once('.')).map_or("", |(_, label)| label);
    let label = percent_encoding::percent_decode_str(label).decode_utf8();
    let label = label.map_err(|e| wrong(format!("its label is no percent-encoded UTF-8: {e}")))?;
    let label = Label::new(label).map_err(|e| wrong(e.to_string()))?;
    // Over MQTT a device is told no number, but knows what it sent.
    let source = Some(format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(&photo))));
    let (content, attributes) = (Content::Inline(photo), BTreeMap::new());
    Ok(Upload { device, labels: vec![label], content, source, captured_at: None, attributes })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_photo_is_what_its_subject_says() {
        let upload = raw("dih.v1.raw.cam1.hot%20d%C3%B6g", Bytes::from_static(b"abc")).expect("readable");
        assert_eq!((upload.device.as_str(), upload.labels[0].as_str()), ("cam1", "hot dög"));
        // Source: FIPS 180-2, appendix B.1.
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(upload.source.as_deref(), Some(sha256));
        for bad in ["dih.v1.raw.cam1.%FF", "dih.v1.raw.cam1.a%2Fb", "dih.v1.raw.cam1.%20", "dih.v1.raw.cam1"] {
            let told = raw(bad, Bytes::new()).expect_err(bad).to_string();
            assert!(told.contains(bad), "{told}");
        }
    }
}
