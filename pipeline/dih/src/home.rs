//! The folder in which all state of one installation lies, and who may write it.
//!
//! Gives    the places below it, and the *owner lock*: the embedded index has one owner process, so `dih run` and the
//!          commands that need work done hold `run.lock` while they do it.
//! Crash    the lock falls with its process; what stands in the file is only for people.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::problem::{OrProblem, Problem};

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes the folder where there is none.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let problem = || format!("could not make the home folder `{}`", root.display());
        let remedy = "name a folder that you may write, with `--home DIR` or DIH_HOME";
        fs::create_dir_all(root).or_problem(problem(), remedy)?;
        let root = root.canonicalize().or_problem(problem(), remedy)?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Store, configuration and log of the embedded broker.
    pub fn broker(&self) -> PathBuf {
        self.root.join("broker")
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// What was sent of the imports that have not ended.
    pub fn import(&self) -> PathBuf {
        self.root.join("import")
    }

    /// Takes the owner lock; a [`Problem`] that names the holder where another process has it.
    pub fn own(&self, command: &str) -> anyhow::Result<Owner> {
        match self.try_own(command)? {
            Ok(owner) => Ok(owner),
            Err(holder) => Err(Problem::new(
                format!("`{}` is in use by {holder}", self.root.display()),
                "wait for it to end, stop it, or choose another folder with `--home DIR`",
            )
            .into()),
        }
    }

    /// Takes the owner lock, or says who holds it.
    pub fn try_own(&self, command: &str) -> anyhow::Result<Result<Owner, Holder>> {
        let path = self.root.join("run.lock");
        let problem = || format!("could not lock `{}`", path.display());
        let remedy = "look whether the disk is full and the folder is yours";
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.or_problem(problem(), remedy)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).or_problem(problem(), remedy)?;
                return Ok(Err(Holder(holder.trim().to_owned())));
            }
            Err(error) => return Err(error).or_problem(problem(), remedy),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{} {command}", std::process::id())
        };
        write(&mut file).or_problem(problem(), remedy)?;
        Ok(Ok(Owner { _locked: file }))
    }
}

/// Proof that this process alone may open the embedded index.
#[derive(Debug)]
pub struct Owner {
    _locked: File,
}

/// Whoever has the lock: its process id and command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.split_once(' ') {
            Some((pid, command)) => write!(f, "process {pid} (`dih {command}`)"),
            None => write!(f, "another process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_owners_the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(&dir.path().join("home")).expect("a home");
        let first = home.own("run").expect("nobody holds it");
        let refused = home.own("train").expect_err("somebody holds it").to_string();
        assert!(refused.contains(&format!("process {} (`dih run`)", std::process::id())), "{refused}");
        drop(first);
        home.own("train").expect("free again");
    }
}
