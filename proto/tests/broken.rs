//! Half a message is never taken for a whole one, and no bytes make decoding panic.

mod samples;

use dih_core::{
    Class, Classify, Label,
    event::{
        CutRequested, DatasetPublished, DeadLetter, ImageClustered, ImageEmbedded, ImageStored, ImageUnique,
        ImageVerified, JobFailed, TrainingCompleted, TrainingRequested, Upload,
    },
    verdict::Answer,
};
use dih_proto::{Wire, WireError};
use proptest::prelude::*;

/// The path of the field that is complained of.
#[track_caller]
fn complaint<T: Wire + std::fmt::Debug>(body: &[u8]) -> String {
    match T::decode(body).expect_err("not whole") {
        WireError::Missing { field, .. } => format!("lacks {field}"),
        WireError::Invalid { field, .. } => format!("bad {field}"),
        WireError::Malformed { .. } => "malformed".to_owned(),
    }
}

#[test]
fn an_empty_message_lacks_its_first_field() {
    assert_eq!(complaint::<Upload>(&[]), "lacks content");
    assert_eq!(complaint::<ImageStored>(&[]), "lacks image");
    assert_eq!(complaint::<Answer>(&[]), "lacks upload");
    assert_eq!(complaint::<CutRequested>(&[]), "lacks dataset");
    assert_eq!(complaint::<DatasetPublished>(&[]), "lacks version");
    assert_eq!(complaint::<TrainingRequested>(&[]), "lacks version");
    assert_eq!(complaint::<TrainingCompleted>(&[]), "lacks version");
    assert_eq!(complaint::<JobFailed>(&[]), "lacks request");
    assert_eq!(complaint::<DeadLetter>(&[]), "lacks reasons");
}

/// Field `number` with `bytes` in it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    [&[number << 3 | 2, length], bytes].concat()
}

#[test]
fn the_path_of_a_faulty_field_is_named() {
    // Image with an id, but nothing else.
    assert_eq!(complaint::<ImageStored>(&field(1, &field(1, &[7; 16]))), "lacks image.upload");
    assert_eq!(complaint::<ImageStored>(&field(1, &field(1, &[7; 15]))), "bad image.id");
    assert_eq!(complaint::<ImageStored>(b"\x0a\xff"), "malformed");
    let error = ImageStored::decode(&[]).expect_err("empty");
    assert_eq!((error.to_string().as_str(), error.class()), ("ImageStored lacks `image`", Class::BadInput));
}

#[test]
fn values_out_of_range_are_refused() {
    let mut image = samples::image();
    image.measures.entropy = 8.5;
    assert_eq!(complaint::<ImageStored>(&ImageStored { image }.encode()), "bad image.measures.entropy");
    let mut image = samples::image();
    image.measures.sharpness = f32::NAN;
    assert_eq!(complaint::<ImageStored>(&ImageStored { image }.encode()), "bad image.measures.sharpness");
    let mut image = samples::image();
    image.size.width = 0;
    assert_eq!(complaint::<ImageStored>(&ImageStored { image }.encode()), "bad image.size.width");
    let verified = ImageVerified { label_score: Some(1.5), ..samples::verified() };
    assert_eq!(complaint::<ImageVerified>(&verified.encode()), "bad label_score");
    let published = DatasetPublished { manifest_sha256: "ABC".into(), ..samples::published() };
    assert_eq!(complaint::<DatasetPublished>(&published.encode()), "bad manifest_sha256");
    let unlabelled = Upload { labels: Vec::<Label>::new(), ..samples::upload() };
    assert_eq!(complaint::<Upload>(&unlabelled.encode()), "lacks labels");
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let mut body = samples::job_failed().encode();
    // Field 200, a varint.
    body.extend([0xc0, 0x0c, 0x01]);
    assert_eq!(JobFailed::decode(&body).expect("newer, not wrong"), samples::job_failed());
}

#[test]
fn a_cut_message_is_refused_or_lacks_only_what_may_be_absent() {
    macro_rules! cut {
        ($name:literal, $type:ty, $value:expr) => {
            let (value, whole): ($type, _) = ($value, $value.encode());
            for end in 0..whole.len() {
                if let Ok(read) = <$type>::decode(&whole[..end]) {
                    // Told apart by what it is written as: a part of the whole, up to the cut.
                    let again = read.encode();
                    assert!(again.len() <= end, "{} cut at {end} grew to {}", $name, again.len());
                    assert_ne!(read, value, "{} cut at {end} is taken for whole", $name);
                }
            }
        };
    }
    each_message!(cut);
}

#[test]
fn a_message_whose_last_field_is_required_is_refused_wherever_it_is_cut() {
    macro_rules! refused {
        ($type:ty, $value:expr) => {
            let whole = $value.encode();
            for end in 0..whole.len() {
                assert!(<$type>::decode(&whole[..end]).is_err(), "{} bytes are taken for a message", end);
            }
        };
    }
    refused!(Answer, samples::answer());
    refused!(ImageClustered, samples::clustered());
    refused!(ImageEmbedded, samples::embedded());
    refused!(DatasetPublished, samples::published());
    refused!(TrainingCompleted, samples::training_completed());
    refused!(JobFailed, samples::job_failed());
    refused!(DeadLetter, samples::dead_letter());
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        macro_rules! decode {
            ($name:literal, $type:ty, $value:expr) => {
                let _ = <$type>::decode(&body);
            };
        }
        each_message!(decode);
    }

    #[test]
    fn a_changed_byte_never_makes_decoding_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        macro_rules! change {
            ($name:literal, $type:ty, $value:expr) => {
                let mut body = $value.encode();
                let at = at.index(body.len());
                body[at] = byte;
                if let Ok(read) = <$type>::decode(&body) {
                    // Whatever it became is a value like any other.
                    prop_assert_eq!(<$type>::decode(&read.encode()).ok(), Some(read));
                }
            };
        }
        each_message!(change);
    }
}
