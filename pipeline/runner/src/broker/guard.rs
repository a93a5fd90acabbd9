//! The guard: a process of its own that keeps one `nats-server` as long as somebody uses it.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, setsid, test_kill_process};

use super::{
    BrokerError, OPTIONS, Options,
    accounts::users,
    files::{Files, HUB, Lock},
    keys,
    server::{CONFIG, DEVICES, PID, PORT, adopt_streams, config, listen_at},
};

const LOOK: Duration = Duration::from_millis(200);
/// Time to write everything and end, after a signal to stop.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Deaths of the server in a row before the guard gives up; a run of a minute forgives them.
const DEATHS_MAX: u32 = 5;
const LONG_RUN: Duration = Duration::from_secs(60);

/// Guards the broker of a home until its last user is gone. For the hidden subcommand; see [`super::Broker`].
pub fn guard_main(home: &Path, nats_server: &Path, options: &Options) -> Result<(), BrokerError> {
    // Neither Ctrl-C nor the end of the command that started us is meant for us. Fails where we lead a session already.
    let _ = setsid();
    let files = Files::make(home)?;
    let Some(guard) = only_guard(&files)? else { return Ok(()) };
    end_orphan(&files);
    let (alone, is_alone) = mpsc::channel();
    let waiting = files.clone();
    thread::spawn(move || alone.send(waiting.wait_alone(Lock::Users)));
    let mut deaths = 0;
    loop {
        let mut server = start(&files, nats_server, options)?;
        let started = Instant::now();
        match watch(&mut server, &is_alone) {
            // Nobody uses it, and nobody can begin to while the lock is held.
            Watched::Alone(users) => {
                stop(&mut server);
                files.retire_port();
                // In this order: who waits for the users' lock must find no guard.
                drop(guard);
                drop(users);
                return Ok(());
            }
            Watched::Died(how) => {
                deaths = if started.elapsed() >= LONG_RUN { 1 } else { deaths + 1 };
                eprintln!("dih: nats-server ended by itself ({how}), death {deaths} in a row");
                if deaths >= DEATHS_MAX {
                    return Err(BrokerError::NoAnswer { log: files.log(), words: files.last_words() });
                }
            }
        }
    }
}

/// None when another guard is at work. A look at the lock takes it for a moment, so one refusal proves nothing.
fn only_guard(files: &Files) -> Result<Option<File>, BrokerError> {
    for _ in 0..20 {
        if let Some(guard) = files.lock(Lock::Guard).now()? {
            return Ok(Some(guard));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

enum Watched {
    Alone(Result<File, BrokerError>),
    Died(String),
}

fn watch(server: &mut Child, is_alone: &mpsc::Receiver<Result<File, BrokerError>>) -> Watched {
    loop {
        match is_alone.recv_timeout(LOOK) {
            Ok(users) => return Watched::Alone(users),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
        }
        match server.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Watched::Died(status.to_string()),
            Err(error) => return Watched::Died(error.to_string()),
        }
    }
}

fn start(files: &Files, nats_server: &Path, options: &Options) -> Result<Child, BrokerError> {
    let could_not = |source| BrokerError::Start { path: nats_server.to_owned(), source };
    let listen = listen_at(options, files.port_before()).map_err(could_not)?;
    let hub = keys::public(&files.hub_seed()?).map_err(|source| BrokerError::Keys { path: files.path(HUB), source })?;
    files.write(CONFIG, &config(files, listen, options, &hub))?;
    files.write(OPTIONS, &options.to_string())?;
    if files.read(DEVICES).is_none() {
        files.write(DEVICES, &users(&[]))?;
    }
    adopt_streams(files);
    let mut command = Command::new(nats_server);
    command.arg("-c").arg(files.path(CONFIG)).stdin(Stdio::null());
    let server = command.spawn().map_err(could_not)?;
    files.write(PORT, &listen.port().to_string())?;
    Ok(server)
}

fn stop(server: &mut Child) {
    signal(Pid::from_child(server), Signal::TERM);
    let until = Instant::now() + STOP_MAX;
    while Instant::now() < until {
        match server.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ = server.kill();
    let _ = server.wait();
}

fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        eprintln!("dih: could not signal nats-server: {error}");
    }
}

/// Ends a server that a killed guard left behind: it holds the files, and nobody would stop it.
fn end_orphan(files: &Files) {
    let Some(pid) = files.read(PID).and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) else { return };
    if !is_ours(pid, files) {
        return files.remove(PID);
    }
    signal(pid, Signal::TERM);
    let until = Instant::now() + STOP_MAX;
    while test_kill_process(pid).is_ok() {
        if Instant::now() >= until {
            signal(pid, Signal::KILL);
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Has the server read its users anew; it drops the connections of those that are no more.
pub(super) fn reload(files: &Files) {
    let pid = files.read(PID).and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|pid| is_ours(*pid, files)) {
        signal(pid, Signal::HUP);
    }
}

/// A process number is used again; only one that runs with our configuration is ours.
fn is_ours(pid: Pid, files: &Files) -> bool {
    let command = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let config = files.path(CONFIG);
    command.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_encoded_bytes())
}
