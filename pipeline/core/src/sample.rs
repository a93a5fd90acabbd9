//! Example values for tests of other crates, so that each need not spell them out.

use std::collections::BTreeMap;

use crate::{
    DeviceId, Epoch, ImageId, Label, UploadSeq,
    event::Image,
    image::{Fingerprint, Fingerprints, Format, Measures, Size},
};

/// A good 640x480 photo of a cat: its id repeats the byte `n`, its fingerprint is random by `n`.
pub fn image(n: u8, upload: u64) -> Image {
    let bits = Fingerprint(u64::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Image {
        id: ImageId::from_bytes([n; 16]),
        upload: UploadSeq(upload),
        epoch: Epoch(0),
        device: DeviceId::new("cam1").expect("a valid device"),
        labels: vec![label("cat")],
        source: Some(format!("cat/{n}.jpg")),
        captured_at: None,
        attributes: BTreeMap::new(),
        format: Format::Jpeg,
        size: Size { width: 640, height: 480 },
        bytes: 54_321,
        measures: Measures {
            sharpness: 400.0,
            brightness: 0.5,
            luma_p05: 0.1,
            luma_p95: 0.9,
            luma_p99: 0.95,
            contrast: 0.2,
            entropy: 7.0,
            aspect: 640.0 / 480.0,
            colourfulness: 0.2,
            grayscale: false,
            transparent: 0.0,
            acuity: Some(0.5),
            noise: Some(0.01),
            bars: Some(0.0),
            overexposure: Some(0.1),
        },
        fingerprints: Fingerprints { orientations: [bits; 8], parts: None },
        thumbnail: None,
        lineage: Vec::new(),
    }
}

/// A label known to be valid.
pub fn label(text: &str) -> Label {
    Label::new(text).expect("a valid label")
}
