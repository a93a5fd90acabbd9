//! Records to try a store with, made from a number: the same number gives the same record.

use std::collections::BTreeMap;

use dih_core::{
    BlobKey, DeviceId, Epoch, ImageId, Label, Millis, UploadSeq,
    event::Image,
    image::{Fingerprint, Fingerprints, Format, Measures, Size},
    record::Record,
    repeat::{Evidence, FoundBy, Repeat},
};

/// Image number `n`. Ids of different numbers differ and do not follow the order of the numbers.
pub fn id(n: u64) -> ImageId {
    ImageId::of_bytes(&n.to_be_bytes())
}

/// Scatters a number over 64 bits (splitmix64, Steele et al., OOPSLA 2014).
pub fn scatter(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn label(text: &str) -> Label {
    Label::new(text).expect("a sample label is a valid one")
}

pub fn key(text: &str) -> BlobKey {
    BlobKey::new(text).expect("a sample key is a valid one")
}

/// A claim of image `n` by upload `n`. Labels, attributes and text hold what trips a careless encoding.
pub fn record(n: u64) -> Record {
    let turned = |i: u64| Fingerprint(scatter(n).rotate_left(8 * i as u32));
    Record::claimed(Image {
        id: id(n),
        upload: UploadSeq(n),
        epoch: Epoch(0),
        device: DeviceId::new("sample-device").expect("valid"),
        labels: vec![label(if n.is_multiple_of(2) { "even" } else { "odd" }), label("größe \"M\" = 1.5")],
        source: Some(format!("photos/{n} ünï.jpg")),
        captured_at: Some(Millis(1_700_000_000_000_i64.wrapping_add(n as i64))),
        attributes: BTreeMap::from([
            ("third".into(), (n % 3).to_string()),
            ("a.b=c".into(), "d=\"e\"".into()),
            ("empty".into(), String::new()),
        ]),
        format: Format::Jpeg,
        size: Size { width: 640, height: 480 },
        bytes: n.saturating_add(1_000),
        measures: Measures { sharpness: 0.1 + n as f32, brightness: 1.0 / 3.0, ..Measures::default() },
        fingerprints: Fingerprints { orientations: std::array::from_fn(|i| turned(i as u64)), parts: None },
        thumbnail: None,
        lineage: Vec::new(),
    })
}

/// As [`record`], with this fingerprint upright.
pub fn with_fingerprint(n: u64, upright: u64) -> Record {
    let mut record = record(n);
    record.image.fingerprints.orientations[0] = Fingerprint(upright);
    record
}

/// A repeat of image `of`, found by its vector and confirmed.
pub fn repeat(of: u64) -> Repeat {
    let evidence = Evidence {
        transform: [0.9, -0.1, 3.5, 0.1, 0.9, -2.25],
        mirrored: true,
        inliers: 40,
        matched: 50,
        overlap: 0.95,
        correlation: 0.999_9,
        colour: 1.5,
    };
    Repeat {
        of: id(of),
        of_upload: UploadSeq(of),
        of_source: Some("first.jpg".into()),
        found_by: FoundBy::Vector { cosine: 0.987_654_3 },
        evidence: Some(evidence),
    }
}
