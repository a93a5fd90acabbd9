//! `dih count`: how many photos there are of what, to choose a data set by.

use clap::{Args, ValueEnum};
use dih_core::{
    Label,
    ports::{Counted, Facet, Select},
    record::State,
};
use serde_json::json;

use crate::{
    app::App,
    index, model,
    output::Table,
    problem::{Exit, OrProblem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// What to count.
    #[arg(long, default_value = "label")]
    by: By,
    /// Photos in any of these states; all states without.
    #[arg(long, value_delimiter = ',', value_name = "STATE,…", value_parser = state)]
    states: Vec<State>,
    /// Photos that show any of these; all labels without.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    labels: Vec<Label>,
    /// Photos with this attribute; may be given more than once.
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = super::pair)]
    attributes: Vec<(String, String)>,
    /// Most lines: those with most photos.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    most: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Label,
    State,
    Attribute,
}

fn state(text: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::as_str).join(", ");
    State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("write one of {}", names()))
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let home = app.home()?;
    let _owner = index::own(&home, &app.config.stores, "count")?;
    let manifest = model::manifest(home.root(), &app.config.model)?;
    let index = index::open(&home, &app.config.stores, vec![model::space(&manifest)?]).await?;
    let Cmd { by, states, labels, attributes, most } = cmd;
    let (facet, heading) = match by {
        By::Label => (Facet::Label, "label"),
        By::State => (Facet::State, "state"),
        By::Attribute => (Facet::Attribute, "attribute"),
    };
    let select = Select { states, labels, attributes: attributes.into_iter().collect() };
    let counted = index.facet(facet, &select, most as usize).await;
    let counted = counted.or_problem("could not count photos", "look at the index: `dih setup --check`")?;
    let mut table = Table::new([heading, "photos"]);
    for Counted { key, value, records } in counted {
        match app.out.json {
            true => app.out.json(&json!({ "key": key, "value": value, "photos": records }))?,
            false => {
                let name = key.map_or_else(|| value.clone(), |key| format!("{key}={value}"));
                table.row([name, records.to_string()]);
            }
        }
    }
    match (app.out.json, table.is_empty()) {
        (true, _) => {}
        (false, true) => app.out.line("there is no such photo")?,
        (false, false) => app.out.table(&table)?,
    }
    Ok(Exit::Done)
}
