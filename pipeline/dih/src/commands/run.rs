//! `dih run`: runs stages in this process until told to stop, or until all is settled.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    time::Duration,
};

use clap::Args;
use dih_core::StageName;
use dih_runner::{Health, idle::wait_until_idle};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    bus::Bus,
    crew::Crew,
    output::say,
    parts::Parts,
    probes,
    problem::{Exit, OrProblem},
};

/// How often the line for people is written.
const TACT: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Cmd {
    /// Stages to run; all of them when none is named.
    #[arg(value_name = "STAGE")]
    stages: Vec<StageName>,
    /// End with exit code 0 once nothing waits for these stages and nothing is in work.
    #[arg(long)]
    until_idle: bool,
    /// Answer /live, /ready and /metrics at this address.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let stages = if cmd.stages.is_empty() { StageName::ALL.to_vec() } else { cmd.stages.clone() };
    let mut stop = Stop::listen()?;
    // Before anything else: a second `dih run` is told who is at work.
    let owner = app.home()?.own("run")?;
    let metrics = cmd.listen.map(|_| probes::collect()).transpose()?;
    let started = async {
        let bus = app.bus().await?;
        let parts = Parts::build(app, &bus, owner, &stages).await?;
        let crew = Crew::start(parts, bus.connection(), &app.config, &stages)?;
        anyhow::Ok((bus, crew))
    };
    let (bus, mut crew) = tokio::select! {
        started = started => started?,
        () = stop.told() => return Ok(ended_early(&cmd)),
    };
    if let (Some(at), Some(metrics)) = (cmd.listen, metrics) {
        let at = probes::listen(at, metrics, crew.healths().to_vec()).await?;
        say(format!("answering http://{at}/live, /ready and /metrics"));
    }
    let healths = crew.healths().to_vec();
    let ended = tokio::select! {
        error = crew.failure() => Err(error),
        () = stop.told() => {
            say("finishing what is in work; once more Ctrl-C ends at once");
            Ok(ended_early(&cmd))
        }
        settled = settled(&bus, &stages, cmd.until_idle) => settled.map(|()| Exit::Done),
        () = show(&healths) => Ok(Exit::Done),
    };
    if io::stderr().is_terminal() {
        say(""); // leaves the line that showed how far the stages are
    }
    tokio::select! {
        stopped = crew.stop() => ended.and_then(|exit| stopped.map(|()| exit)),
        () = stop.told() => {
            say("ended at once; what was in work is handed out again");
            Ok(Exit::Failed)
        }
    }
}

/// Told to stop is a good end, except for who was to go on until all is settled.
fn ended_early(cmd: &Cmd) -> Exit {
    if cmd.until_idle { Exit::Partly } else { Exit::Done }
}

/// SIGTERM and Ctrl-C.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).or_problem("could not listen for signals", "");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends when all is settled, if that is asked for.
async fn settled(bus: &Bus, stages: &[StageName], until_idle: bool) -> anyhow::Result<()> {
    match until_idle {
        true => wait_until_idle(bus.connection(), stages, CancellationToken::new()).await?,
        false => std::future::pending().await,
    };
    Ok(())
}

/// Shows for ever how far the stages are, where a person looks.
async fn show(healths: &[Health]) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut tact = interval(TACT);
    tact.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tact.tick().await;
        let mut terminal = io::stderr();
        // A terminal that went away is no reason to stop.
        let _ = write!(terminal, "\r\x1b[K{}", line(healths)).and_then(|()| terminal.flush());
    }
}

/// `ingest 120+3  dedupe 117  …`: answered, and in work.
fn line(healths: &[Health]) -> String {
    let part = |health: &Health| {
        let counts = health.counts();
        let in_work = if counts.in_flight > 0 { format!("+{}", counts.in_flight) } else { String::new() };
        format!("{} {}{in_work}", health.consumer(), counts.answered)
    };
    healths.iter().map(part).collect::<Vec<_>>().join("  ")
}
