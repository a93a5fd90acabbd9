//! The engine: many callers, few sessions, batches by count and age.
//!
//! Takes    one prepared picture a call. Gives its embedding and its class probabilities.
//! Keeps    a bounded queue; who finds it full waits before it, so memory does not grow with the callers.
//! Crash    a caller that goes away is left out of the batch; of a batch that fails each picture is tried alone. A GPU that
//!          fails on a blank picture, too, is lost to this process, which must be started again.
//! Weak at  latency on a GPU at low load: a lone picture waits `batch_age` for company.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use dih_core::{
    chain,
    metrics::{INFERENCE_BATCH, INFERENCE_SECONDS},
};
use metrics::histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    config::{Config, Provider},
    error::InferenceError,
    manifest::Manifest,
    prepare::Tensor,
    runtime::Runner,
};

/// What the model says about one picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// As the model gives it, not normalised.
    pub embedding: Option<Vec<f32>>,
    /// One a class, summing to 1.
    pub probabilities: Option<Vec<f32>>,
}

struct Request {
    tensor: Tensor,
    reply: oneshot::Sender<Result<Output, InferenceError>>,
    /// Its place in the queue, given back with the answer.
    _place: OwnedSemaphorePermit,
}

impl Request {
    fn tell(self, answer: Result<Output, InferenceError>) {
        // A caller that went away meanwhile leaves nobody to tell.
        let _ = self.reply.send(answer);
    }
}

/// A loaded model with its threads. Dropping it ends them.
#[derive(Debug)]
pub struct Engine {
    manifest: Arc<Manifest>,
    /// What every input must be like.
    expected: Tensor,
    places: Arc<Semaphore>,
    /// Gone only while dropping, which is what ends the threads.
    queue: Option<Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Loads the model into every session and tries it, so that a wrong model shows here. Blocks: seconds, with TensorRT
    /// minutes at the first start.
    pub fn load(manifest: Manifest, config: &Config) -> Result<Self, InferenceError> {
        let bytes = manifest.model_bytes()?;
        let [a, b, c] = manifest.input.shape();
        let shapes = format!("{}:{{items}}x{a}x{b}x{c}", manifest.input.name);
        let expected = manifest.input.blank();
        let manifest = Arc::new(manifest);
        let (queue, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::new();
        for number in 0..config.session_count() {
            let mut runner = Runner::load(&manifest.name, &bytes, config, Some(&shapes), manifest.reduce_range)?;
            if number == 0 {
                runner.agrees_with(&manifest)?;
            }
            // A GPU plans its work in the first run.
            if number == 0 || config.provider != Provider::Cpu {
                answer(&mut runner, &manifest, &[&expected]).map_err(|error| match error {
                    // At the start a failing run is a matter of this place, not of a picture.
                    InferenceError::Run { model, source, .. } => {
                        InferenceError::cannot_load(config.provider, &model, source)
                    }
                    other => other,
                })?;
            }
            let (manifest, receiver) = (manifest.clone(), receiver.clone());
            let (most, age) = (config.batch_size(), config.batch_age.0);
            let blank = (config.provider != Provider::Cpu).then(|| expected.clone());
            let work = move || {
                let mut model = |batch: &[&Tensor]| answer(&mut runner, &manifest, batch);
                while let Some(batch) = next_batch(&receiver, most, age) {
                    serve(&mut model, &manifest.name, batch, blank.as_ref());
                }
            };
            let thread = thread::Builder::new().name(format!("inference-{number}")).spawn(work);
            threads.push(thread.expect("the system has room for a few threads at the start"));
        }
        tracing::info!(
            model = manifest.name,
            sessions = threads.len(),
            batch = config.batch_size(),
            "loaded the model"
        );
        let places = Arc::new(Semaphore::new(config.queue_max.max(config.batch_size())));
        Ok(Self { manifest, expected, places, queue: Some(queue), threads })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Answers for one picture. Waits while the queue is full; dropping the future withdraws the picture.
    pub async fn infer(&self, tensor: Tensor) -> Result<Output, InferenceError> {
        if !tensor.is_like(&self.expected) {
            let fault = format!("{tensor:?} instead of {:?}", self.expected);
            return Err(InferenceError::WrongInput { fault });
        }
        let stopped = || InferenceError::Stopped { model: self.manifest.name.clone() };
        let place = self.places.clone().acquire_owned().await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(Request { tensor, reply, _place: place }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(model = self.manifest.name, "an inference thread panicked");
            }
        }
    }
}

/// Waits for a picture, then for more until the batch is full or its first picture is `age` old. `None`: no more come.
///
/// One thread gathers at a time while the others compute or wait their turn.
fn next_batch(queue: &Mutex<Receiver<Request>>, most: usize, age: Duration) -> Option<Vec<Request>> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut batch = vec![queue.recv().ok()?];
    let until = Instant::now() + age;
    while batch.len() < most {
        match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(request) => batch.push(request),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

/// `blank`, on a GPU, is a picture that it has run before.
fn serve(model: &mut impl Model, name: &str, mut batch: Vec<Request>, blank: Option<&Tensor>) {
    batch.retain(|request| !request.reply.is_closed());
    if batch.is_empty() {
        return;
    }
    let start = Instant::now();
    let tensors: Vec<&Tensor> = batch.iter().map(|request| &request.tensor).collect();
    let answers = model(&tensors);
    histogram!(INFERENCE_SECONDS, "model" => name.to_owned()).record(start.elapsed());
    histogram!(INFERENCE_BATCH, "model" => name.to_owned()).record(batch.len() as f64);
    match answers {
        Ok(outputs) => batch.into_iter().zip(outputs).for_each(|(request, output)| request.tell(Ok(output))),
        // One by one, so that one picture the model stumbles over does not fail its neighbours.
        Err(error) if batch.len() > 1 => {
            tracing::warn!(items = batch.len(), error = %chain(&error), "a batch failed, will run its pictures singly");
            for request in batch {
                let answer = model(&[&request.tensor]).map_err(|error| lost(model, name, blank, error));
                request.tell(answer.map(|mut outputs| outputs.remove(0)));
            }
        }
        Err(error) => batch.remove(0).tell(Err(lost(model, name, blank, error))),
    }
}

/// What a failed run of one picture means: after some errors a GPU never answers this process again.
fn lost(model: &mut impl Model, name: &str, blank: Option<&Tensor>, error: InferenceError) -> InferenceError {
    match blank {
        Some(blank) if model(&[blank]).is_err() => {
            InferenceError::DeviceLost { model: name.to_owned(), source: Box::new(error) }
        }
        _ => error,
    }
}

/// What runs a batch.
trait Model: FnMut(&[&Tensor]) -> Result<Vec<Output>, InferenceError> {}

impl<F: FnMut(&[&Tensor]) -> Result<Vec<Output>, InferenceError>> Model for F {}

/// Runs a batch and reads what the manifest says about its outputs.
fn answer(runner: &mut Runner, manifest: &Manifest, batch: &[&Tensor]) -> Result<Vec<Output>, InferenceError> {
    let named: Vec<_> = manifest.outputs.iter().collect();
    let names: Vec<&str> = named.iter().map(|o| o.name.as_str()).collect();
    let rows = runner.run(batch, &names)?;
    for (output, rows) in named.iter().zip(&rows) {
        if let Some(row) = rows.iter().find(|row| row.len() != output.dim) {
            let fault = format!("output {:?} has {} numbers instead of {}", output.name, row.len(), output.dim);
            return Err(InferenceError::WrongModel { model: manifest.name.clone(), fault });
        }
    }
    let mut rows = rows.into_iter();
    let mut embeddings = manifest.outputs.embedding.as_ref().and_then(|_| rows.next()).map(Vec::into_iter);
    let probability = if manifest.outputs.probabilities.is_some() { |row| row } else { softmax };
    let mut classes = rows.next().map(Vec::into_iter);
    let outputs = batch.iter().map(|_| Output {
        embedding: embeddings.as_mut().and_then(Iterator::next),
        probabilities: classes.as_mut().and_then(Iterator::next).map(probability),
    });
    Ok(outputs.collect())
}

/// `exp(x) / sum(exp)`, shifted by the largest so that nothing overflows.
fn softmax(mut scores: Vec<f32>) -> Vec<f32> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|s| *s = (*s - largest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= sum);
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for two pictures in one batch of a model that fails on those whose first number it is told.
    fn ask(fails_on: &[f32], blank: Option<&Tensor>) -> [Result<Output, InferenceError>; 2] {
        let picture = |first| Tensor::new([1, 1, 1], vec![first]).expect("one value");
        let places = Arc::new(Semaphore::new(2));
        let asked = [1.0, 2.0].map(|first| {
            let (reply, answer) = oneshot::channel();
            let place = places.clone().try_acquire_owned().expect("two places");
            (Request { tensor: picture(first), reply, _place: place }, answer)
        });
        let (batch, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let mut model = |batch: &[&Tensor]| match batch.iter().any(|t| fails_on.contains(&t.numbers()[0])) {
            true => Err(InferenceError::NotFinite { model: "test".into() }),
            false => Ok(vec![Output::default(); batch.len()]),
        };
        serve(&mut model, "test", batch, blank);
        let mut answers = answers.into_iter().map(|mut answer| answer.try_recv().expect("answered"));
        [(); 2].map(|()| answers.next().expect("two were asked"))
    }

    #[test]
    fn of_a_batch_that_fails_only_the_guilty_picture_does() {
        let blank = Tensor::new([1, 1, 1], vec![0.0]).expect("one value");
        for blank in [None, Some(&blank)] {
            let answers = ask(&[2.0], blank);
            assert!(matches!(answers, [Ok(_), Err(InferenceError::NotFinite { .. })]), "{answers:?}");
        }
    }

    #[test]
    fn a_gpu_that_fails_on_what_it_has_run_before_is_lost() {
        let blank = Tensor::new([1, 1, 1], vec![0.0]).expect("one value");
        let answers = ask(&[0.0, 2.0], Some(&blank));
        assert!(matches!(answers, [Ok(_), Err(InferenceError::DeviceLost { .. })]), "{answers:?}");
        let answers = ask(&[0.0, 1.0, 2.0], None).map(|answer| answer.expect_err("it fails on all"));
        assert!(answers.iter().all(|error| matches!(error, InferenceError::NotFinite { .. })), "{answers:?}");
    }

    #[test]
    fn softmax_sums_to_one_however_large_the_scores() {
        for scores in [vec![0.0, 0.0], vec![1e4, -1e4, 9999.0], vec![-1e38, 1e38]] {
            let sum: f32 = softmax(scores).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        }
    }
}
