//! Tells devices where to put photos that are too large for a message.
//!
//! Takes    a request on `dih.v1.link.<device>`: the SHA-256 of the photo, 64 hex digits. Gives an address to put it at by
//!          plain HTTP, and the key to name in the upload that follows.
//! Crash    the device asks again.
//! Weak at  how large the photo is: nobody looks before it is taken in. What is never named is removed by the bucket's rule.

use std::{sync::Arc, time::Duration};

use async_nats::Message;
use data_encoding::HEXLOWER_PERMISSIVE;
use dih_core::{
    BlobKey, DeviceId, ImageId, chain,
    ports::{Blobs, LinkTo, StoreError},
    topology::subject,
};
use futures::StreamExt;
use serde::Serialize;

use crate::{Connection, broker::inbox_prefix, error::BusError};

const SUBJECTS: &str = "dih.v1.link.*";
/// One process of all that serve answers a request.
const GROUP: &str = "links";
const VALID: Duration = Duration::from_secs(15 * 60);
/// Replies to another account: the broker's own names, which no device can make up.
const OTHER_ACCOUNT: &str = "_R_.";

/// The answer to a request, as JSON. Public: fields are only ever added.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Answer {
    Link { key: String, url: String, expires_s: u64 },
    No { error: String },
}

/// Answers until the connection is closed for good.
pub async fn serve(connection: Connection, blobs: Arc<dyn Blobs>) -> Result<(), BusError> {
    let client = connection.client();
    let failed = |e| BusError::unavailable(format!("listen on {SUBJECTS}"), e);
    let mut requests = client.queue_subscribe(SUBJECTS, GROUP.to_owned()).await.map_err(failed)?;
    while let Some(request) = requests.next().await {
        let Some((device, reply)) = asked_by(&request) else {
            tracing::warn!(subject = %request.subject, "whoever asks for a link must give an inbox of its own for the answer");
            continue;
        };
        let answer = match answer(&*blobs, &device, &request.payload).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%device, error = %chain(&error), "could not make a link");
                Answer::No { error: "no link can be made now; ask again in a minute".to_owned() }
            }
        };
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        if let Err(error) = client.publish(reply, body.into()).await {
            tracing::warn!(%device, %error, "could not answer who asked for a link");
        }
    }
    Ok(())
}

/// The device, and where it waits for its answer. We may publish anywhere, it may not: so not wherever it says.
fn asked_by(request: &Message) -> Option<(DeviceId, async_nats::Subject)> {
    let (device, reply) = (subject::sender(&request.subject)?, request.reply.clone()?);
    is_its_own(&device, &reply).then_some((device, reply))
}

fn is_its_own(device: &DeviceId, reply: &str) -> bool {
    let own = reply.strip_prefix(&inbox_prefix(device)).is_some_and(|rest| rest.starts_with('.'));
    own || reply.starts_with(OTHER_ACCOUNT)
}

async fn answer(blobs: &dyn Blobs, device: &DeviceId, asked: &[u8]) -> Result<Answer, StoreError> {
    let Some(photo) = sha256(asked) else {
        return Ok(Answer::No { error: "send the SHA-256 of the photo, 64 hex digits".to_owned() });
    };
    let key = BlobKey::inbox(device, ImageId::of_sha256(&photo));
    Ok(match blobs.link(&key, LinkTo::Write, VALID).await? {
        Some(url) => Answer::Link { key: key.to_string(), url, expires_s: VALID.as_secs() },
        None => Answer::No { error: "this hub keeps its photos in a folder; send one that fits a message".to_owned() },
    })
}

fn sha256(text: &[u8]) -> Option<[u8; 32]> {
    HEXLOWER_PERMISSIVE.decode(text.trim_ascii()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_to_the_one_who_asked_and_nowhere_else() {
        let cam = DeviceId::new("cam1").expect("valid");
        for own in ["_INBOX_cam1.abc", "_INBOX_cam1.a.b", "_R_.x9.y"] {
            assert!(is_its_own(&cam, own), "{own}");
        }
        for other in
            ["_INBOX_cam10.abc", "_INBOX_cam1", "_INBOX.abc", "dih.v1.verdict.5", "$JS.API.STREAM.DELETE.UPLOADS"]
        {
            assert!(!is_its_own(&cam, other), "{other}");
        }
    }

    #[test]
    fn a_hash_is_64_hex_digits() {
        assert_eq!(sha256(&[b'A'; 64]), Some([0xAA; 32]));
        assert_eq!(sha256(format!("{}\n", "0f".repeat(32)).as_bytes()), Some([0x0F; 32]));
        for bad in [String::new(), "0f".into(), "zz".repeat(32), "0".repeat(63)] {
            assert_eq!(sha256(bad.as_bytes()), None, "{bad}");
        }
    }
}
