//! The broker of our own: shared by all who use a home, gone when the last one is.

mod world;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dih_runner::{
    Broker, BrokerError, ConnectError, ConnectOptions, Connection,
    broker::{Options, guard_main, server_pid},
    topology,
};
use world::{nats_server, until};

/// Not a test: the entry that stands in for the hidden subcommand. It does nothing unless a test starts it as such.
#[test]
fn guard_entry() {
    let Some(home) = std::env::var_os("DIH_TEST_GUARD_HOME") else { return };
    guard_main(Path::new(&home), &nats_server(), &Options::default()).expect("the guard ends in peace");
    std::process::exit(0);
}

/// Not a test either: a command that uses the broker until it is killed.
#[test]
fn user_entry() {
    let Some(home) = std::env::var_os("DIH_TEST_USER_HOME") else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let broker = runtime.block_on(attach(Path::new(&home))).expect("a broker");
    std::fs::write(Path::new(&home).join("user.url"), broker.url()).expect("written");
    std::thread::sleep(Duration::from_secs(600));
}

fn this_test(entry: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args([entry, "--exact", "--nocapture", "--test-threads", "1", "--"]);
    command
}

async fn attach(home: &Path) -> Result<Broker, BrokerError> {
    let mut guard = this_test("guard_entry");
    guard.env("DIH_TEST_GUARD_HOME", home);
    Broker::attach_with(home, &nats_server(), &Options::default(), guard).await
}

async fn connect(broker: &Broker) -> Result<Connection, ConnectError> {
    let options = ConnectOptions { access: broker.access().clone(), ..ConnectOptions::default() };
    Connection::connect(broker.url(), options).await
}

fn user(home: &Path) -> Child {
    let mut command = this_test("user_entry");
    command.env("DIH_TEST_USER_HOME", home).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("we can start ourselves")
}

fn runs(pid: u32) -> bool {
    // A zombie has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty())
}

async fn gone(pid: u32) {
    until("the server is gone", async || !runs(pid)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_share_one_broker_and_the_last_one_ends_it() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (first, second) = tokio::join!(attach(home.path()), attach(home.path()));
    let (first, second) = (first.expect("a broker"), second.expect("a broker"));
    assert_eq!(first.url(), second.url());
    let pid = server_pid(home.path()).expect("it runs");
    drop(first);
    tokio::time::sleep(Duration::from_millis(600)).await; // the guard looks five times a second
    assert!(runs(pid), "somebody still uses it");
    connect(&second).await.expect("it answers");
    drop(second);
    gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_ends_when_its_last_user_is_killed() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut users = [user(home.path()), user(home.path())];
    let url = home.path().join("user.url");
    until("a user has its broker", async || url.exists() && server_pid(home.path()).is_some()).await;
    let pid = server_pid(home.path()).expect("it runs");
    users[0].kill().expect("ours");
    users[1].kill().expect("ours");
    for mut user in users {
        user.wait().expect("ours");
    }
    gone(pid).await;
    let port = home.path().join("broker/port");
    until("nobody is told the old port", async || !port.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_there_for_the_next_command_even_at_once() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for round in 0..3 {
        let broker = attach(home.path()).await.expect("a broker");
        let connection = connect(&broker).await.expect("it answers");
        topology::setup(&connection, &topology::Options::default()).await.expect("made");
        let uploads = dih_runner::ledger::last_upload_seq(&connection).await.expect("read").0;
        assert_eq!(uploads, round);
        let submitter = dih_runner::Submitter::new(connection, None);
        submitter.submit((world::photo("a"), None)).await.expect("taken");
        // Dropped and attached again while the guard is about to stop the server.
        drop(broker);
    }
    let pid = server_pid(home.path());
    if let Some(pid) = pid {
        gone(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_comes_back_on_the_same_port() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let broker = attach(home.path()).await.expect("a broker");
    let connection = connect(&broker).await.expect("it answers");
    let pid = server_pid(home.path()).expect("it runs");
    kill(pid);
    gone(pid).await;
    until("another server runs", async || server_pid(home.path()).is_some_and(|new| new != pid && runs(new))).await;
    until("the connection found back", async || {
        topology::setup(&connection, &topology::Options::default()).await.is_ok()
    })
    .await;
    let pid = server_pid(home.path()).expect("it runs");
    drop((connection, broker));
    gone(pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_was_killed_leaves_nothing_in_the_way() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let broker = attach(home.path()).await.expect("a broker");
    let orphan = server_pid(home.path()).expect("it runs");
    let guard = parent_of(orphan);
    kill(guard);
    // Of the files of a process the kernel lets go last: a while after it has no command line any more.
    until("the guard's lock is free", async || is_free(&home.path().join("broker/guard.lock"))).await;
    drop(broker);
    assert!(runs(orphan), "nobody stopped it");
    let broker = attach(home.path()).await.expect("a broker again");
    let connection = connect(&broker).await.expect("it answers");
    topology::setup(&connection, &topology::Options::default()).await.expect("made");
    let pid = server_pid(home.path()).expect("it runs");
    drop((connection, broker));
    gone(pid).await;
    gone(orphan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_before_there_were_accounts_are_still_there() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let store = home.path().join("broker/jetstream");
    let mut before = world::World::keeping(&store).await;
    before.submit(&["a", "b", "c"]).await;
    before.kill_broker();
    let broker = attach(home.path()).await.expect("a broker");
    let connection = connect(&broker).await.expect("it answers");
    assert_eq!(dih_runner::ledger::last_upload_seq(&connection).await.expect("read").0, 3);
    topology::check(&connection, &topology::Options::default()).await.expect("as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_files_of_a_power_cut_do_not_hinder() {
    let home = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir_all(home.path().join("broker")).expect("made");
    std::fs::write(home.path().join("broker/port"), "9").expect("written");
    std::fs::write(home.path().join("broker/nats.pid"), std::process::id().to_string()).expect("written");
    let broker = attach(home.path()).await.expect("a broker");
    connect(&broker).await.expect("it answers");
    let pid = server_pid(home.path()).expect("it runs");
    assert_ne!(pid, std::process::id());
    drop(broker);
    gone(pid).await;
}

#[tokio::test]
async fn a_missing_server_is_named_with_the_remedy() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let begun = Instant::now();
    let error = Broker::attach_with(
        home.path(),
        Path::new("nowhere/nats-server"),
        &Options::default(),
        this_test("guard_entry"),
    )
    .await;
    let told = error.expect_err("there is none").to_string();
    assert!(told.contains("nowhere/nats-server") && told.contains("make setup"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small")).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("ours");
}

fn is_free(lock: &Path) -> bool {
    let file = std::fs::File::open(lock).expect("it was made");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok()
}

fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit_once(") ").expect("a name in parentheses").1;
    after_name.split(' ').nth(1).expect("the parent").parse().expect("a number")
}
