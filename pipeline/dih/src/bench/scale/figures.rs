//! What `dih bench scale` found out. Pure, but for reading this process's memory and a folder's size.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt, path::Path};

use serde::Serialize;

use super::watched::Spent;

/// Figures at one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct At {
    pub points: u64,
    /// Photos that were measured, and how many of them turned out to be repeats.
    pub photos: u64,
    pub repeats: u64,
    /// CPU milliseconds a photo in dedupe and cluster, with the vector's put and the commit.
    pub cpu_ms: f64,
    /// Of it: what the index took. The rest is the proof on the pixels.
    pub index_cpu_ms: f64,
    /// Of it, by call.
    pub calls: BTreeMap<&'static str, Call>,
    /// CPU seconds to fill the index from the last size on, without looking for repeats.
    pub fill_cpu_s: f64,
    pub recall: Option<Recall>,
    pub memory: Memory,
    pub disk_mib: f64,
    /// Seconds to open it again, and CPU seconds.
    pub open_s: f64,
    pub open_cpu_s: f64,
}

/// Means a photo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Call {
    pub calls: f64,
    pub cpu_ms: f64,
    pub found: f64,
}

impl At {
    /// What `photos` more took: CPU seconds, all and by call.
    pub(super) fn add(&mut self, photos: u64, repeats: u64, cpu: f64, spent: &BTreeMap<&'static str, Spent>) {
        let before = self.photos as f64;
        self.photos += photos;
        self.repeats += repeats;
        let all = self.photos.max(1) as f64;
        let mean = |mean: &mut f64, more: f64| *mean = (*mean * before + more) / all;
        mean(&mut self.cpu_ms, 1000.0 * cpu);
        for name in spent.keys() {
            self.calls.entry(name).or_default();
        }
        for (name, call) in &mut self.calls {
            let spent = spent.get(name).copied().unwrap_or_default();
            mean(&mut call.calls, spent.calls as f64);
            mean(&mut call.cpu_ms, 1000.0 * spent.cpu);
            mean(&mut call.found, spent.found as f64);
        }
        self.index_cpu_ms = self.calls.values().map(|call| call.cpu_ms).sum();
    }
}

/// Share of the truly nearest that a search finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Recall {
    /// Of those that would be compared on their pixels.
    pub suspects: Share,
    /// Of all that are worth reading.
    pub neighbours: Share,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    pub found: u64,
    pub of: u64,
}

impl Recall {
    pub(super) fn add(&mut self, suspects: impl Iterator<Item = bool>, neighbours: impl Iterator<Item = bool>) {
        self.suspects.add(suspects);
        self.neighbours.add(neighbours);
    }
}

impl Share {
    fn add(&mut self, all: impl Iterator<Item = bool>) {
        for found in all {
            self.of += 1;
            self.found += u64::from(found);
        }
    }

    pub fn share(self) -> Option<f64> {
        (self.of > 0).then(|| self.found as f64 / self.of as f64)
    }
}

/// Memory of this process; of a size, what the index took when it was filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// In physical memory, with what is mapped of files.
    pub resident_mib: f64,
    /// Of it: what no file backs, and so cannot be dropped.
    pub anonymous_mib: f64,
}

impl Memory {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.unwrap_or(0.0) / 1024.0
        };
        Self { resident_mib: mib("VmRSS:"), anonymous_mib: mib("RssAnon:") }
    }

    /// What there is more than before.
    pub(super) fn beyond(self, before: Self) -> Self {
        Self {
            resident_mib: self.resident_mib - before.resident_mib,
            anonymous_mib: self.anonymous_mib - before.anonymous_mib,
        }
    }
}

/// What the files below a folder take on the disk.
pub(super) fn disk_mib(folder: &Path) -> io::Result<f64> {
    let mut blocks = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => blocks += meta.blocks(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {} // compacted away meanwhile
                Err(e) => return Err(e),
            }
        }
    }
    Ok(blocks as f64 * 512.0 / 1_048_576.0)
}

/// All sizes, and how flat the cost is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    pub numbers: usize,
    pub sizes: Vec<At>,
    /// Cost at the largest size over that at the smallest: all, and the index alone.
    pub growth: Option<Growth>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Growth {
    pub cpu: f64,
    pub index: f64,
}

impl Figures {
    pub fn of(numbers: usize, sizes: Vec<At>) -> Self {
        let growth = match &sizes[..] {
            [first, .., last] => {
                Some(Growth { cpu: last.cpu_ms / first.cpu_ms, index: last.index_cpu_ms / first.index_cpu_ms })
            }
            _ => None,
        };
        Self { numbers, sizes, growth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_means_a_photo() {
        let spent = BTreeMap::from([
            ("claim", Spent { calls: 4, cpu: 0.002, found: 4 }),
            ("near_vectors", Spent { calls: 8, cpu: 0.010, found: 100 }),
        ]);
        let mut at = At::default();
        at.add(4, 1, 0.020, &spent);
        assert_eq!(at.calls["near_vectors"], Call { calls: 2.0, cpu_ms: 2.5, found: 25.0 });
        assert!((at.cpu_ms - 5.0).abs() < 1e-9 && (at.index_cpu_ms - 3.0).abs() < 1e-9, "{at:?}");
        // Another turn, without a claim.
        at.add(4, 0, 0.010, &BTreeMap::from([("near_vectors", Spent { calls: 4, cpu: 0.002, found: 0 })]));
        assert_eq!((at.photos, at.repeats), (8, 1));
        assert_eq!(at.calls["near_vectors"], Call { calls: 1.5, cpu_ms: 1.5, found: 12.5 });
        assert_eq!(at.calls["claim"], Call { calls: 0.5, cpu_ms: 0.25, found: 0.5 });
        assert!((at.cpu_ms - 3.75).abs() < 1e-9 && (at.index_cpu_ms - 1.75).abs() < 1e-9, "{at:?}");
    }

    #[test]
    fn growth_is_the_last_over_the_first() {
        let at = |cpu_ms, index_cpu_ms| At { cpu_ms, index_cpu_ms, ..At::default() };
        let growth = Figures::of(2, vec![at(2.0, 1.0), at(9.0, 9.0), at(3.0, 2.0)]).growth.expect("has two sizes");
        assert_eq!((growth.cpu, growth.index), (1.5, 2.0));
        assert_eq!(Figures::of(2, vec![at(2.0, 1.0)]).growth, None);
    }

    #[test]
    fn a_share_counts_what_was_found() {
        let mut recall = Recall::default();
        recall.add([true, false].into_iter(), [true, true, false, true].into_iter());
        assert_eq!((recall.suspects.share(), recall.neighbours.share()), (Some(0.5), Some(0.75)));
        assert_eq!(Share::default().share(), None);
    }
}
