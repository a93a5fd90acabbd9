//! Sentences about claims, changes, votes and pages.

use std::collections::{BTreeMap, BTreeSet};

use dih_core::{
    Class, Classify, Epoch, Label, UploadSeq,
    ports::{Facet, Select, StoreError},
    record::{Change, State},
};

use super::{Store, at, claim, get, space, walk};
use crate::contract::{
    race,
    sample::{self, id, label},
};

pub(super) async fn a_claim_reads_back_as_it_was_made(store: Store) {
    let mut record = sample::record(u64::MAX >> 1);
    record.repeat = Some(sample::repeat(3));
    record.votes.insert(UploadSeq(7), vec![label("a"), label("b")]);
    record.label_score = Some(0.1);
    record.cluster = Some(id(9));
    record.reason = Some("says \"why\"\n".into());
    record.image.fingerprints.orientations[0].0 = u64::MAX;
    assert_eq!(store.claim(&record).await.expect("claims"), record);
    assert_eq!(store.get(record.id()).await.expect("reads"), Some(record));
    assert_eq!(store.get(id(2)).await.expect("reads"), None);
}

pub(super) async fn the_first_claimer_stays(store: Store) {
    let first = claim(&store, 1).await;
    let mut second = first.clone();
    second.image.upload = UploadSeq(99);
    second.image.labels = vec![label("other")];
    assert_eq!(store.claim(&second).await.expect("answers"), first);
    store.change(id(1), &Change::to(State::Rejected)).await.expect("changes");
    let holder = store.claim(&second).await.expect("answers");
    assert_eq!((holder.upload(), holder.state), (UploadSeq(1), State::Rejected));
}

pub(super) async fn of_16_racing_claimers_one_stays_for_all(store: Store) {
    for round in 0..8 {
        let racer = |i: usize| {
            let (store, mut record) = (store.clone(), sample::record(round));
            record.image.upload = UploadSeq(100 + i as u64);
            async move { store.claim(&record).await.expect("answers").upload() }
        };
        let holders: BTreeSet<_> = race(16, racer).await.into_iter().collect();
        assert_eq!(holders.len(), 1, "all are told the same holder");
        assert_eq!(holders.first(), Some(&get(&store, round).await.upload()));
    }
}

pub(super) async fn a_change_touches_only_its_fields(store: Store) {
    let mut want = claim(&store, 1).await;
    let other = claim(&store, 2).await;
    store.change(id(1), &Change::to(State::Unique)).await.expect("changes");
    want.state = State::Unique;
    assert_eq!(get(&store, 1).await, want);
    want.image.labels.push(label("new"));
    let change = Change {
        epoch: Some(Epoch(3)),
        label_score: Some(0.25),
        cluster: Some(id(2)),
        reason: Some("curated".into()),
        image: Some(want.image.clone()),
        ..Change::default()
    };
    store.change(id(1), &change).await.expect("changes");
    want.epoch = Epoch(3);
    want.label_score = Some(0.25);
    want.cluster = Some(id(2));
    want.reason = Some("curated".into());
    assert_eq!(get(&store, 1).await, want);
    store.change(id(1), &Change::default()).await.expect("changes nothing");
    assert_eq!(get(&store, 1).await, want);
    assert_eq!(get(&store, 2).await, other);
}

pub(super) async fn a_repeat_is_set_and_cleared(store: Store) {
    claim(&store, 1).await;
    let set = Change { repeat: Some(Some(sample::repeat(5))), ..Change::to(State::Repeat) };
    store.change(id(1), &set).await.expect("changes");
    assert_eq!(get(&store, 1).await.repeat, Some(sample::repeat(5)));
    store.change(id(1), &Change::to(State::Held)).await.expect("changes");
    assert_eq!(get(&store, 1).await.repeat, Some(sample::repeat(5)), "another change leaves it");
    let clear = Change { repeat: Some(None), ..Change::default() };
    store.change(id(1), &clear).await.expect("changes");
    assert_eq!(get(&store, 1).await.repeat, None);
    assert!(store.repeats_of(id(5)).await.expect("finds").is_empty());
}

pub(super) async fn changes_of_16_racers_to_different_fields_are_all_kept(store: Store) {
    claim(&store, 1).await;
    let racer = |i: usize| {
        let store = store.clone();
        let change = match i % 4 {
            0 => Change::to(State::Clustered),
            1 => Change { label_score: Some(0.5), ..Change::default() },
            2 => Change { cluster: Some(id(4)), ..Change::default() },
            _ => Change { epoch: Some(Epoch(2)), ..Change::default() },
        };
        async move { store.change(id(1), &change).await.expect("changes") }
    };
    race(16, racer).await;
    let got = get(&store, 1).await;
    assert_eq!(
        (got.state, got.label_score, got.cluster, got.epoch),
        (State::Clustered, Some(0.5), Some(id(4)), Epoch(2))
    );
}

pub(super) async fn of_16_racers_from_one_state_one_wins(store: Store) {
    claim(&store, 1).await;
    let racer = |_| {
        let store = store.clone();
        async move { store.change_from(id(1), &[State::Claimed], &Change::to(State::Unique)).await.expect("answers") }
    };
    let won = futures::future::join_all((0..16).map(racer)).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

pub(super) async fn a_change_from_another_state_changes_nothing(store: Store) {
    let before = claim(&store, 1).await;
    let change = Change { label_score: Some(0.5), ..Change::to(State::Curated) };
    assert!(!store.change_from(id(1), &[State::Unique, State::Clustered], &change).await.expect("answers"));
    assert_eq!(store.get(id(1)).await.expect("reads"), Some(before));
    assert!(store.change_from(id(1), &[State::Unique, State::Claimed], &change).await.expect("answers"));
    let after = store.get(id(1)).await.expect("reads").expect("is there");
    assert_eq!((after.state, after.label_score), (State::Curated, Some(0.5)));
}

/// The state may be what it was, two decisions later.
pub(super) async fn an_epoch_begins_after_the_one_before_only(store: Store) {
    claim(&store, 1).await;
    let begin = |epoch| Change { epoch: Some(Epoch(epoch)), ..Change::to(State::Claimed) };
    for (epoch, begun) in [(1, true), (1, false), (3, false), (2, true), (1, false)] {
        let changed = store.change_from(id(1), &[State::Claimed], &begin(epoch)).await.expect("answers");
        assert_eq!(changed, begun, "epoch {epoch}");
    }
    assert_eq!(store.get(id(1)).await.expect("reads").expect("is there").epoch, Epoch(2));
}

pub(super) async fn what_is_missing_cannot_change(store: Store) {
    let missing = |done: Result<(), StoreError>| {
        let error = done.expect_err("nothing is there");
        assert!(matches!(&error, StoreError::NotFound { key, .. } if *key == id(1).to_string()), "{error:?}");
    };
    missing(store.change(id(1), &Change::to(State::Held)).await);
    missing(store.vote(id(1), UploadSeq(2), &[label("a")]).await);
    missing(store.put_vector(id(1), &space(), &at(0.0, 1)).await);
    assert_eq!(store.get(id(1)).await.expect("reads"), None, "none of it made a record");
    assert_eq!(store.vector(id(1), &space()).await.expect("reads"), None);
    assert_eq!(store.count(&Select::default()).await.expect("counts"), 0);
}

pub(super) async fn votes_of_16_racers_are_all_kept(store: Store) {
    claim(&store, 1).await;
    let racer = |i: usize| {
        let store = store.clone();
        async move {
            let labels = [label("shared"), label(&format!("by {i}"))];
            store.vote(id(1), UploadSeq(100 + i as u64), &labels).await.expect("votes");
        }
    };
    race(16, racer).await;
    let want: BTreeMap<_, _> =
        (0..16).map(|i| (UploadSeq(100 + i), vec![label("shared"), label(&format!("by {i}"))])).collect();
    assert_eq!(get(&store, 1).await.votes, want);
}

pub(super) async fn a_vote_given_twice_counts_once_and_the_holder_has_none(store: Store) {
    claim(&store, 1).await;
    for labels in [["a", "b"], ["a", "b"], ["b", "c"]] {
        store.vote(id(1), UploadSeq(5), &labels.map(label)).await.expect("votes");
    }
    store.vote(id(1), UploadSeq(1), &[label("own")]).await.expect("answers");
    let want: Vec<Label> = ["a", "b", "c"].map(label).to_vec();
    assert_eq!(get(&store, 1).await.votes, BTreeMap::from([(UploadSeq(5), want)]));
}

pub(super) async fn a_measure_that_is_no_number_is_refused_or_kept(store: Store) {
    let mut record = sample::record(1);
    record.image.measures.sharpness = f32::NAN;
    match store.claim(&record).await {
        Ok(_) => assert!(get(&store, 1).await.image.measures.sharpness.is_nan()),
        Err(error) => {
            assert_eq!(error.class(), Class::BadInput);
            assert_eq!(store.get(id(1)).await.expect("reads"), None);
        }
    }
}

pub(super) async fn repeats_are_found_by_their_original(store: Store) {
    for n in 1..=5 {
        claim(&store, n).await;
    }
    for (n, of) in [(2, 1), (3, 1), (4, 5)] {
        let change = Change { repeat: Some(Some(sample::repeat(of))), ..Change::to(State::Repeat) };
        store.change(id(n), &change).await.expect("changes");
    }
    let of = async |n| -> BTreeSet<_> {
        store.repeats_of(id(n)).await.expect("finds").iter().map(|record| record.upload().0).collect()
    };
    assert_eq!(of(1).await, BTreeSet::from([2, 3]));
    assert_eq!(of(5).await, BTreeSet::from([4]));
    assert_eq!(of(2).await, BTreeSet::new());
}

pub(super) async fn a_count_equals_its_pages(store: Store) {
    for n in 0..23 {
        claim(&store, n).await;
        if n % 4 == 0 {
            store.change(id(n), &Change::to(State::Curated)).await.expect("changes");
        }
    }
    let selects = [
        Select::default(),
        Select { states: vec![State::Curated], ..Select::default() },
        Select { states: vec![State::Curated, State::Claimed], labels: vec![label("odd")], ..Select::default() },
        Select { states: vec![State::Held], ..Select::default() },
    ];
    for select in selects {
        let counted = store.count(&select).await.expect("counts");
        for limit in [1, 4, 23, 100] {
            assert_eq!(walk(&store, &select, limit).await.len() as u64, counted, "{select:?} by {limit}");
        }
    }
}

pub(super) async fn a_facet_counts_what_is_selected(store: Store) {
    for n in 0..12 {
        claim(&store, n).await;
    }
    store.change(id(4), &Change::to(State::Curated)).await.expect("changes");
    store.change(id(5), &Change::to(State::Curated)).await.expect("changes");
    let check = async |by: Facet, select: &Select, limit: usize, want: &[(Option<&str>, &str, u64)]| {
        let counted = store.facet(by, select, limit).await.expect("counts");
        let got: Vec<_> = counted.iter().map(|c| (c.key.as_deref(), &*c.value, c.records)).collect();
        assert_eq!(got, want, "{by:?} of {select:?}");
    };
    let (all, curated) = (Select::default(), Select { states: vec![State::Curated], ..Select::default() });
    let odd = Select { labels: vec![label("odd")], ..Select::default() };
    let third = BTreeMap::from([("third".to_owned(), "1".to_owned())]); // 1, 4, 7 and 10
    let third = Select { states: vec![State::Claimed], attributes: third, ..Select::default() };
    check(Facet::State, &all, 10, &[(None, "claimed", 10), (None, "curated", 2)]).await;
    check(Facet::State, &odd, 10, &[(None, "claimed", 5), (None, "curated", 1)]).await;
    let size = "größe \"M\" = 1.5";
    check(Facet::Label, &all, 10, &[(None, size, 12), (None, "even", 6), (None, "odd", 6)]).await;
    check(Facet::Label, &curated, 10, &[(None, size, 2), (None, "even", 1), (None, "odd", 1)]).await;
    check(Facet::Label, &third, 10, &[(None, size, 3), (None, "odd", 2), (None, "even", 1)]).await;
    let everywhere = |records| [(Some("a.b=c"), "d=\"e\"", records), (Some("empty"), "", records)];
    let thirds = ["0", "1", "2"].map(|third| (Some("third"), third, 4));
    check(Facet::Attribute, &all, 10, &[&everywhere(12)[..], &thirds].concat()).await;
    check(Facet::Attribute, &all, 1, &everywhere(12)[..1]).await;
    let thirds = ["1", "2"].map(|third| (Some("third"), third, 1));
    check(Facet::Attribute, &curated, 10, &[&everywhere(2)[..], &thirds].concat()).await;
    check(Facet::Label, &all, 0, &[]).await;
    check(Facet::Label, &Select { states: vec![State::Held], ..Select::default() }, 10, &[]).await;
    let mut image = get(&store, 10).await.image;
    image.labels = vec![label("moved")];
    store.change(id(10), &Change { image: Some(image), ..Change::default() }).await.expect("changes");
    check(Facet::Label, &all, 10, &[(None, size, 11), (None, "odd", 6), (None, "even", 5), (None, "moved", 1)]).await;
}

pub(super) async fn a_selection_holds_for_states_labels_and_attributes(store: Store) {
    for n in 0..12 {
        claim(&store, n).await;
    }
    store.change(id(4), &Change::to(State::Curated)).await.expect("changes");
    let check = async |select: Select, want: &[u64]| {
        let got: BTreeSet<_> = walk(&store, &select, 5).await.into_iter().collect();
        assert_eq!(got, want.iter().map(|n| id(*n)).collect(), "{select:?}");
    };
    let where_is = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    check(Select { states: vec![State::Curated], ..Select::default() }, &[4]).await;
    check(Select { labels: vec![label("odd")], ..Select::default() }, &[1, 3, 5, 7, 9, 11]).await;
    check(Select { labels: vec![label("odd"), label("even")], ..Select::default() }, &(0..12).collect::<Vec<_>>())
        .await;
    check(Select { attributes: where_is("third", "1"), ..Select::default() }, &[1, 4, 7, 10]).await;
    check(Select { attributes: where_is("a.b=c", "d=\"e\""), ..Select::default() }, &(0..12).collect::<Vec<_>>()).await;
    check(Select { attributes: where_is("a.b", "c=d=\"e\""), ..Select::default() }, &[]).await;
    let all = Select { states: vec![State::Claimed], labels: vec![label("even")], attributes: where_is("third", "1") };
    check(all, &[10]).await;
    let mut image = get(&store, 10).await.image;
    image.labels = vec![label("moved")];
    store.change(id(10), &Change { image: Some(image), ..Change::default() }).await.expect("changes");
    check(Select { labels: vec![label("moved")], ..Select::default() }, &[10]).await;
    check(Select { labels: vec![label("even")], ..Select::default() }, &[0, 2, 4, 6, 8]).await;
}

pub(super) async fn a_page_is_complete_in_order_and_without_repeats_while_others_write(store: Store) {
    for n in 0..60 {
        claim(&store, n).await;
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 60..160 {
                claim(&store, n).await;
                store
                    .change(id(n % 60), &Change { label_score: Some(n as f32), ..Change::default() })
                    .await
                    .expect("changes");
            }
        }
    });
    let mut walks = 0;
    while !writer.is_finished() || walks == 0 {
        let ids = walk(&store, &Select::default(), 7).await;
        assert!(ids.is_sorted_by(|a, b| a < b), "in order, none twice");
        let missing: Vec<_> = (0..60).filter(|n| !ids.contains(&id(*n))).collect();
        assert!(missing.is_empty(), "{missing:?} were there from the beginning");
        walks += 1;
    }
    writer.await.expect("the writer ends");
    assert_eq!(walk(&store, &Select::default(), 9).await.len(), 160);
}

pub(super) async fn a_page_carries_vectors_when_asked(store: Store) {
    for n in 0..3 {
        claim(&store, n).await;
    }
    store.put_vector(id(1), &space(), &at(30.0, 1)).await.expect("puts");
    let page = store.page(&Select::default(), None, 10, Some(&space())).await.expect("pages");
    for (record, vector) in page.records {
        assert_eq!(vector.is_some(), record.id() == id(1));
        assert_eq!(vector, store.vector(record.id(), &space()).await.expect("reads"));
    }
    let page = store.page(&Select::default(), None, 10, None).await.expect("pages");
    assert!(page.records.iter().all(|(_, vector)| vector.is_none()));
}

pub(super) async fn commits_of_many_callers_all_return(store: Store) {
    store.commit().await.expect("nothing to commit is fine");
    let racer = |i: usize| {
        let store = store.clone();
        async move {
            for round in 0..4 {
                claim(&store, (i * 4 + round) as u64).await;
                store.commit().await.expect("commits");
            }
        }
    };
    race(16, racer).await;
    assert_eq!(store.count(&Select::default()).await.expect("counts"), 64);
}
