//! `dih bench scale`: does a photo cost more in a large collection than in a small one?
//!
//! Takes    real photos and sizes. Gives, at each size, what a photo costs in dedupe and cluster, call by call; how many true
//!          neighbours are found; disk, memory, and how long opening takes.
//! How      a made-up stream ([`world`]) fills an index for each size. The measured photos go through the very stages, one after
//!          the other: dedupe, the vector's put, cluster, a commit; some over each index in turn. CPU time of the whole process
//!          counts.
//! Keeps    a temporary folder for each size, 8 kB a point, gone afterwards.
//! Weak at  the proof: what it takes to compare a suspect is read from memory, not from a file, which costs some 20 us more.

pub mod figures;
pub mod plot;
mod watched;
pub mod world;

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use dih_cluster::Cluster;
use dih_core::{
    Delivery, Notice, Outcome, Stage, StageError,
    event::{ImageEmbedded, ImageStored, VectorSpace},
    ports::{Among, Index},
    record::{Record, State},
    work::Bench,
};
use dih_dedupe::Dedupe;
use dih_imaging::{Limits, read};
use dih_previews::{Fresh, Previews};
use dih_repeats::Prover;
use dih_stores::index::EdgeIndex;
use futures::{StreamExt, TryStreamExt, stream};
use rustix::time::{ClockId, clock_gettime};

use self::{
    figures::{At, Memory},
    plot::grouped,
    watched::Watched,
    world::{World, unit},
};
use crate::{config::Config, output::say};

/// Points between two commits while the index is filled, and how many are under way at once.
const BATCH: usize = 256;
const AT_ONCE: usize = 8;
/// Turns in which the sizes are measured.
const TURNS: u64 = 20;

/// CPU seconds of this process so far, all threads.
fn process_cpu() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Fills an index of each size, then sends photos through the stages over each of them in turns: so a machine that slows
/// down or speeds up meanwhile does so for all sizes alike.
pub async fn measure(
    world: &World,
    config: &Config,
    sizes: &[u64],
    photos: u64,
    queries: u64,
) -> anyhow::Result<Vec<At>> {
    let mut collections = Vec::new();
    for points in sizes {
        let collection = Collection::fill(world.clone(), config, *points).await?;
        say(format!("{} points: filled in {:.0} CPU-seconds", grouped(*points), collection.at.fill_cpu_s));
        collections.push(collection);
    }
    for turn in 0..TURNS {
        let share = photos * (turn + 1) / TURNS - photos * turn / TURNS;
        for collection in &mut collections {
            collection.process(share).await?;
        }
    }
    let mut measured = Vec::new();
    for collection in collections {
        measured.push(collection.finish(&config.cluster, queries).await?);
    }
    Ok(measured)
}

/// An index of one size, and the stages over it.
struct Collection {
    world: World,
    spaces: [(VectorSpace, usize); 1],
    index: Arc<EdgeIndex>,
    stages: Stages,
    /// After the index: it must not go before it.
    folder: tempfile::TempDir,
    /// Photos so far.
    len: u64,
    at: At,
}

struct Stages {
    watched: Arc<Watched>,
    previews: Arc<Previews>,
    dedupe: Dedupe,
    cluster: Cluster,
}

impl Stages {
    fn over(index: Arc<EdgeIndex>, world: &World, config: &Config) -> Self {
        let bench = Bench::new(None);
        let blobs = world.blobs();
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), config.stores.previews_cached));
        let repeats = &config.repeats;
        let prover = Prover::new(previews.clone(), blobs, bench, repeats.confirm.clone(), repeats.cached);
        let prover = Arc::new(prover);
        let watched = Arc::new(Watched::new(index));
        let dedupe = Dedupe::new(config.dedupe.clone(), watched.clone(), prover.clone());
        let cluster = Cluster::new(config.cluster.clone(), watched.clone(), prover);
        Self { watched, previews, dedupe, cluster }
    }
}

impl Collection {
    /// Fills an index with so many points, without looking for repeats.
    async fn fill(world: World, config: &Config, points: u64) -> anyhow::Result<Self> {
        let (begun, before) = (process_cpu(), Memory::now());
        let folder = tempfile::Builder::new().prefix("dih-bench-").tempdir();
        let folder = folder.context("could not make a temporary folder")?;
        let spaces = [(VectorSpace("made-up".into()), world.vector(0).len())];
        let index = Arc::new(EdgeIndex::open(folder.path(), &spaces)?);
        let put = |n: u64| {
            let (index, space, world) = (&index, &spaces[0].0, &world);
            async move {
                let image = world.image(n);
                let id = image.id;
                let curated = Record {
                    state: State::Curated,
                    space: Some(space.clone()),
                    cluster: Some(id),
                    ..Record::claimed(image)
                };
                index.claim(&curated).await?;
                index.put_vector(id, space, &world.vector(n)).await
            }
        };
        for from in (0..points).step_by(BATCH) {
            let batch = from..points.min(from + BATCH as u64);
            stream::iter(batch).map(put).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
            index.commit().await?;
        }
        let stages = Stages::over(index.clone(), &world, config);
        let (fill_cpu_s, memory) = (process_cpu() - begun, Memory::now().beyond(before));
        let at = At { points, fill_cpu_s, memory, ..At::default() };
        Ok(Self { world, spaces, index, stages, folder, len: points, at })
    }

    fn space(&self) -> &VectorSpace {
        &self.spaces[0].0
    }

    /// Sends so many photos more through the stages, one after the other.
    async fn process(&mut self, photos: u64) -> anyhow::Result<()> {
        let Stages { previews, dedupe, cluster, .. } = &self.stages;
        let (mut cpu, mut repeats) = (0.0, 0);
        for n in self.len..self.len + photos {
            let (image, vector) = (self.world.image(n), self.world.vector(n));
            // Ingest decoded it a moment ago.
            let decoded = read(self.world.bytes(n), &Limits::default())?;
            previews.keep(image.id, Fresh::new(decoded.size, decoded.preview)).await?;
            let begun = process_cpu();
            let upload = Some(image.upload);
            let delivery = Delivery { input: ImageStored { image }, upload, received_at: None, attempt: 1 };
            let went_on = match went_on(dedupe.process(delivery).await.map_err(failed)?) {
                Some(image) => {
                    self.stages.watched.put_vector(image.id, self.space(), &vector).await?;
                    let input = ImageEmbedded { image, label_score: None, space: self.space().clone() };
                    let delivery = Delivery { input, upload, received_at: None, attempt: 1 };
                    went_on(cluster.process(delivery).await.map_err(failed)?).is_some()
                }
                None => false,
            };
            self.stages.watched.commit().await?;
            cpu += process_cpu() - begun;
            repeats += u64::from(!went_on);
        }
        self.len += photos;
        self.at.add(photos, repeats, cpu, &self.stages.watched.take());
        Ok(())
    }

    /// What was measured, how many true neighbours are found, and what it takes to open the index again.
    async fn finish(mut self, cluster: &dih_cluster::Config, queries: u64) -> anyhow::Result<At> {
        self.at.recall = self.recall(cluster, queries).await?;
        let Self { spaces, index, stages, folder, mut at, .. } = self;
        drop(stages);
        index.close().await?;
        drop(Arc::into_inner(index).context("nobody else has the index")?);
        let (begun, clock) = (process_cpu(), Instant::now());
        let index = EdgeIndex::open(folder.path(), &spaces)?;
        at.open_s = clock.elapsed().as_secs_f64();
        at.open_cpu_s = process_cpu() - begun;
        at.disk_mib = figures::disk_mib(folder.path())?;
        drop(index);
        Ok(at)
    }

    /// Share of the truly nearest that are found, by a comparison with all.
    async fn recall(&self, cluster: &dih_cluster::Config, queries: u64) -> anyhow::Result<Option<figures::Recall>> {
        let (suspects, neighbours) = (cluster.candidates_max, cluster.neighbours_max);
        let asked: Vec<u64> = (self.len..self.len + queries).collect();
        let vectors: Vec<Vec<f32>> = asked.iter().map(|n| unit(self.world.vector(*n))).collect();
        let truth = nearest(&self.world, self.len, &vectors, neighbours);
        let mut recall = figures::Recall::default();
        for (vector, truth) in vectors.iter().zip(truth) {
            let among = Among::states(&State::STANDING);
            let near = self.index.near_vectors(self.space(), vector, cluster.cosine_min, among, neighbours).await?;
            let found = |n: &u64| near.iter().any(|near| near.image.id == world::id(*n));
            let alike = truth.iter().filter(|(cosine, _)| *cosine >= cluster.repeat_cosine_min).take(suspects);
            let worth = truth.iter().filter(|(cosine, _)| *cosine >= cluster.cosine_min);
            recall.add(alike.map(|(_, n)| found(n)), worth.map(|(_, n)| found(n)));
        }
        Ok((queries > 0).then_some(recall))
    }
}

fn failed(error: StageError) -> anyhow::Error {
    anyhow::anyhow!("a stage could not do its work: {error}")
}

/// The photo, if it goes on to the next stage.
fn went_on(outcome: Outcome) -> Option<dih_core::event::Image> {
    outcome.notices.into_iter().find_map(|notice| match notice {
        Notice::Unique(event) => Some(event.image),
        Notice::Clustered(event) => Some(event.image),
        _ => None,
    })
}

/// The nearest of the first `len` photos to each query, nearest first: their cosines and numbers. On all cores.
fn nearest(world: &World, len: u64, queries: &[Vec<f32>], most: usize) -> Vec<Vec<(f32, u64)>> {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let part = |worker: u64| {
        let mut nearest: Vec<Vec<(f32, u64)>> = vec![Vec::new(); queries.len()];
        for n in (worker..len).step_by(workers as usize) {
            let vector = unit(world.vector(n));
            for (query, nearest) in queries.iter().zip(&mut nearest) {
                let cosine: f32 = query.iter().zip(&vector).map(|(a, b)| a * b).sum();
                if nearest.len() < most || nearest.last().is_some_and(|(least, _)| cosine > *least) {
                    let place = nearest.partition_point(|(other, _)| *other >= cosine);
                    nearest.insert(place, (cosine, n));
                    nearest.truncate(most);
                }
            }
        }
        nearest
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..workers).map(|worker| scope.spawn(move || part(worker))).collect();
        spawned.into_iter().map(|part| part.join().expect("comparing does not panic")).collect()
    });
    let merge = |query: usize| {
        let mut all: Vec<_> =
            parts.iter().flat_map(|part: &Vec<Vec<(f32, u64)>>| part[query].iter().copied()).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(most);
        all
    };
    (0..queries.len()).map(merge).collect()
}
