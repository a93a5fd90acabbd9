//! The contract of [`Blobs`].

#[cfg(feature = "s3")]
use std::time::{Duration, Instant};
use std::{fs, sync::Arc};

use bytes::Bytes;
#[cfg(feature = "s3")]
use dih_core::ports::LinkTo;
use dih_core::ports::{Blobs, StoreError};
use futures::{StreamExt, TryStreamExt, stream};

use super::{race, sample::key, sentences};
use crate::blob::upload::PART_BYTES;

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
        a_list_has_no_longest_length,
        a_location_names_the_key,
        a_file_is_written_whole_however_large,
        a_file_that_is_not_there_is_named,
        a_store_says_that_it_keeps_this,
    );
}

/// Tries what only a store does that is reached by HTTP.
#[cfg(feature = "s3")]
pub async fn links(make: impl AsyncFn() -> Store) {
    sentences!(
        "links",
        make,
        a_link_to_read_needs_no_account,
        a_link_to_write_needs_no_account,
        a_link_is_for_one_blob_and_one_purpose,
        a_link_that_is_over_opens_nothing,
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

async fn a_list_has_no_longest_length(store: Store) {
    const KEYS: usize = 1_100; // a page of S3 has 1,000
    let keys: Vec<_> = (0..KEYS).map(|i| key(&format!("many/{i:04}"))).collect();
    let writes = stream::iter(&keys).map(|key| store.put(key, Bytes::new())).buffer_unordered(32);
    writes.try_collect::<Vec<()>>().await.expect("writes");
    assert_eq!(store.list("many").await.expect("lists"), keys);
}

async fn a_location_names_the_key(store: Store) {
    assert!(store.location(&key("models/a.onnx")).ends_with("models/a.onnx"));
}

async fn a_file_is_written_whole_however_large(store: Store) {
    let part = usize::try_from(PART_BYTES).expect("a part fits into memory");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for bytes in [0, 3, part, 2 * part + 3] {
        let file = folder.path().join("file");
        let content: Vec<u8> = (0..bytes).map(|i| (i / 1000 % 251) as u8).collect();
        fs::write(&file, &content).expect("a disk");
        store.put_file(&key("a/file"), &file).await.expect("writes");
        assert_eq!(store.size(&key("a/file")).await.expect("looks"), Some(bytes as u64));
        assert!(
            store.get(&key("a/file")).await.expect("reads") == content,
            "a file of {bytes} bytes came back otherwise"
        );
    }
    assert_eq!(store.list("a").await.expect("lists"), [key("a/file")]);
}

async fn a_file_that_is_not_there_is_named(store: Store) {
    let missing = store.put_file(&key("a"), "/no/such/file".as_ref()).await.expect_err("there is none");
    assert!(missing.to_string().contains("/no/such/file"), "{missing}");
    assert_eq!(store.size(&key("a")).await.expect("looks"), None);
}

async fn a_store_says_that_it_keeps_this(store: Store) {
    for _ in 0..2 {
        store.check().await.expect("it keeps its promises");
    }
    assert!(store.list("").await.expect("lists").is_empty(), "what it tried is in the way of nobody");
}

#[cfg(feature = "s3")]
const HOUR: Duration = Duration::from_secs(3600);

#[cfg(feature = "s3")]
async fn link(store: &Store, name: &str, to: LinkTo, valid: Duration) -> String {
    let link = store.link(&key(name), to, valid).await.expect("links");
    link.expect("a store that is reached by HTTP has links")
}

#[cfg(feature = "s3")]
async fn a_link_to_read_needs_no_account(store: Store) {
    put(&store, "a/b.jpg", b"picture").await;
    let answer = reqwest::get(link(&store, "a/b.jpg", LinkTo::Read, HOUR).await).await.expect("answers");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.expect("reads"), "picture");
}

#[cfg(feature = "s3")]
async fn a_link_to_write_needs_no_account(store: Store) {
    let to = link(&store, "a/b.jpg", LinkTo::Write, HOUR).await;
    let answer = reqwest::Client::new().put(to).body("picture").send().await.expect("answers");
    assert_eq!(answer.status(), 200);
    assert_eq!(store.get(&key("a/b.jpg")).await.expect("reads"), "picture");
}

#[cfg(feature = "s3")]
async fn a_link_is_for_one_blob_and_one_purpose(store: Store) {
    put(&store, "a", b"mine").await;
    put(&store, "b", b"yours").await;
    let to = link(&store, "a", LinkTo::Read, HOUR).await;
    let other = to.replacen("/a?", "/b?", 1);
    assert_ne!(to, other);
    assert_eq!(reqwest::get(other).await.expect("answers").status(), 403);
    let written = reqwest::Client::new().put(to).body("theirs").send().await.expect("answers");
    assert_eq!(written.status(), 403);
    assert_eq!(store.get(&key("a")).await.expect("reads"), "mine");
}

#[cfg(feature = "s3")]
async fn a_link_that_is_over_opens_nothing(store: Store) {
    put(&store, "a", b"mine").await;
    let to = link(&store, "a", LinkTo::Read, Duration::from_secs(1)).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while reqwest::get(&to).await.expect("answers").status() != 403 {
        assert!(Instant::now() < deadline, "a link of one second still opens after 20");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
