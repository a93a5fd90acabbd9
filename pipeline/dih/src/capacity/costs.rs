//! What a photo costs: measured, see "A process a stage" and "Scale" in docs/BENCHMARKS.md.

use dih_core::StageName;

/// The stages that every photo passes, in the order it does.
pub const STAGES: [StageName; 6] = [
    StageName::Ingest,
    StageName::Dedupe,
    StageName::Verify,
    StageName::Embed,
    StageName::Cluster,
    StageName::Organize,
];

/// As `k8s/base` requests for the stages that compute.
pub const CORES_PER_REPLICA: f64 = 1.0;
/// What other processes compare a photo by.
pub const FEATURES_BYTES: f64 = 14_000.0;
/// A point of the index, its vector and its record.
pub const INDEX_DISK_BYTES: f64 = 8_500.0;
pub const INDEX_MEMORY_BYTES: f64 = 1_750.0;
pub const INDEX_MEMORY_FLOOR_BYTES: f64 = 250e6;
/// A verdict with its lineage.
pub const LEDGER_BYTES: f64 = 2_000.0;

/// CPU-milliseconds a photo of some 0.2 megapixels, each stage a process of its own, on a core with AVX2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub ingest: f64,
    pub dedupe: f64,
    pub verify: f64,
    pub embed: f64,
    pub cluster: f64,
    pub organize: f64,
    /// Of the index server.
    pub index: f64,
}

impl Default for Cost {
    fn default() -> Self {
        Self { ingest: 2.3, dedupe: 0.9, verify: 10.3, embed: 0.5, cluster: 2.2, organize: 1.1, index: 3.4 }
    }
}

impl Cost {
    pub fn of(&self, stage: StageName) -> f64 {
        match stage {
            StageName::Ingest => self.ingest,
            StageName::Dedupe => self.dedupe,
            StageName::Verify => self.verify,
            StageName::Embed => self.embed,
            StageName::Cluster => self.cluster,
            StageName::Organize => self.organize,
            // By request, not by photo.
            StageName::Train => 0.0,
        }
    }

    /// Sets one of them by its name; false where there is none of that name.
    pub fn set(&mut self, name: &str, milliseconds: f64) -> bool {
        let place = match name {
            "ingest" => &mut self.ingest,
            "dedupe" => &mut self.dedupe,
            "verify" => &mut self.verify,
            "embed" => &mut self.embed,
            "cluster" => &mut self.cluster,
            "organize" => &mut self.organize,
            "index" => &mut self.index,
            _ => return false,
        };
        *place = milliseconds;
        true
    }
}
