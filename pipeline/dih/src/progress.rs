//! How far long work has come: a bar where a person looks, plain lines elsewhere. Always on standard error.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::say;

/// Least time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: u64,
    done: u64,
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// `what` is counted: `photos`. A total of 0 is one that nobody knows yet.
    pub fn of(total: u64, what: &'static str) -> Self {
        let style = ProgressStyle::with_template(match total {
            0 => "{pos} {msg}  {per_sec}",
            _ => "{bar:32} {pos}/{len} {msg}  {per_sec}  {eta} left",
        });
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_message(what);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, what, total, done: 0, begun: Instant::now(), said: Instant::now() }
    }

    pub fn step(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if self.said.elapsed() >= PLAIN_EVERY => {
                self.said = Instant::now();
                let rate = self.done as f64 / self.begun.elapsed().as_secs_f64();
                let of = if self.total > 0 { format!(" of {}", self.total) } else { String::new() };
                say(format!("{}{of} {}, {rate:.0} a second", self.done, self.what));
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
