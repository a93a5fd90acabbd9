//! What is measured of photos, one line each: `measures FILE...`, or with the names on the standard input.
//!
//! Prints CSV. The last line, on the standard error, says what decoding and measuring cost, in CPU time.

use std::io::{self, BufRead, Write};

use dih_imaging::{Limits, measures_of, read};
use rustix::time::{ClockId, clock_gettime};

const HEAD: &str =
    "file,overexposure,brightness,luma_p05,luma_p95,luma_p99,contrast,entropy,sharpness,acuity,noise,bars";

fn main() -> io::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let files = if named.is_empty() { io::stdin().lock().lines().collect::<io::Result<_>>()? } else { named };
    let mut out = io::stdout().lock();
    writeln!(out, "{HEAD}")?;
    let (mut reading, mut measuring) = (0.0, 0.0);
    for file in &files {
        let bytes = std::fs::read(file)?;
        let (start, decoded) = (cpu_seconds(), read(&bytes, &Limits::default()));
        reading += cpu_seconds() - start;
        let Ok(decoded) = decoded else {
            writeln!(out, "{file},,,,,,,,,,,")?;
            continue;
        };
        let (start, m) = (cpu_seconds(), measures_of(&decoded.preview));
        measuring += cpu_seconds() - start;
        let shown = [m.overexposure, Some(m.brightness), Some(m.luma_p05), Some(m.luma_p95), Some(m.luma_p99)];
        let rest = [Some(m.contrast), Some(m.entropy), Some(m.sharpness), m.acuity, m.noise, m.bars];
        let numbers = shown.iter().chain(&rest).map(|n| n.map_or_else(String::new, |n| n.to_string()));
        writeln!(out, "{file},{}", numbers.collect::<Vec<_>>().join(","))?;
    }
    let each = |seconds: f64| 1e6 * seconds / files.len().max(1) as f64;
    eprintln!("{} photos: read {:.0} us, of which measuring {:.0} us", files.len(), each(reading), each(measuring));
    Ok(())
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}
