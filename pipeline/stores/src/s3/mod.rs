//! An S3 server: where it is, who we are to it, and the care of its buckets.
//!
//! The blobs in a bucket go through [`crate::blob::ObjectBlobs::s3`]; [`bucket`] makes the bucket and gives out forms.
//! Nothing is looked up elsewhere: no environment, no metadata service, no default login.

pub mod bucket;

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use dih_core::Secret;
use url::{Host, Url};

/// Where the blobs lie, and how long to wait for them.
#[derive(Clone, Debug)]
pub struct Options {
    pub endpoint: Endpoint,
    pub bucket: String,
    /// Parts of a path, below which all blobs lie; or empty.
    pub prefix: String,
    pub region: String,
    pub access_key_id: String,
    pub secret: Secret,
    /// `<endpoint>/<bucket>/…` in place of `<bucket>.<endpoint>/…`.
    pub path_style: bool,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Longest silence of the server within one request.
    pub timeout: Duration,
    /// Time after which a request that failed is not tried again.
    pub retry_for: Duration,
}

/// `http://host:port` or `https://host:port`, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Whether what is sent there can be read on the way.
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Where the bucket is asked for, in the one style or the other.
    pub(crate) fn of_bucket(&self, bucket: &str, path_style: bool) -> String {
        match path_style {
            true => format!("{self}/{bucket}"),
            false => self.to_string().replacen("://", &format!("://{bucket}."), 1),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is no address of a server; write `https://host` or `http://host:port`");
        let url: Url = text.parse().map_err(|_| problem())?;
        let web = matches!(url.scheme(), "http" | "https") && url.has_host();
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if web && bare && anonymous { Ok(Self(url)) } else { Err(problem()) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, plain: bool, loopback: bool) {
        let endpoint: Endpoint = text.parse().expect("an endpoint");
        assert_eq!((endpoint.is_plain(), endpoint.is_loopback()), (plain, loopback), "{text}");
    }

    #[test]
    fn an_endpoint_says_whether_it_is_plain_and_whether_it_is_this_machine() {
        check("http://127.0.0.1:9000", true, true);
        check("http://[::1]:9000", true, true);
        check("http://localhost", true, true);
        check("http://10.0.0.1:9000", true, false);
        check("http://localhost.example.com", true, false);
        check("https://s3.example.com", false, false);
    }

    #[test]
    fn what_is_more_or_less_than_an_address_is_refused() {
        for text in
            ["", "host", "host:9000", "ftp://host", "https://host/bucket", "https://host?x=1", "https://me:pw@host"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_is_asked_for_in_either_style() {
        let endpoint: Endpoint = "https://s3.example.com:8443/".parse().expect("an endpoint");
        assert_eq!(endpoint.of_bucket("photos", true), "https://s3.example.com:8443/photos");
        assert_eq!(endpoint.of_bucket("photos", false), "https://photos.s3.example.com:8443");
    }
}
