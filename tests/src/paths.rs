//! Where things are on the machine that runs the tests.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The binary under test: built beside the test binaries, by `make test`.
pub fn dih_binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("a test binary lies in target/<profile>/deps")?;
    let binary = profile.join("dih");
    if !binary.exists() {
        bail!("{} is missing; run `cargo build --workspace --features dih/failpoints` first", binary.display());
    }
    Ok(binary)
}

/// What `make setup` brought.
pub fn tools() -> Result<PathBuf> {
    let tools = std::env::var_os("DIH_TOOLS").map_or_else(|| repository().join(".tools"), PathBuf::from);
    if !tools.join("bin/nats-server").exists() {
        bail!("{} has no nats-server; run `make setup`", tools.display());
    }
    Ok(tools)
}

/// Python with stock readers of the published formats.
pub fn readers_python() -> Result<PathBuf> {
    let python = tools()?.join("readers-venv/bin/python");
    if !python.exists() {
        bail!("{} is missing; run `make setup-readers`", python.display());
    }
    Ok(python)
}

/// Runs a Python script that writes files, as its arguments say. It can import what lies in `tests/readers`.
pub fn make_by_python(script: &str, arguments: &[&Path]) -> Result<()> {
    let mut python = Command::new(readers_python()?);
    let made =
        python.args(["-c", script]).args(arguments).env("PYTHONPATH", repository().join("tests/readers")).output()?;
    ensure!(made.status.success(), "a script failed: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// Real photos that may not be part of the repository: `shared/data` beside one of the parent folders.
/// Prints why the test is skipped where there are none.
pub fn shared_data() -> Option<PathBuf> {
    let found = repository().ancestors().map(|a| a.join("shared/data")).find(|p| p.is_dir());
    if found.is_none() {
        eprintln!("skipped: needs the photos of shared/data beside the repository");
    }
    found
}
