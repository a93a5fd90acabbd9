//! Whether a picture will be refused for its quality whatever it repeats.
//!
//! The rules are those of a later stage, and looking them up costs nothing: so it is told them, and knows no stage.

use std::{fmt, sync::Arc};

use dih_core::event::Image;

/// Tells the code of the rule that a picture breaks, if it breaks one.
#[derive(Clone)]
pub struct Foresight(Arc<Rules>);

type Rules = dyn Fn(&Image) -> Option<&'static str> + Send + Sync;

impl Foresight {
    pub fn new(broken: impl Fn(&Image) -> Option<&'static str> + Send + Sync + 'static) -> Self {
        Self(Arc::new(broken))
    }

    pub(crate) fn breach(&self, image: &Image) -> Option<&'static str> {
        (self.0)(image)
    }
}

impl Default for Foresight {
    /// Foresees nothing.
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl fmt::Debug for Foresight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Foresight").finish_non_exhaustive()
    }
}
