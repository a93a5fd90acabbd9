//! A broker of our own, where none runs: one `nats-server` for all commands that share a home.
//!
//! Takes    a home directory and the `nats-server` binary. Gives a URL that is good as long as the [`Broker`] is held.
//! Keeps    `<home>/broker/`: configuration, keys, JetStream's files, the port, the log, and three lock files.
//! Crash    safe at any line. A guard of its own session starts the server, restarts it when it dies, and stops it when
//!          the last user is gone: users hold a shared lock, which the kernel releases even after kill -9.
//! Weak at  a guard that is killed leaves its server behind; the next command replaces both.
//!
//! Durability: everything is in the operating system's hands before it is acknowledged, so killed processes lose
//! nothing. It is forced to the disk every [`SYNC_INTERVAL`]: a power cut may cost what was acknowledged within it.

mod accounts;
mod files;
mod guard;
pub mod keys;
mod server;

use std::{
    fmt,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    time::Duration,
};

use dih_core::{Class, Classify, device::Device};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use self::files::{Files, Lock};
pub use self::{
    accounts::{inbox_prefix, users},
    guard::guard_main,
};
use crate::{Access, error::Cause};

/// How often the server forces its files to the disk; see the module on what that means.
pub const SYNC_INTERVAL: &str = "1s";
/// Largest message, in bytes.
pub const PAYLOAD_BYTES_MAX: u64 = 8 << 20;
/// Name of the hidden subcommand that must call [`guard_main`].
pub const GUARD_COMMAND: &str = "broker-guard";

/// Longest wait for a server to answer; after a crash it first reads its files again.
const START_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// What the running server was started with.
const OPTIONS: &str = "options.json";

/// Where it listens beside loopback; nowhere, unless told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// For NATS; the hub's own connections come here too.
    pub listen: Option<SocketAddr>,
    pub mqtt: Option<SocketAddr>,
    /// Of both.
    pub tls: Option<Tls>,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde_json::to_string(self).map_err(|_| fmt::Error)?.fmt(f)
    }
}

impl FromStr for Options {
    type Err = serde_json::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("there is no `nats-server` at {}; run `make setup`, or set `broker.url` to a broker that runs", path.display())]
    NoServer { path: PathBuf },
    #[error("could not {action} {}", path.display())]
    Files { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the keys in {} cannot be used; while nothing runs in this home, remove the file, and others are made", path.display())]
    Keys { path: PathBuf, source: Cause },
    #[error("the broker does not take its users anew: {words}")]
    Users { words: String },
    #[error("could not make keys")]
    MakeKeys { source: Cause },
    #[error("could not start {}", path.display())]
    Start { path: PathBuf, source: std::io::Error },
    #[error("the broker does not answer; the last words in {}:\n{words}", log.display())]
    NoAnswer { log: PathBuf, words: String },
}

impl Classify for BrokerError {
    fn class(&self) -> Class {
        Class::Halt
    }
}

/// The right to use the home's broker. It stops some time after the last of these is dropped.
#[derive(Debug)]
pub struct Broker {
    url: String,
    access: Access,
    files: Files,
    _user: File,
}

impl Broker {
    /// Starts the home's broker unless it runs. The current executable must know [`GUARD_COMMAND`].
    pub async fn attach(home: &Path, nats_server: &Path, options: &Options) -> Result<Self, BrokerError> {
        let path = PathBuf::from("/proc/self/exe");
        let executable = std::env::current_exe();
        let executable = executable.map_err(|source| BrokerError::Files { action: "find", path, source })?;
        let mut guard = Command::new(executable);
        guard.arg(GUARD_COMMAND);
        Self::attach_with(home, nats_server, options, guard).await
    }

    /// `guard` is a command that calls [`guard_main`] with the three arguments that are added here: the home and the
    /// binary, both absolute, and the options.
    pub async fn attach_with(
        home: &Path,
        nats_server: &Path,
        options: &Options,
        mut guard: Command,
    ) -> Result<Self, BrokerError> {
        let files = Files::make(home)?;
        let nats_server = nats_server.canonicalize().map_err(|_| BrokerError::NoServer { path: nats_server.into() })?;
        // One starter at a time. Held until the server answers.
        let _starting = files.lock(Lock::Start).until(Instant::now() + START_MAX).await?;
        // Waits here while a guard whose last user has gone stops its server.
        let user = files.share(Lock::Users).until(Instant::now() + START_MAX).await?;
        let mut started = None;
        let until = Instant::now() + START_MAX;
        loop {
            if started.is_none() && !files.is_locked(Lock::Guard)? {
                started = Some(start_guard(&mut guard, &files, &nats_server, options)?);
            }
            // A guard that is being killed still held its lock a moment ago: so it is looked at once more.
            if let Some(port) = server::answering_port(&files).await
                && files.is_locked(Lock::Guard)?
            {
                tracing::debug!(port, home = %home.display(), "attached to the broker");
                if files.read(OPTIONS).is_some_and(|running| running != options.to_string()) {
                    tracing::warn!(
                        "the broker listens where it was told before; it moves once nobody uses it any more"
                    );
                }
                let access = Access::Nkey(files.hub_seed()?);
                let scheme = if options.tls.is_some() { "tls" } else { "nats" };
                return Ok(Self { url: format!("{scheme}://127.0.0.1:{port}"), access, files, _user: user });
            }
            let gave_up = started.as_mut().is_some_and(|guard| !matches!(guard.try_wait(), Ok(None)));
            if gave_up || Instant::now() >= until {
                return Err(BrokerError::NoAnswer { log: files.log(), words: files.last_words() });
            }
            sleep(PAUSE).await;
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Lets in these devices and no others: on return they may come, and who is none of them is thrown out.
    pub async fn admit(&self, devices: &[Device]) -> Result<(), BrokerError> {
        self.files.write(server::DEVICES, &users(devices))?;
        let said_before = self.files.log_bytes();
        guard::reload(&self.files);
        let until = Instant::now() + START_MAX;
        while Instant::now() < until {
            match server::reloaded(&self.files.log_since(said_before)) {
                Some(Ok(())) => return Ok(()),
                Some(Err(words)) => return Err(BrokerError::Users { words }),
                None => sleep(PAUSE).await,
            }
        }
        Err(BrokerError::NoAnswer { log: self.files.log(), words: self.files.last_words() })
    }
}

/// The guard outlives us; who reaps it is whoever is its parent at its end.
fn start_guard(
    command: &mut Command,
    files: &Files,
    nats_server: &Path,
    options: &Options,
) -> Result<Child, BrokerError> {
    // A server that a killed guard left behind may still answer. It is about to be replaced, and must not be used.
    files.retire_port();
    let log = files.open_log()?;
    let log_too = log.try_clone().map_err(|source| BrokerError::Files { action: "open", path: files.log(), source })?;
    command.arg(files.home()).arg(nats_server).arg(options.to_string()).current_dir(files.home());
    let started = command.stdin(Stdio::null()).stdout(log).stderr(log_too).spawn();
    started.map_err(|source| BrokerError::Start { path: command.get_program().into(), source })
}

/// Process number of the home's server, for people who look for it; it may have ended since.
pub fn server_pid(home: &Path) -> Option<u32> {
    std::fs::read_to_string(home.join("broker").join(server::PID)).ok()?.trim().parse().ok()
}
