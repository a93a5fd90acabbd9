//! How much it takes: replicas, cores and disk for so many photos a day, and whether the scalers keep up.
//!
//! Takes    photos a day, how they come ([`Load`]), and what each stage costs ([`costs`]). Gives a bill of materials ([`Bill`]),
//!          and what the scalers of `k8s/` make of a day with bursts ([`scaler`]).
//! Weak at  costs of another CPU: they are of the one in docs/BENCHMARKS.md, unless told otherwise.

pub mod costs;
pub mod plot;
pub mod scaler;

use dih_core::StageName;
use serde::Serialize;

use self::costs::{Cost, STAGES};

/// Share of a core, or of a replica, that is planned to be busy.
const BUSY: f64 = 0.7;
const DAY_S: f64 = 86_400.0;
/// How long uploads must find room while nobody takes them.
const OUTAGE_S: f64 = 3_600.0;

/// What comes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub photos_per_day: f64,
    /// The busiest hour over the mean one.
    pub peak: f64,
    /// Of the uploaded file, mean.
    pub photo_bytes: f64,
    /// Share of uploads that are curated, 0 to 1.
    pub curated: f64,
    /// Days that photos are kept.
    pub days: f64,
}

impl Load {
    /// Photos a second, in the mean.
    pub fn mean(&self) -> f64 {
        self.photos_per_day / DAY_S
    }

    /// Photos a second, in the busiest hour.
    pub fn busiest(&self) -> f64 {
        self.mean() * self.peak
    }
}

/// What one stage takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Need {
    pub stage: StageName,
    pub cpu_ms_per_photo: f64,
    /// `minReplicaCount`: enough for the mean.
    pub replicas_min: u32,
    /// `maxReplicaCount`: enough for the busiest hour.
    pub replicas_max: u32,
    /// Busy cores in the busiest hour.
    pub cores: f64,
}

/// What a hub takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    pub photos_per_second: f64,
    pub photos_per_second_busiest: f64,
    pub stages: Vec<Need>,
    /// Busy cores of the index server in the busiest hour.
    pub index_cores: f64,
    pub cores: f64,
    /// Replicas of verify on a GPU in the busiest hour, where its speed was given.
    pub gpus: Option<u32>,
    pub pictures_bytes: f64,
    pub index_disk_bytes: f64,
    pub index_memory_bytes: f64,
    pub broker_bytes: f64,
}

/// `gpu`: photos a second that verify does on one, as `dih bench speed` says there.
pub fn bill(load: &Load, costs: &Cost, gpu: Option<f64>) -> Bill {
    let need = |stage| {
        let cpu_ms_per_photo = costs.of(stage);
        let busy = |per_second: f64| per_second * cpu_ms_per_photo / 1e3;
        let replicas = |per_second: f64| count(busy(per_second) / (costs::CORES_PER_REPLICA * BUSY));
        Need {
            stage,
            cpu_ms_per_photo,
            replicas_min: replicas(load.mean()),
            replicas_max: replicas(load.busiest()),
            cores: busy(load.busiest()),
        }
    };
    let stages: Vec<Need> = STAGES.into_iter().map(need).collect();
    let index_cores = load.busiest() * costs.index / 1e3;
    let kept = load.photos_per_day * load.days;
    let copies = load.photo_bytes * (1.0 + load.curated);
    Bill {
        photos_per_second: load.mean(),
        photos_per_second_busiest: load.busiest(),
        cores: (stages.iter().map(|need| need.cores).sum::<f64>() + index_cores) / BUSY,
        stages,
        index_cores,
        gpus: gpu.map(|per_second| count(load.busiest() / (per_second * BUSY))),
        pictures_bytes: kept * (copies + costs::FEATURES_BYTES),
        index_disk_bytes: kept * costs::INDEX_DISK_BYTES,
        index_memory_bytes: costs::INDEX_MEMORY_FLOOR_BYTES + kept * costs::INDEX_MEMORY_BYTES,
        broker_bytes: kept * costs::LEDGER_BYTES + load.busiest() * OUTAGE_S * load.photo_bytes,
    }
}

/// At least one.
fn count(of: f64) -> u32 {
    of.ceil().clamp(1.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(photos_per_day: f64) -> Load {
        Load { photos_per_day, peak: 3.0, photo_bytes: 200_000.0, curated: 0.7, days: 365.0 }
    }

    #[test]
    fn twice_the_photos_take_twice_the_cores_and_disk_and_a_few_take_one_of_each() {
        let (one, two) = (bill(&load(1e6), &Cost::default(), None), bill(&load(2e6), &Cost::default(), None));
        assert!((two.cores / one.cores - 2.0).abs() < 1e-9);
        assert!((two.pictures_bytes / one.pictures_bytes - 2.0).abs() < 1e-9);
        let few = bill(&load(10.0), &Cost::default(), Some(500.0));
        assert!(few.stages.iter().all(|need| (need.replicas_min, need.replicas_max) == (1, 1)));
        assert_eq!(few.gpus, Some(1));
    }

    #[test]
    fn a_million_photos_a_day_by_hand() {
        let costs = Cost { verify: 10.0, ..Cost::default() };
        let bill = bill(&load(1_000_000.0), &costs, Some(100.0));
        let verify = bill.stages.iter().find(|need| need.stage == StageName::Verify).expect("a stage");
        // 11.57 photos a second in the mean, 34.7 in the busiest hour, 10 ms each: .1157 and .347 cores.
        assert_eq!((verify.replicas_min, verify.replicas_max), (1, 1));
        assert!((verify.cores - 0.347).abs() < 1e-3, "{}", verify.cores);
        assert_eq!(bill.gpus, Some(1));
    }
}
