//! The one binary: puts all parts together and gives them a command line.
//!
//! Takes    a command line ([`cli`]), a home folder ([`home`]) and a configuration ([`config`]).
//! Gives    an exit code that scripts can use ([`problem`]); text for people or JSON for programs ([`output`]).
//! Weak at  the embedded index: it has one owner process, so what needs it waits for `dih run` or does the work itself.

pub mod app;
pub mod bench;
pub mod bus;
pub mod calibrate;
pub mod capacity;
pub mod cli;
pub mod commands;
pub mod config;
pub mod crew;
pub mod home;
pub mod import;
pub mod index;
pub mod model;
pub mod output;
pub mod parts;
pub mod probes;
pub mod problem;
pub mod progress;
pub mod reputation;
pub mod scores;
pub mod secret;
pub mod simulate;
pub mod svg;
pub mod telemetry;
pub mod verdicts;
pub mod vision;
pub mod work;

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    app::App,
    cli::{Cli, Command},
    output::Out,
    problem::{Exit, OrProblem, report},
};

/// Runs one command to its end.
pub fn start(cli: Cli) -> Exit {
    let out = Out::stdout(cli.global.json);
    let done = runtime().or_problem("could not start", "");
    let done = done.and_then(|runtime| {
        let done = runtime.block_on(command(cli, &out));
        // Work on blocking threads cannot be cancelled; whoever waited for it is gone.
        runtime.shutdown_timeout(Duration::from_secs(2));
        done
    });
    let flushed = out.flush().map_err(anyhow::Error::from);
    match done.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) => report(&error),
    }
}

/// What computes has threads of its own, one a core (`work`, inference), so half as many do for what waits. With one a core they
/// wake one another all the time: 2 % of all CPU, and 5 % with a process a stage. TOKIO_WORKER_THREADS knows better.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        runtime.worker_threads(cores.div_ceil(2));
    }
    runtime.enable_all().build()
}

async fn command(cli: Cli, out: &Out) -> anyhow::Result<Exit> {
    use crate::commands::{
        audit, bench, broker_guard, calibrate, capacity, config, count, datasets, dead, device, explain, import,
        models, run, setup, simulate, submit, taxonomy, train, verdicts,
    };
    let command = match cli.command {
        // These must work whatever the configuration says.
        Command::BrokerGuard(cmd) => return broker_guard::run(&cmd),
        Command::Config(config::Cmd { what: config::What::Schema }) => return config::schema(out),
        command => command,
    };
    let app = App::new(&cli.global, out)?;
    let _told = telemetry::start(&app.config.telemetry, cli.global.verbose)?;
    match command {
        Command::Setup(cmd) => setup::run(&app, cmd).await,
        Command::Run(cmd) => run::run(&app, cmd).await,
        Command::Submit(cmd) => submit::run(&app, cmd).await,
        Command::Import(cmd) => import::run(&app, cmd).await,
        Command::Simulate(cmd) => simulate::run(&app, cmd).await,
        Command::Audit(cmd) => audit::run(&app, cmd).await,
        Command::Verdicts(cmd) => verdicts::run(&app, cmd).await,
        Command::Explain(cmd) => explain::run(&app, cmd).await,
        Command::Count(cmd) => count::run(&app, cmd).await,
        Command::Datasets(cmd) => datasets::run(&app, cmd).await,
        Command::Train(cmd) => train::run(&app, cmd).await,
        Command::Dead(cmd) => dead::run(&app, cmd).await,
        Command::Device(cmd) => device::run(&app, cmd).await,
        Command::Config(cmd) => config::run(&app, &cmd),
        Command::Taxonomy(cmd) => taxonomy::run(&app, cmd),
        Command::Models(cmd) => models::run(&app, cmd),
        Command::Bench(cmd) => bench::run(&app, cmd).await,
        Command::Calibrate(cmd) => calibrate::run(&app, cmd).await,
        Command::Capacity(cmd) => capacity::run(&app, &cmd),
        Command::BrokerGuard(cmd) => broker_guard::run(&cmd),
    }
}
