//! `dih train`: trains a classifier on a version of a data set.

use clap::Args;
use dih_core::{
    Label, StageName, VersionId,
    event::{TrainingCompleted, TrainingRequested},
};
use dih_organize::version::Version;
use dih_runner::jobs::{self, Done};
use dih_train::TrainingReport;
use serde_json::json;

use crate::{app::App, bus, problem::Exit, work};

#[derive(Debug, Args)]
pub struct Cmd {
    /// The version to train on.
    #[arg(id = "dataset-version", value_name = "NAME@V")]
    version: VersionId,
    /// Only these labels; all of the version without.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    labels: Vec<Label>,
    /// Of all that is drawn in training.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub async fn run(app: &App<'_>, cmd: Cmd) -> anyhow::Result<Exit> {
    let bus = app.bus().await?;
    let blobs = bus.blobs(app)?;
    Version::read(&*blobs, &cmd.version).await?; // named wrongly? then now, not after minutes
    let request = bus::request_id();
    let asked =
        TrainingRequested { version: cmd.version, labels: cmd.labels, request: request.clone(), seed: cmd.seed };
    jobs::request_training(bus.connection(), &asked).await?;
    let done = match work::until(app, &bus, "train", &[StageName::Train], bus.answer(&request)).await? {
        Done::Trained(done) => done,
        odd => anyhow::bail!("the request to train was answered with {odd:?}"),
    };
    let TrainingCompleted { version, accuracy, test_photos, train_photos, .. } = &done;
    let (model, report) = (blobs.location(&done.model), blobs.location(&done.report));
    let left_out = serde_json::from_slice::<TrainingReport>(&blobs.get(&done.report).await?)?.left_out;
    match app.out.json {
        true => app.out.json(&json!({
            "version": version.to_string(),
            "accuracy": accuracy,
            "train_photos": train_photos,
            "test_photos": test_photos,
            "left_out": left_out,
            "model": model,
            "report": report,
        }))?,
        false => {
            let share = 100.0 * accuracy;
            app.out.line(format!(
                "accuracy {share:.1} % on {test_photos} test photos, after {train_photos} to learn from"
            ))?;
            if !left_out.is_empty() {
                app.out.line(format!("left out for too few photos: {}", left_out.join(", ")))?;
            }
            app.out.line(format!("model   {model}"))?;
            app.out.line(format!("report  {report}"))?;
        }
    }
    Ok(Exit::Done)
}
