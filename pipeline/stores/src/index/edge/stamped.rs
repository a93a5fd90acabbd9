//! Writes that come over the network: each with a stamp, by which a writer knows whether it was the last.

use dih_core::{ImageId, ports::StoreError};

use super::EdgeIndex;
use crate::index::qdrant::point::{Stamp, Stamped};

impl EdgeIndex {
    pub(crate) fn stamped(&self, id: ImageId) -> Result<Option<Stamped>, StoreError> {
        // The stamps first: with stamps that are older than the record a swap changes nothing, the other way round it
        // would undo what came in between.
        let stamps = self.records().stamps(id)?;
        Ok(self.records().get(id)?.map(|record| Stamped { record, stamps }))
    }

    /// Inserts the record if its id is free.
    pub(crate) fn claim_stamped(&self, claim: &Stamped) -> Result<(), StoreError> {
        self.records().claim_stamped(&claim.record, &claim.stamps)
    }

    /// Writes over the record whose last stamp is this one; over no other.
    pub(crate) fn swap(&self, last: Stamp, after: &Stamped) -> Result<bool, StoreError> {
        self.records().swap(last, &after.record, &after.stamps)
    }
}
