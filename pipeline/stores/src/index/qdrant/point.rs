//! Between records and points of Qdrant. Pure, and the same on both sides: the client writes what the server reads.
//!
//! A point is keyed by the image id. Its vectors are the fingerprint, one number a bit, and one a model space. Its payload
//! is the whole record, what is searched by, and the stamps of its last writes.

use std::collections::HashMap;

use ::qdrant_client::qdrant::{
    DenseVector, ListValue, NamedVectors, PointId, Value, Vector, Vectors, point_id::PointIdOptions, value::Kind,
    vector, vectors::VectorsOptions,
};
use dih_core::{
    ImageId, Label, UploadSeq,
    image::Fingerprint,
    ports::{NearVector, StoreError},
    record::{Record, State, Summary},
};

use crate::{fault, index::STORE};

/// Name of the vector that holds the fingerprint.
pub(super) const FINGERPRINT: &str = "fingerprint";
/// Its numbers, each 0 or 1, so that the Manhattan distance of two is the number of bits that differ.
pub(super) const FINGERPRINT_NUMBERS: u64 = 64;

/// Fields of the payload.
pub(super) mod field {
    /// The whole record, as JSON in a text.
    pub(crate) const RECORD: &str = "record";
    /// Of the last write.
    pub(crate) const STAMP: &str = "stamp";
    /// Of the writes before it, newest first.
    pub(crate) const STAMPS_BEFORE: &str = "stamps_before";
    pub(crate) const STATE: &str = "state";
    pub(crate) const LABELS: &str = "labels";
    /// Each as a JSON text, `["key","value"]`: either may hold any character.
    pub(crate) const ATTRIBUTES: &str = "attributes";
    pub(crate) const REPEAT_OF: &str = "repeat_of";
    pub(crate) const ORDER: &str = "order";
    pub(crate) const CLUSTER: &str = "cluster";
    pub(crate) const OF_STAMPS: [&str; 2] = [STAMP, STAMPS_BEFORE];
    /// Told by our server only.
    pub(crate) const PUT: &str = "put";
    /// What is told of a neighbour.
    pub(crate) const OF_NEIGHBOUR: [&str; 5] = [STATE, LABELS, ORDER, CLUSTER, PUT];
}

pub(super) type Payload = HashMap<String, Value>;

/// Marks one write, so that a writer can tell whether its own took place.
pub(crate) type Stamp = i64;

/// Stamps that are kept: a writer that so many others overtook before it looked cannot tell.
const STAMPS: usize = 16;

/// A record and the stamps of its last writes, newest first. None for what was written in the process that holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stamped {
    pub(crate) record: Record,
    pub(crate) stamps: Vec<Stamp>,
}

impl Stamped {
    pub(super) fn stamp(&self) -> Stamp {
        self.stamps.first().copied().unwrap_or_default()
    }

    /// As it is after a write.
    pub(super) fn next(&self, record: Record, stamp: Stamp) -> Self {
        let stamps = std::iter::once(stamp).chain(self.stamps.iter().copied()).take(STAMPS).collect();
        Self { record, stamps }
    }

    /// Refuses a record that would not read back as it is: JSON has no form for a number that is none.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let id = self.record.id();
        let again: Record = serde_json::from_str(&json(&self.record)?).map_err(|e| fault::corrupt(STORE, id, e))?;
        match again == self.record {
            true => Ok(()),
            false => Err(fault::corrupt(STORE, id, "the record holds a number that cannot be written")),
        }
    }

    pub(super) fn to_payload(&self) -> Result<Payload, StoreError> {
        let record = &self.record;
        let summary = Summary::from(record);
        let texts = |texts: Vec<String>| list(texts.into_iter().map(Value::from).collect());
        let attributes = record.image.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
        let mut payload = HashMap::from([
            (field::RECORD.to_owned(), json(record)?.into()),
            (field::STATE.to_owned(), summary.state.as_str().into()),
            (field::LABELS.to_owned(), texts(summary.labels.iter().map(|label| label.as_str().to_owned()).collect())),
            (field::ATTRIBUTES.to_owned(), texts(attributes)),
            (field::ORDER.to_owned(), i64::try_from(summary.order.0).unwrap_or(i64::MAX).into()),
        ]);
        let ids = [(field::CLUSTER, summary.cluster), (field::REPEAT_OF, record.repeat.as_ref().map(|r| r.of))];
        payload.extend(self.stamps_to_payload());
        payload.extend(ids.into_iter().filter_map(|(key, id)| Some((key.to_owned(), id?.to_string().into()))));
        Ok(payload)
    }

    pub(super) fn from_payload(id: ImageId, payload: &Payload) -> Result<Self, StoreError> {
        let bad = |what: &str| fault::corrupt(STORE, id, format!("its payload has no readable `{what}`"));
        let text = payload.get(field::RECORD).and_then(Value::as_str).ok_or_else(|| bad(field::RECORD))?;
        let record = serde_json::from_str(text).map_err(|e| fault::corrupt(STORE, id, e))?;
        Ok(Self { record, stamps: stamps_of(id, payload)? })
    }

    /// Of its fields only the stamps.
    pub(super) fn stamps_to_payload(&self) -> Payload {
        let before = self.stamps.iter().skip(1).copied().map(Value::from).collect();
        HashMap::from([(field::STAMP.to_owned(), self.stamp().into()), (field::STAMPS_BEFORE.to_owned(), list(before))])
    }
}

pub(super) fn stamps_of(id: ImageId, payload: &Payload) -> Result<Vec<Stamp>, StoreError> {
    let bad = |what: &str| fault::corrupt(STORE, id, format!("its payload has no readable `{what}`"));
    let stamp = integer(payload, field::STAMP).ok_or_else(|| bad(field::STAMP))?;
    let before = payload.get(field::STAMPS_BEFORE).and_then(Value::as_list).unwrap_or_default();
    let stamps = std::iter::once(Some(stamp)).chain(before.iter().map(Value::as_integer));
    stamps.collect::<Option<_>>().ok_or_else(|| bad(field::STAMPS_BEFORE))
}

fn json(record: &Record) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|e| fault::corrupt(STORE, record.id(), e))
}

/// What is told of a neighbour.
pub(super) fn neighbour_to_payload(NearVector { image: summary, put, .. }: &NearVector) -> Payload {
    let labels = summary.labels.iter().map(|label| Value::from(label.as_str())).collect();
    let mut payload = HashMap::from([
        (field::STATE.to_owned(), summary.state.as_str().into()),
        (field::LABELS.to_owned(), list(labels)),
        (field::ORDER.to_owned(), i64::try_from(summary.order.0).unwrap_or(i64::MAX).into()),
    ]);
    payload.extend(summary.cluster.map(|id| (field::CLUSTER.to_owned(), id.to_string().into())));
    payload.extend(put.and_then(|put| Some((field::PUT.to_owned(), i64::try_from(put).ok()?.into()))));
    payload
}

pub(super) fn neighbour_of(id: ImageId, cosine: f32, payload: &Payload) -> Result<NearVector, StoreError> {
    let put = integer(payload, field::PUT).and_then(|put| u64::try_from(put).ok());
    Ok(NearVector { image: summary_of(id, payload)?, cosine, put })
}

fn summary_of(id: ImageId, payload: &Payload) -> Result<Summary, StoreError> {
    let bad = |what: &str| fault::corrupt(STORE, id, format!("its payload has no readable `{what}`"));
    let state = payload.get(field::STATE).and_then(Value::as_str).and_then(|text| state(text));
    let order = integer(payload, field::ORDER).and_then(|order| u64::try_from(order).ok());
    let label = |value: &Value| Label::new(value.as_str()?.as_str()).ok();
    let labels = payload.get(field::LABELS).and_then(Value::as_list).unwrap_or_default();
    let cluster = payload.get(field::CLUSTER).and_then(Value::as_str);
    let cluster = cluster.map(|text| text.parse().map_err(|_| bad(field::CLUSTER))).transpose()?;
    Ok(Summary {
        id,
        order: UploadSeq(order.ok_or_else(|| bad(field::ORDER))?),
        state: state.ok_or_else(|| bad(field::STATE))?,
        labels: labels.iter().map(label).collect::<Option<Vec<_>>>().ok_or_else(|| bad(field::LABELS))?.into(),
        cluster,
    })
}

pub(super) fn state(text: &str) -> Option<State> {
    State::ALL.into_iter().find(|state| state.as_str() == text)
}

pub(super) fn attribute(key: &str, value: &str) -> String {
    serde_json::to_string(&[key, value]).expect("two texts are JSON")
}

fn integer(payload: &Payload, key: &str) -> Option<i64> {
    payload.get(key).and_then(Value::as_integer)
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

pub(super) fn point_id(id: ImageId) -> PointId {
    PointId::from(id.to_string())
}

/// Points of ours are keyed by UUIDs; we make no others.
pub(super) fn image_id(id: Option<PointId>) -> Option<ImageId> {
    match id?.point_id_options? {
        PointIdOptions::Uuid(text) => text.parse().ok(),
        PointIdOptions::Num(_) => None,
    }
}

/// The ids just after and just before one, in the order of ids; None at the end.
pub(super) fn after(id: ImageId) -> Option<ImageId> {
    number(id).checked_add(1).map(of_number)
}

pub(super) fn before(id: ImageId) -> Option<ImageId> {
    number(id).checked_sub(1).map(of_number)
}

fn number(id: ImageId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

fn of_number(number: u128) -> ImageId {
    ImageId::from_bytes(number.to_be_bytes())
}

/// One number a bit, from the highest on.
pub(super) fn bits(fingerprint: Fingerprint) -> Vec<f32> {
    (0..64).rev().map(|bit| (fingerprint.0 >> bit & 1) as f32).collect()
}

pub(super) fn fingerprint(bits: &[f32]) -> Option<Fingerprint> {
    let is_bits = bits.len() == 64 && bits.iter().all(|bit| *bit == 0.0 || *bit == 1.0);
    is_bits.then(|| Fingerprint(bits.iter().fold(0, |sum, bit| sum << 1 | *bit as u64)))
}

/// Vectors by their names.
pub(super) fn named(vectors: impl IntoIterator<Item = (String, Vec<f32>)>) -> Vectors {
    let vector = |data| Vector { vector: Some(vector::Vector::Dense(DenseVector { data })), ..Vector::default() };
    let vectors = vectors.into_iter().map(|(name, data)| (name, vector(data))).collect();
    Vectors { vectors_options: Some(VectorsOptions::Vectors(NamedVectors { vectors })) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;

    fn stamped(n: u64) -> Stamped {
        let mut record = sample::record(n);
        record.repeat = Some(sample::repeat(9));
        record.cluster = Some(sample::id(4));
        Stamped { record, stamps: vec![7, -3] }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for n in 0..20 {
            let payload = stamped(n).to_payload().expect("can be written");
            assert_eq!(Stamped::from_payload(sample::id(n), &payload).expect("can be read"), stamped(n));
            assert_eq!(summary_of(sample::id(n), &payload).expect("can be read"), Summary::from(&stamped(n).record));
        }
    }

    #[test]
    fn a_neighbour_reads_back_as_it_was_written() {
        for (cluster, put) in [(None, None), (Some(sample::id(4)), Some(7))] {
            let image = Summary { cluster, ..Summary::from(&sample::record(3)) };
            let near = NearVector { image, cosine: 0.5, put };
            assert_eq!(neighbour_of(near.image.id, 0.5, &neighbour_to_payload(&near)).expect("can be read"), near);
        }
    }

    #[test]
    fn a_payload_without_a_field_is_named_with_it() {
        for missing in [field::RECORD, field::STAMP] {
            let mut payload = stamped(1).to_payload().expect("can be written");
            payload.remove(missing);
            let error = Stamped::from_payload(sample::id(1), &payload).expect_err("is missing");
            assert!(dih_core::chain(&error).to_string().contains(missing), "{error:?}");
        }
    }

    #[test]
    fn a_record_with_a_number_that_is_none_is_refused() {
        let mut odd = stamped(1);
        odd.record.image.measures.sharpness = f32::NAN;
        odd.check().expect_err("JSON has no such number");
        stamped(2).check().expect("reads back");
    }

    #[test]
    fn a_fingerprint_reads_back_and_its_distance_is_that_of_its_numbers() {
        let [one, other] = [0x0123_4567_89ab_cdef, 0xf0f0_0000_1234_5678].map(Fingerprint);
        assert_eq!(fingerprint(&bits(one)), Some(one));
        let apart: f32 = bits(one).iter().zip(bits(other)).map(|(a, b)| (a - b).abs()).sum();
        assert_eq!(apart as u32, one.distance(other));
        assert_eq!(fingerprint(&[0.5; 64]), None);
        assert_eq!(fingerprint(&[0.0; 63]), None);
    }

    #[test]
    fn the_ids_beside_one_are_just_before_and_after_it() {
        let id = sample::id(1);
        assert_eq!(after(id).and_then(before), Some(id));
        assert!(before(id) < Some(id) && after(id) > Some(id));
        assert_eq!((before(ImageId::from_bytes([0; 16])), after(ImageId::from_bytes([255; 16]))), (None, None));
    }

    #[test]
    fn only_so_many_stamps_are_kept() {
        let many = (0..40).fold(stamped(1), |before, stamp| before.next(before.record.clone(), stamp));
        assert_eq!(many.stamps, (24..40).rev().collect::<Vec<_>>());
    }
}
