//! Reads the files of a taxonomy.
//!
//! Classes    CSV without a heading, or with `LabelName,DisplayName`: `id,name`, as Open Images publishes them.
//! Hierarchy  JSON: `{"LabelName": …, "Subcategory": [{…}], "Part": [{…}]}`, as Open Images publishes it; or CSV with
//!            the heading `label,parent` or `label,parent,relation`, the relation being `kind` (as without) or `part`.
//!            Both name a class by its id; where no class descriptions are given, by its label.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use dih_core::Label;
use serde::Deserialize;

use crate::{
    Class, Classes, Relation, Taxonomy, Tree,
    classes::{Described, is_id},
    rows::{Refused, Rows},
};

/// The top of the hierarchy of Open Images, which its class descriptions do not name.
const ENTITY: (&str, &str) = ("/m/0bl9f", "Entity");

#[derive(Debug, thiserror::Error)]
pub enum TaxonomyError {
    #[error("could not read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{path}` line {line} {problem}")]
    Row { path: PathBuf, line: u64, problem: String },
    #[error("`{path}` is no hierarchy of labels: JSON with `LabelName`, or CSV with the heading `label,parent`")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{path}` names `{name}`, which no class description knows")]
    Unknown { path: PathBuf, name: String },
    #[error("`{path}` runs in a circle: {circle}; a class cannot stand below itself")]
    Circle { path: PathBuf, circle: String },
}

/// Reads class descriptions, a hierarchy, or both. A taxonomy with a fault is refused, so that no selection is half.
pub fn load(classes: Option<&Path>, hierarchy: Option<&Path>) -> Result<Taxonomy, TaxonomyError> {
    let mut known = Classes::default();
    if let Some(path) = classes {
        let mut described = Described::default();
        let row =
            |refused: Refused| TaxonomyError::Row { path: path.into(), line: refused.line, problem: refused.problem };
        describe(BufReader::new(open(path)?), |read| match read {
            Ok((line, id, name)) => described.add(id, name).map_err(|problem| row(Refused { line, problem })),
            Err(refused) => Err(row(refused)),
        })
        .map_err(|source| TaxonomyError::Read { path: path.into(), source })??;
        known.extend(described);
    }
    let mut taxonomy = Taxonomy { classes: known, tree: Tree::default() };
    if let Some(path) = hierarchy {
        read_hierarchy(&mut taxonomy, path)?;
    }
    Ok(taxonomy)
}

/// Hands out the rows of class descriptions until one is an error: line, id and name.
pub fn describe<E>(
    reader: impl std::io::BufRead,
    mut take: impl FnMut(Result<(u64, &str, &str), Refused>) -> Result<(), E>,
) -> std::io::Result<Result<(), E>> {
    let mut rows = Rows::new(reader);
    while let Some(row) = rows.next(Some(2))? {
        let taken = match row {
            Ok(row) if row.line == 1 && row.cell(0) == "LabelName" => Ok(()),
            Ok(row) => take(Ok((row.line, row.cell(0), row.cell(1)))),
            Err(refused) => take(Err(refused)),
        };
        if let Err(error) = taken {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// Adds a hierarchy to classes that are known.
pub fn read_hierarchy(taxonomy: &mut Taxonomy, path: &Path) -> Result<u64, TaxonomyError> {
    let mut text = Vec::new();
    open(path)?.read_to_end(&mut text).map_err(|source| TaxonomyError::Read { path: path.into(), source })?;
    let mut naming = Naming { described: !taxonomy.classes.is_empty(), taxonomy, path };
    let places = match text.starts_with(b"label,parent") {
        true => naming.csv(&text)?,
        false => {
            let node: Node =
                serde_json::from_slice(&text).map_err(|source| TaxonomyError::Json { path: path.into(), source })?;
            naming.node(&node)?.1
        }
    };
    if let Some(circle) = taxonomy.tree.circle() {
        let names: Vec<&str> = circle.iter().map(|class| taxonomy.classes.label(*class).as_str()).collect();
        return Err(TaxonomyError::Circle { path: path.into(), circle: names.join(" > ") });
    }
    Ok(places)
}

fn open(path: &Path) -> Result<File, TaxonomyError> {
    File::open(path).map_err(|source| TaxonomyError::Read { path: path.into(), source })
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "LabelName")]
    name: String,
    #[serde(rename = "Subcategory", default)]
    kinds: Vec<Node>,
    #[serde(rename = "Part", default)]
    parts: Vec<Node>,
}

struct Naming<'a> {
    taxonomy: &'a mut Taxonomy,
    path: &'a Path,
    /// Whether classes are named by the ids of their descriptions.
    described: bool,
}

impl Naming<'_> {
    /// The class of a node, and how many places are in it and below.
    fn node(&mut self, node: &Node) -> Result<(Class, u64), TaxonomyError> {
        let class = self.class(&node.name)?;
        let mut places = 1;
        let below =
            node.kinds.iter().map(|n| (Relation::Kind, n)).chain(node.parts.iter().map(|n| (Relation::Part, n)));
        for (relation, child) in below {
            let (child, more) = self.node(child)?;
            self.taxonomy.tree.put(class, relation, child);
            places += more;
        }
        Ok((class, places))
    }

    fn csv(&mut self, text: &[u8]) -> Result<u64, TaxonomyError> {
        let path = self.path;
        let mut rows = Rows::new(text);
        let mut width = None;
        let mut places = 0;
        let row =
            |refused: Refused| TaxonomyError::Row { path: path.into(), line: refused.line, problem: refused.problem };
        while let Some(read) = rows.next(width).map_err(|source| TaxonomyError::Read { path: path.into(), source })? {
            let read = read.map_err(row)?;
            if width.is_none() {
                width = Some(read.len());
                continue;
            }
            let relation = match read.cell(2) {
                "" | "kind" => Relation::Kind,
                "part" => Relation::Part,
                other => {
                    let problem = format!("has the relation `{other}`, which is neither `kind` nor `part`");
                    return Err(row(Refused { line: read.line, problem }));
                }
            };
            let (label, parent) = (read.cell(0).to_owned(), read.cell(1).to_owned());
            let (child, parent) = (self.class(&label)?, self.class(&parent)?);
            self.taxonomy.tree.put(parent, relation, child);
            places += 1;
        }
        Ok(places)
    }

    fn class(&mut self, name: &str) -> Result<Class, TaxonomyError> {
        let classes = &mut self.taxonomy.classes;
        if let Some(class) = classes.by_id(name) {
            return Ok(class);
        }
        if name == ENTITY.0 {
            return Ok(classes.push_id(name, ENTITY.1));
        }
        match Label::new(name) {
            Ok(label) if !self.described && !is_id(name) => Ok(classes.push_named(label)),
            Ok(label) if classes.by_label(&label).is_some() => Ok(classes.push_named(label)),
            _ => Err(TaxonomyError::Unknown { path: self.path.into(), name: name.chars().take(80).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CLASSES: &str = "/m/1,Animal\n/m/2,Cat\n/m/3,Tabby cat\n/m/4,Paw\n";

    fn read(classes: Option<&str>, hierarchy: &str) -> Result<Taxonomy, TaxonomyError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (c, h) = (dir.path().join("c.csv"), dir.path().join("h"));
        fs::write(&c, classes.unwrap_or_default()).expect("writable");
        fs::write(&h, hierarchy).expect("writable");
        load(classes.map(|_| c.as_path()), Some(&h))
    }

    #[test]
    fn the_published_json_and_the_plain_csv_say_the_same() {
        let json = r#"{"LabelName": "/m/0bl9f", "Subcategory": [{"LabelName": "/m/1", "Subcategory": [
            {"LabelName": "/m/2", "Subcategory": [{"LabelName": "/m/3"}], "Part": [{"LabelName": "/m/4"}]}]}]}"#;
        let csv = "label,parent,relation\n/m/1,/m/0bl9f,kind\n/m/2,/m/1,kind\n/m/3,/m/2,\n/m/4,/m/2,part\n";
        for text in [json, csv] {
            let taxonomy = read(Some(CLASSES), text).expect("a hierarchy");
            assert_eq!(taxonomy.places("Tabby cat"), ["Entity > Animal > Cat > Tabby cat"]);
            assert_eq!(taxonomy.places("/m/4"), ["Entity > Animal > Cat > Paw"]);
        }
    }

    #[test]
    fn without_descriptions_a_class_is_its_label() {
        let taxonomy = read(None, "label,parent\nspaniel,dog\ndog,animal\n").expect("a hierarchy");
        assert_eq!(taxonomy.places("spaniel"), ["animal > dog > spaniel"]);
    }

    #[track_caller]
    fn check(classes: Option<&str>, hierarchy: &str, want: &str) {
        let error = read(classes, hierarchy).expect_err("a fault").to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn what_is_no_taxonomy_is_named() {
        check(None, "label,parent\na,b\nb,a\n", "circle: ");
        check(None, "label,parent,relation\na,b,friend\n", "line 2 has the relation `friend`");
        check(None, "label,parent\na\n", "line 2 has 1 cells");
        check(None, "[]", "no hierarchy");
        check(Some(CLASSES), "label,parent\n/m/9,/m/1\n", "`/m/9`");
        check(Some("/m/1,Cat\n/m/1,Dog\n"), "label,parent\n", "line 2");
    }
}
