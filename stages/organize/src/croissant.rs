//! `croissant.json`: the version described for machines, in Croissant 1.0 (<https://docs.mlcommons.org/croissant/>).
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use dih_core::Label;
use serde_json::{Value, json};

use crate::{
    splits::Split,
    stats::Stats,
    version::{FileEntry, HELD, MANIFEST, ShardEntry},
};

/// Columns of the manifest: name, type, whether a list, and what it says.
const COLUMNS: &[(&str, &str, bool, &str)] = &[
    ("image", "sc:Text", false, "Id of the published picture: 128 bits of the SHA-256 of the upload, as a UUID."),
    ("earliest", "sc:Text", false, "Id of the earliest of its repeats, by which the photo is known in every version."),
    ("upload", "sc:Integer", false, "Number of the upload, in order of arrival."),
    ("label", "sc:Text", false, "Primary label."),
    ("labels", "sc:Text", true, "All labels that most uploads of the photo agree on."),
    ("split", "sc:Text", false, "train, val or test; look-alikes share one."),
    ("split_since", "sc:Integer", false, "Version that gave the split."),
    ("label_score", "sc:Float", false, "Probability of the label by the classifier that saw the photo arrive."),
    ("fits", "sc:Float", false, "Probability of the label by the picture alone, by a model that had not seen it."),
    (
        "p_label_wrong",
        "sc:Float",
        false,
        "Probability that the label is wrong, by picture, neighbours, votes, classifier and the record of the device.",
    ),
    (
        "outlier",
        "sc:Float",
        false,
        "How lonely it is: mean of 1 - cosine to its nearest members (10 by default); 0 is a twin of all of them.",
    ),
    ("votes", "sc:Integer", false, "Uploads of this photo."),
    ("votes_agreeing", "sc:Integer", false, "Uploads that named the primary label."),
    ("cluster", "sc:Text", false, "Earliest photo of the group of look-alikes."),
    ("width", "sc:Integer", false, "Width of the upload in pixels, upright."),
    ("height", "sc:Integer", false, "Height of the upload in pixels, upright."),
    ("bytes", "sc:Integer", false, "Size of the upload."),
    ("format", "sc:Text", false, "Format of the upload."),
    ("fingerprint", "sc:Text", false, "64-bit perceptual hash, hex."),
    ("sharpness", "sc:Float", false, "Variance of the Laplacian of luma; small is blurred."),
    ("brightness", "sc:Float", false, "Mean luma, 0 to 1."),
    ("contrast", "sc:Float", false, "Standard deviation of luma."),
    ("entropy", "sc:Float", false, "Entropy of luma in bits."),
    (
        "acuity",
        "sc:Float",
        false,
        "How steep edges are, whatever their contrast: about 0.5 is sharp, below 0.25 blurred.",
    ),
    ("overexposure", "sc:Float", false, "How much of the light is burnt out, 0 to 1 (white)."),
    ("aspect", "sc:Float", false, "Width over height."),
    ("grayscale", "sc:Boolean", false, "Whether it has no colour."),
    ("device", "sc:Text", false, "Who sent it."),
    ("source", "sc:Text", false, "What the uploader calls it."),
    ("licence", "sc:Text", false, "Licence of the photo."),
    ("attributes", "sc:Text", false, "Everything else the uploader said, as JSON."),
    ("lineage", "sc:Text", false, "Every decision about the photo, as JSON."),
    ("vector", "sc:Float", true, "Feature vector of length 1."),
    ("space", "sc:Text", false, "Model that made the vector."),
    ("shard", "sc:Text", false, "Shard that holds the picture."),
    ("picture", "sc:Text", false, "Key of the picture in the store."),
];

/// Describes a version. `files` and `shards` lie as they do in the store: shards in `../shards`.
pub(crate) fn croissant(stats: &Stats, classes: &[Label], files: &[FileEntry], shards: &[ShardEntry]) -> Value {
    let definition = &stats.definition;
    let Some(version) = &stats.version else { return Value::Null };
    let fallback = format!("{} labelled photos, version {}.", stats.members, version.version);
    let mut tables = vec![splits(), labels(classes), photos()];
    let mut distribution: Vec<Value> =
        files.iter().filter(|f| [MANIFEST, HELD].contains(&f.name.as_str())).map(parquet).collect();
    if !shards.is_empty() {
        distribution.extend(shards.iter().map(tar));
        distribution.push(json!({
            "@type": "cr:FileSet",
            "@id": "pictures-in-shards",
            "name": "pictures-in-shards",
            "description": "The pictures inside the shards.",
            "containedIn": shards.iter().map(|s| json!({"@id": shard_id(s)})).collect::<Vec<_>>(),
            "encodingFormat": "image/jpeg",
            "includes": "*.jpg",
        }));
        tables.push(pictures());
    }
    let mut document = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": definition.title.clone().unwrap_or_else(|| version.dataset.to_string()),
        "description": definition.description.clone().unwrap_or(fallback),
        "version": format!("{}.0.0", version.version),
        "url": format!("https://deep-images-hub.invalid/datasets/{}/{}", version.dataset, version.version),
        "license": definition.licence.clone().unwrap_or_else(|| licences(stats)),
        "citeAs": format!("{version}, cut by Deep Images Hub"),
        "isLiveDataset": false,
        "distribution": distribution,
        "recordSet": tables,
    });
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    document
}

/// The description as it holds for a copy: `places` says where each file lies in it, by its `@id`. Files that were not
/// copied go, and with them what reads from them.
pub(crate) fn relocated(mut document: Value, places: &BTreeMap<String, String>) -> Value {
    let id = |value: &Value| value["@id"].as_str().unwrap_or_default().to_owned();
    let mut gone = BTreeSet::new();
    if let Some(files) = document["distribution"].as_array_mut() {
        files.retain_mut(|file| {
            let held_in = file["containedIn"].as_array().cloned();
            let stays = match (held_in, places.get(&id(file))) {
                (Some(shards), _) => shards.iter().all(|shard| places.contains_key(&id(shard))),
                (None, Some(place)) => {
                    file["contentUrl"] = place.as_str().into();
                    true
                }
                (None, None) => false,
            };
            if !stays {
                gone.insert(id(file));
            }
            stays
        });
    }
    if let Some(sets) = document["recordSet"].as_array_mut() {
        let reads_gone = |field: &Value| {
            let source = &field["source"];
            [&source["fileObject"], &source["fileSet"]].iter().any(|file| gone.contains(&id(file)))
        };
        sets.retain(|set| !set["field"].as_array().is_some_and(|fields| fields.iter().any(reads_gone)));
    }
    document
}

fn licences(stats: &Stats) -> String {
    let names: Vec<&str> = stats.licences.keys().map(String::as_str).collect();
    match names.len() {
        0..=10 => names.join(", "),
        n => format!("{} and {} more; see the column `licence`", names[..10].join(", "), n - 10),
    }
}

fn parquet(file: &FileEntry) -> Value {
    json!({
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.name,
        "contentSize": format!("{} B", file.bytes),
        "encodingFormat": "application/x-parquet",
        "sha256": file.sha256,
    })
}

/// How the description names a shard.
pub(crate) fn shard_id(shard: &ShardEntry) -> String {
    format!("{}-{}.tar", shard.split, &shard.sha256[..16])
}

fn tar(shard: &ShardEntry) -> Value {
    json!({
        "@type": "cr:FileObject",
        "@id": shard_id(shard),
        "name": shard_id(shard),
        "description": format!("WebDataset shard with {} photos of the split {}.", shard.photos, shard.split),
        "contentUrl": format!("../shards/{}.tar", shard.sha256),
        "contentSize": format!("{} B", shard.bytes),
        "encodingFormat": "application/x-tar",
        "sha256": shard.sha256,
    })
}

fn photos() -> Value {
    let field = |(name, kind, list, what): &(&str, &str, bool, &str)| {
        let mut field = json!({
            "@type": "cr:Field",
            "@id": format!("photos/{name}"),
            "name": name,
            "description": what,
            "dataType": kind,
            "source": {"fileObject": {"@id": MANIFEST}, "extract": {"column": name}},
        });
        if *list {
            field["repeated"] = true.into();
        }
        match *name {
            "split" => field["references"] = json!({"field": {"@id": "splits/name"}}),
            "label" => field["references"] = json!({"field": {"@id": "labels/name"}}),
            _ => {}
        }
        field
    };
    json!({
        "@type": "cr:RecordSet",
        "@id": "photos",
        "name": "photos",
        "description": "One row a photo.",
        "key": {"@id": "photos/image"},
        "field": COLUMNS.iter().map(field).collect::<Vec<_>>(),
    })
}

fn pictures() -> Value {
    let field = |name: &str, kind: &str, property: &str| {
        json!({
            "@type": "cr:Field",
            "@id": format!("pictures/{name}"),
            "name": name,
            "dataType": kind,
            "source": {"fileSet": {"@id": "pictures-in-shards"}, "extract": {"fileProperty": property}},
        })
    };
    json!({
        "@type": "cr:RecordSet",
        "@id": "pictures",
        "name": "pictures",
        "description": "The pixels; a file name is the id of its photo and `.jpg`.",
        "field": [field("file", "sc:Text", "filename"), field("content", "sc:ImageObject", "content")],
    })
}

fn splits() -> Value {
    let row = |split: Split| {
        let standard = match split {
            Split::Train => "cr:TrainingSplit",
            Split::Val => "cr:ValidationSplit",
            Split::Test => "cr:TestSplit",
        };
        json!({"splits/name": split.as_str(), "splits/url": standard})
    };
    json!({
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Parts of the data set. Look-alikes never stand on two sides.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [enumerated("splits/name", "name", "sc:Text"), enumerated("splits/url", "url", "sc:URL")],
        "data": Split::ALL.map(row),
    })
}

fn labels(classes: &[Label]) -> Value {
    let row = |(class, label): (usize, &Label)| json!({"labels/name": label, "labels/class": class});
    json!({
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "Labels and their class numbers in the shards.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/name"},
        "field": [enumerated("labels/name", "name", "sc:Text"), enumerated("labels/class", "class", "sc:Integer")],
        "data": classes.iter().enumerate().map(row).collect::<Vec<_>>(),
    })
}

fn enumerated(id: &str, name: &str, kind: &str) -> Value {
    json!({"@type": "cr:Field", "@id": id, "name": name, "dataType": kind})
}

/// The JSON-LD context that the specification gives.
fn context() -> Value {
    json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "citeAs": "cr:citeAs",
        "column": "cr:column",
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "equivalentProperty": "cr:equivalentProperty",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "extract": "cr:extract",
        "field": "cr:field",
        "fileProperty": "cr:fileProperty",
        "fileObject": "cr:fileObject",
        "fileSet": "cr:fileSet",
        "format": "cr:format",
        "includes": "cr:includes",
        "isLiveDataset": "cr:isLiveDataset",
        "jsonPath": "cr:jsonPath",
        "key": "cr:key",
        "md5": "cr:md5",
        "parentField": "cr:parentField",
        "path": "cr:path",
        "recordSet": "cr:recordSet",
        "references": "cr:references",
        "regex": "cr:regex",
        "repeated": "cr:repeated",
        "replace": "cr:replace",
        "samplingRate": "cr:samplingRate",
        "sc": "https://schema.org/",
        "separator": "cr:separator",
        "source": "cr:source",
        "subField": "cr:subField",
        "transform": "cr:transform"
    })
}
