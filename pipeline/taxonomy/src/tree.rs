//! Which class is a kind of which, and which a part. Pure.
//!
//! Takes    pairs of classes. Gives a graph without circles; a class may have several parents.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::Class;

/// How a class stands below another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// A cat is a kind of animal (`Subcategory`).
    Kind,
    /// A wheel is a part of a bicycle (`Part`).
    Part,
}

#[derive(Clone, Debug, Default)]
pub struct Tree {
    below: HashMap<Class, BTreeSet<(Relation, Class)>>,
    above: HashMap<Class, BTreeSet<(Relation, Class)>>,
}

impl Tree {
    pub(crate) fn put(&mut self, parent: Class, relation: Relation, child: Class) {
        self.below.entry(parent).or_default().insert((relation, child));
        self.above.entry(child).or_default().insert((relation, parent));
    }

    pub fn is_empty(&self) -> bool {
        self.below.is_empty()
    }

    /// Whether it stands anywhere in the tree.
    pub fn holds(&self, class: Class) -> bool {
        self.below.contains_key(&class) || self.above.contains_key(&class)
    }

    pub fn children(&self, class: Class, relation: Relation) -> impl Iterator<Item = Class> {
        Self::related(&self.below, class, relation)
    }

    pub fn parents(&self, class: Class, relation: Relation) -> impl Iterator<Item = Class> {
        Self::related(&self.above, class, relation)
    }

    fn related(
        map: &HashMap<Class, BTreeSet<(Relation, Class)>>,
        class: Class,
        relation: Relation,
    ) -> impl Iterator<Item = Class> {
        map.get(&class).into_iter().flatten().filter(move |(r, _)| *r == relation).map(|(_, class)| *class)
    }

    /// The class and all kinds of it, to any depth; its parts are no kinds of it.
    pub fn kinds(&self, class: Class) -> BTreeSet<Class> {
        let mut found = BTreeSet::from([class]);
        let mut next = vec![class];
        while let Some(class) = next.pop() {
            next.extend(self.children(class, Relation::Kind).filter(|child| found.insert(*child)));
        }
        found
    }

    /// What the class is a kind of, with the least number of steps up, the nearest first.
    pub fn ancestors(&self, class: Class) -> Vec<(Class, u32)> {
        let mut found: Vec<(Class, u32)> = Vec::new();
        let mut seen = BTreeSet::from([class]);
        let mut next = VecDeque::from([(class, 0)]);
        while let Some((class, steps)) = next.pop_front() {
            for parent in self.parents(class, Relation::Kind).filter(|parent| seen.insert(*parent)) {
                found.push((parent, steps + 1));
                next.push_back((parent, steps + 1));
            }
        }
        found
    }

    /// Ways from a top class down to this one, at most `most`, each by its kinds (by a part only where no kind leads up).
    pub fn paths(&self, class: Class, most: usize) -> Vec<Vec<Class>> {
        let mut done = Vec::new();
        let mut open = vec![vec![class]];
        while let Some(path) = open.pop() {
            let top = path[path.len() - 1];
            let mut up: Vec<Class> = self.parents(top, Relation::Kind).collect();
            if up.is_empty() {
                up.extend(self.parents(top, Relation::Part));
            }
            if up.is_empty() {
                done.push(path.into_iter().rev().collect());
                if done.len() == most {
                    break;
                }
                continue;
            }
            for parent in up.into_iter().rev() {
                let mut longer = path.clone();
                longer.push(parent);
                open.push(longer);
            }
        }
        done
    }

    /// A circle, if there is one: each stands below the one before it, and the first below the last.
    pub(crate) fn circle(&self) -> Option<Vec<Class>> {
        let mut done: BTreeSet<Class> = BTreeSet::new();
        let mut tops: Vec<Class> = self.below.keys().copied().collect();
        tops.sort_unstable();
        for top in tops {
            let mut path: Vec<(Class, Vec<Class>)> = vec![(top, self.all_below(top))];
            while let Some((class, rest)) = path.last_mut() {
                match rest.pop() {
                    None => {
                        done.insert(*class);
                        path.pop();
                    }
                    Some(child) if done.contains(&child) => {}
                    Some(child) => {
                        if let Some(at) = path.iter().position(|(class, _)| *class == child) {
                            return Some(path[at..].iter().map(|(class, _)| *class).collect());
                        }
                        path.push((child, self.all_below(child)));
                    }
                }
            }
        }
        None
    }

    fn all_below(&self, class: Class) -> Vec<Class> {
        self.below.get(&class).into_iter().flatten().map(|(_, child)| *child).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 over 1 and 2, both over 3; 4 is a part of 3.
    fn diamond() -> Tree {
        let mut tree = Tree::default();
        for (parent, child) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
            tree.put(parent, Relation::Kind, child);
        }
        tree.put(3, Relation::Part, 4);
        tree
    }

    #[test]
    fn kinds_are_found_to_any_depth_and_once_and_parts_are_none() {
        assert_eq!(diamond().kinds(0), BTreeSet::from([0, 1, 2, 3]));
        assert_eq!(diamond().kinds(4), BTreeSet::from([4]));
    }

    #[test]
    fn ancestors_come_nearest_first() {
        assert_eq!(diamond().ancestors(3), [(1, 1), (2, 1), (0, 2)]);
        assert!(diamond().ancestors(4).is_empty());
    }

    #[test]
    fn every_place_of_a_class_is_a_path() {
        assert_eq!(diamond().paths(3, 8), [vec![0, 1, 3], vec![0, 2, 3]]);
        assert_eq!(diamond().paths(4, 1), [vec![0, 1, 3, 4]]);
    }

    #[test]
    fn a_circle_is_found_and_a_diamond_is_none() {
        assert_eq!(diamond().circle(), None);
        let mut tree = diamond();
        tree.put(3, Relation::Part, 1);
        assert_eq!(tree.circle().map(BTreeSet::from_iter), Some(BTreeSet::from([1, 3])));
        let mut own = Tree::default();
        own.put(7, Relation::Kind, 7);
        assert_eq!(own.circle(), Some(vec![7]));
    }
}
