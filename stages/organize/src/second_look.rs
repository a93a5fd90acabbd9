//! The second look at every label, by models that have not seen it.
//!
//! Takes  the members with their vectors, neighbours and groups. Gives a judgement each; those without a vector, and
//!        all where there is too little to learn from, are not judged.
//! How    see `dih_learning::second_look`. Look-alikes are judged by models that saw none of them.

use std::sync::Arc;

use dih_core::{Class, Classify, StageError, work::Bench};
use dih_learning::{LabelTable, LearningError, Neighbours, Policy, Vectors};

use crate::{
    config::Config,
    gather::{Gathered, Member},
    plan::Judgement,
    spool::Spool,
};

/// The `p_label_wrong` from which a photo is held: there its fit is `organize.hold_fits_min`.
const HOLD_FROM: f32 = 0.5;

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

/// Judges every member; in their order.
pub(crate) async fn judge(
    gathered: &Gathered,
    nearest: Vec<Vec<(u32, f32)>>,
    groups: &[u32],
    config: &Config,
    bench: &Bench,
) -> Result<Vec<Judgement>, StageError> {
    let members = &gathered.members;
    if gathered.spool.dimensions() == 0 {
        return Ok(vec![Judgement::default(); members.len()]);
    }
    let mut table = LabelTable::new(gathered.classes.len());
    let mut neighbours = Neighbours::new(config.neighbours.get());
    for ((member, nearest), group) in members.iter().zip(&nearest).zip(groups) {
        let group = members[*group as usize].image;
        table.push(group.as_bytes(), &member.labels).map_err(|source| LookError::Learning { source })?;
        neighbours.push(nearest);
    }
    drop(nearest);
    let rows = Rows { spool: gathered.spool.clone(), slots: members.iter().map(|m: &Member| m.vector).collect() };
    let policy =
        Policy { members_min: config.hold_members_min.get(), fits_min: config.hold_fits_min, ..Policy::default() };
    let look = bench.run(move || dih_learning::second_look(&rows, &table, Some(&neighbours), &policy)).await?;
    let look = match look {
        Ok(look) => look,
        // All vectors are equal: nothing can be told, so nobody is doubted.
        Err(LearningError::Degenerate) => return Ok(vec![Judgement::default(); members.len()]),
        Err(source) => return Err(LookError::Learning { source }.into()),
    };
    let said = |judged: &dih_learning::Judgement| match judged.reason.abstained() {
        true => Judgement::default(),
        false => Judgement {
            p_label_wrong: Some(judged.p_label_wrong),
            fits: Some(judged.fits),
            suggested: judged.suggested,
            hold: judged.hold,
            threshold: HOLD_FROM,
        },
    };
    Ok(look.judgements.iter().map(said).collect())
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

/// The `p_label_wrong` from which photos are held, if any was judged.
pub(crate) fn threshold(judgements: &[Judgement]) -> Option<f32> {
    judgements.iter().find(|j| j.p_label_wrong.is_some()).map(|j| j.threshold)
}
