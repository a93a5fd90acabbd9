//! Names that cannot be mixed up: every id is a type, checked where it enters.

use std::{fmt, str::FromStr, time::SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A name that came from outside and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {problem}")]
pub struct InvalidId {
    pub what: &'static str,
    pub value: String,
    pub problem: &'static str,
}

fn invalid(what: &'static str, value: &str, problem: &'static str) -> InvalidId {
    let value = value.chars().take(80).collect();
    InvalidId { what, value, problem }
}

/// One submission: its sequence in the UPLOADS stream, from 1. A total order of arrival, free of clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UploadSeq(pub u64);

impl fmt::Display for UploadSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One content: the first 128 bits of the SHA-256 of the uploaded bytes, written as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(uuid::Uuid);

impl ImageId {
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of_sha256(&Sha256::digest(bytes).into())
    }

    pub fn of_sha256(hash: &[u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        Self(uuid::Uuid::from_bytes(half))
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub fn as_uuid(&self) -> uuid::Uuid {
        self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ImageId {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let id = uuid::Uuid::parse_str(s).map_err(|_| invalid("image id", s, "is not a UUID"))?;
        Ok(Self(id))
    }
}

/// How often an image has been decided anew: 0 on its first way through the stages.
///
/// The first answer of an upload is its verdict; an answer of a later epoch is a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970 (UTC). For people to read; no decision depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)).saturating_add(jump()))
    }
}

/// By how much a test has set the clock wrong: what stands in the file that the variable DIH_TEST_CLOCK names, so that it
/// jumps while the process runs. Always 0 unless built with the feature `failpoints`.
#[cfg(feature = "failpoints")]
fn jump() -> i64 {
    static FILE: std::sync::OnceLock<Option<std::ffi::OsString>> = std::sync::OnceLock::new();
    let told = FILE.get_or_init(|| std::env::var_os("DIH_TEST_CLOCK")).as_ref();
    told.and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(not(feature = "failpoints"))]
fn jump() -> i64 {
    0
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text: String = text.into();
                let check: fn(&str) -> Option<&'static str> = $check;
                match check(&text) {
                    None => Ok(Self(text)),
                    Some(problem) => Err(invalid($what, &text, problem)),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Self::new(s)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_token(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

text_id!(
    /// Who sent it: one token of a subject, so letters, digits, `-` and `_` only; at most 64.
    DeviceId, "device", |s| {
        (s.len() > 64 || !is_token(s, "-_")).then_some("must be 1 to 64 letters, digits, `-` or `_`")
    }
);

text_id!(
    /// What the uploader says is in the picture: any text of 1 to 120 characters without `;`, `/`, `\` or control characters.
    Label, "label", |s| {
        let bad = |c: char| c.is_control() || matches!(c, ';' | '/' | '\\');
        (s.trim() != s || s.is_empty() || s.starts_with('.') || s.chars().count() > 120 || s.chars().any(bad)).then_some(
            "must be 1 to 120 characters, trimmed, without `;`, `/`, `\\` or control characters, and not begin with a dot",
        )
    }
);

text_id!(
    /// Name of a data set: 1 to 64 lower-case letters, digits, `-` and `_`.
    DatasetName, "data-set name", |s| {
        let ok = s.len() <= 64 && is_token(s, "-_") && !s.chars().any(|c| c.is_ascii_uppercase());
        (!ok).then_some("must be 1 to 64 lower-case letters, digits, `-` or `_`")
    }
);

text_id!(
    /// Place of a blob: `/`-separated parts of letters, digits, `.`, `-`, `_`, `=`, none of them empty, `.` or `..`.
    BlobKey, "blob key", |s| {
        let part = |p: &str| is_token(p, ".-_=") && p != "." && p != "..";
        (s.len() > 512 || !s.split('/').all(part)).then_some("must be parts of letters, digits and `.-_=` joined by `/`")
    }
);

/// One immutable version of a data set, written `NAME@V`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId {
    pub dataset: DatasetName,
    /// From 1, without gaps.
    pub version: u32,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.version)
    }
}

impl FromStr for VersionId {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let problem = || invalid("version", s, "is not NAME@NUMBER, for example `clothing@1`");
        let (name, version) = s.rsplit_once('@').ok_or_else(problem)?;
        let version = version.trim_start_matches('v').parse().map_err(|_| problem())?;
        if version == 0 {
            return Err(problem());
        }
        Ok(Self { dataset: DatasetName::new(name)?, version })
    }
}

/// The blob keys that more than one crate must agree on. Everything else builds its keys below its own prefix.
impl BlobKey {
    /// The uploaded bytes, as they came: `originals/ab/<image>`.
    pub fn original(image: ImageId) -> Self {
        Self::of_image("originals", image, "")
    }

    /// Upright JPEG without metadata, shortest side at most 256 px: `previews/ab/<image>.jpg`.
    pub fn preview(image: ImageId) -> Self {
        Self::of_image("previews", image, ".jpg")
    }

    /// What is needed to compare it with others, where it is not in memory: `features/ab/<image>`.
    pub fn features(image: ImageId) -> Self {
        Self::of_image("features", image, "")
    }

    /// Upright JPEG without metadata in publication size: `pictures/ab/<image>.jpg`.
    pub fn picture(image: ImageId) -> Self {
        Self::of_image("pictures", image, ".jpg")
    }

    /// Bytes that are too large for a message, waiting for their upload: `inbox/<device>/<image>`.
    pub fn inbox(device: &DeviceId, content: ImageId) -> Self {
        Self(format!("inbox/{device}/{content}"))
    }

    /// The image that waits at this key for an upload of this device; None for a key that is not its own to name. Keys of
    /// before devices had an inbox each, `inbox/<image>`, are everybody's.
    pub fn waiting(&self, device: &DeviceId) -> Option<ImageId> {
        let rest = self.0.strip_prefix("inbox/")?;
        let own = rest.strip_prefix(device.as_str()).and_then(|rest| rest.strip_prefix('/'));
        own.unwrap_or(rest).parse().ok()
    }

    /// Below a data-set version: `datasets/<name>/<version>/<file>`.
    pub fn in_version(version: &VersionId, file: &str) -> Result<Self, InvalidId> {
        Self::new(format!("datasets/{}/{}/{file}", version.dataset, version.version))
    }

    fn of_image(prefix: &str, image: ImageId, suffix: &str) -> Self {
        let id = image.to_string();
        Self(format!("{prefix}/{}/{id}{suffix}", &id[..2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_names_what_waits_in_its_own_inbox_only() {
        let (cam, image) = (DeviceId::new("cam1").expect("valid"), ImageId::of_bytes(b"photo"));
        let waiting = |key: &str| BlobKey::new(key).expect("valid").waiting(&cam);
        assert_eq!(BlobKey::inbox(&cam, image).waiting(&cam), Some(image));
        assert_eq!(waiting(&format!("inbox/{image}")), Some(image), "as older senders name it");
        for other in [format!("inbox/cam2/{image}"), format!("inbox/cam1/x/{image}"), format!("originals/ab/{image}")] {
            assert_eq!(waiting(&other), None, "{other}");
        }
        assert_eq!(waiting("inbox/cam1"), None);
    }

    #[test]
    fn names_that_could_break_a_subject_or_a_path_are_refused() {
        for bad in ["", "a.b", "a b", "*", ">", "ä"] {
            assert!(DeviceId::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", "a;b", " a", "a\n", "..", ".hidden"] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "/a", "a//b", "a/../b", "a/."] {
            assert!(BlobKey::new(bad).is_err(), "{bad:?}");
        }
        assert!(Label::new("T-shirt, tee (größe M)").is_ok());
    }

    #[test]
    fn a_version_reads_back_as_it_is_written() {
        let id: VersionId = "clothing@12".parse().expect("valid");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("clothing".parse::<VersionId>().is_err());
        assert!("clothing@0".parse::<VersionId>().is_err());
    }

    #[test]
    fn an_image_is_named_by_its_content() {
        let id = ImageId::of_bytes(b"");
        assert_eq!(id.to_string(), "e3b0c442-98fc-1c14-9afb-f4c8996fb924");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
