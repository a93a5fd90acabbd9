//! The labels that are known, by id and name, and how they stand to each other.
//!
//! Takes    class descriptions and a hierarchy, those of Open Images or others in the same simple form (see [`read`]).
//! Gives    the label of an id, the kinds of a label, its place; and which classes of a classifier speak for it.
//! Weak at  19,393 of the 19,995 classes of Open Images: its hierarchy holds the 602 that have boxes, so the others have
//!          neither kinds nor parents.

pub mod classes;
mod config;
pub mod map;
mod read;
pub mod rows;
mod tree;
pub mod witness;

use std::collections::BTreeSet;

use dih_core::Label;

pub use crate::{
    classes::{Class, Classes},
    config::Config,
    read::{TaxonomyError, describe, load, read_hierarchy},
    tree::{Relation, Tree},
};

/// Paths that are shown of a class that stands in several places.
const PATHS_MAX: usize = 8;

/// Labels and their hierarchy.
#[derive(Clone, Debug, Default)]
pub struct Taxonomy {
    pub classes: Classes,
    pub tree: Tree,
}

/// A label that is not found, or stands for several classes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error("the taxonomy knows no `{text}`")]
    Unknown { text: String },
    #[error("`{text}` stands for several classes: `{}`; name one of them", labels.join("`, `"))]
    Several { text: String, labels: Vec<String> },
}

impl Taxonomy {
    /// The class of a label, an id, or a name of one class only, in any case.
    pub fn find(&self, text: &str) -> Result<Class, FindError> {
        let label = Label::new(text).ok().and_then(|label| self.classes.by_label(&label));
        if let Some(class) = label.or_else(|| self.classes.by_id(text)) {
            return Ok(class);
        }
        match self.classes.by_name(text) {
            [] => Err(FindError::Unknown { text: text.into() }),
            [class] => Ok(*class),
            several => {
                let labels = several.iter().map(|class| self.classes.label(*class).to_string()).collect();
                Err(FindError::Several { text: text.into(), labels })
            }
        }
    }

    /// The labels of the class and of all kinds of it.
    pub fn kinds(&self, class: Class) -> BTreeSet<Label> {
        self.tree.kinds(class).into_iter().map(|kind| self.classes.label(kind).clone()).collect()
    }

    /// Where a label stands, from the top down: `Entity > Animal > Cat`. Empty where it is not in the hierarchy.
    pub fn places(&self, label: &str) -> Vec<String> {
        let Ok(class) = self.find(label) else { return Vec::new() };
        if !self.tree.holds(class) {
            return Vec::new();
        }
        let name = |class: &Class| self.classes.label(*class).as_str();
        let path = |path: Vec<Class>| path.iter().map(name).collect::<Vec<_>>().join(" > ");
        self.tree.paths(class, PATHS_MAX).into_iter().map(path).collect()
    }
}
