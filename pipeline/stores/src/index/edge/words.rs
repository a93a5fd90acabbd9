//! The words that records are selected by: labels and attributes. Pure.
//!
//! A key is the word's length, the word, and the image's id, so that the images of one word lie together and in order.

use dih_core::{
    ImageId,
    ports::{Facet, Select},
    record::Record,
};

use crate::index::FacetValue;

const ID_BYTES: usize = 16;

fn label_word(label: &str) -> String {
    format!("l:{label}")
}

/// The length of the key keeps `a=b`, `c` apart from `a`, `b=c`.
fn attribute_word(key: &str, value: &str) -> String {
    format!("a{}:{key}={value}", key.len())
}

/// All words of a record, in order, each once.
pub(super) fn of(record: &Record) -> Vec<String> {
    let labels = record.image.labels.iter().map(|label| label_word(label.as_str()));
    let attributes = record.image.attributes.iter().map(|(key, value)| attribute_word(key, value));
    let mut words: Vec<_> = labels.chain(attributes).collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Words of which a selected record has at least one. None where the selection names neither labels nor attributes.
pub(super) fn any_of(select: &Select) -> Option<Vec<String>> {
    if !select.labels.is_empty() {
        return Some(select.labels.iter().map(|label| label_word(label.as_str())).collect());
    }
    let (key, value) = select.attributes.first_key_value()?;
    Some(vec![attribute_word(key, value)])
}

pub(super) fn prefix(word: &str) -> Vec<u8> {
    let length = u32::try_from(word.len()).expect("a word is shorter than 4 GiB");
    let mut key = Vec::with_capacity(4 + word.len() + ID_BYTES);
    key.extend(length.to_be_bytes());
    key.extend(word.as_bytes());
    key
}

pub(super) fn key(word: &str, id: ImageId) -> Vec<u8> {
    let mut key = prefix(word);
    key.extend(id.as_bytes());
    key
}

/// The word of a key, and the image.
pub(super) fn of_key(key: &[u8]) -> Option<(&[u8], ImageId)> {
    let (word, id) = key.get(4..)?.split_last_chunk::<ID_BYTES>()?;
    Some((word, ImageId::from_bytes(*id)))
}

/// The value that a word stands for, if it is one of this facet.
pub(super) fn value(by: Facet, word: &[u8]) -> Option<FacetValue> {
    let word = str::from_utf8(word).ok()?;
    match by {
        Facet::State => None,
        Facet::Label => Some((None, word.strip_prefix("l:")?.to_owned())),
        Facet::Attribute => {
            let (length, pair) = word.strip_prefix('a')?.split_once(':')?;
            let (key, value) = pair.split_at_checked(length.parse().ok()?)?;
            Some((Some(key.to_owned()), value.strip_prefix('=')?.to_owned()))
        }
    }
}

/// The image of a key.
pub(super) fn id_of(key: &[u8]) -> Option<ImageId> {
    key.last_chunk::<ID_BYTES>().map(|id| ImageId::from_bytes(*id))
}
