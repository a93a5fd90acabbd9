//! One file a command: its arguments, what it does, what it prints. Nothing here decides about photos.

pub mod audit;
pub mod bench;
pub mod broker_guard;
pub mod calibrate;
pub mod capacity;
pub mod config;
pub mod count;
pub mod datasets;
pub mod dead;
pub mod device;
pub mod explain;
pub mod import;
pub mod models;
pub mod run;
pub mod setup;
pub mod simulate;
pub mod submit;
pub mod taxonomy;
pub mod train;
pub mod verdicts;

/// `KEY=VALUE` of a command line.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, for example country=DE".to_owned()),
    }
}
