//! Who may show the same shot as a picture, by fingerprint.
//!
//! Takes    a record. Gives the near ones that are worth a proof.
//! Keeps    one promise: of two pictures each finds the other, or neither does. So both must be near by what *either* of
//!          them looks for, turned and cropped as it may be.

use dih_core::{
    StageError,
    ports::{Among, Index, NearFingerprint},
    record::{Record, State},
    repeat::FoundBy,
};
use dih_repeats::{Candidate, succession, suspects};

use crate::Config;

/// Bits that a picture may differ by which has no second chance by vector.
const LAST_CHANCE: u32 = 12;
/// What such a picture may repeat: also what was refused.
const ANY_ORIGINAL: [State; 6] =
    [State::Claimed, State::Unique, State::Clustered, State::Curated, State::Held, State::Rejected];

/// Pictures that look like this one, and it like them: standing ones, and later repeats that may have to name this one.
pub(crate) async fn of(index: &dyn Index, own: &Record, config: &Config) -> Result<Vec<Candidate>, StageError> {
    let later_repeats = Among { after: Some(own.order()), ..Among::states(&[State::Repeat]) };
    let among = [Among::states(&State::STANDING), later_repeats];
    let near = near(index, own, config.distance_max, &among, config.candidates_max).await?;
    let others = near.into_iter().filter(|n| finds_back(n, own, config.distance_max));
    let (repeats, standing): (Vec<_>, Vec<_>) = others.partition(|n| n.record.state == State::Repeat);
    let order = |n: &NearFingerprint| n.record.order();
    let suspects =
        suspects::of_either_side(own.order(), standing.into_iter(), order, config.candidates_max).into_iter();
    let repeats = repeats.into_iter().map(|n| candidate(own, n));
    let misled = repeats.filter(|repeat| succession::would_rather_name(&repeat.record, own, repeat.found_by));
    Ok(suspects.map(|n| candidate(own, n)).chain(misled).collect())
}

/// Earlier pictures, refused ones too, that look like one that will be refused itself.
pub(crate) async fn of_refused(index: &dyn Index, own: &Record, config: &Config) -> Result<Vec<Candidate>, StageError> {
    let radius = config.distance_max.max(LAST_CHANCE);
    let near = near(index, own, radius, &[Among::states(&ANY_ORIGINAL)], config.candidates_max).await?;
    let suspects = suspects::of_either_side(own.order(), near.into_iter(), |n| n.record.order(), config.candidates_max);
    Ok(suspects.earlier.into_iter().map(|n| candidate(own, n)).collect())
}

async fn near(
    index: &dyn Index,
    own: &Record,
    radius: u32,
    among: &[Among<'_>],
    most: usize,
) -> Result<Vec<NearFingerprint>, StageError> {
    let queries: Vec<_> = own.image.fingerprints.queries(radius).collect();
    let wanted = most * suspects::SEARCHED + 1; // itself comes along
    let mut near = index.near_fingerprints(&queries, among, wanted).await?;
    near.retain(|n| n.record.id() != own.id());
    Ok(near)
}

/// Whether the other one would find this one.
fn finds_back(near: &NearFingerprint, own: &Record, radius: u32) -> bool {
    near.record.image.fingerprints.finds(&own.image.fingerprints, radius)
}

/// Told as the later of the two sees it, whichever is under decision.
fn candidate(own: &Record, near: NearFingerprint) -> Candidate {
    let (own_prints, prints) = (&own.image.fingerprints, &near.record.image.fingerprints);
    let (distance, query) = match near.record.order() < own.order() {
        true => own_prints.nearest(prints),
        false => prints.nearest(own_prints),
    };
    // What follows the orientations are parts of the upright picture.
    let orientation = if query < own_prints.orientations.len() { query as u8 } else { 0 };
    Candidate { record: near.record, found_by: FoundBy::Fingerprint { distance, orientation } }
}
