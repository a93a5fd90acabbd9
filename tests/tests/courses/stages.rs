//! The stages from dedupe on, each fact to the one that takes it.

use std::sync::Arc;

use dih_cluster::Cluster;
use dih_core::{
    Class, Delivery, Notice, Outcome, Stage, StageError,
    event::Image,
    ports::{Blobs, Index},
    work::Bench,
};
use dih_dedupe::{Dedupe, Foresight};
use dih_embed::Embed;
use dih_imaging::Limits;
use dih_organize::Organize;
use dih_repeats::Prover;
use dih_verify::{Verify, breach};

use crate::crowd::Eyes;

/// What stages need, apart from the index.
#[derive(Clone)]
pub(crate) struct Stages {
    pub(crate) eyes: Arc<Eyes>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) bench: Bench,
    pub(crate) prover: Arc<Prover>,
    pub(crate) cluster: dih_cluster::Config,
}

impl Stages {
    pub(crate) async fn process(self, index: Arc<dyn Index>, fact: Notice) -> Result<Outcome, StageError> {
        let rules = dih_verify::Config::default();
        match fact {
            Notice::Stored(event) => {
                let foresight = Foresight::new(move |image: &Image| {
                    breach(image.size, &image.measures, &rules).map(|breach| breach.reason)
                });
                let dedupe = Dedupe::new(dih_dedupe::Config::default(), index, self.prover);
                run(dedupe.foreseeing(foresight), event).await
            }
            Notice::Unique(event) => run(Verify::new(rules, index, self.eyes), event).await,
            Notice::Verified(event) => run(Embed::new(index, self.eyes), event).await,
            Notice::Embedded(event) => run(Cluster::new(self.cluster, index, self.prover), event).await,
            Notice::Clustered(event) => {
                let config = dih_organize::Config::default();
                run(Organize::new(&config, Limits::default(), index, self.blobs, self.bench), event).await
            }
            other => Err(StageError::new(Class::BadInput, format!("no stage takes {other:?}"))),
        }
    }
}

/// What cannot be processed falls, as the runner has it.
async fn run<S: Stage>(stage: S, input: S::Input) -> Result<Outcome, StageError>
where
    S::Input: Clone,
{
    let delivery = |input| Delivery { input, upload: None, received_at: None, attempt: 1 };
    match stage.process(delivery(input.clone())).await {
        Err(error) if error.class() == Class::BadInput => stage.fallen(delivery(input)).await,
        done => done,
    }
}

pub(crate) fn image_of(notice: &Notice) -> Option<&Image> {
    match notice {
        Notice::Stored(event) => Some(&event.image),
        Notice::Unique(event) => Some(&event.image),
        Notice::Verified(event) => Some(&event.image),
        Notice::Embedded(event) => Some(&event.image),
        Notice::Clustered(event) => Some(&event.image),
        _ => None,
    }
}

pub(crate) fn kind(notice: &Notice) -> &'static str {
    match notice {
        Notice::Stored(_) => "stored",
        Notice::Unique(_) => "unique",
        Notice::Verified(_) => "verified",
        Notice::Embedded(_) => "embedded",
        Notice::Clustered(_) => "clustered",
        _ => "answer",
    }
}

pub(crate) fn summary(notice: &Notice) -> String {
    match (image_of(notice), notice) {
        (Some(image), _) => format!("{} {}.{}", kind(notice), image.upload, image.epoch),
        (None, Notice::Answer(answer)) => {
            let of = answer.repeat.as_ref().map(|repeat| format!(" of {}", repeat.of_upload)).unwrap_or_default();
            format!("answer {}.{} {}{of}", answer.upload, answer.epoch, answer.status)
        }
        _ => "something else".to_owned(),
    }
}
