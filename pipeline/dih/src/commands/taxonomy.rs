//! `dih taxonomy`: looks at the labels that are known, and maps classes of a classifier to them.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use dih_core::Label;
use dih_taxonomy::{Class, Relation, Taxonomy, map};
use serde_json::json;

use crate::{
    app::App,
    problem::{Exit, OrProblem, Problem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show where a label stands, and what stands below it.
    Show {
        /// Label, id or name.
        label: String,
    },
    /// Print a class map: which labels the classes of a classifier stand for, by name and hierarchy.
    Map {
        /// One class a line, in the order of the classifier's scores, its names separated by `, `.
        #[arg(long, value_name = "FILE")]
        classes: PathBuf,
        /// Class map of what to put in; labels with `-` before them are taken out.
        #[arg(long, value_name = "CSV")]
        corrections: Option<PathBuf>,
    },
}

pub fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let taxonomy = taxonomy(app)?;
    match cmd.what {
        What::Show { label } => show(app, &taxonomy, &label),
        What::Map { classes, corrections } => print_map(app, &taxonomy, &classes, corrections.as_deref()),
    }
}

/// The taxonomy of this run; a [`Problem`] where there is none.
pub fn taxonomy(app: &App<'_>) -> anyhow::Result<Taxonomy> {
    let remedy = "name class descriptions and a hierarchy with `[taxonomy]` in the configuration";
    let loaded = app.config.taxonomy.load().or_problem("the taxonomy cannot be used", remedy)?;
    loaded.ok_or_else(|| Problem::usage("there is no taxonomy", remedy).into())
}

/// The label and all kinds of it, by the taxonomy of this run.
pub fn kinds(app: &App<'_>, labels: &[Label]) -> anyhow::Result<Vec<Label>> {
    let taxonomy = taxonomy(app)?;
    let mut all = std::collections::BTreeSet::new();
    for label in labels {
        all.extend(taxonomy.kinds(find(&taxonomy, label.as_str())?));
    }
    Ok(all.into_iter().collect())
}

fn find(taxonomy: &Taxonomy, text: &str) -> anyhow::Result<Class> {
    let found = taxonomy.find(text);
    found.map_err(|error| Problem::usage(error.to_string(), "`dih taxonomy show LABEL` shows what is known").into())
}

fn show(app: &App<'_>, taxonomy: &Taxonomy, text: &str) -> anyhow::Result<Exit> {
    let class = find(taxonomy, text)?;
    let label = taxonomy.classes.label(class);
    let names = |classes: &mut dyn Iterator<Item = Class>| -> Vec<&Label> {
        let mut names: Vec<_> = classes.map(|class| taxonomy.classes.label(class)).collect();
        names.sort();
        names
    };
    let kinds = names(&mut taxonomy.tree.kinds(class).into_iter().filter(|kind| *kind != class));
    let parts = names(&mut taxonomy.tree.children(class, Relation::Part));
    let (id, places) = (taxonomy.classes.id(class), taxonomy.places(label.as_str()));
    if app.out.json {
        app.out.json(&json!({ "label": label, "id": id, "places": places, "kinds": kinds, "parts": parts }))?;
        return Ok(Exit::Done);
    }
    app.out.line(app.out.bold(&format!("{label}  {id}")))?;
    places.iter().try_for_each(|place| app.out.line(place))?;
    for (what, labels) in [("kinds", kinds), ("parts", parts)] {
        if !labels.is_empty() {
            let list: Vec<&str> = labels.iter().map(|label| label.as_str()).collect();
            app.out.line(format!("{what}: {}", list.join(", ")))?;
        }
    }
    Ok(Exit::Done)
}

fn print_map(
    app: &App<'_>,
    taxonomy: &Taxonomy,
    classes: &std::path::Path,
    corrections: Option<&std::path::Path>,
) -> anyhow::Result<Exit> {
    let what = format!("could not read `{}`", classes.display());
    let text = fs::read_to_string(classes).or_problem(what, "name a file with one class a line")?;
    let classes: Vec<String> = text.lines().map(str::to_owned).collect();
    let corrections = match corrections {
        Some(path) => {
            map::read(path, classes.len()).or_problem("the corrections cannot be used", "correct the line")?
        }
        None => Vec::new(),
    };
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(["class", "name", "label"])?;
    for row in map::build(&classes, taxonomy, &corrections) {
        out.write_record([&row.class.to_string(), &row.name, &row.label])?;
    }
    let text = String::from_utf8(out.into_inner().map_err(|e| e.into_error())?)?;
    app.out.line(text.trim_end())?;
    Ok(Exit::Done)
}
