//! A broker of its own for each test, a small stage, and photos that need no pixels.
#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use dih_core::{
    Class, Delivery, DeviceId, Epoch, ImageId, Label, Millis, Notice, Outcome, Stage, StageError, StageName, UploadSeq,
    config::HumanDuration,
    event::{Content, Image, ImageStored, ImageUnique, Upload},
    image::{Fingerprint, Fingerprints, Format, Measures, Size},
    topology::LEASE,
    verdict::{Answer, Status},
};
use dih_runner::{
    ConnectOptions, Connection, Health, Line, RunError, Runner, RunnerConfig, Submitter, health::State, topology,
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// Set in the process that is killed.
pub const VICTIM: &str = "DIH_TEST_VICTIM_URL";
pub const DEADLINE: Duration = Duration::from_secs(40);

/// The real server that `make setup` fetches.
pub fn nats_server() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tools = std::env::var_os("DIH_TOOLS").map_or_else(|| root.join(".tools"), PathBuf::from);
    let binary = tools.join("bin/nats-server");
    assert!(binary.exists(), "no nats-server at {}: run `make setup`", binary.display());
    binary
}

/// A broker with empty streams; ends with the test.
pub struct World {
    pub connection: Connection,
    server: Option<Child>,
    port: u16,
    store: PathBuf,
    _home: TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with_lease(LEASE).await
    }

    pub async fn with_lease(lease: Duration) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        Self::at(lease, home.path().to_owned(), home).await
    }

    /// Leaves its streams behind at `store`.
    pub async fn keeping(store: &Path) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        Self::at(LEASE, store.to_owned(), home).await
    }

    async fn at(lease: Duration, store: PathBuf, home: TempDir) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let mut server = Some(start(port, &store));
        let url = format!("nats://127.0.0.1:{port}");
        let until = Instant::now() + DEADLINE;
        let connection = loop {
            match Connection::connect(&url, ConnectOptions::default()).await {
                Ok(connection) => break connection,
                Err(error) if Instant::now() > until => {
                    let _ = server.take().map(|mut s| s.kill());
                    unreachable!("the broker did not start: {error}");
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let options = topology::Options { lease, ..topology::Options::default() };
        topology::setup(&connection, &options).await.expect("an empty broker takes the table");
        Self { connection, server, port, store, _home: home }
    }

    pub fn kill_broker(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("it is ours");
            server.wait().expect("it is ours");
        }
    }

    pub fn start_broker(&mut self) {
        self.server = Some(start(self.port, &self.store));
    }

    pub async fn submit(&self, names: &[&str]) -> Vec<UploadSeq> {
        let submitter = Submitter::new(self.connection.clone(), None);
        let mut uploads = Vec::new();
        for name in names {
            let receipt = submitter.submit((photo(name), None)).await.expect("the broker takes it");
            uploads.push(receipt.upload);
        }
        uploads
    }

    /// Messages that a stream has ever taken.
    pub async fn ever_in(&self, name: &str) -> u64 {
        let stream = self.connection.jetstream().get_stream(name).await.expect("made by setup");
        stream.cached_info().state.last_sequence
    }

    pub async fn stream_len(&self, name: &str) -> u64 {
        let stream = self.connection.jetstream().get_stream(name).await.expect("made by setup");
        stream.cached_info().state.messages
    }

    /// Runs a stage until [`Running::stop`].
    pub fn run<S: Stage<Input: dih_runner::Input>>(&self, stage: S) -> Running {
        self.run_with(stage, config(), 4)
    }

    pub fn run_with<S: Stage<Input: dih_runner::Input>>(
        &self,
        stage: S,
        config: RunnerConfig,
        tries_max: u64,
    ) -> Running {
        start_runner(Runner::new(self.connection.clone(), stage, None, config).tries_max(tries_max))
    }

    /// Runs a stage that hands over to the others of the line, and takes from them.
    pub fn run_in_line<S: Stage<Input: dih_runner::Input>>(&self, line: &Line, stage: S) -> Running {
        let runner = Runner::new(self.connection.clone(), stage, None, config()).tries_max(4).in_line(line);
        start_runner(runner)
    }
}

pub fn start_runner<S: Stage<Input: dih_runner::Input>>(runner: Runner<S>) -> Running {
    let (health, shutdown) = (runner.health(), CancellationToken::new());
    let task = tokio::spawn(runner.run(shutdown.clone()));
    Running { health, shutdown, task }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_broker();
    }
}

fn start(port: u16, home: &Path) -> Child {
    let mut command = Command::new(nats_server());
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("nats-server starts")
}

pub fn config() -> RunnerConfig {
    RunnerConfig {
        retry_first: HumanDuration::millis(100),
        retry_max: HumanDuration::millis(400),
        patience: HumanDuration::millis(1),
        drain: HumanDuration::secs(5),
        ..RunnerConfig::default()
    }
}

pub struct Running {
    pub health: Health,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    pub async fn stop(self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.task.await.expect("the loop does not panic")
    }

    pub async fn ready(&self) {
        until("the stage is ready", async || self.health.state() == State::Ready).await;
    }
}

/// Waits for a state, not for time to pass.
#[track_caller]
pub fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let deadline = Instant::now() + DEADLINE;
    async move {
        while !holds().await {
            assert!(Instant::now() < deadline, "in vain waited until {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn photo(name: &str) -> Upload {
    Upload {
        device: DeviceId::new("cam1").expect("valid"),
        labels: vec![Label::new("shirt").expect("valid")],
        content: Content::Inline(Bytes::from(name.to_owned())),
        source: Some(name.to_owned()),
        captured_at: None,
        attributes: BTreeMap::new(),
    }
}

pub fn image(upload: UploadSeq, name: &str) -> Image {
    Image {
        id: ImageId::of_bytes(name.as_bytes()),
        upload,
        epoch: Epoch(0),
        device: DeviceId::new("cam1").expect("valid"),
        labels: vec![Label::new("shirt").expect("valid")],
        source: Some(name.to_owned()),
        captured_at: None,
        attributes: BTreeMap::new(),
        format: Format::Jpeg,
        size: Size { width: 4, height: 3 },
        bytes: 5,
        measures: Measures { aspect: 4.0 / 3.0, ..Measures::default() },
        fingerprints: Fingerprints { orientations: [Fingerprint(7); 8], parts: None },
        thumbnail: None,
        lineage: Vec::new(),
    }
}

pub fn answer(upload: UploadSeq, status: Status) -> Answer {
    Answer { at: Millis(1), ..Answer::about(&image(upload, "x"), status, StageName::Ingest, status.as_str()) }
}

/// What a test stage does with an upload, told by its source.
#[derive(Clone, Debug, Default)]
pub struct Tale {
    /// Times each source was tried.
    pub tried: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
    pub finished: Arc<AtomicU64>,
    pub cancelled: Arc<AtomicU64>,
}

impl Tale {
    pub fn tries(&self, source: &str) -> Vec<Instant> {
        self.tried.lock().expect("no panic holds it").get(source).cloned().unwrap_or_default()
    }

    fn note(&self, source: &str) -> usize {
        let mut tried = self.tried.lock().expect("no panic holds it");
        let times = tried.entry(source.to_owned()).or_default();
        times.push(Instant::now());
        times.len()
    }
}

/// Ingest that obeys its input: the source of an upload begins with what to do.
#[derive(Clone, Debug)]
pub struct Obedient {
    pub tale: Tale,
    /// Refuses to work, as with a wrong password.
    pub halts: bool,
    /// While its store is away.
    pub away: Arc<AtomicBool>,
}

impl Obedient {
    pub fn new() -> Self {
        Self { tale: Tale::default(), halts: false, away: Arc::default() }
    }
}

struct Cancelled<'a>(Option<&'a AtomicU64>);

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Stage for Obedient {
    const CONSUMER: &'static str = "ingest";
    type Input = Upload;

    async fn process(&self, delivery: Delivery<Upload>) -> Result<Outcome, StageError> {
        let upload = delivery.upload.expect("an upload has a number");
        let source = delivery.input.source.clone().unwrap_or_default();
        let tries = self.tale.note(&source);
        let mut cancelled = Cancelled(Some(&self.tale.cancelled));
        if self.halts {
            return Err(StageError::new(Class::Halt, "the password is wrong"));
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(StageError::new(Class::Retry, "the store is away"));
        }
        let outcome = match source.split(' ').next().unwrap_or_default() {
            "curate" => Outcome::answer(answer(upload, Status::Curated)),
            "reject" => Outcome::answer(answer(upload, Status::Rejected)),
            "emit" => Outcome::emit(Notice::Stored(ImageStored { image: image(upload, &source) })),
            "twice" => {
                let first = Notice::Answer(Box::new(answer(upload, Status::Curated)));
                Outcome::emit(first.clone()).and(first)
            }
            "third-time" if tries < 3 => return Err(StageError::new(Class::Retry, "not yet")),
            "third-time" => Outcome::answer(answer(upload, Status::Curated)),
            "never" => return Err(StageError::new(Class::Retry, "never")),
            "bad" => return Err(StageError::new(Class::BadInput, Outer(Inner))),
            "panic" => unreachable!("told to"),
            // Only a process that is there to be killed.
            "poison" if std::env::var_os(VICTIM).is_some() => std::process::abort(),
            "brief" => {
                sleep(Duration::from_millis(3)).await;
                Outcome::answer(answer(upload, Status::Curated))
            }
            "slow" => {
                sleep(Duration::from_millis(1500)).await;
                Outcome::answer(answer(upload, Status::Curated))
            }
            "stuck" => {
                sleep(Duration::from_secs(600)).await;
                Outcome::answer(answer(upload, Status::Curated))
            }
            other => unreachable!("no such tale: {other}"),
        };
        cancelled.0 = None;
        self.tale.finished.fetch_add(1, Ordering::SeqCst);
        Ok(outcome)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("outer reason")]
pub struct Outer(#[source] pub Inner);

#[derive(Debug, thiserror::Error)]
#[error("inner reason")]
pub struct Inner;

/// Dedupe that obeys the second word of the source.
#[derive(Clone, Debug, Default)]
pub struct Second {
    pub tale: Tale,
}

impl Stage for Second {
    const CONSUMER: &'static str = "dedupe";
    type Input = ImageStored;

    async fn process(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        let image = delivery.input.image;
        let source = image.source.clone().unwrap_or_default();
        let tries = self.tale.note(&source);
        let on = Outcome::emit(Notice::Unique(ImageUnique { image: image.clone() }));
        Ok(match source.split(' ').nth(1).unwrap_or_default() {
            "bad" => return Err(StageError::new(Class::BadInput, Outer(Inner))),
            "panic" => unreachable!("told to"),
            "second-time" if tries < 2 => return Err(StageError::new(Class::Retry, "not yet")),
            "halt-once" if tries < 2 => return Err(StageError::new(Class::Halt, "the password is wrong")),
            // Only a process that is there to be killed.
            "poison" if std::env::var_os(VICTIM).is_some() => std::process::abort(),
            "frees" if image.epoch == Epoch(0) => {
                let freed = Image { epoch: Epoch(1), ..self::image(UploadSeq(image.upload.0 + 1000), "emit on") };
                on.and(Notice::Stored(ImageStored { image: freed }))
            }
            "ends" => Outcome::answer(Answer::about(&image, Status::Duplicate, StageName::Dedupe, "same_shot")),
            "overtaken" => Outcome::superseded(),
            _ => on,
        })
    }
}

/// Verify that curates everything at once.
#[derive(Clone, Debug)]
pub struct CurateUnique;

impl Stage for CurateUnique {
    const CONSUMER: &'static str = "verify";
    type Input = ImageUnique;

    async fn process(&self, delivery: Delivery<ImageUnique>) -> Result<Outcome, StageError> {
        let image = &delivery.input.image;
        Ok(Outcome::answer(Answer::about(image, Status::Curated, StageName::Verify, "curated")))
    }
}

/// Dedupe that curates everything at once.
#[derive(Clone, Debug)]
pub struct CurateAll;

impl Stage for CurateAll {
    const CONSUMER: &'static str = "dedupe";
    type Input = ImageStored;

    async fn process(&self, delivery: Delivery<ImageStored>) -> Result<Outcome, StageError> {
        let image = &delivery.input.image;
        Ok(Outcome::answer(Answer::about(image, Status::Curated, StageName::Dedupe, "curated")))
    }
}
