//! `dih broker-guard`: keeps the embedded broker running while somebody uses it.

use std::path::PathBuf;

use clap::Args;
use dih_runner::broker::{Options, guard_main};

use crate::problem::Exit;

#[derive(Debug, Args)]
pub struct Cmd {
    guarded: PathBuf,
    nats_server: PathBuf,
    options: Options,
}

pub fn run(cmd: &Cmd) -> anyhow::Result<Exit> {
    guard_main(&cmd.guarded, &cmd.nats_server, &cmd.options)?;
    Ok(Exit::Done)
}
