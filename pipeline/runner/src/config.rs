//! Settings of the runner.

use std::num::NonZeroUsize;

use dih_core::config::{ByteSize, Faults, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one stage takes work.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunnerConfig {
    /// Most messages in work at once. Left out, 32; or 64 for verify and embed on a GPU. With a Qdrant server 8 may cost
    /// less: it does not tell which of two photos in work was first, so each is compared with the other.
    pub items_max: Option<NonZeroUsize>,
    /// Most bytes of messages in work at once; at least twice the broker's largest message.
    pub payload_bytes_max: ByteSize,
    /// Whether a stage hands its photo straight to the next one where both run in this process. It saves two thirds of the
    /// broker's work; without it every step goes through the broker.
    pub hand_over: bool,
    /// Time to finish what is in work after a signal to stop; what is left is handed back.
    pub drain: HumanDuration,
    /// Delay before the second try of a message; it doubles with every try.
    pub retry_first: HumanDuration,
    /// Longest delay between two tries.
    pub retry_max: HumanDuration,
    /// How long a message is tried although nothing else succeeds either. As long as all fail it is the store that is
    /// ill, not the message; once others succeed, only the number of tries counts.
    pub patience: HumanDuration,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            items_max: None,
            payload_bytes_max: ByteSize::mib(64),
            hand_over: true,
            drain: HumanDuration::secs(20),
            retry_first: HumanDuration::secs(1),
            retry_max: HumanDuration::secs(60),
            patience: HumanDuration::secs(15 * 60),
        }
    }
}

/// In work at once where nothing is said.
const ITEMS_MAX: usize = 32;

impl RunnerConfig {
    pub(crate) fn items_max(&self) -> usize {
        self.items_max.map_or(ITEMS_MAX, NonZeroUsize::get)
    }

    /// `path` is where these settings stand in the file: `runner`.
    pub fn check(&self, path: &str, faults: &mut Faults) {
        let at = |field: &str| format!("{path}.{field}");
        let bytes_min = ByteSize::mib(16);
        faults.require(
            self.payload_bytes_max >= bytes_min,
            &at("payload_bytes_max"),
            "is below 16MiB, the size of two of the largest messages",
            "try `64MiB`",
        );
        faults.require(self.retry_first.0.as_millis() > 0, &at("retry_first"), "is zero", "try `1s`");
        faults.require(self.retry_max >= self.retry_first, &at("retry_max"), "is below `retry_first`", "try `60s`");
    }
}
