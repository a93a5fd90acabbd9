//! From any error of a store to what the runner must do about it.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

use dih_core::ports::StoreError;

type Source = Box<dyn Error + Send + Sync>;

/// What the operating system said, if it said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    DiskFull,
    Denied,
    Other,
}

/// Looks through an error and its causes for the operating system's word.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> Cause {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        match io.map(io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
                return Cause::DiskFull;
            }
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory) => {
                return Cause::Denied;
            }
            _ => {}
        }
        // An `io::Error` made of another error does not name it as its source but as what it holds.
        next = io.and_then(io::Error::get_ref).map(|inner| inner as _).or_else(|| error.source());
    }
    Cause::Other
}

/// Classifies an error of a store that lives on a disk. `place` is the directory, for people.
pub(crate) fn on_disk(store: &'static str, action: String, place: &str, source: Source) -> StoreError {
    match cause(&*source) {
        Cause::DiskFull => StoreError::Unavailable {
            store,
            action: format!(
                "{action}, for the disk of `{place}` is full: free some space there and it goes on by itself"
            ),
            source,
        },
        Cause::Denied => {
            let remedy = format!("let this user write below `{place}`, which must be a directory");
            StoreError::Refused { store, action, remedy, source: Some(source) }
        }
        Cause::Other => StoreError::Unavailable { store, action, source },
    }
}

pub(crate) fn refused(store: &'static str, action: impl Into<String>, remedy: impl Into<String>) -> StoreError {
    StoreError::Refused { store, action: action.into(), remedy: remedy.into(), source: None }
}

pub(crate) fn corrupt(store: &'static str, key: impl ToString, source: impl Into<Source>) -> StoreError {
    StoreError::Corrupt { store, key: key.to_string(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dih_core::{Class, Classify, chain};

    #[track_caller]
    fn check(kind: ErrorKind, want: Class, word: &str) {
        let deep = io::Error::other(io::Error::new(kind, "from below"));
        let error = on_disk("blob store", "write `a`".into(), "/data", Box::new(deep));
        assert_eq!(error.class(), want);
        assert!(chain(&error).to_string().contains(word), "{}", chain(&error));
    }

    #[test]
    fn a_full_disk_is_tried_again_and_named() {
        check(ErrorKind::StorageFull, Class::Retry, "the disk of `/data` is full");
        check(ErrorKind::QuotaExceeded, Class::Retry, "the disk of `/data` is full");
    }

    #[test]
    fn a_denied_write_halts_and_names_the_remedy() {
        check(ErrorKind::PermissionDenied, Class::Halt, "let this user write below `/data`");
        check(ErrorKind::ReadOnlyFilesystem, Class::Halt, "let this user write below `/data`");
    }

    #[test]
    fn anything_else_is_tried_again() {
        check(ErrorKind::TimedOut, Class::Retry, "from below");
    }
}
