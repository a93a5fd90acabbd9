//! Tells when all that came in is settled.
//!
//! Takes    the consumers as they are. Gives whether anything is pending, in work, or waiting for another try.
//! Weak at  an upload that comes the moment after is not seen; stop the senders first.
//!
//! Consumers are asked from upstream to downstream: a message is published downstream before it is acknowledged
//! upstream, so what left one before it was asked is with one that is asked later. A decision that is made anew flows
//! back upstream, behind our back; so all must be idle twice, and no stream may have taken a message in between.

use std::time::Duration;

use dih_core::{
    StageName,
    topology::{CONSUMERS, STREAMS},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    Connection,
    error::{BusError, RUN_SETUP},
    topology::stream_info,
};

/// Between two looks while something is still in work.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether nothing is on its way to these stages.
pub async fn is_idle(connection: &Connection, stages: &[StageName]) -> Result<bool, BusError> {
    let Some(first) = look(connection, stages).await? else { return Ok(false) };
    Ok(look(connection, stages).await? == Some(first))
}

/// Ends when nothing is on its way to these stages (true), or at `shutdown` (false). Rides out a broker that is away for a
/// moment.
pub async fn wait_until_idle(
    connection: &Connection,
    stages: &[StageName],
    shutdown: CancellationToken,
) -> Result<bool, BusError> {
    let mut failures = 0;
    loop {
        match is_idle(connection, stages).await {
            Ok(true) => return Ok(true),
            Ok(false) => failures = 0,
            Err(error @ BusError::Unavailable { .. }) if failures < 20 => {
                tracing::debug!(error = %dih_core::chain(&error), "could not see whether all is idle, will look again");
                failures += 1;
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}

/// The last sequence of every stream, or None when some consumer of these stages has something to do.
async fn look(connection: &Connection, stages: &[StageName]) -> Result<Option<Vec<u64>>, BusError> {
    for spec in CONSUMERS.iter().filter(|spec| stages.contains(&spec.stage)) {
        let action = || format!("look at the consumer {}", spec.name);
        let stream = connection.jetstream().get_stream_no_info(spec.stream).await;
        let stream = stream.map_err(|e| BusError::unavailable(action(), e))?;
        let info = stream.consumer_info(spec.name).await.map_err(|e| BusError::unavailable(action(), e))?;
        if info.num_pending > 0 || info.num_ack_pending > 0 {
            return Ok(None);
        }
    }
    let mut last = Vec::with_capacity(STREAMS.len());
    for spec in STREAMS {
        let info = stream_info(connection, spec.name).await?;
        let missing = || BusError::Refused {
            action: format!("look at the stream {}", spec.name),
            remedy: RUN_SETUP,
            source: None,
        };
        last.push(info.ok_or_else(missing)?.state.last_sequence);
    }
    Ok(Some(last))
}
