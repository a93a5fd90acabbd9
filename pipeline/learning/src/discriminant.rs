//! Linear discriminant analysis with shrinkage, cross-validated, in a fixed number of passes over the rows.
//!
//! Takes    rows, claims and a weight (in or out) for each member. Gives for each member the scores of its claims and
//!          of the labels that fit best, by a model that saw no member of its fold.
//! Keeps    one Gram matrix a fold (d x d, f64) and label sums (labels x d, f32). A fold is left out by subtraction,
//!          which is exact; a member is left out of a later round the same way, so a second round reads little.
//! Weak at  more than [`SCORED_MAX`] labels: then only those around a picture are scored (see `shortlist`), not all.
//!
//! Source: Friedman, "Regularized Discriminant Analysis" (1989), shrinking the pooled covariance to a multiple of I.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::{
    LabelTable, LearningError, Vectors,
    algebra::{Cholesky, add_gram, direction},
    shortlist::{LISTED, Shortlist},
};

/// Rows read at a time; 5 MB at 1,280 numbers a row.
const ROWS: usize = 1024;
/// Labels kept a member besides its claims: the rest of the softmax is far below the chance level of these.
const KEPT: usize = 16;
/// Up to here every label is scored for every member.
const SCORED_MAX: usize = 512;

/// The best labels of every member, its claims first: `stride` pairs a member, `u32::MAX` where there is none.
pub(crate) struct Scores {
    stride: usize,
    pairs: Vec<(u32, f32)>,
}

impl Scores {
    pub(crate) fn of(&self, member: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let all = &self.pairs[member * self.stride..(member + 1) * self.stride];
        all.iter().copied().take_while(|(label, _)| *label != u32::MAX)
    }
}

pub(crate) struct Discriminant<'a> {
    vectors: &'a dyn Vectors,
    table: &'a LabelTable,
    /// Position of a label among those that take part.
    place: Vec<Option<u32>>,
    /// Labels that take part.
    labels: Vec<u32>,
    folds: usize,
    grams: Vec<Array2<f64>>,
    /// Members that count, by fold.
    seen: Vec<f64>,
    /// Rows that have a direction.
    pub(crate) usable: Vec<bool>,
    /// Members that the models learn from.
    pub(crate) learnt: Vec<bool>,
    stride: usize,
    /// Labels around each member, [`LISTED`] each, `u32::MAX` where there is none; empty where all labels are scored.
    around: Vec<u32>,
}

/// Sums of one fold, or of all: a row a label, and how many claims it holds.
#[derive(Clone)]
struct Sums {
    rows: Array2<f32>,
    counts: Vec<f64>,
}

/// A fold's model: scores are `x . weights + bias`.
struct Model {
    weights: Array2<f32>,
    bias: Vec<f32>,
}

impl<'a> Discriminant<'a> {
    /// Reads all rows once. `takes_part` says which labels are large enough to be judged.
    pub(crate) fn read(
        vectors: &'a dyn Vectors,
        table: &'a LabelTable,
        takes_part: &[bool],
        folds: usize,
    ) -> Result<Self, LearningError> {
        let labels: Vec<u32> = (0..table.labels() as u32).filter(|l| takes_part[*l as usize]).collect();
        let mut place = vec![None; table.labels()];
        for (i, label) in labels.iter().enumerate() {
            place[*label as usize] = Some(i as u32);
        }
        let claims_max = (0..table.len()).map(|m| table.of(m).len()).max().unwrap_or(0);
        let d = vectors.dim();
        let mut this = Self {
            vectors,
            table,
            stride: labels.len().min(KEPT + claims_max),
            place,
            labels,
            folds,
            grams: vec![Array2::zeros((d, d)); folds],
            seen: vec![0.0; folds],
            usable: vec![false; table.len()],
            learnt: vec![false; table.len()],
            around: Vec::new(),
        };
        let all = vec![true; table.len()];
        this.add(&all, 1.0)?;
        if this.labels.len() > SCORED_MAX {
            this.around = this.list()?;
        }
        Ok(this)
    }

    /// Leaves these members out of what the models learn from; they are still scored.
    pub(crate) fn forget(&mut self, doubted: &[bool]) -> Result<(), LearningError> {
        let leaving: Vec<bool> = doubted.iter().zip(&self.learnt).map(|(d, l)| *d && *l).collect();
        self.add(&leaving, -1.0)
    }

    /// The labels around every member. A member's own claim is part of a mean, but claims are scored anyway.
    fn list(&self) -> Result<Vec<u32>, LearningError> {
        let mut total = self.sums(|_| true, 1)?.remove(0);
        for (mut row, count) in total.rows.axis_iter_mut(Axis(0)).zip(&total.counts) {
            row.mapv_inplace(|v| v / count.max(1e-6) as f32);
        }
        let shortlist = Shortlist::of(&total.rows);
        drop(total);
        let mut around = vec![u32::MAX; self.table.len() * LISTED];
        let mut unit = Array2::<f32>::zeros((ROWS, self.vectors.dim()));
        self.vectors.for_each_chunk(ROWS, &mut |first, values| {
            let rows = values.chunks_exact(self.vectors.dim());
            let read = rows.len();
            for (i, row) in rows.enumerate() {
                direction(row, unit.row_mut(i).as_slice_mut().expect("rows of a standard array are contiguous"));
            }
            for (i, labels) in shortlist.around(unit.slice(s![..read, ..])).into_iter().enumerate() {
                let at = (first + i) * LISTED;
                around.get_mut(at..at + labels.len()).into_iter().for_each(|slots| slots.copy_from_slice(&labels));
            }
        })?;
        Ok(around)
    }

    /// Claims of a member that take part, as positions.
    fn claims(&self, member: usize) -> impl Iterator<Item = usize> + '_ {
        self.table.of(member).iter().filter_map(|l| self.place[*l as usize]).map(|p| p as usize)
    }

    fn add(&mut self, which: &[bool], sign: f32) -> Result<(), LearningError> {
        let (folds, d) = (self.folds, self.vectors.dim());
        let vectors = self.vectors;
        let mut batches = vec![Array2::<f32>::zeros((ROWS, d)); folds];
        let mut filled = vec![0; folds];
        vectors.for_each_chunk(ROWS, &mut |first, values| {
            for (i, row) in values.chunks_exact(d).enumerate() {
                let member = first + i;
                if member >= which.len() || !which[member] || self.claims(member).next().is_none() {
                    continue;
                }
                let fold = self.table.fold(member, folds);
                let mut target = batches[fold].row_mut(filled[fold]);
                let target = target.as_slice_mut().expect("rows of a standard array are contiguous");
                self.usable[member] = direction(row, target);
                if !self.usable[member] {
                    continue;
                }
                self.learnt[member] = sign > 0.0;
                self.seen[fold] += f64::from(sign);
                filled[fold] += 1;
                if filled[fold] == ROWS {
                    add_gram(&mut self.grams[fold], batches[fold].view(), sign);
                    filled[fold] = 0;
                }
            }
        })?;
        for fold in 0..folds {
            add_gram(&mut self.grams[fold], batches[fold].slice(s![..filled[fold], ..]), sign);
        }
        Ok(())
    }

    /// Scores every usable member with the model of the other folds. `memory_max` bounds the label sums and models
    /// held at once, in bytes; folds are worked off in groups that fit.
    pub(crate) fn scores(&self, shrinkage: f64, memory_max: u64) -> Result<Scores, LearningError> {
        let (k, d) = (self.labels.len(), self.vectors.dim());
        let mut out = Scores { stride: self.stride, pairs: vec![(u32::MAX, 0.0); self.table.len() * self.stride] };
        let each = (k * d * size_of::<f32>() * 2) as u64;
        let at_once = (memory_max / each.max(1)).clamp(1, self.folds as u64) as usize;
        let total_gram = self.grams.iter().fold(Array2::zeros((d, d)), |sum: Array2<f64>, g| sum + g);
        let total = self.sums(|_| true, 1)?.remove(0);
        for first in (0..self.folds).step_by(at_once) {
            let last = (first + at_once).min(self.folds);
            let models = self
                .sums(|fold| (first..last).contains(&fold), last - first)?
                .into_iter()
                .enumerate()
                .map(|(i, held)| self.solve(&total_gram, &total, &held, first + i, shrinkage))
                .collect::<Result<Vec<_>, _>>()?;
            self.score_folds(first, &models, &mut out)?;
        }
        Ok(out)
    }

    /// Label sums of the members that are learnt from, one a fold (`parts` of them), or one over all (`parts` = 1).
    fn sums(&self, wanted: impl Fn(usize) -> bool, parts: usize) -> Result<Vec<Sums>, LearningError> {
        let (k, d) = (self.labels.len(), self.vectors.dim());
        let empty = Sums { rows: Array2::zeros((k, d)), counts: vec![0.0; k] };
        let mut sums = vec![empty; parts];
        let offset = (0..self.folds).find(|f| wanted(*f)).unwrap_or(0);
        let mut unit = vec![0.0; d];
        self.vectors.for_each_chunk(ROWS, &mut |first, values| {
            for (i, row) in values.chunks_exact(d).enumerate() {
                let member = first + i;
                let fold = match self.learnt.get(member) {
                    Some(true) => self.table.fold(member, self.folds),
                    _ => continue,
                };
                if !wanted(fold) {
                    continue;
                }
                direction(row, &mut unit);
                let sum = &mut sums[if parts == 1 { 0 } else { fold - offset }];
                // A photo of several things speaks for each in part, so that it weighs as much as any other.
                let share = 1.0 / self.claims(member).count().max(1) as f32;
                for claim in self.claims(member) {
                    sum.counts[claim] += f64::from(share);
                    let target = sum.rows.row_mut(claim);
                    target.into_iter().zip(&unit).for_each(|(t, v)| *t += share * v);
                }
            }
        })?;
        Ok(sums)
    }

    /// The model of all folds but one.
    fn solve(
        &self,
        total_gram: &Array2<f64>,
        total: &Sums,
        held: &Sums,
        fold: usize,
        shrinkage: f64,
    ) -> Result<Model, LearningError> {
        let d = self.vectors.dim();
        let members: f64 = self.seen.iter().sum::<f64>() - self.seen[fold];
        let counts: Vec<f64> = total.counts.iter().zip(&held.counts).map(|(t, h)| t - h).collect();
        let mut means = &total.rows - &held.rows;
        for (mut mean, count) in means.axis_iter_mut(Axis(0)).zip(&counts) {
            mean.mapv_inplace(|v| if *count > 1e-6 { v / *count as f32 } else { 0.0 });
        }
        let mut within = total_gram - &self.grams[fold];
        for start in (0..means.nrows()).step_by(ROWS) {
            let end = (start + ROWS).min(means.nrows());
            let mut part = means.slice(s![start..end, ..]).to_owned();
            for (mut row, count) in part.axis_iter_mut(Axis(0)).zip(&counts[start..end]) {
                row.mapv_inplace(|v| v * count.max(0.0).sqrt() as f32);
            }
            add_gram(&mut within, part.view(), -1.0);
        }
        let scale = (1.0 - shrinkage) / members.max(1.0);
        let ridge = shrinkage * within.diag().sum() / members.max(1.0) / d as f64;
        within.mapv_inplace(|v| v * scale);
        within.diag_mut().mapv_inplace(|v| v + ridge);
        let factor = Cholesky::of(within).ok_or(LearningError::Degenerate)?;
        Ok(self.weigh(&factor, &means, &counts))
    }

    fn weigh(&self, factor: &Cholesky, means: &Array2<f32>, counts: &[f64]) -> Model {
        let claims: f64 = counts.iter().sum();
        let mut weights = Array2::zeros(means.raw_dim());
        let mut bias = Vec::with_capacity(counts.len());
        for start in (0..means.nrows()).step_by(ROWS) {
            let end = (start + ROWS).min(means.nrows());
            let part = means.slice(s![start..end, ..]);
            let mut solved = part.t().mapv(f64::from);
            factor.solve(&mut solved);
            for (i, label) in (start..end).enumerate() {
                let weight = solved.column(i);
                let reach: f64 = weight.iter().zip(part.row(i)).map(|(w, m)| w * f64::from(*m)).sum();
                // A label that lies wholly in this fold has no model here: far below every other.
                let prior = if counts[label] > 1e-6 { (counts[label] / claims).ln() } else { -1e6 };
                bias.push((prior - 0.5 * reach) as f32);
                weights.row_mut(label).assign(&weight.mapv(|w| w as f32));
            }
        }
        Model { weights, bias }
    }

    fn score_folds(&self, first_fold: usize, models: &[Model], out: &mut Scores) -> Result<(), LearningError> {
        let d = self.vectors.dim();
        let mut unit = Array2::<f32>::zeros((ROWS, d));
        self.vectors.for_each_chunk(ROWS, &mut |first, values| {
            for (offset, model) in models.iter().enumerate() {
                let mut members = Vec::new();
                for (i, row) in values.chunks_exact(d).enumerate() {
                    let member = first + i;
                    let usable = self.usable.get(member).is_some_and(|u| *u);
                    if usable && self.table.fold(member, self.folds) == first_fold + offset {
                        let mut target = unit.row_mut(members.len());
                        direction(row, target.as_slice_mut().expect("rows of a standard array are contiguous"));
                        members.push(member);
                    }
                }
                self.score_rows(&members, unit.slice(s![..members.len(), ..]), model, out);
            }
        })
    }

    fn score_rows(&self, members: &[usize], rows: ArrayView2<f32>, model: &Model, out: &mut Scores) {
        let all = self.around.is_empty().then(|| rows.dot(&model.weights.t()) + &Array1::from(model.bias.clone()));
        let mut scored: Vec<(u32, f32)> = Vec::new();
        for (i, member) in members.iter().enumerate() {
            scored.clear();
            let claims: Vec<u32> = self.claims(*member).map(|c| c as u32).collect();
            match &all {
                Some(all) => scored.extend((0..).zip(all.row(i).iter().copied())),
                None => {
                    let listed = &self.around[member * LISTED..(member + 1) * LISTED];
                    let mut around: Vec<u32> =
                        listed.iter().copied().filter(|l| *l != u32::MAX).chain(claims.iter().copied()).collect();
                    around.sort_unstable();
                    around.dedup();
                    let score = |l: u32| rows.row(i).dot(&model.weights.row(l as usize)) + model.bias[l as usize];
                    scored.extend(around.into_iter().map(|l| (l, score(l))));
                }
            }
            let by_rank = |(label, score): &(u32, f32)| (!claims.contains(label), -score, *label);
            scored.sort_unstable_by(|a, b| {
                let ((ca, sa, la), (cb, sb, lb)) = (by_rank(a), by_rank(b));
                ca.cmp(&cb).then(sa.total_cmp(&sb)).then(la.cmp(&lb))
            });
            let target = &mut out.pairs[member * self.stride..(member + 1) * self.stride];
            for (slot, (place, score)) in target.iter_mut().zip(&scored) {
                *slot = (self.labels[*place as usize], *score);
            }
        }
    }
}
