//! Reads what training needs of `manifest.parquet`: ids, labels, how surely they are right, splits and vectors.
//!
//! Takes    the file's bytes. Gives rows of the chosen labels, by split.
//! Weak at  photos that show several of the chosen labels: each counts for the first of them.

use std::collections::BTreeMap;

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Float32Type};
use bytes::Bytes;
use dih_core::{Class, Classify, ImageId, Label, event::VectorSpace};
use dih_learning::Split;
use ndarray::ArrayView2;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

/// Rows read at a time.
const ROWS: usize = 1024;
const COLUMNS: [&str; 7] = ["image", "label", "labels", "p_label_wrong", "split", "vector", "space"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("could not read the manifest of the version")]
    Read { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the manifest of the version has no usable column `{column}`")]
    Column { column: &'static str },
}

impl Classify for TableError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Column { .. } => Class::BadInput,
        }
    }
}

/// Photos of one split.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) images: Vec<ImageId>,
    pub(crate) classes: Vec<usize>,
    /// The probability that the label is right; 1 where the version does not tell, or nobody asks.
    sure: Vec<f32>,
    values: Vec<f32>,
}

impl Part {
    /// Vectors, a row a photo.
    pub(crate) fn rows(&self) -> ArrayView2<'_, f32> {
        let dim = self.values.len() / self.images.len().max(1);
        ArrayView2::from_shape((self.images.len(), dim), &self.values).expect("every row has the same length")
    }

    /// Gives every class its new number; photos of a class without one go.
    fn renumber(&mut self, classes: &[Option<usize>]) {
        let dim = self.values.len() / self.images.len().max(1);
        let old = std::mem::take(self);
        for (at, image) in old.images.into_iter().enumerate() {
            if let Some(class) = classes[old.classes[at]] {
                self.images.push(image);
                self.classes.push(class);
                self.sure.push(old.sure[at]);
                self.values.extend_from_slice(&old.values[at * dim..][..dim]);
            }
        }
    }

    pub(crate) fn split(&self) -> Split<'_> {
        Split { rows: self.rows(), classes: &self.classes, sure: Some(&self.sure) }
    }
}

/// What a version offers for training.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// In the order of the classes.
    pub(crate) labels: Vec<Label>,
    pub(crate) train: Part,
    pub(crate) val: Part,
    pub(crate) test: Part,
    /// Photos of the chosen labels whose vector is missing or of another space.
    pub(crate) without_vector: u64,
}

impl Table {
    /// Photos to learn from, by class.
    pub(crate) fn to_learn(&self) -> Vec<usize> {
        let mut counts = vec![0; self.labels.len()];
        self.train.classes.iter().for_each(|class| counts[*class] += 1);
        counts
    }

    /// Leaves out every label with fewer than `least` photos to learn from, and all its photos; gives their names.
    pub(crate) fn leave_out_small(&mut self, least: usize) -> Vec<Label> {
        let counts = self.to_learn();
        let mut kept = 0..;
        let classes: Vec<Option<usize>> = counts.iter().map(|n| (*n >= least).then(|| kept.next()).flatten()).collect();
        for part in [&mut self.train, &mut self.val, &mut self.test] {
            part.renumber(&classes);
        }
        let (kept, left_out): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.labels).into_iter().zip(&classes).partition(|(_, class)| class.is_some());
        let names = |labels: Vec<(Label, _)>| labels.into_iter().map(|(label, _)| label).collect();
        self.labels = names(kept);
        names(left_out)
    }
}

/// Chooses which photos of a version take part.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    /// Empty means all labels of the version.
    pub(crate) labels: &'a [Label],
    pub(crate) space: &'a VectorSpace,
    pub(crate) photos_max: usize,
    /// Whether to read how surely labels are right.
    pub(crate) weigh_doubts: bool,
}

/// Reads the table. Rows come in the order of the file.
pub(crate) fn read(manifest: Bytes, choice: &Choice<'_>) -> Result<Table, TableError> {
    let mut labels: Vec<Label> = match choice.labels {
        [] => all_labels(manifest.clone())?,
        chosen => chosen.to_vec(),
    };
    labels.sort();
    labels.dedup();
    let classes: BTreeMap<&str, usize> = labels.iter().enumerate().map(|(i, l)| (l.as_str(), i)).collect();
    let (total, batches) = batches(manifest, &COLUMNS)?;
    let mut table = Table::default();
    let mut dim = None;
    for batch in batches {
        let columns = Columns::of(&batch?)?;
        for at in 0..columns.image.len() {
            let image: ImageId = columns.image.value(at).parse().map_err(|_| TableError::Column { column: "image" })?;
            let Some(class) = columns.class(at, &classes)? else { continue };
            if !takes_part(image, choice.photos_max, total) {
                continue;
            }
            let vector = match columns.vector(at, choice.space)? {
                Some(vector) if *dim.get_or_insert(vector.len()) == vector.len() => vector,
                _ => {
                    table.without_vector += 1;
                    continue;
                }
            };
            let part = match columns.split.value(at) {
                "train" => &mut table.train,
                "val" => &mut table.val,
                "test" => &mut table.test,
                _ => return Err(TableError::Column { column: "split" }),
            };
            part.images.push(image);
            part.classes.push(class);
            part.sure.push(if choice.weigh_doubts { columns.sure(at) } else { 1.0 });
            part.values.extend_from_slice(&vector);
        }
    }
    drop(classes);
    table.labels = labels;
    Ok(table)
}

/// Ids are hashes, so their first bytes thin out evenly, and the same photos every time.
fn takes_part(image: ImageId, photos_max: usize, total: usize) -> bool {
    let first =
        u32::from_be_bytes([image.as_bytes()[0], image.as_bytes()[1], image.as_bytes()[2], image.as_bytes()[3]]);
    u128::from(first) * (total as u128) < (photos_max as u128) << 32
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, TableError>>>;

fn batches(manifest: Bytes, columns: &[&str]) -> Result<(usize, Batches), TableError> {
    let unreadable = |e: parquet::errors::ParquetError| TableError::Read { source: Box::new(e) };
    let builder = ParquetRecordBatchReaderBuilder::try_new(manifest).map_err(unreadable)?;
    let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(ROWS).build().map_err(unreadable)?;
    Ok((total, Box::new(reader.map(|b| b.map_err(|e| TableError::Read { source: Box::new(e) })))))
}

fn all_labels(manifest: Bytes) -> Result<Vec<Label>, TableError> {
    let mut found = std::collections::BTreeSet::new();
    for batch in batches(manifest, &["label"])?.1 {
        let batch = batch?;
        let labels = text(&batch, "label")?;
        for label in labels.iter().flatten() {
            if !found.contains(label) {
                found.insert(label.to_owned());
            }
        }
    }
    let labels: Result<Vec<Label>, _> = found.into_iter().map(Label::new).collect();
    labels.map_err(|_| TableError::Column { column: "label" })
}

fn text(batch: &RecordBatch, column: &'static str) -> Result<arrow_array::StringArray, TableError> {
    let found = batch.column_by_name(column).and_then(|c| c.as_string_opt::<i32>());
    found.cloned().ok_or(TableError::Column { column })
}

struct Columns {
    image: arrow_array::StringArray,
    label: arrow_array::StringArray,
    labels: arrow_array::ListArray,
    /// None in versions that were cut before there was one.
    p_label_wrong: Option<arrow_array::Float32Array>,
    split: arrow_array::StringArray,
    vector: arrow_array::ListArray,
    space: arrow_array::StringArray,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, TableError> {
        let list = |column: &'static str| {
            let found = batch.column_by_name(column).and_then(|c| c.as_list_opt::<i32>());
            found.cloned().ok_or(TableError::Column { column })
        };
        Ok(Self {
            image: text(batch, "image")?,
            label: text(batch, "label")?,
            labels: list("labels")?,
            p_label_wrong: batch.column_by_name("p_label_wrong").and_then(|c| c.as_primitive_opt().cloned()),
            split: text(batch, "split")?,
            vector: list("vector")?,
            space: text(batch, "space")?,
        })
    }

    /// The class of the primary label if it is chosen, else of the first label that is.
    fn class(&self, at: usize, classes: &BTreeMap<&str, usize>) -> Result<Option<usize>, TableError> {
        let primary = self.label.is_valid(at).then(|| classes.get(self.label.value(at))).flatten();
        if primary.is_some() || !self.labels.is_valid(at) {
            return Ok(primary.copied());
        }
        let all = self.labels.value(at);
        let all = all.as_string_opt::<i32>().ok_or(TableError::Column { column: "labels" })?;
        Ok(all.iter().flatten().find_map(|label| classes.get(label).copied()))
    }

    fn sure(&self, at: usize) -> f32 {
        let wrong = self.p_label_wrong.as_ref().filter(|wrong| wrong.is_valid(at)).map_or(0.0, |wrong| wrong.value(at));
        if wrong.is_finite() { 1.0 - wrong.clamp(0.0, 1.0) } else { 1.0 }
    }

    fn vector(&self, at: usize, space: &VectorSpace) -> Result<Option<Vec<f32>>, TableError> {
        let ours = self.space.is_valid(at) && self.space.value(at) == space.0;
        if !ours || !self.vector.is_valid(at) {
            return Ok(None);
        }
        let values = self.vector.value(at);
        let values = values.as_primitive_opt::<Float32Type>().ok_or(TableError::Column { column: "vector" })?;
        let values: Vec<f32> = values.values().to_vec();
        Ok((!values.is_empty() && values.iter().all(|v| v.is_finite())).then_some(values))
    }
}
