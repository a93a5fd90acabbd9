//! Measures the whole pipeline on photos whose truth is known: quality of its decisions, speed, memory.
//!
//! Takes    a labelled folder and a seed. Gives figures; the same folder and seed give the same uploads.
//! Keeps    a home of its own, gone afterwards ([`trial`]). What is scored is what every user sees: the commands are run
//!          as they are, and only their output is read.
//! Weak at  a folder that has repeats or wrong labels of its own: they are counted against the pipeline.

pub mod copies;
pub mod cost;
pub mod damage;
pub mod flips;
pub mod labels;
pub mod lesson;
pub mod quality;
pub mod repeats;
pub mod sample;
pub mod scale;
pub mod trial;

use serde::Deserialize;

/// What is read of a line of `dih verdicts --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Verdict {
    pub source: String,
    pub verdict: String,
    pub of_source: Option<String>,
    pub label_score: Option<f32>,
}

/// What is read of a row of the truth about a crowd.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct True {
    pub source: String,
    pub device: String,
    pub label: String,
    pub true_label: String,
    pub kind: String,
    pub of_source: String,
    pub edit: String,
    pub photo: String,
}

/// Precision and recall of a yes or no question.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Score {
    /// Said and true.
    pub hits: u64,
    /// Said, but not true.
    pub false_alarms: u64,
    /// True, but not said.
    pub misses: u64,
}

impl Score {
    /// None where nothing was said.
    pub fn precision(self) -> Option<f64> {
        share(self.hits, self.hits + self.false_alarms)
    }

    /// None where nothing was true.
    pub fn recall(self) -> Option<f64> {
        share(self.hits, self.hits + self.misses)
    }

    /// Harmonic mean of both.
    pub fn f1(self) -> Option<f64> {
        share(2 * self.hits, 2 * self.hits + self.false_alarms + self.misses)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
