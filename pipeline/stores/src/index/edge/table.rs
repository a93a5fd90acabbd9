//! What must be at hand of every image, in memory: fingerprint, order, state, labels, group, and who repeats whom.
//!
//! Takes    heads, as they are read at the start and as records change. Gives near fingerprints, summaries, counts, repeats.
//! Memory   about 180 bytes an image: 180 MB for a million; and once each set of labels that occurs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use dih_core::{
    ImageId, Label, UploadSeq,
    image::{Fingerprint, RangeQuery},
    ports::Among,
    record::{Record, State, Summary},
};
use serde::{Deserialize, Serialize};

use super::bits::Bits;

/// What the table knows of one image, and how it lies in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Of the claim; a later change of the image does not move it.
    pub(super) fingerprint: Fingerprint,
    pub(super) order: UploadSeq,
    pub(super) state: State,
    /// Whom it repeats, or repeated until it is decided again.
    pub(super) repeat_of: Option<ImageId>,
    pub(super) cluster: Option<ImageId>,
    pub(super) labels: Arc<[Label]>,
}

impl Head {
    pub(super) fn of(record: &Record) -> Self {
        let Summary { order, state, labels, cluster, .. } = Summary::from(record);
        let (fingerprint, repeat_of) =
            (record.image.fingerprints.upright(), record.repeat.as_ref().map(|repeat| repeat.of));
        Self { fingerprint, order, state, repeat_of, cluster, labels }
    }
}

fn code(state: State) -> u8 {
    State::ALL.iter().position(|s| *s == state).expect("all states are listed") as u8
}

/// A set of states; of none means any.
#[derive(Clone, Copy, Debug)]
pub(super) struct States(u8);

impl States {
    pub(super) fn of(states: &[State]) -> Self {
        match states {
            [] => Self(u8::MAX),
            some => Self(some.iter().fold(0, |set, state| set | 1 << code(*state))),
        }
    }

    pub(super) fn has(self, state: State) -> bool {
        self.has_code(code(state))
    }

    fn has_code(self, code: u8) -> bool {
        self.0 >> code & 1 == 1
    }
}

/// Most images after one in the order that are compared with it one by one.
pub(super) const LATE_MAX: usize = 4_096;

/// Which images to search among.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) states: States,
    pub(super) after: Option<UploadSeq>,
    pub(super) until: Option<UploadSeq>,
}

impl Wanted {
    pub(super) fn of(among: Among<'_>) -> Self {
        Self { states: States::of(among.states), after: among.after, until: among.until }
    }
}

/// A near fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near {
    pub(super) distance: u32,
    pub(super) order: UploadSeq,
    pub(super) id: ImageId,
    pub(super) query: usize,
}

/// Where an image is in the table, as long as the index is open. No image has another's.
pub(super) type Row = u32;

/// All images, by column.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: HashMap<ImageId, Row>,
    ids: Vec<ImageId>,
    fingerprints: Bits,
    orders: Vec<UploadSeq>,
    by_order: BTreeSet<(UploadSeq, Row)>,
    states: Vec<u8>,
    clusters: Vec<Option<ImageId>>,
    labels: Vec<Arc<[Label]>>,
    /// Each that occurs, once.
    label_sets: HashSet<Arc<[Label]>>,
    repeats: HashMap<ImageId, BTreeSet<ImageId>>,
    /// By space: which vector since the index was opened it was, by row; 0 of those before.
    puts: Vec<Vec<u64>>,
    put: u64,
}

impl Table {
    pub(super) fn row(&self, id: ImageId) -> Option<Row> {
        self.rows.get(&id).copied()
    }

    pub(super) fn fingerprint(&self, id: ImageId) -> Option<Fingerprint> {
        Some(Fingerprint(self.fingerprints.get(self.row(id)? as usize)))
    }

    pub(super) fn summary(&self, row: Row) -> Summary {
        let at = row as usize;
        Summary {
            id: self.ids[at],
            order: self.orders[at],
            state: State::ALL[usize::from(self.states[at])],
            labels: self.labels[at].clone(),
            cluster: self.clusters[at],
        }
    }

    pub(super) fn is_wanted(&self, row: Row, Wanted { states, after, until }: Wanted) -> bool {
        let order = || self.orders[row as usize];
        states.has_code(self.states[row as usize])
            && after.is_none_or(|after| order() > after)
            && until.is_none_or(|until| order() <= until)
    }

    pub(super) fn is_in(&self, id: ImageId, states: States) -> bool {
        self.row(id).is_some_and(|row| states.has_code(self.states[row as usize]))
    }

    /// Of some, or of all, those that are wanted, each once.
    pub(super) fn wanted(&self, of: Option<Vec<Row>>, wanted: Wanted) -> Vec<Row> {
        let mut rows = of.unwrap_or_else(|| (0..self.ids.len() as Row).collect());
        rows.retain(|row| self.is_wanted(*row, wanted));
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// All that come after an upload in the order. None where there are more than `most`.
    pub(super) fn after(&self, order: UploadSeq, most: usize) -> Option<Vec<Row>> {
        let after = self.by_order.range((Bound::Excluded((order, Row::MAX)), Bound::Unbounded));
        let rows: Vec<Row> = after.take(most + 1).map(|(_, row)| *row).collect();
        (rows.len() <= most).then_some(rows)
    }

    /// Counts a vector that can be found by now, and could not before.
    pub(super) fn count_put(&mut self, row: Row, space: usize) {
        let spaces = self.puts.len().max(space + 1);
        self.puts.resize_with(spaces, Vec::new);
        let puts = &mut self.puts[space];
        puts.resize(puts.len().max(row as usize + 1), 0);
        self.put += 1;
        puts[row as usize] = self.put;
    }

    /// Which vector of all it was; None of those before the index was opened.
    pub(super) fn put(&self, row: Row, space: usize) -> Option<u64> {
        self.puts.get(space)?.get(row as usize).copied().filter(|put| *put > 0)
    }

    /// Enters an image, or what changed of it; `repeated` is whom it repeated before.
    pub(super) fn set(&mut self, id: ImageId, head: &Head, repeated: Option<ImageId>) {
        let labels = self.label_set(&head.labels);
        match self.row(id) {
            Some(row) => {
                let at = row as usize;
                self.by_order.remove(&(self.orders[at], row));
                self.by_order.insert((head.order, row));
                self.orders[at] = head.order;
                self.states[at] = code(head.state);
                self.clusters[at] = head.cluster;
                self.labels[at] = labels;
            }
            None => {
                let row = Row::try_from(self.ids.len()).expect("an index holds less than 2^32 images");
                self.rows.insert(id, row);
                self.by_order.insert((head.order, row));
                self.ids.push(id);
                self.fingerprints.push(head.fingerprint.0);
                self.orders.push(head.order);
                self.states.push(code(head.state));
                self.clusters.push(head.cluster);
                self.labels.push(labels);
            }
        }
        if repeated != head.repeat_of {
            if let Some(before) = repeated.and_then(|of| self.repeats.get_mut(&of)) {
                before.remove(&id);
            }
            if let Some(of) = head.repeat_of {
                self.repeats.entry(of).or_default().insert(id);
            }
        }
    }

    /// The one copy of these labels.
    fn label_set(&mut self, labels: &Arc<[Label]>) -> Arc<[Label]> {
        match self.label_sets.get(labels) {
            Some(known) => known.clone(),
            None => {
                self.label_sets.insert(labels.clone());
                labels.clone()
            }
        }
    }

    pub(super) fn repeats_of(&self, id: ImageId) -> Vec<ImageId> {
        self.repeats.get(&id).into_iter().flatten().copied().collect()
    }

    pub(super) fn count(&self, states: States) -> u64 {
        self.states.iter().filter(|code| states.has_code(**code)).count() as u64
    }

    /// Those that any query finds, nearest first, each once.
    pub(super) fn near(&self, queries: &[RangeQuery], wanted: Wanted, limit: usize) -> Vec<Near> {
        let late = wanted.after.and_then(|after| self.after(after, LATE_MAX));
        let hits = match late {
            Some(late) => self.fingerprints.near_among(late.into_iter(), queries),
            None => self.fingerprints.near(queries),
        };
        let hits = hits.into_iter().filter(|hit| self.is_wanted(hit.row, wanted));
        let near = hits.map(|hit| Near {
            distance: hit.distance,
            order: self.orders[hit.row as usize],
            id: self.ids[hit.row as usize],
            query: hit.query,
        });
        let mut near: Vec<_> = near.collect();
        near.sort_unstable();
        near.truncate(limit);
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;

    #[test]
    fn a_head_reads_back_as_it_was_written() {
        for state in State::ALL {
            for of in [None, Some(sample::id(9))] {
                let head = Head { state, repeat_of: of, cluster: of, ..Head::of(&sample::record(7)) };
                let bytes = rmp_serde::to_vec(&head).expect("can be written");
                assert_eq!(rmp_serde::from_slice::<Head>(&bytes).expect("can be read"), head);
            }
        }
    }

    #[test]
    fn labels_are_held_once() {
        let mut table = Table::default();
        let head = Head::of(&sample::record(1));
        for n in [1, 2] {
            table.set(sample::id(n), &Head { labels: head.labels.to_vec().into(), ..head.clone() }, None);
        }
        let [one, other] = [1, 2].map(|n| table.summary(table.row(sample::id(n)).expect("is entered")).labels);
        assert!(Arc::ptr_eq(&one, &other) && !one.is_empty());
    }

    #[test]
    fn what_comes_after_an_upload_is_listed_while_it_is_little() {
        let mut table = Table::default();
        let head = Head::of(&sample::record(1));
        for n in [5, 3, 9, 7] {
            table.set(sample::id(n), &Head { order: UploadSeq(n), ..head.clone() }, None);
        }
        let rows = |all: &[u64]| all.iter().map(|n| table.row(sample::id(*n))).collect::<Option<Vec<_>>>();
        assert_eq!(table.after(UploadSeq(5), 2), rows(&[7, 9]));
        assert_eq!(table.after(UploadSeq(5), 1), None);
        table.set(sample::id(9), &Head { order: UploadSeq(2), ..head }, None);
        let row = table.row(sample::id(7));
        assert_eq!(
            (table.after(UploadSeq(5), 1), table.after(UploadSeq(9), 0)),
            (row.map(|row| vec![row]), Some(vec![]))
        );
    }

    #[test]
    fn a_repeat_moves_from_one_original_to_another() {
        let (id, a, b) = (sample::id(1), sample::id(2), sample::id(3));
        let mut table = Table::default();
        let head = Head::of(&sample::record(1));
        table.set(id, &head, None);
        table.set(id, &Head { repeat_of: Some(a), ..head.clone() }, None);
        table.set(id, &Head { repeat_of: Some(b), ..head.clone() }, Some(a));
        assert_eq!((table.repeats_of(a), table.repeats_of(b)), (vec![], vec![id]));
        table.set(id, &head, Some(b));
        assert_eq!(table.repeats_of(b), vec![]);
    }
}
