//! Counts answers and CPU time, and prints both.

use std::{collections::BTreeMap, io::Write, path::PathBuf};

use dih_core::repeat::Evidence;
use dih_imaging::confirm::{Policy, Refusal, compare};
use image::{RgbImage, imageops};
use rustix::time::{ClockId, clock_gettime};

use crate::{Args, Seen, copies::Truth, curve::Curve};

/// How often each is run; the fastest counts.
const RUNS: u32 = 3;

#[derive(Default)]
struct Score {
    same: [u32; 2],
    different: [u32; 2],
}

pub(crate) struct Report {
    policy: Policy,
    scores: BTreeMap<(Truth, &'static str), Score>,
    exits: BTreeMap<(bool, &'static str), Vec<f64>>,
    preparation: Vec<f64>,
    dump: Option<std::fs::File>,
    pictures: Option<PathBuf>,
    saved: u32,
    curve: Curve,
    plot: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(args: &Args) -> std::io::Result<Self> {
        let dump = args.dump.as_ref().map(std::fs::File::create).transpose()?;
        if let Some(dir) = &args.pictures {
            std::fs::create_dir_all(dir)?;
        }
        Ok(Self {
            policy: args.policy(),
            scores: BTreeMap::new(),
            exits: BTreeMap::new(),
            preparation: Vec::new(),
            dump,
            pictures: args.pictures.clone(),
            saved: 0,
            curve: Curve::default(),
            plot: args.plot.clone(),
        })
    }

    /// Times the preparation of a picture.
    pub(crate) fn preparation(&mut self, work: impl Fn()) {
        self.preparation.push(micros(work));
    }

    /// Compares the two, and counts whether the answer is right.
    pub(crate) fn pair(&mut self, name: &'static str, truth: Truth, copy: &Seen, original: &Seen) {
        let answer = compare(&copy.described, &original.described, &self.policy);
        let took = micros(|| _ = compare(&copy.described, &original.described, &self.policy));
        let same = truth != Truth::Different;
        self.exits.entry((same, exit(&answer))).or_default().push(took);
        if truth != Truth::Border {
            self.curve.pair(same, &copy.described, &original.described, &self.policy);
        }
        let row = if truth == Truth::Border { Truth::Border } else { Truth::Same };
        let score = self.scores.entry((row, name)).or_default();
        let counts = if same { &mut score.same } else { &mut score.different };
        counts[usize::from(answer.is_ok())] += 1;
        if let Some(file) = &mut self.dump {
            let (own, other) = (copy.path.display(), original.path.display());
            writeln!(file, "{name};{};{own};{other};{took:.1};{answer:?}", u8::from(same)).expect("the dump takes it");
        }
        let wrong = answer.is_ok() != same;
        if let (true, Some(dir)) = (wrong, &self.pictures) {
            let kind = if same { "missed" } else { "false" };
            let (copy, other) = (copy.picture(), original.picture());
            let mut sheet = RgbImage::new(copy.width() + other.width() + 4, copy.height().max(other.height()));
            imageops::replace(&mut sheet, &copy, 0, 0);
            imageops::replace(&mut sheet, &other, i64::from(copy.width()) + 4, 0);
            let path = dir.join(format!("{kind}_{name}_{}.png", self.saved));
            sheet.save(&path).expect("the sheet can be saved");
            println!("{}: {} {answer:?}", path.display(), original.path.display());
            self.saved += 1;
        }
    }

    pub(crate) fn print(&self) -> std::io::Result<()> {
        println!("{:<18}{:>7}{:>7}{:>9}{:>8}{:>7}", "copy", "found", "of", "recall", "others", "false");
        for ((_, name), Score { same: [missed, found], different: [refused, wrong] }) in &self.scores {
            let of = missed + found;
            let recall = f64::from(*found) / f64::from(of.max(1));
            println!("{name:<18}{found:>7}{of:>7}{recall:>9.4}{:>8}{wrong:>7}", refused + wrong);
        }
        println!("{:<26}{:>8}{:>10}{:>9}{:>9}", "exit, CPU", "pairs", "mean us", "p50 us", "p99 us");
        let names = ["other", "same"];
        for ((same, exit), times) in &self.exits {
            line(&format!("{} {exit}", names[usize::from(*same)]), times);
        }
        for same in [false, true] {
            let all: Vec<f64> = self.exits.iter().filter(|(k, _)| k.0 == same).flat_map(|(_, t)| t.clone()).collect();
            line(&format!("{} in all", names[usize::from(same)]), &all);
        }
        line("preparation", &self.preparation);
        self.curve.print();
        self.plot.as_ref().map_or(Ok(()), |path| self.curve.plot(path, self.policy.agreement_min))
    }
}

fn line(name: &str, times: &[f64]) {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let (n, mean) = (times.len(), times.iter().sum::<f64>() / times.len().max(1) as f64);
    let at = |share: f64| times.get((n as f64 * share) as usize).copied().unwrap_or(0.0);
    println!("{name:<26}{n:>8}{mean:>10.1}{:>9.1}{:>9.1}", at(0.5), at(0.99));
}

/// CPU time of this thread, in microseconds.
fn micros(work: impl Fn()) -> f64 {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
    };
    let once = |_| {
        let begun = now();
        work();
        now() - begun
    };
    (0..RUNS).map(once).fold(f64::INFINITY, f64::min)
}

fn exit(answer: &Result<Evidence, Refusal>) -> &'static str {
    match answer {
        Ok(_) => "confirmed",
        Err(Refusal::Unaligned { side: 0..16, .. }) => "unaligned at 12",
        Err(Refusal::Unaligned { side: 16, .. }) => "unaligned at 16",
        Err(Refusal::Unaligned { side: 32, .. }) => "unaligned at 32",
        Err(Refusal::Unaligned { .. }) => "unaligned at 64 or 128",
        Err(Refusal::Squeezed { .. }) => "squeezed",
        Err(Refusal::TooLittleShared { .. }) => "too little shared",
        Err(Refusal::BlocksDiffer { .. }) => "blocks differ",
        Err(Refusal::ColourDiffers { .. }) => "colour differs",
    }
}
