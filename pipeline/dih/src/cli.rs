//! The command line: what can be said. What it does stands in `commands`, one file a command.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    audit, bench, broker_guard, calibrate, capacity, config, count, datasets, dead, device, explain, import, models,
    run, setup, simulate, submit, taxonomy, train, verdicts,
};

/// Turns a stream of labelled photos into clean, versioned data sets.
///
/// Exit codes: 0 all is fine; 1 it failed, or found what it looked for; 2 the command line or the configuration is
/// wrong; 3 some of it was done.
#[derive(Debug, Parser)]
#[command(name = "dih", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Folder in which all state of the embedded default lies.
    #[arg(long, global = true, env = "DIH_HOME", default_value = ".dih", value_name = "DIR")]
    pub home: PathBuf,
    /// Configuration file; without it `dih.toml` in the home folder, if there is one.
    #[arg(long, global = true, env = "DIH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on standard error; twice for every detail. RUST_LOG says it finer.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the streams, consumers and buckets of the broker, the bucket of blobs and the collection of the index, and look
    /// whether all tools are there.
    Setup(setup::Cmd),
    /// Run stages: all of them in this process, or those named.
    Run(run::Cmd),
    /// Send one photo.
    Submit(submit::Cmd),
    /// Send all photos of a labelled folder, each as it is.
    Import(import::Cmd),
    /// Send what a crowd of devices would: varied shots, repeats, wrong labels, broken files. Seeded.
    Simulate(simulate::Cmd),
    /// Hold the ledger against the uploads: is every one answered exactly once?
    Audit(audit::Cmd),
    /// List what became of every upload.
    Verdicts(verdicts::Cmd),
    /// Tell every decision about one photo.
    Explain(explain::Cmd),
    /// Count the photos that are there, by label, state or attribute.
    Count(count::Cmd),
    /// Make, cut, look at, copy out and check data sets.
    Datasets(datasets::Cmd),
    /// Train a classifier on a version of a data set.
    Train(train::Cmd),
    /// Look at messages that no stage could process, and send them again.
    Dead(dead::Cmd),
    /// Let devices in, shut them out, and see what became of what they sent.
    Device(device::Cmd),
    /// Print, check or describe the configuration.
    Config(config::Cmd),
    /// Look at the labels that are known, and map a classifier's classes to them.
    Taxonomy(taxonomy::Cmd),
    /// Look at the models.
    Models(models::Cmd),
    /// Measure decisions, speed and memory on photos whose truth is known. Seeded.
    Bench(bench::Cmd),
    /// Propose thresholds from your own photos, with their measured errors; nothing changes until it is accepted.
    Calibrate(calibrate::Cmd),
    /// Say how many replicas, cores and GPUs, and how much disk it takes for so many photos a day.
    Capacity(capacity::Cmd),
    /// Watches the embedded broker; started by other commands.
    #[command(hide = true)]
    BrokerGuard(broker_guard::Cmd),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check(line: &str, fits: bool) {
        let parsed = Cli::try_parse_from(line.split(' '));
        assert_eq!(parsed.is_ok(), fits, "{line}: {parsed:?}");
    }

    #[test]
    fn what_scripts_rely_on_is_understood() {
        for line in [
            "dih --home h import photos --labels photos/labels.csv",
            "dih import --home h photos",
            "dih run --until-idle --home h",
            "dih run ingest dedupe --listen 127.0.0.1:9090",
            "dih submit a.jpg --label cat --label dog --device cam-1",
            "dih verdicts --json",
            "dih audit --json",
            "dih audit --line",
            "dih explain 12",
            "dih explain e3b0c442-98fc-1c14-9afb-f4c8996fb924",
            "dih explain train/cat/a.jpg",
            "dih count --json",
            "dih count --by attribute --states curated,held --labels cat,dog --where country=DE --most 5",
            "dih datasets ls",
            "dih datasets show pets",
            "dih datasets create pets --labels cat,dog --where country=DE",
            "dih datasets cut pets --json",
            "dih datasets export pets@1 --format image-folder out",
            "dih datasets verify pets@1",
            "dih train pets@1 --labels cat,dog --json",
            "dih datasets create animals --labels Animal --descendants",
            "dih import --open-images oi --photos photos --check",
            "dih taxonomy show Animal",
            "dih taxonomy map --classes labels.txt",
            "dih setup --site",
            "dih capacity --photos-per-day 1000000 --peak 4 --cost verify=7.5 --gpu 900 --plot day.svg",
            "dih dead ls",
            "dih dead show 3",
            "dih dead replay 3",
            "dih device add cam-1 --dir keys --photos-per-hour 500 --bytes-per-hour 2GB",
            "dih device ls --json",
            "dih device rotate cam-1",
            "dih device revoke cam-1",
            "dih device limit cam-1 --photos-per-hour 10",
            "dih device conf",
            "dih config print",
            "dih config check",
            "dih config schema",
            "dih models ls",
            "dih models check",
            "dih bench repeats photos --uploads 400 --seed 2 --json",
            "dih bench labels photos --labels photos/labels.csv --shots",
            "dih bench speed photos",
            "dih bench quality photos --uploads 300 --json",
            "dih calibrate photos --photos 200 --decisions decisions.csv",
            "dih calibrate --accept --json",
            "dih bench memory photos",
            "dih bench scale photos --points 10000,1000000 --photos 2000 --plot scale.svg",
            "dih simulate photos --uploads 100 --devices 4 --rate 20 --seed 7 --truth t.csv",
        ] {
            check(line, true);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "dih",
            "dih run fly",
            "dih submit a.jpg",
            "dih submit a.jpg --label a/b",
            "dih count --by size",
            "dih count --states fine",
            "dih datasets create Pets",
            "dih datasets create pets --descendants",
            "dih import photos --open-images oi",
            "dih import photos --check",
            "dih datasets create pets --where country",
            "dih datasets export pets@1 --format floppy out",
            "dih train pets@0",
            "dih capacity --photos-per-day 0",
            "dih capacity --photos-per-day 1 --cost fly=1",
            "dih device add a.b",
            "dih device revoke",
            "dih simulate photos --repeats 2",
        ] {
            check(line, false);
        }
    }
}
