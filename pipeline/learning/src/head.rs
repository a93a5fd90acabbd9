//! A classifier head: softmax regression on normalised vectors, stopped by a validation split, calibrated at the end.
//!
//! Takes    rows with one class each, how surely it is right, and the split each belongs to. Gives weights, bias and the
//!          history.
//! How      full passes in small batches with Adam (Kingma and Ba 2015), classes weighted by the inverse of their
//!          frequency, rows by how surely their class is right, L2 on the weights; of the steps a running mean is taken
//!          (Polyak and Juditsky 1992), so that the order of the rows matters less; that of the epoch with the least
//!          validation loss stays; its temperature is fitted on the same split (Guo et al. 2017) and folded into weights and
//!          bias.
//! Keeps    the training rows in memory: a version's chosen labels, not the whole collection.
//! Weak at  a validation split of a few photos: it stops at random. Without one, all epochs are run.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{LearningError, algebra::normalise, metrics::best};

/// Share of the running mean of the weights that a step leaves as it is: some hundred steps make it.
const AVERAGED: f32 = 0.99;

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadPolicy {
    pub seed: u64,
    pub epochs_max: usize,
    /// Epochs without a better validation loss after which training stops.
    pub patience: usize,
    pub batch: usize,
    /// Step size of Adam.
    pub rate: f32,
    /// Weight of half the squared weights in the loss.
    pub l2: f32,
    /// 0: every photo counts the same. 1: every class counts the same.
    pub balance: f32,
}

impl Default for HeadPolicy {
    fn default() -> Self {
        Self { seed: 0, epochs_max: 200, patience: 15, batch: 64, rate: 0.05, l2: 1e-4, balance: 0.5 }
    }
}

/// Rows (any length but zero), the class of each, and how much each counts, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    pub rows: ArrayView2<'a, f32>,
    pub classes: &'a [usize],
    /// The probability that its class is right. None: all count the same.
    pub sure: Option<&'a [f32]>,
}

impl Split<'_> {
    fn sure(&self, row: usize) -> f32 {
        self.sure.map_or(1.0, |sure| sure[row])
    }
}

/// Probabilities are softmax(weights . (x / |x|) + bias).
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// One row a class.
    pub weights: Array2<f32>,
    pub bias: Array1<f32>,
    /// The logits were divided by this before they became weights and bias; 1 when nothing was calibrated.
    pub temperature: f32,
}

impl Head {
    /// Probabilities, a row a row.
    pub fn probabilities(&self, rows: ArrayView2<f32>) -> Array2<f32> {
        let mut logits = unit(rows).dot(&self.weights.t()) + &self.bias;
        softmax(&mut logits);
        logits
    }
}

/// One pass over the training split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub train_loss: f32,
    /// NaN-free: None without a validation split.
    pub val_loss: Option<f32>,
    pub val_accuracy: Option<f32>,
}

#[derive(Clone, Debug)]
pub struct Trained {
    pub head: Head,
    pub history: Vec<Epoch>,
    /// Index into the history of the epoch whose weights stayed.
    pub chosen: usize,
}

/// Trains a head for `classes` classes. An empty `val` means no early stop and no calibration.
pub fn train_head(
    classes: usize,
    train: Split<'_>,
    val: Option<Split<'_>>,
    policy: &HeadPolicy,
) -> Result<Trained, LearningError> {
    check(classes, train)?;
    val.map_or(Ok(()), |split| check(classes, split))?;
    let val = val.filter(|v| !v.classes.is_empty());
    if classes < 2 || train.classes.is_empty() {
        let remedy = "give at least two classes with photos to learn from";
        let value = format!("{classes} classes with {} photos", train.classes.len());
        return Err(LearningError::Setting { what: "the training split", value, remedy });
    }
    let rows = unit(train.rows);
    let val_rows = val.map(|v| unit(v.rows));
    let weights = row_weights(classes, train, policy.balance);
    let mut model = Adam::new(classes, rows.ncols());
    let mut rng = ChaCha8Rng::seed_from_u64(policy.seed);
    let mut order: Vec<usize> = (0..rows.nrows()).collect();
    let mut history = Vec::new();
    let mut kept = (f32::INFINITY, 0, model.averaged());
    for epoch in 0..policy.epochs_max.max(1) {
        order.shuffle(&mut rng);
        let mut sum = 0.0;
        for batch in order.chunks(policy.batch.max(1)) {
            let x = rows.select(Axis(0), batch);
            let y: Vec<(usize, f32)> = batch.iter().map(|i| (train.classes[*i], weights[*i])).collect();
            let (loss, gradient) = loss_and_gradient(&model.value, x.view(), &y, policy.l2);
            sum += loss * batch.len() as f32;
            model.step(&gradient, policy.rate);
        }
        let averaged = model.averaged();
        let measured = val.zip(val_rows.as_ref()).map(|(v, rows)| evaluate(&averaged, rows.view(), v));
        let train_loss = sum / rows.nrows() as f32;
        let (val_loss, val_accuracy) = measured.unzip();
        history.push(Epoch { train_loss, val_loss, val_accuracy });
        if val_loss.unwrap_or(-(epoch as f32)) < kept.0 {
            kept = (val_loss.unwrap_or(-(epoch as f32)), epoch, averaged);
        } else if epoch - kept.1 >= policy.patience.max(1) {
            break;
        }
    }
    let (_, chosen, mut value) = kept;
    let temperature = val.zip(val_rows).map_or(1.0, |(v, rows)| temperature(&value, rows.view(), v));
    value.mapv_inplace(|w| w / temperature);
    if value.iter().any(|w| !w.is_finite()) {
        return Err(LearningError::Degenerate);
    }
    let d = train.rows.ncols();
    let head =
        Head { weights: value.slice(ndarray::s![.., ..d]).to_owned(), bias: value.column(d).to_owned(), temperature };
    Ok(Trained { head, history, chosen })
}

fn check(classes: usize, split: Split<'_>) -> Result<(), LearningError> {
    let (found, wanted) = (split.classes.len(), split.rows.nrows());
    if found != wanted {
        return Err(LearningError::Mismatch { what: "the classes of a split", found, wanted });
    }
    if let Some(sure) = split.sure.map(<[f32]>::len).filter(|sure| *sure != wanted) {
        return Err(LearningError::Mismatch { what: "how sure the classes of a split are", found: sure, wanted });
    }
    match split.classes.iter().find(|c| **c >= classes) {
        None => Ok(()),
        Some(bad) => {
            let remedy = "pass classes below their number";
            Err(LearningError::Setting { what: "a class", value: bad.to_string(), remedy })
        }
    }
}

/// Rows scaled to length 1.
fn unit(rows: ArrayView2<f32>) -> Array2<f32> {
    let mut out = Array2::zeros(rows.raw_dim());
    for (row, mut target) in rows.axis_iter(Axis(0)).zip(out.axis_iter_mut(Axis(0))) {
        normalise(&row.to_vec(), target.as_slice_mut().expect("rows of a standard array are contiguous"));
    }
    out
}

/// Weight of each row, of mean 1: how sure it is, times (n / (classes * count of its class)) ^ balance.
fn row_weights(classes: usize, split: Split<'_>, balance: f32) -> Vec<f32> {
    let rows = || split.classes.iter().enumerate().map(|(row, class)| (*class, split.sure(row)));
    let mut counts = vec![0.0_f32; classes];
    rows().for_each(|(class, sure)| counts[class] += sure);
    let raw = rows().map(|(class, sure)| if sure > 0.0 { sure * counts[class].powf(-balance) } else { 0.0 });
    let raw: Vec<f32> = raw.collect();
    let total: f32 = raw.iter().sum();
    raw.iter().map(|weight| weight * raw.len() as f32 / total.max(f32::MIN_POSITIVE)).collect()
}

/// The last column of `value` is the bias.
fn logits(value: &Array2<f32>, rows: ArrayView2<f32>) -> Array2<f32> {
    let d = rows.ncols();
    rows.dot(&value.slice(ndarray::s![.., ..d]).t()) + value.column(d)
}

/// Weighted mean cross-entropy plus the L2 term, and its gradient. `classes`: of each row, and its weight.
fn loss_and_gradient(
    value: &Array2<f32>,
    rows: ArrayView2<f32>,
    classes: &[(usize, f32)],
    l2: f32,
) -> (f32, Array2<f32>) {
    let (n, d) = rows.dim();
    let mut delta = logits(value, rows);
    softmax(&mut delta);
    let mut loss = 0.0;
    for (mut row, (class, weight)) in delta.axis_iter_mut(Axis(0)).zip(classes) {
        loss -= weight * row[*class].max(1e-12).ln() / n as f32;
        row[*class] -= 1.0;
        row.mapv_inplace(|v| v * weight / n as f32);
    }
    let mut gradient = Array2::zeros(value.raw_dim());
    gradient.slice_mut(ndarray::s![.., ..d]).assign(&delta.t().dot(&rows));
    gradient.column_mut(d).assign(&delta.sum_axis(Axis(0)));
    let plain = value.slice(ndarray::s![.., ..d]);
    gradient.slice_mut(ndarray::s![.., ..d]).scaled_add(l2, &plain);
    loss += 0.5 * l2 * plain.iter().map(|w| w * w).sum::<f32>();
    (loss, gradient)
}

fn softmax(logits: &mut Array2<f32>) {
    for mut row in logits.axis_iter_mut(Axis(0)) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.mapv_inplace(|v| (v - top).exp());
        let sum = row.sum();
        row.mapv_inplace(|v| v / sum);
    }
}

/// Mean cross-entropy, the sure ones counting more, and accuracy, all counting the same.
fn evaluate(value: &Array2<f32>, rows: ArrayView2<f32>, split: Split<'_>) -> (f32, f32) {
    let raw = logits(value, rows);
    let right = raw
        .axis_iter(Axis(0))
        .zip(split.classes)
        .filter(|(row, class)| best(&row.to_vec()).is_some_and(|(named, _)| named == **class));
    (cross_entropy(&raw, split, 1.0), right.count() as f32 / split.classes.len() as f32)
}

fn cross_entropy(raw: &Array2<f32>, split: Split<'_>, temperature: f32) -> f32 {
    let mut probabilities = raw.mapv(|v| v / temperature);
    softmax(&mut probabilities);
    let rows = probabilities.axis_iter(Axis(0)).zip(split.classes).enumerate();
    let weighted = rows.map(|(at, (row, class))| (split.sure(at), -row[*class].max(1e-12).ln()));
    let (loss, all) = weighted.fold((0.0, 0.0), |(loss, all), (sure, own)| (loss + sure * own, all + sure));
    loss / all.max(f32::MIN_POSITIVE)
}

/// The temperature with the least cross-entropy, by golden-section search on its logarithm: the loss has one valley.
fn temperature(value: &Array2<f32>, rows: ArrayView2<f32>, split: Split<'_>) -> f32 {
    let raw = logits(value, rows);
    let loss = |log_t: f32| cross_entropy(&raw, split, log_t.exp());
    let golden = 0.618_034_f32;
    let (mut low, mut high) = (0.05_f32.ln(), 20.0_f32.ln());
    for _ in 0..40 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if loss(a) < loss(b) {
            high = b;
        } else {
            low = a;
        }
    }
    ((low + high) / 2.0).exp()
}

struct Adam {
    value: Array2<f32>,
    /// Running means: of the gradient, of its square, and of the value.
    mean: Array2<f32>,
    square: Array2<f32>,
    values: Array2<f32>,
    steps: i32,
}

impl Adam {
    fn new(classes: usize, d: usize) -> Self {
        let zeros = Array2::zeros((classes, d + 1));
        Self { value: zeros.clone(), mean: zeros.clone(), square: zeros.clone(), values: zeros, steps: 0 }
    }

    /// The running mean of the value, which began at nothing.
    fn averaged(&self) -> Array2<f32> {
        let made = 1.0 - AVERAGED.powi(self.steps);
        self.values.mapv(|value| value / made.max(f32::MIN_POSITIVE))
    }

    fn step(&mut self, gradient: &Array2<f32>, rate: f32) {
        const BETA1: f32 = 0.9;
        const BETA2: f32 = 0.999;
        self.steps += 1;
        let correct1 = 1.0 - BETA1.powi(self.steps);
        let correct2 = 1.0 - BETA2.powi(self.steps);
        let state = ndarray::Zip::from(&mut self.value).and(&mut self.mean).and(&mut self.square);
        state.and(&mut self.values).and(gradient).for_each(|value, mean, square, values, g| {
            *mean = BETA1 * *mean + (1.0 - BETA1) * g;
            *square = BETA2 * *square + (1.0 - BETA2) * g * g;
            *value -= rate * (*mean / correct1) / ((*square / correct2).sqrt() + 1e-8);
            *values = AVERAGED * *values + (1.0 - AVERAGED) * *value;
        });
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
