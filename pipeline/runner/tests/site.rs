//! A site that is offline, with the two configurations of `config/nats` and two real servers.

mod world;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use async_nats::jetstream;
use dih_core::{
    DeviceId, Millis, Secret,
    device::{Device, Quota},
    event::Upload,
    topology::subject,
};
use dih_proto::Wire;
use dih_runner::{
    Access, ConnectOptions, Connection,
    broker::{inbox_prefix, keys, users},
    topology,
};
use futures::StreamExt;
use tokio::time::timeout;
use world::{nats_server, until};

/// One of the two brokers: its folder, and its server while it runs.
struct Server {
    home: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
    variables: Vec<(&'static str, String)>,
}

impl Server {
    /// From the configuration of the repository, without TLS and with ports and folders of its own.
    fn new(file: &str, devices: &[Device], changes: &[(&str, String)], variables: Vec<(&'static str, String)>) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/nats").join(file);
        let mut config = fs::read_to_string(from).expect("in the repository");
        let own = [
            ("listen: 0.0.0.0:4222", format!("listen: 127.0.0.1:{port}")),
            ("listen: 0.0.0.0:8883", format!("listen: 127.0.0.1:{}", free_port())),
            ("/var/lib/nats", home.path().join("store").display().to_string()),
            ("max_file_store: 20GB", "max_file_store: 2GB".to_owned()),
        ];
        for (what, by) in own.iter().chain(changes) {
            assert!(config.contains(what), "{file} has {what}");
            config = config.replace(what, by);
        }
        fs::write(home.path().join(file), config).expect("written");
        fs::write(home.path().join("tls.conf"), "").expect("written");
        fs::write(home.path().join("devices.conf"), users(devices)).expect("written");
        fs::rename(home.path().join(file), home.path().join("nats.conf")).expect("renamed");
        Self { home, port, process: None, variables }
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.home.path().join("log")).expect("a log");
        let mut command = Command::new(nats_server());
        command.arg("-c").arg(self.home.path().join("nats.conf")).envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().expect("nats-server starts"));
    }

    /// As a power cut would.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("ours");
            process.wait().expect("ours");
        }
    }

    async fn connect(&self, user: &str) -> Connection {
        let access = Access::Password { user: user.to_owned(), password: Secret::new(PASSWORD) };
        let url = format!("nats://127.0.0.1:{}", self.port);
        let connect = async || {
            let options = ConnectOptions { access: access.clone(), ..ConnectOptions::default() };
            Connection::connect(&url, options).await
        };
        until("the server answers", async || connect().await.is_ok()).await;
        connect().await.expect("it just did")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.home.path().join("log")).unwrap_or_default());
        }
    }
}

const PASSWORD: &str = "a-long-one";

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

fn device(name: &str) -> (keys::Given, Device) {
    let (given, keys) = keys::make().expect("keys");
    let id: DeviceId = name.parse().expect("valid");
    (given, Device { id, keys: Some(keys), quota: Quota::default(), added_at: Millis(0), changed_at: Millis(0) })
}

/// The hub, and the site with the camera cam7.
fn servers(cam: &Device) -> (Server, Server) {
    let (site_seed, site_keys) = keys::make().expect("keys");
    let leaf_port = free_port();
    let leaf_user = [
        ("listen: 0.0.0.0:7422", format!("listen: 127.0.0.1:{leaf_port}")),
        ("      # { nkey: U…,", format!("      {{ nkey: {},", site_keys.nkey)),
        ("      #   ", "        ".to_owned()),
        ("      # } }", "      } }".to_owned()),
    ];
    let hub = Server::new("hub.conf", &[], &leaf_user, vec![("DIH_BROKER_PASSWORD", PASSWORD.to_owned())]);
    let remote = [
        ("tls://hub.example.com:7422", format!("nats://127.0.0.1:{leaf_port}")),
        ("tls { ca_file: \"certs/ca.pem\" }", String::new()),
    ];
    let variables =
        vec![("DIH_SITE_PASSWORD", PASSWORD.to_owned()), ("DIH_SITE_SEED", site_seed.seed.expose().to_owned())];
    (hub, Server::new("leaf.conf", std::slice::from_ref(cam), &remote, variables))
}

/// Sends so many uploads as the camera, each with its receipt of the site.
async fn send(site: &Server, given: &keys::Given, cam: &DeviceId, from: usize, count: usize) {
    let client = async_nats::ConnectOptions::with_nkey(given.seed.expose().to_owned())
        .custom_inbox_prefix(inbox_prefix(cam))
        .connect(format!("127.0.0.1:{}", site.port))
        .await
        .expect("is let in");
    let jetstream = jetstream::new(client);
    for number in from..from + count {
        let upload = Upload { device: cam.clone(), ..world::photo(&number.to_string()) };
        let sent = jetstream.publish(subject::upload(cam), upload.encode().into()).await.expect("sent");
        sent.await.expect("the site keeps it");
    }
}

/// Sources of all uploads at the hub, in their order.
async fn arrived(hub: &Connection) -> Vec<String> {
    let mut stream = hub.jetstream().get_stream("UPLOADS").await.expect("is there");
    let last = stream.info().await.expect("told").state.last_sequence;
    let mut sources = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.expect("still there");
        sources.push(Upload::decode(&message.payload).expect("an upload").source.expect("named"));
    }
    sources
}

async fn count(hub: &Connection) -> u64 {
    hub.jetstream().get_stream("UPLOADS").await.map_or(0, |stream| stream.cached_info().state.messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_site_took_while_it_was_offline_arrives_once_and_in_order() {
    let (given, cam) = device("cam7");
    let (mut hub, mut site) = servers(&cam);
    let options = topology::Options { sites: vec!["site1".to_owned()], ..topology::Options::default() };
    hub.start();
    topology::setup(&hub.connect("dih").await, &options).await.expect("made");
    topology::check(&hub.connect("dih").await, &options).await.expect("as made");
    hub.kill();

    site.start();
    topology::setup_site(&site.connect("site").await, None).await.expect("made");
    send(&site, &given, &cam.id, 0, 20).await;
    site.kill();
    site.start();
    site.connect("site").await;
    send(&site, &given, &cam.id, 20, 20).await;

    hub.start();
    let connection = hub.connect("dih").await;
    until_arrived(&connection, 40).await;
    send(&site, &given, &cam.id, 40, 10).await;
    until_arrived(&connection, 50).await;
    let want: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(arrived(&connection).await, want);
    assert_eq!(count(&connection).await, 50, "nothing came twice by another way");

    // An answer of the hub reaches the camera at its site.
    let camera = async_nats::ConnectOptions::with_nkey(given.seed.expose().to_owned());
    let camera = camera.connect(format!("127.0.0.1:{}", site.port)).await.expect("is let in");
    let mut answers = camera.subscribe(subject::told(&cam.id)).await.expect("allowed");
    camera.flush().await.expect("listens");
    let heard = tokio::spawn(async move { answers.next().await });
    until("the answer is heard", async || {
        connection.client().publish(subject::told(&cam.id), "an answer".into()).await.expect("sent");
        heard.is_finished()
    })
    .await;
    assert_eq!(heard.await.expect("no panic").expect("a message").payload, "an answer");
}

/// The hub looks for a site that comes back less and less often, up to every 40 seconds.
async fn until_arrived(hub: &Connection, uploads: u64) {
    let arrive = async {
        while count(hub).await < uploads {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(4 * world::DEADLINE, arrive).await.expect("in vain waited until all uploads are at the hub");
}
