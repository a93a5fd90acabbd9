//! What every command is given: the home, the configuration, and where to print.

use std::path::{Path, PathBuf};

use crate::{bus::Bus, cli::Global, config::Config, home::Home, output::Out};

#[derive(Debug)]
pub struct App<'a> {
    home: PathBuf,
    /// The file named by the command line or the environment, if any.
    named_config: Option<PathBuf>,
    pub config: Config,
    pub out: &'a Out,
}

impl<'a> App<'a> {
    /// Reads the configuration; a fault in it stops every command.
    pub fn new(global: &Global, out: &'a Out) -> anyhow::Result<Self> {
        let config = Config::load(&global.home, global.config.as_deref())?;
        Ok(Self { home: global.home.clone(), named_config: global.config.clone(), config, out })
    }

    /// The home folder, made if need be.
    pub fn home(&self) -> anyhow::Result<Home> {
        Home::open(&self.home)
    }

    pub fn home_path(&self) -> &Path {
        &self.home
    }

    /// The configuration file of this run, if there is one.
    pub fn config_file(&self) -> Option<PathBuf> {
        let own = self.home.join("dih.toml");
        self.named_config.clone().or_else(|| own.is_file().then_some(own))
    }

    /// The broker, started if none runs.
    pub async fn bus(&self) -> anyhow::Result<Bus> {
        Bus::attach(&self.home()?, &self.config).await
    }
}
