use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    limit_arenas();
    // Reads FAILPOINTS; only in builds for tests.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    dih::start(dih::cli::Cli::parse()).into()
}

/// The allocator keeps up to eight arenas a core, and none gives to another what it has free: memory grew for as long as
/// photos flowed (docs/BENCHMARKS.md). One arena a core is enough; who sets MALLOC_ARENA_MAX knows better.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn limit_arenas() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let arenas = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
    // SAFETY: `mallopt` takes two numbers, and no other thread runs yet.
    #[allow(unsafe_code, reason = "no safe call sets the arenas of glibc")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn limit_arenas() {}
