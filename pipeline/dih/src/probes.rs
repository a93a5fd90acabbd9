//! What a scheduler and Prometheus ask: /live, /ready, /metrics.
//!
//! Takes    an address and the health of the stages. Gives plain text. Weak at: no authentication, so bind it to where
//!          only the scheduler and Prometheus come.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use dih_runner::Health;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::problem::OrProblem;

/// A loop that has not come round for this long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How often old samples of the histograms are cleared away.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds of what is counted together, so that the figures of many processes can be added up.
const SECONDS: [f64; 18] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const ITEMS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

#[derive(Clone)]
struct Probed {
    healths: Vec<Health>,
    metrics: PrometheusHandle,
}

/// Collects metrics from now on; must come before the stages start.
pub fn collect() -> anyhow::Result<PrometheusHandle> {
    let with_buckets = || {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
        builder.set_buckets_for_metric(Matcher::Suffix("_batch_items".into()), &ITEMS)?.install_recorder()
    };
    with_buckets().or_problem("could not collect metrics", "")
}

/// Answers until the process ends.
pub async fn listen(at: SocketAddr, metrics: PrometheusHandle, healths: Vec<Health>) -> anyhow::Result<SocketAddr> {
    let what = format!("could not listen at {at}");
    let listener = TcpListener::bind(at).await.or_problem(&what, "choose another address with `--listen`")?;
    let bound = listener.local_addr().or_problem(what, "")?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut tact = tokio::time::interval(UPKEEP_EVERY);
        loop {
            tact.tick().await;
            upkeep.run_upkeep();
        }
    });
    let router = Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(async |State(probed): State<Probed>| probed.metrics.render()))
        .with_state(Probed { healths, metrics });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the probes are no longer answered");
        }
    });
    Ok(bound)
}

async fn live(State(probed): State<Probed>) -> (StatusCode, String) {
    said(probed.healths.iter().filter(|h| !h.is_live(SILENCE_MAX)).map(|h| format!("{} hangs\n", h.consumer())))
}

async fn ready(State(probed): State<Probed>) -> (StatusCode, String) {
    said(probed.healths.iter().filter(|h| !h.is_ready()).map(|h| format!("{}: {}\n", h.consumer(), h.state())))
}

fn said(faults: impl Iterator<Item = String>) -> (StatusCode, String) {
    let faults: String = faults.collect();
    match faults.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, faults),
    }
}
