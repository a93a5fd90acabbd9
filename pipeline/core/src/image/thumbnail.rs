//! A picture in 384 bytes: enough to see that most others show something else.

use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

/// The whole picture, upright, squeezed into a square whatever its aspect: luma, then the two chroma planes at half the
/// resolution, each row by row. As in JPEG (BT.601, full range): luma 0 (black) to 255, chroma 128 where there is none.
#[derive(Clone, PartialEq, Eq)]
pub struct Thumbnail(Bytes);

impl Thumbnail {
    /// Pixels on each side of the luma plane.
    pub const SIDE: usize = 16;
    /// Pixels on each side of the chroma planes.
    pub const CHROMA_SIDE: usize = 8;
    /// Bytes in all.
    pub const BYTES: usize = Self::LUMA + 2 * Self::CHROMA;

    const LUMA: usize = Self::SIDE * Self::SIDE;
    const CHROMA: usize = Self::CHROMA_SIDE * Self::CHROMA_SIDE;

    /// None where these are not [`Thumbnail::BYTES`].
    pub fn new(bytes: Bytes) -> Option<Self> {
        (bytes.len() == Self::BYTES).then_some(Self(bytes))
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn luma(&self) -> &[u8] {
        &self.0[..Self::LUMA]
    }

    /// Blueness, then redness (Cb and Cr).
    pub fn chroma(&self) -> [&[u8]; 2] {
        let (blue, red) = self.0[Self::LUMA..].split_at(Self::CHROMA);
        [blue, red]
    }
}

impl From<[u8; Self::BYTES]> for Thumbnail {
    fn from(bytes: [u8; Self::BYTES]) -> Self {
        Self(Bytes::copy_from_slice(&bytes))
    }
}

impl fmt::Debug for Thumbnail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thumbnail").finish_non_exhaustive()
    }
}

impl Serialize for Thumbnail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&BASE64.encode(&self.0)),
            false => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Thumbnail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_any(Planes),
            false => deserializer.deserialize_bytes(Planes),
        }
    }
}

/// Reads bytes, or in JSON their base64; once it had the list of their numbers.
struct Planes;

impl<'de> Visitor<'de> for Planes {
    type Value = Thumbnail;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} bytes of a thumbnail", Thumbnail::BYTES)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Thumbnail, E> {
        Thumbnail::new(Bytes::copy_from_slice(bytes)).ok_or_else(|| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Thumbnail, E> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(E::custom)?;
        self.visit_bytes(&bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Thumbnail, A::Error> {
        let mut bytes = Vec::with_capacity(Thumbnail::BYTES);
        while let Some(value) = numbers.next_element()? {
            bytes.push(value);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gives_back_what_it_was_given_and_refuses_another_length() {
        let thumbnail = Thumbnail::from(std::array::from_fn(|i| (i % 251) as u8));
        let json = serde_json::to_string(&thumbnail).expect("is JSON");
        assert_eq!(serde_json::from_str::<Thumbnail>(&json).expect("reads"), thumbnail);
        let numbers = serde_json::to_string(&thumbnail.bytes().to_vec()).expect("is JSON");
        assert_eq!(serde_json::from_str::<Thumbnail>(&numbers).expect("reads"), thumbnail, "as it was written before");
        let short = serde_json::from_str::<Thumbnail>("[1, 2]").expect_err("two are too few").to_string();
        assert!(short.contains("expected the 384 bytes of a thumbnail"), "{short}");
    }
}
