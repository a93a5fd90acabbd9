//! The index of this run: in this process, or on a server.
//!
//! Takes    the configuration and the vector spaces of the model. Gives [`Index`], or serves it to others.
//! Owner    who opens the embedded index holds the owner lock of the home; who uses a server needs none, so there may be many.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use dih_core::{
    Class, Classify, Secret, chain,
    event::VectorSpace,
    ports::{Index, StoreError},
};
use dih_stores::index::{
    EdgeIndex, QdrantIndex,
    qdrant::{
        Settings,
        served::{Access, Listener, Tls},
    },
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    app::App,
    config::{Qdrant, Served, Stores},
    home::{Holder, Home, Owner},
    model,
    output::say,
    problem::{OrProblem, Problem},
    secret,
};

/// Holds the key of the index server, where no file does.
const KEY_VARIABLE: &str = "DIH_QDRANT_API_KEY";
/// Where a person reads on.
const SEE_INDEX: &str = "see `stores.index` and `[stores.qdrant]` in `dih config print`, and docs/stores.md";

/// Longest wait for a server that does not answer when a process starts, and between two looks.
const START_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The vector spaces of the model, and their numbers a vector.
pub type Spaces = Vec<(VectorSpace, usize)>;

/// Takes the owner lock where the index is in this process; a problem that names the holder where another has it.
pub fn own(home: &Home, stores: &Stores, command: &str) -> anyhow::Result<Option<Owner>> {
    match stores.qdrant.url {
        Some(_) => Ok(None),
        None => home.own(command).map(Some),
    }
}

/// As [`own`], but says who holds it.
pub fn try_own(home: &Home, stores: &Stores, command: &str) -> anyhow::Result<Result<Option<Owner>, Holder>> {
    match stores.qdrant.url {
        Some(_) => Ok(Ok(None)),
        None => Ok(home.try_own(command)?.map(Some)),
    }
}

/// Opens the index in this process, or connects to its server.
pub async fn open(home: &Home, stores: &Stores, spaces: Spaces) -> anyhow::Result<Arc<dyn Index>> {
    match settings(&stores.qdrant)? {
        Some(settings) => {
            let what = format!("could not use the index at `{}`", settings.url);
            Ok(Arc::new(connect(settings, &spaces).await.or_problem(what, SEE_INDEX)?))
        }
        None => Ok(Arc::new(embedded(home, stores, spaces).await?)),
    }
}

/// Waits for a server that is just being started; one that refuses us is no better later.
async fn connect(settings: Settings, spaces: &Spaces) -> Result<QdrantIndex, StoreError> {
    let until = Instant::now() + START_MAX;
    loop {
        match QdrantIndex::connect(settings.clone(), spaces).await {
            Err(error) if error.class() == Class::Retry && Instant::now() < until => {
                tracing::info!(error = %chain(&error), "the index does not answer yet");
                sleep(LOOK_EVERY).await;
            }
            connected => return connected,
        }
    }
}

async fn embedded(home: &Home, stores: &Stores, spaces: Spaces) -> anyhow::Result<EdgeIndex> {
    let place = stores.index.clone().unwrap_or_else(|| home.index());
    let synced = stores.synced;
    let opened = spawn_blocking(move || match synced {
        true => EdgeIndex::open_synced(place, &spaces),
        false => EdgeIndex::open(place, &spaces),
    });
    opened.await?.or_problem("could not open the index", SEE_INDEX)
}

/// None where the index is in this process.
fn settings(qdrant: &Qdrant) -> anyhow::Result<Option<Settings>> {
    let Some(url) = &qdrant.url else { return Ok(None) };
    Ok(Some(Settings {
        url: url.clone(),
        api_key: key(qdrant.api_key_file.as_deref(), "stores.qdrant.api_key_file")?,
        collection: qdrant.collection.clone(),
        replicas: qdrant.replicas.get(),
        timeout: qdrant.timeout.0,
    }))
}

/// Serves the embedded index of this home to other processes, until `stop` is done.
pub async fn serve(app: &App<'_>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let home = app.home()?;
    let _owner = home.own("run index")?;
    let stores = &app.config.stores;
    let api_key = key(stores.served.api_key_file.as_deref(), "stores.served.api_key_file")?;
    let at = stores.served.listen;
    if api_key.is_none() && !at.ip().is_loopback() {
        let remedy = format!("set `stores.served.api_key_file`, or the variable {KEY_VARIABLE}");
        return Err(Problem::usage(format!("the index would be open to all who reach {at}"), remedy).into());
    }
    let tls = certificate(&stores.served)?;
    let listener = Listener::bind(at, tls.as_ref()).or_problem("could not serve the index", SEE_INDEX)?;
    let (space, numbers) = model::space(&model::manifest(home.root(), &app.config.model)?)?;
    let index = Arc::new(embedded(&home, stores, vec![(space, numbers)]).await?);
    let scheme = if tls.is_some() { "https" } else { "http" };
    say(format!("serving the index at {scheme}://{}", listener.address()));
    let access = Access { api_key, collection: stores.qdrant.collection.clone() };
    listener.serve(index.clone(), access, stop).await.or_problem("could not serve the index", SEE_INDEX)?;
    index.close().await.or_problem("could not close the index", SEE_INDEX)
}

/// None where it serves in plain text.
fn certificate(served: &Served) -> anyhow::Result<Option<Tls>> {
    let Some((cert_file, key_file)) = served.cert_file.as_ref().zip(served.key_file.as_ref()) else { return Ok(None) };
    let read = |file: &Path, setting: &str| {
        let what = format!("could not read `{}`, by which the index is served", file.display());
        fs::read_to_string(file).or_problem(what, format!("correct `stores.served.{setting}`"))
    };
    let key = Secret::new(read(key_file, "key_file")?);
    Ok(Some(Tls { certificates: read(cert_file, "cert_file")?, key }))
}

/// The key of the index server; none where nothing holds one.
fn key(file: Option<&Path>, setting: &str) -> anyhow::Result<Option<Secret>> {
    let place = secret::Place { file, setting, variable: KEY_VARIABLE };
    match file.is_some() || std::env::var_os(KEY_VARIABLE).is_some() {
        true => place.read("key of the index").map(Some),
        false => Ok(None),
    }
}
