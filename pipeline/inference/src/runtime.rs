//! The ONNX Runtime library and its sessions.
//!
//! Keeps    one environment for the life of the process: the library cannot be unloaded or exchanged.

use std::{
    borrow::Cow,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    ep::{self, ExecutionProviderDispatch, cuda::ConvAlgorithmSearch},
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use crate::{
    config::{Config, Provider},
    error::InferenceError,
    manifest::Manifest,
    prepare::{Tensor, Values},
};

static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads the library at the first call; later calls share it.
fn environment(config: &Config) -> Result<Environment, InferenceError> {
    let path = config.library_path()?;
    let path = fs::canonicalize(&path).map_err(|source| InferenceError::Read { path, source })?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*loaded {
        Some((first, environment)) if *first == path => Ok(environment.clone()),
        Some((first, _)) => Err(InferenceError::OtherLibrary { loaded: first.clone(), wanted: path }),
        None => {
            let builder =
                ort::init_from(&path).map_err(|source| InferenceError::LoadLibrary { path: path.clone(), source })?;
            let built = builder.with_name("dih").with_telemetry(false).build();
            let environment = built.map_err(|source| InferenceError::Environment { source })?;
            tracing::info!(library = %path.display(), provider = %config.provider, "loaded ONNX Runtime");
            *loaded = Some((path, environment.clone()));
            Ok(environment)
        }
    }
}

/// Whether the fast kernels for 8-bit numbers sum without overflow on this CPU.
fn sums_exactly() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// A session and what is asked of it.
#[derive(Debug)]
pub(crate) struct Runner {
    session: Session,
    model: String,
    /// Pictures in a run, if there must always be as many.
    run_size: Option<usize>,
}

impl Runner {
    /// `reduce_range`: as in the manifest. `shapes` names the input and its axes for TensorRT, which compiles for a range of batch sizes.
    pub(crate) fn load(
        model: &str,
        bytes: &[u8],
        config: &Config,
        shapes: Option<&str>,
        reduce_range: bool,
    ) -> Result<Self, InferenceError> {
        let environment = environment(config)?;
        let failed = |source: ort::Error| InferenceError::cannot_load(config.provider, model, source);
        let no_provider = |source: ort::Error| InferenceError::NoProvider { provider: config.provider, source };
        let build = || -> ort::Result<_> {
            let builder = Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::Level3)?
                // One thread a session: sessions are what runs in parallel, and threads that spin while they wait
                // cost twice the CPU time on a busy machine.
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_intra_op_spinning(false)?;
            // On CPUs without VNNI, sums of 8-bit products may overflow in the fast kernels: other vectors than
            // elsewhere, from the same photo. There the exact kernels are taken, at 1.4 times the cost.
            if reduce_range || sums_exactly() { Ok(builder) } else { Ok(builder.with_precise_qmm()?) }
        };
        let with_provider = build().map_err(failed)?.with_execution_providers(providers(config, shapes));
        let mut builder = with_provider.map_err(|e| no_provider(e.into()))?;
        let session = builder.commit_from_memory(bytes).map_err(failed)?;
        Ok(Self { session, model: model.to_owned(), run_size: config.run_size() })
    }

    /// Whether the graph has the inputs and outputs the manifest names.
    pub(crate) fn agrees_with(&self, manifest: &Manifest) -> Result<(), InferenceError> {
        let wrong = |fault| InferenceError::WrongModel { model: self.model.clone(), fault };
        let inputs: Vec<_> = self.session.inputs().iter().map(|i| i.name().to_owned()).collect();
        if inputs != [manifest.input.name.as_str()] {
            return Err(wrong(format!("its inputs are {inputs:?} instead of [{:?}]", manifest.input.name)));
        }
        let outputs: Vec<_> = self.session.outputs().iter().map(|o| o.name().to_owned()).collect();
        match manifest.outputs.iter().find(|o| !outputs.contains(&o.name)) {
            Some(missing) => Err(wrong(format!("no output {:?} among {outputs:?}", missing.name))),
            None => Ok(()),
        }
    }

    /// Runs equally shaped inputs. Gives, for each named output, one row of numbers an input.
    pub(crate) fn run(&mut self, inputs: &[&Tensor], outputs: &[&str]) -> Result<Vec<Vec<Vec<f32>>>, InferenceError> {
        let wrong = |fault: String| InferenceError::WrongInput { fault };
        let Some(first) = inputs.first() else { return Err(wrong("the batch is empty".into())) };
        if let Some(other) = inputs.iter().find(|t| !t.is_like(first)) {
            return Err(wrong(format!("{first:?} and {other:?} in one batch")));
        }
        let mut rows = vec![Vec::new(); outputs.len()];
        for batch in inputs.chunks(self.run_size.unwrap_or(inputs.len())) {
            for (rows, more) in rows.iter_mut().zip(self.run_once(first, batch, outputs)?) {
                rows.extend(more);
            }
        }
        Ok(rows)
    }

    /// Runs inputs that are like the `first`, and blank ones to make up the number.
    fn run_once(
        &mut self,
        first: &Tensor,
        inputs: &[&Tensor],
        outputs: &[&str],
    ) -> Result<Vec<Vec<Vec<f32>>>, InferenceError> {
        let items = inputs.len();
        let size = self.run_size.unwrap_or(items);
        let [a, b, c] = first.shape();
        let shape = [size, a, b, c];
        let model = &self.model;
        let failed = |source: ort::Error| InferenceError::Run { model: model.clone(), items, source };
        let (floats, bytes);
        let input: SessionInputValue<'_> = match first.values() {
            Values::Floats(_) => {
                floats = joined(inputs, size, Values::floats);
                TensorRef::from_array_view((shape, &*floats)).map_err(failed)?.into()
            }
            Values::Bytes(_) => {
                bytes = joined(inputs, size, Values::bytes);
                TensorRef::from_array_view((shape, &*bytes)).map_err(failed)?.into()
            }
        };
        let answers = self.session.run([input]).map_err(failed)?;
        let rows_of = |name: &&str| {
            let wrong = |fault| InferenceError::WrongModel { model: model.clone(), fault };
            let answer = answers.get(*name).ok_or_else(|| wrong(format!("no output {name:?}")))?;
            let (shape, numbers) = answer.try_extract_tensor::<f32>().map_err(failed)?;
            if shape.first() != Some(&(size as i64)) || numbers.is_empty() {
                return Err(wrong(format!("output {name:?} has shape {shape:?} for a batch of {size}")));
            }
            if !numbers.iter().all(|n| n.is_finite()) {
                return Err(InferenceError::NotFinite { model: model.clone() });
            }
            Ok(numbers.chunks_exact(numbers.len() / size).take(items).map(<[f32]>::to_vec).collect())
        };
        outputs.iter().map(rows_of).collect()
    }
}

/// The values of all inputs, one after the other, and zeros for those that lack; copied only if there are several.
fn joined<'a, T: Copy + Default>(
    inputs: &[&'a Tensor],
    size: usize,
    values: impl Fn(&'a Values) -> &'a [T],
) -> Cow<'a, [T]> {
    if let ([one], 1) = (inputs, size) {
        return values(one.values()).into();
    }
    let each = inputs.first().map_or(0, |input| values(input.values()).len());
    let mut joined = Vec::with_capacity(size * each);
    inputs.iter().for_each(|input| joined.extend_from_slice(values(input.values())));
    joined.resize(size * each, T::default());
    joined.into()
}

/// A promised GPU that is not there is an error; without this, ONNX Runtime goes on on the CPU in silence.
fn providers(config: &Config, shapes: Option<&str>) -> Vec<ExecutionProviderDispatch> {
    // In full precision, and by fixed rules: a picture has the same vector in every batch and process, and that of the CPU
    // to six digits. With TF32 and by trial they are some hundredths of a percent apart, and no faster (docs/BENCHMARKS.md).
    let cuda = || {
        let cuda = ep::CUDA::default().with_tf32(false).with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
        cuda.build().error_on_failure()
    };
    match config.provider {
        // Without the arena memory goes back after each run. It is what keeps the process small and flat.
        Provider::Cpu => vec![ep::CPU::default().with_arena_allocator(false).build()],
        Provider::Cuda => vec![cuda()],
        Provider::TensorRt => {
            let mut tensorrt = ep::TensorRT::default();
            if let Some(shapes) = shapes {
                let of = |items: usize| shapes.replace("{items}", &items.to_string());
                let most = config.batch_size();
                tensorrt = tensorrt
                    .with_profile_min_shapes(of(1))
                    .with_profile_opt_shapes(of(most))
                    .with_profile_max_shapes(of(most));
            }
            vec![tensorrt.build().error_on_failure(), cuda()]
        }
    }
}
