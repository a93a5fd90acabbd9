//! All parts that stages are made of, built once and shared.
//!
//! Takes    the owner lock (if the index is in this process), the configuration and the broker. Gives the index, the stores, the model and the bench.
//! Crash    nothing to put right: the index and the stores say themselves what they hold.

use std::sync::Arc;

use dih_core::{
    StageName,
    event::VectorSpace,
    ports::{Blobs, Index, Quotas, Safety, SmallState, Vision},
    work::Bench,
};
use dih_inference::{Engine, Manifest};
use dih_previews::Previews;
use dih_repeats::Prover;
use dih_stores::{
    blob::ObjectBlobs,
    metered::{MeteredBlobs, MeteredIndex},
    s3,
};
use dih_taxonomy::{Taxonomy, witness::Witness};
use tokio::task::spawn_blocking;

use crate::{
    app::App,
    bus::Bus,
    calibrate::repeats,
    config::{self, Stores},
    home::{Home, Owner},
    index,
    model::{self, MAKE_SETUP, SETUP_SAFETY},
    problem::{OrProblem, Problem},
    secret,
    vision::{Eye, Guard},
};

/// Holds the secret access key of the S3 account, where no file does.
const S3_VARIABLE: &str = "DIH_S3_SECRET_ACCESS_KEY";
/// Where a person reads on about a bucket.
pub const SEE_STORES: &str = "see `[stores.s3]` in `dih config print`, and docs/stores.md";
/// Stages that run the pre-trained model.
const SEEING: [StageName; 2] = [StageName::Verify, StageName::Embed];

/// What stages are made of. Whoever holds it owns the home, unless the index is elsewhere.
#[derive(Debug)]
pub struct Parts {
    pub index: Arc<dyn Index>,
    pub blobs: Arc<dyn Blobs>,
    pub state: Arc<dyn SmallState>,
    pub quotas: Arc<dyn Quotas>,
    pub bench: Bench,
    pub previews: Arc<Previews>,
    pub prover: Arc<Prover>,
    pub space: VectorSpace,
    pub manifest: Manifest,
    /// None where the configuration names no file of one.
    pub taxonomy: Option<Arc<Taxonomy>>,
    /// Which classes of the model speak for which labels.
    pub witness: Witness,
    /// Only where a stage looks at pictures: loading the model takes time and memory.
    pub vision: Option<Arc<dyn Vision>>,
    /// None where the configuration names none, or no stage here asks it.
    pub safety: Option<Arc<dyn Safety>>,
    _owner: Option<Owner>,
}

impl Parts {
    pub async fn build(app: &App<'_>, bus: &Bus, owner: Option<Owner>, stages: &[StageName]) -> anyhow::Result<Self> {
        let config = &app.config;
        let home = app.home()?;
        let bench = Bench::new(None);
        let manifest = model::manifest(home.root(), &config.model)?;
        let (space, dimensions) = model::space(&manifest)?;
        let blobs: Arc<dyn Blobs> = Arc::new(MeteredBlobs(blobs(&home, &config.stores)?));
        blobs.check().await.or_problem("pictures could not be kept", SEE_STORES)?;
        let previews = Arc::new(Previews::new(blobs.clone(), bench.clone(), config.stores.previews_cached));
        // Before the index, which is made for the vectors of this model.
        let sees = stages.iter().any(|stage| SEEING.contains(stage));
        let vision = match sees {
            true => Some(vision(app, &manifest, &space, &previews).await?),
            false => None,
        };
        let safety = match stages.contains(&StageName::Verify) {
            true => safety(app, &home, &previews).await?,
            false => None,
        };
        let index = index::open(&home, &config.stores, vec![(space.clone(), dimensions)]).await?;
        let index: Arc<dyn Index> = Arc::new(MeteredIndex(index));
        let confirm = config.repeats.confirm.clone();
        let error = config.calibration.of(repeats::SETTING, confirm.agreement_min);
        let prover = Prover::new(previews.clone(), blobs.clone(), bench.clone(), confirm, config.repeats.cached);
        let prover = Arc::new(prover.calibrated(error));
        let state = bus.state().await?;
        let quotas = bus.quotas(config.devices).await?;
        let taxonomy = config.taxonomy.load().or_problem("the taxonomy cannot be used", "correct `[taxonomy]`")?;
        let witness = model::witness(&manifest, &config.model, taxonomy.as_ref())?;
        let taxonomy = taxonomy.map(Arc::new);
        Ok(Self {
            taxonomy,
            witness,
            index,
            blobs,
            state,
            quotas,
            bench,
            previews,
            prover,
            space,
            manifest,
            vision,
            safety,
            _owner: owner,
        })
    }
}

/// The pictures, data sets and models of this home. A bucket is not asked yet: [`Blobs::check`] does.
pub fn blobs(home: &Home, stores: &Stores) -> anyhow::Result<Arc<dyn Blobs>> {
    if let Some(options) = bucket(&stores.s3)? {
        let opened = ObjectBlobs::s3(&options);
        let what = format!("could not open the pictures in bucket `{}`", options.bucket);
        return Ok(Arc::new(opened.or_problem(what, SEE_STORES)?));
    }
    let place = stores.blobs.clone().unwrap_or_else(|| home.blobs());
    let opened = match stores.synced {
        true => ObjectBlobs::directory_synced(&place),
        false => ObjectBlobs::directory(&place),
    };
    let what = format!("could not open the pictures in `{}`", place.display());
    Ok(Arc::new(opened.or_problem(what, "see `stores.blobs` in `dih config print`")?))
}

/// Where the bucket is and who we are there; None where pictures lie in a folder.
pub fn bucket(s3: &config::S3) -> anyhow::Result<Option<s3::Options>> {
    let (Some(endpoint), Some(bucket), Some(account)) = (&s3.endpoint, &s3.bucket, &s3.access_key_id) else {
        return Ok(None);
    };
    let file = s3.secret_access_key_file.as_deref();
    let place = secret::Place { file, setting: "stores.s3.secret_access_key_file", variable: S3_VARIABLE };
    let wrong = |problem: String| Problem::usage(problem, "correct `stores.s3.endpoint`");
    Ok(Some(s3::Options {
        endpoint: endpoint.parse().map_err(wrong)?,
        bucket: bucket.clone(),
        prefix: s3.prefix.clone().unwrap_or_default(),
        region: s3.region.clone(),
        access_key_id: account.clone(),
        secret: place.read(&format!("secret access key of `{account}`"))?,
        path_style: s3.path_style,
        ca_file: s3.ca_file.clone(),
        timeout: s3.timeout.0,
        retry_for: s3.retry_for.0,
    }))
}

async fn vision(
    app: &App<'_>,
    manifest: &Manifest,
    space: &VectorSpace,
    previews: &Arc<Previews>,
) -> anyhow::Result<Arc<dyn Vision>> {
    let classes = manifest.labels().or_problem("the classes of the model cannot be read", MAKE_SETUP)?;
    let (manifest, config) = (manifest.clone(), app.config.inference.clone());
    let engine = spawn_blocking(move || Engine::load(manifest, &config)).await?;
    let remedy = model::remedy(app.config.inference.provider);
    let engine = Arc::new(engine.or_problem("the model cannot be run", remedy)?);
    Ok(Arc::new(Eye::new(engine, space.clone(), classes, previews.clone())))
}

async fn safety(app: &App<'_>, home: &Home, previews: &Arc<Previews>) -> anyhow::Result<Option<Arc<dyn Safety>>> {
    let Some((manifest, class)) = model::safety(home.root(), &app.config.model)? else { return Ok(None) };
    let config = app.config.inference.clone();
    let engine = spawn_blocking(move || Engine::load(manifest, &config)).await?;
    let engine = Arc::new(engine.or_problem("the safety model cannot be run", SETUP_SAFETY)?);
    Ok(Some(Arc::new(Guard::new(engine, class, previews.clone()))))
}
