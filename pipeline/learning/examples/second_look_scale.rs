//! What a second look costs among very many labels, on made-up vectors: CPU time, memory, and whether flips are found.
//!
//! `cargo run --release -p dih-learning --example second_look_scale -- MEMBERS LABELS [DIM]`
//!
//! Vectors are drawn anew whenever they are read, from the member's number, so that none lie in memory: a label's mean,
//! kin to that of a family of 20 labels, plus noise of about the same length. Every tenth label is wrong, half of these
//! within the family. Neighbours are not given: the index finds them, not this crate.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a tool for the command line")]

use std::{fs, time::Instant};

use dih_learning::{LabelTable, LearningError, Policy, Testimonies, Vectors, second_look};

const FAMILY: u64 = 20;

struct Drawn {
    members: u64,
    labels: u64,
    dim: usize,
}

/// SplitMix64 (Steele et al. 2014).
fn mixed(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Adds `scale` times numbers of -1 to 1 drawn from `seed`: four from each 64 bits.
fn add(row: &mut [f32], seed: u64, scale: f32) {
    let mut state = mixed(seed);
    for four in row.chunks_mut(4) {
        state = mixed(state);
        for (at, value) in four.iter_mut().enumerate() {
            *value += scale * (((state >> (16 * at)) & 0xffff) as f32 / 32_768.0 - 1.0);
        }
    }
}

impl Drawn {
    fn truth(&self, member: u64) -> u64 {
        mixed(member ^ 0x51) % self.labels
    }

    fn claim(&self, member: u64) -> u64 {
        let truth = self.truth(member);
        match mixed(member ^ 0x77) % 20 {
            0 => mixed(member ^ 0x99) % self.labels,
            1 => (truth / FAMILY * FAMILY + mixed(member ^ 0x33) % FAMILY).min(self.labels - 1),
            _ => truth,
        }
    }
}

impl Vectors for Drawn {
    fn len(&self) -> usize {
        self.members as usize
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn for_each_chunk(&self, rows_max: usize, each: &mut dyn FnMut(usize, &[f32])) -> Result<(), LearningError> {
        let mut chunk = vec![0.0; rows_max * self.dim];
        for first in (0..self.members).step_by(rows_max) {
            let rows = (self.members - first).min(rows_max as u64);
            chunk.fill(0.0);
            for (row, member) in chunk.chunks_exact_mut(self.dim).zip(first..first + rows) {
                let truth = self.truth(member);
                add(row, (1 << 40) | (truth / FAMILY), 1.0);
                add(row, 2 << 40 | truth, 0.7);
                add(row, 3 << 40 | member, 1.2);
            }
            each(first as usize, &chunk[..rows as usize * self.dim]);
        }
        Ok(())
    }
}

fn number(at: usize, otherwise: u64) -> u64 {
    std::env::args().nth(at).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn status(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let drawn = Drawn { members: number(1, 20_000), labels: number(2, 1_000), dim: number(3, 1280) as usize };
    let mut table = LabelTable::new(drawn.labels as usize);
    let mut testimonies = Testimonies::new(1000);
    for member in 0..drawn.members {
        let mut group = [0; 16];
        group[..8].copy_from_slice(&mixed(member).to_be_bytes());
        table.push(&group, &[drawn.claim(member) as u32]).expect("labels are in range");
        testimonies.push(Some((member % 1000) as u32), None, Vec::new()).expect("contributors are in range");
    }
    let begun = Instant::now();
    drawn.for_each_chunk(1024, &mut |_, _| {}).expect("draws");
    let drawing = cpu_seconds();
    let found = second_look(&drawn, &table, None, Some(&testimonies), &Policy::default()).expect("can be judged");
    let wrong = |m: usize| drawn.claim(m as u64) != drawn.truth(m as u64);
    let held = |is: bool| (0..table.len()).filter(|m| found.judgements[*m].hold && wrong(*m) == is).count();
    let all_wrong = (0..table.len()).filter(|m| wrong(*m)).count();
    let (hits, false_alarms) = (held(true), held(false));
    println!(
        "members {} labels {} dim {}: CPU {:.1} s (one pass of drawing {drawing:.1} s), {:.1} s by the clock, peak {:.0} MiB",
        drawn.members,
        drawn.labels,
        drawn.dim,
        cpu_seconds() - drawing,
        begun.elapsed().as_secs_f64(),
        status("VmHWM:"),
    );
    println!(
        "wrong {all_wrong}, found to be {:.1}; held {}, precision {:.3}, recall {:.3}, threshold {:.2}",
        f64::from(found.wrong) * table.len() as f64,
        hits + false_alarms,
        hits as f64 / (hits + false_alarms).max(1) as f64,
        hits as f64 / all_wrong.max(1) as f64,
        found.threshold,
    );
}
