//! Where labels stand in the taxonomy, for the data card. Pure.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use dih_core::Label;

/// Labels listed one by one.
const LABELS_MAX: usize = 200;

/// Tells the paths of a label from the top down, `Entity > Animal > Cat`; nothing, where no taxonomy knows it.
#[derive(Clone)]
pub struct Places(Arc<Lookup>);

type Lookup = dyn Fn(&Label) -> Vec<String> + Send + Sync;

impl Places {
    pub fn new(of: impl Fn(&Label) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    /// A section of the card; empty where no label has a place.
    pub(crate) fn section<'a>(&self, labels: impl Iterator<Item = &'a Label>) -> String {
        let mut text = String::new();
        for label in labels.take(LABELS_MAX) {
            for path in (self.0)(label) {
                writeln!(text, "- {}", crate::card::escape(&path).replace("&gt;", ">"))
                    .expect("a string takes any text");
            }
        }
        if text.is_empty() { text } else { format!("\n## Labels in the taxonomy\n\n{text}") }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Places")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_listed_with_all_their_places_and_none_without() {
        let places = Places::new(|label| match label.as_str() {
            "Cat" => vec!["Animal > Cat".into(), "Pet > Cat".into()],
            _ => Vec::new(),
        });
        let labels = ["Cat", "Thing"].map(|name| Label::new(name).expect("valid"));
        assert_eq!(places.section(labels.iter()), "\n## Labels in the taxonomy\n\n- Animal > Cat\n- Pet > Cat\n");
        assert_eq!(places.section(labels[1..].iter()), "");
    }
}
