//! The second look at every label, by models that have not seen it.
//!
//! Takes  the members with their vectors, neighbours, groups, voters and classifier scores. Gives a judgement each, and
//!        how often each device errs; those without a vector, and all where there is too little to learn from, are not
//!        judged.
//! How    see `dih_learning::second_look`. Look-alikes are judged by models that saw none of them.

use std::sync::Arc;

use dih_core::{Class, Classify, StageError, work::Bench};
use dih_learning::{LabelTable, LearningError, Neighbours, Policy, Rate, Testimonies, Vectors, Vote};

use crate::{
    config::Config,
    gather::{Gathered, Member},
    plan::Judgement,
    spool::Spool,
};

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("could not take the second look at the labels")]
    Learning { source: LearningError },
}

impl Classify for LookError {
    fn class(&self) -> Class {
        match self {
            Self::Learning { source: LearningError::Read { .. } } => Class::Retry,
            Self::Learning { .. } => Class::BadInput,
        }
    }
}

impl From<LearningError> for LookError {
    fn from(source: LearningError) -> Self {
        Self::Learning { source }
    }
}

/// What the second look says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Looked {
    /// One a member, in their order.
    pub(crate) judgements: Vec<Judgement>,
    /// None where nobody was judged.
    pub(crate) found: Option<Found>,
}

/// What holds of all that were judged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// The `p_label_wrong` from which a photo is held.
    pub(crate) threshold: f32,
    /// Expected share of wrong labels among those that are held; None when none is.
    pub(crate) precision: Option<f32>,
    /// Expected share of wrong labels among all.
    pub(crate) wrong: f32,
    /// One a device of the selection, in their order.
    pub(crate) devices: Vec<Rate>,
}

/// Judges every member.
pub(crate) async fn judge(
    gathered: &Gathered,
    nearest: Vec<Vec<(u32, f32)>>,
    groups: &[u32],
    config: &Config,
    bench: &Bench,
) -> Result<Looked, StageError> {
    let members = &gathered.members;
    let silent = || Looked { judgements: vec![Judgement::default(); members.len()], found: None };
    if gathered.spool.dimensions() == 0 {
        return Ok(silent());
    }
    let mut table = LabelTable::new(gathered.classes.len());
    let mut neighbours = Neighbours::new(config.neighbours.get());
    let mut testimonies = Testimonies::new(gathered.devices.len());
    for ((member, nearest), group) in members.iter().zip(&nearest).zip(groups) {
        let group = members[*group as usize].image;
        table.push(group.as_bytes(), &member.labels).map_err(LookError::from)?;
        neighbours.push(nearest);
        let vote = |b: &crate::gather::Ballot| Vote { contributor: b.device, labels: b.classes.clone() };
        let votes = member.ballots.iter().map(vote).collect();
        testimonies.push(Some(member.device), member.label_score, votes).map_err(LookError::from)?;
    }
    drop(nearest);
    let rows = Rows { spool: gathered.spool.clone(), slots: members.iter().map(|m: &Member| m.vector).collect() };
    let policy = Policy {
        members_min: config.hold_members_min.get(),
        precision_min: config.hold_precision_min,
        ..Policy::default()
    };
    let look = move || dih_learning::second_look(&rows, &table, Some(&neighbours), Some(&testimonies), &policy);
    let look = match bench.run(look).await? {
        Ok(look) => look,
        // All vectors are equal: nothing can be told, so nobody is doubted.
        Err(LearningError::Degenerate) => return Ok(silent()),
        Err(source) => return Err(LookError::Learning { source }.into()),
    };
    let said = |judged: &dih_learning::Judgement| match judged.reason.abstained() {
        true => Judgement::default(),
        false => Judgement {
            p_label_wrong: Some(judged.p_label_wrong),
            fits: Some(judged.fits),
            suggested: judged.suggested,
            hold: judged.hold,
            threshold: look.threshold,
            reason: judged.hold.then_some(judged.reason),
            evidence: judged.evidence,
        },
    };
    let judgements: Vec<Judgement> = look.judgements.iter().map(said).collect();
    let found = judgements.iter().any(|j| j.p_label_wrong.is_some()).then(|| Found {
        threshold: look.threshold,
        precision: look.precision,
        wrong: look.wrong,
        devices: look.contributors.clone(),
    });
    Ok(Looked { judgements, found })
}

/// The vectors of the members in their order; a row of zeros where there is none.
struct Rows {
    spool: Arc<Spool>,
    slots: Vec<Option<u32>>,
}

impl Vectors for Rows {
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn dim(&self) -> usize {
        self.spool.dimensions()
    }

    fn for_each_chunk(&self, rows_max: usize, each: &mut dyn FnMut(usize, &[f32])) -> Result<(), LearningError> {
        let rows_max = rows_max.max(1);
        let mut chunk = Vec::with_capacity(rows_max.min(self.len()) * self.dim());
        for (at, slots) in self.slots.chunks(rows_max).enumerate() {
            chunk.clear();
            for slot in slots {
                match slot {
                    Some(slot) => {
                        let read = self.spool.vector(*slot, &mut chunk);
                        read.map_err(|error| LearningError::Read { source: Box::new(error) })?;
                    }
                    None => chunk.resize(chunk.len() + self.dim(), 0.0),
                }
            }
            each(at * rows_max, &chunk);
        }
        Ok(())
    }
}
