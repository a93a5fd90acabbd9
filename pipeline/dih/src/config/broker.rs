//! The message broker: one that is named, or one of our own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use dih_core::{
    config::{ByteSize, Faults, HumanDuration},
    topology::{self, DEAD, EVENTS, IMAGES, REVISIONS, UPLOADS, VERDICTS},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// The largest message and then some.
const STREAM_BYTES_MIN: u64 = 16 << 20;

/// The message broker.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// Address of a broker, `tls://host:4222`. Left out, an embedded one runs as a child process in the home folder.
    pub url: Option<String>,
    /// Whether `nats://` to another machine is wanted, where anybody on the way could read and change photos, and the
    /// embedded broker may listen for devices without TLS.
    pub allow_plaintext: bool,
    /// PEM file of certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Name to log in with; the password comes from `password_file` or the variable DIH_BROKER_PASSWORD.
    pub user: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// File that holds the seed of a NATS user (`SU…`), in place of a name.
    pub nkey_file: Option<PathBuf>,
    /// NATS credentials file (JWT and nkey), in place of a name.
    pub creds_file: Option<PathBuf>,
    /// The `nats-server` program of the embedded broker. Left out, the one that `make setup` fetched is found.
    pub nats_server: Option<PathBuf>,
    /// Copies of each message in a cluster: 1, 3 or 5.
    pub replicas: usize,
    /// Time without a sign of life of a stage after which its message goes to another replica, `1s` to `10m`.
    pub lease: HumanDuration,
    /// JetStream domains of sites whose devices send to a broker of their own, which keeps what they send while it is
    /// offline. See docs/devices.md.
    pub sites: Vec<String>,
    /// Most bytes that a stream may hold, `20GiB`. A full one refuses what is new: devices are told, stages wait, and nothing
    /// is dropped. Left out: as the disk allows.
    pub bytes_max: BytesMax,
    /// Where the embedded broker listens for devices. See docs/devices.md.
    pub devices: Devices,
}

/// Most bytes that a stream may hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BytesMax {
    /// Uploads that wait for ingest.
    pub uploads: Option<ByteSize>,
    /// What stages tell each other, some 2 kB a photo.
    pub images: Option<ByteSize>,
    /// First answers, some 2 kB each, kept for good.
    pub verdicts: Option<ByteSize>,
    /// Later answers, kept for good.
    pub revisions: Option<ByteSize>,
    /// Published versions and trained models, kept for good.
    pub events: Option<ByteSize>,
    /// Messages that no stage could process, as they came, kept for good.
    pub dead: Option<ByteSize>,
}

impl BytesMax {
    pub fn by_stream(&self) -> BTreeMap<&'static str, ByteSize> {
        let Self { uploads, images, verdicts, revisions, events, dead } = *self;
        let all = [
            (UPLOADS, uploads),
            (IMAGES, images),
            (VERDICTS, verdicts),
            (REVISIONS, revisions),
            (EVENTS, events),
            (DEAD, dead),
        ];
        all.into_iter().filter_map(|(stream, bytes)| Some((stream, bytes?))).collect()
    }
}

/// Where the embedded broker listens for devices, which `dih device add` gives their keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Devices {
    /// Address for NATS, `0.0.0.0:4222`. Left out, the broker is reached from this machine only, at any free port.
    pub listen: Option<SocketAddr>,
    /// Address for MQTT, `0.0.0.0:8883`. Left out, no MQTT is spoken.
    pub mqtt: Option<SocketAddr>,
    /// PEM file of the certificate for both; valid for `127.0.0.1` too, where the hub itself connects.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            url: None,
            allow_plaintext: false,
            ca_file: None,
            user: None,
            password_file: None,
            nkey_file: None,
            creds_file: None,
            nats_server: None,
            replicas: 1,
            lease: HumanDuration(topology::LEASE),
            sites: Vec::new(),
            bytes_max: BytesMax::default(),
            devices: Devices::default(),
        }
    }
}

impl Broker {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require([1, 3, 5].contains(&self.replicas), "broker.replicas", "is not 1, 3 or 5", "try `1`");
        let lease = (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.lease.0);
        faults.require(lease, "broker.lease", "is not between 1s and 10m", "try `30s`");
        let logins = [
            ("broker.user", self.user.is_some()),
            ("broker.nkey_file", self.nkey_file.is_some()),
            ("broker.creds_file", self.creds_file.is_some()),
        ];
        let mut given = logins.iter().filter(|(_, given)| *given);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            faults.add(*second, format!("stands beside `{first}`"), "log in with one of the two");
        }
        let login = logins.iter().any(|(_, given)| *given);
        let named = self.url.is_some() || !login;
        faults.require(named, "broker.url", "is missing, but a login is given", "name the broker to log in to");
        if let Some(url) = &self.url {
            let safe = self.allow_plaintext || !is_plain_to_others(url);
            let hint = "write `tls://`, or say that this is wanted with `broker.allow_plaintext = true`";
            faults.require(safe, "broker.url", "is plain text to another machine", hint);
        }
        let token =
            |site: &String| !site.is_empty() && site.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let sites = self.sites.iter().all(token);
        faults.require(sites, "broker.sites", "holds what is no domain", "use letters, digits, `-` and `_`");
        let small = |(stream, bytes): (&'static str, ByteSize)| (bytes.0 < STREAM_BYTES_MIN).then_some(stream);
        if let Some(stream) = self.bytes_max.by_stream().into_iter().find_map(small) {
            let path = format!("broker.bytes_max.{}", stream.to_lowercase());
            faults.add(path, "is less than the largest message", "try `1GiB`");
        }
        self.check_devices(faults);
    }

    fn check_devices(&self, faults: &mut Faults) {
        let Devices { listen, mqtt, cert_file, key_file } = &self.devices;
        let ours = self.url.is_none() || self.devices == Devices::default();
        let hint = "configure the listeners of the broker that `broker.url` names, or leave that out";
        faults.require(ours, "broker.devices", "is of the embedded broker, but another one is named", hint);
        let both = cert_file.is_some() == key_file.is_some();
        faults.require(both, "broker.devices.key_file", "and `cert_file` belong together", "name both, or none");
        for (path, at) in [("broker.devices.listen", listen), ("broker.devices.mqtt", mqtt)] {
            let Some(at) = at else { continue };
            faults.require(at.port() != 0, path, "has no port", "try `0.0.0.0:4222`");
            let open = !at.ip().is_loopback();
            let safe = !open || cert_file.is_some() || self.allow_plaintext;
            let hint =
                "name `cert_file` and `key_file`, or say that this is wanted with `broker.allow_plaintext = true`";
            faults.require(safe, path, "is open to other machines without TLS", hint);
        }
        if let Some(at) = listen {
            let reached = at.ip().is_loopback() || at.ip().is_unspecified();
            faults.require(
                reached,
                "broker.devices.listen",
                "leaves out 127.0.0.1, where the hub itself connects",
                "try `0.0.0.0:4222`",
            );
        }
    }
}

/// What cannot be read as an address is told where it is connected to.
fn is_plain_to_others(url: &str) -> bool {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("nats://{url}") };
    let Ok(url) = Url::parse(&with_scheme) else { return false };
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !["tls", "wss"].contains(&url.scheme()) && !loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let broker: Broker = toml::from_str(text).expect("readable");
        let mut faults = Faults::default();
        broker.check(&mut faults);
        let found: Vec<String> = faults.into_vec().into_iter().map(|fault| fault.path).collect();
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn plain_text_to_another_machine_must_be_wanted() {
        for safe in ["tls://nats.example.com:4222", "nats://127.0.0.1:4222", "localhost:4222", "nats://[::1]:4222"] {
            check(&format!("url = \"{safe}\""), &[]);
        }
        for plain in ["nats://nats:4222", "nats.example.com", "ws://nats:80"] {
            check(&format!("url = \"{plain}\""), &["broker.url"]);
            check(&format!("url = \"{plain}\"\nallow_plaintext = true"), &[]);
        }
    }

    #[test]
    fn devices_from_elsewhere_come_by_tls() {
        check("devices.mqtt = \"127.0.0.1:1883\"", &[]);
        check("devices.mqtt = \"0.0.0.0:1883\"", &["broker.devices.mqtt"]);
        check("allow_plaintext = true\ndevices.mqtt = \"0.0.0.0:1883\"", &[]);
        check("devices = { mqtt = \"0.0.0.0:8883\", cert_file = \"c\", key_file = \"k\" }", &[]);
        check("devices = { mqtt = \"0.0.0.0:8883\", cert_file = \"c\" }", &["broker.devices.key_file"]);
        check("allow_plaintext = true\ndevices.listen = \"10.0.0.1:4222\"", &["broker.devices.listen"]);
        check("url = \"tls://h\"\ndevices.mqtt = \"127.0.0.1:1883\"", &["broker.devices"]);
    }

    #[test]
    fn budgets_hold_a_message_and_sites_are_names() {
        check("bytes_max.uploads = \"20GiB\"\nsites = [\"site1\"]", &[]);
        check("bytes_max.dead = \"1MiB\"", &["broker.bytes_max.dead"]);
        check("sites = [\"a.b\"]", &["broker.sites"]);
    }

    #[test]
    fn one_login_and_only_where_there_is_a_broker_to_log_in_to() {
        check("url = \"tls://h\"\nuser = \"dih\"\nnkey_file = \"n\"", &["broker.nkey_file"]);
        check("nkey_file = \"n\"", &["broker.url"]);
    }
}
