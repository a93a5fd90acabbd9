//! Sentences about fingerprints and vectors.

use dih_core::{
    Class, Classify, UploadSeq,
    image::{Fingerprint, RangeQuery},
    ports::Among,
    record::{Change, State, Summary},
};

use super::{SPACE_NUMBERS, Store, at, claim, get, space};
use crate::contract::{
    race,
    sample::{self, id, with_fingerprint},
};

const BASE: u64 = 0x0123_4567_89ab_cdef;

/// [`BASE`] with its lowest bits flipped.
fn apart(bits: u32) -> Fingerprint {
    Fingerprint(BASE ^ ((1_u64 << bits) - 1))
}

async fn claim_at(store: &Store, n: u64, bits: u32) {
    store.claim(&with_fingerprint(n, apart(bits).0)).await.expect("claims");
}

fn within(radius: u32, fingerprint: Fingerprint) -> RangeQuery {
    RangeQuery { fingerprint, radius }
}

/// Upload, distance and query of what is near.
async fn near(store: &Store, queries: &[Fingerprint], radius: u32, limit: usize) -> Vec<(u64, u32, usize)> {
    let queries: Vec<_> = queries.iter().map(|fingerprint| within(radius, *fingerprint)).collect();
    near_each(store, &queries, limit).await
}

async fn near_each(store: &Store, queries: &[RangeQuery], limit: usize) -> Vec<(u64, u32, usize)> {
    let near = store.near_fingerprints(queries, &[Among::default()], limit).await.expect("searches");
    near.iter().map(|n| (n.record.upload().0, n.distance, n.query)).collect()
}

pub(super) async fn a_fingerprint_is_found_at_once_within_the_radius_inclusive(store: Store) {
    assert!(near(&store, &[apart(0)], 64, 10).await.is_empty());
    for (n, bits) in [(1, 0), (2, 9), (3, 10), (4, 11), (5, 40)] {
        claim_at(&store, n, bits).await;
        assert!(near(&store, &[apart(bits)], 0, 10).await.contains(&(n, 0, 0)));
    }
    assert_eq!(near(&store, &[apart(0)], 10, 10).await, [(1, 0, 0), (2, 9, 0), (3, 10, 0)]);
    assert_eq!(near(&store, &[apart(0)], 0, 10).await, [(1, 0, 0)]);
    assert_eq!(near(&store, &[apart(0)], 64, 10).await.len(), 5);
    assert!(near(&store, &[], 64, 10).await.is_empty());
}

pub(super) async fn each_near_record_comes_once_with_its_nearest_query(store: Store) {
    claim_at(&store, 1, 3).await;
    claim_at(&store, 2, 8).await;
    let queries = [apart(0), apart(4), apart(7), Fingerprint(!BASE)];
    assert_eq!(near(&store, &queries, 10, 10).await, [(1, 1, 1), (2, 1, 2)]);
    assert_eq!(near(&store, &[apart(3), apart(3)], 10, 1).await, [(1, 0, 0)], "of equal queries the first is named");
}

pub(super) async fn each_query_has_a_radius_of_its_own(store: Store) {
    for (n, bits) in [(1, 1), (2, 3), (3, 9), (4, 14)] {
        claim_at(&store, n, bits).await;
    }
    let queries = [within(1, apart(0)), within(6, apart(8)), within(0, apart(4))];
    // The third is 3 bits from `apart(0)`, which looks no farther than 1.
    assert_eq!(near_each(&store, &queries, 10).await, [(1, 1, 0), (3, 1, 1), (2, 5, 1), (4, 6, 1)]);
}

pub(super) async fn near_fingerprints_keep_the_limit_and_the_order(store: Store) {
    for n in 1..=9 {
        claim_at(&store, n, 10 - n as u32).await;
    }
    assert_eq!(near(&store, &[apart(0)], 64, 3).await, [(9, 1, 0), (8, 2, 0), (7, 3, 0)]);
    assert!(near(&store, &[apart(0)], 64, 0).await.is_empty());
    // Equally near: the earlier upload first.
    store.claim(&with_fingerprint(20, BASE ^ (1 << 50))).await.expect("claims");
    store.claim(&with_fingerprint(19, BASE ^ (1 << 51))).await.expect("claims");
    assert_eq!(near(&store, &[apart(0)], 1, 10).await, [(9, 1, 0), (19, 1, 0), (20, 1, 0)]);
}

pub(super) async fn near_fingerprints_of_other_states_take_no_place(store: Store) {
    for n in 1..=9 {
        claim_at(&store, n, n as u32).await;
    }
    for n in 1..=7 {
        store.change(id(n), &Change::to(State::Repeat)).await.expect("changes");
    }
    let standing = store
        .near_fingerprints(&[within(64, apart(0))], &[Among::states(&[State::Claimed])], 2)
        .await
        .expect("searches");
    assert_eq!(standing.iter().map(|n| n.record.upload().0).collect::<Vec<_>>(), [8, 9]);
}

pub(super) async fn near_fingerprints_are_searched_among_several_at_once(store: Store) {
    for n in 1..=20 {
        claim_at(&store, n, n as u32).await;
    }
    for n in (1..=20).filter(|n| n % 2 == 0) {
        store.change(id(n), &Change::to(State::Repeat)).await.expect("changes");
    }
    let later = |order: u64| Among { after: Some(UploadSeq(order)), ..Among::states(&[State::Repeat]) };
    let near = async |among: &[Among<'_>], limit: usize| {
        let queries = [0, 3].map(|bits| within(64, apart(bits)));
        let near = store.near_fingerprints(&queries, among, limit).await.expect("searches");
        near.iter().map(|n| (n.record.upload().0, n.distance, n.query)).collect::<Vec<_>>()
    };
    let standing = Among::states(&[State::Claimed]);
    // Of each the nearest few; together nearest first.
    assert_eq!(near(&[standing, later(5)], 2).await, [(3, 0, 1), (1, 1, 0), (6, 3, 1), (8, 5, 1)]);
    assert_eq!(near(&[later(17)], 5).await, [(18, 15, 1), (20, 17, 1)]);
    assert!(near(&[later(20)], 5).await.is_empty() && near(&[], 5).await.is_empty());
}

async fn put(store: &Store, n: u64, vector: &[f32]) {
    store.put_vector(id(n), &space(), vector).await.expect("puts");
}

/// Uploads of near vectors.
async fn look(store: &Store, vector: &[f32], cosine_min: f32, states: &[State], limit: usize) -> Vec<u64> {
    let near = store.near_vectors(&space(), vector, cosine_min, Among::states(states), limit).await.expect("searches");
    near.iter().map(|n| n.image.order.0).collect()
}

pub(super) async fn a_vector_is_found_by_the_next_search(store: Store) {
    assert!(look(&store, &at(0.0, 1), -1.0, &[], 10).await.is_empty());
    for n in 0..20 {
        claim(&store, n).await;
        assert!(!look(&store, &at(n as f32, 1), 0.999_99, &[], 30).await.contains(&n));
        put(&store, n, &at(n as f32, 1)).await;
        assert!(look(&store, &at(n as f32, 1), 0.999_99, &[], 30).await.contains(&n));
    }
}

pub(super) async fn of_two_racers_who_put_and_look_at_least_one_sees_the_other(store: Store) {
    for round in 0..30 {
        let racer = |i: usize| {
            let (store, n) = (store.clone(), round * 2 + i as u64);
            async move {
                claim(&store, n).await;
                put(&store, n, &at(round as f32 * 3.0, 2)).await;
                look(&store, &at(round as f32 * 3.0, 2), 0.999_99, &[], 10).await
            }
        };
        let seen = race(2, racer).await;
        assert!(seen[0].contains(&(round * 2 + 1)) || seen[1].contains(&(round * 2)), "{seen:?}");
    }
}

/// So whoever was put later finds the other. A store that does not count says so of all.
pub(super) async fn the_vector_that_was_put_later_is_known(store: Store) {
    for n in [1, 2, 3] {
        claim(&store, n).await;
    }
    for n in [2, 3, 1, 2] {
        put(&store, n, &at(0.0, 1)).await;
    }
    let mut near = store.near_vectors(&space(), &at(0.0, 1), 0.9, Among::default(), 5).await.expect("searches");
    near.retain(|near| near.put.is_some());
    let later: Vec<_> = near.iter().map(|a| near.iter().filter(|b| a.was_put_after(b)).count()).collect();
    assert!(later.is_empty() || later == [2, 0, 1], "2, 3, 1 is their order: {near:?}");
}

pub(super) async fn a_stored_vector_has_length_one_and_keeps_its_direction(store: Store) {
    claim(&store, 1).await;
    assert_eq!(store.vector(id(1), &space()).await.expect("reads"), None);
    for scale in [1.0, 1e-6, 3.0, 1e6] {
        let vector: Vec<_> = at(30.0, 3).iter().map(|x| x * scale).collect();
        put(&store, 1, &vector).await;
        let stored = store.vector(id(1), &space()).await.expect("reads").expect("is there");
        let off = stored.iter().zip(at(30.0, 3)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-6, "{scale}: {stored:?}");
        let near = store.near_vectors(&space(), &vector, 1.0, Among::default(), 5).await.expect("searches");
        assert_eq!(near.len(), 1, "{scale}: a vector has cosine 1 with itself");
        assert!((near[0].cosine - 1.0).abs() < 1e-5 && near[0].cosine <= 1.0);
    }
}

pub(super) async fn a_second_vector_replaces_the_first(store: Store) {
    claim(&store, 1).await;
    put(&store, 1, &at(0.0, 1)).await;
    put(&store, 1, &at(90.0, 1)).await;
    assert!(look(&store, &at(0.0, 1), 0.5, &[], 5).await.is_empty());
    assert_eq!(look(&store, &at(90.0, 1), 0.5, &[], 5).await, [1]);
}

pub(super) async fn near_vectors_keep_the_least_cosine_the_states_the_limit_and_the_order(store: Store) {
    for (n, degrees) in [(1, 40.0), (2, 10.0), (3, 61.0), (4, 20.0), (5, 180.0), (6, 10.0)] {
        claim(&store, n).await;
        put(&store, n, &at(degrees, 1)).await;
    }
    let query = at(0.0, 1);
    assert_eq!(look(&store, &query, 0.5, &[], 10).await, [2, 6, 4, 1], "of equals the earlier upload first");
    assert_eq!(look(&store, &query, 0.5, &[], 3).await, [2, 6, 4]);
    assert!(look(&store, &query, 0.5, &[], 0).await.is_empty());
    assert_eq!(look(&store, &query, 40_f32.to_radians().cos(), &[], 10).await, [2, 6, 4, 1], "inclusive");
    assert_eq!(look(&store, &query, -1.0, &[], 10).await, [2, 6, 4, 1, 3, 5]);
    store.change(id(4), &Change::to(State::Clustered)).await.expect("changes");
    store.change(id(5), &Change::to(State::Curated)).await.expect("changes");
    assert_eq!(look(&store, &query, 0.5, &[State::Clustered, State::Curated], 10).await, [4]);
    assert_eq!(look(&store, &query, -1.0, &[State::Clustered, State::Curated], 10).await, [4, 5]);
    assert_eq!(look(&store, &query, 0.5, &[State::Claimed], 1).await, [2]);
}

/// More of either side than are wanted, so that those of the other take no place.
pub(super) async fn near_vectors_of_either_side_of_an_upload_are_told_apart(store: Store) {
    for n in 1..=60 {
        claim(&store, n).await;
        put(&store, n, &at(n as f32 / 2.0, 1)).await;
    }
    store.change(id(52), &Change::to(State::Repeat)).await.expect("changes");
    let look = async |degrees: f32, among: Among<'_>, limit: usize| {
        let near = store.near_vectors(&space(), &at(degrees, 1), 0.5, among, limit).await.expect("searches");
        near.iter().map(|n| n.image.order.0).collect::<Vec<_>>()
    };
    let after = async |order: u64, states: &[State], limit: usize| {
        look(0.0, Among { after: Some(UploadSeq(order)), ..Among::states(states) }, limit).await
    };
    let until = async |order: u64, states: &[State], limit: usize| {
        look(30.0, Among { until: Some(UploadSeq(order)), ..Among::states(states) }, limit).await
    };
    assert_eq!(after(10, &[], 3).await, [11, 12, 13]);
    assert_eq!(after(50, &[], 3).await, [51, 52, 53]);
    assert_eq!(after(50, &[State::Claimed], 3).await, [51, 53, 54]);
    assert_eq!(after(58, &[], 5).await, [59, 60]);
    assert!(after(60, &[], 5).await.is_empty());
    assert_eq!(until(10, &[], 3).await, [10, 9, 8]);
    assert_eq!(until(53, &[State::Claimed], 3).await, [53, 51, 50]);
    assert_eq!(until(2, &[], 5).await, [2, 1]);
    assert!(until(0, &[], 5).await.is_empty());
    let between = Among { after: Some(UploadSeq(7)), until: Some(UploadSeq(9)), ..Among::default() };
    assert_eq!(look(0.0, between, 5).await, [8, 9]);
    // An earlier upload of the same bytes moves it forward.
    store.vote(id(60), UploadSeq(5), &[sample::label("dog")]).await.expect("votes");
    assert_eq!(after(58, &[], 5).await, [59]);
    assert_eq!(until(5, &[], 2).await, [5, 5]);
}

pub(super) async fn what_is_told_of_a_neighbour_is_as_in_its_record(store: Store) {
    claim(&store, 5).await;
    put(&store, 5, &at(0.0, 1)).await;
    let mut relabelled = get(&store, 5).await.image;
    relabelled.labels = vec![sample::label("another")];
    let changes = [
        Change::default(),
        Change { cluster: Some(id(9)), ..Change::to(State::Clustered) },
        Change { image: Some(relabelled), ..Change::default() },
    ];
    for change in changes {
        store.change(id(5), &change).await.expect("changes");
        let near = store.near_vectors(&space(), &at(0.0, 1), 0.5, Among::default(), 5).await.expect("searches");
        assert_eq!(near[0].image, Summary::from(&get(&store, 5).await), "{change:?}");
    }
    store.vote(id(5), dih_core::UploadSeq(3), &[]).await.expect("votes");
    assert_eq!(look(&store, &at(0.0, 1), 0.5, &[], 5).await, [3], "the first upload of the same bytes");
}

pub(super) async fn a_vector_survives_changes_of_its_record(store: Store) {
    store.claim(&with_fingerprint(1, BASE)).await.expect("claims");
    put(&store, 1, &at(30.0, 1)).await;
    let before = store.vector(id(1), &space()).await.expect("reads");
    store.change(id(1), &Change::to(State::Curated)).await.expect("changes");
    store.vote(id(1), dih_core::UploadSeq(9), &[sample::label("a")]).await.expect("votes");
    store.claim(&with_fingerprint(1, !BASE)).await.expect("answers");
    assert_eq!(store.vector(id(1), &space()).await.expect("reads"), before);
    assert_eq!(look(&store, &at(30.0, 1), 0.99, &[State::Curated], 5).await, [1]);
    assert_eq!(near(&store, &[apart(0)], 0, 5).await, [(1, 0, 0)]);
}

pub(super) async fn a_vector_without_direction_is_refused(store: Store) {
    claim(&store, 1).await;
    for bad in [vec![0.0; SPACE_NUMBERS], vec![f32::NAN; SPACE_NUMBERS], vec![f32::INFINITY; SPACE_NUMBERS]] {
        let refused = store.put_vector(id(1), &space(), &bad).await.expect_err("has no direction");
        assert_eq!(refused.class(), Class::BadInput);
    }
    assert_eq!(store.vector(id(1), &space()).await.expect("reads"), None);
    let short = store.put_vector(id(1), &space(), &[1.0]).await.expect_err("has another length");
    assert_eq!(short.class(), Class::Halt);
}
