//! What was struck, when, and what the system did: a table that grows as the run goes on.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use crate::strike::Seen;

#[derive(Debug)]
pub(crate) struct Report {
    file: File,
    path: PathBuf,
    rows: usize,
}

/// One fault and what followed.
#[derive(Debug)]
pub(crate) struct Row {
    /// Since the first upload was sent.
    pub(crate) at: Duration,
    pub(crate) fault: &'static str,
    pub(crate) seen: Seen,
    pub(crate) held: Duration,
    /// Uploads under way when it struck.
    pub(crate) under_way: u64,
    /// Uploads answered while it held.
    pub(crate) answered: u64,
    /// From its end to the next answer.
    pub(crate) quiet: Duration,
}

impl Report {
    /// Below the folder of the build, named by the seed.
    pub(crate) fn create(uploads: u64, faults: usize, seed: u64) -> Result<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("chaos-{uploads}-{faults}-seed-{seed}.md"));
        let mut file = File::create(&path)?;
        writeln!(file, "# Chaos: {uploads} uploads, {faults} faults, seed {seed}\n")?;
        writeln!(
            file,
            "| nr | at s | fault | whom | under way | what was seen | held s | answers meanwhile | next answer s |"
        )?;
        writeln!(file, "|---|---|---|---|---|---|---|---|---|")?;
        Ok(Self { file, path, rows: 0 })
    }

    pub(crate) fn row(&mut self, row: &Row) -> Result<()> {
        self.rows += 1;
        let Row { at, fault, seen: Seen { target, told }, held, under_way, answered, quiet } = row;
        let [at, held, quiet] = [at, held, quiet].map(Duration::as_secs_f64);
        let line = format!(
            "| {} | {at:.1} | {fault} | {target} | {under_way} | {told} | {held:.1} | {answered} | {quiet:.1} |",
            self.rows
        );
        eprintln!("{line}");
        Ok(writeln!(self.file, "{line}")?)
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        eprintln!("{line}");
        Ok(writeln!(self.file, "\n{line}")?)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}
