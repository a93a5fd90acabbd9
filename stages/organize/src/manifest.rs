//! `manifest.parquet` and its like: one row an image, in the order of image ids.
//!
//! Gives  the same bytes for the same rows: no clock, no random order.
//! Weak   at size: an adapter that cannot stream files reads a manifest whole.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
    builder::{Float32Builder, ListBuilder, StringBuilder},
    cast::AsArray,
    types::UInt32Type,
};
use arrow_schema::ArrowError;
use bytes::Bytes;
use dih_core::{Class, Classify, ImageId, Label, UploadSeq, image::Measures};
use parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use crate::{plan::Given, splits::Split};

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("could not write `{file}`; look for space in the temporary folder (TMPDIR)")]
    Write { file: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{file}` is no Parquet file that this release can read")]
    Read { file: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{file}` has no usable column `{column}`")]
    Column { file: &'static str, column: &'static str },
}

impl Classify for ManifestError {
    fn class(&self) -> Class {
        match self {
            Self::Write { .. } => Class::Retry,
            Self::Read { .. } | Self::Column { .. } => Class::BadInput,
        }
    }
}

/// One image of a version, as the manifest tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The published copy, and the earliest of its repeats (mostly the same).
    pub image: ImageId,
    pub earliest: ImageId,
    pub upload: UploadSeq,
    pub labels: Vec<Label>,
    pub given: Given,
    pub label_score: Option<f32>,
    pub fits: Option<f32>,
    pub p_label_wrong: Option<f32>,
    pub outlier: Option<f32>,
    pub votes: u32,
    pub votes_agreeing: u32,
    pub cluster: ImageId,
    pub width: u32,
    pub height: u32,
    pub bytes: u64,
    pub format: &'static str,
    pub fingerprint: u64,
    pub measures: Measures,
    pub device: String,
    pub source: Option<String>,
    pub licence: Option<String>,
    /// JSON object.
    pub attributes: String,
    /// JSON list of decisions without their times.
    pub lineage: String,
    pub vector: Option<Vec<f32>>,
    pub space: String,
    /// Blob key of the shard that holds it, if the version has shards.
    pub shard: Option<String>,
    pub picture: String,
    /// Why it is held, in `held.parquet` only.
    pub doubt: Option<Doubt>,
}

/// Why a photo is held back.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    pub reason: String,
    pub threshold: f32,
    pub suggested: Option<Label>,
    /// What each witness says for the suggested label against the claimed one.
    pub evidence: String,
}

/// Rows of a row group; with 1,280 numbers a vector this is 5 MB.
const GROUP_ROWS: usize = 1024;

/// Writes rows to a file of this disk, a group at a time.
#[derive(Debug)]
pub struct Writer {
    file: &'static str,
    held: bool,
    rows: Vec<Row>,
    out: ArrowWriter<File>,
}

impl Writer {
    /// `held` adds the columns that say why a photo is held.
    pub fn create(path: &Path, file: &'static str, held: bool) -> Result<Self, ManifestError> {
        let schema = batch(&[], held).map_err(|e| failed(file, e))?.schema();
        let disk = File::create(path).map_err(|e| failed(file, e))?;
        let compression = Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let out = ArrowWriter::try_new(disk, schema, Some(properties)).map_err(|e| failed(file, e))?;
        Ok(Self { file, held, rows: Vec::with_capacity(GROUP_ROWS), out })
    }

    pub fn put(&mut self, row: Row) -> Result<(), ManifestError> {
        self.rows.push(row);
        if self.rows.len() >= GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    pub fn finish(mut self) -> Result<(), ManifestError> {
        self.flush()?;
        self.out.close().map_err(|e| failed(self.file, e)).map(|_| ())
    }

    fn flush(&mut self) -> Result<(), ManifestError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batch = batch(&self.rows, self.held).map_err(|e| failed(self.file, e))?;
        self.rows.clear();
        self.out.write(&batch).and_then(|()| self.out.flush()).map_err(|e| failed(self.file, e))
    }
}

fn failed(file: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> ManifestError {
    ManifestError::Write { file, source: Box::new(source) }
}

fn batch(rows: &[Row], held: bool) -> Result<RecordBatch, ArrowError> {
    let m = |get: fn(&Measures) -> f32| numbers(rows, |r| Some(get(&r.measures)));
    let added = |get: fn(&Measures) -> Option<f32>| numbers(rows, |r| get(&r.measures));
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("image", texts(rows, |r| Some(r.image.to_string())), false),
        ("earliest", texts(rows, |r| Some(r.earliest.to_string())), false),
        ("upload", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.upload.0))), false),
        ("label", texts(rows, |r| r.labels.first().map(Label::to_string)), true),
        ("labels", labels(rows), false),
        ("split", texts(rows, |r| Some(r.given.split.to_string())), false),
        ("split_since", counts(rows, |r| r.given.since), false),
        ("label_score", numbers(rows, |r| r.label_score), true),
        ("fits", numbers(rows, |r| r.fits), true),
        ("p_label_wrong", numbers(rows, |r| r.p_label_wrong), true),
        ("outlier", numbers(rows, |r| r.outlier), true),
        ("votes", counts(rows, |r| r.votes), false),
        ("votes_agreeing", counts(rows, |r| r.votes_agreeing), false),
        ("cluster", texts(rows, |r| Some(r.cluster.to_string())), false),
        ("width", counts(rows, |r| r.width), false),
        ("height", counts(rows, |r| r.height), false),
        ("bytes", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.bytes))), false),
        ("format", texts(rows, |r| Some(r.format.to_owned())), false),
        ("fingerprint", texts(rows, |r| Some(format!("{:016x}", r.fingerprint))), false),
        ("sharpness", m(|m| m.sharpness), false),
        ("brightness", m(|m| m.brightness), false),
        ("luma_p05", m(|m| m.luma_p05), false),
        ("luma_p95", m(|m| m.luma_p95), false),
        ("luma_p99", m(|m| m.luma_p99), false),
        ("contrast", m(|m| m.contrast), false),
        ("entropy", m(|m| m.entropy), false),
        ("aspect", m(|m| m.aspect), false),
        ("colourfulness", m(|m| m.colourfulness), false),
        ("transparent", m(|m| m.transparent), false),
        ("acuity", added(|m| m.acuity), true),
        ("noise", added(|m| m.noise), true),
        ("bars", added(|m| m.bars), true),
        ("overexposure", added(|m| m.overexposure), true),
        ("grayscale", Arc::new(BooleanArray::from_iter(rows.iter().map(|r| Some(r.measures.grayscale)))), false),
        ("device", texts(rows, |r| Some(r.device.clone())), false),
        ("source", texts(rows, |r| r.source.clone()), true),
        ("licence", texts(rows, |r| r.licence.clone()), true),
        ("attributes", texts(rows, |r| Some(r.attributes.clone())), false),
        ("lineage", texts(rows, |r| Some(r.lineage.clone())), false),
        ("vector", vectors(rows), true),
        ("space", texts(rows, |r| Some(r.space.clone())), false),
        ("shard", texts(rows, |r| r.shard.clone()), true),
        ("picture", texts(rows, |r| Some(r.picture.clone())), false),
    ];
    if held {
        let doubt = |get: fn(&Doubt) -> Option<String>| texts(rows, move |r| r.doubt.as_ref().and_then(get));
        columns.push(("reason", doubt(|d| Some(d.reason.clone())), true));
        columns.push(("suggested", doubt(|d| d.suggested.as_ref().map(Label::to_string)), true));
        columns.push(("evidence", doubt(|d| Some(d.evidence.clone())), true));
        columns.push(("threshold", numbers(rows, |r| r.doubt.as_ref().map(|d| d.threshold)), true));
    }
    RecordBatch::try_from_iter_with_nullable(columns)
}

fn texts(rows: &[Row], get: impl Fn(&Row) -> Option<String>) -> ArrayRef {
    Arc::new(StringArray::from_iter(rows.iter().map(get)))
}

fn numbers(rows: &[Row], get: impl Fn(&Row) -> Option<f32>) -> ArrayRef {
    Arc::new(Float32Array::from_iter(rows.iter().map(get)))
}

fn counts(rows: &[Row], get: impl Fn(&Row) -> u32) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(rows.iter().map(get)))
}

fn labels(rows: &[Row]) -> ArrayRef {
    let mut list = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.labels.iter().for_each(|label| list.values().append_value(label.as_str()));
        list.append(true);
    }
    Arc::new(list.finish())
}

fn vectors(rows: &[Row]) -> ArrayRef {
    let mut list = ListBuilder::new(Float32Builder::new());
    for row in rows {
        list.values().append_slice(row.vector.as_deref().unwrap_or_default());
        list.append(row.vector.is_some());
    }
    let list: ListArray = list.finish();
    Arc::new(list)
}

/// What exporting and verifying need of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub image: ImageId,
    pub labels: Vec<Label>,
    pub given: Given,
    pub cluster: String,
    pub shard: Option<String>,
}

/// Reads the rows of a manifest, without vectors.
pub fn read(manifest: Bytes) -> Result<Vec<Listed>, ManifestError> {
    const FILE: &str = "manifest.parquet";
    let mut rows = Vec::new();
    for batch in batches(FILE, manifest, &["image", "labels", "split", "split_since", "cluster", "shard"])? {
        let batch = batch.map_err(|e| ManifestError::Read { file: FILE, source: Box::new(e) })?;
        let column = |name: &'static str| {
            let wrong = ManifestError::Column { file: FILE, column: name };
            batch.column_by_name(name).ok_or(wrong)
        };
        let text = |name: &'static str| {
            let wrong = ManifestError::Column { file: FILE, column: name };
            column(name)?.as_string_opt::<i32>().ok_or(wrong)
        };
        let wrong = |column| move || ManifestError::Column { file: FILE, column };
        let (image, split, cluster, shard) = (text("image")?, text("split")?, text("cluster")?, text("shard")?);
        let labels = column("labels")?.as_list_opt::<i32>().ok_or_else(wrong("labels"))?;
        let since = column("split_since")?.as_primitive_opt::<UInt32Type>().ok_or_else(wrong("split_since"))?;
        for at in 0..batch.num_rows() {
            let names = labels.value(at);
            let names = names.as_string_opt::<i32>().ok_or_else(wrong("labels"))?.iter().flatten();
            let names: Result<Vec<Label>, _> = names.map(Label::new).collect();
            rows.push(Listed {
                image: image.value(at).parse().map_err(|_| wrong("image")())?,
                labels: names.map_err(|_| wrong("labels")())?,
                given: Given { split: split.value(at).parse().map_err(|_| wrong("split")())?, since: since.value(at) },
                cluster: cluster.value(at).to_owned(),
                shard: shard.is_valid(at).then(|| shard.value(at).to_owned()),
            });
        }
    }
    Ok(rows)
}

type Batches = parquet::arrow::arrow_reader::ParquetRecordBatchReader;

fn batches(file: &'static str, bytes: Bytes, columns: &[&str]) -> Result<Batches, ManifestError> {
    let unreadable = |e: ParquetError| ManifestError::Read { file, source: Box::new(e) };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(unreadable)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    builder.with_projection(mask).with_batch_size(GROUP_ROWS).build().map_err(unreadable)
}

/// `splits.parquet`: the split of every photo that ever had one in the data set, and the version that gave it.
pub mod splits {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "splits.parquet";

    pub fn encode(given: &BTreeMap<ImageId, Given>) -> Result<Bytes, ManifestError> {
        let images = StringArray::from_iter_values(given.keys().map(ImageId::to_string));
        let splits = StringArray::from_iter_values(given.values().map(|g| g.split.as_str()));
        let since = UInt32Array::from_iter_values(given.values().map(|g| g.since));
        let columns: Vec<(&str, ArrayRef)> =
            vec![("image", Arc::new(images)), ("split", Arc::new(splits)), ("since", Arc::new(since))];
        let batch = RecordBatch::try_from_iter(columns).map_err(|e| failed(FILE, e))?;
        let mut bytes = Vec::new();
        let mut out = ArrowWriter::try_new(&mut bytes, batch.schema(), None).map_err(|e| failed(FILE, e))?;
        out.write(&batch).map_err(|e| failed(FILE, e))?;
        out.close().map_err(|e| failed(FILE, e))?;
        Ok(bytes.into())
    }

    pub fn decode(bytes: Bytes) -> Result<BTreeMap<ImageId, Given>, ManifestError> {
        let mut given = BTreeMap::new();
        for batch in batches(FILE, bytes, &["image", "split", "since"])? {
            let batch = batch.map_err(|e| ManifestError::Read { file: FILE, source: Box::new(e) })?;
            let wrong = |column| move || ManifestError::Column { file: FILE, column };
            let text = |name: &'static str| {
                batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(wrong(name))
            };
            let (images, splits) = (text("image")?, text("split")?);
            let since = batch.column_by_name("since").and_then(|c| c.as_primitive_opt::<UInt32Type>());
            let since = since.ok_or_else(wrong("since"))?;
            for at in 0..batch.num_rows() {
                let image = images.value(at).parse().map_err(|_| wrong("image")())?;
                let split: Split = splits.value(at).parse().map_err(|_| wrong("split")())?;
                given.insert(image, Given { split, since: since.value(at) });
            }
        }
        Ok(given)
    }
}
