//! What is asked of the engine.

use std::collections::HashMap;

use dih_core::{ImageId, image::Fingerprint, record::State};
use qdrant_edge::{
    EdgeShard, NamedQuery, OperationResult, Payload, PointId, QueryEnum, ScoredPoint, ScrollRequest, SearchParams,
    SearchRequest, WithPayloadInterface, WithVector,
};

use super::points::{self, FINGERPRINT};

pub(super) fn retrieve(shard: &EdgeShard, id: ImageId) -> OperationResult<Option<Payload>> {
    let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(true)), None)?;
    Ok(found.into_iter().next().map(|point| point.payload.unwrap_or_default()))
}

pub(super) fn exists(shard: &EdgeShard, id: ImageId) -> OperationResult<bool> {
    let found = shard.retrieve(&[points::point_id(id)], Some(WithPayloadInterface::Bool(false)), None)?;
    Ok(!found.is_empty())
}

pub(super) fn scroll(offset: Option<PointId>, limit: usize) -> ScrollRequest {
    ScrollRequest {
        offset,
        limit: Some(limit),
        filter: None,
        with_payload: Some(WithPayloadInterface::Bool(true)),
        with_vector: WithVector::Bool(false),
        order_by: None,
    }
}

pub(super) fn nearest(name: &str, vector: Vec<f32>, limit: usize) -> SearchRequest {
    SearchRequest {
        query: QueryEnum::Nearest(NamedQuery { query: vector.into(), using: Some(name.into()) }),
        filter: None,
        params: None,
        limit,
        offset: 0,
        with_payload: Some(WithPayloadInterface::Bool(false)),
        with_vector: None,
        score_threshold: None,
    }
}

pub(super) type FoundFingerprint = (PointId, Option<Payload>, u32, usize);

/// Asks for each query, keeps the nearest query of each point, and only then reads the payloads of the few that stay.
pub(super) fn near_fingerprints(
    shard: &EdgeShard,
    queries: &[Fingerprint],
    radius: u32,
    states: &[State],
    limit: usize,
) -> OperationResult<Vec<FoundFingerprint>> {
    let mut near: HashMap<PointId, (u32, usize)> = HashMap::new();
    for (query, fingerprint) in queries.iter().enumerate() {
        let mut search = nearest(FINGERPRINT, points::bits(*fingerprint), limit);
        search.filter = points::in_states(states);
        search.params = Some(SearchParams { exact: true, ..SearchParams::default() });
        for ScoredPoint { id, score, .. } in shard.search(search)? {
            let found = (score.round() as u32, query);
            let best = near.entry(id).or_insert(found);
            *best = found.min(*best);
        }
    }
    let mut near: Vec<_> = near.into_iter().filter(|(_, (distance, _))| *distance <= radius).collect();
    near.sort_by_key(|(id, found)| (*found, *id));
    near.truncate(limit);
    let ids: Vec<_> = near.iter().map(|(id, _)| *id).collect();
    let mut payloads: HashMap<_, _> = shard
        .retrieve(&ids, Some(WithPayloadInterface::Bool(true)), None)?
        .into_iter()
        .map(|point| (point.id, point.payload))
        .collect();
    Ok(near.into_iter().map(|(id, (distance, query))| (id, payloads.remove(&id).flatten(), distance, query)).collect())
}
