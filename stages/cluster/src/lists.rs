//! Whom a picture is compared with: its *list*, the nearest few earlier pictures that stand.
//!
//! Takes    a record and the space of its vector. Gives its neighbours, its list, and those whose lists it changed.
//! Keeps    one promise: what is published, and whom a repeat names, follows from the lists, whatever was processed first. So
//!          when a picture joins a list or leaves one, the picture whose list it is gets looked at again.
//! Weak at  more than [`LATER_MAX`] pictures that come later and are alike: those beyond are not looked at.

use dih_core::{
    ImageId, UploadSeq,
    event::VectorSpace,
    ports::{Among, Index, NearVector, StoreError},
    record::{Record, State, Summary},
    repeat::FoundBy,
};

use crate::Config;

/// Later pictures that one looks ahead at.
const LATER_MAX: usize = 512;
/// Standing, or a repeat of one that stands.
const COMPARED: [State; 6] =
    [State::Claimed, State::Unique, State::Clustered, State::Curated, State::Held, State::Repeat];

/// A picture among all others.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    id: ImageId,
    order: UploadSeq,
    vector: Vec<f32>,
}

/// A later picture, and its list.
#[derive(Debug)]
pub(crate) struct Junior {
    pub(crate) record: Record,
    /// Cosine to the picture that it comes after.
    pub(crate) cosine: f32,
    pub(crate) list: Vec<NearVector>,
}

impl Junior {
    /// Whether somebody let it go who may have died before it could say so.
    pub(crate) fn was_let_go(&self) -> bool {
        self.record.state == State::Claimed && self.record.repeat.is_some()
    }

    pub(crate) fn lists(&self, id: ImageId) -> bool {
        self.list.iter().any(|n| n.image.id == id)
    }
}

/// The lists of all pictures with a vector in one space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists<'a> {
    pub(crate) index: &'a dyn Index,
    pub(crate) space: &'a VectorSpace,
    pub(crate) config: &'a Config,
}

impl Lists<'_> {
    pub(crate) async fn place(&self, own: impl Into<Summary>) -> Result<Place, StoreError> {
        let own = own.into();
        let missing = || StoreError::NotFound { store: "index", key: format!("{} of {}", self.space.0, own.id) };
        self.find(&own).await?.ok_or_else(missing)
    }

    /// None before its vector is put: then it is on nobody's list.
    pub(crate) async fn find(&self, own: &Summary) -> Result<Option<Place>, StoreError> {
        let vector = self.index.vector(own.id, self.space).await?;
        Ok(vector.map(|vector| Place { id: own.id, order: own.order, vector }))
    }

    /// The earlier pictures near this one that stand, nearest first.
    pub(crate) async fn near(&self, own: &Place) -> Result<Vec<NearVector>, StoreError> {
        Ok(self.around(own).await?.1)
    }

    /// As [`Lists::near`], and itself, if it stands.
    pub(crate) async fn around(&self, own: &Place) -> Result<(Option<NearVector>, Vec<NearVector>), StoreError> {
        let among = Among { until: Some(own.order), ..Among::states(&State::STANDING) };
        let (cosine_min, wanted) = (self.config.cosine_min, self.config.neighbours_max + 1); // itself comes along
        let near = self.index.near_vectors(self.space, &own.vector, cosine_min, among, wanted).await?;
        let (mut itself, others): (Vec<_>, _) = near.into_iter().partition(|n| n.image.id == own.id);
        Ok((itself.pop(), others))
    }

    /// The list of a picture, from its neighbours.
    pub(crate) fn of<'n>(&self, own: &Place, near: &'n [NearVector]) -> Vec<&'n NearVector> {
        let elders = near.iter().filter(|n| n.cosine >= self.config.repeat_cosine_min && n.image.order < own.order);
        elders.take(self.config.candidates_max).collect()
    }

    /// The pictures that came later and are alike enough to have this one on their list.
    pub(crate) async fn later(&self, own: &Place) -> Result<Vec<NearVector>, StoreError> {
        let among = Among { after: Some(own.order), ..Among::states(&COMPARED) };
        self.index.near_vectors(self.space, &own.vector, self.config.repeat_cosine_min, among, LATER_MAX).await
    }

    pub(crate) async fn is_on_list_of(&self, elder: ImageId, junior: &NearVector) -> Result<bool, StoreError> {
        let place = self.place(junior.image.clone()).await?;
        let near = self.near(&place).await?;
        Ok(self.of(&place, &near).iter().any(|n| n.image.id == elder))
    }

    /// Those of the later pictures that were found by vector to repeat another than this one, and have it on their list. Also
    /// those that were let go before.
    pub(crate) async fn misled(&self, own: ImageId, later: &[NearVector]) -> Result<Vec<Junior>, StoreError> {
        let mut misled = Vec::new();
        for junior in self.in_states(&[State::Repeat, State::Claimed], later).await? {
            let named = junior.record.repeat.as_ref().filter(|repeat| repeat.of != own);
            let by_vector = named.is_some_and(|named| matches!(named.found_by, FoundBy::Vector { .. }));
            if by_vector && junior.lists(own) || junior.was_let_go() {
                misled.push(junior);
            }
        }
        Ok(misled)
    }

    /// Later pictures that were decided, or are under decision, without looking beyond `gone`, which stands no more: there may
    /// be one on their list now that was never compared with them, even if the list is not full, for others may have left it at
    /// the same time. Also those that were let go before.
    pub(crate) async fn with_room(&self, gone: &Place) -> Result<Vec<Junior>, StoreError> {
        let mut juniors = self.in_states(&COMPARED, &self.later(gone).await?).await?;
        juniors.retain(|junior| {
            junior.list.last().is_some_and(|last| last.cosine <= junior.cosine) || junior.was_let_go()
        });
        Ok(juniors)
    }

    async fn in_states(&self, states: &[State], later: &[NearVector]) -> Result<Vec<Junior>, StoreError> {
        let mut juniors = Vec::new();
        for NearVector { image, cosine, .. } in later.iter().filter(|n| states.contains(&n.image.state)) {
            // Its state may have changed since.
            let record = self.index.get(image.id).await?.filter(|record| states.contains(&record.state));
            let Some(record) = record else { continue };
            let place = self.place(&record).await?;
            let near = self.near(&place).await?;
            let list = self.of(&place, &near).into_iter().cloned().collect();
            juniors.push(Junior { record, cosine: *cosine, list });
        }
        Ok(juniors)
    }
}
