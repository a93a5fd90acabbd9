//! Between images and what the engine stores. Pure.
//!
//! A point is keyed by the image id and carries one vector a space, and nothing else.

use std::collections::HashMap;

use dih_core::{ImageId, event::VectorSpace};
use qdrant_edge::{
    Distance, EdgeConfig, EdgeOptimizersConfig, EdgeVectorParams, HnswIndexConfig, NamedQuery, PointId,
    PointInsertOperations, PointOperations, PointStruct, PointVectorsPersisted, QuantizationConfig,
    QuantizationSearchParams, QueryEnum, SearchParams, SearchRequest, UpdateOperation, UpdateVectorsOp, Vector,
    VectorInternal, VectorOperations, VectorPersisted, VectorStructInternal, VectorStructPersisted, Vectors,
    WalOptions, WithPayloadInterface,
    external::serde_json::{self, Value},
};

use super::Merge;

/// Bytes of one file of the engine's log, which stays mapped into memory.
pub(super) const LOG_FILE_BYTES: usize = 8 << 20;
/// Width of a search through a graph, in candidates: wider finds more of the true neighbours and takes longer.
const GRAPH_BEAM: usize = 256;
/// Neighbours by their sketches that are compared as they are, for each one that is wanted.
const OVERSAMPLING: f64 = 4.0;
/// Kilobytes of vectors in one segment: no bound, so that a search goes through two graphs and not through many.
const SEGMENT_KB: usize = 1 << 40;

/// `graph_from_kb`: kilobytes of vectors of one space from which on a graph is built over them.
pub(super) fn config(spaces: &[(VectorSpace, usize)], graph_from_kb: usize) -> EdgeConfig {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1);
    let graph = HnswIndexConfig {
        m: 16,
        ef_construct: 100,
        full_scan_threshold: graph_from_kb,
        max_indexing_threads: threads,
        on_disk: Some(true),
        payload_m: None,
        inline_storage: None,
    };
    let mut config = EdgeConfig::builder().on_disk_payload(true);
    for (space, numbers) in spaces {
        let params = EdgeVectorParams::builder(*numbers, Distance::Cosine).on_disk(true).hnsw_config(graph).build();
        config = config.vector(&space.0, params);
    }
    config
        .hnsw_config(graph)
        .quantization_config(sketches())
        .optimizers(optimizers(graph_from_kb, Merge::All))
        .wal_options(WalOptions { segment_capacity: LOG_FILE_BYTES, ..WalOptions::default() })
        .build()
}

/// How the engine merges: each of its plans takes the smallest segments, as many as there are too many.
pub(super) fn optimizers(graph_from_kb: usize, merge: Merge) -> EdgeOptimizersConfig {
    let segments = match merge {
        Merge::New => 3, // the large one, the recent one, and that of those that wait
        Merge::All => 2,
    };
    EdgeOptimizersConfig {
        default_segment_number: Some(segments),
        max_segment_size: Some(SEGMENT_KB),
        indexing_threshold: Some(graph_from_kb),
        ..EdgeOptimizersConfig::default()
    }
}

/// Beside each vector the engine keeps a sketch of it in memory, by which it searches and builds the graph.
fn sketches() -> QuantizationConfig {
    let config = serde_json::json!({ "turbo": { "always_ram": true, "bits": "bits2" } });
    serde_json::from_value(config).expect("the engine reads its own configuration")
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

/// The first vector of an image.
pub(super) fn insert(id: ImageId, space: &str, vector: Vec<f32>) -> UpdateOperation {
    let vectors = Vectors::new_named([(space, Vector::from(vector))]);
    let point = PointStruct::new(point_id(id), vectors, Value::Object(Default::default()));
    let points = PointInsertOperations::PointsList(vec![point.into()]);
    UpdateOperation::PointOperation(PointOperations::UpsertPoints(points))
}

/// A vector of an image that has some already, in this space or in others.
pub(super) fn update(id: ImageId, space: &str, vector: Vec<f32>) -> UpdateOperation {
    let vector = HashMap::from([(space.to_owned(), VectorPersisted::Dense(vector))]);
    let points = vec![PointVectorsPersisted { id: point_id(id), vector: VectorStructPersisted::Named(vector) }];
    let update = UpdateVectorsOp { points, update_filter: None };
    UpdateOperation::VectorOperation(VectorOperations::UpdateVectors(update))
}

/// `exact`: by a comparison with all, as they are.
pub(super) fn nearest(space: &str, vector: Vec<f32>, limit: usize, exact: bool) -> SearchRequest {
    let sketches = QuantizationSearchParams { ignore: false, rescore: Some(true), oversampling: Some(OVERSAMPLING) };
    let params = SearchParams {
        hnsw_ef: Some(GRAPH_BEAM.max(limit)),
        exact,
        quantization: Some(sketches),
        ..SearchParams::default()
    };
    SearchRequest {
        query: QueryEnum::Nearest(NamedQuery { query: vector.into(), using: Some(space.into()) }),
        filter: None,
        params: Some(params),
        limit,
        offset: 0,
        with_payload: Some(WithPayloadInterface::Bool(false)),
        with_vector: None,
        score_threshold: None,
    }
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
