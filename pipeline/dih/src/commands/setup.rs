//! `dih setup`: makes what the broker needs, and looks whether all tools are there.

use clap::Args;
use serde_json::json;

use crate::{
    app::App,
    bus::{self, Bus},
    model::{self, MAKE_SETUP},
    problem::{Exit, OrProblem},
};

#[derive(Debug, Args)]
pub struct Cmd {}

pub async fn run(app: &App<'_>, Cmd {}: Cmd) -> anyhow::Result<Exit> {
    let home = app.home()?;
    let bus = Bus::connect(&home, &app.config).await?;
    bus.set_up(&app.config.broker).await?;
    let library = app.config.inference.library_path().or_problem("ONNX Runtime is missing", MAKE_SETUP)?;
    let manifest = model::manifest(home.root(), &app.config.model)?;
    let server = match &app.config.broker.url {
        Some(_) => None,
        None => Some(bus::server(&app.config.broker)?),
    };
    if app.out.json {
        app.out.json(&json!({
            "home": home.root(),
            "broker": bus.connection().url(),
            "nats_server": server,
            "onnxruntime": library,
            "model": manifest.model_path(),
        }))?;
        return Ok(Exit::Done);
    }
    app.out.line(format!("home      {}", home.root().display()))?;
    app.out.line(format!("broker    {} is set up", bus.connection().url()))?;
    app.out.line(format!("library   {}", library.display()))?;
    app.out.line(format!("model     {} has its hash", manifest.model_path().display()))?;
    Ok(Exit::Done)
}
