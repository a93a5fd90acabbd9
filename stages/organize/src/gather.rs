//! Reads the members of a data set from the index, with the votes of their repeats.
//!
//! Takes  a definition. Gives the members in the order of their image ids, their labels agreed on, and a spool with
//!        their records and vectors.
//! Weak   at a photo whose own labels are not those of the data set but whose re-uploads of equal bytes outvote them:
//!        a selection by label does not find it.

use std::{collections::BTreeMap, sync::Arc};

use dih_core::{
    Class, Classify, DeviceId, ImageId, Label, StageError, UploadSeq,
    event::VectorSpace,
    ports::{Index, Page, Select, StoreError},
    record::{Record, State},
    work::Bench,
};

use crate::{
    REASON_DOUBTED,
    datasets::{Definition, Keep},
    labels::{self, Votes},
    spool::{Place, Spool, SpoolError, Spooler},
};

/// One photo of the selection; what must be at hand for all at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The earliest of its repeats, by which it is known in every version.
    pub image: ImageId,
    pub upload: UploadSeq,
    /// The copy that is published.
    pub kept: ImageId,
    /// Class numbers; the first is the primary one.
    pub labels: Vec<u32>,
    /// Uploads that voted on the labels, and how many of them named the primary one.
    pub voters: u32,
    pub agreeing: u32,
    pub label_score: Option<f32>,
    /// Its vector's number in the spool; None where the model of this space has not seen it.
    pub vector: Option<u32>,
    pub record: Place,
    /// Whether an earlier cut holds it.
    pub was_held: bool,
    /// Number of the device that sent it, a place in `Gathered::devices`.
    pub device: u32,
    /// All votes on it, its own among them, where more than one upload voted.
    pub ballots: Vec<Ballot>,
}

/// What one upload says a photo shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Ballot {
    /// Place in `Gathered::devices`; None where the record does not tell (an upload of equal bytes).
    pub device: Option<u32>,
    /// Class numbers; labels that are none of the data set are left out.
    pub classes: Vec<u32>,
}

/// A selection, read at one moment.
#[derive(Debug)]
pub struct Gathered {
    /// In the order of their ids.
    pub members: Vec<Member>,
    /// Class names; a class number is a place in here.
    pub classes: Vec<Label>,
    /// Who sent photos or votes.
    pub devices: Vec<DeviceId>,
    pub spool: Arc<Spool>,
    /// Photos left out because the classifier's score of their label is below the definition's.
    pub below_score: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    #[error("could not read the selection from the index")]
    Index { source: StoreError },
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl Classify for GatherError {
    fn class(&self) -> Class {
        match self {
            Self::Index { source } => source.class(),
            Self::Spool(error) => error.class(),
        }
    }
}

fn index(source: StoreError) -> GatherError {
    GatherError::Index { source }
}

/// Reads the selection of a definition.
pub async fn gather(
    store: &dyn Index,
    definition: &Definition,
    space: &VectorSpace,
    page: usize,
    bench: &Bench,
) -> Result<Gathered, StageError> {
    let repeats = Repeats::read(store, page).await?;
    let mut reading = Reading::new()?;
    let select = Select {
        states: vec![State::Curated, State::Held],
        labels: definition.labels.clone(),
        attributes: definition.attributes.clone(),
    };
    let mut after = None;
    loop {
        let Page { records, next } = store.page(&select, after, page, Some(space)).await.map_err(index)?;
        reading = bench.run(move || reading.take(records)).await??;
        after = next;
        if after.is_none() {
            break;
        }
    }
    reading.sort();
    for root in repeats.roots_voted_in(definition, &reading) {
        let Some(record) = store.get(root).await.map_err(index)? else { continue };
        let fits = definition.attributes.iter().all(|(k, v)| record.image.attributes.get(k) == Some(v));
        if fits {
            let vector = store.vector(root, space).await.map_err(index)?;
            reading = reading.take(vec![(record, vector)])?;
        }
    }
    reading.sort();
    let definition = definition.clone();
    Ok(bench.run(move || reading.settle(&repeats, &definition)).await??)
}

/// Whether a version may take it: on offer to all, or held by an earlier cut and looked at anew.
fn is_eligible(record: &Record) -> bool {
    match record.state {
        State::Curated => true,
        State::Held => record.reason.as_deref() == Some(REASON_DOUBTED),
        _ => false,
    }
}

/// A photo that yields to another: what it says about the one it repeats.
#[derive(Clone, Debug)]
struct RepeatVote {
    image: ImageId,
    of: ImageId,
    upload: UploadSeq,
    device: DeviceId,
    votes: Vec<(UploadSeq, Vec<Label>)>,
    pixels: u64,
    sharpness: f32,
}

/// All repeats, in the order of their ids.
#[derive(Debug, Default)]
struct Repeats(Vec<RepeatVote>);

/// Longest chain of repeats that is followed; a real one has a few links, a ring has none that end.
const CHAIN_MAX: usize = 64;

impl Repeats {
    async fn read(store: &dyn Index, page: usize) -> Result<Self, GatherError> {
        let select = Select { states: vec![State::Repeat], ..Select::default() };
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let Page { records, next } = store.page(&select, after, page, None).await.map_err(index)?;
            all.extend(records.into_iter().filter_map(|(record, _)| RepeatVote::of(record)));
            after = next;
            if after.is_none() {
                break;
            }
        }
        all.sort_by_key(|r| r.image);
        Ok(Self(all))
    }

    /// The picture at the end of the chain.
    fn root(&self, repeat: &RepeatVote) -> Option<ImageId> {
        let mut of = repeat.of;
        for _ in 0..CHAIN_MAX {
            match self.0.binary_search_by_key(&of, |r| r.image) {
                Ok(at) => of = self.0[at].of,
                Err(_) => return Some(of),
            }
        }
        None
    }

    /// Pictures outside of a selection by label, for one of whose labels a repeat votes.
    fn roots_voted_in(&self, definition: &Definition, reading: &Reading) -> Vec<ImageId> {
        let named =
            |r: &&RepeatVote| r.votes.iter().flat_map(|(_, labels)| labels).any(|l| definition.labels.contains(l));
        let mut roots: Vec<ImageId> = self.0.iter().filter(named).filter_map(|r| self.root(r)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots.retain(|root| reading.find(*root).is_none());
        roots
    }
}

impl RepeatVote {
    fn of(record: Record) -> Option<Self> {
        let of = record.repeat.as_ref()?.of;
        let image = record.image;
        let own = (image.upload, image.labels);
        let votes = std::iter::once(own).chain(record.votes).collect();
        let (pixels, sharpness) = (image.size.pixels(), image.measures.sharpness);
        Some(Self { image: image.id, of, upload: image.upload, device: image.device, votes, pixels, sharpness })
    }
}

/// A member before its labels are agreed on.
#[derive(Debug)]
struct Read {
    image: ImageId,
    upload: UploadSeq,
    /// Numbers of its own labels in `Reading::names`.
    labels: Vec<u32>,
    label_score: Option<f32>,
    pixels: u64,
    sharpness: f32,
    vector: Option<u32>,
    record: Place,
    was_held: bool,
    device: u32,
}

#[derive(Debug)]
struct Reading {
    read: Vec<Read>,
    /// Labels by name, each with a number in order of appearance.
    names: BTreeMap<Label, u32>,
    devices: BTreeMap<DeviceId, u32>,
    /// Votes of uploads of equal bytes; few have any.
    votes: BTreeMap<ImageId, Votes>,
    spooler: Spooler,
}

impl Reading {
    fn new() -> Result<Self, GatherError> {
        let spooler = Spooler::new()?;
        let (names, devices) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { read: Vec::new(), names, devices, votes: BTreeMap::new(), spooler })
    }

    fn take(mut self, records: Vec<(Record, Option<Vec<f32>>)>) -> Result<Self, GatherError> {
        for (record, vector) in records.into_iter().filter(|(record, _)| is_eligible(record)) {
            let image = record.id();
            if !record.votes.is_empty() {
                self.votes.insert(image, record.votes.clone());
            }
            let labels = record.image.labels.iter().map(|label| number(&mut self.names, label)).collect();
            let vector = vector.filter(|v| v.iter().all(|x| x.is_finite()));
            let vector = vector.map(|v| self.spooler.put_vector(image, &v)).transpose()?;
            self.read.push(Read {
                image,
                upload: record.upload(),
                labels,
                label_score: record.label_score,
                pixels: record.image.size.pixels(),
                sharpness: record.image.measures.sharpness,
                vector,
                record: self.spooler.put_record(&record)?,
                was_held: record.state == State::Held,
                device: number(&mut self.devices, &record.image.device),
            });
        }
        Ok(self)
    }

    fn sort(&mut self) {
        self.read.sort_by_key(|r| r.image);
        self.read.dedup_by_key(|r| r.image);
    }

    fn find(&self, image: ImageId) -> Option<usize> {
        self.read.binary_search_by_key(&image, |r| r.image).ok()
    }

    /// Agrees on the labels, chooses the copies, and leaves out what the definition does not want.
    fn settle(self, repeats: &Repeats, definition: &Definition) -> Result<Gathered, GatherError> {
        let copies = self.copies(repeats);
        let Self { read, names, mut devices, votes: mut all_votes, spooler } = self;
        let mut by_number: Vec<&Label> = names.keys().collect();
        by_number.sort_by_key(|label| names[*label]);

        let wanted = |label: &Label| definition.labels.is_empty() || definition.labels.contains(label);
        let mut members = Vec::with_capacity(read.len());
        let mut agreed = Vec::with_capacity(read.len());
        let mut named: Vec<Vec<(Option<u32>, Vec<Label>)>> = Vec::with_capacity(read.len());
        let mut below_score = 0;
        for (at, own) in read.iter().enumerate() {
            let mut votes = all_votes.remove(&own.image).unwrap_or_default();
            let copies = copies.get(&(at as u32)).map_or(&[][..], Vec::as_slice);
            votes.extend(copies.iter().flat_map(|&copy| repeats.0[copy].votes.iter().cloned()));
            votes.insert(own.upload, own.labels.iter().map(|n| by_number[*n as usize].clone()).collect());
            let mut senders = BTreeMap::from([(own.upload, own.device)]);
            for copy in copies.iter().map(|&copy| &repeats.0[copy]) {
                senders.insert(copy.upload, number(&mut devices, &copy.device));
            }
            let mut found = labels::consensus(&votes);
            found.labels.retain(wanted);
            if found.labels.is_empty() {
                continue;
            }
            if own.label_score.is_some_and(|score| score < definition.label_score_min) {
                below_score += 1;
                continue;
            }
            let kept = kept(own, copies.iter().map(|&copy| &repeats.0[copy]), definition.keep);
            members.push(Member {
                image: own.image,
                upload: own.upload,
                kept,
                labels: Vec::new(),
                voters: found.voters,
                agreeing: found.agreeing,
                label_score: own.label_score,
                vector: own.vector,
                record: own.record,
                was_held: own.was_held,
                device: own.device,
                ballots: Vec::new(),
            });
            agreed.push(found.labels);
            let ballots = votes.into_iter().map(|(upload, labels)| (senders.get(&upload).copied(), labels));
            named.push(if found.voters > 1 { ballots.collect() } else { Vec::new() });
        }
        let classes: Vec<Label> = {
            let mut classes: Vec<Label> = agreed.iter().flatten().cloned().collect();
            classes.sort_unstable();
            classes.dedup();
            classes
        };
        let class = |label: &Label| classes.binary_search(label).ok().map(|at| at as u32);
        for ((member, labels), ballots) in members.iter_mut().zip(agreed).zip(named) {
            member.labels = labels.iter().filter_map(class).collect();
            let ballot = |(device, labels): (Option<u32>, Vec<Label>)| Ballot {
                device,
                classes: labels.iter().filter_map(class).collect(),
            };
            member.ballots = ballots.into_iter().map(ballot).collect();
        }
        let mut by_number: Vec<(u32, DeviceId)> = devices.into_iter().map(|(device, n)| (n, device)).collect();
        by_number.sort_unstable_by_key(|(n, _)| *n);
        let devices = by_number.into_iter().map(|(_, device)| device).collect();
        Ok(Gathered { members, classes, devices, spool: Arc::new(spooler.finish()?), below_score })
    }

    /// The repeats of each member, as places in `repeats`.
    fn copies(&self, repeats: &Repeats) -> BTreeMap<u32, Vec<usize>> {
        let mut copies: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, repeat) in repeats.0.iter().enumerate() {
            if let Some(member) = repeats.root(repeat).and_then(|root| self.find(root)) {
                copies.entry(member as u32).or_default().push(at);
            }
        }
        copies
    }
}

fn number<T: Clone + Ord>(numbers: &mut BTreeMap<T, u32>, name: &T) -> u32 {
    match numbers.get(name) {
        Some(number) => *number,
        None => {
            let number = numbers.len() as u32;
            numbers.insert(name.clone(), number);
            number
        }
    }
}

/// The copy that a policy publishes; of equals the earliest.
fn kept<'a>(own: &Read, copies: impl Iterator<Item = &'a RepeatVote>, keep: Keep) -> ImageId {
    let rank = |pixels: u64, sharpness: f32| match keep {
        Keep::Earliest => 0.0,
        Keep::Largest => pixels as f64,
        Keep::Sharpest => f64::from(sharpness),
    };
    let first = (rank(own.pixels, own.sharpness), own.upload, own.image);
    let better = |best: (f64, UploadSeq, ImageId), copy: &RepeatVote| {
        let this = (rank(copy.pixels, copy.sharpness), copy.upload, copy.image);
        let wins = match this.0.total_cmp(&best.0) {
            std::cmp::Ordering::Greater => true,
            // A vote that came later than the member it repeats cannot be earlier; among copies the earliest counts.
            std::cmp::Ordering::Equal => keep != Keep::Earliest && this.1 < best.1,
            std::cmp::Ordering::Less => false,
        };
        if wins { this } else { best }
    };
    copies.fold(first, better).2
}
