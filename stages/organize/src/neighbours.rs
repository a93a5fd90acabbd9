//! Who looks like whom among the members.
//!
//! Takes  the vectors of a spool (length 1). Gives the nearest members of each, and the links between look-alikes.
//!
//! Up to a limit every pair is compared: exact, blind to everything but the members, the same on every run. Above it
//! the index is asked; its graph may miss a few pairs, and photos outside of the selection take places among the
//! nearest.

use std::sync::Arc;

use dih_core::{
    StageError,
    event::VectorSpace,
    ports::{Among, Index},
    record::State,
    work::Bench,
};
use futures::{StreamExt, TryStreamExt, stream};
use ndarray::Array2;

use crate::{
    clusters::{Link, Links},
    config::Config,
    gather::{GatherError, Gathered, Member},
    spool::{Spool, SpoolError},
};

/// What the vectors say of the members.
#[derive(Debug)]
pub(crate) struct Nearness {
    /// Up to `neighbours` other members of each with their cosine, nearest first.
    pub(crate) nearest: Vec<Vec<(u32, f32)>>,
    /// The strongest links that join the look-alikes.
    pub(crate) links: Vec<Link>,
}

/// Rows of one block of the product of all vectors with each other: 512 x 512 cosines are 1 MiB.
const BLOCK: usize = 512;

pub(crate) async fn nearness(
    index: &dyn Index,
    gathered: &Gathered,
    space: &VectorSpace,
    config: &Config,
    bench: &Bench,
) -> Result<Nearness, StageError> {
    let seen: Vec<(u32, u32)> = seen(&gathered.members);
    let found = match seen.len() <= config.exact_members_max {
        true => exact(gathered, seen, config, bench).await?,
        false => by_index(index, gathered, seen, space, config).await?,
    };
    let mut nearest = vec![Vec::new(); gathered.members.len()];
    for row in found.rows {
        nearest[row.member as usize] = row.nearest;
    }
    Ok(Nearness { nearest, links: found.links.into_forest() })
}

/// Members that have a vector: their place and the vector's number.
fn seen(members: &[Member]) -> Vec<(u32, u32)> {
    members.iter().enumerate().filter_map(|(at, m)| Some((at as u32, m.vector?))).collect()
}

struct Found {
    rows: Vec<Row>,
    links: Links,
}

/// The nearest of one member.
struct Row {
    member: u32,
    nearest: Vec<(u32, f32)>,
}

async fn exact(
    gathered: &Gathered,
    seen: Vec<(u32, u32)>,
    config: &Config,
    bench: &Bench,
) -> Result<Found, StageError> {
    let seen = Arc::new(seen);
    let members = gathered.members.len();
    let (k, cosine_min) = (config.neighbours.get(), config.link_cosine);
    let starts: Vec<usize> = (0..seen.len()).step_by(BLOCK).collect();
    let block = |start: usize| {
        let (seen, spool) = (seen.clone(), gathered.spool.clone());
        bench.run(move || {
            let mut links = Links::among(members);
            let rows = rows(&spool, &seen, start, k, cosine_min, &mut links)?;
            Ok::<_, SpoolError>((rows, links.into_forest()))
        })
    };
    let mut blocks = stream::iter(starts.into_iter().map(block)).buffered(config.concurrency.get());
    let mut found = Found { rows: Vec::with_capacity(seen.len()), links: Links::among(members) };
    while let Some(block) = blocks.next().await {
        let (rows, forest) = block??;
        found.rows.extend(rows);
        forest.into_iter().for_each(|link| found.links.push(link));
    }
    Ok(found)
}

/// Compares one block of members with all.
fn rows(
    spool: &Spool,
    seen: &[(u32, u32)],
    start: usize,
    k: usize,
    cosine_min: f32,
    links: &mut Links,
) -> Result<Vec<Row>, SpoolError> {
    let mine = &seen[start..seen.len().min(start + BLOCK)];
    let left = vectors(spool, mine)?;
    let row = |(member, _): &(u32, u32)| Row { member: *member, nearest: Vec::with_capacity(k + 1) };
    let mut rows: Vec<Row> = mine.iter().map(row).collect();
    for other in seen.chunks(BLOCK) {
        let right = vectors(spool, other)?;
        let cosines = left.dot(&right.t());
        for (row, cosines) in rows.iter_mut().zip(cosines.rows()) {
            for (&(member, _), &cosine) in other.iter().zip(cosines).filter(|((m, _), _)| *m != row.member) {
                offer(&mut row.nearest, k, member, cosine);
                if cosine >= cosine_min && member > row.member {
                    links.push(Link { a: row.member, b: member, cosine });
                }
            }
        }
    }
    Ok(rows)
}

/// Keeps the `k` nearest, nearest first; of equals the one that came first.
fn offer(nearest: &mut Vec<(u32, f32)>, k: usize, member: u32, cosine: f32) {
    if nearest.len() == k && nearest.last().is_some_and(|(_, last)| cosine <= *last) {
        return;
    }
    let at = nearest.partition_point(|(_, held)| *held >= cosine);
    nearest.insert(at, (member, cosine));
    nearest.truncate(k);
}

fn vectors(spool: &Spool, members: &[(u32, u32)]) -> Result<Array2<f32>, SpoolError> {
    let columns = spool.dimensions();
    let mut numbers = Vec::with_capacity(members.len() * columns);
    for (_, slot) in members {
        spool.vector(*slot, &mut numbers)?;
    }
    Ok(Array2::from_shape_vec((members.len(), columns), numbers).expect("every vector of a spool has this length"))
}

async fn by_index(
    index: &dyn Index,
    gathered: &Gathered,
    seen: Vec<(u32, u32)>,
    space: &VectorSpace,
    config: &Config,
) -> Result<Found, StageError> {
    let k = config.neighbours.get();
    let ask = |(member, slot): (u32, u32)| async move {
        let mut vector = Vec::with_capacity(gathered.spool.dimensions());
        gathered.spool.vector(slot, &mut vector).map_err(GatherError::Spool)?;
        let states = [State::Curated, State::Held];
        let near = index.near_vectors(space, &vector, 0.0, Among::states(&states), k + 1).await;
        let near = near.map_err(|source| GatherError::Index { source })?;
        let mut row = Row { member, nearest: Vec::with_capacity(k) };
        let mut alike = Vec::new();
        for hit in near {
            let other = gathered.members.binary_search_by_key(&hit.image.id, |m| m.image);
            let Ok(other) = other.map(|at| at as u32) else { continue };
            if other != member {
                offer(&mut row.nearest, k, other, hit.cosine);
            }
            if other != member && hit.cosine >= config.link_cosine {
                alike.push(Link { a: member.min(other), b: member.max(other), cosine: hit.cosine });
            }
        }
        Ok::<_, GatherError>((row, alike))
    };
    let links = Links::among(gathered.members.len());
    let mut found = Found { rows: Vec::with_capacity(seen.len()), links };
    let mut answers = stream::iter(seen.into_iter().map(ask)).buffered(config.concurrency.get());
    while let Some((row, alike)) = answers.try_next().await? {
        found.rows.push(row);
        alike.into_iter().for_each(|link| found.links.push(link));
    }
    Ok(found)
}
