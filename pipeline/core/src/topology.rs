//! THE table: streams, consumers and buckets. `dih setup` makes them, and every start checks them.

use std::time::Duration;

use crate::{DeviceId, StageName, UploadSeq};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a stream keeps what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until its consumer has acknowledged it.
    UntilDone,
    /// For good. One message a subject: a second one is refused, which makes the ledger exact.
    FirstOfSubject,
    /// For good.
    Always,
}

#[derive(Clone, Copy, Debug)]
pub struct StreamSpec {
    pub name: &'static str,
    pub subjects: &'static [&'static str],
    pub keep: Keep,
    /// Window in which a repeated `Nats-Msg-Id` is dropped.
    pub duplicate_window: Duration,
}

pub const UPLOADS: &str = "UPLOADS";
pub const IMAGES: &str = "IMAGES";
pub const JOBS: &str = "JOBS";
pub const VERDICTS: &str = "VERDICTS";
pub const REVISIONS: &str = "REVISIONS";
pub const EVENTS: &str = "EVENTS";
pub const DEAD: &str = "DEAD";
/// Of a site: holds its uploads while it is offline.
pub const OUTBOX: &str = "OUTBOX";

pub const STREAMS: &[StreamSpec] = &[
    StreamSpec {
        name: UPLOADS,
        subjects: &["dih.v1.upload.*", "dih.v1.raw.*.*"],
        keep: Keep::UntilDone,
        duplicate_window: HOUR,
    },
    StreamSpec { name: IMAGES, subjects: &["dih.v1.image.*"], keep: Keep::UntilDone, duplicate_window: MINUTE },
    StreamSpec {
        name: JOBS,
        subjects: &["dih.v1.dataset.cut_requested", "dih.v1.training.requested"],
        keep: Keep::UntilDone,
        duplicate_window: HOUR,
    },
    StreamSpec {
        name: VERDICTS,
        subjects: &["dih.v1.verdict.*"],
        keep: Keep::FirstOfSubject,
        duplicate_window: MINUTE,
    },
    StreamSpec { name: REVISIONS, subjects: &["dih.v1.revision.*"], keep: Keep::Always, duplicate_window: MINUTE },
    StreamSpec {
        name: EVENTS,
        subjects: &["dih.v1.dataset.published.*", "dih.v1.training.completed.*", "dih.v1.job.failed.*"],
        keep: Keep::Always,
        duplicate_window: DAY,
    },
    StreamSpec { name: DEAD, subjects: &["dih.v1.dead.*"], keep: Keep::Always, duplicate_window: HOUR },
];

#[derive(Clone, Copy, Debug)]
pub struct ConsumerSpec {
    /// Durable name; a scaler watches its lag.
    pub name: &'static str,
    pub stage: StageName,
    pub stream: &'static str,
    pub subject: &'static str,
    /// Tries before a message is dead-lettered by the runner.
    pub tries_max: u64,
}

/// Time without a sign of life after which a message goes to another replica, where nothing else is configured.
pub const LEASE: Duration = Duration::from_secs(30);
const TRIES_MAX: u64 = 12;

macro_rules! consumer {
    ($name:literal, $stage:ident, $stream:expr, $subject:literal) => {
        ConsumerSpec { name: $name, stage: StageName::$stage, stream: $stream, subject: $subject, tries_max: TRIES_MAX }
    };
}

/// In the order a photo travels; a drained upstream means that what is left is further down.
pub const CONSUMERS: &[ConsumerSpec] = &[
    consumer!("ingest", Ingest, UPLOADS, "dih.v1.>"),
    consumer!("dedupe", Dedupe, IMAGES, "dih.v1.image.stored"),
    consumer!("verify", Verify, IMAGES, "dih.v1.image.unique"),
    consumer!("embed", Embed, IMAGES, "dih.v1.image.verified"),
    consumer!("cluster", Cluster, IMAGES, "dih.v1.image.embedded"),
    consumer!("organize", Organize, IMAGES, "dih.v1.image.clustered"),
    consumer!("organize-cut", Organize, JOBS, "dih.v1.dataset.cut_requested"),
    consumer!("train", Train, JOBS, "dih.v1.training.requested"),
];

/// Key-value buckets of the small state.
pub const STATE_BUCKET: &str = "dih_state";
/// How often a delivery that failed was tried, kept by the runner; entries vanish after a week.
pub const TRIES_BUCKET: &str = "dih_tries";
/// What devices have used of their quotas; entries vanish after some days.
pub const QUOTA_BUCKET: &str = "dih_quota";
pub const BUCKETS: &[&str] = &[STATE_BUCKET, TRIES_BUCKET, QUOTA_BUCKET];

pub fn consumer(name: &str) -> Option<&'static ConsumerSpec> {
    CONSUMERS.iter().find(|c| c.name == name)
}

/// Subjects that carry an id. The others are constants of [`CONSUMERS`].
pub mod subject {
    use super::{DeviceId, UploadSeq};

    pub fn upload(device: &DeviceId) -> String {
        format!("dih.v1.upload.{device}")
    }

    /// Photos without an envelope, one subject a label.
    pub fn raw(device: &DeviceId, label: &str) -> String {
        format!("dih.v1.raw.{device}.{label}")
    }

    /// Where a device hears what became of its uploads: protobuf here, JSON one token further down.
    pub fn told(device: &DeviceId) -> String {
        format!("dih.v1.answer.{device}")
    }

    /// Where a device asks for an address to put a large photo at.
    pub fn link(device: &DeviceId) -> String {
        format!("dih.v1.link.{device}")
    }

    /// The device that may publish on a subject of uploads.
    pub fn sender(subject: &str) -> Option<DeviceId> {
        let rest =
            ["dih.v1.upload.", "dih.v1.raw.", "dih.v1.link."].iter().find_map(|way| subject.strip_prefix(way))?;
        DeviceId::new(rest.split('.').next()?).ok()
    }

    pub fn verdict(upload: UploadSeq) -> String {
        format!("dih.v1.verdict.{upload}")
    }

    pub fn revision(upload: UploadSeq) -> String {
        format!("dih.v1.revision.{upload}")
    }

    pub fn dead(consumer: &str) -> String {
        format!("dih.v1.dead.{consumer}")
    }
}

/// Headers that every message of ours carries where it applies.
pub mod header {
    /// Name of a message for the broker's own de-duplication.
    pub const MSG_ID: &str = "Nats-Msg-Id";
    /// The upload a message belongs to, so that it can be answered even if its body cannot be read.
    pub const UPLOAD: &str = "Dih-Upload";
    /// The epoch of the image, beside it.
    pub const EPOCH: &str = "Dih-Epoch";
    /// When the broker took the upload, in milliseconds since 1970.
    pub const RECEIVED: &str = "Dih-Received";
    /// The trace it belongs to, as in W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_consumer_reads_a_stream_of_the_table_that_waits_for_it() {
        for consumer in CONSUMERS {
            let stream = STREAMS.iter().find(|s| s.name == consumer.stream).expect("stream is in the table");
            assert_eq!(stream.keep, Keep::UntilDone, "{} would lose messages", consumer.name);
        }
    }

    #[test]
    fn the_sender_stands_in_the_subject() {
        let cam = DeviceId::new("cam-1").expect("valid");
        for subject in [subject::upload(&cam), subject::raw(&cam, "hot%20dog"), subject::link(&cam)] {
            assert_eq!(subject::sender(&subject), Some(cam.clone()), "{subject}");
        }
        assert_eq!(subject::sender("dih.v1.verdict.3"), None);
    }

    #[test]
    fn every_stage_has_a_consumer() {
        for stage in StageName::ALL {
            assert!(CONSUMERS.iter().any(|c| c.stage == stage), "{stage}");
        }
    }
}
