//! From the keys of a device to the answer that it hears: the real command, the real broker, MQTT as a camera speaks it. And
//! what those keys do not open.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use dih_stores::contract::weed::WeedServer;
use dih_tests::{World, fleet};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::Value;

const PHOTOS_PER_HOUR: usize = 4;
/// One more than two hours allow, should the hour turn in between.
const SENT: usize = 2 * PHOTOS_PER_HOUR + 1;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_camera_sends_plain_photos_and_hears_what_became_of_each() -> Result<()> {
    let world = World::new()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    fs::write(world.home().join("dih.toml"), format!("[broker.devices]\nmqtt = \"127.0.0.1:{port}\"\n"))?;
    let keys = world.home().join("keys");
    let keys_dir = keys.to_string_lossy();
    let quota = PHOTOS_PER_HOUR.to_string();
    world.run(&["device", "add", "cam1", "--dir", &keys_dir, "--photos-per-hour", &quota])?;
    let again = world.try_run(&["device", "add", "cam1", "--dir", &keys_dir])?;
    assert_eq!(again.status.code(), Some(1), "a name is given once");
    assert!(String::from_utf8_lossy(&again.stderr).contains("dih device rotate cam1"), "{again:?}");
    let password = fs::read_to_string(keys.join("cam1.password"))?;

    let mut hub = world.start(&["run", "ingest"])?;
    let answers = send(port, password.trim());
    hub.kill()?;
    hub.wait()?;
    let answers = answers?;
    let over = answers.iter().filter(|answer| answer["reason"] == "over_quota").count();
    assert!((1..=SENT - PHOTOS_PER_HOUR).contains(&over), "{answers:#?}");
    assert!(answers.iter().all(|answer| answer["labels"][0] == "hot dog"), "{answers:#?}");

    let listed = world.run_json(&["device", "ls", "--json"])?;
    assert_eq!((&listed["device"], &listed["keys"]), (&"cam1".into(), &"given".into()));
    assert_eq!(listed["uploads"], answers.len());
    world.run(&["device", "revoke", "cam1"])?;
    assert_eq!(world.run_json(&["device", "ls", "--json"])?["keys"], "revoked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_was_given_opens_neither_the_index_nor_the_blobs() -> Result<()> {
    let (world, buckets) = (World::new()?, WeedServer::start().await);
    let (keys, key) = (world.home().join("keys"), world.home().join("index-key"));
    fs::write(&key, "only the hub knows")?;
    world.run(&["device", "add", "cam1", "--dir", &keys.to_string_lossy()])?;
    let (mut index, url) =
        fleet::serve_index(&world, "127.0.0.1:0", &format!("api_key_file = \"{}\"\n", key.display()))?;
    let bucket = buckets.options("dih-flow");
    let tried = ["cam1.nk", "cam1.password"].map(|file| keys.join(file)).iter().try_for_each(|given| {
        let given = given.display();
        let index = format!("[stores.qdrant]\nurl = \"{url}\"\napi_key_file = \"{given}\"\n");
        refused(&index, "`stores.qdrant.api_key_file`")?;
        let (endpoint, name) = (&bucket.endpoint, &bucket.bucket);
        let blobs = format!(
            "[stores.s3]\nendpoint = \"{endpoint}\"\nbucket = \"{name}\"\naccess_key_id = \"cam1\"\n\
             secret_access_key_file = \"{given}\"\n"
        );
        refused(&blobs, "`stores.s3.access_key_id`")
    });
    index.kill()?;
    index.wait()?;
    tried
}

/// Whoever comes with these settings is sent away, and told what to correct.
fn refused(settings: &str, remedy: &str) -> Result<()> {
    let intruder = World::new()?;
    fs::write(intruder.home().join("dih.toml"), settings)?;
    let ended = intruder.try_run(&["run", "--until-idle"])?;
    let said = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(!ended.status.success() && said.contains(remedy), "{settings}\n{said}");
    Ok(())
}

/// Sends files that are no pictures, and collects the answers.
fn send(port: u16, password: &str) -> Result<Vec<Value>> {
    let mut options = MqttOptions::new("cam1", "127.0.0.1", port);
    options.set_credentials("cam1", password).set_max_packet_size(9 << 20, 9 << 20);
    let (client, mut connection) = Client::new(options, 100);
    let (mut answers, mut listens) = (Vec::new(), false);
    while answers.len() < SENT {
        let event = connection.recv_timeout(PATIENCE).ok().with_context(|| format!("only {answers:?}"))?;
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => client.subscribe("dih/v1/answer/cam1/json", QoS::AtMostOnce)?,
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                listens = true;
                for number in 0..SENT {
                    let body = format!("no picture {number}");
                    client.publish("dih/v1/raw/cam1/hot%20dog", QoS::AtLeastOnce, false, body)?;
                }
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                answers.push(serde_json::from_slice(&message.payload).context("JSON")?);
            }
            Ok(_) => {}
            // The broker that the last command used may be ending, and another one starting.
            Err(_) if !listens => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => bail!("{error}"),
        }
    }
    Ok(answers)
}
