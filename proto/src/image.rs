//! Facts about one image on its way.

use bytes::Bytes;
use dih_core::{
    Epoch, Millis,
    event::{Image, ImageClustered, ImageEmbedded, ImageStored, ImageUnique, ImageVerified, VectorSpace},
    image::{Fingerprint, Fingerprints, Format, Measures, Size, Thumbnail},
};

use crate::{
    field::{
        Fault, Within, from_one, id_bytes, invalid, labels, missing, name, need, need_image_id, optional, positive,
        ranged, share, text, upload,
    },
    generated as wire,
    wire::Convert,
};

impl Convert for Image {
    type Wire = wire::Image;

    fn to_wire(&self) -> wire::Image {
        wire::Image {
            id: Some(id_bytes(self.id)),
            upload: Some(self.upload.0),
            epoch: self.epoch.0,
            device: self.device.to_string(),
            labels: self.labels.iter().map(ToString::to_string).collect(),
            source: self.source.clone(),
            captured_at_ms: self.captured_at.map(|at| at.0),
            attributes: self.attributes.clone(),
            format: format_to_wire(self.format).into(),
            size: Some(wire::Size { width: Some(self.size.width), height: Some(self.size.height) }),
            bytes: Some(self.bytes),
            measures: Some(self.measures.to_wire()),
            fingerprints: Some(wire::Fingerprints {
                orientations: self.fingerprints.orientations.iter().map(|f| f.0).collect(),
                parts: self.fingerprints.parts.iter().flatten().map(|f| f.0).collect(),
            }),
            lineage: self.lineage.iter().map(Convert::to_wire).collect(),
            thumbnail: self.thumbnail.as_ref().map(|thumbnail| thumbnail.bytes().clone()),
        }
    }

    fn from_wire(wire: wire::Image) -> Result<Self, Fault> {
        Ok(Self {
            id: need_image_id(wire.id.clone(), "id")?,
            upload: upload(wire.upload, "upload")?,
            epoch: Epoch(wire.epoch),
            device: name(&wire.device, "device")?,
            format: format(wire.format())?,
            labels: labels(wire.labels, "labels")?,
            source: wire.source,
            captured_at: wire.captured_at_ms.map(Millis),
            attributes: wire.attributes,
            size: size(need(wire.size, "size")?).within("size")?,
            bytes: from_one(wire.bytes, "bytes")?,
            measures: Measures::from_wire(need(wire.measures, "measures")?).within("measures")?,
            fingerprints: fingerprints(&need(wire.fingerprints, "fingerprints")?).within("fingerprints")?,
            thumbnail: wire.thumbnail.as_ref().map(thumbnail).transpose()?,
            lineage: crate::verdict::lineage(wire.lineage)?,
        })
    }
}

fn format_to_wire(format: Format) -> wire::Format {
    match format {
        Format::Jpeg => wire::Format::Jpeg,
        Format::Png => wire::Format::Png,
        Format::Webp => wire::Format::Webp,
        Format::Gif => wire::Format::Gif,
        Format::Bmp => wire::Format::Bmp,
        Format::Tiff => wire::Format::Tiff,
    }
}

fn format(format: wire::Format) -> Result<Format, Fault> {
    match format {
        // Also what prost makes of a number that this version does not know.
        wire::Format::Unspecified => Err(missing("format")),
        wire::Format::Jpeg => Ok(Format::Jpeg),
        wire::Format::Png => Ok(Format::Png),
        wire::Format::Webp => Ok(Format::Webp),
        wire::Format::Gif => Ok(Format::Gif),
        wire::Format::Bmp => Ok(Format::Bmp),
        wire::Format::Tiff => Ok(Format::Tiff),
    }
}

fn size(wire: wire::Size) -> Result<Size, Fault> {
    Ok(Size { width: from_one(wire.width, "width")?, height: from_one(wire.height, "height")? })
}

fn fingerprints(wire: &wire::Fingerprints) -> Result<Fingerprints, Fault> {
    let orientations = hashes(&wire.orientations, "orientations")?;
    let parts = if wire.parts.is_empty() { None } else { Some(hashes(&wire.parts, "parts")?) };
    Ok(Fingerprints { orientations, parts })
}

fn thumbnail(bytes: &Bytes) -> Result<Thumbnail, Fault> {
    let wrong = || invalid("thumbnail", format!("has {} bytes, not {}", bytes.len(), Thumbnail::BYTES));
    // A copy: records are kept for long, and would keep the message, too.
    Thumbnail::new(Bytes::copy_from_slice(bytes)).ok_or_else(wrong)
}

fn hashes<const N: usize>(wire: &[u64], field: &'static str) -> Result<[Fingerprint; N], Fault> {
    let hashes = <[u64; N]>::try_from(wire);
    let hashes = hashes.map_err(|_| invalid(field, format!("has {} entries, not {N}", wire.len())))?;
    Ok(hashes.map(Fingerprint))
}

impl Convert for Measures {
    type Wire = wire::Measures;

    fn to_wire(&self) -> wire::Measures {
        wire::Measures {
            sharpness: Some(self.sharpness),
            brightness: Some(self.brightness),
            luma_p05: Some(self.luma_p05),
            luma_p95: Some(self.luma_p95),
            luma_p99: Some(self.luma_p99),
            contrast: Some(self.contrast),
            entropy: Some(self.entropy),
            aspect: Some(self.aspect),
            colourfulness: Some(self.colourfulness),
            grayscale: Some(self.grayscale),
            transparent: Some(self.transparent),
            acuity: self.acuity,
            noise: self.noise,
            bars: self.bars,
            overexposure: self.overexposure,
        }
    }

    fn from_wire(wire: wire::Measures) -> Result<Self, Fault> {
        Ok(Self {
            sharpness: ranged(wire.sharpness, 0.0..=f32::MAX, "sharpness")?,
            brightness: ranged(wire.brightness, 0.0..=1.0, "brightness")?,
            luma_p05: ranged(wire.luma_p05, 0.0..=1.0, "luma_p05")?,
            luma_p95: ranged(wire.luma_p95, 0.0..=1.0, "luma_p95")?,
            luma_p99: ranged(wire.luma_p99, 0.0..=1.0, "luma_p99")?,
            contrast: ranged(wire.contrast, 0.0..=0.5, "contrast")?,
            entropy: ranged(wire.entropy, 0.0..=8.0, "entropy")?,
            aspect: positive(wire.aspect, "aspect")?,
            colourfulness: ranged(wire.colourfulness, 0.0..=1.0, "colourfulness")?,
            grayscale: need(wire.grayscale, "grayscale")?,
            transparent: ranged(wire.transparent, 0.0..=1.0, "transparent")?,
            acuity: optional(wire.acuity, |v| ranged(Some(v), 0.0..=f32::MAX, "acuity"))?,
            noise: share(wire.noise, "noise")?,
            bars: share(wire.bars, "bars")?,
            overexposure: share(wire.overexposure, "overexposure")?,
        })
    }
}

fn image(wire: Option<wire::Image>) -> Result<Image, Fault> {
    Image::from_wire(need(wire, "image")?).within("image")
}

impl Convert for ImageStored {
    type Wire = wire::ImageStored;

    fn to_wire(&self) -> wire::ImageStored {
        wire::ImageStored { image: Some(self.image.to_wire()) }
    }

    fn from_wire(wire: wire::ImageStored) -> Result<Self, Fault> {
        Ok(Self { image: image(wire.image)? })
    }
}

impl Convert for ImageUnique {
    type Wire = wire::ImageUnique;

    fn to_wire(&self) -> wire::ImageUnique {
        wire::ImageUnique { image: Some(self.image.to_wire()) }
    }

    fn from_wire(wire: wire::ImageUnique) -> Result<Self, Fault> {
        Ok(Self { image: image(wire.image)? })
    }
}

impl Convert for ImageVerified {
    type Wire = wire::ImageVerified;

    fn to_wire(&self) -> wire::ImageVerified {
        wire::ImageVerified { image: Some(self.image.to_wire()), label_score: self.label_score }
    }

    fn from_wire(wire: wire::ImageVerified) -> Result<Self, Fault> {
        Ok(Self { image: image(wire.image)?, label_score: share(wire.label_score, "label_score")? })
    }
}

impl Convert for ImageEmbedded {
    type Wire = wire::ImageEmbedded;

    fn to_wire(&self) -> wire::ImageEmbedded {
        wire::ImageEmbedded {
            image: Some(self.image.to_wire()),
            label_score: self.label_score,
            space: self.space.0.clone(),
        }
    }

    fn from_wire(wire: wire::ImageEmbedded) -> Result<Self, Fault> {
        Ok(Self {
            image: image(wire.image)?,
            label_score: share(wire.label_score, "label_score")?,
            space: VectorSpace(text(wire.space, "space")?),
        })
    }
}

impl Convert for ImageClustered {
    type Wire = wire::ImageClustered;

    fn to_wire(&self) -> wire::ImageClustered {
        wire::ImageClustered {
            image: Some(self.image.to_wire()),
            label_score: self.label_score,
            cluster: Some(id_bytes(self.cluster)),
        }
    }

    fn from_wire(wire: wire::ImageClustered) -> Result<Self, Fault> {
        Ok(Self {
            image: image(wire.image)?,
            label_score: share(wire.label_score, "label_score")?,
            cluster: need_image_id(wire.cluster, "cluster")?,
        })
    }
}
