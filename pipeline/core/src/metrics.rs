//! Names of all metrics. Labels are small closed sets, never an id or a URL.

/// Deliveries that reached a stage, by the broker or handed over by the stage before. `{consumer}`
pub const STAGE_RECEIVED: &str = "dih_stage_received_items_total";
/// Deliveries a stage is done with; handing back for a retry is an answer too. `{consumer, outcome}`
pub const STAGE_ANSWERED: &str = "dih_stage_answered_items_total";
/// Deliveries being processed now. `{consumer}`
pub const STAGE_IN_FLIGHT: &str = "dih_stage_in_flight_items";
/// From delivery to confirmed acknowledgement; of what was handed over, the time that the stage itself took.
/// `{consumer}`
pub const STAGE_PROCESS_SECONDS: &str = "dih_stage_process_seconds";
/// Deliveries that were not the first try. `{consumer}`
pub const STAGE_REDELIVERED: &str = "dih_stage_redelivered_items_total";
/// Messages moved to the dead letters. `{consumer}`
pub const STAGE_DEAD: &str = "dih_stage_dead_items_total";
/// Leases lost while working; the work was cancelled. `{consumer}`
pub const STAGE_LEASES_LOST: &str = "dih_stage_leases_lost_total";
/// Messages that wait for a consumer or are in work, by the broker's count; what a scaler goes by. `{consumer}`
pub const STAGE_LAG: &str = "dih_stage_lag_items";
/// From the broker taking an upload to its verdict, by the broker's clock and then ours. `{verdict}`
pub const VERDICT_SECONDS: &str = "dih_upload_to_verdict_seconds";
/// First answers of uploads. `{verdict}`
pub const VERDICTS: &str = "dih_verdicts_total";
/// Photos that became curated, by their first label; labels beyond the first 500 are `other`. `{label}`
pub const CURATED: &str = "dih_curated_photos_total";
/// What a stream holds. `{stream}`
pub const STREAM_BYTES: &str = "dih_stream_bytes";
/// `{stream}`
pub const STREAM_MESSAGES: &str = "dih_stream_messages";
/// One call of the index or of the blobs. `{store, call}`
pub const STORE_CALL_SECONDS: &str = "dih_store_call_seconds";
/// Calls that failed, by what it means: `retry`, `bad_input`, `halt`; that nothing is there is an answer. `{store, call, class}`
pub const STORE_ERRORS: &str = "dih_store_errors_total";
/// Reading, decoding and measuring one upload. `{outcome}`
pub const DECODE_SECONDS: &str = "dih_ingest_decode_seconds";
/// One call of a model, whole batch. `{model}`
pub const INFERENCE_SECONDS: &str = "dih_inference_batch_seconds";
/// Pictures in a batch. `{model}`
pub const INFERENCE_BATCH: &str = "dih_inference_batch_items";
