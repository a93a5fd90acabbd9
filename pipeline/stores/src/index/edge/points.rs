//! Between images and what the engine stores. Pure.
//!
//! A point is keyed by the image id and carries one vector a space, and nothing else.

use std::collections::HashMap;

use dih_core::{ImageId, event::VectorSpace};
use qdrant_edge::{
    Distance, EdgeConfig, EdgeVectorParams, PointId, PointInsertOperations, PointOperations, PointStruct,
    PointVectorsPersisted, ScrollRequest, UpdateOperation, UpdateVectorsOp, Vector, VectorInternal, VectorOperations,
    VectorPersisted, VectorStructInternal, VectorStructPersisted, Vectors, WalOptions, WithPayloadInterface,
    WithVector, external::serde_json::Value,
};

/// Bytes of one file of the engine's log, which stays mapped into memory.
pub(super) const LOG_FILE_BYTES: usize = 8 << 20;

/// There is one segment, that takes writes, and no graph: the engine is asked neither to optimize nor to search.
pub(super) fn config(spaces: &[(VectorSpace, usize)]) -> EdgeConfig {
    let mut config = EdgeConfig::builder().on_disk_payload(true);
    for (space, numbers) in spaces {
        let params = EdgeVectorParams::builder(*numbers, Distance::Cosine).on_disk(true).build();
        config = config.vector(&space.0, params);
    }
    config.wal_options(WalOptions { segment_capacity: LOG_FILE_BYTES, ..WalOptions::default() }).build()
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

/// Up to so many points from one on, with their vectors of one space.
pub(super) fn page(space: &str, from: Option<PointId>, limit: usize) -> ScrollRequest {
    ScrollRequest {
        offset: from,
        limit: Some(limit),
        with_payload: Some(WithPayloadInterface::Bool(false)),
        with_vector: WithVector::Selector(vec![space.to_owned()]),
        ..ScrollRequest::default()
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
