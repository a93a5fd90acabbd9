//! Small state: values changed by compare-and-set.
//!
//! Takes    keys of letters, digits and `-/_=.` that neither begin nor end with a dot; values of some kilobytes.
//! Gives    one winner for every create and every replace.
//! Weak at  [`SmallState::keys`](dih_core::ports::SmallState::keys) walks the whole bucket.

mod kv;
mod memory;

pub use kv::KvState;
pub use memory::MemoryState;

use dih_core::ports::StoreError;

use crate::fault;

const STORE: &str = "small state";

/// The rules of NATS, kept by the fake too.
fn check(key: &str) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
    // Two dots in a row would make an empty token of the subject.
    let dots = key.starts_with('.') || key.ends_with('.') || key.contains("..");
    if !key.is_empty() && key.chars().all(allowed) && !dots {
        return Ok(());
    }
    let remedy = "use letters, digits and `-/_=.`, no dot at either end and no two in a row";
    Err(fault::refused(STORE, format!("take the key {key:?}"), remedy))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contract::{self, nats::NatsServer};
    use dih_core::{Class, Classify, chain, ports::SmallState};

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_keeps_the_contract() {
        contract::state(async || Arc::new(MemoryState::default()) as Arc<dyn SmallState>).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_of_a_real_broker_keeps_the_contract() {
        let server = NatsServer::start().await;
        contract::state(async || {
            let client = server.fresh_state().await;
            Arc::new(KvState::open(client).await.expect("opens")) as Arc<dyn SmallState>
        })
        .await;
    }

    #[tokio::test]
    async fn a_broker_without_the_bucket_is_refused_with_a_remedy() {
        let server = NatsServer::start().await;
        let refused = KvState::open(server.client().await).await.expect_err("nobody made the bucket");
        assert_eq!(refused.class(), Class::Halt);
        assert!(chain(&refused).to_string().contains("run `dih setup`"), "{}", chain(&refused));
    }

    #[tokio::test]
    async fn a_broker_that_died_is_tried_again() {
        let server = NatsServer::start().await;
        let state = KvState::open(server.fresh_state().await).await.expect("opens");
        drop(server);
        let error = state.get("a").await.expect_err("nobody answers");
        assert_eq!(error.class(), Class::Retry);
    }
}
