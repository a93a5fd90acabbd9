//! Which classes of a classifier speak for which label: by name, by a class map, and by the hierarchy. Pure.
//!
//! Takes    the classifier's class names and, for each, the labels it stands for (a class map).
//! Gives    for a label the classes that speak for it: those that stand for it or for a kind of it. Where none does, those
//!          that stand for what it is a kind of, at most [`STEPS_UP_MAX`] steps up: a classifier that only knows `dog`
//!          can tell that a photo of a `Beagle` shows none.
//! Weak at  a label of which the classifier knows few kinds: a person beside a car is no scuba diver. Such a label is
//!          known only where at least half of its direct kinds are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dih_core::Label;

use crate::{Class, FindError, Relation, Taxonomy};

/// Steps from a label up to a class that may speak for it.
const STEPS_UP_MAX: u32 = 2;

/// Classes of a classifier, by the label they speak for.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    by_label: BTreeMap<Label, Vec<usize>>,
}

impl Witness {
    /// `map`: labels of the class with this number. `taxonomy` adds what follows from the hierarchy.
    pub fn new(map: &[(usize, Label)], taxonomy: Option<&Taxonomy>) -> Self {
        let mut by_label: BTreeMap<Label, BTreeSet<usize>> = BTreeMap::new();
        for (class, label) in map {
            by_label.entry(label.clone()).or_default().insert(*class);
        }
        if let Some(taxonomy) = taxonomy {
            by_label = Kin::new(taxonomy, &by_label).all();
        }
        Self { by_label: by_label.into_iter().map(|(label, classes)| (label, classes.into_iter().collect())).collect() }
    }

    /// The classes that speak for a label; None where nobody can tell.
    pub fn speakers(&self, label: &Label) -> Option<&[usize]> {
        self.by_label.get(label).map(Vec::as_slice)
    }
}

struct Kin<'a> {
    taxonomy: &'a Taxonomy,
    /// Classes of the classifier that stand for a class of the taxonomy itself.
    own: HashMap<Class, BTreeSet<usize>>,
    /// What the taxonomy lacks.
    others: BTreeMap<Label, BTreeSet<usize>>,
    known: HashMap<Class, bool>,
}

impl<'a> Kin<'a> {
    fn new(taxonomy: &'a Taxonomy, by_label: &BTreeMap<Label, BTreeSet<usize>>) -> Self {
        let (mut own, mut others) = (HashMap::<Class, BTreeSet<usize>>::new(), BTreeMap::new());
        for (label, classes) in by_label {
            match taxonomy.find(label.as_str()) {
                Ok(class) => own.entry(class).or_default().extend(classes),
                Err(FindError::Unknown { .. } | FindError::Several { .. }) => {
                    others.insert(label.clone(), classes.clone());
                }
            }
        }
        Self { taxonomy, own, others, known: HashMap::new() }
    }

    fn all(mut self) -> BTreeMap<Label, BTreeSet<usize>> {
        let mut found = std::mem::take(&mut self.others);
        for class in 0..self.taxonomy.classes.len() as Class {
            let speakers = self.speakers(class);
            if !speakers.is_empty() {
                found.insert(self.taxonomy.classes.label(class).clone(), speakers);
            }
        }
        found
    }

    fn speakers(&mut self, class: Class) -> BTreeSet<usize> {
        let tree = &self.taxonomy.tree;
        if self.knows(class) {
            return tree.kinds(class).iter().filter_map(|kind| self.own.get(kind)).flatten().copied().collect();
        }
        let up = tree.ancestors(class);
        let nearest = up.iter().filter(|(_, steps)| *steps <= STEPS_UP_MAX).find(|(up, _)| self.own.contains_key(up));
        nearest.and_then(|(up, _)| self.own.get(up)).cloned().unwrap_or_default()
    }

    /// Whether a class stands for it, or enough of its kinds are known.
    fn knows(&mut self, class: Class) -> bool {
        if self.own.contains_key(&class) {
            return true;
        }
        if let Some(known) = self.known.get(&class) {
            return *known;
        }
        let kinds: Vec<Class> = self.taxonomy.tree.children(class, Relation::Kind).collect();
        let known = kinds.iter().filter(|kind| self.knows(**kind)).count();
        let knows = !kinds.is_empty() && known * 2 >= kinds.len();
        self.known.insert(class, knows);
        knows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Classes, Tree};

    fn label(name: &str) -> Label {
        Label::new(name).expect("valid")
    }

    /// Animal over Cat, Dog, Fish; Dog over Beagle over Pocket beagle; Person over Man, Woman, Diver.
    fn taxonomy() -> Taxonomy {
        let mut taxonomy = Taxonomy { classes: Classes::default(), tree: Tree::default() };
        for (parent, child) in [
            ("Entity", "Animal"),
            ("Entity", "Person"),
            ("Animal", "Cat"),
            ("Animal", "Dog"),
            ("Animal", "Fish"),
            ("Dog", "Beagle"),
            ("Beagle", "Pocket beagle"),
            ("Person", "Man"),
            ("Person", "Woman"),
            ("Person", "Diver"),
        ] {
            let (parent, child) =
                (taxonomy.classes.push_named(label(parent)), taxonomy.classes.push_named(label(child)));
            taxonomy.tree.put(parent, Relation::Kind, child);
        }
        taxonomy
    }

    #[track_caller] // class 0 is a cat, 1 and 2 are dogs, 3 is a diver, 4 is of no taxonomy
    fn check(name: &str, want: Option<&[usize]>) {
        let map = [(0, "Cat"), (1, "Dog"), (2, "Dog"), (3, "Diver"), (4, "Gizmo")].map(|(n, name)| (n, label(name)));
        assert_eq!(Witness::new(&map, Some(&taxonomy())).speakers(&label(name)), want);
    }

    #[test]
    fn a_class_speaks_for_its_label_and_for_what_that_is_a_kind_of() {
        check("Dog", Some(&[1, 2]));
        check("Animal", Some(&[0, 1, 2]));
        check("Gizmo", Some(&[4]));
    }

    #[test]
    fn a_class_speaks_for_finer_labels_where_nothing_finer_is_known() {
        check("Beagle", Some(&[1, 2]));
        check("Pocket beagle", Some(&[1, 2]));
        check("Fish", None);
    }

    #[test]
    fn of_a_label_with_few_known_kinds_nobody_can_tell() {
        check("Person", None);
        check("Entity", Some(&[0, 1, 2, 3]));
        check("Man", None);
    }

    #[test]
    fn without_a_hierarchy_only_the_map_speaks() {
        let witness = Witness::new(&[(3, label("Cat"))], None);
        assert_eq!(witness.speakers(&label("Cat")), Some(&[3][..]));
        assert_eq!(witness.speakers(&label("Animal")), None);
    }
}
