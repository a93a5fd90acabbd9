//! What a command hands back to the shell: an exit code, and for a person the reason and what to do next.

use std::{io, process::ExitCode};

use crate::output::say;

/// Exit codes that scripts can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is fine.
    Done,
    /// It failed, or found what it was asked to look for: something missing, something dead.
    Failed,
    /// The command line or the configuration is wrong; nothing was begun.
    Usage,
    /// Some of it was done, and what was not is named.
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
        })
    }
}

/// What went wrong, and what to do about it. The cause, if any, hangs below it in the chain of the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Problem {
    pub what: String,
    pub remedy: String,
    pub exit: Exit,
}

impl Problem {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), exit: Exit::Failed }
    }

    /// Of the command line or the configuration.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what, remedy) }
    }
}

/// Puts a [`Problem`] on top of an error.
pub trait OrProblem<T> {
    fn or_problem(self, what: impl Into<String>, remedy: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrProblem<T> for Result<T, E> {
    fn or_problem(self, what: impl Into<String>, remedy: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(Problem::new(what, remedy)))
    }
}

/// Prints the chain of reasons once and what to do next, and says how to exit.
///
/// A reader that closed the pipe (`dih verdicts | head`) has seen all it wanted: that is no failure.
pub fn report(error: &anyhow::Error) -> Exit {
    if error.chain().any(is_broken_pipe) {
        return Exit::Done;
    }
    say(format!("error: {error:#}"));
    let Some(problem) = error.downcast_ref::<Problem>() else { return Exit::Failed };
    if !problem.remedy.is_empty() {
        say(format!("  next: {}", problem.remedy));
    }
    problem.exit
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("could not print");
        assert_eq!(report(&closed), Exit::Done);
    }

    #[test]
    fn the_exit_code_of_a_problem_is_found_below_other_reasons() {
        let error = anyhow::Error::from(Problem::usage("bad", "do good")).context("outer");
        assert_eq!(report(&error), Exit::Usage);
        assert_eq!(report(&anyhow::anyhow!("plain")), Exit::Failed);
    }
}
