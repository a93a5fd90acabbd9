//! What a picture may cost before it is refused, and the words in which it is refused.

use dih_core::{
    config::{ByteSize, Faults},
    image::Size,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of one upload, held against its header before a pixel is decoded.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most bytes a file may have.
    pub bytes_max: ByteSize,
    /// Most pixels a picture may have. Guards against small files that unfold to gigabytes.
    pub pixels_max: u64,
    /// Fewest pixels along the shortest side; below it there is too little to see or to compare.
    pub side_min: u32,
    /// Largest ratio of the longest to the shortest side; beyond it a picture is a strip.
    pub aspect_max: f32,
    /// Most memory that decoding one picture may take, estimated from its header.
    pub memory_max: ByteSize,
    /// Most scans of a progressive JPEG. Each costs a pass over all its pixels; cameras and tools write about ten.
    pub scans_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: ByteSize::mib(32),
            pixels_max: 60_000_000,
            side_min: 32,
            aspect_max: 8.0,
            memory_max: ByteSize::mib(448),
            scans_max: 64,
        }
    }
}

impl Limits {
    /// Collects every fault under `path`, the place of these limits in the file: `ingest.limits`.
    pub fn check(&self, path: &str, faults: &mut Faults) {
        let mut require =
            |ok, field: &str, problem, hint| faults.require(ok, &format!("{path}.{field}"), problem, hint);
        require(self.bytes_max.0 >= 1024, "bytes_max", "is below 1KiB: no photo would pass", "try `32MiB`");
        require(self.pixels_max >= 4096, "pixels_max", "is below 4096: no photo would pass", "try `60000000`");
        require(self.side_min >= 8, "side_min", "is below 8: too small to fingerprint", "try `32`");
        require(self.aspect_max >= 1.0, "aspect_max", "is below 1: every picture is refused", "try `8.0`");
        require(self.memory_max.0 >= 1 << 20, "memory_max", "is below 1MiB: no photo would pass", "try `448MiB`");
        require(self.scans_max >= 1, "scans_max", "is 0: every JPEG is refused", "try `64`");
    }

    /// Holds the size of a file against the limit.
    pub(crate) fn check_bytes(&self, bytes: &[u8]) -> Result<(), Refusal> {
        match bytes.len() as u64 {
            0 => Err(RefusalReason::Empty.because("the file has no bytes")),
            n if n > self.bytes_max.0 => {
                Err(RefusalReason::TooLarge.because(format!("{n} bytes; at most {} are allowed", self.bytes_max)))
            }
            _ => Ok(()),
        }
    }

    /// Holds what a header says against the limits.
    pub(crate) fn check_header(&self, size: Size, memory: u64) -> Result<(), Refusal> {
        let (short, long) = (size.width.min(size.height), size.width.max(size.height));
        if short == 0 {
            return Err(RefusalReason::Corrupt.because(format!("the header says {size}")));
        }
        if size.pixels() > self.pixels_max {
            let detail = format!("{size} are {} pixels; at most {} are allowed", size.pixels(), self.pixels_max);
            return Err(RefusalReason::TooLarge.because(detail));
        }
        if short < self.side_min {
            let detail = format!("{size}; the shortest side needs at least {} pixels", self.side_min);
            return Err(RefusalReason::TooSmall.because(detail));
        }
        let aspect = f64::from(long) / f64::from(short);
        if aspect > f64::from(self.aspect_max) {
            let detail = format!("{size} is {aspect:.1} times as long as wide; at most {} is allowed", self.aspect_max);
            return Err(RefusalReason::ExtremeAspect.because(detail));
        }
        if memory > self.memory_max.0 {
            let need = memory >> 20;
            let detail = format!("decoding {size} needs about {need}MiB; at most {} are allowed", self.memory_max);
            return Err(RefusalReason::TooLarge.because(detail));
        }
        Ok(())
    }
}

/// Why an upload is not taken as a picture. A closed set, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No bytes at all.
    Empty,
    /// Not a picture, or a format (or a variant of one) that is not read here.
    UnsupportedFormat,
    /// The file ends before its picture does.
    Truncated,
    /// The file contradicts its own format.
    Corrupt,
    /// More bytes, pixels, memory or scans than allowed.
    TooLarge,
    /// Fewer pixels than needed.
    TooSmall,
    /// Far longer than wide.
    ExtremeAspect,
}

impl RefusalReason {
    pub const ALL: [RefusalReason; 7] = [
        Self::Empty,
        Self::UnsupportedFormat,
        Self::Truncated,
        Self::Corrupt,
        Self::TooLarge,
        Self::TooSmall,
        Self::ExtremeAspect,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::UnsupportedFormat => "unsupported_format",
            Self::Truncated => "truncated",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::TooSmall => "too_small",
            Self::ExtremeAspect => "extreme_aspect",
        }
    }

    pub(crate) fn because(self, detail: impl Into<String>) -> Refusal {
        Refusal { reason: self, detail: detail.into() }
    }
}

/// A picture that breaks a rule. An outcome rather than a failure: trying again gives the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Refusal {
    pub reason: RefusalReason,
    /// For people: what was found and what is allowed.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(width: u32, height: u32, memory: u64, want: Option<RefusalReason>) {
        let got = Limits::default().check_header(Size { width, height }, memory);
        assert_eq!(got.err().map(|r| r.reason), want, "{width}x{height} with {memory} bytes");
    }

    #[test]
    fn limits_hold_at_their_edges() {
        check(32, 32, 0, None);
        check(31, 32, 0, Some(RefusalReason::TooSmall));
        check(32, 256, 0, None);
        check(32, 257, 0, Some(RefusalReason::ExtremeAspect));
        check(10_000, 6_000, 448 << 20, None);
        check(10_000, 6_000, (448 << 20) + 1, Some(RefusalReason::TooLarge));
        check(10_001, 6_000, 0, Some(RefusalReason::TooLarge));
        check(u32::MAX, u32::MAX, 0, Some(RefusalReason::TooLarge));
        check(0, 100, 0, Some(RefusalReason::Corrupt));
    }

    #[test]
    fn defaults_are_faultless_and_nonsense_is_named() {
        let mut faults = Faults::default();
        Limits::default().check("ingest.limits", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        Limits { aspect_max: f32::NAN, scans_max: 0, ..Limits::default() }.check("ingest.limits", &mut faults);
        let paths: Vec<_> = faults.into_vec().into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["ingest.limits.aspect_max", "ingest.limits.scans_max"]);
    }
}
