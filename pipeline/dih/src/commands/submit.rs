//! `dih submit`: sends one photo.

use std::{fs, path::PathBuf};

use clap::Args;
use dih_core::{
    DeviceId, Label,
    event::{Content, Upload},
};

use crate::{
    app::App,
    problem::{Exit, OrProblem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// The photo.
    file: PathBuf,
    /// What it shows; once for each label.
    #[arg(long = "label", required = true, value_name = "LABEL")]
    labels: Vec<Label>,
    /// Who sends it.
    #[arg(long, default_value = "cli")]
    device: DeviceId,
    /// What else is known of it, KEY=VALUE: `licence=CC0-1.0`.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = super::pair)]
    attributes: Vec<(String, String)>,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let what = format!("could not read `{}`", cmd.file.display());
    let bytes = fs::read(&cmd.file).or_problem(what, "name a file that is there and that you may read")?;
    let upload = Upload {
        device: cmd.device,
        labels: cmd.labels,
        content: Content::Inline(bytes.into()),
        source: Some(cmd.file.display().to_string()),
        captured_at: None,
        attributes: cmd.attributes.into_iter().collect(),
    };
    // Every call is an upload of its own: no name that the broker could know already.
    let name = format!("submit-{}-{}", std::process::id(), dih_core::Millis::now().0);
    let sent = app.bus().await?.submit(upload, &name).await?;
    match app.out.json {
        true => app.out.json(&serde_json::json!({ "upload": sent.upload }))?,
        false => {
            app.out.line(format!("upload {}; `dih explain {}` tells what became of it", sent.upload, sent.upload))?
        }
    }
    Ok(Exit::Done)
}
