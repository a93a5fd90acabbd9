//! Between records and what the engine stores. Pure.
//!
//! A point is keyed by the image id and carries the vector `fingerprint`, one vector a space, and a payload: `record`, the
//! whole record as JSON text, and `words`, all that it is selected by. As text, because the engine would make a tree of
//! values of everything else, for every record that a search reads.
//!
//! All words stand in one field, each behind the letter of its kind: the engine keeps some ten files an index, and a
//! commit waits for each of them.

use dih_core::{
    ImageId, Label,
    event::VectorSpace,
    image::Fingerprint,
    ports::{Select, StoreError},
    record::{Record, State},
};
use qdrant_edge::{
    AnyVariants, Condition, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeVectorParams, FieldCondition, Filter,
    HnswIndexConfig, JsonPath, KeywordIndexParams, Match, Payload, PayloadFieldSchema, PayloadSchemaParams, PointId,
    ValueVariants, VectorInternal, VectorStorageDatatype, VectorStructInternal, WalOptions,
    external::serde_json::{self, Value},
};

use crate::{fault, index::STORE};

/// Name of the fingerprint's vector. No space may be called so.
pub(super) const FINGERPRINT: &str = "fingerprint";
const RECORD: &str = "record";
/// The one field that selections go by.
pub(super) const WORDS: &str = "words";

/// Bytes of one file of the engine's log, which stays mapped into memory.
pub(super) const LOG_FILE_BYTES: usize = 8 << 20;

/// `graph_from_kb`: kilobytes of vectors of one space from which on a graph is built over them.
pub(super) fn config(spaces: &[(VectorSpace, usize)], graph_from_kb: usize) -> EdgeConfig {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1);
    let graph = HnswIndexConfig {
        m: 16,
        ef_construct: 128,
        full_scan_threshold: graph_from_kb,
        max_indexing_threads: threads,
        on_disk: Some(true),
        payload_m: None,
        inline_storage: None,
    };
    // Fingerprints are compared with all: 64 bytes each, and a graph could miss one.
    let no_graph = HnswIndexConfig { m: 0, ..graph };
    let fingerprint = EdgeVectorParams::builder(64, Distance::Manhattan)
        .datatype(VectorStorageDatatype::Uint8)
        .on_disk(true)
        .hnsw_config(no_graph)
        .build();
    let optimizers = EdgeOptimizersConfig {
        default_segment_number: Some(2),
        indexing_threshold: Some(graph_from_kb),
        ..EdgeOptimizersConfig::default()
    };
    let mut config = EdgeConfig::builder().on_disk_payload(true).vector(FINGERPRINT, fingerprint);
    for (space, numbers) in spaces {
        let params = EdgeVectorParams::builder(*numbers, Distance::Cosine).on_disk(true).hnsw_config(graph).build();
        config = config.vector(&space.0, params);
    }
    config
        .hnsw_config(graph)
        .optimizers(optimizers)
        .wal_options(WalOptions { segment_capacity: LOG_FILE_BYTES, ..WalOptions::default() })
        .build()
}

/// An index over exact words, kept on disk.
pub(super) fn keyword_index() -> PayloadFieldSchema {
    let params = KeywordIndexParams { on_disk: Some(true), ..KeywordIndexParams::default() };
    PayloadFieldSchema::FieldParams(PayloadSchemaParams::Keyword(params))
}

pub(super) fn point_id(id: ImageId) -> PointId {
    PointId::Uuid(id.as_uuid())
}

/// The id of a point of ours; we make no others.
pub(super) fn image_id(id: PointId) -> Option<ImageId> {
    match id {
        PointId::Uuid(uuid) => Some(ImageId::from_bytes(*uuid.as_bytes())),
        PointId::NumId(_) => None,
    }
}

/// Where a scroll begins so that it comes after this id. None when no id comes after.
pub(super) fn following(id: ImageId) -> Option<PointId> {
    let next = u128::from_be_bytes(*id.as_bytes()).checked_add(1)?;
    Some(point_id(ImageId::from_bytes(next.to_be_bytes())))
}

/// One number a bit, so that the Manhattan distance of two is the number of differing bits.
pub(super) fn bits(fingerprint: Fingerprint) -> Vec<f32> {
    (0..64).map(|bit| ((fingerprint.0 >> bit) & 1) as f32).collect()
}

/// Refuses a record that JSON cannot carry (a measure that is no number), lest it be found out by its reader.
pub(super) fn encode(record: &Record) -> Result<Payload, StoreError> {
    let unreadable = |e| fault::corrupt(STORE, record.id(), e);
    let whole = serde_json::to_string(record).map_err(unreadable)?;
    serde_json::from_str(&whole).map(|_: Record| ()).map_err(unreadable)?;
    let image = &record.image;
    let labels = image.labels.iter().map(label_word);
    let attributes = image.attributes.iter().map(|(key, value)| attribute_word(key, value));
    let repeat = record.repeat.as_ref().map(|repeat| repeat_word(repeat.of));
    let words = [state_word(record.state)].into_iter().chain(labels).chain(attributes).chain(repeat);
    let words = Value::Array(words.map(Value::String).collect());
    let fields = [(RECORD, Value::String(whole)), (WORDS, words)];
    Ok(Payload(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

pub(super) fn decode(id: PointId, payload: Option<Payload>) -> Result<Record, StoreError> {
    let whole = payload.and_then(|mut p| p.0.remove(RECORD)).unwrap_or_default();
    serde_json::from_str(whole.as_str().unwrap_or_default()).map_err(|e| fault::corrupt(STORE, id, e))
}

pub(super) fn vector_of(vectors: Option<VectorStructInternal>, name: &str) -> Option<Vec<f32>> {
    match vectors? {
        VectorStructInternal::Named(mut named) => match named.remove(name)? {
            VectorInternal::Dense(vector) => Some(vector),
            _ => None,
        },
        _ => None,
    }
}

fn state_word(state: State) -> String {
    format!("s:{}", state.as_str())
}

fn label_word(label: &Label) -> String {
    format!("l:{label}")
}

/// The length of the key keeps `a=b`, `c` apart from `a`, `b=c`.
fn attribute_word(key: &str, value: &str) -> String {
    format!("a{}:{key}={value}", key.len())
}

fn repeat_word(of: ImageId) -> String {
    format!("r:{of}")
}

pub(super) fn words_field() -> JsonPath {
    WORDS.try_into().expect("a plain word is a path")
}

fn has(value: Match) -> Condition {
    Condition::Field(FieldCondition::new_match(words_field(), value))
}

fn has_any(words: impl Iterator<Item = String>) -> Condition {
    has(Match::new_any(AnyVariants::Strings(words.collect())))
}

fn has_word(word: String) -> Condition {
    has(Match::new_value(ValueVariants::String(word)))
}

pub(super) fn in_states(states: &[State]) -> Option<Filter> {
    filter(&Select { states: states.to_vec(), ..Select::default() })
}

pub(super) fn repeats(of: ImageId) -> Filter {
    Filter::new_must(has_word(repeat_word(of)))
}

/// None where all are selected.
pub(super) fn filter(select: &Select) -> Option<Filter> {
    let Select { states, labels, attributes } = select;
    let mut must = Vec::new();
    if !states.is_empty() {
        must.push(has_any(states.iter().map(|state| state_word(*state))));
    }
    if !labels.is_empty() {
        must.push(has_any(labels.iter().map(label_word)));
    }
    must.extend(attributes.iter().map(|(key, value)| has_word(attribute_word(key, value))));
    (!must.is_empty()).then(|| Filter { must: Some(must), ..Filter::new() })
}
