//! `dih bench scale`: does a photo cost more in a large collection than in a small one?

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use dih_inference::Once;

use super::fraction;
use crate::{
    app::App,
    bench::{
        sample,
        scale::{
            self,
            figures::{At, Figures},
            plot,
            world::{self, Base, World},
        },
    },
    output::{Table, say},
    problem::{Exit, OrProblem, Problem},
};

/// Real photos that a stream is made of, at most.
const BASES: usize = 2_000;

/// Fills an index of each size with made-up points, and sends photos through dedupe and cluster over each of them in turns.
///
/// The points are made of real photos: their vectors are blends of real ones, with as many neighbours in a large collection as
/// in a small one; one in twenty is nearly an earlier one. Takes 8 kB of disk a point in the
/// folder for temporary files (`TMPDIR`).
#[derive(Debug, Args)]
pub(super) struct Cmd {
    /// Folder of photos: one folder a label, or with a `labels.csv`.
    dir: PathBuf,
    /// CSV with the columns `file,label`.
    #[arg(long, value_name = "CSV")]
    labels: Option<PathBuf>,
    /// Sizes to measure at, in points.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000", value_name = "N[,N..]")]
    points: Vec<u64>,
    /// Photos to measure at each size.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    photos: u64,
    /// Searches whose answers are held against a comparison with all points.
    #[arg(long, default_value_t = 40, value_name = "N")]
    queries: u64,
    /// The same seed gives the same points.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw the cost against the size to this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

pub(super) async fn run(app: &App<'_>, mut cmd: Cmd) -> anyhow::Result<Exit> {
    cmd.points.sort_unstable();
    if cmd.points.first().is_none_or(|least| *least < 1_000) || cmd.photos == 0 {
        return Err(
            Problem::usage("a size is below 1,000, or no photo is to be measured", "try `--points 10000`").into()
        );
    }
    let bases = bases(app, &cmd)?;
    say(format!("{} real photos", bases.len()));
    let numbers = bases[0].vector.len();
    let world = World::new(bases, cmd.seed);
    let sizes = scale::measure(&world, &app.config, &cmd.points, cmd.photos, cmd.queries).await?;
    let figures = Figures::of(numbers, sizes);
    if let Some(file) = &cmd.plot {
        let what = format!("could not write `{}`", file.display());
        std::fs::write(file, plot::svg(&figures)).or_problem(what, "name a file in a folder of yours")?;
    }
    print(app, &figures)?;
    Ok(Exit::Done)
}

/// Photos of the folder with the vectors that the model gives them.
fn bases(app: &App<'_>, cmd: &Cmd) -> anyhow::Result<Vec<Base>> {
    let files = sample::photos(&cmd.dir, cmd.labels.as_deref(), BASES, cmd.seed)?;
    let home = tempfile::tempdir().context("could not make a temporary folder")?;
    let manifest = crate::model::manifest(home.path(), &app.config.model)?;
    let embedding = manifest.outputs.embedding.as_ref().context("the model gives no embedding")?;
    let mut model = Once::of(&manifest, &app.config.inference)?;
    world::read(&files, &app.config.ingest.limits, |preview| {
        let input = manifest.prepare(&preview.rgb, preview.width, preview.height)?;
        model.run(&embedding.name, &[input])?.pop().context("the model gave no vector")
    })
}

fn print(app: &App<'_>, figures: &Figures) -> anyhow::Result<()> {
    if app.out.json {
        return app.out.json(figures);
    }
    app.out.table(&costs(figures))?;
    app.out.line("")?;
    app.out.table(&calls(figures))?;
    app.out.line("")?;
    app.out.table(&places(figures))?;
    if let Some(growth) = figures.growth {
        app.out
            .line(format!("the largest over the smallest: {:.2}; the index alone {:.2}", growth.cpu, growth.index))?;
    }
    Ok(())
}

/// What a photo costs, in CPU milliseconds.
fn costs(figures: &Figures) -> Table {
    let mut table =
        Table::new(["points", "ms a photo", "index", "proof", "repeats", "suspects found", "neighbours found"]);
    for at in &figures.sizes {
        let ms = |ms: f64| format!("{ms:.2}");
        let (suspects, neighbours) =
            (at.recall.and_then(|r| r.suspects.share()), at.recall.and_then(|r| r.neighbours.share()));
        table.row([
            plot::grouped(at.points),
            ms(at.cpu_ms),
            ms(at.index_cpu_ms),
            ms(at.cpu_ms - at.index_cpu_ms),
            format!("{} of {}", at.repeats, at.photos),
            fraction(suspects),
            fraction(neighbours),
        ]);
    }
    table
}

/// What each call of the index costs a photo: CPU milliseconds, and in brackets calls and records found.
fn calls(figures: &Figures) -> Table {
    let mut table = Table::new(["points", "call", "ms a photo", "calls", "found"]);
    for at in &figures.sizes {
        for (name, call) in &at.calls {
            let (cpu, calls, found) = (call.cpu_ms, call.calls, call.found);
            table.row([
                plot::grouped(at.points),
                (*name).into(),
                format!("{cpu:.3}"),
                format!("{calls:.2}"),
                format!("{found:.1}"),
            ]);
        }
    }
    table
}

/// Memory, disk and times of the index.
fn places(figures: &Figures) -> Table {
    let mut table =
        Table::new(["points", "anonymous MiB", "resident MiB", "disk MiB", "fill CPU s", "open s", "open CPU s"]);
    for at in &figures.sizes {
        let At { memory, disk_mib, fill_cpu_s, open_s, open_cpu_s, .. } = at;
        let whole = |x: &f64| format!("{x:.0}");
        table.row([
            plot::grouped(at.points),
            whole(&memory.anonymous_mib),
            whole(&memory.resident_mib),
            whole(disk_mib),
            whole(fill_cpu_s),
            format!("{open_s:.1}"),
            format!("{open_cpu_s:.1}"),
        ]);
    }
    table
}
