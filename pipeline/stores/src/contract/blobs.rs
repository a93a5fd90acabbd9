//! The contract of [`Blobs`].

use std::sync::Arc;

use bytes::Bytes;
use dih_core::ports::{Blobs, StoreError};

use super::{race, sample::key, sentences};

type Store = Arc<dyn Blobs>;

/// Tries every sentence on a fresh store.
pub async fn blobs(make: impl AsyncFn() -> Store) {
    sentences!(
        "blobs",
        make,
        what_is_written_is_read,
        a_write_replaces_what_was_there,
        what_is_missing_is_not_found_by_name,
        a_create_has_one_winner_of_32,
        a_create_changes_nothing_that_is_there,
        a_reader_beside_writers_sees_a_whole_value,
        what_is_deleted_is_gone,
        a_list_goes_by_whole_path_parts_and_is_sorted,
        a_location_names_the_key,
    );
}

async fn put(store: &Store, name: &str, bytes: &'static [u8]) {
    store.put(&key(name), Bytes::from_static(bytes)).await.expect("writes");
}

async fn what_is_written_is_read(store: Store) {
    put(&store, "originals/ab/one.jpg", b"picture").await;
    put(&store, "empty", b"").await;
    assert_eq!(store.get(&key("originals/ab/one.jpg")).await.expect("reads"), "picture");
    assert_eq!(store.size(&key("originals/ab/one.jpg")).await.expect("looks"), Some(7));
    assert_eq!(store.get(&key("empty")).await.expect("reads"), "");
    assert_eq!(store.size(&key("empty")).await.expect("looks"), Some(0));
}

async fn a_write_replaces_what_was_there(store: Store) {
    put(&store, "a", b"long before").await;
    put(&store, "a", b"after").await;
    assert_eq!(store.get(&key("a")).await.expect("reads"), "after");
}

async fn what_is_missing_is_not_found_by_name(store: Store) {
    let error = store.get(&key("not/here")).await.expect_err("nothing is there");
    assert!(matches!(&error, StoreError::NotFound { key, .. } if key == "not/here"), "{error:?}");
    assert_eq!(store.size(&key("not/here")).await.expect("looks"), None);
}

async fn a_create_has_one_winner_of_32(store: Store) {
    let racer = |i: usize| {
        let store = store.clone();
        async move { store.create(&key("a/b"), vec![i as u8; 10_000].into()).await.expect("answers") }
    };
    let won = race(32, racer).await;
    let winners: Vec<_> = (0..32).filter(|i| won[*i]).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get(&key("a/b")).await.expect("reads"), vec![winners[0] as u8; 10_000]);
}

async fn a_create_changes_nothing_that_is_there(store: Store) {
    put(&store, "a", b"first").await;
    assert!(!store.create(&key("a"), Bytes::from_static(b"second")).await.expect("answers"));
    assert_eq!(store.get(&key("a")).await.expect("reads"), "first");
    assert!(store.create(&key("b"), Bytes::from_static(b"first")).await.expect("answers"));
}

async fn a_reader_beside_writers_sees_a_whole_value(store: Store) {
    const BYTES: usize = 300_000;
    put(&store, "a", &[0; BYTES]).await;
    let racer = |i: usize| {
        let store = store.clone();
        async move {
            for round in 0..10 {
                if i < 4 {
                    store.put(&key("a"), vec![(i * 10 + round) as u8; BYTES].into()).await.expect("writes");
                } else {
                    let seen = store.get(&key("a")).await.expect("reads");
                    assert_eq!(seen.len(), BYTES);
                    assert!(seen.iter().all(|byte| *byte == seen[0]), "half of one value and half of another");
                }
            }
        }
    };
    race(8, racer).await;
}

async fn what_is_deleted_is_gone(store: Store) {
    put(&store, "a/b", b"1").await;
    store.delete(&key("a/b")).await.expect("deletes");
    store.delete(&key("a/b")).await.expect("deleting what is not there is fine");
    assert_eq!(store.size(&key("a/b")).await.expect("looks"), None);
    assert!(store.create(&key("a/b"), Bytes::new()).await.expect("answers"));
}

async fn a_list_goes_by_whole_path_parts_and_is_sorted(store: Store) {
    for name in ["a/b/2", "a/b/1/x", "a/bc/1", "ab/1", "c"] {
        put(&store, name, b"1").await;
    }
    let list = async |prefix| -> Vec<String> {
        store.list(prefix).await.expect("lists").iter().map(|key| key.to_string()).collect()
    };
    assert_eq!(list("a/b").await, ["a/b/1/x", "a/b/2"]);
    assert_eq!(list("a/b/").await, ["a/b/1/x", "a/b/2"]);
    assert_eq!(list("a").await, ["a/b/1/x", "a/b/2", "a/bc/1"]);
    assert_eq!(list("").await, ["a/b/1/x", "a/b/2", "a/bc/1", "ab/1", "c"]);
    assert!(list("none").await.is_empty());
}

async fn a_location_names_the_key(store: Store) {
    assert!(store.location(&key("models/a.onnx")).ends_with("models/a.onnx"));
}
