//! Gets a job done, by whoever owns the home: another process, or this one. Where the index is elsewhere nobody owns it, and
//! this process takes its part, unless `jobs.elsewhere` says that others are there for it.

use std::{future::Future, pin::pin, time::Duration};

use dih_core::StageName;
use tokio::time::sleep;

use crate::{app::App, bus::Bus, crew::Crew, home::Owner, index, output::say, parts::Parts};

/// How often a command looks whether the owner has gone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits for `answer`. While nobody owns the home, and others are not said to do it, this process runs the stages that give it.
pub async fn until<T>(
    app: &App<'_>,
    bus: &Bus,
    command: &str,
    stages: &[StageName],
    answer: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    if app.config.jobs.elsewhere {
        let stages: Vec<&str> = stages.iter().map(|stage| stage.as_str()).collect();
        say(format!("waiting for a process that runs {}", stages.join(", ")));
        return answer.await;
    }
    let home = app.home()?;
    let mut answer = pin!(answer);
    let mut told = false;
    loop {
        let holder = match index::try_own(&home, &app.config.stores, command)? {
            Ok(owner) => return work(app, bus, owner, stages, answer.as_mut()).await,
            Err(holder) => holder,
        };
        if !told {
            say(format!("waiting for {holder}, which is at work in this home"));
            told = true;
        }
        tokio::select! {
            answer = answer.as_mut() => return answer,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn work<T>(
    app: &App<'_>,
    bus: &Bus,
    owner: Option<Owner>,
    stages: &[StageName],
    answer: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let parts = Parts::build(app, bus, owner, stages).await?;
    let mut crew = Crew::start(parts, bus.connection(), &app.config, stages)?;
    tokio::select! {
        answer = answer => {
            let stopped = crew.stop().await;
            answer.and_then(|answer| stopped.map(|()| answer))
        }
        error = crew.failure() => {
            // The others hand back what they have; the first reason is the one that counts.
            let _ = crew.stop().await;
            Err(error)
        }
    }
}
