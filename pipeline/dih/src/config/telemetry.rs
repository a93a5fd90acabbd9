//! What a process tells of itself.

use dih_core::config::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line, for programs.
    Json,
}

/// What a process tells of itself. Metrics are asked for: `dih run --listen`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// How log lines look: `text` or `json`.
    pub log_format: LogFormat,
    /// Address of an OpenTelemetry collector's OTLP over gRPC, `http://127.0.0.1:4317`. It gets the spans of every photo
    /// through all stages, which hang together by the header `traceparent`. Left out, nothing is recorded.
    pub otlp_endpoint: Option<String>,
    /// Share of photos that are recorded, 0 to 1; those whose sender records them are, in any case.
    pub sampled: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, otlp_endpoint: None, sampled: 1.0 }
    }
}

impl Telemetry {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require((0.0..=1.0).contains(&self.sampled), "telemetry.sampled", "is not between 0 and 1", "try `0.1`");
        let plain = self.otlp_endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("http://"));
        let hint = "name a collector beside this process, `http://127.0.0.1:4317`; let it go on by TLS";
        faults.require(plain, "telemetry.otlp_endpoint", "does not begin with `http://`", hint);
    }
}
