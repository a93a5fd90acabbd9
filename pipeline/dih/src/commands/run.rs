//! `dih run`: runs stages in this process, or serves its index to others, until told to stop or until all is settled.

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    pin::pin,
    str::FromStr,
    time::Duration,
};

use clap::Args;
use dih_core::StageName;
use dih_runner::{Health, gauges, idle::wait_until_idle, links};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    bus::Bus,
    crew::Crew,
    index,
    output::say,
    parts::Parts,
    probes,
    problem::{Exit, OrProblem, Problem},
};

/// How often the line for people is written.
const TACT: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Cmd {
    /// Stages to run; all of them when none is named. `index` alone serves the embedded index of this home to other
    /// processes, which name its address in `stores.qdrant.url`.
    #[arg(value_name = "STAGE")]
    parts: Vec<Part>,
    /// End with exit code 0 once nothing waits for these stages and nothing is in work.
    #[arg(long)]
    until_idle: bool,
    /// Answer /live, /ready and /metrics at this address.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// What a process can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Index,
    Stage(StageName),
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "index" => Ok(Self::Index),
            _ => text.parse().map(Self::Stage).map_err(|error: String| format!("{error}, and `index`")),
        }
    }
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    if cmd.parts.contains(&Part::Index) {
        return serve_index(app, cmd).await;
    }
    let named = cmd.parts.iter().filter_map(|part| if let Part::Stage(stage) = part { Some(*stage) } else { None });
    let stages = if cmd.parts.is_empty() { StageName::ALL.to_vec() } else { named.collect() };
    let mut stop = Stop::listen()?;
    // Before anything else: a second `dih run` is told who is at work.
    let owner = index::own(&app.home()?, &app.config.stores, "run")?;
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
        tokio::spawn(gauges::watch(bus.connection().clone(), stages.clone()));
    }
    let healths = crew.healths().to_vec();
    let ended = tokio::select! {
        error = crew.failure() => Err(error),
        error = links(app, &bus, &stages) => Err(error),
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

/// Until told to stop; then what is asked is still answered.
async fn serve_index(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    if cmd.parts.len() > 1 || cmd.until_idle {
        let remedy = "`dih run index`, and stages in processes of their own";
        return Err(Problem::usage("`index` is served by a process of its own, for as long as it runs", remedy).into());
    }
    let mut stop = Stop::listen()?;
    if let Some(at) = cmd.listen {
        let at = probes::listen(at, probes::collect()?, Vec::new()).await?;
        say(format!("answering http://{at}/live, /ready and /metrics"));
    }
    let ending = CancellationToken::new();
    let mut serving = pin!(index::serve(app, ending.clone().cancelled_owned()));
    tokio::select! {
        ended = &mut serving => return ended.map(|()| Exit::Done),
        () = stop.told() => say("answering what was asked; once more Ctrl-C ends at once"),
    }
    ending.cancel();
    tokio::select! {
        ended = serving => ended.map(|()| Exit::Done),
        () = stop.told() => {
            say("ended at once; what was not answered is asked again");
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

/// Tells devices where to put large photos, where their uploads are taken in. Ends with an error only.
async fn links(app: &App<'_>, bus: &Bus, stages: &[StageName]) -> anyhow::Error {
    let serve = async {
        if stages.contains(&StageName::Ingest) {
            links::serve(bus.connection().clone(), bus.blobs(app)?).await?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    serve.await.err().unwrap_or_else(|| anyhow::anyhow!("nobody asks for links any more"))
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
