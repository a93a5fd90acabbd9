//! Labelled photos to stream.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Relative to the folder that is imported.
    pub file: String,
    pub label: String,
    pub split: String,
}

/// The clothing photos in a seeded order.
pub fn clothing(data: &Path, seed: u64) -> Result<(PathBuf, Vec<Photo>)> {
    let dir = data.join("clothing");
    let mut reader = csv::Reader::from_path(dir.join("labels.csv"))?;
    let columns = reader.headers()?.clone();
    let column = |name: &str| columns.iter().position(|c| c == name).unwrap_or(usize::MAX);
    let (file, label, split) = (column("file"), column("label"), column("split"));
    let mut photos = Vec::new();
    for row in reader.records() {
        let row = row?;
        let cell = |i: usize| row.get(i).unwrap_or_default().to_owned();
        photos.push(Photo { file: cell(file), label: cell(label), split: cell(split) });
    }
    photos.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    Ok((dir, photos))
}

/// Writes `file,label` rows in the given order.
pub fn write_csv(path: &Path, photos: &[Photo]) -> Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["file", "label"])?;
    for photo in photos {
        writer.write_record([&photo.file, &photo.label])?;
    }
    Ok(writer.flush()?)
}
