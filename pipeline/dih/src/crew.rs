//! The stages at work in this process: one runner a consumer.
//!
//! Takes    the parts and the consumers to feed. Gives their health, and the first reason why one stopped by itself.

use std::{num::NonZeroUsize, sync::Arc};

use anyhow::Context;
use dih_cluster::Cluster;
use dih_core::{
    Stage, StageName,
    event::Image,
    topology::{CONSUMERS, ConsumerSpec},
};
use dih_dedupe::{Dedupe, Foresight};
use dih_embed::Embed;
use dih_inference::Provider;
use dih_ingest::Ingest;
use dih_organize::{Cut, Organize, Places};
use dih_runner::{Connection, Health, Input, Line, RunError, Runner, RunnerConfig};
use dih_train::{OnnxPredict, Train};
use dih_verify::{Verify, breach};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, parts::Parts, problem::Problem};

#[derive(Debug)]
pub struct Crew {
    healths: Vec<Health>,
    tasks: JoinSet<Result<(), RunError>>,
    shutdown: CancellationToken,
    line: Line,
    /// Held while stages work: the home stays owned.
    _parts: Arc<Parts>,
}

impl Crew {
    /// Starts every consumer of these stages.
    pub fn start(parts: Parts, connection: &Connection, config: &Config, stages: &[StageName]) -> anyhow::Result<Self> {
        let parts = Arc::new(parts);
        let mut crew = Self {
            healths: Vec::new(),
            tasks: JoinSet::new(),
            shutdown: CancellationToken::new(),
            line: Line::default(),
            _parts: parts.clone(),
        };
        for consumer in CONSUMERS.iter().filter(|c| stages.contains(&c.stage)) {
            crew.enlist(consumer, &parts, connection, config)?;
        }
        Ok(crew)
    }

    pub fn healths(&self) -> &[Health] {
        &self.healths
    }

    /// Waits until a stage stops by itself: never, when all is well.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => anyhow::Error::from(error).context(Problem::new(
                "a stage stopped by itself; nothing is lost",
                "mend what is named, then run it again",
            )),
            Some(Ok(Ok(()))) => anyhow::anyhow!("a stage stopped without being told to"),
            Some(Err(panic)) => anyhow::Error::from(panic).context("a stage broke down"),
            None => std::future::pending().await,
        }
    }

    /// Lets what is in work end, within the time that the configuration gives.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.context("a stage broke down").and_then(|ended| Ok(ended?));
            result = result.and(ended);
        }
        result
    }

    fn enlist(&mut self, spec: &ConsumerSpec, p: &Parts, to: &Connection, config: &Config) -> anyhow::Result<()> {
        let (index, blobs, previews, bench) = (&p.index, &p.blobs, &p.previews, &p.bench);
        let vision = || p.vision.clone().context("the model was not loaded");
        match spec.name {
            Ingest::CONSUMER => {
                let stage = Ingest::new(config.ingest.clone(), blobs.clone(), previews.clone(), bench.clone());
                let stage = stage.limited(p.quotas.clone());
                // Who needs the index of others has no stage beside it that has seen the pixels.
                let stage = if config.stores.qdrant.url.is_some() { stage.sharing() } else { stage };
                self.run(stage, p, to, config);
            }
            Dedupe::CONSUMER => {
                let rules = config.verify.clone();
                let breach = move |image: &Image| Some(breach(image.size, &image.measures, &rules)?.reason);
                let dedupe = Dedupe::new(config.dedupe.clone(), index.clone(), p.prover.clone());
                self.run(dedupe.foreseeing(Foresight::new(breach)), p, to, config);
            }
            Verify::CONSUMER => {
                let verify = Verify::new(config.verify.clone(), index.clone(), vision()?);
                let verify = verify.knowing(p.witness.clone()).calibrated(config.calibration.clone());
                let verify = verify.guarded(p.safety.clone());
                self.run(verify, p, to, config);
            }
            Embed::CONSUMER => self.run(Embed::new(index.clone(), vision()?), p, to, config),
            Cluster::CONSUMER => {
                self.run(Cluster::new(config.cluster.clone(), index.clone(), p.prover.clone()), p, to, config);
            }
            Organize::CONSUMER => {
                let limits = config.ingest.limits.clone();
                let stage = Organize::new(&config.organize, limits, index.clone(), blobs.clone(), bench.clone());
                self.run(stage, p, to, config);
            }
            Cut::CONSUMER => {
                let limits = config.ingest.limits.clone();
                let (index, blobs, state) = (index.clone(), blobs.clone(), p.state.clone());
                let stage = Cut::new(&config.organize, limits, p.space.clone(), index, blobs, state, bench.clone());
                self.run(stage.placing(places(p)), p, to, config);
            }
            Train::CONSUMER => {
                let predict = OnnxPredict::new(p.manifest.clone(), p.space.clone(), config.inference.clone());
                let (blobs, previews, predict) = (blobs.clone(), previews.clone(), Arc::new(predict));
                let stage = Train::new(config.train.clone(), blobs, previews, predict, bench.clone());
                self.run(stage, p, to, config);
            }
            other => anyhow::bail!("no stage feeds on the consumer {other}"),
        }
        Ok(())
    }

    fn run<S: Stage<Input: Input>>(&mut self, stage: S, parts: &Parts, connection: &Connection, config: &Config) {
        let runner = Runner::new(connection.clone(), stage, Some(parts.index.clone()), at_work(config, S::CONSUMER));
        let runner = runner.in_line(&self.line);
        self.healths.push(runner.health());
        self.tasks.spawn(runner.run(self.shutdown.clone()));
    }
}

/// In work at once of a stage that asks a GPU, if nothing is said: while two batches are computed, two are prepared.
const FOR_GPU: Option<NonZeroUsize> = NonZeroUsize::new(64);

fn at_work(config: &Config, consumer: &str) -> RunnerConfig {
    let asks_gpu =
        config.inference.provider != Provider::Cpu && [Verify::CONSUMER, Embed::CONSUMER].contains(&consumer);
    let usual = FOR_GPU.filter(|_| asks_gpu);
    RunnerConfig { items_max: config.runner.items_max.or(usual), ..config.runner.clone() }
}

/// Where labels stand, by the taxonomy of this run.
fn places(parts: &Parts) -> Places {
    match parts.taxonomy.clone() {
        Some(taxonomy) => Places::new(move |label| taxonomy.places(label.as_str())),
        None => Places::default(),
    }
}
