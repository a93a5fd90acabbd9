//! Settings of the taxonomy.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Taxonomy, TaxonomyError, load};

/// Labels that are known, and their hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// CSV of class descriptions, `id,name`, such as `class-descriptions.csv` of Open Images.
    pub classes: Option<PathBuf>,
    /// Hierarchy of the classes: JSON as Open Images publishes it, or CSV with the heading `label,parent,relation`.
    pub hierarchy: Option<PathBuf>,
}

impl Config {
    /// None where no file is named.
    pub fn load(&self) -> Result<Option<Taxonomy>, TaxonomyError> {
        match (&self.classes, &self.hierarchy) {
            (None, None) => Ok(None),
            (classes, hierarchy) => load(classes.as_deref(), hierarchy.as_deref()).map(Some),
        }
    }
}
