//! The whole way with blobs in a bucket of a real S3 server, held against the same crowd with blobs in a folder.

mod bucket;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use async_nats::{Message, Subscriber};
use dih_core::event::{Content, Upload};
use dih_proto::Wire;
use dih_stores::contract::weed::WeedServer;
use dih_tests::World;
use futures::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use bucket::SECRET_FILE;

/// Has this home keep its blobs in a bucket.
fn keep_in_bucket(world: &World, server: &WeedServer, name: &str) -> Result<()> {
    Ok(fs::write(world.home().join("dih.toml"), bucket::section(world, server, name)?)?)
}

/// A few of the demo's small photos, one folder a label.
fn photos(world: &World) -> Result<PathBuf> {
    let (from, to) = (dih_tests::tools()?.join("photos"), world.home().join("photos"));
    for (label, photo) in [("coin", "coins.png"), ("rocket", "rocket.jpg"), ("flower", "flower.jpg")] {
        fs::create_dir_all(to.join(label))?;
        fs::copy(from.join(photo), to.join(label).join(photo))?;
    }
    Ok(to)
}

/// From the devices to a version; gives its members.
fn publish(world: &World) -> Result<Vec<(String, String, String)>> {
    let photos = photos(world)?;
    world.run(&["simulate", &photos.to_string_lossy(), "--uploads", "40", "--devices", "3", "--seed", "5"])?;
    world.run(&["run", "--until-idle"])?;
    let uploads = world.run_json(&["audit", "--json"])?["uploads"].as_u64().context("uploads")?;
    world.audit_is_clean(uploads)?;
    world.run(&["datasets", "create", "crowd"])?;
    world.run(&["datasets", "cut", "crowd"])?;
    world.run(&["datasets", "verify", "crowd@1"])?;
    let mut members = world.members("crowd@1")?;
    members.sort();
    Ok(members)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_publishes_what_a_folder_does() -> Result<()> {
    let server = WeedServer::start().await;
    let (folder, bucket) = (World::new()?, World::new()?);
    keep_in_bucket(&bucket, &server, "dih-flow")?;

    let told = bucket.run(&["setup"])?;
    assert!(told.contains("keeps versions"), "{told}");
    let published = publish(&bucket)?;
    assert!(published.len() > 10, "{} members", published.len());
    assert_eq!(published, publish(&folder)?);
    assert!(!bucket.home().join("blobs").exists(), "something went around the store");

    for format in ["webdataset", "image-folder"] {
        let out = bucket.home().join(format);
        bucket.run(&["datasets", "export", "crowd@1", "--format", format, &out.to_string_lossy()])?;
        assert!(fs::read_dir(&out)?.next().is_some(), "{format}");
    }
    let shown = bucket.run(&["datasets", "show", "crowd@1"])?;
    assert!(shown.contains("s3://dih-flow/hub/one/datasets/crowd/1/manifest.parquet"), "{shown}");
    bucket.run(&["calibrate", "--photos", "2"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_too_large_for_a_message_is_put_where_the_hub_says() -> Result<()> {
    let server = WeedServer::start().await;
    let world = World::new()?;
    keep_in_bucket(&world, &server, "dih-links")?;
    world.run(&["setup"])?;
    let mut hub = world.start(&["run", "ingest"])?;
    let keys = world.home().join("keys");
    world.run(&["device", "add", "cam1", "--dir", &keys.to_string_lossy()])?;
    let seed = fs::read_to_string(keys.join("cam1.nk"))?;
    let sent = timeout(Duration::from_secs(120), send_by_link(&world, seed.trim())).await;
    hub.kill()?;
    hub.wait()?;
    let (key, answer) = sent??;
    assert!(key.starts_with("inbox/cam1/"), "{key}");
    assert_eq!(
        (answer["upload"].as_u64(), answer["reason"].as_str()),
        (Some(1), Some("unsupported_format")),
        "{answer}"
    );
    Ok(())
}

/// As a device does: asks, puts, says where it is, and listens. Gives the key and the answer.
/// Connects anew each time it is called.
async fn ask_for_link(world: &World, seed: &str, hash: &str) -> Result<(async_nats::Client, Subscriber, Message)> {
    let at = format!("127.0.0.1:{}", fs::read_to_string(world.home().join("broker/port"))?.trim());
    let options = async_nats::ConnectOptions::with_nkey(seed.to_owned()).custom_inbox_prefix("_INBOX_cam1");
    let client = options.connect(at).await?;
    let answers = client.subscribe("dih.v1.answer.cam1.json").await?;
    let link = client.request("dih.v1.link.cam1", hash.to_owned().into()).await?;
    Ok((client, answers, link))
}

async fn send_by_link(world: &World, seed: &str) -> Result<(String, Value)> {
    let photo = vec![7; 9 << 20];
    // Whoever asks second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hash: String = Sha256::digest(&photo).iter().map(|byte| format!("{byte:02x}")).collect();
    let (client, mut answers, link) = loop {
        // The broker of the last command may be ending, that of the hub starting at another port, and nobody answers yet.
        match ask_for_link(world, seed, &hash).await {
            Ok(asked) => break asked,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let link: Value = serde_json::from_slice(&link.payload)?;
    let (url, key) = (link["url"].as_str().context("a URL")?, link["key"].as_str().context("a key")?);
    reqwest::Client::new().put(url).body(photo).send().await?.error_for_status()?;
    let upload = Upload {
        device: "cam1".parse()?,
        labels: vec!["shirt".parse()?],
        content: Content::Stored(key.parse()?),
        source: None,
        captured_at: None,
        attributes: Default::default(),
    };
    client.publish("dih.v1.upload.cam1", upload.encode().into()).await?;
    let answer = answers.next().await.context("an answer")?;
    Ok((key.to_owned(), serde_json::from_slice(&answer.payload)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_stops_the_stages_before_they_take_work() -> Result<()> {
    let server = WeedServer::start().await;
    let world = World::new()?;
    keep_in_bucket(&world, &server, "dih-flow")?;
    world.run(&["setup"])?;
    world.run(&["setup", "--check"])?;
    fs::write(world.home().join(SECRET_FILE), "a forgotten one")?;
    for command in [["run", "--until-idle"], ["setup", "--check"]] {
        let refused = world.try_run(&command)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains("correct `stores.s3.access_key_id` and its secret"), "{said}");
        assert!(!said.contains("forgotten"), "{said}");
    }
    Ok(())
}
