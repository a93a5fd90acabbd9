//! What a trained model knows, and what a probe confuses: from the files of a version.
//!
//! Takes    a manifest with vectors, or an exported classifier and photos that no stream has seen.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use arrow_array::{Array, cast::AsArray, types::Float32Type};
use bytes::Bytes;
use dih_imaging::{Limits, read};
use dih_learning::{HeadPolicy, Split, train_head};
use dih_train::{OnnxPredict, Predict};
use ndarray::Array2;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::flips::Confusions;
use crate::import::labelled::Row;

/// Labels beyond which confusions are not worked out: the table grows with their square.
const LABELS_MAX: usize = 1000;
/// Photos run at a time.
const AT_ONCE: usize = 8;

/// What a probe that learnt the labels of one half takes each photo of the other half for, on average.
pub fn confusions(manifest: Bytes) -> anyhow::Result<Confusions> {
    let (labels, rows) = vectors(manifest)?;
    let names: Vec<String> = labels.iter().cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    anyhow::ensure!(names.len() <= LABELS_MAX, "confusable flips need at most {LABELS_MAX} labels");
    let class = |label: &String| names.binary_search(label).unwrap_or(0);
    let classes: Vec<usize> = labels.iter().map(class).collect();
    let mut mass = Array2::<f64>::zeros((names.len(), names.len()));
    for half in 0..2 {
        let of = |wanted: usize| (0..classes.len()).filter(move |i| i % 2 == wanted).collect::<Vec<_>>();
        let (learn, judge) = (of(half), of(1 - half));
        let (x, y) = (rows.select(ndarray::Axis(0), &learn), learn.iter().map(|i| classes[*i]).collect::<Vec<_>>());
        let policy = HeadPolicy { epochs_max: 20, l2: 1e-3, ..HeadPolicy::default() };
        let trained = train_head(names.len(), Split { rows: x.view(), classes: &y, sure: None }, None, &policy)?;
        let said = trained.head.probabilities(rows.select(ndarray::Axis(0), &judge).view());
        for (i, said) in judge.iter().zip(said.rows()) {
            said.iter().enumerate().for_each(|(named, p)| mass[[classes[*i], named]] += f64::from(*p));
        }
    }
    let taken_for = |own: usize| {
        let others = (0..names.len()).filter(|other| *other != own);
        others.map(|other| (names[other].clone(), mass[[own, other]])).collect()
    };
    Ok((0..names.len()).map(|own| (names[own].clone(), taken_for(own))).collect())
}

/// Labels and vectors of a manifest; photos without a vector are left out.
fn vectors(manifest: Bytes) -> anyhow::Result<(Vec<String>, Array2<f32>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(manifest)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["label", "vector"]);
    let (mut labels, mut values) = (Vec::new(), Vec::new());
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).with_context(|| format!("there is no column `{name}`"));
        let label = column("label")?.as_string_opt::<i32>().context("`label` is no text")?;
        let vector = column("vector")?.as_list_opt::<i32>().context("`vector` is no list")?;
        for row in (0..batch.num_rows()).filter(|row| vector.is_valid(*row) && label.is_valid(*row)) {
            let numbers = vector.value(row);
            let numbers = numbers.as_primitive_opt::<Float32Type>().context("`vector` holds no numbers")?;
            values.extend(numbers.values());
            labels.push(label.value(row).to_owned());
        }
    }
    anyhow::ensure!(!labels.is_empty(), "no photo of the version has a vector");
    let rows = Array2::from_shape_vec((labels.len(), values.len() / labels.len()), values)?;
    Ok((labels, rows))
}

/// Share of photos that a classifier names rightly; `classes` in the order of its probabilities.
pub fn accuracy(predict: &OnnxPredict, model: &Path, classes: &[String], photos: &[Row]) -> anyhow::Result<f64> {
    let place: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut classifier = predict
        .load(&fs::read(model).context("could not read the trained model")?)
        .map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let mut right = 0;
    for photos in photos.chunks(AT_ONCE) {
        let prepared = photos.iter().map(|photo| {
            let bytes = fs::read(&photo.path).with_context(|| format!("could not read `{}`", photo.path.display()))?;
            let decoded = read(&bytes, &Limits::default());
            let decoded = decoded.map_err(|refusal| anyhow::anyhow!("`{}` {refusal}", photo.path.display()))?;
            predict.prepare(&decoded.preview).map_err(|e| anyhow::anyhow!("{e:?}"))
        });
        let inputs = prepared.collect::<anyhow::Result<Vec<_>>>()?;
        for (photo, said) in photos.iter().zip(classifier.probabilities(&inputs).map_err(|e| anyhow::anyhow!("{e:?}"))?)
        {
            let best = said.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at);
            let truth = place.get(photo.labels[0].as_str());
            right += usize::from(best.is_some() && best == truth.copied());
        }
    }
    Ok(right as f64 / photos.len().max(1) as f64)
}
