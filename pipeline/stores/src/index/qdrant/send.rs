//! Sends a request until it is answered, for a while, and says what an error means for the runner.

use std::{future::Future, time::Duration};

use ::qdrant_client::QdrantError;
use dih_core::ports::StoreError;
use tonic::{Code, Status};

use crate::{fault, index::STORE};

/// Times that a request is sent, the pauses in between doubling from this.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// Every request of ours changes nothing the second time, so one that was not answered is sent again.
pub(super) async fn patiently<T, F>(action: &'static str, send: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, QdrantError>>,
{
    let mut tries = 1;
    loop {
        match send().await {
            Ok(answer) => return Ok(answer),
            Err(error) if tries < TRIES && may_pass(&error) => {
                tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
                tries += 1;
            }
            Err(error) => return Err(failed(action, error)),
        }
    }
}

fn status(error: &QdrantError) -> Option<&Status> {
    match error {
        QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => Some(status),
        _ => None,
    }
}

/// What is wrong with TLS the client says in words only.
fn says(error: &QdrantError, what: &str) -> bool {
    status(error).is_some_and(|status| status.message().contains(what))
}

/// Whether the server may answer soon.
fn may_pass(error: &QdrantError) -> bool {
    status(error).is_none_or(|status| {
        matches!(
            status.code(),
            Code::Unavailable | Code::Aborted | Code::Cancelled | Code::ResourceExhausted | Code::Unknown
        )
    })
}

pub(super) fn failed(action: &str, error: QdrantError) -> StoreError {
    let remedy = match status(&error).map(Status::code) {
        _ if says(&error, "InvalidCertificate") => {
            "name the file of the server's CA in the variable SSL_CERT_FILE, or correct the server's certificate"
        }
        _ if says(&error, "InvalidContentType") => {
            "write `http://` in `stores.qdrant.url`, or give the server a certificate: it speaks plain text"
        }
        // What is stored of one image; others are as well as before.
        Some(Code::DataLoss) => return fault::corrupt(STORE, action, error),
        Some(Code::Unauthenticated | Code::PermissionDenied) => {
            "give a key that may write in `stores.qdrant.api_key_file` or DIH_QDRANT_API_KEY"
        }
        Some(Code::NotFound) => "run `dih setup`, which makes the collection",
        Some(Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented) => {
            "see whether the server is of a version that is meant, and the collection made by `dih setup`"
        }
        _ => return StoreError::Unavailable { store: STORE, action: action.into(), source: Box::new(error) },
    };
    StoreError::Refused { store: STORE, action: action.into(), remedy: remedy.into(), source: Some(Box::new(error)) }
}

/// An answer without what it must hold.
pub(super) fn unanswered(action: &str) -> StoreError {
    fault::corrupt(STORE, action, "the server's answer holds a point that is none of ours")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use dih_core::{Class, Classify};

    fn error(code: Code) -> QdrantError {
        QdrantError::ResponseError { status: Status::new(code, "said so") }
    }

    #[test]
    fn an_answer_says_whether_to_halt_to_try_again_or_to_give_up_the_photo() {
        for (code, class) in [
            (Code::Unauthenticated, Class::Halt),
            (Code::NotFound, Class::Halt),
            (Code::InvalidArgument, Class::Halt),
            (Code::DataLoss, Class::BadInput),
            (Code::Unavailable, Class::Retry),
            (Code::DeadlineExceeded, Class::Retry),
            (Code::Internal, Class::Retry),
        ] {
            assert_eq!(failed("look", error(code)).class(), class, "{code:?}");
        }
    }

    async fn tries(code: Code, failures: u32) -> (u32, bool) {
        let sent = AtomicU32::new(0);
        let send = || async {
            match sent.fetch_add(1, Ordering::Relaxed) < failures {
                true => Err(error(code)),
                false => Ok(()),
            }
        };
        let done = patiently("look", send).await;
        (sent.load(Ordering::Relaxed), done.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_sent_again_only_where_that_may_help() {
        assert_eq!(tries(Code::Unavailable, 2).await, (3, true));
        assert_eq!(tries(Code::Unavailable, 100).await, (TRIES, false));
        assert_eq!(tries(Code::PermissionDenied, 100).await, (1, false));
    }
}
