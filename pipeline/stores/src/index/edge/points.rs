//! Between images and what the engine stores. Pure.
//!
//! A point is keyed by the image id and carries one vector a space, and nothing else.

use std::collections::HashMap;

use dih_core::{ImageId, event::VectorSpace};
use qdrant_edge::{
    Distance, EdgeConfig, EdgeOptimizersConfig, EdgeVectorParams, HnswIndexConfig, NamedQuery, PointId,
    PointInsertOperations, PointOperations, PointStruct, PointVectorsPersisted, QueryEnum, SearchParams, SearchRequest,
    UpdateOperation, UpdateVectorsOp, Vector, VectorInternal, VectorOperations, VectorPersisted, VectorStructInternal,
    VectorStructPersisted, Vectors, WalOptions, WithPayloadInterface, external::serde_json::Value,
};

/// Bytes of one file of the engine's log, which stays mapped into memory.
pub(super) const LOG_FILE_BYTES: usize = 8 << 20;
/// Width of a search through a graph, in candidates: wider finds more of the true neighbours and takes longer.
const GRAPH_BEAM: usize = 256;

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
    let optimizers = EdgeOptimizersConfig {
        default_segment_number: Some(2),
        indexing_threshold: Some(graph_from_kb),
        ..EdgeOptimizersConfig::default()
    };
    let mut config = EdgeConfig::builder().on_disk_payload(true);
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

pub(super) fn nearest(space: &str, vector: Vec<f32>, limit: usize) -> SearchRequest {
    SearchRequest {
        query: QueryEnum::Nearest(NamedQuery { query: vector.into(), using: Some(space.into()) }),
        filter: None,
        params: Some(SearchParams { hnsw_ef: Some(GRAPH_BEAM.max(limit)), ..SearchParams::default() }),
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
