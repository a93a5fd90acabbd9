//! The whole way with blobs in a bucket of a real S3 server, held against the same crowd with blobs in a folder.

mod bucket;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use dih_stores::contract::weed::WeedServer;
use dih_tests::World;

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
async fn a_wrong_secret_stops_the_stages_before_they_take_work() -> Result<()> {
    let server = WeedServer::start().await;
    let world = World::new()?;
    keep_in_bucket(&world, &server, "dih-flow")?;
    world.run(&["setup"])?;
    fs::write(world.home().join(SECRET_FILE), "a forgotten one")?;
    let refused = world.try_run(&["run", "--until-idle"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("correct `stores.s3.access_key_id` and its secret"), "{said}");
    assert!(!said.contains("forgotten"), "{said}");
    Ok(())
}
