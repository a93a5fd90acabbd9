//! What the loop costs: one hop of 1 kB messages through a stage that does nothing, against the same by hand
//! (pull, publish, confirmed acknowledgement), on one connection and broker, in one run.
//!
//! `cargo bench -p dih-runner --bench hop [messages]` prints messages a second, CPU microseconds a message of this
//! process, and their ratio.

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::{Duration, Instant};

use async_nats::jetstream::{AckKind, consumer::PullConsumer};
use dih_core::{
    Delivery, Notice, Outcome, Stage, StageError, UploadSeq,
    event::{ImageStored, ImageUnique},
    topology::{IMAGES, header},
};
use dih_proto::Wire;
use dih_runner::RunnerConfig;
use futures::StreamExt;
use world::World;

const CONCURRENCY: usize = 32;

struct Pass;

impl Stage for Pass {
    const CONSUMER: &'static str = "dedupe";
    type Input = ImageStored;

    async fn process(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        Ok(Outcome::emit(Notice::Unique(ImageUnique { image: delivery.input.image })))
    }
}

fn main() {
    // `cargo test --benches` only looks whether it runs.
    let measuring = std::env::args().any(|a| a == "--bench");
    let given = std::env::args().skip(1).find_map(|a| a.parse().ok());
    let messages = given.unwrap_or(if measuring { 20_000 } else { 100 });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("{messages} messages, {CONCURRENCY} in work at once");
        for round in 1..=3 {
            let by_hand = hop(messages, Way::Hand).await;
            let by_loop = hop(messages, Way::Loop).await;
            println!("round {round}: by hand {by_hand}; loop {by_loop}; CPU ratio {:.2}", by_loop.cpu / by_hand.cpu);
        }
    });
}

enum Way {
    Hand,
    Loop,
}

struct Cost {
    a_second: f64,
    /// Microseconds a message.
    cpu: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s, {:.0} us CPU", self.a_second, self.cpu)
    }
}

async fn hop(messages: usize, way: Way) -> Cost {
    let world = World::new().await;
    fill(&world, messages).await;
    let (begun, cpu) = (Instant::now(), cpu());
    match way {
        Way::Hand => by_hand(&world, messages).await,
        Way::Loop => {
            let running = world.run_with(Pass, RunnerConfig::default(), 12);
            while running.health.counts().answered < messages as u64 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            running.stop().await.expect("an orderly end");
        }
    }
    let (seconds, n) = (begun.elapsed().as_secs_f64(), messages as f64);
    Cost { a_second: n / seconds, cpu: (self::cpu() - cpu).as_secs_f64() * 1e6 / n }
}

/// About 1 kB each.
fn fact(n: usize) -> ImageStored {
    let mut image = world::image(UploadSeq(n as u64 + 1), &format!("photo {n}"));
    image.source = Some("x".repeat(700));
    ImageStored { image }
}

async fn fill(world: &World, messages: usize) {
    let jetstream = world.connection.jetstream();
    let sent = futures::stream::iter(0..messages).map(|n| async move {
        let body = fact(n).encode();
        jetstream.publish("dih.v1.image.stored", body.into()).await.expect("sent").await.expect("stored");
    });
    sent.buffer_unordered(256).collect::<()>().await;
}

/// The least one can do: decode, publish named, confirmed acknowledgement.
async fn by_hand(world: &World, messages: usize) {
    let jetstream = world.connection.jetstream();
    let consumer: PullConsumer =
        jetstream.get_stream(IMAGES).await.expect("there").get_consumer("dedupe").await.expect("there");
    let deliveries = consumer.stream().max_messages_per_batch(CONCURRENCY).messages().await.expect("asked");
    let hops = deliveries.take(messages).map(|delivery| async move {
        let delivery = delivery.expect("whole");
        let image = ImageStored::decode(&delivery.payload).expect("ours").image;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header::MSG_ID, format!("by-hand.{}", image.upload));
        let body = ImageUnique { image }.encode();
        let sent = jetstream.publish_with_headers("dih.v1.image.unique", headers, body.into()).await.expect("sent");
        sent.await.expect("stored");
        delivery.double_ack_with(AckKind::Ack).await.expect("confirmed");
    });
    hops.buffer_unordered(CONCURRENCY).collect::<()>().await;
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time");
    // 100 ticks a second on every Linux we run on.
    Duration::from_millis(ticks * 10)
}
