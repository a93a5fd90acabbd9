//! What a process tells of itself while it works: a log for people or programs, and spans for a collector.
//!
//! Takes    the configuration. Gives lines on standard error, and OTLP over gRPC where a collector is named.
//! Crash    spans of the last seconds are lost, nothing else. A collector that is away costs spans, and stops nobody.

use std::io::{self, IsTerminal};

use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    config::{LogFormat, Telemetry},
    problem::OrProblem,
};

/// Sends what is left when it is dropped.
#[derive(Debug)]
pub struct Told {
    spans: Option<SdkTracerProvider>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.spans.as_ref().map(SdkTracerProvider::shutdown) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// Begins to log and to record. Within a runtime.
pub fn start(config: &Telemetry, verbose: u8) -> anyhow::Result<Told> {
    let spans = config.otlp_endpoint.as_deref().map(|endpoint| recorder(config, endpoint)).transpose()?;
    let recorded = spans.as_ref().map(|spans| {
        // What is logged and what is recorded have nothing to do with each other.
        let ours = Targets::new().with_target("dih", LevelFilter::DEBUG);
        tracing_opentelemetry::layer().with_tracer(spans.tracer("dih")).with_filter(ours)
    });
    Registry::default()
        .with(recorded)
        .with(log(config.log_format, verbose))
        .try_init()
        .or_problem("could not log", "")?;
    Ok(Told { spans })
}

/// Warnings, more on request. The embedded index warns of nothing that concerns anybody.
fn log<S>(format: LogFormat, verbose: u8) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let quiet = format!("{level},qdrant_edge=error,async_nats=error");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(quiet));
    let lines = fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.compact().with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().with_ansi(false).boxed(),
    };
    lines.with_filter(filter)
}

fn recorder(config: &Telemetry, endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let exporter = exporter.or_problem("could not send spans", "correct `telemetry.otlp_endpoint`")?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // A photo is recorded at every stage or at none.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sampled))))
        .with_resource(Resource::builder().with_service_name("dih").build())
        .build())
}
