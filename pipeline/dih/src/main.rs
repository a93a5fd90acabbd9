use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Reads FAILPOINTS; only in builds for tests.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    dih::start(dih::cli::Cli::parse()).into()
}
