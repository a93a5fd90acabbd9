//! Takes the shots of a plan on all cores, in their order, with few photos in memory.

use std::{
    collections::VecDeque,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::{plan::Sending, shot::Subject};

/// Decoded photos kept in memory; a working copy has at most 5 MB.
const CACHED: usize = 24;

/// The photos of a plan, by position.
#[derive(Debug)]
pub struct Studio {
    photos: Vec<PathBuf>,
    cache: Mutex<VecDeque<(usize, Arc<Subject>)>>,
}

impl Studio {
    pub fn new(photos: Vec<PathBuf>) -> Self {
        Self { photos, cache: Mutex::default() }
    }

    /// The bytes of every sending, in the order of the plan; an error names the photo that is none.
    pub fn shoot(self, plan: Vec<Sending>) -> impl Stream<Item = anyhow::Result<(Sending, anyhow::Result<Bytes>)>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let studio = Arc::new(self);
        stream::iter(plan)
            .map(move |sending| {
                let studio = studio.clone();
                async move {
                    let job = move || (studio.one(&sending), sending);
                    let (bytes, sending) = tokio::task::spawn_blocking(job).await.context("a shot was not taken")?;
                    Ok((sending, bytes))
                }
            })
            .buffered(cores + 1)
    }

    fn one(&self, sending: &Sending) -> anyhow::Result<Bytes> {
        let subject = self.subject(sending.photo)?;
        let shot = subject.shoot(&sending.recipe);
        Ok(shot.with_context(|| format!("could not shoot `{}`", self.photos[sending.photo].display()))?.into())
    }

    fn subject(&self, photo: usize) -> anyhow::Result<Arc<Subject>> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, subject)) = lock().iter().find(|(n, _)| *n == photo) {
            return Ok(subject.clone());
        }
        let path = &self.photos[photo];
        let bytes = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
        let subject = Subject::decode(bytes).with_context(|| format!("could not shoot `{}`", path.display()))?;
        let subject = Arc::new(subject);
        let mut cache = lock();
        cache.push_back((photo, subject.clone()));
        if cache.len() > CACHED {
            cache.pop_front();
        }
        Ok(subject)
    }
}
