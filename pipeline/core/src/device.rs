//! Devices that may send: their keys, and how much they may send within an hour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Millis, config::ByteSize};

/// A device as the registry keeps it. Holds nothing secret: of a key its public half, of a password its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    /// None once they are revoked.
    pub keys: Option<Keys>,
    /// In place of what the configuration gives to every device.
    #[serde(default)]
    pub quota: Quota,
    pub added_at: Millis,
    /// When its keys were last given out or revoked.
    pub changed_at: Millis,
}

/// How a broker recognises a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Public key of a NATS user, `U…`.
    pub nkey: String,
    /// bcrypt of its password, for MQTT, which knows no keys.
    pub password_hash: String,
}

/// What may come within an hour of the broker's clock; no limit where nothing is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Photos an hour.
    pub photos_per_hour: Option<u64>,
    /// Bytes of photos an hour, `500MB`.
    pub bytes_per_hour: Option<ByteSize>,
}

impl Quota {
    /// What is not set here is as in `general`.
    #[must_use]
    pub fn or(self, general: Self) -> Self {
        Self {
            photos_per_hour: self.photos_per_hour.or(general.photos_per_hour),
            bytes_per_hour: self.bytes_per_hour.or(general.bytes_per_hour),
        }
    }

    pub fn is_unlimited(self) -> bool {
        self == Self::default()
    }
}

/// Hours since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub i64);

const HOUR_MS: i64 = 3_600_000;

impl Hour {
    pub fn of(at: Millis) -> Self {
        Self(at.0.div_euclid(HOUR_MS))
    }

    pub fn end(self) -> Millis {
        Millis((self.0 + 1) * HOUR_MS)
    }
}

/// Whether an upload is within the quota of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Within,
    /// This much was promised for the hour, and is used up.
    Over(Quota),
}
