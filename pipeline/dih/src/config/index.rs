//! Where the index is, when it is not in this process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use dih_core::config::{Faults, HumanDuration};
use dih_stores::s3::Endpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Port of Qdrant's gRPC.
const PORT: u16 = 6334;

/// An index that many processes use.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Qdrant {
    /// Address of the server's gRPC: `https://host:6334`, or `http://host:6334` on this machine. The CA of a certificate must
    /// be one that the system trusts, or in the file that the variable SSL_CERT_FILE names.
    pub url: Option<String>,
    /// File that holds the server's API key. Left out, the variable DIH_QDRANT_API_KEY may hold it.
    pub api_key_file: Option<PathBuf>,
    /// The collection; one is one hub.
    pub collection: String,
    /// Copies of each point, in a cluster.
    pub replicas: NonZeroU32,
    /// Longest wait for an answer, at least `1s`.
    pub timeout: HumanDuration,
    /// Whether `http` to another machine is wanted: all records can then be read and changed on the way.
    pub allow_http: bool,
}

impl Default for Qdrant {
    fn default() -> Self {
        Self {
            url: None,
            api_key_file: None,
            collection: "images".into(),
            replicas: NonZeroU32::MIN,
            timeout: HumanDuration::secs(10),
            allow_http: false,
        }
    }
}

impl Qdrant {
    pub(super) fn check(&self, faults: &mut Faults) {
        let path = "stores.qdrant.url";
        match self.url.as_deref().map(str::parse::<Endpoint>) {
            None => {}
            Some(Err(problem)) => faults.add(path, "is no address", problem),
            Some(Ok(endpoint)) => {
                let safe = !endpoint.is_plain() || endpoint.is_loopback() || self.allow_http;
                let hint = "write `https://`, or say that this is wanted with `stores.qdrant.allow_http = true`";
                faults.require(safe, path, "is plain http to another machine", hint);
            }
        }
        let letters = self.collection.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let named = letters && (1..=64).contains(&self.collection.len());
        let hint = "write 1 to 64 letters, digits, `-` or `_`";
        faults.require(named, "stores.qdrant.collection", "is no name of a collection", hint);
        let patient = self.timeout.0 >= Duration::from_secs(1);
        faults.require(patient, "stores.qdrant.timeout", "is below 1s", "try `10s`");
    }
}

/// What `dih run index` serves.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Served {
    /// Address to listen at. Another machine's processes reach it only at one that is not of this machine alone, and then a
    /// key is needed.
    pub listen: SocketAddr,
    /// File that holds the key that others must give. Left out, the variable DIH_QDRANT_API_KEY may hold it.
    pub api_key_file: Option<PathBuf>,
    /// PEM file of the certificate, followed by those between it and its CA. With it others come by `https` alone.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// Whether other machines may come by `http`: all records, and the key, can then be read and changed on the way.
    pub allow_http: bool,
}

impl Default for Served {
    fn default() -> Self {
        let listen = (Ipv4Addr::LOCALHOST, PORT).into();
        Self { listen, api_key_file: None, cert_file: None, key_file: None, allow_http: false }
    }
}

impl Served {
    pub(super) fn check(&self, faults: &mut Faults) {
        let both = self.cert_file.is_some() == self.key_file.is_some();
        faults.require(both, "stores.served.key_file", "and `cert_file` belong together", "name both, or none");
        let safe = self.listen.ip().is_loopback() || self.cert_file.is_some() || self.allow_http;
        let hint = "name `cert_file` and `key_file`, or say that this is wanted with `stores.served.allow_http = true`";
        faults.require(safe, "stores.served.listen", "is open to other machines without TLS", hint);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[track_caller]
    fn check(lines: &str, want: &[&str]) {
        check_in("qdrant", lines, want);
    }

    #[track_caller]
    fn check_in(section: &str, lines: &str, want: &[&str]) {
        let faults = Config::parse(&format!("[stores.{section}]\n{lines}")).err().unwrap_or_default();
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), want, "{lines}");
    }

    #[test]
    fn plain_http_to_another_machine_must_be_wanted() {
        check("", &[]);
        check("url = \"http://127.0.0.1:6334\"", &[]);
        check("url = \"https://qdrant.example.com:6334\"", &[]);
        check("url = \"http://qdrant:6334\"", &["stores.qdrant.url"]);
        check("url = \"http://qdrant:6334\"\nallow_http = true", &[]);
        check("url = \"qdrant:6334\"", &["stores.qdrant.url"]);
    }

    #[test]
    fn what_is_served_to_other_machines_is_encrypted_or_that_is_not_wanted() {
        let check = |lines, want| check_in("served", lines, want);
        check("listen = \"127.0.0.1:1\"", &[]);
        check("listen = \"0.0.0.0:1\"", &["stores.served.listen"]);
        check("listen = \"0.0.0.0:1\"\nallow_http = true", &[]);
        check("listen = \"0.0.0.0:1\"\ncert_file = \"c\"\nkey_file = \"k\"", &[]);
        check("key_file = \"k\"", &["stores.served.key_file"]);
    }

    #[test]
    fn what_no_server_takes_is_found() {
        check("collection = \"a b\"\ntimeout = \"1ms\"", &["stores.qdrant.collection", "stores.qdrant.timeout"]);
    }
}
