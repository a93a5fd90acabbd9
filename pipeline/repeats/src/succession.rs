//! Who takes over: a picture that yields or falls hands its repeats on, and nobody is left without an answer.
//!
//! Takes    the index, and a picture that yielded or fell. Gives notices that must be published with the outcome.
//! Keeps    three promises. *Whoever ends an epoch publishes its answer*: so a message of an ended epoch may be dropped.
//!          *A released repeat keeps naming whom it repeated until it is decided again*: so a crash between the write
//!          and the publishing is repaired by the redelivery, which finds it and says the same again. *Write, then look*:
//!          whoever yields, falls, or moves forward in the order writes first and then looks at the others. So of two one
//!          always sees the other; and as a process may die in between, every redelivery looks again.
//! Crash    safe at any line: every change is a compare-and-set on the state, every notice has a fixed name.

use dih_core::{
    ImageId, Notice, Outcome, StageError, StageName,
    event::{Image, ImageEmbedded, ImageStored},
    ports::{Index, StoreError},
    record::{Change, Record, State},
    repeat::{FoundBy, Repeat, Twin},
    verdict::{Answer, Decision, Status},
};

/// Where a picture stands when a message about it arrives.
#[derive(Clone, Debug)]
pub enum Standing {
    /// In its place: go on.
    Stands(Box<Record>),
    /// An earlier picture made it yield while the message was under way.
    Yielded(Box<Record>, Repeat),
    /// It has been decided anew since; whoever did so has published the answer of this epoch.
    Superseded,
}

/// Reads where the picture of a message stands now. A picture without a record was never claimed: `NotFound`.
pub async fn standing(index: &dyn Index, image: &Image) -> Result<Standing, StoreError> {
    let found = index.get(image.id).await?;
    let record = found.ok_or_else(|| StoreError::NotFound { store: "index", key: image.id.to_string() })?;
    Ok(standing_by(record, image))
}

/// Where the picture of a message stands by a record that was just read.
pub fn standing_by(record: Record, image: &Image) -> Standing {
    match (record.state, &record.repeat) {
        _ if record.epoch > image.epoch => Standing::Superseded,
        (State::Repeat, Some(repeat)) => {
            let repeat = repeat.clone();
            Standing::Yielded(Box::new(record), repeat)
        }
        _ => Standing::Stands(Box::new(record)),
    }
}

/// What is left to say of a picture that lost its place in this epoch, if it did.
pub async fn overtaken(index: &dyn Index, image: &Image, stage: StageName) -> Result<Option<Outcome>, StoreError> {
    Ok(match standing(index, image).await? {
        Standing::Stands(_) => None,
        Standing::Superseded => Some(superseded(index, image, stage).await?),
        Standing::Yielded(_, repeat) => Some(answer_repeat(index, image, stage, repeat).await?),
    })
}

/// What is left to say of a picture whose epoch has ended: that it was let go, or that it yielded, if nobody has taken that
/// up yet; and whom it let go itself. Whoever did so may have died before it could say so.
pub async fn superseded(index: &dyn Index, image: &Image, stage: StageName) -> Result<Outcome, StoreError> {
    let mut again = match index.get(image.id).await? {
        Some(record) if record.state == State::Claimed => let_go(index, record).await?,
        Some(record) if record.state == State::Repeat => consequences(index, stage, &record).await?,
        _ => Vec::new(),
    };
    for repeat in index.repeats_of(image.id).await?.into_iter().filter(|repeat| repeat.state == State::Claimed) {
        again.extend(let_go(index, repeat).await?);
    }
    Ok(Outcome::superseded().and_all(again))
}

/// Has a picture that yielded while it was decided decided anew, if it would rather name the twin that it found itself.
pub async fn prefer(index: &dyn Index, own: &Record, found: &Twin) -> Result<Vec<Notice>, StoreError> {
    match index.get(found.id).await? {
        Some(earlier) if would_rather_name(own, &earlier, found.found_by) => let_go(index, own.clone()).await,
        _ => Ok(Vec::new()),
    }
}

/// A picture that cannot be processed no longer stands: whoever yielded to it is decided again.
///
/// One that was answered already stays as it was answered: then it was only a second delivery that could not be processed.
/// What was decided anew since, or never claimed, is left alone, too.
pub async fn fall(index: &dyn Index, image: &Image) -> Result<Outcome, StageError> {
    let here = index.get(image.id).await?.filter(|r| r.upload() == image.upload && r.epoch <= image.epoch);
    if here.is_none() {
        return Ok(Outcome::default());
    }
    let change = Change { reason: Some("dead".into()), ..Change::to(State::Fallen) };
    index.change_from(image.id, &[State::Claimed, State::Unique, State::Clustered], &change).await?;
    match index.get(image.id).await? {
        Some(record) if record.state == State::Fallen => {
            let released = release(index, image.id).await?;
            Ok(Outcome::default().and_all(look_again(record)).and_all(released))
        }
        _ => Ok(Outcome::default()),
    }
}

/// Lets go of the repeats of a picture that no longer stands: each is decided again, in its next epoch.
pub async fn release(index: &dyn Index, fallen: ImageId) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::new();
    for repeat in index.repeats_of(fallen).await? {
        notices.extend(let_go(index, repeat).await?);
    }
    Ok(notices)
}

/// Opens a repeat again, in its next epoch; says so again where it was opened before, perhaps by a try that died before it
/// could. Nothing when it was decided since.
pub async fn let_go(index: &dyn Index, repeat: Record) -> Result<Vec<Notice>, StoreError> {
    let Some(of) = repeat.repeat.as_ref().map(|repeat| repeat.of) else { return Ok(Vec::new()) };
    match repeat.state {
        State::Repeat => {
            let epoch = repeat.epoch.next();
            let change = Change { epoch: Some(epoch), prior: Some(Status::Duplicate), ..Change::to(State::Claimed) };
            let ours = index.change_from(repeat.id(), &[State::Repeat], &change).await?;
            Ok(if ours { released(&Record { epoch, ..repeat }, of) } else { Vec::new() })
        }
        State::Claimed if repeat.epoch.0 > 0 => Ok(released(&repeat, of)),
        _ => Ok(Vec::new()),
    }
}

/// `record` is as after the release: in its new epoch, still naming whom it repeated.
fn released(record: &Record, of: ImageId) -> Vec<Notice> {
    let mut image = Image { epoch: record.epoch, ..record.image.clone() };
    let ended = record.repeat.clone().map(|repeat| {
        let answer = Answer::repeats(&record.image, StageName::Dedupe, repeat);
        Notice::Answer(Box::new(answer.in_epoch(record.epoch.previous())))
    });
    image.lineage.push(Decision::new(StageName::Dedupe, "released").because(format!("{of} is no more its original")));
    ended.into_iter().chain([Notice::Stored(ImageStored { image })]).collect()
}

/// Writes that a picture in state `from` yields to an earlier twin. None when it was overtaken. If the twin stands no more by
/// now, [`answer_repeat`] lets it go: taken back in silence it would be answered wrongly by whoever saw it meanwhile.
pub async fn yield_to(
    index: &dyn Index,
    image: ImageId,
    from: State,
    twin: &Twin,
) -> Result<Option<Repeat>, StoreError> {
    let Some(original) = index.get(twin.id).await? else { return Ok(None) };
    let repeat = repeat_of(&original.image, twin);
    let change = Change { repeat: Some(Some(repeat.clone())), ..Change::to(State::Repeat) };
    Ok(index.change_from(image, &[from], &change).await?.then_some(repeat))
}

/// Refuses a picture that repeats a refused one and would be refused by itself: there is nobody that it could stand for.
/// None when it was overtaken.
pub async fn refuse_with(index: &dyn Index, image: ImageId, twin: &Twin) -> Result<Option<Repeat>, StoreError> {
    let Some(original) = index.get(twin.id).await? else { return Ok(None) };
    let repeat = repeat_of(&original.image, twin);
    let reason = Some("same_shot".into());
    let change = Change { repeat: Some(Some(repeat.clone())), reason, ..Change::to(State::Rejected) };
    Ok(index.change_from(image, &[State::Claimed], &change).await?.then_some(repeat))
}

/// What a picture that yielded says, now and at every redelivery: its answer, and all that follows from it.
pub async fn answer_repeat(
    index: &dyn Index,
    image: &Image,
    stage: StageName,
    repeat: Repeat,
) -> Result<Outcome, StoreError> {
    let anew = reconsider(index, image.id).await?;
    let follows = if anew.is_empty() { release(index, image.id).await? } else { anew };
    Ok(Outcome::answer(Answer::repeats(image, stage, repeat)).and_all(follows))
}

/// Lets a picture be decided anew that yielded, if it did so wrongly: whom it yielded to no longer stands, or comes after
/// it since an earlier upload of its bytes arrived.
pub async fn reconsider(index: &dyn Index, id: ImageId) -> Result<Vec<Notice>, StoreError> {
    let Some(record) = index.get(id).await? else { return Ok(Vec::new()) };
    match &record.repeat {
        Some(repeat) if record.state == State::Repeat && holds(index, id, repeat.of).await? => Ok(Vec::new()),
        _ => let_go(index, record).await,
    }
}

/// Whether a picture that yielded does so rightly: the other stands, and comes before it.
async fn holds(index: &dyn Index, repeat: ImageId, original: ImageId) -> Result<bool, StoreError> {
    let (repeat, original) = (index.get(repeat).await?, index.get(original).await?);
    Ok(match (repeat, original) {
        (Some(repeat), Some(original)) => original.state.stands() && original.order() < repeat.order(),
        _ => false,
    })
}

/// Makes the later twins of a picture that stays yield to it, or decided anew where they had yielded to another. The
/// redelivery of its message does so again, for those that the first try did not come to, and says again what followed for
/// those that it did.
pub async fn demote_all(
    index: &dyn Index,
    stage: StageName,
    by: &Record,
    later: &[Twin],
) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::new();
    for twin in later {
        notices.extend(demote(index, by, twin).await?);
    }
    for record in index.repeats_of(by.id()).await?.iter().filter(|record| record.state == State::Repeat) {
        notices.extend(consequences(index, stage, record).await?);
    }
    Ok(notices)
}

/// Makes a later twin yield that was let through before `by` arrived.
///
/// One that is still under way answers for itself when its next stage finds it yielded; one that was answered is
/// revised. One that has yielded to another is let go, if it would rather name this one.
async fn demote(index: &dyn Index, by: &Record, twin: &Twin) -> Result<Vec<Notice>, StoreError> {
    let repeat = repeat_of(&by.image, twin);
    loop {
        let Some(record) = index.get(twin.id).await? else { return Ok(Vec::new()) };
        let mut change = Change { repeat: Some(Some(repeat.clone())), ..Change::to(State::Repeat) };
        match record.state {
            State::Claimed | State::Unique | State::Clustered => {}
            State::Curated | State::Held => {
                change.epoch = Some(record.epoch.next());
                change.prior = Some(if record.state == State::Held { Status::Held } else { Status::Curated });
            }
            State::Repeat if would_rather_name(&record, by, twin.found_by) => return let_go(index, record).await,
            State::Repeat | State::Rejected | State::Fallen => return Ok(Vec::new()),
        }
        if index.change_from(twin.id, &[record.state], &change).await? {
            return Ok(Vec::new());
        }
    }
}

/// Whether a repeat would name an earlier picture in place of the one that it names, if it is proven to repeat both: of those
/// found by fingerprint the earliest, else of those found by vector.
pub fn would_rather_name(repeat: &Record, earlier: &Record, found_by: FoundBy) -> bool {
    let Some(named) = repeat.repeat.as_ref().filter(|named| named.of != earlier.id()) else { return false };
    match (named.found_by, found_by) {
        (FoundBy::Vector { .. }, FoundBy::Fingerprint { .. }) => true,
        (FoundBy::Fingerprint { .. }, FoundBy::Vector { .. }) => false,
        _ => named.of_upload > earlier.order(),
    }
}

/// Makes a picture yield that stood, to an earlier one that it had not been compared with.
pub async fn step_down(index: &dyn Index, stage: StageName, id: ImageId, to: &Twin) -> Result<Vec<Notice>, StoreError> {
    let Some(original) = index.get(to.id).await? else { return Ok(Vec::new()) };
    let mut notices = demote(index, &original, &Twin { id, ..to.clone() }).await?;
    if let Some(record) = index.get(id).await?.filter(|record| record.state == State::Repeat) {
        notices.extend(consequences(index, stage, &record).await?);
    }
    Ok(notices)
}

/// What follows from a picture having yielded: its answers, if it was answered before, the release of its repeats, and a
/// new decision if it yielded wrongly.
async fn consequences(index: &dyn Index, stage: StageName, record: &Record) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::new();
    if let (Some(prior), Some(repeat)) = (record.prior, &record.repeat) {
        let now = Answer::repeats(&record.image, stage, repeat.clone());
        let ended = match prior {
            // It was let go, and yields while it is decided anew. Whom it named before was answered, or is not known any more.
            Status::Duplicate => now.clone(),
            _ => {
                let reason = record.reason.clone().unwrap_or_else(|| prior.as_str().into());
                Answer::about(&record.image, prior, StageName::Organize, reason).scored(record.label_score)
            }
        };
        notices.push(Notice::Answer(Box::new(ended.in_epoch(record.epoch.previous()))));
        notices.push(Notice::Answer(Box::new(now.in_epoch(record.epoch))));
    }
    match record.prior {
        // Whoever let it go may have died before it could say so; and of those that it repeats this may be the wrong one.
        Some(Status::Duplicate) => {
            let image = Image { epoch: record.epoch, ..record.image.clone() };
            notices.push(Notice::Stored(ImageStored { image }));
        }
        _ => notices.extend(look_again(record.clone())),
    }
    notices.extend(release(index, record.id()).await?);
    notices.extend(reconsider(index, record.id()).await?);
    Ok(notices)
}

/// Has the cluster stage look once more at a picture that it has compared with others: what holds for those may have
/// changed with it.
pub fn look_again(record: Record) -> Option<Notice> {
    let space = record.space?;
    let image = Image { epoch: record.epoch, ..record.image };
    Some(Notice::Embedded(ImageEmbedded { image, label_score: record.label_score, space }))
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
