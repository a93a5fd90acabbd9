//! Makes the streams, consumers and buckets of the one table, and compares what is there with it.
//!
//! Takes    [`dih_core::topology`] and a connection. Gives a broker that matches, or every difference with the remedy.
//! Crash    safe at any line: making twice changes nothing.
//! Weak at  storage and replicas are an operator's choice: they are set when made, not compared.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    context::{ConsumerInfoErrorKind, GetStreamErrorKind},
    kv,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use dih_core::{
    Class, Classify,
    config::ByteSize,
    topology::{
        BUCKETS, CONSUMERS, ConsumerSpec, Keep, LEASE, OUTBOX, QUOTA_BUCKET, STREAMS, StreamSpec, TRIES_BUCKET, UPLOADS,
    },
};

use crate::{
    Connection,
    error::{BusError, RUN_SETUP},
};

/// What the table leaves open.
#[derive(Clone, Debug)]
pub struct Options {
    /// Copies of each message in a cluster: 1, 3 or 5.
    pub replicas: usize,
    /// Keep everything in memory: for tests only.
    pub in_memory: bool,
    /// Most bytes that a stream may hold, by its name; a full one refuses what is new, and drops nothing. Where none is
    /// given: as the disk allows.
    pub bytes_max: BTreeMap<&'static str, ByteSize>,
    /// JetStream domains of sites that keep uploads in a stream of their own while they are offline.
    pub sites: Vec<String>,
    /// Time without a sign of life after which a message goes to another replica.
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { replicas: 1, in_memory: false, bytes_max: BTreeMap::new(), sites: Vec::new(), lease: LEASE }
    }
}

/// Deliveries of one consumer that all replicas together may hold unanswered.
const ACK_PENDING_MAX: i64 = 1_000;
/// How long a try is remembered.
const TRIES_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long it is known what a device sent within an hour; what waits longer counts anew.
const QUOTA_KEPT: Duration = Duration::from_secs(2 * 24 * 3600);

/// How long a site may be offline without a loss.
pub const OUTBOX_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Something in the broker that is not as the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `stream IMAGES`, `consumer dedupe`, `bucket dih_state`.
    pub what: String,
    pub found: String,
    pub wanted: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, wanted {}", self.what, self.found, self.wanted)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error("the broker is not set up as this version needs it; {}\n{}", RUN_SETUP, lines(.0))]
    Differs(Vec<Difference>),
    #[error("could not compare the broker with the table")]
    Bus(#[from] BusError),
}

impl Classify for TopologyError {
    fn class(&self) -> Class {
        match self {
            Self::Differs(_) => Class::Halt,
            Self::Bus(error) => error.class(),
        }
    }
}

fn lines(differences: &[Difference]) -> String {
    differences.iter().map(|d| format!("  {d}")).collect::<Vec<_>>().join("\n")
}

/// Makes what is missing and updates what differs. What an operator added beside it stays.
pub async fn setup(connection: &Connection, options: &Options) -> Result<(), BusError> {
    for spec in STREAMS {
        make_stream(connection, spec, options).await?;
    }
    for spec in CONSUMERS {
        let action = || format!("make the consumer {}", spec.name);
        let made = connection.jetstream().create_consumer_on_stream(consumer_config(spec, options), spec.stream).await;
        made.map_err(|e| BusError::unavailable(action(), e))?;
    }
    for bucket in BUCKETS {
        let action = || format!("make the bucket {bucket}");
        let made = connection.jetstream().create_or_update_key_value(bucket_config(bucket, options)).await;
        made.map_err(|e| BusError::unavailable(action(), e))?;
    }
    Ok(())
}

/// Makes the stream in which a site keeps uploads until the hub has fetched them, at the site's own broker.
///
/// What the hub fetched stays for [`OUTBOX_KEPT`], so `bytes_max` must hold what comes within it; when it is full, devices are
/// told so.
pub async fn setup_site(connection: &Connection, bytes_max: Option<ByteSize>) -> Result<(), BusError> {
    let uploads = STREAMS.iter().find(|spec| spec.name == UPLOADS).expect("a row of the table");
    let options =
        Options { bytes_max: bytes_max.map(|most| (UPLOADS, most)).into_iter().collect(), ..Options::default() };
    let config = stream::Config {
        name: OUTBOX.to_owned(),
        // The hub reads it, so no consumer of ours ever ends a message.
        retention: RetentionPolicy::Limits,
        max_age: OUTBOX_KEPT,
        ..stream_config(uploads, &options)
    };
    let made = connection.jetstream().create_or_update_stream(config).await;
    made.map(drop).map_err(|e| BusError::unavailable(format!("make the stream {OUTBOX}"), e))
}

/// Fails with every difference between the broker and the table.
pub async fn check(connection: &Connection, options: &Options) -> Result<(), TopologyError> {
    let mut found = Differences::default();
    for spec in STREAMS {
        let what = format!("stream {}", spec.name);
        match stream_info(connection, spec.name).await? {
            Some(info) => compare_stream(&mut found, &what, &info.config, &stream_config(spec, options)),
            None => found.missing(what),
        }
    }
    for spec in CONSUMERS {
        compare_consumer(connection, &mut found, spec, options).await?;
    }
    for bucket in BUCKETS {
        if stream_info(connection, &format!("KV_{bucket}")).await?.is_none() {
            found.missing(format!("bucket {bucket}"));
        }
    }
    match found.0.is_empty() {
        true => Ok(()),
        false => Err(TopologyError::Differs(found.0)),
    }
}

fn stream_config(spec: &StreamSpec, options: &Options) -> stream::Config {
    let bytes_max = options.bytes_max.get(spec.name);
    let sources = options.sites.iter().filter(|_| spec.name == UPLOADS).map(|site| outbox(site));
    let config = stream::Config {
        name: spec.name.to_owned(),
        subjects: spec.subjects.iter().map(ToString::to_string).collect(),
        storage: if options.in_memory { StorageType::Memory } else { StorageType::File },
        num_replicas: options.replicas,
        duplicate_window: spec.duplicate_window,
        allow_direct: true,
        max_bytes: bytes_max.map_or(-1, |size| i64::try_from(size.0).unwrap_or(i64::MAX)),
        // A full stream refuses what is new: dropping what is old would lose it.
        discard: DiscardPolicy::New,
        sources: Some(sources.collect()),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        ..stream::Config::default()
    };
    match spec.keep {
        Keep::UntilDone => stream::Config { retention: RetentionPolicy::WorkQueue, ..config },
        Keep::Always => config,
        Keep::FirstOfSubject => stream::Config { max_messages_per_subject: 1, discard_new_per_subject: true, ..config },
    }
}

/// The stream of a site. What it holds comes over as soon as the site is online, in order and once.
fn outbox(site: &str) -> stream::Source {
    stream::Source {
        name: OUTBOX.to_owned(),
        external: Some(stream::External {
            api_prefix: format!("$JS.{site}.API"),
            delivery_prefix: Some(format!("dih.v1.outbox.{site}")),
        }),
        ..stream::Source::default()
    }
}

fn consumer_config(spec: &ConsumerSpec, options: &Options) -> pull::Config {
    pull::Config {
        durable_name: Some(spec.name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.lease,
        // The runner counts tries itself: beyond a limit of the broker's a message would lie in the stream unseen.
        max_deliver: -1,
        max_ack_pending: ACK_PENDING_MAX,
        filter_subject: spec.subject.to_owned(),
        ..pull::Config::default()
    }
}

fn bucket_config(bucket: &str, options: &Options) -> kv::Config {
    kv::Config {
        bucket: bucket.to_owned(),
        history: 1,
        storage: if options.in_memory { StorageType::Memory } else { StorageType::File },
        num_replicas: options.replicas,
        max_age: match bucket {
            TRIES_BUCKET => TRIES_KEPT,
            QUOTA_BUCKET => QUOTA_KEPT,
            _ => Duration::ZERO,
        },
        ..kv::Config::default()
    }
}

async fn make_stream(connection: &Connection, spec: &StreamSpec, options: &Options) -> Result<(), BusError> {
    let wanted = stream_config(spec, options);
    let config = match stream_info(connection, spec.name).await? {
        None => wanted,
        // Only what the table rules is changed.
        Some(found) => stream::Config {
            subjects: wanted.subjects,
            retention: wanted.retention,
            discard: wanted.discard,
            discard_new_per_subject: wanted.discard_new_per_subject,
            max_messages_per_subject: wanted.max_messages_per_subject,
            duplicate_window: wanted.duplicate_window,
            allow_direct: wanted.allow_direct,
            max_bytes: wanted.max_bytes,
            sources: wanted.sources,
            num_replicas: wanted.num_replicas,
            ..found.config
        },
    };
    let made = connection.jetstream().create_or_update_stream(config).await;
    made.map(drop).map_err(|e| BusError::unavailable(format!("make the stream {}", spec.name), e))
}

/// None where there is no such stream.
pub(crate) async fn stream_info(connection: &Connection, name: &str) -> Result<Option<stream::Info>, BusError> {
    match connection.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(e)
                if e.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(BusError::unavailable(format!("look at the stream {name}"), error)),
        },
    }
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn missing(&mut self, what: String) {
        self.0.push(Difference { what, found: "none".to_owned(), wanted: "one".to_owned() });
    }

    fn compare<T: PartialEq + fmt::Debug>(&mut self, what: &str, field: &str, found: T, wanted: T) {
        if found != wanted {
            self.0.push(Difference {
                what: what.to_owned(),
                found: format!("{field} {found:?}"),
                wanted: format!("{wanted:?}"),
            });
        }
    }
}

fn compare_stream(differences: &mut Differences, what: &str, found: &stream::Config, wanted: &stream::Config) {
    differences.compare(what, "subjects", &found.subjects, &wanted.subjects);
    differences.compare(what, "retention", found.retention, wanted.retention);
    differences.compare(what, "discard", found.discard, wanted.discard);
    let per_subject = |c: &stream::Config| (c.max_messages_per_subject.max(0), c.discard_new_per_subject);
    differences.compare(what, "messages per subject", per_subject(found), per_subject(wanted));
    differences.compare(what, "duplicate window", found.duplicate_window, wanted.duplicate_window);
    differences.compare(what, "direct reads", found.allow_direct, wanted.allow_direct);
    differences.compare(what, "most bytes", found.max_bytes, wanted.max_bytes);
    differences.compare(what, "sites", sites(found), sites(wanted));
}

/// Where a stream takes from other ones.
fn sites(config: &stream::Config) -> Vec<&str> {
    let sources = config.sources.iter().flatten();
    let mut sites: Vec<&str> = sources.filter_map(|s| Some(s.external.as_ref()?.api_prefix.as_str())).collect();
    sites.sort_unstable();
    sites
}

async fn compare_consumer(
    connection: &Connection,
    differences: &mut Differences,
    spec: &ConsumerSpec,
    options: &Options,
) -> Result<(), BusError> {
    let what = format!("consumer {}", spec.name);
    let action = || format!("look at the {what}");
    let stream = connection.jetstream().get_stream_no_info(spec.stream).await;
    let stream = stream.map_err(|e| BusError::unavailable(action(), e))?;
    let found = match stream.consumer_info(spec.name).await {
        Ok(info) => info.config,
        Err(e) if matches!(e.kind(), ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound) => {
            differences.missing(what);
            return Ok(());
        }
        Err(e) => return Err(BusError::unavailable(action(), e)),
    };
    let wanted = consumer_config(spec, options);
    differences.compare(&what, "subject", &found.filter_subject, &wanted.filter_subject);
    differences.compare(&what, "lease", found.ack_wait, wanted.ack_wait);
    differences.compare(&what, "acknowledgement", found.ack_policy, wanted.ack_policy);
    differences.compare(&what, "deliveries", found.max_deliver, wanted.max_deliver);
    differences.compare(&what, "unanswered deliveries", found.max_ack_pending, wanted.max_ack_pending);
    Ok(())
}
