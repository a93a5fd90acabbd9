//! A broker of our own that listens for devices, with two of them let in, and clients as devices have them.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, Event, jetstream};
use dih_core::{
    DeviceId, Millis,
    device::{Device, Quota},
};
use dih_runner::{
    Broker, ConnectOptions, Connection,
    broker::{Options, Tls, guard_main, inbox_prefix, keys},
    topology,
};
use rumqttc::{AsyncClient, ConnectReturnCode, EventLoop, MqttOptions, Packet, QoS};
use tokio::time::timeout;

use crate::world::{DEADLINE, nats_server, until};

/// What stands in for the hidden subcommand: a test of this name must call [`guard_entry`].
pub const ENTRY: &str = "guard_entry";

pub fn guard_entry() {
    let Some(home) = std::env::var_os("DIH_TEST_GUARD_HOME") else { return };
    let options = std::env::var("DIH_TEST_GUARD_OPTIONS").expect("given beside it").parse().expect("options");
    guard_main(Path::new(&home), &nats_server(), &options).expect("the guard ends in peace");
    std::process::exit(0);
}

pub struct Gate {
    pub broker: Broker,
    pub hub: Connection,
    pub mqtt: SocketAddr,
    ca_file: Option<PathBuf>,
    _home: tempfile::TempDir,
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port")
}

pub struct Cam {
    pub id: DeviceId,
    given: keys::Given,
    pub device: Device,
}

impl Cam {
    pub fn new(id: &str) -> Self {
        let (given, keys) = keys::make().expect("keys");
        let id: DeviceId = id.parse().expect("valid");
        let quota = Quota::default();
        let device = Device { id: id.clone(), keys: Some(keys), quota, added_at: Millis(0), changed_at: Millis(0) };
        Self { id, given, device }
    }
}

impl Gate {
    pub async fn open() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        Self::with(Options { mqtt: Some(free_address()), ..Options::default() }, None, home).await
    }

    /// With a certificate that nobody knows, at both listeners.
    pub async fn open_by_tls() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let (cert_file, key_file) = (home.path().join("cert.pem"), home.path().join("key.pem"));
        std::fs::write(&cert_file, made.cert.pem()).expect("written");
        std::fs::write(&key_file, made.signing_key.serialize_pem()).expect("written");
        let tls = Some(Tls { cert_file: cert_file.clone(), key_file });
        let options = Options { listen: Some(free_address()), mqtt: Some(free_address()), tls };
        Self::with(options, Some(cert_file), home).await
    }

    async fn with(options: Options, ca_file: Option<PathBuf>, home: tempfile::TempDir) -> Self {
        let mut guard = Command::new(std::env::current_exe().expect("we run"));
        guard.args([ENTRY, "--exact", "--nocapture", "--test-threads", "1", "--"]);
        guard.env("DIH_TEST_GUARD_HOME", home.path()).env("DIH_TEST_GUARD_OPTIONS", options.to_string());
        let broker = Broker::attach_with(home.path(), &nats_server(), &options, guard).await.expect("a broker");
        let access =
            ConnectOptions { access: broker.access().clone(), ca_file: ca_file.clone(), ..ConnectOptions::default() };
        let hub = Connection::connect(broker.url(), access).await.expect("it answers");
        topology::setup(&hub, &topology::Options::default()).await.expect("made");
        let mqtt = options.mqtt.expect("one was given");
        Self { broker, hub, mqtt, ca_file, _home: home }
    }

    pub async fn admit(&self, cams: &[&Cam]) {
        let devices: Vec<Device> = cams.iter().map(|cam| cam.device.clone()).collect();
        self.broker.admit(&devices).await.expect("written");
    }

    /// As `(stream, messages ever)` of all that a device could harm.
    pub async fn ledger(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        for stream in ["UPLOADS", "VERDICTS", "REVISIONS", "IMAGES", "EVENTS", "DEAD", "KV_dih_state", "KV_dih_quota"] {
            let mut info = self.hub.jetstream().get_stream(stream).await.expect("is there");
            found.push((stream.to_owned(), info.info().await.expect("told").state.last_sequence));
        }
        found
    }

    /// Consumers of the ledger, which would read it.
    pub async fn readers(&self) -> usize {
        let stream = self.hub.jetstream().get_stream("VERDICTS").await.expect("is there");
        stream.cached_info().state.consumer_count
    }

    pub async fn nats(&self, cam: &Cam) -> Result<NatsDevice, async_nats::ConnectError> {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let heard = errors.clone();
        let options = async_nats::ConnectOptions::with_nkey(cam.given.seed.expose().to_owned());
        let options = match &self.ca_file {
            Some(ca_file) => options.add_root_certificates(ca_file.clone()),
            None => options,
        };
        let client = options
            .custom_inbox_prefix(inbox_prefix(&cam.id))
            .max_reconnects(1)
            .event_callback(move |event| {
                let heard = heard.clone();
                async move {
                    if let Event::ServerError(error) = event {
                        heard.lock().expect("nobody panics").push(error.to_string().to_lowercase());
                    }
                }
            })
            .connect(self.broker.url())
            .await?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(Duration::from_secs(2));
        Ok(NatsDevice { client, jetstream, errors })
    }

    /// None where the server refuses the name or the password.
    pub async fn mqtt(&self, cam: &Cam) -> Option<MqttDevice> {
        self.mqtt_as(cam.id.as_str(), cam.given.password.expose()).await
    }

    pub async fn mqtt_as(&self, user: &str, password: &str) -> Option<MqttDevice> {
        let until = tokio::time::Instant::now() + DEADLINE;
        loop {
            let client = format!("{user}-{:x}", rand::random::<u64>());
            let mut options = MqttOptions::new(client, self.mqtt.ip().to_string(), self.mqtt.port());
            options.set_credentials(user, password).set_max_packet_size(9 << 20, 9 << 20);
            let (client, mut events) = AsyncClient::new(options, 100);
            match events.poll().await {
                Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => {
                    return Some(MqttDevice { client, events, heard: Vec::new() });
                }
                Err(rumqttc::ConnectionError::ConnectionRefused(
                    ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
                )) => return None,
                // It may still be starting.
                other if tokio::time::Instant::now() > until => unreachable!("{other:?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

pub struct NatsDevice {
    pub client: Client,
    pub jetstream: jetstream::Context,
    errors: Arc<Mutex<Vec<String>>>,
}

impl NatsDevice {
    /// Waits until the server says that it denies this.
    pub async fn is_denied(&self, what: &str, subject: &str) {
        let told = format!("permissions violation for {what} to \"{subject}\"").to_lowercase();
        let heard = async || self.errors.lock().expect("nobody panics").iter().any(|error| error.contains(&told));
        until(&told, heard).await;
    }
}

pub struct MqttDevice {
    client: AsyncClient,
    events: EventLoop,
    heard: Vec<(String, Vec<u8>)>,
}

impl MqttDevice {
    /// Sends and waits for the server's word, which is no receipt.
    pub async fn publish(&mut self, topic: &str, body: &[u8]) {
        self.client.publish(topic, QoS::AtLeastOnce, false, body).await.expect("queued");
        self.next(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    /// Whether the server lets us.
    pub async fn subscribe(&mut self, topic: &str) -> bool {
        self.client.subscribe(topic, QoS::AtMostOnce).await.expect("queued");
        let granted = |packet: &Packet| match packet {
            Packet::SubAck(ack) => {
                Some(ack.return_codes.iter().all(|code| *code != rumqttc::SubscribeReasonCode::Failure))
            }
            _ => None,
        };
        self.next(granted).await
    }

    /// The next message: its topic and body.
    pub async fn message(&mut self) -> (String, Vec<u8>) {
        if self.heard.is_empty() {
            self.next(|packet| matches!(packet, Packet::Publish(_)).then_some(())).await;
        }
        self.heard.remove(0)
    }

    /// Waits until the server has thrown us out.
    pub async fn is_thrown_out(&mut self) {
        let out = async { while self.events.poll().await.is_ok() {} };
        timeout(DEADLINE, out).await.expect("in vain waited to be thrown out");
    }

    async fn next<T>(&mut self, mut wanted: impl FnMut(&Packet) -> Option<T>) -> T {
        let wait = async {
            loop {
                let rumqttc::Event::Incoming(packet) = self.events.poll().await.expect("connected") else { continue };
                // It may come before the word that is waited for.
                if let Packet::Publish(message) = &packet {
                    self.heard.push((message.topic.clone(), message.payload.to_vec()));
                }
                if let Some(found) = wanted(&packet) {
                    return found;
                }
            }
        };
        timeout(DEADLINE, wait).await.expect("in vain waited for the server's word")
    }
}
