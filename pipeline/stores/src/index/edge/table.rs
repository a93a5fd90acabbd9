//! What must be known of every image at once, in memory: fingerprint, place, state, and who repeats whom.
//!
//! Takes    heads, as they are read at the start and as records change. Gives near fingerprints, counts, repeats.
//! Memory   about 110 bytes an image: 110 MB for a million.

use std::collections::{BTreeSet, HashMap};

use dih_core::{
    ImageId, UploadSeq,
    image::Fingerprint,
    record::{Record, State},
};

use super::bits::Bits;

/// What the table knows of one image, and how it lies in the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Head {
    /// Of the claim; a later change of the image does not move it.
    pub(super) fingerprint: Fingerprint,
    pub(super) upload: UploadSeq,
    pub(super) state: State,
    /// Whom it repeats, or repeated until it is decided again.
    pub(super) repeat_of: Option<ImageId>,
}

impl Head {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            fingerprint: record.image.fingerprints.upright(),
            upload: record.upload(),
            state: record.state,
            repeat_of: record.repeat.as_ref().map(|repeat| repeat.of),
        }
    }

    /// 17 bytes, or 33 with a repeat.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(33);
        bytes.extend(self.fingerprint.0.to_be_bytes());
        bytes.extend(self.upload.0.to_be_bytes());
        bytes.push(code(self.state));
        bytes.extend(self.repeat_of.iter().flat_map(|id| *id.as_bytes()));
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fingerprint, rest) = bytes.split_first_chunk()?;
        let (upload, rest) = rest.split_first_chunk()?;
        let (state, rest) = rest.split_first()?;
        let repeat_of = match rest {
            [] => None,
            id => Some(ImageId::from_bytes(id.try_into().ok()?)),
        };
        Some(Self {
            fingerprint: Fingerprint(u64::from_be_bytes(*fingerprint)),
            upload: UploadSeq(u64::from_be_bytes(*upload)),
            state: *State::ALL.get(usize::from(*state))?,
            repeat_of,
        })
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

/// An image as the table holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) fingerprint: Fingerprint,
    pub(super) upload: UploadSeq,
    pub(super) state: State,
}

/// A near fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near {
    pub(super) distance: u32,
    pub(super) upload: UploadSeq,
    pub(super) id: ImageId,
    pub(super) query: usize,
}

/// All images, by column; a place in one column is the same in all.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: HashMap<ImageId, u32>,
    ids: Vec<ImageId>,
    fingerprints: Bits,
    uploads: Vec<UploadSeq>,
    states: Vec<u8>,
    repeats: HashMap<ImageId, BTreeSet<ImageId>>,
}

impl Table {
    pub(super) fn get(&self, id: ImageId) -> Option<Row> {
        let place = *self.places.get(&id)? as usize;
        Some(Row {
            fingerprint: Fingerprint(self.fingerprints.get(place)),
            upload: self.uploads[place],
            state: State::ALL[usize::from(self.states[place])],
        })
    }

    /// Enters an image, or what changed of it; `repeated` is whom it repeated before.
    pub(super) fn set(&mut self, id: ImageId, head: &Head, repeated: Option<ImageId>) {
        match self.places.get(&id) {
            Some(place) => self.states[*place as usize] = code(head.state),
            None => {
                self.places.insert(id, u32::try_from(self.ids.len()).expect("an index holds less than 2^32 images"));
                self.ids.push(id);
                self.fingerprints.push(head.fingerprint.0);
                self.uploads.push(head.upload);
                self.states.push(code(head.state));
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

    pub(super) fn repeats_of(&self, id: ImageId) -> Vec<ImageId> {
        self.repeats.get(&id).into_iter().flatten().copied().collect()
    }

    pub(super) fn count(&self, states: States) -> u64 {
        self.states.iter().filter(|code| states.has_code(**code)).count() as u64
    }

    /// Those within `radius` bits of any query, nearest first, each once.
    pub(super) fn near(&self, queries: &[Fingerprint], radius: u32, states: States, limit: usize) -> Vec<Near> {
        let queries: Vec<u64> = queries.iter().map(|query| query.0).collect();
        let hits = self.fingerprints.near(&queries, radius).into_iter();
        let hits = hits.filter(|hit| states.has_code(self.states[hit.place as usize]));
        let near = hits.map(|hit| Near {
            distance: hit.distance,
            upload: self.uploads[hit.place as usize],
            id: self.ids[hit.place as usize],
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
            for repeat_of in [None, Some(sample::id(9))] {
                let head = Head { state, repeat_of, ..Head::of(&sample::record(7)) };
                assert_eq!(Head::from_bytes(&head.to_bytes()), Some(head));
            }
        }
    }

    #[test]
    fn a_cut_head_is_refused() {
        let bytes = Head { repeat_of: Some(sample::id(9)), ..Head::of(&sample::record(7)) }.to_bytes();
        for length in (0..33).filter(|length| *length != 17) {
            assert_eq!(Head::from_bytes(&bytes[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_repeat_moves_from_one_original_to_another() {
        let (id, a, b) = (sample::id(1), sample::id(2), sample::id(3));
        let mut table = Table::default();
        let head = Head::of(&sample::record(1));
        table.set(id, &head, None);
        table.set(id, &Head { repeat_of: Some(a), ..head }, None);
        table.set(id, &Head { repeat_of: Some(b), ..head }, Some(a));
        assert_eq!((table.repeats_of(a), table.repeats_of(b)), (vec![], vec![id]));
        table.set(id, &head, Some(b));
        assert_eq!(table.repeats_of(b), vec![]);
    }
}
