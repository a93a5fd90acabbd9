//! What is special about blobs in a bucket of an S3 server; all else is [`ObjectBlobs`].
//!
//! Takes    [`Options`]. Gives blobs below `<bucket>/<prefix>/`, and links to them.
//! Promise  a create has one winner only where the server honours `If-None-Match: *` on PUT. [`Blobs::check`] tries it,
//!          and refuses a server that does not.
//! Errors   denied, wrong login, no such bucket: a person must act. No answer, 5xx, 429: later may be better.
//! Weak at  a create whose answer was lost has written the blob and cannot know: tried again, it says that it was there.
//!          A lookup (`size`) in a bucket that went away finds nothing, for HEAD has no body to say why.
//!          Few errors are typed, so what a server said is read from the text; tests hold it against a real server.
//!
//! [`Blobs::check`]: dih_core::ports::Blobs::check

use std::{fmt, fs, sync::Arc, time::Duration};

use dih_core::ports::{LinkTo, StoreError};
use object_store::{
    BackoffConfig, Certificate, ClientOptions, Error as ObjectError, ObjectStore, PutMode, PutOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    path::Path as ObjectPath,
    signer::Signer,
};
use reqwest::Method;

use super::{ObjectBlobs, Place, STORE};
use crate::{fault, s3::Options};

/// A name that no [`dih_core::BlobKey`] can have, so it is in no list. It stays: once it is there, one request shows that
/// a second create is refused.
const PROBE: &str = "@probe";
/// A server that cannot be reached says so sooner than one that thinks.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What to do where a create is not what it must be.
const ONE_WINNER: &str = "use a server that honours `If-None-Match: *` on PUT; docs/stores.md names some";
const RETRIES_MAX: usize = 8;
const BACKOFF: BackoffConfig =
    BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };

/// The bucket of one [`ObjectBlobs`].
#[derive(Debug)]
pub(super) struct Bucket {
    client: AmazonS3,
    name: String,
}

impl ObjectBlobs {
    /// Blobs in a bucket that is there. Asks nobody yet: [`dih_core::ports::Blobs::check`] does.
    pub fn s3(options: &Options) -> Result<Self, StoreError> {
        let prefix = match options.prefix.trim_matches('/') {
            "" => String::new(),
            parts => format!("{parts}/"),
        };
        let client = client(options)?;
        let bucket = Bucket { client: client.clone(), name: options.bucket.clone() };
        Ok(Self { store: Arc::new(client), prefix, place: Place::Bucket(Arc::new(bucket)) })
    }
}

fn client(options: &Options) -> Result<AmazonS3, StoreError> {
    // For TLS, which would otherwise panic. An error means that the process has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint = match options.path_style {
        true => options.endpoint.to_string(),
        false => options.endpoint.of_bucket(&options.bucket, false),
    };
    let built = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_virtual_hosted_style_request(!options.path_style)
        .with_bucket_name(&options.bucket)
        .with_region(&options.region)
        .with_access_key_id(&options.access_key_id)
        .with_secret_access_key(options.secret.expose())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { backoff: BACKOFF, max_retries: RETRIES_MAX, retry_timeout: options.retry_for })
        .with_client_options(transport(options)?)
        .build();
    built.map_err(|source| StoreError::Refused {
        store: STORE,
        action: format!("use `{}`", options.endpoint),
        remedy: "correct `[stores.s3]`".into(),
        source: Some(Box::new(source)),
    })
}

fn transport(options: &Options) -> Result<ClientOptions, StoreError> {
    let transport = ClientOptions::new()
        .with_allow_http(options.endpoint.is_plain())
        .with_connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
        // A large blob may take its time, as long as something comes.
        .with_timeout_disabled()
        .with_read_timeout(options.timeout);
    let Some(file) = &options.ca_file else { return Ok(transport) };
    let refused = |source| StoreError::Refused {
        store: STORE,
        action: format!("trust the certificates in `{}`", file.display()),
        remedy: "name a file of certificates in PEM with `stores.s3.ca_file`".into(),
        source,
    };
    let pem = fs::read(file).map_err(|e| refused(Some(Box::new(e))))?;
    let trusted = Certificate::from_pem_bundle(&pem).map_err(|e| refused(Some(Box::new(e))))?;
    if trusted.is_empty() {
        return Err(refused(None));
    }
    Ok(trusted.into_iter().fold(transport, ClientOptions::with_root_certificate))
}

impl Bucket {
    pub(super) fn location(&self, path: &ObjectPath) -> String {
        format!("s3://{}/{path}", self.name)
    }

    /// Creates the same name twice; the second time must be refused.
    pub(super) async fn check(&self, prefix: &str) -> Result<(), StoreError> {
        let probe = ObjectPath::from(format!("{prefix}{PROBE}"));
        for _ in 0..2 {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.client.put_opts(&probe, "is a second create refused?".into(), options).await {
                Ok(_) => {}
                Err(ObjectError::AlreadyExists { .. }) => return Ok(()),
                Err(error) => return Err(self.fault(format!("create `{probe}`"), probe.as_ref(), &error)),
            }
        }
        Err(fault::refused(
            STORE,
            format!("say who was first in bucket `{}`: of two creates of one name both won", self.name),
            ONE_WINNER,
        ))
    }

    pub(super) async fn link(&self, path: &ObjectPath, to: LinkTo, valid: Duration) -> Result<String, StoreError> {
        let method = match to {
            LinkTo::Read => Method::GET,
            LinkTo::Write => Method::PUT,
        };
        let signed = self.client.signed_url(method, path, valid).await;
        signed.map(Into::into).map_err(|error| self.fault(format!("link to `{path}`"), path.as_ref(), &error))
    }

    pub(super) fn fault(&self, action: String, key: &str, error: &ObjectError) -> StoreError {
        let told = Told::of(error);
        let remedy = match said(error, &told.0) {
            Said::Absent => return StoreError::NotFound { store: STORE, key: key.into() },
            Said::Nothing => return StoreError::Unavailable { store: STORE, action, source: Box::new(told) },
            Said::NoBucket => format!("make bucket `{}` with `dih setup`, or correct `stores.s3.bucket`", self.name),
            Said::Denied => format!(
                "correct `stores.s3.access_key_id` and its secret, and let that account read, write, list and delete in \
                 bucket `{}`; this machine's clock must be right, too",
                self.name
            ),
            Said::Untrusted => "name the server's CA with `stores.s3.ca_file`, or correct its certificate".into(),
            Said::Unknown => ONE_WINNER.into(),
            Said::NotUnderstood => "correct `[stores.s3]`: region, bucket or endpoint".into(),
        };
        StoreError::Refused { store: STORE, action, remedy, source: Some(Box::new(told)) }
    }
}

/// What came back, as far as it decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Nothing, or that it cannot now.
    Nothing,
    Absent,
    NoBucket,
    Denied,
    Untrusted,
    /// The server lacks what we asked for: nothing that we ask for is rare, but a conditional write.
    Unknown,
    NotUnderstood,
}

fn said(error: &ObjectError, text: &str) -> Said {
    let has = |part: &str| text.contains(part);
    let later = ["408", "409", "429"].iter().any(|status| has(&format!("status code: {status}")));
    match error {
        ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. } => Said::Denied,
        _ if has("<Code>NoSuchBucket</Code>") => Said::NoBucket,
        ObjectError::NotFound { .. } => Said::Absent,
        _ if has("invalid peer certificate") => Said::Untrusted,
        _ if has("status code: 501") => Said::Unknown,
        _ if later => Said::Nothing,
        // A redirection means another region.
        _ if has("status code: 4") || has("status code: 3") || has("redirect") => Said::NotUnderstood,
        _ => Said::Nothing,
    }
}

/// The whole chain of an error in one line, less what its parts repeat of each other.
#[derive(Debug)]
struct Told(String);

impl Told {
    fn of(error: &ObjectError) -> Self {
        let mut text = one_line(error);
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            let more = one_line(cause);
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            next = cause.source();
        }
        Self(text)
    }
}

fn one_line(error: &(impl std::error::Error + ?Sized)) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

#[cfg(test)]
mod tests;
