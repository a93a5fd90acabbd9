//! Keeps one copy of each image after a crash beside a merge.
//!
//! A merge writes a new segment and then removes the old ones. A crash in between leaves images in both, and the engine
//! (0.7.2) takes them as they are: it counts them twice, and finds them by what they were.
//!
//! Crash    the points that are to be written anew are first put into a file aside, and from there they are put back if
//!          the process dies before the shard is on the disk again.
//! Weak at  a shard of several segments is walked once at each opening, about a second a million images.

use std::{
    fs::{self, File},
    path::Path,
};

use qdrant_edge::{
    Condition, ConditionalInsertOperation, CountRequest, EdgeShard, Filter, HasIdCondition, OperationResult, PointId,
    PointInsertOperations, PointOperations, PointStructPersisted, ScrollRequest, UpdateMode, UpdateOperation,
    WithPayloadInterface, WithVector, external::serde_json,
};

/// Points looked at in one go; bounds the memory too, at some 10 kB each where they must be written anew.
const BATCH: usize = 1_000;

/// Repairs a shard that nobody else uses yet. `aside` is the path of the file for points under repair.
pub(super) fn repair(shard: &EdgeShard, aside: &Path) -> OperationResult<()> {
    if aside.exists() {
        let points: Vec<PointStructPersisted> = serde_json::from_slice(&fs::read(aside)?)?;
        insert_missing(shard, points)?;
        shard.flush();
        fs::remove_file(aside)?;
    }
    if shard.info().segments_count < 2 {
        return Ok(());
    }
    let mut offset = None;
    loop {
        let (ids, next) = ids_from(shard, offset)?;
        if copies(shard, &ids)? > ids.len() {
            keep_newest(shard, &ids, aside)?;
        }
        match next {
            Some(next) => offset = Some(next),
            None => return Ok(()),
        }
    }
}

fn ids_from(shard: &EdgeShard, offset: Option<PointId>) -> OperationResult<(Vec<PointId>, Option<PointId>)> {
    let (found, next) = shard.scroll(ScrollRequest {
        offset,
        limit: Some(BATCH),
        filter: None,
        with_payload: Some(WithPayloadInterface::Bool(false)),
        with_vector: WithVector::Bool(false),
        order_by: None,
    })?;
    Ok((found.into_iter().map(|point| point.id).collect(), next))
}

/// How many copies of these points the segments hold.
fn copies(shard: &EdgeShard, ids: &[PointId]) -> OperationResult<usize> {
    let these = Condition::HasId(ids.iter().copied().collect::<HasIdCondition>());
    shard.count(CountRequest { filter: Some(Filter::new_must(these)), exact: true })
}

/// Writes those that are there more than once anew, as the newest copy says. Deleting is what reaches all copies.
fn keep_newest(shard: &EdgeShard, ids: &[PointId], aside: &Path) -> OperationResult<()> {
    let mut twice = Vec::new();
    for id in ids {
        if copies(shard, &[*id])? > 1 {
            twice.push(*id);
        }
    }
    let newest = shard.retrieve(&twice, Some(WithPayloadInterface::Bool(true)), Some(WithVector::Bool(true)))?;
    let points: Vec<_> = newest
        .into_iter()
        .filter_map(|point| {
            Some(PointStructPersisted { id: point.id, vector: point.vector?.into(), payload: point.payload })
        })
        .collect();
    tracing::warn!(images = points.len(), "index held images twice after a crash, kept the newer copies");
    put_aside(aside, &points)?;
    let ids = points.iter().map(|point| point.id).collect();
    shard.update(UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }))?;
    insert_missing(shard, points)?;
    shard.flush();
    Ok(fs::remove_file(aside)?)
}

fn insert_missing(shard: &EdgeShard, points: Vec<PointStructPersisted>) -> OperationResult<()> {
    let insert = ConditionalInsertOperation {
        points_op: PointInsertOperations::PointsList(points),
        condition: Filter::new(),
        update_mode: Some(UpdateMode::InsertOnly),
    };
    shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPointsConditional(insert)))
}

/// The file is whole or absent, and on the disk when this returns.
fn put_aside(aside: &Path, points: &[PointStructPersisted]) -> OperationResult<()> {
    let half = aside.with_extension("half");
    fs::write(&half, serde_json::to_vec(points)?)?;
    File::open(&half)?.sync_all()?;
    fs::rename(&half, aside)?;
    if let Some(folder) = aside.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
