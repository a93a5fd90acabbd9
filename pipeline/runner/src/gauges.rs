//! What waits at the broker, as gauges: for people who have no exporter of the broker's own.
//!
//! Takes    a connection. Looks every [`EVERY`], until it is dropped; a broker that is away leaves the gauges as they were.

use std::time::Duration;

use dih_core::{
    StageName, chain, metrics as names,
    topology::{CONSUMERS, STREAMS},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Connection, error::BusError, topology::stream_info};

const EVERY: Duration = Duration::from_secs(10);

/// Looks for ever at the streams, and at the consumers of these stages.
pub async fn watch(connection: Connection, stages: Vec<StageName>) {
    let mut tact = interval(EVERY);
    tact.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tact.tick().await;
        if let Err(error) = look(&connection, &stages).await {
            tracing::debug!(error = %chain(&error), "could not see what waits at the broker");
        }
    }
}

async fn look(connection: &Connection, stages: &[StageName]) -> Result<(), BusError> {
    for spec in STREAMS {
        if let Some(info) = stream_info(connection, spec.name).await? {
            metrics::gauge!(names::STREAM_BYTES, "stream" => spec.name).set(info.state.bytes as f64);
            metrics::gauge!(names::STREAM_MESSAGES, "stream" => spec.name).set(info.state.messages as f64);
        }
    }
    for spec in CONSUMERS.iter().filter(|spec| stages.contains(&spec.stage)) {
        let action = || format!("look at the consumer {}", spec.name);
        let stream = connection.jetstream().get_stream_no_info(spec.stream).await;
        let stream = stream.map_err(|e| BusError::unavailable(action(), e))?;
        let info = stream.consumer_info(spec.name).await.map_err(|e| BusError::unavailable(action(), e))?;
        let lag = info.num_pending + info.num_ack_pending as u64;
        metrics::gauge!(names::STAGE_LAG, "consumer" => spec.name).set(lag as f64);
    }
    Ok(())
}
