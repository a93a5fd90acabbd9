//! Where each notice goes, and under which name.

use async_nats::HeaderMap;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use dih_core::{
    Epoch, Millis, Notice, UploadSeq,
    event::{DeadLetter, Image},
    topology::{self, ConsumerSpec, header, subject},
    verdict::{Answer, Status},
};
use dih_proto::Wire;
use sha2::{Digest, Sha256};

use crate::told::Told;

/// A message of ours, ready to be published.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    /// Without a name, a second publish is a second message.
    pub(crate) name: Option<String>,
    /// What it is about, where it is about a photo.
    pub(crate) upload: Option<UploadSeq>,
    pub(crate) epoch: Option<Epoch>,
    /// When the broker took the upload.
    pub(crate) received_at: Option<Millis>,
    /// The trace it belongs to.
    pub(crate) trace: Option<String>,
    /// Headers of somebody else's, as they came.
    pub(crate) others: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Set for a verdict, of which the broker takes only the first.
    pub(crate) verdict: Option<(UploadSeq, Status)>,
    /// Set for an answer: the device that is told.
    pub(crate) told: Option<Told>,
}

impl Outgoing {
    pub(crate) fn new(subject: impl Into<String>, message: &impl Wire, name: impl Into<Option<String>>) -> Self {
        let (subject, name, body) = (subject.into(), name.into(), message.encode().into());
        Self {
            subject,
            name,
            upload: None,
            epoch: None,
            received_at: None,
            trace: None,
            others: Vec::new(),
            body,
            verdict: None,
            told: None,
        }
    }

    fn of(self, upload: UploadSeq, epoch: Epoch) -> Self {
        Self { upload: Some(upload), epoch: Some(epoch), ..self }
    }

    /// Made at every try to send it: cheaper than kept and copied.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.others {
            headers.append(name.as_str(), value.as_str());
        }
        if let Some(name) = &self.name {
            headers.insert(header::MSG_ID, name.as_str());
        }
        if let Some(upload) = self.upload {
            headers.insert(header::UPLOAD, upload.to_string());
        }
        if let Some(epoch) = self.epoch {
            headers.insert(header::EPOCH, epoch.to_string());
        }
        if let Some(trace) = &self.trace {
            headers.insert(header::TRACEPARENT, trace.as_str());
        }
        if let Some(at) = self.received_at {
            headers.insert(header::RECEIVED, at.0.to_string());
        }
        headers
    }

    /// `cause` names what it follows from. The name of the message says what it says, so that a redelivery, after which
    /// less or more may follow from the same cause, neither repeats nor loses any of it.
    pub(crate) fn notice(notice: &Notice, cause: &str) -> Self {
        let fact = |body: Vec<u8>| {
            let (taker, image) = taker_of(notice).expect("every fact has its taker");
            Self {
                subject: taker.subject.to_owned(),
                name: Some(format!("{cause}.{}.{}.{}", taker.name, image.upload, image.epoch)),
                upload: Some(image.upload),
                epoch: Some(image.epoch),
                received_at: None,
                trace: None,
                others: Vec::new(),
                body: body.into(),
                verdict: None,
                told: None,
            }
        };
        match notice {
            Notice::Stored(event) => fact(event.encode()),
            Notice::Unique(event) => fact(event.encode()),
            Notice::Verified(event) => fact(event.encode()),
            Notice::Embedded(event) => fact(event.encode()),
            Notice::Clustered(event) => fact(event.encode()),
            Notice::Answer(answer) => Self::answer(answer),
            Notice::Published(event) => {
                let id = format!("{cause}.published");
                Self::new(format!("dih.v1.dataset.published.{}", event.version.dataset), event, id)
            }
            Notice::Trained(event) => {
                let id = format!("{cause}.trained");
                Self::new(format!("dih.v1.training.completed.{}", event.version.dataset), event, id)
            }
            Notice::JobFailed(event) => Self::new(job_failed_subject(&event.request), event, format!("{cause}.failed")),
        }
    }

    /// Whatever it follows from, an upload has one answer an epoch.
    pub(crate) fn answer(answer: &Answer) -> Self {
        let (upload, epoch, status) = (answer.upload, answer.epoch, answer.status);
        let id = format!("answer.{upload}.{epoch}.{status}");
        let (subject, verdict) = match epoch {
            Epoch(0) => (subject::verdict(upload), Some((upload, status))),
            _ => (subject::revision(upload), None),
        };
        Self { verdict, told: Told::of(answer), ..Self::new(subject, answer, id).of(upload, epoch) }
    }

    pub(crate) fn dead(letter: &DeadLetter) -> Self {
        let id = format!("dead.{}.{}", letter.consumer, letter.stream_sequence);
        let message = Self::new(subject::dead(&letter.consumer), letter, id);
        Self { upload: letter.upload, ..message }
    }
}

/// The consumer that takes a fact, and the image it is about. None for what goes to no stage.
pub(crate) fn taker_of(notice: &Notice) -> Option<(&'static ConsumerSpec, &Image)> {
    let (taker, image) = match notice {
        Notice::Stored(fact) => ("dedupe", &fact.image),
        Notice::Unique(fact) => ("verify", &fact.image),
        Notice::Verified(fact) => ("embed", &fact.image),
        Notice::Embedded(fact) => ("cluster", &fact.image),
        Notice::Clustered(fact) => ("organize", &fact.image),
        Notice::Answer(_) | Notice::Published(_) | Notice::Trained(_) | Notice::JobFailed(_) => return None,
    };
    Some((topology::consumer(taker).expect("the name is a row of the table"), image))
}

/// Subject that feeds a consumer of the table.
pub(crate) fn subject_of(consumer: &str) -> &'static str {
    topology::consumer(consumer).expect("the name is a row of the table").subject
}

/// A request is any text; a subject takes tokens only, so what is no token is hashed.
pub(crate) fn job_failed_subject(request: &str) -> String {
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !request.is_empty() && request.len() <= 64 && request.chars().all(token) {
        return format!("dih.v1.job.failed.{request}");
    }
    let hash = HEXLOWER.encode(&Sha256::digest(request.as_bytes())[..16]);
    format!("dih.v1.job.failed.{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_any_text_makes_one_token() {
        assert_eq!(job_failed_subject("cut-1_a"), "dih.v1.job.failed.cut-1_a");
        for odd in ["", "a.b", "a b", "*", &"x".repeat(65)] {
            let subject = job_failed_subject(odd);
            assert_eq!(subject.split('.').count(), 5, "{subject}");
            assert!(!subject.contains(['*', ' ', '>']), "{subject}");
        }
    }

    #[test]
    fn every_fact_goes_to_the_consumer_that_takes_it() {
        for consumer in ["dedupe", "verify", "embed", "cluster", "organize"] {
            assert!(subject_of(consumer).starts_with("dih.v1.image."));
        }
    }
}
