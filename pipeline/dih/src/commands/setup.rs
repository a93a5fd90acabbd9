//! `dih setup`: makes what the broker, the S3 server and the index server need, and looks whether all tools are there.

use std::num::NonZeroU32;

use clap::Args;
use dih_core::ports::Blobs;
use dih_runner::topology;
use dih_stores::{
    blob::ObjectBlobs,
    s3::bucket::{self, Done, Keep, SetUp},
};
use serde_json::json;

use crate::{
    app::App,
    bus::{self, Bus},
    index,
    model::{self, MAKE_SETUP},
    parts::{self, SEE_STORES},
    problem::{Exit, OrProblem, Problem},
};

#[derive(Debug, Args)]
pub struct Cmd {
    /// Make what the broker of a site needs, in place of a hub's: the stream that keeps uploads while it is offline. The
    /// configuration names that broker.
    #[arg(long)]
    site: bool,
    /// Only look whether broker, blobs and index answer and are set up, as stages do when they start; of all that may be
    /// missing only the collection of the index is made.
    #[arg(long, conflicts_with = "site")]
    check: bool,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    if cmd.site {
        return set_up_site(app).await;
    }
    if cmd.check {
        return check(app).await;
    }
    let home = app.home()?;
    let bucket = set_up_bucket(app).await?;
    let bus = Bus::connect(&home, &app.config).await?;
    bus.set_up(&app.config.broker).await?;
    let library = app.config.inference.library_path().or_problem("ONNX Runtime is missing", MAKE_SETUP)?;
    let manifest = model::manifest(home.root(), &app.config.model)?;
    let served = app.config.stores.qdrant.url.as_ref();
    if served.is_some() {
        index::open(&home, &app.config.stores, vec![model::space(&manifest)?]).await?;
    }
    let server = match &app.config.broker.url {
        Some(_) => None,
        None => Some(bus::server(&app.config.broker)?),
    };
    if app.out.json {
        app.out.json(&json!({
            "home": home.root(),
            "broker": bus.connection().url(),
            "bucket": bucket,
            "index": served,
            "nats_server": server,
            "onnxruntime": library,
            "model": manifest.model_path(),
        }))?;
        return Ok(Exit::Done);
    }
    app.out.line(format!("home      {}", home.root().display()))?;
    app.out.line(format!("broker    {} is set up", bus.connection().url()))?;
    if let Some(done) = &bucket {
        for line in told(done, app.config.stores.s3.noncurrent_days) {
            app.out.line(format!("bucket    {line}"))?;
        }
    }
    if let Some(url) = served {
        app.out.line(format!("index     {url} has its collection"))?;
    }
    app.out.line(format!("library   {}", library.display()))?;
    app.out.line(format!("model     {} has its hash", manifest.model_path().display()))?;
    Ok(Exit::Done)
}

/// As a stage does when it starts.
async fn check(app: &App<'_>) -> anyhow::Result<Exit> {
    let home = app.home()?;
    let bus = app.bus().await?;
    bus.blobs(app)?.check().await.or_problem("pictures could not be kept", SEE_STORES)?;
    let manifest = model::manifest(home.root(), &app.config.model)?;
    if app.config.stores.qdrant.url.is_some() {
        index::open(&home, &app.config.stores, vec![model::space(&manifest)?]).await?;
    }
    if app.out.json {
        app.out.json(&json!({ "set_up": true }))?;
    } else {
        app.out.line("broker, blobs and index answer and are set up")?;
    }
    Ok(Exit::Done)
}

async fn set_up_site(app: &App<'_>) -> anyhow::Result<Exit> {
    let broker = &app.config.broker;
    if broker.url.is_none() {
        let remedy = "name it in `broker.url`, with the login of its account SITE; see docs/devices.md";
        return Err(Problem::usage("a site has a broker of its own, and none is named", remedy).into());
    }
    let bus = Bus::connect(&app.home()?, &app.config).await?;
    topology::setup_site(bus.connection(), broker.bytes_max.uploads).await?;
    let days = topology::OUTBOX_KEPT.as_secs() / (24 * 3600);
    app.out.line(format!("{} keeps uploads for {days} days, until its hub fetches them", bus.connection().url()))?;
    Ok(Exit::Done)
}

/// Makes the bucket as we need it, and tries it; None where pictures lie in a folder.
async fn set_up_bucket(app: &App<'_>) -> anyhow::Result<Option<SetUp>> {
    let s3 = &app.config.stores.s3;
    let Some(options) = parts::bucket(s3)? else { return Ok(None) };
    let what = format!("bucket `{}` could not be set up", options.bucket);
    let set_up = async {
        let done = bucket::set_up(&options, Keep { noncurrent_days: s3.noncurrent_days }).await?;
        ObjectBlobs::s3(&options)?.check().await?;
        Ok::<_, dih_core::ports::StoreError>(done)
    };
    Ok(Some(set_up.await.or_problem(what, SEE_STORES)?))
}

/// What was done, for a person.
fn told(done: &SetUp, days: NonZeroU32) -> [String; 3] {
    let bucket = match done.bucket {
        Done::Made => "was made; of two creates of one name, one wins",
        _ => "is there; of two creates of one name, one wins",
    };
    let versions = match done.versioning {
        Done::Made => "keeps versions from now on",
        Done::Unknown => "keeps no versions, for its server knows none: what is deleted is gone",
        Done::Found | Done::LeftAlone => "keeps versions",
    };
    let rules = match done.rules {
        Done::Made | Done::Found => format!("removes old versions after {days} days, unfinished uploads after one"),
        Done::Unknown => "is never tidied up, for its server knows no rules: remove old versions yourself".into(),
        Done::LeftAlone => format!(
            "has rules that others made, so none was added: add some that remove old versions after {days} days, and \
             unfinished uploads after one"
        ),
    };
    [bucket.into(), versions.into(), rules]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_is_told_with_what_to_do() {
        let done = SetUp { bucket: Done::Made, versioning: Done::Unknown, rules: Done::LeftAlone };
        let [bucket, versions, rules] = told(&done, NonZeroU32::MIN);
        assert!(bucket.starts_with("was made"), "{bucket}");
        assert!(versions.contains("what is deleted is gone"), "{versions}");
        assert!(rules.contains("add some that remove old versions after 1 days"), "{rules}");
    }
}
