//! Class descriptions: ids with the names that people read, and the labels that the stream carries.
//!
//! Takes    rows `id,name`. Gives one label an id, and no label twice.
//! How      a label is the name. Where a name stands for several ids (268 names of the 19,995 of Open Images do: `Viola`
//!          the flower, `Viola` the instrument), each of them carries its id: `Viola (m.014sg5)`. A name of a later file
//!          never changes the label of an earlier one.

use std::collections::{HashMap, HashSet};

use dih_core::Label;

/// Place of a class in [`Classes`].
pub type Class = u32;

/// All classes that are known by name.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    ids: Vec<String>,
    names: Vec<String>,
    labels: Vec<Label>,
    by_id: HashMap<String, Class>,
    by_label: HashMap<Label, Class>,
    by_name: HashMap<String, Vec<Class>>,
}

/// Classes of one file, before they have labels.
#[derive(Debug, Default)]
pub struct Described {
    rows: Vec<(String, String)>,
    ids: HashMap<String, usize>,
}

/// Why a row describes no class.
pub type Problem = String;

impl Described {
    /// Adds a class of this file; a second row of one id may only say the same.
    pub fn add(&mut self, id: &str, name: &str) -> Result<(), Problem> {
        if !is_id(id) {
            return Err(format!("`{}` is no label id such as `/m/01yrx`", short(id)));
        }
        if tidy(name).is_empty() {
            return Err(format!("`{id}` has no name"));
        }
        match self.ids.get(id).map(|at| &self.rows[*at].1) {
            Some(first) if first != name => Err(format!("`{id}` is named `{}` before", short(first))),
            Some(_) => Ok(()),
            None => {
                self.ids.insert(id.to_owned(), self.rows.len());
                self.rows.push((id.to_owned(), name.to_owned()));
                Ok(())
            }
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Classes {
    /// Adds the classes of a file; ids that are known keep their labels, other names of them are found, too.
    pub fn extend(&mut self, described: Described) {
        let mut count: HashMap<String, u32> = HashMap::new();
        for (_, name) in described.rows.iter().filter(|(id, _)| !self.by_id.contains_key(id)) {
            *count.entry(folded(name)).or_default() += 1;
        }
        let before: HashSet<String> = self.labels.iter().map(|label| folded(label.as_str())).collect();
        for (id, name) in described.rows {
            let key = folded(&name);
            if let Some(&class) = self.by_id.get(&id) {
                let named = self.by_name.entry(key).or_default();
                if !named.contains(&class) {
                    named.push(class);
                }
                continue;
            }
            let alone = count.get(&key) == Some(&1) && !before.contains(&key);
            let label = if alone { label(&name, None) } else { label(&name, Some(&id)) };
            self.push(id, name, label);
        }
    }

    /// Adds a class that is known by its label alone.
    pub(crate) fn push_named(&mut self, label: Label) -> Class {
        match self.by_label.get(&label) {
            Some(class) => *class,
            None => self.push(label.to_string(), label.to_string(), label),
        }
    }

    /// Names a class that the descriptions lack.
    pub(crate) fn push_id(&mut self, id: &str, name: &str) -> Class {
        match self.by_id.get(id) {
            Some(class) => *class,
            None if self.by_name.contains_key(&folded(name)) => {
                self.push(id.to_owned(), name.to_owned(), label(name, Some(id)))
            }
            None => self.push(id.to_owned(), name.to_owned(), label(name, None)),
        }
    }

    fn push(&mut self, id: String, name: String, label: Label) -> Class {
        let class = self.ids.len() as Class;
        self.by_id.insert(id.clone(), class);
        self.by_label.insert(label.clone(), class);
        self.by_name.entry(folded(&name)).or_default().push(class);
        self.ids.push(id);
        self.names.push(name);
        self.labels.push(label);
        class
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub fn id(&self, class: Class) -> &str {
        &self.ids[class as usize]
    }

    pub fn name(&self, class: Class) -> &str {
        &self.names[class as usize]
    }

    pub fn label(&self, class: Class) -> &Label {
        &self.labels[class as usize]
    }

    pub fn by_id(&self, id: &str) -> Option<Class> {
        self.by_id.get(id).copied()
    }

    pub fn by_label(&self, label: &Label) -> Option<Class> {
        self.by_label.get(label).copied()
    }

    /// All classes of this name, whatever its case, hyphens and spaces.
    pub fn by_name(&self, name: &str) -> &[Class] {
        self.by_name.get(&folded(name)).map_or(&[], Vec::as_slice)
    }
}

/// `/m/01yrx`, `/g/1172hxxrk`.
pub fn is_id(text: &str) -> bool {
    let tail = text.strip_prefix("/m/").or_else(|| text.strip_prefix("/g/"));
    tail.is_some_and(|t| (1..=24).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// Names that differ in case, hyphens or spaces only are one.
pub fn folded(name: &str) -> String {
    let spaced = tidy(name).to_lowercase().replace(['-', '_'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name without what a label may not hold: `Fiat x1/9` becomes `Fiat x1-9`.
fn tidy(name: &str) -> String {
    let plain = name.replace(['/', '\\', ';'], "-");
    let plain: String = plain.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ").trim_start_matches('.').trim().to_owned()
}

const LABEL_CHARS_MAX: usize = 120;

fn label(name: &str, id: Option<&str>) -> Label {
    let end = id.map(|id| format!(" ({})", id.trim_start_matches('/').replace('/', "."))).unwrap_or_default();
    let room = LABEL_CHARS_MAX.saturating_sub(end.chars().count());
    let head: String = tidy(name).chars().take(room).collect();
    Label::new(format!("{}{end}", head.trim())).expect("a tidy name of this length is a label")
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(files: &[&[(&str, &str)]]) -> Classes {
        let mut classes = Classes::default();
        for file in files {
            let mut described = Described::default();
            for (id, name) in *file {
                described.add(id, name).expect("a class");
            }
            classes.extend(described);
        }
        classes
    }

    #[track_caller]
    fn check(classes: &Classes, id: &str, want: &str) {
        let class = classes.by_id(id).expect("described");
        assert_eq!(classes.label(class).as_str(), want);
        assert_eq!(classes.by_label(classes.label(class)), Some(class));
    }

    #[test]
    fn a_name_of_several_ids_is_told_apart_by_them() {
        let found = classes(&[&[("/m/01", "Viola"), ("/m/02", "viola "), ("/m/03", "Cello")]]);
        check(&found, "/m/01", "Viola (m.01)");
        check(&found, "/m/02", "viola (m.02)");
        check(&found, "/m/03", "Cello");
        assert_eq!(found.by_name("VIOLA"), [0, 1]);
    }

    #[test]
    fn a_later_file_adds_classes_and_names_but_changes_no_label() {
        let found = classes(&[&[("/m/01", "Cat")], &[("/m/01", "House cat"), ("/g/02", "cat"), ("/g/03", "Dog")]]);
        check(&found, "/m/01", "Cat");
        check(&found, "/g/02", "cat (g.02)");
        check(&found, "/g/03", "Dog");
        assert_eq!(found.by_name("house-cat"), [0]);
    }

    #[test]
    fn names_that_no_label_may_hold_are_made_fit() {
        let found = classes(&[&[("/m/01", "Fiat x1/9"), ("/m/02", " Anole"), ("/m/03", "Iraqi passport/")]]);
        check(&found, "/m/01", "Fiat x1-9");
        check(&found, "/m/02", "Anole");
        check(&found, "/m/03", "Iraqi passport-");
        let long = "ß".repeat(200);
        assert_eq!(classes(&[&[("/m/01", &long), ("/m/02", &long)]]).label(1).as_str().chars().count(), 120);
    }

    #[test]
    fn rows_that_describe_nothing_are_refused() {
        let mut described = Described::default();
        described.add("/m/01", "Cat").expect("a class");
        assert!(described.add("/m/01", "Cat").is_ok(), "the same again");
        assert!(described.add("/m/01", "Dog").expect_err("another name").contains("Cat"));
        assert!(described.add("m01", "Dog").is_err());
        assert!(described.add("/m/02", " . ").expect_err("no name").contains("no name"));
    }
}
