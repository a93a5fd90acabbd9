//! The contract of [`SmallState`].

use std::sync::Arc;

use bytes::Bytes;
use dih_core::{Class, Classify, ports::SmallState};

use super::{race, sentences};

type Store = Arc<dyn SmallState>;

/// Tries every sentence on a fresh store.
pub async fn state(make: impl AsyncFn() -> Store) {
    sentences!(
        "state",
        make,
        what_is_written_is_read_with_its_revision,
        nothing_is_found_where_nothing_is,
        a_create_has_one_winner_of_32,
        a_replace_has_one_winner_of_32,
        a_stale_revision_writes_nothing,
        what_is_deleted_can_be_created_again,
        keys_begin_with_the_prefix_and_are_sorted,
        a_value_may_be_empty_or_large,
        a_key_that_cannot_be_stored_is_refused,
    );
}

fn text(value: impl ToString) -> Bytes {
    value.to_string().into()
}

async fn value(store: &Store, key: &str) -> Option<Bytes> {
    store.get(key).await.expect("reads").map(|entry| entry.value)
}

async fn create(store: &Store, key: &str, value: impl ToString) -> u64 {
    store.create(key, text(value)).await.expect("creates").expect("nothing was there")
}

async fn what_is_written_is_read_with_its_revision(store: Store) {
    let first = create(&store, "a/b", "1").await;
    let entry = store.get("a/b").await.expect("reads").expect("is there");
    assert_eq!((entry.value, entry.revision), (text("1"), first));
    let second = store.replace("a/b", text("2"), first).await.expect("replaces").expect("the revision was right");
    let entry = store.get("a/b").await.expect("reads").expect("is there");
    assert_eq!((entry.value, entry.revision), (text("2"), second));
    assert!(second > first, "revisions grow");
}

async fn nothing_is_found_where_nothing_is(store: Store) {
    assert_eq!(store.get("a").await.expect("reads"), None);
    assert_eq!(store.replace("a", text("1"), 1).await.expect("answers"), None);
    assert_eq!(store.replace("a", text("1"), 0).await.expect("answers"), None);
    store.delete("a").await.expect("deleting what is not there is fine");
    assert_eq!(store.keys("").await.expect("lists"), Vec::<String>::new());
}

async fn a_create_has_one_winner_of_32(store: Store) {
    let racer = |i| {
        let store = store.clone();
        async move { store.create("a", text(i)).await.expect("answers") }
    };
    let won = race(32, racer).await;
    let winners: Vec<_> = (0..32).filter(|i| won[*i].is_some()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(value(&store, "a").await, Some(text(winners[0])));
}

async fn a_replace_has_one_winner_of_32(store: Store) {
    let revision = create(&store, "a", "before").await;
    let racer = |i| {
        let store = store.clone();
        async move { store.replace("a", text(i), revision).await.expect("answers") }
    };
    let won = race(32, racer).await;
    let winners: Vec<_> = (0..32).filter(|i| won[*i].is_some()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(value(&store, "a").await, Some(text(winners[0])));
}

async fn a_stale_revision_writes_nothing(store: Store) {
    let first = create(&store, "a", "1").await;
    store.replace("a", text("2"), first).await.expect("answers").expect("the revision was right");
    assert_eq!(store.replace("a", text("3"), first).await.expect("answers"), None);
    assert_eq!(store.replace("a", text("3"), first + 100).await.expect("answers"), None);
    assert_eq!(value(&store, "a").await, Some(text("2")));
}

async fn what_is_deleted_can_be_created_again(store: Store) {
    let first = create(&store, "a", "1").await;
    store.delete("a").await.expect("deletes");
    store.delete("a").await.expect("deletes twice");
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(store.keys("").await.expect("lists"), Vec::<String>::new());
    assert_eq!(store.replace("a", text("2"), first).await.expect("answers"), None);
    let second = create(&store, "a", "2").await;
    assert!(second > first, "a revision is never given twice");
    assert_eq!(value(&store, "a").await, Some(text("2")));
}

async fn keys_begin_with_the_prefix_and_are_sorted(store: Store) {
    for key in ["dataset/b", "dataset/a/head", "dataset/a", "job.7", "data"] {
        create(&store, key, key).await;
    }
    let keys = async |prefix| store.keys(prefix).await.expect("lists");
    assert_eq!(keys("dataset/").await, ["dataset/a", "dataset/a/head", "dataset/b"]);
    assert_eq!(keys("dataset/a").await, ["dataset/a", "dataset/a/head"]);
    assert_eq!(keys("").await.len(), 5);
    assert!(keys("none").await.is_empty());
}

async fn a_value_may_be_empty_or_large(store: Store) {
    let large = Bytes::from(vec![7; 200_000]);
    store.create("large", large.clone()).await.expect("creates");
    store.create("empty", Bytes::new()).await.expect("creates");
    assert_eq!(value(&store, "large").await, Some(large));
    assert_eq!(value(&store, "empty").await, Some(Bytes::new()));
}

async fn a_key_that_cannot_be_stored_is_refused(store: Store) {
    for key in ["", "a b", ".a", "a.", "a..b", "a*", "a>", "ä"] {
        let refused = store.create(key, text("1")).await.expect_err(key);
        assert_eq!(refused.class(), Class::Halt, "{key:?}");
        assert!(store.get(key).await.is_err(), "{key:?}");
    }
}
