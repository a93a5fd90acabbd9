//! The care of a bucket, by the `minio` crate: made, versioned, tidied up; and forms by which browsers and devices upload.
//!
//! Takes    [`Options`] of an account that may administer buckets, and [`Keep`].
//! Gives    what was found and what was done, for `dih setup` to tell. Done twice, the second time changes nothing.
//! Keeps    two lifecycle rules with names of ours. Where others have made rules, it adds none: the crate knows only some
//!          of what a rule may say, and a rule written back without its filter would delete pictures.
//! Crash    safe between any two steps: the next run finds what is there.
//! Weak at  beside `ca_file`, the crate trusts the well-known CAs, not those that this system was given.

use std::{collections::BTreeMap, fmt, future::Future, num::NonZeroU32, time::Duration};

use dih_core::{BlobKey, chain, ports::StoreError};
use minio::s3::{
    MinioClient, MinioClientBuilder,
    builders::{PostPolicy, VersioningStatus},
    creds::StaticProvider,
    error::{Error, S3ServerError, ValidationErr},
    http::BaseUrl,
    lifecycle_config::{LifecycleConfig, LifecycleRule},
    minio_error_response::MinioErrorCode,
    response_traits::HasS3Fields,
    types::{BucketName, Filter, Region, S3Api},
    utils::utc_now,
};
use serde::Serialize;

use super::Options;

const STORE: &str = "S3 server";
/// After this time nobody finishes an upload any more, or asks for one that ingest took out of the inbox.
const PASSING_DAYS: u32 = 1;

/// How long what is no longer needed stays.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Days for which a deleted or overwritten blob can be brought back.
    pub noncurrent_days: NonZeroU32,
}

/// What became of one thing that [`set_up`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// It was so before.
    Found,
    Made,
    /// The server does not know it.
    Unknown,
    /// Others care for it.
    LeftAlone,
}

/// What [`set_up`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SetUp {
    pub bucket: Done,
    pub versioning: Done,
    pub rules: Done,
}

/// A form by which a browser or a device uploads one blob, with `file` as its last field, by `POST` to `url`.
///
/// Unlike a link to write it bounds the size. Whoever has it may upload: it belongs into no log.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Form {
    pub url: String,
    pub fields: BTreeMap<String, String>,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Whether the bucket is there.
pub async fn exists(options: &Options) -> Result<bool, StoreError> {
    let admin = Admin::new(options)?;
    admin.exists().await
}

/// Makes the bucket, if need be, turns versions on, and has the server throw away what nobody needs.
pub async fn set_up(options: &Options, keep: Keep) -> Result<SetUp, StoreError> {
    let admin = Admin::new(options)?;
    let bucket = admin.make().await?;
    let versioning = admin.turn_versions_on().await?;
    let rules = admin.tidy_up(keep).await?;
    Ok(SetUp { bucket, versioning, rules })
}

/// A form for one blob of at most `bytes_max`, until `valid` is over.
pub async fn form(options: &Options, key: &BlobKey, bytes_max: usize, valid: Duration) -> Result<Form, StoreError> {
    let admin = Admin::new(options)?;
    let name = match options.prefix.trim_matches('/') {
        "" => key.to_string(),
        prefix => format!("{prefix}/{key}"),
    };
    let fields = admin.ask("sign a form for", admin.form(&name, bytes_max, valid)).await?;
    let fields = fields.into_iter().chain([("key".to_owned(), name)]).collect();
    Ok(Form { url: options.endpoint.of_bucket(&options.bucket, options.path_style), fields })
}

struct Admin<'a> {
    options: &'a Options,
    client: MinioClient,
    bucket: BucketName,
    region: Region,
}

impl<'a> Admin<'a> {
    fn new(options: &'a Options) -> Result<Self, StoreError> {
        let build = || -> Result<Self, Error> {
            let url: BaseUrl = options.endpoint.to_string().parse()?;
            let login = StaticProvider::new(&options.access_key_id, options.secret.expose(), None);
            let client =
                MinioClientBuilder::new(url).provider(Some(login)).ssl_cert_file(options.ca_file.as_deref()).build()?;
            let (bucket, region) = (BucketName::new(&*options.bucket)?, Region::new(&*options.region)?);
            Ok(Self { options, client, bucket, region })
        };
        build().map_err(|error| fault(options, "use", error))
    }

    fn region(&self) -> Option<Region> {
        Some(self.region.clone())
    }

    async fn exists(&self) -> Result<bool, StoreError> {
        let ask = async {
            let found = self.client.bucket_exists(&self.bucket)?.region(self.region()).build().send().await?;
            Ok(found.exists())
        };
        self.ask("look up", ask).await
    }

    async fn make(&self) -> Result<Done, StoreError> {
        if self.exists().await? {
            return Ok(Done::Found);
        }
        let make = async {
            match self.client.create_bucket(&self.bucket)?.region(self.region()).build().send().await {
                Ok(_) => Ok(Done::Made),
                // Somebody was faster.
                Err(error) if code(&error) == Some(MinioErrorCode::BucketAlreadyOwnedByYou) => Ok(Done::Found),
                Err(error) => Err(error),
            }
        };
        self.ask("make", make).await
    }

    async fn turn_versions_on(&self) -> Result<Done, StoreError> {
        let turn_on = async {
            let found = self.client.get_bucket_versioning(&self.bucket)?.region(self.region()).build().send().await?;
            if matches!(found.status()?, Some(VersioningStatus::Enabled)) {
                return Ok(Done::Found);
            }
            let on = self.client.put_bucket_versioning(&self.bucket, VersioningStatus::Enabled)?;
            on.region(self.region()).build().send().await?;
            Ok(Done::Made)
        };
        self.ask("keep versions in", or_unknown(turn_on)).await
    }

    async fn tidy_up(&self, keep: Keep) -> Result<Done, StoreError> {
        let wanted = rules(&self.options.prefix, keep);
        let tidy_up = async {
            let (found, ours) = (self.rules().await?, wanted.to_xml());
            let (found, ours) = (said(&found), said(&ours));
            if ours.iter().all(|rule| found.contains(rule)) {
                return Ok(Done::Found);
            }
            if !found.iter().all(|rule| ours.iter().any(|our| our.id == rule.id)) {
                return Ok(Done::LeftAlone);
            }
            let put = self.client.put_bucket_lifecycle(&self.bucket)?.life_cycle_config(wanted);
            put.region(self.region()).build().send().await?;
            Ok(Done::Made)
        };
        self.ask("tidy up", or_unknown(tidy_up)).await
    }

    /// As the server writes them; the crate cannot read a rule for all of a bucket, even one of its own.
    async fn rules(&self) -> Result<String, Error> {
        match self.client.get_bucket_lifecycle(&self.bucket)?.region(self.region()).build().send().await {
            Ok(found) => Ok(String::from_utf8_lossy(found.body()).into_owned()),
            Err(error) if code(&error) == Some(MinioErrorCode::NoSuchLifecycleConfiguration) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    async fn form(&self, name: &str, bytes_max: usize, valid: Duration) -> Result<Vec<(String, String)>, Error> {
        let mut policy = PostPolicy::new(self.bucket.clone(), utc_now() + valid)?;
        policy.region = self.region();
        policy.add_equals_condition("key", name)?;
        policy.add_content_length_range_condition(1, bytes_max)?;
        let fields = self.client.get_presigned_post_form_data(policy).build().send().await?;
        Ok(fields.into_iter().collect())
    }

    /// The crate waits for ever, so this does not.
    async fn ask<T>(&self, to: &str, ask: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.options.timeout, ask).await {
            Ok(answer) => answer.map_err(|error| fault(self.options, to, error)),
            Err(late) => {
                let action = format!("{to} bucket `{}`", self.options.bucket);
                Err(StoreError::Unavailable { store: STORE, action, source: Box::new(late) })
            }
        }
    }
}

/// Two installations in one bucket have two prefixes, and so rules of two names.
fn rules(prefix: &str, keep: Keep) -> LifecycleConfig {
    let prefix = prefix.trim_matches('/');
    let (below, of) = match prefix {
        "" => (String::new(), String::new()),
        prefix => (format!("{prefix}/"), format!(":{prefix}")),
    };
    let rule = |name: &str, below: String, days: u32| LifecycleRule {
        id: format!("{name}{of}"),
        status: true,
        filter: Filter { prefix: Some(below), ..Filter::default() },
        noncurrent_version_expiration_noncurrent_days: Some(days),
        ..LifecycleRule::default()
    };
    let mut all = rule("dih", below.clone(), keep.noncurrent_days.get());
    all.abort_incomplete_multipart_upload_days_after_initiation = Some(PASSING_DAYS);
    LifecycleConfig { rules: vec![all, rule("dih-inbox", format!("{below}inbox/"), PASSING_DAYS)] }
}

/// What a rule says, as far as ours say anything.
#[derive(Debug, PartialEq, Eq)]
struct Rule<'a> {
    id: &'a str,
    status: &'a str,
    prefix: &'a str,
    noncurrent_days: &'a str,
    unfinished_days: &'a str,
}

fn said(rules: &str) -> Vec<Rule<'_>> {
    let rules = rules.split("<Rule>").skip(1);
    let rule = |rule| Rule {
        id: text_of("ID", rule),
        status: text_of("Status", rule),
        prefix: text_of("Prefix", rule),
        noncurrent_days: text_of("NoncurrentDays", rule),
        unfinished_days: text_of("DaysAfterInitiation", rule),
    };
    rules.map(rule).collect()
}

/// The text of the first such element, or nothing.
fn text_of<'a>(element: &str, xml: &'a str) -> &'a str {
    let text = xml.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once('<'));
    text.map_or("", |(text, _)| text)
}

/// A server need not know everything.
async fn or_unknown(ask: impl Future<Output = Result<Done, Error>>) -> Result<Done, Error> {
    match ask.await {
        Err(error) if lacks(&error) => Ok(Done::Unknown),
        done => done,
    }
}

fn lacks(error: &Error) -> bool {
    match code(error) {
        Some(MinioErrorCode::MethodNotAllowed | MinioErrorCode::NotSupported) => true,
        Some(MinioErrorCode::OtherError(code)) => code.eq_ignore_ascii_case("NotImplemented"),
        _ => false,
    }
}

/// The server's own word for what is wrong, if it said one.
fn code(error: &Error) -> Option<MinioErrorCode> {
    match error {
        Error::S3Server(S3ServerError::S3Error(answer)) => Some(answer.code()),
        _ => None,
    }
}

/// Whether it may be better later: nothing arrived, or the server says so.
fn is_later(error: &Error) -> bool {
    const LATER: [&str; 4] = ["InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"];
    match error {
        Error::Network(_) | Error::Validation(ValidationErr::HttpError(_)) => true,
        Error::S3Server(S3ServerError::HttpError(status, _)) => *status >= 500,
        Error::S3Server(S3ServerError::InvalidServerResponse { http_status_code, .. }) => *http_status_code >= 500,
        Error::S3Server(S3ServerError::S3Error(answer)) => match answer.code() {
            MinioErrorCode::OtherError(code) => LATER.iter().any(|later| code.eq_ignore_ascii_case(later)),
            _ => false,
        },
        Error::DriveIo(_) | Error::Validation(_) => false,
    }
}

fn fault(options: &Options, to: &str, error: Error) -> StoreError {
    let action = format!("{to} bucket `{}`", options.bucket);
    let untrusted = chain(&error).to_string().contains("invalid peer certificate");
    if is_later(&error) && !untrusted {
        return StoreError::Unavailable { store: STORE, action, source: Box::new(error) };
    }
    let remedy = match &error {
        Error::DriveIo(_) => "correct `stores.s3.ca_file`",
        _ if untrusted => "name the server's CA with `stores.s3.ca_file`, or correct its certificate",
        Error::Validation(ValidationErr::InvalidBucketName { .. }) => "correct `stores.s3.bucket`",
        Error::Validation(_) => "correct `[stores.s3]`",
        _ => "correct the login in `[stores.s3]`, or let that account administer the bucket",
    };
    StoreError::Refused { store: STORE, action, remedy: remedy.into(), source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_installations_in_one_bucket_have_rules_of_two_names() {
        let keep = Keep { noncurrent_days: NonZeroU32::MIN };
        let told = |prefix: &str| -> Vec<String> {
            let xml = rules(prefix, keep).to_xml();
            said(&xml).into_iter().map(|rule| format!("{} of {}", rule.id, rule.prefix)).collect()
        };
        assert_eq!(told(""), ["dih of ", "dih-inbox of inbox/"]);
        assert_eq!(told("/a/b/"), ["dih:a/b of a/b/", "dih-inbox:a/b of a/b/inbox/"]);
    }
}
