//! What a device sends.

use dih_core::{
    Millis,
    event::{Content, Upload},
};

use crate::{
    field::{Fault, labels, missing, name, need},
    generated as wire,
    wire::Convert,
};

impl Convert for Upload {
    type Wire = wire::Upload;

    fn to_wire(&self) -> wire::Upload {
        wire::Upload {
            device: self.device.to_string(),
            labels: self.labels.iter().map(ToString::to_string).collect(),
            content: Some(match &self.content {
                Content::Inline(bytes) => wire::upload::Content::Inline(bytes.clone()),
                Content::Stored(key) => wire::upload::Content::ContentKey(key.to_string()),
            }),
            source: self.source.clone(),
            captured_at_ms: self.captured_at.map(|at| at.0),
            attributes: self.attributes.clone(),
        }
    }

    fn from_wire(wire: wire::Upload) -> Result<Self, Fault> {
        let content = match need(wire.content, "content")? {
            wire::upload::Content::Inline(bytes) => Content::Inline(bytes),
            wire::upload::Content::ContentKey(key) => Content::Stored(name(&key, "content_key")?),
        };
        if wire.labels.is_empty() {
            return Err(missing("labels"));
        }
        Ok(Self {
            device: name(&wire.device, "device")?,
            labels: labels(wire.labels, "labels")?,
            content,
            source: wire.source,
            captured_at: wire.captured_at_ms.map(Millis),
            attributes: wire.attributes,
        })
    }
}
