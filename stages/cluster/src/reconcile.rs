//! What a decision of cluster means for others: decisions made meanwhile, or on lists that changed by it, are reconciled, so
//! that what is published does not hang on the order of arrival.
//!
//! Gives    notices for those that are to be decided anew.
//! Crash    safe at any line: a second delivery of the picture that caused it reconciles again.

use dih_core::{
    Epoch, ImageId, Notice, StageError, StageName,
    event::ImageEmbedded,
    ports::NearVector,
    record::{Record, State},
    repeat::{FoundBy, Repeat, Settlement},
};
use dih_repeats::succession;

use crate::{
    Cluster, candidate,
    lists::{Junior, Lists, Place},
};

/// Since when a picture stays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Since<'a> {
    /// `stood`: itself, if others that were put after it could see it all the time, in the place where it is.
    Now { stood: Option<&'a NearVector> },
    /// An earlier try said so.
    Before,
}

impl<'a> Since<'a> {
    /// `itself`: as its neighbours are found. It has stood where it is since its vector was put if it was never decided anew,
    /// and never moved in the order.
    pub(crate) fn now(event: &ImageEmbedded, own: &Record, itself: Option<&'a NearVector>) -> Self {
        let in_place = event.image.epoch == Epoch(0) && own.order() == own.upload();
        Self::Now { stood: itself.filter(|_| in_place) }
    }

    /// Whether a later picture compares itself with this one, or has done so. With many on their way nearly all do.
    fn is_seen_by(&self, later: &NearVector) -> bool {
        matches!(self, Self::Now { stood: Some(itself) } if later.was_put_after(itself))
    }
}

impl Cluster {
    /// Has a picture that stays step down, if it repeats one that has come to its list since it was decided, as another left
    /// it. Gives what follows if so. (Who comes by itself looks ahead.)
    pub(crate) async fn look_back(
        &self,
        own: &Record,
        lists: &Lists<'_>,
        place: &Place,
    ) -> Result<Option<Vec<Notice>>, StageError> {
        let near = lists.near(place).await?;
        match self.settle(own, lists.of(place, &near).into_iter()).await? {
            Settlement::Repeat { of } => {
                Ok(Some(succession::step_down(&*self.index, StageName::Cluster, own.id(), &of).await?))
            }
            Settlement::First { .. } => Ok(None),
        }
    }

    /// What follows for later pictures from one that stays: those that were let through before it yield, a repeat that would name
    /// another by now is decided anew. If it stays since before, also what followed for those that yielded to it then.
    pub(crate) async fn look_ahead(
        &self,
        own: &Record,
        lists: &Lists<'_>,
        later: &[NearVector],
        since: Since<'_>,
    ) -> Result<Vec<Notice>, StageError> {
        let standing = later.iter().filter(|n| n.image.state.stands() && !since.is_seen_by(n));
        let mut yields = Vec::new();
        if let Settlement::First { yields: twins } = self.settle(own, standing).await? {
            for twin in twins {
                let junior = later.iter().find(|n| n.image.id == twin.id);
                if let Some(junior) = junior
                    && lists.is_on_list_of(own.id(), junior).await?
                {
                    yields.push(twin);
                }
            }
        }
        let again = matches!(since, Since::Before);
        let mut notices = match again || !yields.is_empty() {
            true => succession::demote_all(&*self.index, StageName::Cluster, own, &yields).await?,
            false => Vec::new(),
        };
        for twin in &yields {
            // One that was on its way here will not arrive, and may have to name another.
            let space = Some(lists.space.clone());
            let record = self.index.get(twin.id).await?.map(|record| Record { space, ..record });
            notices.extend(record.and_then(succession::look_again));
        }
        for junior in lists.misled(own.id(), later).await? {
            let original = junior.record.repeat.as_ref().map(|repeat| repeat.of);
            let crowded_out = original.is_some_and(|original| !junior.lists(original));
            if junior.was_let_go() || crowded_out || self.is_original_of(own, &junior).await? {
                notices.extend(succession::let_go(&*self.index, junior.record).await?);
            }
        }
        Ok(notices)
    }

    /// Whether a repeat must name this picture, and not whom it names.
    async fn is_original_of(&self, own: &Record, Junior { record, cosine, .. }: &Junior) -> Result<bool, StageError> {
        let candidate = candidate(record.clone(), *cosine);
        Ok(succession::would_rather_name(record, own, candidate.found_by)
            && !self.prover.twins(own, vec![candidate]).await?.is_empty())
    }

    /// Whether a picture that yielded names the right one by its list, if that is not as it was `seen` any more.
    pub(crate) async fn check_name(
        &self,
        id: ImageId,
        lists: &Lists<'_>,
        place: &Place,
        seen: &[&NearVector],
    ) -> Result<Vec<Notice>, StageError> {
        let near = lists.near(place).await?;
        let list: Vec<NearVector> = lists.of(place, &near).into_iter().cloned().collect();
        if !seen.is_empty() && list.iter().map(|n| n.image.id).eq(seen.iter().map(|n| n.image.id)) {
            return Ok(Vec::new());
        }
        match self.index.get(id).await?.filter(|own| own.state == State::Repeat) {
            Some(own) => self.name_again(&own, &list).await,
            None => Ok(Vec::new()),
        }
    }

    /// Has a repeat decided anew that was found by its list, and would name another by it by now, or nobody.
    async fn name_again(&self, own: &Record, list: &[NearVector]) -> Result<Vec<Notice>, StageError> {
        let by_list = |named: &&Repeat| matches!(named.found_by, FoundBy::Vector { .. });
        let Some(named) = own.repeat.as_ref().filter(by_list) else { return Ok(Vec::new()) };
        match self.settle(own, list.iter()).await? {
            Settlement::Repeat { of } if of.id == named.of => Ok(Vec::new()),
            _ => Ok(succession::let_go(&*self.index, own.clone()).await?),
        }
    }

    /// Has those looked at again on whose list a picture was that stands no more.
    pub(crate) async fn leave(&self, gone: &Record, lists: &Lists<'_>) -> Result<Vec<Notice>, StageError> {
        let mut notices = Vec::new();
        let Some(place) = lists.find(&gone.into()).await? else { return Ok(notices) };
        for Junior { record, list, .. } in lists.with_room(&place).await? {
            match record.state {
                State::Claimed => notices.extend(succession::let_go(&*self.index, record).await?),
                State::Repeat => notices.extend(self.name_again(&record, &list).await?),
                _ => notices.extend(succession::look_again(Record { space: Some(lists.space.clone()), ..record })),
            }
        }
        Ok(notices)
    }
}

#[cfg(test)]
mod tests {
    use dih_core::{UploadSeq, record::Summary};

    use super::*;

    fn near(put: Option<u64>) -> NearVector {
        let id = ImageId::from_bytes([1; 16]);
        let image = Summary { id, order: UploadSeq(1), state: State::Unique, labels: [].into(), cluster: None };
        NearVector { image, cosine: 1.0, put }
    }

    #[test]
    fn who_was_put_later_sees_one_that_has_stood_where_it_is() {
        let itself = near(Some(5));
        let stood = Since::Now { stood: Some(&itself) };
        assert!(stood.is_seen_by(&near(Some(6))));
        assert!(!stood.is_seen_by(&near(Some(4))) && !stood.is_seen_by(&near(None)));
        assert!(!Since::Now { stood: Some(&near(None)) }.is_seen_by(&near(Some(6))));
        assert!(!Since::Now { stood: None }.is_seen_by(&near(Some(6))) && !Since::Before.is_seen_by(&near(Some(6))));
    }
}
