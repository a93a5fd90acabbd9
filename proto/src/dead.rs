//! Messages that no stage could process.

use dih_core::{UploadSeq, event::DeadLetter};

use crate::{
    field::{Fault, from_one, millis, missing, optional, text},
    generated as wire,
    wire::Convert,
};

impl Convert for DeadLetter {
    type Wire = wire::DeadLetter;

    fn to_wire(&self) -> wire::DeadLetter {
        let header =
            |(name, value): &(String, String)| wire::dead_letter::Header { name: name.clone(), value: value.clone() };
        wire::DeadLetter {
            consumer: self.consumer.clone(),
            subject: self.subject.clone(),
            payload: self.payload.clone(),
            headers: self.headers.iter().map(header).collect(),
            stream: self.stream.clone(),
            stream_sequence: Some(self.stream_sequence),
            upload: self.upload.map(|upload| upload.0),
            reasons: self.reasons.clone(),
            attempts: Some(self.attempts),
            at_ms: Some(self.at.0),
        }
    }

    fn from_wire(wire: wire::DeadLetter) -> Result<Self, Fault> {
        if wire.reasons.is_empty() {
            return Err(missing("reasons"));
        }
        Ok(Self {
            consumer: text(wire.consumer, "consumer")?,
            subject: text(wire.subject, "subject")?,
            payload: wire.payload,
            headers: wire.headers.into_iter().map(|h| (h.name, h.value)).collect(),
            stream: text(wire.stream, "stream")?,
            stream_sequence: from_one(wire.stream_sequence, "stream_sequence")?,
            upload: optional(wire.upload, |n| from_one(Some(n), "upload").map(UploadSeq))?,
            reasons: wire.reasons,
            attempts: from_one(wire.attempts, "attempts")?,
            at: millis(wire.at_ms, "at_ms")?,
        })
    }
}
