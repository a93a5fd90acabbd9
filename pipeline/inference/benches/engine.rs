//! What the engine costs beside bare ONNX Runtime: the same pictures, sessions and threads, in turns, in one run.
//!
//! `cargo bench -p dih-inference --bench engine [pictures] [sessions] [batch]` prints, for each built-in model and round,
//! pictures a second and CPU milliseconds a picture of both, and how much of bare ONNX Runtime's speed the engine reaches;
//! before that, what preparing a picture costs. With `DIH_TEST_PROVIDER=cuda` on a GPU. The bare loop runs in a process
//! of its own, for a process has one environment of ONNX Runtime, and the engine has it.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    env, fmt, fs,
    io::{BufRead, BufReader, Write, stdin},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use dih_inference::{Config, Engine, Manifest, Provider, Tensor};
use ort::{
    environment::Environment,
    ep::{self, cuda::ConvAlgorithmSearch},
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{TensorElementType, TensorRef},
};
use tokio::{runtime::Runtime, task::JoinSet};

const ROUNDS: usize = 5;
/// Previews are 256 pixels on their shorter side.
const PREVIEW: (u32, u32) = (256, 341);
/// Says to this program that it is the bare loop.
const BARE: &str = "DIH_BENCH_BARE";

fn main() {
    // `cargo test --benches` only looks whether it runs.
    let measuring = env::args().any(|a| a == "--bench");
    let mut numbers = env::args().skip(1).filter_map(|a| a.parse().ok());
    let pictures = numbers.next().unwrap_or(if measuring { 500 } else { 8 });
    let sessions = numbers.next().unwrap_or(2);
    let batch = numbers.next().unwrap_or(1);
    let load = Load { pictures, sessions, batch };
    if let Ok(precision) = env::var(BARE) {
        return bare(&named(&precision), load);
    }
    println!("{pictures} pictures, {sessions} sessions with a thread each, in batches of {batch}");
    for manifest in [common::manifest(), common::fp32()] {
        for size in [PREVIEW, (400, 533)] {
            prepare(&manifest, size, pictures);
        }
        compare(manifest, load);
    }
}

#[derive(Clone, Copy)]
struct Load {
    pictures: usize,
    sessions: usize,
    batch: usize,
}

fn named(precision: &str) -> Manifest {
    if precision == "fp32" { common::fp32() } else { common::manifest() }
}

fn prepare(manifest: &Manifest, (width, height): (u32, u32), pictures: usize) {
    let rgb = pixels(width, height);
    let cost = Cost::of(pictures, || {
        for _ in 0..pictures {
            manifest.prepare(&rgb, width, height).expect("the bytes fit the size");
        }
    });
    println!("{}: {width} x {height} pixels prepared in {:.3} CPU-ms", manifest.precision, cost.cpu);
}

fn compare(manifest: Manifest, load: Load) {
    let precision = manifest.precision.clone();
    let input = input(&manifest);
    let Load { pictures, sessions, batch } = load;
    let config = Config { sessions, batch_max: batch, queue_max: 4 * sessions * batch, ..common::config() };
    let engine = Arc::new(Engine::load(manifest, &config).expect("the model loads"));
    let runtime = Runtime::new().expect("a runtime");
    let mut bare = Bare::start(&precision, load);

    let mut ratios = Vec::new();
    // The first round warms both up.
    for round in 0..=ROUNDS {
        let inputs = vec![input.clone(); pictures];
        let bare = bare.round();
        let by_engine = Cost::of(pictures, || runtime.block_on(by_engine(&engine, inputs)));
        if round > 0 {
            let (speed, cpu) = (by_engine.a_second / bare.a_second, bare.cpu / by_engine.cpu);
            println!("{precision}: bare {bare}; engine {by_engine}; speed {speed:.3}, by CPU time {cpu:.3}");
            ratios.push((speed, cpu));
        }
    }
    let (speed, cpu): (Vec<_>, Vec<_>) = ratios.into_iter().unzip();
    println!("{precision}: median speed {:.3}, by CPU time {:.3} of bare", median(speed), median(cpu));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All pictures ask at once; the engine's queue makes them wait.
async fn by_engine(engine: &Arc<Engine>, inputs: Vec<Tensor>) {
    let mut asked = JoinSet::new();
    for input in inputs {
        let engine = engine.clone();
        asked.spawn(async move { engine.infer(input).await.expect("the model runs") });
    }
    asked.join_all().await;
}

/// The process of the bare loop. A line in starts a round, a line out tells its cost.
struct Bare {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Bare {
    fn start(precision: &str, Load { pictures, sessions, batch }: Load) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args([pictures, sessions, batch].map(|n| n.to_string())).env(BARE, precision);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program starts");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, answers }
    }

    fn round(&mut self) -> Cost {
        self.child.stdin.as_mut().expect("piped").write_all(b"go\n").expect("it listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let (a_second, cpu) = line.trim().split_once(' ').expect("two numbers");
        Cost { a_second: a_second.parse().expect("a number"), cpu: cpu.parse().expect("a number") }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn bare(manifest: &Manifest, Load { pictures, sessions, batch }: Load) {
    let library = common::config().library.expect("named");
    let environment = ort::init_from(library).expect("the library").build().expect("the first of this process");
    let onnx = fs::read(manifest.model_path()).expect("the model file");
    let mut sessions: Vec<Session> = (0..sessions).map(|_| session(&environment, &onnx)).collect();
    let input = input(manifest);
    for _ in stdin().lines() {
        let cost = Cost::of(pictures, || by_hand(&mut sessions, &input, pictures, batch));
        println!("{} {}", cost.a_second, cost.cpu);
    }
}

/// As anybody would make one: ONNX Runtime's defaults, but a single thread that does not spin. On a GPU with the numbers and
/// the choice of algorithms that the engine has, unless `DIH_BENCH_TF32` is set: then as ONNX Runtime has them.
fn session(environment: &Environment, onnx: &[u8]) -> Session {
    let build = || -> ort::Result<Session> {
        let builder = Session::builder(environment)?.with_optimization_level(GraphOptimizationLevel::Level3)?;
        let mut builder = builder.with_intra_threads(1)?.with_intra_op_spinning(false)?;
        if common::provider() == Provider::Cuda {
            let cuda = match env::var_os("DIH_BENCH_TF32") {
                Some(_) => ep::CUDA::default(),
                None => ep::CUDA::default().with_tf32(false).with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic),
            };
            builder = builder.with_execution_providers([cuda.build().error_on_failure()])?;
        }
        builder.commit_from_memory(onnx)
    };
    build().expect("the model loads")
}

/// A thread a session; each takes a batch when it has done the last.
fn by_hand(sessions: &mut [Session], input: &Tensor, pictures: usize, batch: usize) {
    let [a, b, c] = input.shape();
    let shape = [batch, a, b, c];
    let numbers = &*input.numbers().repeat(batch);
    let bytes = &*numbers.iter().map(|n| *n as u8).collect::<Vec<_>>();
    let left = &Mutex::new(0..pictures.div_ceil(batch));
    thread::scope(|scope| {
        for session in sessions {
            scope.spawn(move || {
                while left.lock().expect("nobody panics").next().is_some() {
                    let input: SessionInputValue<'_> = match session.inputs()[0].dtype().tensor_type() {
                        Some(TensorElementType::Uint8) => {
                            TensorRef::from_array_view((shape, bytes)).expect("fits").into()
                        }
                        _ => TensorRef::from_array_view((shape, numbers)).expect("fits").into(),
                    };
                    let outputs = session.run([input]).expect("the model runs");
                    outputs["embedding"].try_extract_tensor::<f32>().expect("floats");
                    outputs["logits"].try_extract_tensor::<f32>().expect("floats");
                }
            });
        }
    });
}

/// Something with detail in it.
fn pixels(width: u32, height: u32) -> Vec<u8> {
    (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect()
}

fn input(manifest: &Manifest) -> Tensor {
    let (width, height) = PREVIEW;
    manifest.prepare(&pixels(width, height), width, height).expect("the bytes fit the size")
}

struct Cost {
    a_second: f64,
    /// Milliseconds a picture.
    cpu: f64,
}

impl Cost {
    fn of(pictures: usize, work: impl FnOnce()) -> Self {
        let (begun, before) = (Instant::now(), cpu());
        work();
        let n = pictures as f64;
        Self { a_second: n / begun.elapsed().as_secs_f64(), cpu: (cpu() - before).as_secs_f64() * 1e3 / n }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}/s, {:.2} CPU-ms", self.a_second, self.cpu)
    }
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time");
    // 100 ticks a second on every Linux we run on.
    Duration::from_millis(ticks * 10)
}
