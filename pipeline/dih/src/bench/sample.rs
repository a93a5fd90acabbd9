//! Draws photos of a labelled folder, the same ones for the same seed.

use std::path::{Path, PathBuf};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{import::labelled, problem::Problem};

/// At most `most` files, drawn without looking at them, in the order of the folder.
pub fn photos(dir: &Path, csv: Option<&Path>, most: usize, seed: u64) -> anyhow::Result<Vec<PathBuf>> {
    let labelled = labelled::read(dir, csv)?;
    let mut drawn: Vec<(usize, PathBuf)> = labelled.rows.into_iter().map(|row| row.path).enumerate().collect();
    if drawn.is_empty() {
        let what = format!("`{}` holds no labelled photo", dir.display());
        return Err(Problem::usage(what, "name a folder with one folder a label, or with a `labels.csv`").into());
    }
    drawn.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    drawn.truncate(most.max(1));
    drawn.sort();
    Ok(drawn.into_iter().map(|(_, path)| path).collect())
}
