//! Types that configuration is written in, and the list of faults a check collects.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration written `30s`, `500ms`, `2h 5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub const fn secs(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl FromStr for HumanDuration {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(s);
        duration.map(Self).map_err(|e| format!("{s:?} is no duration ({e}); write for example `30s` or `500ms`"))
    }
}

/// A size in bytes written `64MiB`, `2GB` or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        let (name, unit) = exact.copied().unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let problem = || format!("{s:?} is no size; write for example `64MiB` or `2GB`");
        let digits = s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = s[..digits].parse().map_err(|_| problem())?;
        let suffix = s[digits..].trim();
        let unit = match suffix {
            "" => 1,
            _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(suffix)).ok_or_else(problem)?.1,
        };
        number.checked_mul(unit).map(Self).ok_or_else(problem)
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(HumanDuration);
as_text!(ByteSize);

/// Everything wrong with a configuration, found in one go.
#[derive(Debug, Default)]
pub struct Faults {
    found: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where, as in the file: `verify.sharpness_min`.
    pub path: String,
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

impl Faults {
    pub fn add(&mut self, path: impl Into<String>, problem: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Fault { path: path.into(), problem: problem.into(), hint: hint.into() });
    }

    /// Adds a fault unless `ok`.
    pub fn require(&mut self, ok: bool, path: &str, problem: &str, hint: &str) {
        if !ok {
            self.add(path, problem, hint);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn into_vec(self) -> Vec<Fault> {
        self.found
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}; {}", self.path, self.problem, self.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_back_as_they_are_written() {
        for size in [0, 1, 1000, 1024, 1536, 64 << 20, 2_000_000_000] {
            let size = ByteSize(size);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for ms in [1, 500, 30_000, 3_600_000] {
            let duration = HumanDuration::millis(ms);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert!("64 parsec".parse::<ByteSize>().is_err());
        assert!("99999999999GiB".parse::<ByteSize>().is_err());
    }
}
