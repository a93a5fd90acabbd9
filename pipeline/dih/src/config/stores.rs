//! Where pictures and the index lie.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use dih_core::{
    BlobKey,
    config::{ByteSize, Faults, HumanDuration},
};
use dih_stores::s3::Endpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Qdrant, Served};

/// Where pictures and the index lie.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stores {
    /// Folder of originals, previews, pictures, data sets and models. Left out, `blobs` in the home folder.
    pub blobs: Option<PathBuf>,
    /// Folder of the embedded index. Left out, `index` in the home folder.
    pub index: Option<PathBuf>,
    /// Whether every blob and every commit of the index is forced to the disk before a stage goes on: safe against
    /// power cuts, and slower. What a bucket keeps is its server's care.
    pub synced: bool,
    /// Memory for decoded previews, about 260 kB each: what one stage decoded the next ones see again.
    pub previews_cached: ByteSize,
    /// A bucket of an S3 server in place of the folder `blobs`; so it is when `bucket` is set. See docs/stores.md.
    pub s3: S3,
    /// An index on a server, Qdrant or `dih run index`, in place of one in this process; so it is when `url` is set. See
    /// docs/stores.md.
    pub qdrant: Qdrant,
    /// What `dih run index` serves: the embedded index, to the other processes of this hub.
    pub served: Served,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            blobs: None,
            index: None,
            synced: false,
            previews_cached: ByteSize::mib(32),
            s3: S3::default(),
            qdrant: Qdrant::default(),
            served: Served::default(),
        }
    }
}

impl Stores {
    pub(super) fn check(&self, faults: &mut Faults) {
        let one = self.blobs.is_none() || self.s3.bucket.is_none();
        faults.require(one, "stores.blobs", "stands beside `stores.s3.bucket`", "keep pictures in one of the two");
        self.s3.check(faults);
        self.qdrant.check(faults);
        self.served.check(faults);
    }
}

/// A bucket of an S3 server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Address of the server: `https://host`, or `http://host:port` on this machine.
    pub endpoint: Option<String>,
    /// The bucket; `dih setup` makes it.
    pub bucket: Option<String>,
    /// Path below which all blobs lie, so that one bucket serves more than one installation.
    pub prefix: Option<String>,
    /// Region of the bucket; most servers of one's own answer to this one.
    pub region: String,
    /// Account that may read, write, list and delete in the bucket, and for `dih setup` administer it. There is no default.
    pub access_key_id: Option<String>,
    /// File that holds the account's secret access key. Left out, the variable DIH_S3_SECRET_ACCESS_KEY holds it.
    pub secret_access_key_file: Option<PathBuf>,
    /// Whether the bucket stands in the path (`host/bucket/…`), as servers of one's own want it, or in the name
    /// (`bucket.host/…`).
    pub path_style: bool,
    /// PEM file of certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether `http` to another machine is wanted: all pictures can then be read and changed on the way.
    pub allow_http: bool,
    /// Longest silence of the server within one request, at least `1s`.
    pub timeout: HumanDuration,
    /// Time after which a failed request is not tried again, but the photo handed back to the broker, `1s` to `5m`.
    pub retry_for: HumanDuration,
    /// Days for which a deleted or overwritten blob can be brought back; only then does the server remove it for good.
    /// `dih setup` tells the server.
    pub noncurrent_days: NonZeroU32,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: None,
            bucket: None,
            prefix: None,
            region: "us-east-1".into(),
            access_key_id: None,
            secret_access_key_file: None,
            path_style: true,
            ca_file: None,
            allow_http: false,
            timeout: HumanDuration::secs(30),
            retry_for: HumanDuration::secs(30),
            noncurrent_days: NonZeroU32::new(30).expect("not zero"),
        }
    }
}

impl S3 {
    fn check(&self, faults: &mut Faults) {
        let Some(bucket) = &self.bucket else {
            let unused = self.endpoint.is_none() && self.access_key_id.is_none();
            return faults.require(unused, "stores.s3.bucket", "is missing, but a server is named", "name the bucket");
        };
        let named = "is no name of a bucket";
        faults.require(
            is_bucket(bucket),
            "stores.s3.bucket",
            named,
            "write 3 to 63 lower-case letters, digits and `-`",
        );
        self.check_endpoint(faults);
        let account = self.access_key_id.as_ref().is_some_and(|id| !id.is_empty());
        faults.require(account, "stores.s3.access_key_id", "is missing", "name the account; there is no default");
        let prefix = self.prefix.as_ref().is_none_or(|prefix| BlobKey::new(prefix).is_ok());
        faults.require(prefix, "stores.s3.prefix", "is no path", "write parts of letters, digits and `.-_=`, as `a/b`");
        faults.require(!self.region.is_empty(), "stores.s3.region", "is empty", "try `us-east-1`");
        faults.require(self.timeout.0 >= Duration::from_secs(1), "stores.s3.timeout", "is below 1s", "try `30s`");
        let patience = (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&self.retry_for.0);
        faults.require(patience, "stores.s3.retry_for", "is not between 1s and 5m", "try `30s`");
    }

    fn check_endpoint(&self, faults: &mut Faults) {
        let path = "stores.s3.endpoint";
        match self.endpoint.as_deref().map(str::parse::<Endpoint>) {
            None => faults.add(path, "is missing", "name the server: `https://host`"),
            Some(Err(problem)) => faults.add(path, "is no address", problem),
            Some(Ok(endpoint)) => {
                let safe = !endpoint.is_plain() || endpoint.is_loopback() || self.allow_http;
                let hint = "write `https://`, or say that this is wanted with `stores.s3.allow_http = true`";
                faults.require(safe, path, "is plain http to another machine", hint);
            }
        }
    }
}

/// As every server takes it: also as a part of a host name, but without dots, which certificates do not match.
fn is_bucket(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (3..=63).contains(&name.len()) && letters && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    const GOOD: &str = "endpoint = \"https://s3.example.com\"\nbucket = \"photos\"\naccess_key_id = \"me\"\n";

    /// Paths of the faults of `[stores.s3]` with these lines.
    fn faults(lines: &str) -> Vec<String> {
        match Config::parse(&format!("[stores.s3]\n{lines}")) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.into_iter().map(|fault| fault.path).collect(),
        }
    }

    #[track_caller]
    fn check(lines: &str, want: &[&str]) {
        assert_eq!(faults(lines), want, "{lines}");
    }

    #[test]
    fn a_bucket_needs_a_server_and_an_account() {
        check(GOOD, &[]);
        check("", &[]);
        check("bucket = \"photos\"", &["stores.s3.endpoint", "stores.s3.access_key_id"]);
        check("endpoint = \"https://s3.example.com\"", &["stores.s3.bucket"]);
        check("access_key_id = \"me\"", &["stores.s3.bucket"]);
    }

    #[test]
    fn plain_http_to_another_machine_must_be_wanted() {
        let with = |endpoint: &str| GOOD.replace("https://s3.example.com", endpoint);
        check(&with("http://127.0.0.1:9000"), &[]);
        check(&with("http://[::1]:9000"), &[]);
        check(&with("http://localhost:9000"), &[]);
        check(&with("http://10.0.0.7:9000"), &["stores.s3.endpoint"]);
        check(&with("http://minio.storage.svc:9000"), &["stores.s3.endpoint"]);
        check(&format!("{}allow_http = true\n", with("http://10.0.0.7:9000")), &[]);
        check(&with("10.0.0.7:9000"), &["stores.s3.endpoint"]);
    }

    #[test]
    fn names_that_servers_do_not_take_are_found() {
        for bucket in ["ab", "Photos", "my_photos", "-photos", "my.photos"] {
            check(&GOOD.replace("photos", bucket), &["stores.s3.bucket"]);
        }
        check(&format!("{GOOD}prefix = \"a/b\"\n"), &[]);
        check(&format!("{GOOD}prefix = \"a//b\"\n"), &["stores.s3.prefix"]);
        check(&format!("{GOOD}retry_for = \"1h\"\ntimeout = \"0s\"\n"), &["stores.s3.timeout", "stores.s3.retry_for"]);
    }

    #[test]
    fn pictures_lie_in_one_place() {
        let both = format!("[stores]\nblobs = \"pictures\"\n[stores.s3]\n{GOOD}");
        let faults = Config::parse(&both).expect_err("two places");
        assert_eq!(faults[0].path, "stores.blobs");
    }
}
