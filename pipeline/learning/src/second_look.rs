//! The second look at labels when a version is cut: how probable is it that each label is wrong?
//!
//! Takes    vectors, claims and, where known, nearest neighbours and testimonies (who said so, what others said, a
//!          classifier's score). Gives one [`Judgement`] a member, and how often each contributor errs.
//! How      a cross-validated discriminant (`discriminant`) and the neighbours' vote say what a picture looks like; the
//!          noise model (`noise`) weighs them against all that was said, and gives one probability. What is more
//!          probably wrong than right is then left out, all is fitted once more, and both rounds speak together.
//! Keeps    nothing. Memory: folds x d^2 x 8 bytes + 4 x labels x d x 4 + about 700 bytes a member.
//! Weak at  a mistake that most members of a label share: then the mistake is the label.

use serde::{Deserialize, Serialize};

use crate::{
    LabelTable, LearningError, Neighbours, Testimonies, Vectors,
    discriminant::{Discriminant, Scores},
    noise::{Candidate, Evidence, Noise, Opinions, Rate, Said},
    witness::votes,
};

/// How strictly to look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A label with fewer members is not judged: too few to learn what it looks like.
    pub members_min: usize,
    /// Parts of the cross-validation; each is judged by a model of the others.
    pub folds: usize,
    /// Weight of the round covariance against the measured one, 0 to 1 (1 is not allowed). Flips of 10 %: average
    /// precision .921 at 0.3, .940 at 0.6, .943 at 0.85.
    pub shrinkage: f64,
    /// Of the members that are held, at least this share is expected to have a wrong label: the mean of their
    /// probabilities.
    pub precision_min: f32,
    /// Most bytes of label sums and models held at once.
    pub memory_bytes_max: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { members_min: 8, folds: 5, shrinkage: 0.85, precision_min: 0.8, memory_bytes_max: 256 << 20 }
    }
}

/// Nothing below this probability is held, however sure the others are. The threshold with the best F1 is half of that
/// F1 (Lipton et al. 2014), which is .8 to .9 on real photos; a little lower pays where noise is taken for hard photos.
/// Between .25 and .45 F1 changes by .02 at most.
pub const HOLD_MIN: f32 = 1.0 / 3.0;

/// Why a judgement is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every judged label of the member fits.
    Fits,
    /// It looks like another label; of all evidence this weighs most.
    LooksLikeOther,
    /// Its nearest neighbours have another label.
    NeighboursDiffer,
    /// Others who sent the same photo named another label.
    VotesDiffer,
    /// The classifier does not see the label.
    ClassifierDiffers,
    /// Whoever named the label is wrong more often than others.
    UnreliableContributor,
    /// Abstained: none of its labels has enough members apart from its look-alikes.
    LabelTooSmall,
    /// Abstained: there is only one label to judge by.
    OneLabel,
    /// Abstained: its vector is missing, zero or not finite.
    NoVector,
}

impl Reason {
    /// Whether nothing could be told.
    pub fn abstained(self) -> bool {
        matches!(self, Self::LabelTooSmall | Self::OneLabel | Self::NoVector)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::LooksLikeOther => "looks_like_other",
            Self::NeighboursDiffer => "neighbours_differ",
            Self::VotesDiffer => "votes_differ",
            Self::ClassifierDiffers => "classifier_differs",
            Self::UnreliableContributor => "unreliable_contributor",
            Self::LabelTooSmall => "label_too_small",
            Self::OneLabel => "one_label",
            Self::NoVector => "no_vector",
        }
    }

    /// The witness that says most against the label.
    fn strongest(evidence: &Evidence) -> Self {
        let said = [
            (evidence.probe, Self::LooksLikeOther),
            (evidence.neighbours, Self::NeighboursDiffer),
            (evidence.votes, Self::VotesDiffer),
            (evidence.classifier, Self::ClassifierDiffers),
            (evidence.contributor, Self::UnreliableContributor),
        ];
        let first = said[0];
        said[1..].iter().fold(first, |best, this| if this.0 > best.0 { *this } else { best }).1
    }
}

/// What is said of one member.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Probability that its weakest label is wrong, 0 to 1; 0 when abstained.
    pub p_label_wrong: f32,
    /// Probability of that label by the picture alone, whoever claims it; 1 when abstained.
    pub fits: f32,
    /// The claim that fits least.
    pub weakest: Option<u32>,
    /// The label that is not claimed and fits best.
    pub suggested: Option<u32>,
    pub hold: bool,
    pub reason: Reason,
    /// What speaks for the suggested label against the weakest claim.
    pub evidence: Evidence,
}

/// Judgements in the order of the members, and what they rest on.
#[derive(Clone, Debug)]
pub struct SecondLook {
    pub judgements: Vec<Judgement>,
    /// Probability that each claim is wrong, at [`LabelTable::span`]; NaN where it is not judged.
    pub claims: Vec<f32>,
    /// The probability from which members are held.
    pub threshold: f32,
    /// Expected share of wrong labels among those that are held; None when none is.
    pub precision: Option<f32>,
    /// Expected share of wrong claims among all that were judged.
    pub wrong: f32,
    /// One entry a contributor of the testimonies.
    pub contributors: Vec<Rate>,
}

/// Looks at every label again. See the module.
pub fn second_look(
    vectors: &dyn Vectors,
    table: &LabelTable,
    neighbours: Option<&Neighbours>,
    testimonies: Option<&Testimonies>,
    policy: &Policy,
) -> Result<SecondLook, LearningError> {
    let look = Look { table, neighbours, testimonies, policy };
    look.check(vectors)?;
    let mut members = vec![0_usize; table.labels()];
    (0..table.len()).flat_map(|m| table.of(m)).for_each(|l| members[*l as usize] += 1);
    let takes_part: Vec<bool> = members.iter().map(|n| *n >= policy.members_min.max(1)).collect();
    let labels = takes_part.iter().filter(|t| **t).count();
    if labels < 2 {
        return Ok(look.abstain(&takes_part, Reason::OneLabel));
    }
    let mut probe = Discriminant::read(vectors, table, &takes_part, policy.folds)?;
    if !probe.learnt.contains(&true) {
        return Ok(look.abstain(&takes_part, Reason::NoVector));
    }
    let claims = look.judged(&probe.usable, &takes_part);
    let first = probe.scores(policy.shrinkage, policy.memory_bytes_max)?;
    let heard = probe.learnt.clone();
    let opinions = look.opinions(&[(&first, &heard)]);
    let noise = Noise::fit(table, &opinions, testimonies, &claims, labels);
    let doubted = look.doubted(&noise, &claims, &probe.learnt);
    drop(opinions);
    probe.forget(&doubted)?;
    let second = probe.scores(policy.shrinkage, policy.memory_bytes_max)?;
    let opinions = look.opinions(&[(&first, &heard), (&second, &probe.learnt)]);
    drop((first, second));
    let noise = Noise::fit(table, &opinions, testimonies, &claims, labels);
    Ok(look.conclude(&noise, &claims, &probe.usable, &takes_part))
}

struct Look<'a> {
    table: &'a LabelTable,
    neighbours: Option<&'a Neighbours>,
    testimonies: Option<&'a Testimonies>,
    policy: &'a Policy,
}

impl Look<'_> {
    fn check(&self, vectors: &dyn Vectors) -> Result<(), LearningError> {
        let (wanted, policy) = (self.table.len(), self.policy);
        let lengths = [
            ("the vectors", Some(vectors.len())),
            ("the neighbours", self.neighbours.map(Neighbours::len)),
            ("the testimonies", self.testimonies.map(Testimonies::len)),
        ];
        for (what, found) in lengths {
            if let Some(found) = found.filter(|n| *n != wanted) {
                return Err(LearningError::Mismatch { what, found, wanted });
            }
        }
        let wrong = |what, value: String, remedy| Err(LearningError::Setting { what, value, remedy });
        if !(2..=100).contains(&policy.folds) {
            return wrong("`folds`", policy.folds.to_string(), "use 2 to 100, for example 5");
        }
        if !(policy.shrinkage > 0.0 && policy.shrinkage < 1.0) {
            let remedy = "use a number between 0 and 1, for example 0.85";
            return wrong("`shrinkage`", policy.shrinkage.to_string(), remedy);
        }
        if !(0.0..=1.0).contains(&policy.precision_min) {
            let remedy = "use a share between 0 and 1, for example 0.8";
            return wrong("`precision_min`", policy.precision_min.to_string(), remedy);
        }
        Ok(())
    }

    fn abstain(&self, takes_part: &[bool], otherwise: Reason) -> SecondLook {
        let reason = |m| self.why_silent(m, takes_part, otherwise);
        SecondLook {
            judgements: (0..self.table.len()).map(|m| silent(reason(m))).collect(),
            claims: vec![f32::NAN; self.table.claims()],
            threshold: HOLD_MIN,
            precision: None,
            wrong: 0.0,
            contributors: vec![Rate::default(); self.testimonies.map_or(0, Testimonies::contributors)],
        }
    }

    fn why_silent(&self, member: usize, takes_part: &[bool], otherwise: Reason) -> Reason {
        match self.table.of(member).iter().any(|c| takes_part[*c as usize]) {
            true => otherwise,
            false => Reason::LabelTooSmall,
        }
    }

    /// The claims that can be judged, member by member: those of labels with enough members in the other folds.
    /// Look-alikes share a fold, so a label may be learnt from none but strangers.
    fn judged(&self, usable: &[bool], takes_part: &[bool]) -> Vec<(u32, u32)> {
        let folds = self.policy.folds;
        let mut inside = vec![0_u32; self.table.labels() * folds];
        let mut all = vec![0_u32; self.table.labels()];
        for member in (0..self.table.len()).filter(|m| usable[*m]) {
            for label in self.table.of(member) {
                inside[*label as usize * folds + self.table.fold(member, folds)] += 1;
                all[*label as usize] += 1;
            }
        }
        let enough = (self.policy.members_min * (folds - 1) / folds) as u32;
        let known = |member: usize, label: u32| {
            let apart = all[label as usize] - inside[label as usize * folds + self.table.fold(member, folds)];
            takes_part[label as usize] && apart >= enough
        };
        let members = (0..self.table.len()).filter(|m| usable[*m]);
        let claims = members.flat_map(|m| self.table.of(m).iter().map(move |l| (m, *l)));
        claims.filter(|(m, l)| known(*m, *l)).map(|(m, l)| (m as u32, l)).collect()
    }

    /// What probe and neighbours say, as the mean of these rounds; of the labels that all of them scored.
    fn opinions(&self, rounds: &[(&Scores, &Vec<bool>)]) -> Opinions {
        let mut opinions = Opinions::with_capacity(self.table.len());
        let share = 1.0 / rounds.len() as f32;
        for member in 0..self.table.len() {
            let scored: Vec<Vec<(u32, f32)>> = rounds.iter().map(|(s, _)| s.of(member).collect()).collect();
            let score = |round: usize, label| scored[round].iter().find(|(l, _)| *l == label).map(|(_, s)| *s);
            let in_all = scored[0].iter().filter_map(|(label, _)| {
                let sum: Option<f32> = (0..rounds.len()).map(|round| score(round, *label)).sum();
                Some((*label, share * sum?))
            });
            let (labels, probe): (Vec<u32>, Vec<f32>) = in_all.unzip();
            let mut near = vec![0.0; labels.len()];
            for (neighbours, (_, heard)) in rounds.iter().filter_map(|round| Some((self.neighbours?, round))) {
                let said = votes(member, &labels, neighbours, self.table, heard);
                near.iter_mut().zip(said).for_each(|(sum, vote)| *sum += share * vote);
            }
            let all = labels.into_iter().zip(probe).zip(near);
            opinions.push(all.map(|((label, probe), near)| Candidate { label, probe, near }));
        }
        opinions
    }

    /// Members to leave out of the second fit: those that are probably wrong, but never more than half of a label, or
    /// the label would be learnt from what is left of it.
    fn doubted(&self, noise: &Noise<'_>, claims: &[(u32, u32)], learnt: &[bool]) -> Vec<bool> {
        let mut doubted = vec![false; self.table.len()];
        let mut left = vec![0_usize; self.table.labels()];
        for member in (0..self.table.len()).filter(|m| learnt[*m]) {
            self.table.of(member).iter().for_each(|l| left[*l as usize] += 1);
        }
        left.iter_mut().for_each(|n| *n /= 2);
        let mut candidates: Vec<(f64, usize)> = (0..claims.len())
            .map(|at| (noise.verdict(at).p_wrong, claims[at].0 as usize))
            .filter(|(p, member)| *p > 0.5 && learnt[*member])
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, member) in candidates {
            let claims = self.table.of(member);
            if !doubted[member] && claims.iter().all(|l| left[*l as usize] > 0) {
                claims.iter().for_each(|l| left[*l as usize] -= 1);
                doubted[member] = true;
            }
        }
        doubted
    }

    fn conclude(&self, noise: &Noise<'_>, judged: &[(u32, u32)], usable: &[bool], takes_part: &[bool]) -> SecondLook {
        let mut claims = vec![f32::NAN; self.table.claims()];
        let mut judgements: Vec<Judgement> = (0..self.table.len())
            .map(|m| match usable[m] {
                true => silent(Reason::LabelTooSmall),
                false => silent(self.why_silent(m, takes_part, Reason::NoVector)),
            })
            .collect();
        for (at, (member, label)) in judged.iter().enumerate() {
            let said = noise.verdict(at);
            let span = self.table.span(*member as usize);
            let own = self.table.of(*member as usize).iter().position(|l| l == label);
            claims[span.start + own.expect("a judged claim is one of the member's")] = said.p_wrong as f32;
            let judgement = &mut judgements[*member as usize];
            if judgement.reason.abstained() || said.p_wrong as f32 > judgement.p_label_wrong {
                *judgement = spoken(*label, &said);
            }
        }
        let doubts = judgements.iter().filter(|j| !j.reason.abstained()).map(|j| j.p_label_wrong).collect();
        let (threshold, precision) = threshold(doubts, self.policy.precision_min);
        for judgement in judgements.iter_mut().filter(|j| !j.reason.abstained()) {
            judgement.hold = judgement.p_label_wrong >= threshold;
            if judgement.hold {
                judgement.reason = Reason::strongest(&judgement.evidence);
            }
        }
        let sum: f64 = claims.iter().filter(|p| !p.is_nan()).map(|p| f64::from(*p)).sum();
        let wrong = (sum / judged.len().max(1) as f64) as f32;
        SecondLook { judgements, claims, threshold, precision, wrong, contributors: noise.contributor_rates.clone() }
    }
}

fn silent(reason: Reason) -> Judgement {
    let evidence = Evidence::default();
    Judgement { p_label_wrong: 0.0, fits: 1.0, weakest: None, suggested: None, hold: false, reason, evidence }
}

fn spoken(label: u32, said: &Said) -> Judgement {
    Judgement {
        p_label_wrong: said.p_wrong as f32,
        fits: said.fits as f32,
        weakest: Some(label),
        suggested: said.suggested,
        hold: false,
        reason: Reason::Fits,
        evidence: said.evidence,
    }
}

/// The least probability, from [`HOLD_MIN`] on, above which the mean is at least `precision_min`; and that mean.
fn threshold(mut doubts: Vec<f32>, precision_min: f32) -> (f32, Option<f32>) {
    doubts.retain(|p| *p >= HOLD_MIN);
    doubts.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0_f64;
    let mut found = (HOLD_MIN, None);
    for (at, doubt) in doubts.iter().enumerate() {
        sum += f64::from(*doubt);
        let mean = (sum / (at + 1) as f64) as f32;
        let last_of_equals = doubts.get(at + 1).is_none_or(|next| next < doubt);
        if last_of_equals && mean >= precision_min {
            found = (*doubt, Some(mean));
        }
    }
    match found {
        // Every one that may be held is: the limit stands at its lowest, not at the chance least of them.
        (_, Some(mean)) if doubts.last() == Some(&found.0) => (HOLD_MIN, Some(mean)),
        // None may be.
        (_, None) if !doubts.is_empty() => (1.0_f32.max(precision_min), None),
        found => found,
    }
}

#[cfg(test)]
#[path = "second_look_tests.rs"]
mod tests;
