//! Who takes over: a picture that yields or falls hands its repeats on, and nobody is left without an answer.
//!
//! Takes    the index, and a picture that yielded or fell. Gives notices that must be published with the outcome.
//! Keeps    two promises. *Whoever ends an epoch publishes its answer*: so a message of an ended epoch may be dropped.
//!          *A released repeat keeps naming whom it repeated until it is decided again*: so a crash between the write
//!          and the publishing is repaired by the redelivery, which finds it and says the same again.
//! Crash    safe at any line: every change is a compare-and-set on the state, every notice has a fixed name.

use dih_core::{
    ImageId, Notice, Outcome, StageError, StageName,
    event::{Image, ImageStored},
    ports::{Index, StoreError},
    record::{Change, Record, State},
    repeat::{Repeat, Twin},
    verdict::{Answer, Decision, Status},
};

/// Where a picture stands when a message about it arrives.
#[derive(Clone, Debug)]
pub enum Standing {
    /// In its place: go on.
    Stands(Box<Record>),
    /// An earlier picture made it yield while the message was under way.
    Yielded(Repeat),
    /// It has been decided anew since; whoever did so has published the answer of this epoch.
    Superseded,
}

/// Reads where the picture of a message stands now. A picture without a record was never claimed: `NotFound`.
pub async fn standing(index: &dyn Index, image: &Image) -> Result<Standing, StoreError> {
    let found = index.get(image.id).await?;
    let record = found.ok_or_else(|| StoreError::NotFound { store: "index", key: image.id.to_string() })?;
    Ok(match (record.state, &record.repeat) {
        _ if record.epoch > image.epoch => Standing::Superseded,
        (State::Repeat, Some(repeat)) => Standing::Yielded(repeat.clone()),
        _ => Standing::Stands(Box::new(record)),
    })
}

/// A picture that cannot be processed no longer stands: whoever yielded to it is decided again.
///
/// What was decided anew since, or never claimed, is left alone.
pub async fn fall(index: &dyn Index, image: &Image) -> Result<Outcome, StageError> {
    let here = index.get(image.id).await?.filter(|r| r.upload() == image.upload && r.epoch <= image.epoch);
    if here.is_none() {
        return Ok(Outcome::default());
    }
    index.change(image.id, &Change { reason: Some("dead".into()), ..Change::to(State::Fallen) }).await?;
    Ok(Outcome::default().and_all(release(index, image.id).await?))
}

/// Lets go of the repeats of a picture that no longer stands: each is decided again, in its next epoch.
pub async fn release(index: &dyn Index, fallen: ImageId) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::new();
    for repeat in index.repeats_of(fallen).await? {
        match repeat.state {
            State::Repeat => notices.extend(let_go(index, repeat, fallen).await?),
            // Released before, perhaps by a try that died before it could say so.
            State::Claimed if repeat.epoch.0 > 0 => notices.extend(released(&repeat, fallen)),
            _ => {}
        }
    }
    Ok(notices)
}

/// Opens a repeat again, in its next epoch; nothing when somebody else did.
async fn let_go(index: &dyn Index, repeat: Record, of: ImageId) -> Result<Vec<Notice>, StoreError> {
    let epoch = repeat.epoch.next();
    let change = Change { epoch: Some(epoch), prior: Some(Status::Duplicate), ..Change::to(State::Claimed) };
    let ours = index.change_from(repeat.id(), &[State::Repeat], &change).await?;
    Ok(if ours { released(&Record { epoch, ..repeat }, of) } else { Vec::new() })
}

/// `record` is as after the release: in its new epoch, still naming whom it repeated.
fn released(record: &Record, fallen: ImageId) -> Vec<Notice> {
    let mut image = Image { epoch: record.epoch, ..record.image.clone() };
    let ended = record.repeat.clone().map(|repeat| {
        let answer = Answer::repeats(&record.image, StageName::Dedupe, repeat);
        Notice::Answer(Box::new(answer.in_epoch(record.epoch.previous())))
    });
    image.lineage.push(Decision::new(StageName::Dedupe, "released").because(format!("{fallen} no longer comes first")));
    ended.into_iter().chain([Notice::Stored(ImageStored { image })]).collect()
}

/// An earlier upload of bytes that are claimed already moves their picture forward in the order. If it yielded to one
/// that now comes after it, it is decided anew.
///
/// Write (the vote), then look: whoever yields writes first and then looks at both orders. So one of the two sees it.
pub async fn moved_forward(index: &dyn Index, id: ImageId) -> Result<Vec<Notice>, StoreError> {
    let Some(record) = index.get(id).await? else { return Ok(Vec::new()) };
    let Some(repeat) = record.repeat.clone() else { return Ok(Vec::new()) };
    match record.state {
        State::Repeat if comes_after(index, repeat.of, &record).await? => let_go(index, record, repeat.of).await,
        // Let go before, perhaps by a try that died before it could say so.
        State::Claimed if record.epoch.0 > 0 => Ok(released(&record, repeat.of)),
        _ => Ok(Vec::new()),
    }
}

/// Whether a picture that yielded does so rightly: the other stands, and comes before it.
pub async fn holds(index: &dyn Index, repeat: ImageId, original: ImageId) -> Result<bool, StoreError> {
    let (repeat, original) = (index.get(repeat).await?, index.get(original).await?);
    Ok(match (repeat, original) {
        (Some(repeat), Some(original)) => original.state.stands() && original.order() < repeat.order(),
        _ => false,
    })
}

/// Whether `other` comes after the picture of `record` in the order of uploads.
async fn comes_after(index: &dyn Index, other: ImageId, record: &Record) -> Result<bool, StoreError> {
    Ok(index.get(other).await?.is_some_and(|other| other.order() > record.order()))
}

/// Makes a later twin yield that was let through before `by` arrived.
///
/// One that is still under way answers for itself when its next stage finds it yielded; one that was answered is
/// revised.
pub async fn demote(index: &dyn Index, stage: StageName, by: &Image, twin: &Twin) -> Result<Vec<Notice>, StoreError> {
    let repeat = repeat_of(by, twin);
    loop {
        let Some(record) = index.get(twin.id).await? else { return Ok(Vec::new()) };
        let mut change = Change { repeat: Some(Some(repeat.clone())), ..Change::to(State::Repeat) };
        let after = match record.state {
            State::Claimed | State::Unique | State::Clustered => record.clone(),
            State::Curated | State::Held => {
                change.epoch = Some(record.epoch.next());
                change.prior = Some(if record.state == State::Held { Status::Held } else { Status::Curated });
                Record { epoch: record.epoch.next(), prior: change.prior, ..record.clone() }
            }
            State::Repeat if record.repeat.as_ref().is_some_and(|r| r.of == by.id) => {
                return consequences(index, stage, &record).await; // said before, perhaps not published
            }
            State::Repeat | State::Rejected | State::Fallen => return Ok(Vec::new()),
        };
        if index.change_from(twin.id, &[record.state], &change).await? {
            let mut notices = consequences(index, stage, &Record { repeat: change.repeat.flatten(), ..after }).await?;
            notices.extend(moved_forward(index, twin.id).await?);
            return Ok(notices);
        }
    }
}

/// Says again what followed for those that yield to `by`: for a redelivery whose first try may have died unheard.
pub async fn demoted_before(index: &dyn Index, stage: StageName, by: ImageId) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::new();
    for record in index.repeats_of(by).await? {
        if record.state == State::Repeat && record.epoch.0 > 0 {
            notices.extend(consequences(index, stage, &record).await?);
        }
    }
    Ok(notices)
}

/// What follows from a picture having yielded: its answers, if it was answered before, and the release of its repeats.
async fn consequences(index: &dyn Index, stage: StageName, record: &Record) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::new();
    if let (Some(prior @ (Status::Curated | Status::Held)), Some(repeat)) = (record.prior, &record.repeat) {
        let reason = record.reason.clone().unwrap_or_else(|| prior.as_str().into());
        let ended = Answer::about(&record.image, prior, StageName::Organize, reason).scored(record.label_score);
        notices.push(Notice::Answer(Box::new(ended.in_epoch(record.epoch.previous()))));
        let now = Answer::repeats(&record.image, stage, repeat.clone());
        notices.push(Notice::Answer(Box::new(now.in_epoch(record.epoch))));
    }
    notices.extend(release(index, record.id()).await?);
    Ok(notices)
}

/// The repeat that a later `twin` is of `original`.
fn repeat_of(original: &Image, twin: &Twin) -> Repeat {
    Repeat {
        of: original.id,
        of_upload: original.upload,
        of_source: original.source.clone(),
        found_by: twin.found_by,
        evidence: Some(twin.evidence),
    }
}
