//! What only a client of the broker can do: messages twice, in another order, and a stream that is full.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use async_nats::{
    HeaderMap,
    jetstream::{AckKind, consumer::pull, message::PublishMessage, stream::Config},
};
use dih_core::topology::{self, IMAGES};
use dih_runner::Submitter;
use dih_tests::fleet::{PATIENCE, said};
use futures::StreamExt;
use tokio::time::sleep;

use crate::{crowd::Crowd, scene::Scene, strike::Seen};

/// Facts, at least, that are published once more, out of those on their way.
const AGAIN: usize = 10;
/// Deliveries that somebody else takes.
const TAKEN: usize = 10;

/// A fact as it lay in its stream.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    subject: String,
    headers: HeaderMap,
    payload: bytes::Bytes,
}

/// Publishes facts that are on their way once more, last first, and some of much earlier, all without their names: so the
/// broker takes them for new ones.
pub(crate) async fn facts_again(scene: &mut Scene) -> Result<Seen> {
    let (begun, mut facts) = (Instant::now(), BTreeMap::new());
    scene.burst(AGAIN as u64);
    while facts.len() < AGAIN {
        ensure!(begun.elapsed() < PATIENCE, "only {} facts were on their way", facts.len());
        on_their_way(scene, &mut facts).await?;
        scene.look().await;
    }
    let facts: Vec<Fact> = facts.into_values().collect();
    let earlier = scene.facts.len().min(2 * AGAIN);
    let old: Vec<Fact> = scene.facts.drain(..earlier).collect();
    scene.facts.extend(facts.iter().cloned());
    let (now, before) = (facts.len(), old.len());
    for fact in facts.into_iter().rev().chain(old) {
        let publish = PublishMessage::build().headers(fact.headers).payload(fact.payload);
        let taken = scene.bus.jetstream().send_publish(fact.subject, publish).await?.await?;
        ensure!(!taken.duplicate, "the broker knew it");
    }
    Ok(Seen { target: IMAGES.into(), told: format!("{now} facts under way came again, and {before} of earlier") })
}

/// Adds those that lie in the stream just now, by their number there.
async fn on_their_way(scene: &Scene, facts: &mut BTreeMap<u64, Fact>) -> Result<()> {
    let stream = scene.bus.jetstream().get_stream(IMAGES).await?;
    let state = &stream.cached_info().state;
    for sequence in (state.first_sequence..=state.last_sequence).rev().take(AGAIN) {
        // What is done is gone, perhaps this very moment.
        let Ok(found) = stream.direct_get(sequence).await else { continue };
        let mut headers = HeaderMap::new();
        for (name, values) in found.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-")) {
            values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
        }
        facts.insert(sequence, Fact { subject: found.subject.to_string(), headers, payload: found.payload });
    }
    Ok(())
}

/// A device that did not hear the answers sends its last uploads again, under their names.
pub(crate) async fn uploads_again(scene: &mut Scene, crowd: &Crowd, device: &Submitter) -> Result<Seen> {
    let sent = usize::try_from(scene.progress.sent.load(Ordering::SeqCst))?;
    let again = sent.saturating_sub(8)..sent;
    let (from, count) = (again.start + 1, again.len());
    for n in again {
        let receipt = device.submit(crowd.upload(n)?).await?;
        ensure!(receipt.again && receipt.upload.0 == n as u64 + 1, "the {}th upload was taken as {receipt:?}", n + 1);
    }
    Ok(Seen { target: "UPLOADS".into(), told: format!("{count} from {from} on sent again, each kept its number") })
}

/// Somebody takes deliveries, hands every second one back for later, and is never heard of again.
pub(crate) async fn reorder(scene: &mut Scene, name: &'static str) -> Result<Seen> {
    let spec = topology::consumer(name).context("a row of the table")?;
    let stream = scene.bus.jetstream().get_stream_no_info(spec.stream).await?;
    let consumer = stream.get_consumer::<pull::Config>(name).await.map_err(anyhow::Error::from_boxed)?;
    let (mut later, mut never) = (0, 0);
    let begun = Instant::now();
    scene.burst(TAKEN as u64);
    while later + never == 0 {
        ensure!(begun.elapsed() < PATIENCE, "{name} has no delivery to take");
        let batch = consumer.batch().max_messages(TAKEN).expires(Duration::from_secs(2)).messages().await?;
        let mut batch = Box::pin(batch);
        while let Some(Ok(message)) = batch.next().await {
            if (later + never) % 2 == 0 {
                let kind = AckKind::Nak(Some(Duration::from_millis(1_500)));
                message.ack_with(kind).await.map_err(anyhow::Error::from_boxed)?;
                later += 1;
            } else {
                never += 1;
            }
        }
        scene.look().await;
    }
    Ok(Seen {
        target: name.into(),
        told: format!("{later} deliveries handed back for later, {never} held and forgotten"),
    })
}

/// A stream has room for nothing more, until somebody was refused.
pub(crate) async fn fill(scene: &mut Scene, name: &'static str) -> Result<Seen> {
    let before = refused(scene, name);
    let full = limit(scene, name, 1).await;
    let struck = match full {
        Ok(()) => scene.until("somebody is refused", |scene| Ok(refused(scene, name) > before)).await,
        Err(error) => Err(error),
    };
    sleep(Duration::from_secs(2)).await; // so long it stays full
    limit(scene, name, -1).await?;
    struck?;
    let told = match name {
        IMAGES => "stages were refused, said so and went on later".to_owned(),
        _ => format!("{} sends refused and repeated", refused(scene, name) - before),
    };
    Ok(Seen { target: name.into(), told })
}

/// How often anybody was told that a stream is full.
fn refused(scene: &Scene, name: &str) -> u64 {
    match name {
        IMAGES => {
            let told = |log: String| log.matches("stream IMAGES is full").count() as u64;
            scene.replicas.iter().map(|replica| told(said(&scene.world, &replica.name, 0))).sum()
        }
        _ => scene.progress.full.load(Ordering::SeqCst),
    }
}

async fn limit(scene: &Scene, name: &str, bytes: i64) -> Result<()> {
    let info = scene.bus.jetstream().get_stream(name).await?.cached_info().clone();
    let config = Config { max_bytes: bytes, ..info.config };
    let updated = scene.bus.jetstream().update_stream(config).await?;
    ensure!(bytes < 0 || updated.state.messages >= info.state.messages / 2, "a full stream dropped what it held");
    Ok(())
}
