//! Bytes written by an earlier version are still understood, and mean what they meant.
//!
//! After adding a field on purpose: `DIH_GOLDEN=write cargo test -p dih-proto --test golden`, and look at the diff.

mod samples;

use std::path::PathBuf;

use dih_core::{
    event::{
        CutRequested, DatasetPublished, DeadLetter, ImageClustered, ImageEmbedded, ImageStored, ImageUnique,
        ImageVerified, JobFailed, TrainingCompleted, TrainingRequested, Upload,
    },
    verdict::Answer,
};
use dih_proto::Wire;

#[track_caller]
fn check<T: Wire + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.bin"));
    if std::env::var("DIH_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&path, value.encode()).expect("the folder is there");
    }
    let golden = std::fs::read(&path).expect("every message has a golden sample");
    assert_eq!(&T::decode(&golden).expect("still understood"), value, "{name}");
    assert_eq!(&T::decode_shared(golden.clone().into()).expect("still understood"), value, "{name}");
    assert_eq!(value.encode(), golden, "{name} is written differently now");
}

/// What versions of the project wrote before fields were added, the oldest first.
#[track_caller]
fn check_earlier<T: Wire + PartialEq + std::fmt::Debug>(name: &str) -> usize {
    let versions =
        std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/earlier")).expect("is there");
    let samples = versions
        .map(|version| version.expect("readable").path().join(format!("{name}.bin")))
        .filter(|path| path.is_file());
    let mut checked = 0;
    for path in samples {
        let earlier = std::fs::read(&path).expect("readable");
        let understood = T::decode(&earlier).unwrap_or_else(|e| unreachable!("{}: {e}", path.display()));
        // What is passed on says as much as what came.
        assert_eq!(T::decode(&understood.encode()).expect("reads"), understood, "{}", path.display());
        checked += 1;
    }
    checked
}

#[test]
fn what_earlier_versions_wrote_is_still_understood() {
    let mut checked = 0;
    macro_rules! earlier {
        ($name:literal, $type:ty, $value:expr) => {
            checked += check_earlier::<$type>($name);
        };
    }
    each_message!(earlier);
    assert!(checked >= 7, "{checked} samples were found");
}

#[test]
fn every_golden_sample_decodes_to_its_value_and_back() {
    macro_rules! golden {
        ($name:literal, $type:ty, $value:expr) => {
            check::<$type>($name, &$value);
        };
    }
    each_message!(golden);
}
