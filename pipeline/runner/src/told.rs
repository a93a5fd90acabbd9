//! Tells a device what became of its uploads, on its own subject.
//!
//! Takes    an answer that the ledger holds. Gives it to whoever listens on `dih.v1.answer.<device>`, as it is; and on
//!          `dih.v1.answer.<device>.json`, without measures and lineage, for devices that read no protobuf.
//! Crash    told again: the input comes again, and its answer with it.
//! Weak at  who does not listen at that moment hears nothing; sent again, a photo is answered as a repeat.

use bytes::Bytes;
use dih_core::{repeat::Repeat, topology::subject, verdict::Answer};
use serde::Serialize;

use crate::{Connection, error::BusError};

#[derive(Clone, Debug)]
pub(crate) struct Told {
    subject: String,
    json: Bytes,
}

/// What of an answer a small device needs. Public: fields are only ever added.
#[derive(Serialize)]
struct Short<'a> {
    upload: u64,
    epoch: u32,
    status: &'static str,
    stage: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    labels: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Of<'a>>,
    at_ms: i64,
}

/// What it repeats.
#[derive(Serialize)]
struct Of<'a> {
    upload: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

impl<'a> From<&'a Repeat> for Of<'a> {
    fn from(repeat: &'a Repeat) -> Self {
        Self { upload: repeat.of_upload.0, source: repeat.of_source.as_deref() }
    }
}

impl Told {
    /// None where nobody knows whose upload it was.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        let device = answer.device.as_ref()?;
        let json = serde_json::to_vec(&short(answer)).ok()?;
        Some(Self { subject: subject::told(device), json: json.into() })
    }

    /// In the connection's order: the broker has it before it hears of what is sent later.
    pub(crate) async fn send(&self, connection: &Connection, body: &Bytes) -> Result<(), BusError> {
        let client = connection.client();
        let failed = |e| BusError::unavailable(format!("publish on {}", self.subject), e);
        client.publish(self.subject.clone(), body.clone()).await.map_err(failed)?;
        client.publish(format!("{}.json", self.subject), self.json.clone()).await.map_err(failed)
    }
}

fn short(answer: &Answer) -> Short<'_> {
    Short {
        upload: answer.upload.0,
        epoch: answer.epoch.0,
        status: answer.status.as_str(),
        stage: answer.stage.as_str(),
        reason: &answer.reason,
        detail: answer.detail.as_deref(),
        image: answer.image.map(|image| image.as_uuid().simple().to_string()),
        source: answer.source.as_deref(),
        labels: answer.labels.iter().map(|label| label.as_str()).collect(),
        of: answer.repeat.as_ref().map(Of::from),
        at_ms: answer.at.0,
    }
}
