//! Whom a picture is compared with: its *list*, the nearest few earlier pictures that stand.
//!
//! Takes    a record and the space of its vector. Gives its neighbours, its list, and those whose lists it changed.
//! Keeps    one promise: what is published follows from the lists, whatever was processed first. So when a picture joins
//!          a list or leaves one, the picture whose list it is gets looked at again.
//! Weak at  more than [`WIDE`] neighbours: a picture that comes late misses those beyond.

use dih_core::{
    ImageId, UploadSeq,
    event::VectorSpace,
    ports::{Index, NearVector, StoreError},
    record::{Record, State, Summary},
    repeat::FoundBy,
};

use crate::Config;

/// Neighbours that a picture reads which comes late among many.
const WIDE: usize = 512;
/// Decided by this stage, and standing.
const DECIDED: [State; 3] = [State::Clustered, State::Curated, State::Held];

/// A picture among all others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    id: ImageId,
    order: UploadSeq,
}

impl From<&Record> for Place {
    fn from(record: &Record) -> Self {
        Self { id: record.id(), order: record.order() }
    }
}

impl From<&Summary> for Place {
    fn from(image: &Summary) -> Self {
        Self { id: image.id, order: image.order }
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
    /// The standing pictures near this one, nearest first, without itself.
    pub(crate) async fn near(&self, own: impl Into<Place>) -> Result<Vec<NearVector>, StoreError> {
        let own = own.into();
        let vector = self.vector(own.id).await?;
        let mut wanted = self.config.neighbours_max + 1; // itself comes along
        loop {
            let cosine_min = self.config.cosine_min;
            let near = self.index.near_vectors(self.space, &vector, cosine_min, &State::STANDING, wanted).await?;
            let crowded = near.len() == wanted && near.iter().any(|n| n.image.order > own.order);
            if !crowded || wanted >= WIDE {
                return Ok(near.into_iter().filter(|n| n.image.id != own.id).collect());
            }
            // It comes late, among many that came after it: all of them must be seen.
            wanted = WIDE;
        }
    }

    /// The list of a picture, from its neighbours.
    pub(crate) fn of<'n>(&self, own: impl Into<Place>, near: &'n [NearVector]) -> Vec<&'n NearVector> {
        let order = own.into().order;
        let elders = near.iter().filter(|n| self.alike(n) && n.image.order < order);
        elders.take(self.config.candidates_max).collect()
    }

    /// Its neighbours that came later and are alike enough to have it on their list.
    pub(crate) fn juniors<'n>(&self, own: &Record, near: &'n [NearVector]) -> impl Iterator<Item = &'n NearVector> {
        near.iter().filter(move |n| self.alike(n) && n.image.order > own.order())
    }

    /// Whether nobody can have missed the picture, nor it anybody: none came later, and all on its list are decided.
    pub(crate) fn calm(&self, own: &Record, near: &[NearVector]) -> bool {
        self.juniors(own, near).next().is_none() && self.of(own, near).iter().all(|n| DECIDED.contains(&n.image.state))
    }

    pub(crate) async fn is_on_list_of(&self, elder: ImageId, junior: impl Into<Place>) -> Result<bool, StoreError> {
        let junior = junior.into();
        let near = self.near(junior).await?;
        Ok(self.of(junior, &near).iter().any(|n| n.image.id == elder))
    }

    /// Later repeats whose original has fallen off their list since `own` is on it. Also those that were let go before.
    pub(crate) async fn crowded_out(&self, own: &Record) -> Result<Vec<Record>, StoreError> {
        let vector = self.vector(own.id()).await?;
        let states = [State::Repeat, State::Claimed];
        let alike_min = self.config.repeat_cosine_min;
        let near = self.index.near_vectors(self.space, &vector, alike_min, &states, WIDE).await?;
        let mut out = Vec::new();
        for NearVector { image, cosine } in near.into_iter().filter(|n| n.image.order > own.order()) {
            // Its state may have changed since.
            let record = self.index.get(image.id).await?.filter(|record| states.contains(&record.state));
            let Some(record) = record else { continue };
            let Some(repeat) = &record.repeat else { continue };
            let nearer = matches!(repeat.found_by, FoundBy::Vector { cosine: of } if cosine > of);
            if nearer && !self.is_on_list_of(repeat.of, &record).await? {
                out.push(record);
            }
        }
        Ok(out)
    }

    /// Later pictures that were decided without looking beyond `gone`, which stands no more: there is one on their list
    /// now that may never have been compared with them.
    pub(crate) async fn with_room(&self, gone: &Record) -> Result<Vec<Record>, StoreError> {
        let near = self.near(gone).await?;
        let mut room = Vec::new();
        for junior in self.juniors(gone, &near).filter(|n| DECIDED.contains(&n.image.state)) {
            let near = self.near(&junior.image).await?;
            let list = self.of(&junior.image, &near);
            let full = list.len() == self.config.candidates_max;
            if full && list.last().is_some_and(|last| last.cosine <= junior.cosine) {
                let record = self.index.get(junior.image.id).await?;
                room.extend(record.filter(|record| DECIDED.contains(&record.state)));
            }
        }
        Ok(room)
    }

    fn alike(&self, near: &NearVector) -> bool {
        near.cosine >= self.config.repeat_cosine_min
    }

    async fn vector(&self, id: ImageId) -> Result<Vec<f32>, StoreError> {
        let missing = || StoreError::NotFound { store: "index", key: format!("{} of {id}", self.space.0) };
        self.index.vector(id, self.space).await?.ok_or_else(missing)
    }
}
