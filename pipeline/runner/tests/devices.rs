//! What a device may do at a broker, and that it may do nothing else.

mod gate;
mod world;

use std::io::{Read, Write};

use data_encoding::HEXLOWER;
use dih_core::{
    Delivery, DeviceId, Outcome, Stage, StageError,
    event::Upload,
    topology::subject,
    verdict::{Answer, Status},
};
use dih_proto::Wire;
use dih_runner::Runner;
use gate::{Cam, Gate};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Not a test: the entry that stands in for the hidden subcommand.
#[test]
fn guard_entry() {
    gate::guard_entry();
}

fn upload_of(device: &DeviceId) -> Vec<u8> {
    Upload { device: device.clone(), ..world::photo("photo") }.encode()
}

/// Ingest that likes nothing.
struct RejectAll;

impl Stage for RejectAll {
    const CONSUMER: &'static str = "ingest";
    type Input = Upload;

    async fn process(&self, delivery: Delivery<Upload>) -> Result<Outcome, StageError> {
        let upload = delivery.upload.expect("an upload has a number");
        let Upload { device, labels, source, .. } = delivery.input;
        let answer = world::answer(upload, Status::Rejected);
        Ok(Outcome::answer(Answer { device: Some(device), labels, source, ..answer }))
    }
}

/// Subjects that are not cam1's to publish on.
const NOT_ITS_OWN: [&str; 16] = [
    "dih.v1.upload.cam2",
    "dih.v1.raw.cam2.shirt",
    "dih.v1.raw.cam1",
    "dih.v1.link.cam2",
    "dih.v1.verdict.1",
    "dih.v1.revision.1",
    "dih.v1.answer.cam2",
    "dih.v1.image.stored",
    "dih.v1.dataset.cut_requested",
    "dih.v1.dead.ingest",
    "$KV.dih_state.device.cam1",
    "$JS.API.STREAM.INFO.UPLOADS",
    "$JS.API.CONSUMER.CREATE.UPLOADS",
    "$JS.API.DIRECT.GET.VERDICTS",
    "$JS.ACK.UPLOADS.ingest.1.1.1.1.1",
    "$SYS.REQ.SERVER.PING",
];

/// Subjects that are not cam1's to listen on.
const NOT_FOR_IT: [&str; 10] = [
    ">",
    "dih.v1.upload.*",
    "dih.v1.upload.cam1",
    "dih.v1.raw.>",
    "dih.v1.verdict.*",
    "dih.v1.answer.*",
    "dih.v1.answer.cam2",
    "$JS.API.>",
    "_INBOX.>",
    "_INBOX_cam2.>",
];

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_a_device_may_send_as_itself_and_hear_what_became_of_it() {
    let (gate, cam1, cam2) = (Gate::open().await, Cam::new("cam1"), Cam::new("cam2"));
    gate.admit(&[&cam1, &cam2]).await;
    let device = gate.nats(&cam1).await.expect("is let in");
    let sent = device.jetstream.publish(subject::upload(&cam1.id), upload_of(&cam1.id).into()).await.expect("sent");
    assert_eq!(sent.await.expect("stored").sequence, 1, "the number under which it is answered");
    let raw = device.jetstream.publish(subject::raw(&cam1.id, "hot%20dog"), "photo".into()).await.expect("sent");
    assert_eq!(raw.await.expect("stored").sequence, 2);
    let before = gate.ledger().await;
    for subject in NOT_ITS_OWN {
        let sent = device.jetstream.publish(subject, "{}".into()).await.expect("sent");
        device.is_denied("publish", subject).await;
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), sent).await.is_err(), "{subject}");
    }
    for subject in NOT_FOR_IT {
        let _silent = device.client.subscribe(subject).await.expect("sent");
        device.is_denied("subscription", subject).await;
    }
    assert_eq!(gate.ledger().await, before, "nothing of it got anywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_cannot_be_made_to_land_in_the_ledger() {
    let (gate, cam1) = (Gate::open().await, Cam::new("cam1"));
    gate.admit(&[&cam1]).await;
    let device = gate.nats(&cam1).await.expect("is let in");
    for reply in [
        "dih.v1.verdict.5",
        "dih.v1.upload.cam2",
        "dih.v1.raw.cam2.shirt",
        "dih.v1.image.stored",
        "$KV.dih_state.device.cam2",
        "$JS.API.STREAM.PURGE.UPLOADS",
        "$JS.API.STREAM.DELETE.VERDICTS",
    ] {
        device
            .client
            .publish_with_reply(subject::upload(&cam1.id), reply, upload_of(&cam1.id).into())
            .await
            .expect("sent");
    }
    // By now every receipt is where it went.
    let last = device.jetstream.publish(subject::upload(&cam1.id), upload_of(&cam1.id).into()).await.expect("sent");
    let last = last.await.expect("stored").sequence;
    let ledger = gate.ledger().await;
    assert_eq!(ledger[0], ("UPLOADS".to_owned(), last), "its own photos and nothing else: {ledger:?}");
    assert!(ledger[1..].iter().all(|(_, ever)| *ever == 0), "{ledger:?}");
    let stored = gate.hub.jetstream().get_stream("UPLOADS").await.expect("is there").cached_info().state.messages;
    assert_eq!(stored, last, "nothing was purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_mqtt_a_device_may_send_as_itself_and_nothing_else() {
    let (gate, cam1, cam2) = (Gate::open().await, Cam::new("cam1"), Cam::new("cam2"));
    gate.admit(&[&cam1, &cam2]).await;
    assert!(gate.mqtt_as("cam1", "guessed").await.is_none(), "a wrong password");
    assert!(gate.mqtt_as("", "").await.is_none(), "nobody");
    let mut device = gate.mqtt(&cam1).await.expect("is let in");
    let before = gate.ledger().await;
    for topic in NOT_ITS_OWN.map(|subject| subject.replace('.', "/")) {
        // MQTT has no word for a denied publish: it is acknowledged, and dropped.
        device.publish(&topic, b"{}").await;
    }
    for topic in ["#", "dih/v1/upload/+", "dih/v1/verdict/+", "dih/v1/answer/+", "dih/v1/answer/cam2/#", "$MQTT/#"] {
        assert!(!device.subscribe(topic).await, "{topic}");
    }
    device.publish("dih/v1/upload/cam1", &upload_of(&cam1.id)).await;
    device.publish("dih/v1/raw/cam1/hot%20dog", b"photo").await;
    world::until("its own photos are there", async || gate.ledger().await[0].1 == 2).await;
    let ledger = gate.ledger().await;
    assert_eq!(ledger[1..], before[1..], "nothing else got anywhere");
}

/// Makes a consumer of the ledger, whether or not anybody waits for the answer.
const SPY: &str = "$JS.API.CONSUMER.DURABLE.CREATE.VERDICTS.spy";
const SPY_BODY: &str = r#"{"stream_name":"VERDICTS","config":{"durable_name":"spy","ack_policy":"explicit"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_device_makes_a_consumer() {
    let (gate, cam1) = (Gate::open().await, Cam::new("cam1"));
    gate.admit(&[&cam1]).await;
    let (over_nats, over_mqtt) = (gate.nats(&cam1).await.expect("let in"), gate.mqtt(&cam1).await);
    let mut over_mqtt = over_mqtt.expect("let in");
    over_nats.client.publish_with_reply(SPY, "_INBOX_cam1.x", SPY_BODY.into()).await.expect("sent");
    over_nats.is_denied("publish", SPY).await;
    over_mqtt.publish(&SPY.replace('.', "/"), SPY_BODY.as_bytes()).await;
    over_mqtt.publish("dih/v1/raw/cam1/shirt", b"photo").await;
    world::until("what was sent after it is there", async || gate.ledger().await[0].1 == 1).await;
    assert_eq!(gate.readers().await, 0);
    // The same words of the hub do: else this would prove nothing.
    gate.hub.client().publish_with_reply(SPY, gate.hub.client().new_inbox(), SPY_BODY.into()).await.expect("sent");
    world::until("the hub's consumer is there", async || gate.readers().await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_an_upload_is_told_to_its_device() {
    let (gate, cam1, cam2) = (Gate::open().await, Cam::new("cam1"), Cam::new("cam2"));
    gate.admit(&[&cam1, &cam2]).await;
    let mut device = gate.mqtt(&cam1).await.expect("is let in");
    assert!(device.subscribe("dih/v1/answer/cam1/#").await);
    let running = world::start_runner(Runner::new(gate.hub.clone(), RejectAll, None, world::config()));
    let other = gate.nats(&cam2).await.expect("is let in");
    let sent = other.jetstream.publish(subject::upload(&cam2.id), upload_of(&cam2.id).into()).await.expect("sent");
    sent.await.expect("stored");
    device.publish("dih/v1/raw/cam1/hot%20dog", b"photo").await;
    let mut told = [device.message().await, device.message().await];
    told.sort();
    let [(topic, answer), (json_topic, json)] = told;
    assert_eq!((topic.as_str(), json_topic.as_str()), ("dih/v1/answer/cam1", "dih/v1/answer/cam1/json"));
    let answer = Answer::decode(&answer).expect("protobuf");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["upload"], answer.upload.0);
    assert_eq!((&json["status"], &json["labels"][0]), (&"rejected".into(), &"hot dog".into()), "{json}");
    assert_eq!(json["source"], format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(b"photo"))));
    running.stop().await.expect("ends in peace");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tls_nobody_is_heard_in_plain_text() {
    let (gate, cam1) = (Gate::open_by_tls().await, Cam::new("cam1"));
    gate.admit(&[&cam1]).await;
    let device = gate.nats(&cam1).await.expect("is let in");
    let sent = device.jetstream.publish(subject::upload(&cam1.id), upload_of(&cam1.id).into()).await.expect("sent");
    sent.await.expect("stored");
    // A CONNECT of MQTT 3.1.1, which a plain listener answers.
    let mut plain = std::net::TcpStream::connect(gate.mqtt).expect("it listens");
    plain.set_read_timeout(Some(world::DEADLINE)).expect("can be set");
    plain.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00").expect("sent");
    let mut answer = [0; 4];
    let read = plain.read(&mut answer).unwrap_or(0);
    assert!(read == 0 || answer[0] != 0x20, "it answered in plain text: {answer:?}");
    let trusting_others = dih_runner::ConnectOptions { access: gate.broker.access().clone(), ..Default::default() };
    let refused = dih_runner::Connection::connect(gate.broker.url(), trusting_others).await;
    assert!(refused.is_err(), "a certificate that nobody knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_is_out_at_once() {
    let (gate, cam1, cam2) = (Gate::open().await, Cam::new("cam1"), Cam::new("cam2"));
    assert!(gate.mqtt(&cam1).await.is_none(), "nobody was let in yet");
    gate.admit(&[&cam1, &cam2]).await;
    let (over_nats, other) = (gate.nats(&cam1).await.expect("let in"), gate.nats(&cam2).await.expect("let in"));
    let mut over_mqtt = gate.mqtt(&cam1).await.expect("let in");
    gate.admit(&[&cam2]).await;
    over_mqtt.is_thrown_out().await;
    world::until("its connection is closed", async || {
        over_nats.client.connection_state() != async_nats::connection::State::Connected
    })
    .await;
    assert!(gate.nats(&cam1).await.is_err() && gate.mqtt(&cam1).await.is_none(), "and stays out");
    let sent = other.jetstream.publish(subject::upload(&cam2.id), upload_of(&cam2.id).into()).await.expect("sent");
    sent.await.expect("others are not disturbed");
}
