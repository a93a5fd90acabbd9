//! How often claims are wrong, and which: one model of all that speaks about a label, fitted without any truth.
//!
//! Takes    the opinions of probe and neighbours on every claim, and the testimonies. Gives for every claim the
//!          probability that it is wrong, and what spoke for and against it.
//! How      a photo shows label j with probability q_j = softmax(a probe_j + b neighbours_j + bias_j); a photo of j is
//!          called i by contributor d with probability 1 - e(j,d) if i = j, else e(j,d) N(j,i). Both halves are fitted to
//!          the claims together, by expectation maximisation: what q cannot explain however it is scaled is noise. So
//!          the share of wrong labels, who makes them and what is taken for what are found without a known answer
//!          (Dawid and Skene 1979; with a classifier for one of the observers: Raykar et al. 2010).
//! Keeps    about 20 numbers a claim, the pairs of labels that were mixed up, a rate a label and a contributor.
//! Weak at  labels that the vectors cannot tell apart: a systematic mix-up of these looks like a hard photo.

use std::collections::BTreeMap;

use crate::{LabelTable, Testimonies, Vote};

/// Rounds of expectation maximisation at most, and the change of the share of wrong labels below which they end.
const ROUNDS_MAX: usize = 80;
const SETTLED: f64 = 2e-5;
/// What is believed before anything is seen: one claim in ten is wrong, and that weighs as much as 20 claims.
const RATE: f64 = 0.1;
const RATE_WEIGHT: f64 = 20.0;
/// Claims that the overall rate weighs against those of one label: what is rare is taken to be average.
const LABEL_WEIGHT: f64 = 30.0;
/// The same for a contributor: the record of a device weighs half of the verdict after 20 photos.
pub(crate) const CONTRIBUTOR_WEIGHT: f64 = 20.0;
/// Holds the biases of labels near zero; in photos.
const BIAS_WEIGHT: f64 = 0.5;
/// Share of what the classifier's score says that counts: its network is often the one that made the vectors, so it
/// repeats in part what the probe has said.
const SCORE_SHARE: f64 = 0.25;
/// Upper ends of the bins of classifier scores; a bin starts with as much belief in "says nothing" as this many photos.
const SCORE_BINS: [f32; 7] = [0.001, 0.004, 0.016, 0.0625, 0.25, 0.7, f32::INFINITY];
const SCORE_WEIGHT: f64 = 10.0;
/// Posterior shares below this are not counted for a pair of labels: it bounds the pairs kept.
const PAIR_MIN: f64 = 0.01;
/// No rate is taken to be further from chance than this.
const RATE_MIN: f64 = 1e-4;
const RATE_MAX: f64 = 0.9;

/// A label that may be true of a member: what probe (score) and neighbours (logarithm of a share) say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) label: u32,
    pub(crate) probe: f32,
    pub(crate) near: f32,
}

/// Candidates of all members, at most `stride` each.
#[derive(Debug, Default)]
pub(crate) struct Opinions {
    starts: Vec<usize>,
    all: Vec<Candidate>,
}

impl Opinions {
    pub(crate) fn with_capacity(members: usize) -> Self {
        let mut starts = Vec::with_capacity(members + 1);
        starts.push(0);
        Self { starts, all: Vec::new() }
    }

    pub(crate) fn push(&mut self, candidates: impl Iterator<Item = Candidate>) {
        self.all.extend(candidates);
        self.starts.push(self.all.len());
    }

    pub(crate) fn of(&self, member: usize) -> &[Candidate] {
        &self.all[self.starts[member]..self.starts[member + 1]]
    }
}

/// How much each witness says for the suggested label against the claimed one, as natural logarithms of odds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    pub probe: f32,
    pub neighbours: f32,
    /// Votes of other contributors.
    pub votes: f32,
    pub classifier: f32,
    /// By how much whoever claimed the label errs more often than others.
    pub contributor: f32,
}

/// What is said of one claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) p_wrong: f64,
    /// Probability of the label by the picture alone, whoever claims it.
    pub(crate) fits: f64,
    pub(crate) suggested: Option<u32>,
    pub(crate) evidence: Evidence,
}

pub(crate) struct Noise<'a> {
    table: &'a LabelTable,
    opinions: &'a Opinions,
    testimonies: Option<&'a Testimonies>,
    /// Claims that are judged: member and label.
    claims: &'a [(u32, u32)],
    /// Labels that take part.
    labels: f64,
    probe: f64,
    near: f64,
    bias: Vec<f32>,
    /// Share of claims that are wrong.
    pub(crate) rate: f64,
    /// Odds of a wrong claim: by true label, and by contributor in multiples of the average.
    label_odds: Vec<f64>,
    contributor_odds: Vec<f64>,
    pub(crate) contributor_rates: Vec<Rate>,
    pairs: Pairs,
    /// Logarithm of odds for "wrong" by bin of the classifier's score.
    scores: [f64; SCORE_BINS.len()],
}

/// How often somebody errs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Claims that were judged.
    pub claims: f64,
    /// Expected share of wrong ones, drawn towards the average where there are few.
    pub wrong: f64,
}

/// What is taken for what: by claimed label, the true labels and how often.
struct Pairs {
    by_claim: BTreeMap<u32, Vec<(u32, f64)>>,
    /// Wrong claims about each true label.
    wrong: Vec<f64>,
    /// Added to every pair, and to every sum.
    each: f64,
    all: f64,
}

impl Pairs {
    /// Probability that a wrong claim about `truth` says `claim`.
    fn share(&self, truth: u32, claim: u32) -> f64 {
        let seen = self.by_claim.get(&claim).and_then(|row| {
            let at = row.binary_search_by_key(&truth, |(label, _)| *label).ok()?;
            Some(row[at].1)
        });
        (seen.unwrap_or(0.0) + self.each) / (self.wrong[truth as usize] + self.all)
    }
}

/// Room for one claim's candidates.
#[derive(Default)]
struct Scratch {
    labels: Vec<Candidate>,
    /// Probability of each candidate before and after the claim is heard.
    prior: Vec<f64>,
    posterior: Vec<f64>,
}

impl<'a> Noise<'a> {
    /// Fits everything. `labels` take part; `claims` are those that can be judged.
    pub(crate) fn fit(
        table: &'a LabelTable,
        opinions: &'a Opinions,
        testimonies: Option<&'a Testimonies>,
        claims: &'a [(u32, u32)],
        labels: usize,
    ) -> Self {
        let contributors = testimonies.map_or(0, Testimonies::contributors);
        let odds = RATE / (1.0 - RATE);
        let mut this = Self {
            table,
            opinions,
            testimonies,
            claims,
            labels: labels.max(2) as f64,
            probe: 0.1,
            near: 0.5,
            bias: vec![0.0; table.labels()],
            rate: RATE,
            label_odds: vec![odds; table.labels()],
            contributor_odds: vec![1.0; contributors],
            contributor_rates: vec![Rate { claims: 0.0, wrong: RATE }; contributors],
            pairs: Pairs { by_claim: BTreeMap::new(), wrong: vec![0.0; table.labels()], each: 0.0, all: 0.0 },
            scores: [0.0; SCORE_BINS.len()],
        };
        this.pairs.all = LABEL_WEIGHT * RATE;
        this.pairs.each = this.pairs.all / (this.labels - 1.0);
        for _ in 0..ROUNDS_MAX {
            if this.round() < SETTLED {
                break;
            }
        }
        this
    }

    /// One step of expectation maximisation; gives the change of the rate.
    fn round(&mut self) -> f64 {
        let mut sums = Sums::new(self.table.labels(), self.contributor_odds.len());
        let mut room = Scratch::default();
        for at in 0..self.claims.len() {
            self.weigh(at, &mut room);
            sums.add(self, at, &room);
        }
        self.step(&sums);
        let before = self.rate;
        let claims = self.claims.len() as f64;
        self.rate = (sums.wrong + RATE * RATE_WEIGHT) / (claims + RATE_WEIGHT);
        self.count_noise(sums);
        (self.rate - before).abs()
    }

    /// Fills the candidates of claim `at` and what is believed of them.
    fn weigh(&self, at: usize, room: &mut Scratch) {
        let (member, claim) = self.claims[at];
        let own = self.table.of(member as usize);
        let others = |c: &&Candidate| c.label == claim || !own.contains(&c.label);
        room.labels.clear();
        room.labels.extend(self.opinions.of(member as usize).iter().filter(others));
        let logit = |c: &Candidate| {
            self.probe * f64::from(c.probe) + self.near * f64::from(c.near) + f64::from(self.bias[c.label as usize])
        };
        room.prior.clear();
        room.prior.extend(room.labels.iter().map(logit));
        let top = room.prior.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        room.prior.iter_mut().for_each(|v| *v = (*v - top).exp());
        scale(&mut room.prior);
        room.posterior.clear();
        for (candidate, prior) in room.labels.iter().zip(&room.prior) {
            room.posterior.push(prior * self.likelihood(member as usize, claim, candidate.label));
        }
        scale(&mut room.posterior);
    }

    /// Probability of all that was said, if `truth` is what the member shows.
    fn likelihood(&self, member: usize, claim: u32, truth: u32) -> f64 {
        let score = if truth == claim { (-self.score(member)).exp() } else { 1.0 };
        let votes = match self.testimonies.and_then(|t| t.votes(member)) {
            Some(votes) => votes.iter().map(|vote| self.voted(vote, claim, truth)).product(),
            None => {
                let who = self.testimonies.and_then(|t| t.contributor(member));
                self.said(who, claim, truth, claim == truth)
            }
        };
        score * votes
    }

    fn odds(&self, who: Option<usize>, truth: u32) -> f64 {
        let odds = self.label_odds[truth as usize] * who.map_or(1.0, |c| self.contributor_odds[c]);
        odds.clamp(RATE_MIN, RATE_MAX / (1.0 - RATE_MAX))
    }

    fn said(&self, who: Option<usize>, claim: u32, truth: u32, names: bool) -> f64 {
        let odds = self.odds(who, truth);
        if names { 1.0 / (1.0 + odds) } else { odds / (1.0 + odds) * self.pairs.share(truth, claim) }
    }

    fn voted(&self, vote: &Vote, claim: u32, truth: u32) -> f64 {
        let said = vote.labels.first().copied().unwrap_or(claim);
        self.said(vote.contributor.map(|c| c as usize), said, truth, vote.labels.contains(&truth))
    }

    fn score(&self, member: usize) -> f64 {
        let score = self.testimonies.and_then(|t| t.score(member));
        score.map_or(0.0, |score| self.scores[bin(score)])
    }

    /// A Newton step of the weights and biases towards what is now believed.
    fn step(&mut self, sums: &Sums) {
        let [[pp, pn], [_, nn]] = sums.curve;
        let (pp, nn) = (pp + 1e-9, nn + 1e-9);
        let [p, n] = sums.slope;
        let determinant = (pp * nn - pn * pn).max(1e-12);
        let probe = self.probe + (nn * p - pn * n) / determinant;
        let near = self.near + (pp * n - pn * p) / determinant;
        // At most to the half or the double at once: far from the goal a Newton step may leap.
        self.probe = probe.clamp(self.probe / 2.0, self.probe * 2.0).clamp(1e-6, 1e3);
        self.near = near.clamp(self.near / 2.0, self.near * 2.0).clamp(1e-3, 3.0);
        for (label, bias) in self.bias.iter_mut().enumerate() {
            let slope = sums.after[label] - sums.before[label] - BIAS_WEIGHT * f64::from(*bias);
            let step = slope / (sums.spread[label] + BIAS_WEIGHT);
            *bias = (f64::from(*bias) + step.clamp(-0.5, 0.5)) as f32;
        }
    }

    fn count_noise(&mut self, sums: Sums) {
        let believed = LABEL_WEIGHT * self.rate;
        let mut pairs: Vec<(u32, u32, f64)> = sums.pairs;
        pairs.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
        let mut by_claim: BTreeMap<u32, Vec<(u32, f64)>> = BTreeMap::new();
        for (claim, truth, share) in pairs {
            let row = by_claim.entry(claim).or_default();
            match row.last_mut().filter(|(label, _)| *label == truth) {
                Some((_, sum)) => *sum += share,
                None => row.push((truth, share)),
            }
        }
        for (label, odds) in self.label_odds.iter_mut().enumerate() {
            let rate = (sums.wrong_of[label] + believed) / (sums.after[label] + LABEL_WEIGHT);
            *odds = odds_of(rate);
        }
        self.pairs = Pairs { by_claim, wrong: sums.wrong_of, each: believed / (self.labels - 1.0), all: believed };
        let average = odds_of(self.rate);
        for (at, (wrong, claims)) in sums.contributors.iter().enumerate() {
            let rate = (wrong + CONTRIBUTOR_WEIGHT * self.rate) / (claims + CONTRIBUTOR_WEIGHT);
            self.contributor_odds[at] = odds_of(rate) / average;
            self.contributor_rates[at] = Rate { claims: *claims, wrong: rate };
        }
        self.scores = score_odds(&sums.scores);
    }

    /// What is said of claim `at` in the end.
    pub(crate) fn verdict(&self, at: usize) -> Said {
        let mut room = Scratch::default();
        self.weigh(at, &mut room);
        let (member, claim) = self.claims[at];
        let own = room.labels.iter().position(|c| c.label == claim);
        let right = own.map_or(0.0, |at| room.posterior[at]);
        let others = (0..room.labels.len()).filter(|i| Some(*i) != own);
        let by_belief = |a: &usize, b: &usize| {
            let (pa, pb) = (room.posterior[*a], room.posterior[*b]);
            pa.total_cmp(&pb).then(room.labels[*b].label.cmp(&room.labels[*a].label))
        };
        let best = others.max_by(by_belief);
        let pair = own.zip(best).map(|(own, best)| (room.labels[own], room.labels[best]));
        Said {
            p_wrong: (1.0 - right).clamp(0.0, 1.0),
            fits: own.map_or(0.0, |at| room.prior[at]),
            suggested: best.map(|at| room.labels[at].label),
            evidence: pair.map_or_else(Evidence::default, |(own, best)| self.evidence(member as usize, own, best)),
        }
    }

    fn evidence(&self, member: usize, own: Candidate, best: Candidate) -> Evidence {
        let bias = f64::from(self.bias[best.label as usize] - self.bias[own.label as usize]);
        let who = self.testimonies.and_then(|t| t.contributor(member));
        let votes = self.testimonies.and_then(|t| t.votes(member)).map_or(0.0, |votes| {
            let others = votes.iter().filter(|v| v.contributor.is_none() || v.contributor.map(|c| c as usize) != who);
            let odds = |v: &Vote| self.voted(v, own.label, best.label) / self.voted(v, own.label, own.label);
            others.map(|v| odds(v).ln()).sum()
        });
        Evidence {
            probe: (self.probe * f64::from(best.probe - own.probe) + bias) as f32,
            neighbours: (self.near * f64::from(best.near - own.near)) as f32,
            votes: votes as f32,
            classifier: self.score(member) as f32,
            contributor: who.map_or(0.0, |c| self.contributor_odds[c].ln()) as f32,
        }
    }
}

/// What one round counts.
struct Sums {
    wrong: f64,
    slope: [f64; 2],
    curve: [[f64; 2]; 2],
    /// By label: belief before and after the claims were heard, its spread, and wrong claims.
    before: Vec<f64>,
    after: Vec<f64>,
    spread: Vec<f64>,
    wrong_of: Vec<f64>,
    /// Claimed label, true label, share.
    pairs: Vec<(u32, u32, f64)>,
    /// Wrong claims, and all.
    contributors: Vec<(f64, f64)>,
    /// By bin of the classifier's score: right and wrong claims.
    scores: [(f64, f64); SCORE_BINS.len()],
}

impl Sums {
    fn new(labels: usize, contributors: usize) -> Self {
        let zeros = vec![0.0; labels];
        Self {
            wrong: 0.0,
            slope: [0.0; 2],
            curve: [[0.0; 2]; 2],
            before: zeros.clone(),
            after: zeros.clone(),
            spread: zeros.clone(),
            wrong_of: zeros,
            pairs: Vec::new(),
            contributors: vec![(0.0, 0.0); contributors],
            scores: [(0.0, 0.0); SCORE_BINS.len()],
        }
    }

    fn add(&mut self, noise: &Noise<'_>, at: usize, room: &Scratch) {
        let (member, claim) = noise.claims[at];
        let (mut mean, mut square) = ([0.0; 2], [[0.0; 2]; 2]);
        let mut wrong = 0.0;
        for ((candidate, before), after) in room.labels.iter().zip(&room.prior).zip(&room.posterior) {
            let said = [f64::from(candidate.probe), f64::from(candidate.near)];
            let label = candidate.label as usize;
            for (i, x) in said.iter().enumerate() {
                self.slope[i] += (after - before) * x;
                mean[i] += before * x;
                said.iter().enumerate().for_each(|(j, y)| square[i][j] += before * x * y);
            }
            self.before[label] += before;
            self.after[label] += after;
            self.spread[label] += before * (1.0 - before);
            if candidate.label != claim {
                wrong += after;
                self.wrong_of[label] += after;
                if *after > PAIR_MIN {
                    self.pairs.push((claim, candidate.label, *after));
                }
            }
        }
        for (i, row) in self.curve.iter_mut().enumerate() {
            row.iter_mut().enumerate().for_each(|(j, c)| *c += square[i][j] - mean[i] * mean[j]);
        }
        self.wrong += wrong;
        let Some(testimonies) = noise.testimonies else { return };
        self.hear(testimonies, member as usize, wrong, room);
    }

    fn hear(&mut self, testimonies: &Testimonies, member: usize, wrong: f64, room: &Scratch) {
        match testimonies.votes(member) {
            Some(votes) => {
                for (vote, who) in votes.iter().filter_map(|v| Some((v, v.contributor?))) {
                    let pairs = room.labels.iter().zip(&room.posterior);
                    let missed: f64 = pairs.filter(|(c, _)| !vote.labels.contains(&c.label)).map(|(_, p)| p).sum();
                    let record = &mut self.contributors[who as usize];
                    *record = (record.0 + missed, record.1 + 1.0);
                }
            }
            None => {
                if let Some(who) = testimonies.contributor(member) {
                    let record = &mut self.contributors[who];
                    *record = (record.0 + wrong, record.1 + 1.0);
                }
            }
        }
        if let Some(score) = testimonies.score(member) {
            let record = &mut self.scores[bin(score)];
            *record = (record.0 + 1.0 - wrong, record.1 + wrong);
        }
    }
}

fn scale(values: &mut [f64]) {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
}

fn odds_of(rate: f64) -> f64 {
    let rate = rate.clamp(RATE_MIN, RATE_MAX);
    rate / (1.0 - rate)
}

fn bin(score: f32) -> usize {
    SCORE_BINS.iter().position(|end| score < *end).unwrap_or(SCORE_BINS.len() - 1)
}

/// By bin, how much more often wrong claims have such a score than right ones, as a logarithm, damped.
fn score_odds(counts: &[(f64, f64); SCORE_BINS.len()]) -> [f64; SCORE_BINS.len()] {
    let right: f64 = counts.iter().map(|c| c.0).sum();
    let wrong: f64 = counts.iter().map(|c| c.1).sum();
    let all = right + wrong;
    let odds = |(r, w): &(f64, f64)| {
        if all <= 0.0 {
            return 0.0;
        }
        let believed = SCORE_WEIGHT * (r + w) / all;
        let of_wrong = (w + believed + 1e-6) / (wrong + SCORE_WEIGHT);
        let of_right = (r + believed + 1e-6) / (right + SCORE_WEIGHT);
        SCORE_SHARE * (of_wrong / of_right).ln()
    };
    std::array::from_fn(|at| odds(&counts[at]))
}
