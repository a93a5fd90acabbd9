//! Class maps: which labels a class of a classifier stands for.
//!
//! A file is CSV with the heading `class,name,label`: the number of the class, its name for people, and a label of the
//! taxonomy by its id (or the label itself); a class may have several rows, or none.
//!
//! A map is built by name: a class stands for the label that one of its names is. Of a name of several words that is no
//! label (`tabby cat`), the ending counts (`Cat`), but only where the hierarchy holds it: English compounds carry their
//! kind last. A correction (`-` before the label) takes out what is named alike but is something else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use dih_core::Label;

use crate::{
    Class, Taxonomy,
    classes::{folded, is_id},
    rows::Rows,
};

#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("could not read the class map `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("class map `{path}` line {line} {problem}")]
    Row { path: PathBuf, line: u64, problem: String },
}

/// A row of a class map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub class: usize,
    pub name: String,
    /// An id or a label; with `-` before it in a correction that takes it out.
    pub label: String,
}

/// Reads a class map of `classes` classes.
pub fn read(path: &Path, classes: usize) -> Result<Vec<Mapped>, MapError> {
    let text = std::fs::read(path).map_err(|source| MapError::Read { path: path.into(), source })?;
    parse(&text, classes).map_err(|(line, problem)| MapError::Row { path: path.into(), line, problem })
}

/// Reads the text of a class map; a fault is a line and what is wrong with it.
pub fn parse(text: &[u8], classes: usize) -> Result<Vec<Mapped>, (u64, String)> {
    let mut rows = Rows::new(text);
    let mut mapped = Vec::new();
    while let Some(row) = rows.next(Some(3)).map_err(|e| (0, e.to_string()))? {
        let row = row.map_err(|refused| (refused.line, refused.problem))?;
        if row.line == 1 {
            if row.cells().ne(["class", "name", "label"]) {
                return Err((1, "is not the heading `class,name,label`".into()));
            }
            continue;
        }
        let class = row.cell(0).parse().ok().filter(|class| *class < classes);
        let class = class.ok_or_else(|| (row.line, format!("`{}` is no class below {classes}", row.cell(0))))?;
        mapped.push(Mapped { class, name: row.cell(1).into(), label: row.cell(2).into() });
    }
    Ok(mapped)
}

/// The labels that a map names, each by its class. An id that the taxonomy does not know has no label here, and is left
/// out; what is no id is a label itself.
pub fn labels(map: &[Mapped], taxonomy: Option<&Taxonomy>) -> Result<Vec<(usize, Label)>, String> {
    let mut labels = Vec::with_capacity(map.len());
    for row in map {
        let known = taxonomy.and_then(|t| t.classes.by_id(&row.label).map(|class| t.classes.label(class).clone()));
        match known {
            Some(label) => labels.push((row.class, label)),
            None if is_id(&row.label) => {}
            None => {
                let label = Label::new(row.label.as_str()).map_err(|e| format!("class {}: {e}", row.class))?;
                labels.push((row.class, label));
            }
        }
    }
    Ok(labels)
}

/// Builds a map for classes whose names are separated by commas, as in `tabby, tabby cat`.
pub fn build(classes: &[String], taxonomy: &Taxonomy, corrections: &[Mapped]) -> Vec<Mapped> {
    let mut named: BTreeMap<usize, BTreeSet<Class>> = BTreeMap::new();
    for (number, names) in classes.iter().enumerate() {
        named.entry(number).or_default().extend(by_name(names, taxonomy));
    }
    for row in corrections {
        let (out, text) = match row.label.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, row.label.as_str()),
        };
        let (Ok(class), Some(labels)) = (taxonomy.find(text), named.get_mut(&row.class)) else { continue };
        match out {
            true => drop(labels.remove(&class)),
            false => drop(labels.insert(class)),
        }
    }
    let row = |(class, label): (usize, Class)| Mapped {
        class,
        name: classes[class].split(',').next().unwrap_or_default().trim().to_owned(),
        label: taxonomy.classes.id(label).to_owned(),
    };
    named.into_iter().flat_map(|(class, labels)| labels.into_iter().map(move |l| (class, l))).map(row).collect()
}

fn by_name(names: &str, taxonomy: &Taxonomy) -> BTreeSet<Class> {
    let mut found = BTreeSet::new();
    let names: Vec<String> = names.split(',').map(folded).collect();
    for name in &names {
        found.extend(one(name, taxonomy, false));
    }
    if found.iter().any(|class| taxonomy.tree.holds(*class)) {
        return found;
    }
    // Nothing that the hierarchy holds: what kind of thing is it, by the last words of its longest names?
    for name in &names {
        let words: Vec<&str> = name.split(' ').collect();
        let kind = (1..words.len()).find_map(|from| one(&words[from..].join(" "), taxonomy, true));
        found.extend(kind);
    }
    found
}

/// The class of this name. Of several the one that the hierarchy holds; several of those are nobody's.
fn one(name: &str, taxonomy: &Taxonomy, held: bool) -> Option<Class> {
    let all = taxonomy.classes.by_name(name);
    let in_tree: Vec<Class> = all.iter().copied().filter(|class| taxonomy.tree.holds(*class)).collect();
    match (&in_tree[..], all) {
        ([class], _) => Some(*class),
        ([], [class]) if !held => Some(*class),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Classes, Relation, Tree, classes::Described};

    fn taxonomy() -> Taxonomy {
        let mut described = Described::default();
        for (id, name) in [
            ("/m/1", "Animal"),
            ("/m/2", "Cat"),
            ("/m/3", "Sea lion"),
            ("/m/4", "Lion"),
            ("/m/5", "Tabby"),
            ("/m/6", "Crane"),
            ("/m/7", "Crane"),
        ] {
            described.add(id, name).expect("a class");
        }
        let mut classes = Classes::default();
        classes.extend(described);
        let mut tree = Tree::default();
        (1..4).for_each(|child| tree.put(0, Relation::Kind, child));
        Taxonomy { classes, tree }
    }

    #[track_caller]
    fn check(names: &str, want: &[&str]) {
        let map = build(&[names.to_owned()], &taxonomy(), &[]);
        assert_eq!(map.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), want, "{names}");
    }

    #[test]
    fn a_class_is_what_it_is_named_or_what_its_name_ends_in() {
        check("cat", &["/m/2"]);
        check("tabby, tabby cat", &["/m/2", "/m/5"]);
        check("sea lion", &["/m/3"]);
        check("mountain-lion", &["/m/4"]);
        check("crane", &[]);
        check("catfish", &[]);
    }

    #[test]
    fn corrections_put_in_and_take_out() {
        let row = |label: &str| Mapped { class: 0, name: String::new(), label: label.into() };
        let map = build(&["cat".into()], &taxonomy(), &[row("-/m/2"), row("Lion")]);
        assert_eq!(map.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), ["/m/4"]);
    }

    #[test]
    fn faults_of_a_map_are_named_by_their_line() {
        for (text, line) in [("a,b,c\n", 1), ("class,name,label\n5,x,y\n", 2), ("class,name,label\n0,x\n", 2)] {
            assert_eq!(parse(text.as_bytes(), 5).expect_err("a fault").0, line);
        }
        let map = parse(b"class,name,label\n0,cat,/m/2\n1,x,Own label\n1,x,/m/99\n", 2).expect("a map");
        assert_eq!(labels(&map, None).expect("labels").len(), 1, "an id without a taxonomy has no name");
        let labels = labels(&map, Some(&taxonomy())).expect("labels");
        assert_eq!(labels.iter().map(|(n, l)| (*n, l.as_str())).collect::<Vec<_>>(), [(0, "Cat"), (1, "Own label")]);
    }
}
