//! How good a device's photos are: the share of its uploads that are curated. Pure.

use dih_core::verdict::Status;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reputation {
    /// Uploads that were answered.
    pub uploads: u64,
    pub curated: u64,
}

impl Reputation {
    /// `present` is what holds for an upload now.
    pub fn count(&mut self, present: Status) {
        self.uploads += 1;
        self.curated += u64::from(present == Status::Curated);
    }

    /// 0 to 1; None before the first answer.
    pub fn share(self) -> Option<f64> {
        (self.uploads > 0).then(|| self.curated as f64 / self.uploads as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_what_was_answered() {
        let mut reputation = Reputation::default();
        assert_eq!(reputation.share(), None);
        for status in [Status::Curated, Status::Duplicate, Status::Rejected, Status::Curated] {
            reputation.count(status);
        }
        assert_eq!(reputation.share(), Some(0.5));
    }
}
