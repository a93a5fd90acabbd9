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
    /// Address of the server's gRPC: `https://host:6334`, or `http://host:6334` on this machine.
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
}

impl Default for Served {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, PORT).into(), api_key_file: None }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[track_caller]
    fn check(lines: &str, want: &[&str]) {
        let faults = Config::parse(&format!("[stores.qdrant]\n{lines}")).err().unwrap_or_default();
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
    fn what_no_server_takes_is_found() {
        check("collection = \"a b\"\ntimeout = \"1ms\"", &["stores.qdrant.collection", "stores.qdrant.timeout"]);
    }
}
