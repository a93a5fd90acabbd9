//! Reading single fields: what is required must be there, and what is there must be usable.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr};

use bytes::Bytes;
use dih_core::{ImageId, Label, Millis, UploadSeq};

/// A field that cannot be used. Paths grow from the inside out, see [`Within`].
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) problem: Problem,
}

#[derive(Debug)]
pub(crate) enum Problem {
    Missing,
    Invalid(String),
}

pub(crate) fn missing(field: &str) -> Fault {
    Fault { field: field.to_owned(), problem: Problem::Missing }
}

pub(crate) fn invalid(field: &str, problem: impl Display) -> Fault {
    Fault { field: field.to_owned(), problem: Problem::Invalid(problem.to_string()) }
}

/// Says in which message a fault lies.
pub(crate) trait Within {
    fn within(self, outer: &str) -> Self;
}

impl<T> Within for Result<T, Fault> {
    fn within(self, outer: &str) -> Self {
        self.map_err(|fault| Fault { field: format!("{outer}.{}", fault.field), ..fault })
    }
}

pub(crate) fn need<T>(value: Option<T>, field: &str) -> Result<T, Fault> {
    value.ok_or_else(|| missing(field))
}

/// Text that must not be empty.
pub(crate) fn text(value: String, field: &str) -> Result<String, Fault> {
    match value.is_empty() {
        true => Err(missing(field)),
        false => Ok(value),
    }
}

/// A checked name: device, data set, blob key.
pub(crate) fn name<T: FromStr<Err: Display>>(value: &str, field: &str) -> Result<T, Fault> {
    match value {
        "" => Err(missing(field)),
        value => value.parse().map_err(|e| invalid(field, e)),
    }
}

pub(crate) fn labels(values: Vec<String>, field: &str) -> Result<Vec<Label>, Fault> {
    values.into_iter().map(|v| Label::new(v).map_err(|e| invalid(field, e))).collect()
}

pub(crate) fn label_counts(values: BTreeMap<String, u64>, field: &str) -> Result<BTreeMap<Label, u64>, Fault> {
    let read = |(label, n)| Ok((Label::new(label).map_err(|e| invalid(field, e))?, n));
    values.into_iter().map(read).collect()
}

pub(crate) fn image_id(value: &[u8], field: &str) -> Result<ImageId, Fault> {
    let bytes = <[u8; 16]>::try_from(value);
    bytes.map(ImageId::from_bytes).map_err(|_| invalid(field, format!("is {} bytes long, not 16", value.len())))
}

pub(crate) fn need_image_id(value: Option<Bytes>, field: &str) -> Result<ImageId, Fault> {
    image_id(&need(value, field)?, field)
}

pub(crate) fn id_bytes(id: ImageId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// A number that counts from 1.
pub(crate) fn from_one<T: PartialOrd + From<u8>>(value: Option<T>, field: &str) -> Result<T, Fault> {
    match need(value, field)? {
        value if value >= T::from(1) => Ok(value),
        _ => Err(invalid(field, "is 0, but counts from 1")),
    }
}

pub(crate) fn upload(value: Option<u64>, field: &str) -> Result<UploadSeq, Fault> {
    from_one(value, field).map(UploadSeq)
}

pub(crate) fn millis(value: Option<i64>, field: &str) -> Result<Millis, Fault> {
    need(value, field).map(Millis)
}

pub(crate) fn finite(value: f32, field: &str) -> Result<f32, Fault> {
    match value.is_finite() {
        true => Ok(value),
        false => Err(invalid(field, format!("is {value}, not a finite number"))),
    }
}

/// A finite number within the range that its description states.
pub(crate) fn ranged(value: Option<f32>, range: RangeInclusive<f32>, field: &str) -> Result<f32, Fault> {
    let value = finite(need(value, field)?, field)?;
    match range.contains(&value) {
        true => Ok(value),
        false => Err(invalid(field, format!("is {value}, outside {} to {}", range.start(), range.end()))),
    }
}

/// A number above zero.
pub(crate) fn positive(value: Option<f32>, field: &str) -> Result<f32, Fault> {
    ranged(value, f32::MIN_POSITIVE..=f32::MAX, field)
}

pub(crate) fn optional<T, U>(value: Option<T>, read: impl FnOnce(T) -> Result<U, Fault>) -> Result<Option<U>, Fault> {
    value.map(read).transpose()
}

/// Probability, 0 to 1, where there is one.
pub(crate) fn share(value: Option<f32>, field: &str) -> Result<Option<f32>, Fault> {
    optional(value, |v| ranged(Some(v), 0.0..=1.0, field))
}
