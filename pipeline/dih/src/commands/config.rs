//! `dih config`: prints, checks and describes the configuration.

use clap::{Args, Subcommand};

use crate::{app::App, config::Config, output::Out, problem::Exit};

#[derive(Debug, Args)]
pub struct Cmd {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// Print all settings as they hold now, with their comments.
    Print {
        /// Print the defaults, whatever the file says.
        #[arg(long)]
        defaults: bool,
    },
    /// Look for faults; a faulty file is named with every fault and exit code 2.
    Check,
    /// Print the JSON schema of the configuration file.
    Schema,
}

pub fn run(app: &App<'_>, cmd: &Cmd) -> anyhow::Result<Exit> {
    match cmd.what {
        What::Print { defaults } => {
            let defaults = defaults.then(Config::default);
            let config = defaults.as_ref().unwrap_or(&app.config);
            match app.out.json {
                true => app.out.json(config)?,
                false => app.out.line(config.print()?.trim_end())?,
            }
        }
        // A faulty file has stopped the command before it came here.
        What::Check => match (app.config_file(), app.out.json) {
            (file, true) => app.out.json(&serde_json::json!({ "file": file, "faults": [] }))?,
            (Some(file), false) => app.out.line(format!("`{}` has no fault", file.display()))?,
            (None, false) => app.out.line("there is no configuration file; the defaults hold")?,
        },
        What::Schema => return schema(app.out),
    }
    Ok(Exit::Done)
}

/// The JSON schema; needs no configuration.
pub fn schema(out: &Out) -> anyhow::Result<Exit> {
    out.line(serde_json::to_string_pretty(&schemars::schema_for!(Config))?)?;
    Ok(Exit::Done)
}
