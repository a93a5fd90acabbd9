//! What the latest versions think of every label: the best witness there is.
//!
//! Takes    the data sets' heads and their manifests. Gives the probability that the label fits, by image.
//! Keeps    16 bytes and 4 an image while it is used.
//! Weak at  a photo in several data sets: the one whose version was cut last says.

use std::collections::HashMap;

use anyhow::Context;
use arrow_array::{Array, cast::AsArray, types::Float32Type};
use bytes::Bytes;
use dih_core::{
    ImageId, Millis, VersionId,
    ports::{Blobs, SmallState},
};
use dih_organize::{
    datasets,
    version::{HELD, MANIFEST, Version},
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

/// The score of every image that some data set's latest version has judged.
pub async fn of_latest_versions(state: &dyn SmallState, blobs: &dyn Blobs) -> anyhow::Result<HashMap<ImageId, f32>> {
    let mut heads = Vec::new();
    for set in datasets::list(state).await? {
        let Some(head) = set.head.filter(|head| head.version > 0) else { continue };
        let at = head.recent.last().map_or(Millis(0), |cut| cut.at);
        heads.push((at, VersionId { dataset: set.name, version: head.version }));
    }
    heads.sort();
    let mut scores = HashMap::new();
    for (_, version) in heads {
        let known = Version::read(blobs, &version).await?;
        for name in [MANIFEST, HELD] {
            let key = &known.file(name)?.key;
            let read = async || anyhow::Ok(scores_in(blobs.get(key).await?)?);
            scores.extend(read().await.with_context(|| format!("could not read the scores in `{key}`"))?);
        }
    }
    Ok(scores)
}

/// The second look's `p_label_wrong`, turned round; where it abstained, the classifier's `label_score`.
fn scores_in(parquet: Bytes) -> anyhow::Result<Vec<(ImageId, f32)>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(parquet)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["image", "p_label_wrong", "label_score"]);
    let mut scores = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).with_context(|| format!("there is no column `{name}`"));
        let images = column("image")?.as_string_opt::<i32>().context("`image` is no text")?;
        let number = |name: &str| {
            let numbers = column(name)?.as_primitive_opt::<Float32Type>();
            numbers.with_context(|| format!("`{name}` is no number"))
        };
        let (wrong, classifier) = (number("p_label_wrong")?, number("label_score")?);
        for row in 0..batch.num_rows() {
            let judged = wrong.is_valid(row).then(|| 1.0 - wrong.value(row));
            let score = judged.or_else(|| classifier.is_valid(row).then(|| classifier.value(row)));
            scores.extend(score.map(|score| images.value(row).parse().map(|image| (image, score))).transpose()?);
        }
    }
    Ok(scores)
}
