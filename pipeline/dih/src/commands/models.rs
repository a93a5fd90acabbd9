//! `dih models`: which models there are, and whether they can be used.

use clap::{Args, Subcommand};
use dih_inference::{Engine, Manifest};
use serde::Serialize;

use crate::{
    app::App,
    model::{self, MAKE_SETUP},
    output::Table,
    problem::{Exit, OrProblem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the models with size, licence and source.
    Ls,
    /// Hold the file against its hash, load it, and run it once.
    Check,
}

#[derive(Serialize)]
struct Row {
    name: String,
    precision: String,
    input: u32,
    embedding: Option<usize>,
    classes: Option<usize>,
    licence: String,
    source: String,
    file: String,
}

impl From<&Manifest> for Row {
    fn from(manifest: &Manifest) -> Self {
        Self {
            name: manifest.name.clone(),
            precision: manifest.precision.clone(),
            input: manifest.input.size,
            embedding: manifest.outputs.embedding.as_ref().map(|o| o.dim),
            classes: manifest.outputs.logits.as_ref().map(|o| o.dim),
            licence: manifest.licence.clone(),
            source: manifest.source.clone(),
            file: manifest.model_path().display().to_string(),
        }
    }
}

pub fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let manifest = model::manifest(app.home()?.root(), &app.config.model)?;
    let row = Row::from(&manifest);
    match cmd.what {
        What::Ls if app.out.json => app.out.json(&row)?,
        What::Ls => {
            let number = |n: Option<usize>| n.map_or("-".to_owned(), |n| n.to_string());
            let mut table = Table::new(["model", "precision", "input", "embedding", "classes", "licence", "file"]);
            let (embedding, classes) = (number(row.embedding), number(row.classes));
            table.row([row.name, row.precision, row.input.to_string(), embedding, classes, row.licence, row.file]);
            app.out.table(&table)?;
        }
        What::Check => {
            let library = app.config.inference.library_path().or_problem("ONNX Runtime cannot be used", MAKE_SETUP)?;
            Engine::load(manifest, &app.config.inference).or_problem("the model cannot be run", MAKE_SETUP)?;
            match app.out.json {
                true => app.out.json(&serde_json::json!({ "model": row, "library": library, "runs": true }))?,
                false => {
                    app.out.line(format!("`{}` has its hash, loads and runs ({})", row.name, library.display()))?
                }
            }
        }
    }
    Ok(Exit::Done)
}
