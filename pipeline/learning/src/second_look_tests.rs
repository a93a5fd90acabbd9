//! Flipped labels are found, right ones are left alone, and who cannot be judged is not judged.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{LearningError, Slab, Vote};

const D: usize = 16;

/// Members around one axis a label.
struct World {
    values: Vec<f32>,
    truth: Vec<u32>,
}

fn world(labels: u32, each: u32, seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let truth: Vec<u32> = (0..labels * each).map(|i| i % labels).collect();
    let mut values = Vec::new();
    for label in &truth {
        for j in 0..D {
            let noise: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum();
            values.push(0.35 * noise + if *label as usize == j { 1.0 } else { 0.0 });
        }
    }
    World { values, truth }
}

fn look(values: &[f32], labels: usize, claims: &[Vec<u32>], ids: &[u8]) -> SecondLook {
    let mut table = LabelTable::new(labels);
    for (claim, id) in claims.iter().zip(ids) {
        let mut group = [0; 16];
        group[0] = *id;
        group[1] = id.wrapping_mul(7);
        table.push(&group, claim).expect("labels are in range");
    }
    let slab = Slab::new(D, values).expect("whole rows");
    second_look(&slab, &table, None, None, &Policy::default()).expect("can be judged")
}

fn ids(n: usize) -> Vec<u8> {
    (0..n).map(|i| i as u8).collect()
}

#[test]
fn flips_are_held_with_the_right_label_and_the_rest_is_left_alone() {
    let world = world(4, 50, 1);
    let mut claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    let clean = look(&world.values, 4, &claims, &ids(200));
    assert_eq!(clean.judgements.iter().filter(|j| j.hold).count(), 0);
    assert!(clean.wrong < 0.02, "{}", clean.wrong);
    let flipped: Vec<usize> = (0..200).step_by(13).collect();
    for m in &flipped {
        claims[*m] = vec![(world.truth[*m] + 1) % 4];
    }
    let noisy = look(&world.values, 4, &claims, &ids(200));
    for (m, judgement) in noisy.judgements.iter().enumerate() {
        assert_eq!(judgement.hold, flipped.contains(&m), "member {m}: {judgement:?}");
        if judgement.hold {
            assert_eq!(judgement.suggested, Some(world.truth[m]));
            assert!(judgement.p_label_wrong >= noisy.threshold);
        }
    }
}

#[test]
fn the_order_of_members_changes_nothing() {
    let world = world(3, 40, 2);
    let claims: Vec<Vec<u32>> = (0..120).map(|m| vec![world.truth[m]; 1 + m % 2]).collect();
    let forth = look(&world.values, 3, &claims, &ids(120));
    let values: Vec<f32> = world.values.chunks(D).rev().flatten().copied().collect();
    let back_claims: Vec<_> = claims.iter().rev().cloned().collect();
    let back_ids: Vec<u8> = ids(120).into_iter().rev().collect();
    let back = look(&values, 3, &back_claims, &back_ids);
    for (a, b) in forth.judgements.iter().zip(back.judgements.iter().rev()) {
        assert!((a.p_label_wrong - b.p_label_wrong).abs() < 1e-3 && a.hold == b.hold, "{a:?} {b:?}");
    }
}

#[test]
fn a_label_of_two_members_is_not_judged() {
    let world = world(3, 30, 3);
    let mut claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    claims[4] = vec![3];
    claims[9] = vec![3];
    let result = look(&world.values, 4, &claims, &ids(90));
    for m in [4, 9] {
        assert_eq!((result.judgements[m].reason, result.judgements[m].hold), (Reason::LabelTooSmall, false));
    }
    assert!(!result.judgements[0].reason.abstained());
}

#[test]
fn one_label_alone_or_no_members_are_not_judged() {
    let world = world(1, 30, 4);
    let result = look(&world.values, 1, &vec![vec![0]; 30], &ids(30));
    assert!(result.judgements.iter().all(|j| j.reason == Reason::OneLabel && !j.hold));
    assert!(look(&[], 2, &[], &[]).judgements.is_empty());
}

#[test]
fn of_several_labels_the_wrong_one_is_named() {
    let world = world(4, 40, 5);
    let mut claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    // The second of every pair is true of nothing in the picture.
    claims[0] = vec![0, 2];
    let result = look(&world.values, 4, &claims, &ids(160));
    assert_eq!(result.judgements[0].weakest, Some(2));
    assert!(result.claims[0] < result.claims[1]);
}

#[test]
fn vectors_that_are_not_numbers_abstain_and_harm_nobody() {
    let mut world = world(3, 30, 6);
    world.values[5 * D] = f32::NAN;
    world.values[7 * D..8 * D].fill(0.0);
    let claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    let result = look(&world.values, 3, &claims, &ids(90));
    assert_eq!(result.judgements[5].reason, Reason::NoVector);
    assert_eq!(result.judgements[7].reason, Reason::NoVector);
    assert!(result.judgements.iter().all(|j| j.p_label_wrong.is_finite() && !j.hold));
    let empty = look(&[0.0; 90 * D], 3, &claims, &ids(90));
    assert!(empty.judgements.iter().all(|j| !j.hold));
}

#[test]
fn little_memory_changes_no_judgement() {
    let world = world(4, 30, 7);
    let mut table = LabelTable::new(4);
    for (m, label) in world.truth.iter().enumerate() {
        table.push(&[m as u8; 16], &[*label]).expect("in range");
    }
    let slab = Slab::new(D, &world.values).expect("whole rows");
    let with = |memory_bytes_max| {
        let policy = Policy { memory_bytes_max, ..Policy::default() };
        second_look(&slab, &table, None, None, &policy).expect("judged").judgements
    };
    assert_eq!(with(1), with(1 << 30));
}

#[test]
fn lists_of_unequal_length_are_refused() {
    let slab = Slab::new(D, &[0.0; 2 * D]).expect("whole rows");
    let error = second_look(&slab, &LabelTable::new(2), None, None, &Policy::default()).expect_err("no labels");
    assert!(matches!(error, LearningError::Mismatch { found: 2, wanted: 0, .. }));
}

#[test]
fn a_label_whose_members_are_all_look_alikes_is_not_held_against_them() {
    let world = world(4, 50, 6);
    let claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    // All of label 3 in one group, but for two that are something else.
    let strangers = [0, 1];
    let mut claims_with_strangers = claims.clone();
    strangers.iter().for_each(|m| claims_with_strangers[*m] = vec![3]);
    let ids: Vec<u8> = (0..200).map(|m| if world.truth[m] == 3 { 255 } else { m as u8 }).collect();
    let found = look(&world.values, 4, &claims_with_strangers, &ids);
    for (m, judgement) in found.judgements.iter().enumerate() {
        match world.truth[m] == 3 {
            true => assert_eq!(judgement.reason, Reason::LabelTooSmall, "member {m}: {judgement:?}"),
            false => assert_eq!(judgement.hold, strangers.contains(&m), "member {m}: {judgement:?}"),
        }
    }
}

/// Beyond some hundreds of labels a label is held only against its kin, those whose means are nearest.
#[test]
fn flips_among_many_labels_are_held() {
    const LABELS: u32 = 640;
    const EACH: u32 = 10;
    const D: usize = 48;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut random = |scale: f32| -> Vec<f32> {
        (0..D).map(|_| scale * (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>()).collect()
    };
    let means: Vec<Vec<f32>> = (0..LABELS).map(|_| random(1.0)).collect();
    let mut values = Vec::new();
    let mut table = LabelTable::new(LABELS as usize);
    let members = LABELS * EACH;
    let flipped = |m: u32| (m + 7 * (m / LABELS)).is_multiple_of(20);
    for m in 0..members {
        let truth = m % LABELS;
        values.extend(means[truth as usize].iter().zip(random(0.4)).map(|(mean, noise)| mean + noise));
        let claim = if flipped(m) { (truth + 17) % LABELS } else { truth };
        let mut group = [0; 16];
        group[..4].copy_from_slice(&m.wrapping_mul(0x9E37_79B9).to_be_bytes());
        table.push(&group, &[claim]).expect("labels are in range");
    }
    let slab = Slab::new(D, &values).expect("whole rows");
    let found = second_look(&slab, &table, None, None, &Policy::default()).expect("can be judged");
    let held =
        |wanted: bool| (0..members).filter(|m| flipped(*m) == wanted && found.judgements[*m as usize].hold).count();
    let (wrong, right) = (members as usize / 20, members as usize - members as usize / 20);
    assert!(held(true) * 10 >= wrong * 9, "{} of {wrong} flips are held", held(true));
    assert!(held(false) * 50 <= right, "{} of {right} that are right are held", held(false));
}

/// Claims of a world whose first device errs often and whose others hardly do; device by turns.
fn careless(world: &World, labels: u32, devices: usize) -> (Vec<Vec<u32>>, Vec<u32>) {
    let by: Vec<u32> = (0..world.truth.len()).map(|m| ((m / labels as usize) % devices) as u32).collect();
    let wrong = |m: usize| by[m] == 0 && m.is_multiple_of(2);
    let claim = |m: usize| if wrong(m) { (world.truth[m] + 1) % labels } else { world.truth[m] };
    ((0..by.len()).map(|m| vec![claim(m)]).collect(), by)
}

fn testified(values: &[f32], labels: usize, claims: &[Vec<u32>], testimonies: &Testimonies) -> SecondLook {
    let mut table = LabelTable::new(labels);
    for (m, claim) in claims.iter().enumerate() {
        let mut group = [0; 16];
        group[..8].copy_from_slice(&(m as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        table.push(&group, claim).expect("labels are in range");
    }
    let slab = Slab::new(D, values).expect("whole rows");
    second_look(&slab, &table, None, Some(testimonies), &Policy::default()).expect("can be judged")
}

#[test]
fn who_errs_often_is_found_without_being_told_and_counts_for_less() {
    let world = world(4, 100, 11);
    let (claims, by) = careless(&world, 4, 5);
    let mut testimonies = Testimonies::new(6);
    for device in &by {
        testimonies.push(Some(*device), None, Vec::new()).expect("known");
    }
    let found = testified(&world.values, 4, &claims, &testimonies);
    let rates: Vec<f64> = found.contributors.iter().map(|rate| rate.wrong).collect();
    assert!(rates[0] > 0.3, "{rates:?}");
    assert!(rates[1..5].iter().all(|rate| *rate < 0.1), "{rates:?}");
    assert!((rates[5] - f64::from(found.wrong)).abs() < 0.03, "of whom nothing is known is average: {rates:?}");
    assert_eq!((found.contributors[0].claims, found.contributors[5].claims), (80.0, 0.0));
    let of_first = found.judgements.iter().zip(&by).find(|(_, device)| **device == 0).expect("sent some");
    assert!(of_first.0.evidence.contributor > 1.0);
}

#[test]
fn other_votes_are_believed_where_the_picture_leaves_it_open() {
    let mut world = world(2, 60, 12);
    // Halfway between both labels: the picture says nothing.
    world.values[..D].fill(0.0);
    world.values[..2].fill(0.5);
    let claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    let vote = |by: u32, label: u32| Vote { contributor: Some(by), labels: vec![label] };
    let p = |votes: Vec<Vote>| {
        let mut testimonies = Testimonies::new(4);
        testimonies.push(Some(0), None, votes).expect("known");
        (1..120).for_each(|m| testimonies.push(Some(m % 4), None, Vec::new()).expect("known"));
        testified(&world.values, 2, &claims, &testimonies).judgements[0].clone()
    };
    let (own, other) = (world.truth[0], 1 - world.truth[0]);
    let alone = p(Vec::new()).p_label_wrong;
    let agreed = p(vec![vote(0, own), vote(1, own)]).p_label_wrong;
    let against = p(vec![vote(0, own), vote(1, other), vote(2, other)]);
    assert!(agreed < alone && alone < against.p_label_wrong, "{agreed} {alone} {against:?}");
    assert!(against.p_label_wrong > 0.5 && against.evidence.votes > 1.0, "{against:?}");
    assert_eq!(against.suggested, Some(other));
}

#[test]
fn a_classifier_that_was_right_elsewhere_is_heard() {
    let mut world = world(2, 100, 13);
    world.values[..D].fill(0.0);
    world.values[..2].fill(0.5);
    let mut claims: Vec<Vec<u32>> = world.truth.iter().map(|l| vec![*l]).collect();
    (10..200).step_by(10).for_each(|m| claims[m] = vec![1 - world.truth[m]]);
    let p = |first: f32| {
        let mut testimonies = Testimonies::new(0);
        for (m, claim) in claims.iter().enumerate() {
            let score = match claim[0] == world.truth[m] {
                _ if m == 0 => first,
                true => 0.9,
                false => 0.0001,
            };
            testimonies.push(None, Some(score), Vec::new()).expect("no contributor");
        }
        testified(&world.values, 2, &claims, &testimonies).judgements[0].p_label_wrong
    };
    assert!(p(0.0001) > 2.0 * p(0.9), "{} {}", p(0.0001), p(0.9));
}

#[track_caller] // doubts and the stated precision; the limit, and the mean of what lies at or above it
fn check_threshold(doubts: &[f32], precision_min: f32, want: (f32, Option<f32>)) {
    let (limit, mean) = threshold(doubts.to_vec(), precision_min);
    assert!((limit - want.0).abs() < 1e-6, "{limit}");
    assert_eq!(mean.map(|m| (m * 100.0).round()), want.1.map(|m| (m * 100.0).round()));
}

#[test]
fn as_many_are_held_as_the_stated_precision_allows() {
    check_threshold(&[0.9, 0.1, 0.5], 0.6, (HOLD_MIN, Some(0.7)));
    check_threshold(&[0.9, 0.5, 0.1], 0.8, (0.9, Some(0.9)));
    check_threshold(&[0.5, 0.9, 0.5], 0.7, (0.9, Some(0.9)));
    check_threshold(&[0.6, 0.5], 0.9, (1.0, None));
    check_threshold(&[0.1], 0.8, (HOLD_MIN, None));
    check_threshold(&[], 0.8, (HOLD_MIN, None));
}

/// What is said to be wrong with probability p is wrong in a share p of cases, and the share of all is found.
#[test]
fn probabilities_hold_on_average() {
    let world = world(5, 240, 14);
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let mut wrong = vec![false; world.truth.len()];
    let claims: Vec<Vec<u32>> = (0..world.truth.len())
        .map(|m| {
            wrong[m] = rng.random_bool(0.15);
            vec![if wrong[m] { (world.truth[m] + rng.random_range(1..5)) % 5 } else { world.truth[m] }]
        })
        .collect();
    let mut testimonies = Testimonies::new(0);
    (0..claims.len()).for_each(|_| testimonies.push(None, None, Vec::new()).expect("no contributor"));
    // Drown the labels in noise, so that many cases are open.
    let values: Vec<f32> = world.values.iter().map(|v| v + 0.9 * (rng.random::<f32>() - 0.5)).collect();
    let found = testified(&values, 5, &claims, &testimonies);
    let truth = wrong.iter().filter(|w| **w).count() as f32 / wrong.len() as f32;
    assert!((found.wrong - truth).abs() < 0.03, "{} instead of {truth}", found.wrong);
    let gap = |from: f32, to: f32| -> f32 {
        let within = found.judgements.iter().zip(&wrong).filter(|(j, _)| (from..to).contains(&j.p_label_wrong));
        within.map(|(j, w)| j.p_label_wrong - f32::from(u8::from(*w))).sum::<f32>() / wrong.len() as f32
    };
    let error: f32 = (0..10).map(|b| gap(b as f32 / 10.0, (b + 1) as f32 / 10.0 + 1e-6).abs()).sum();
    assert!(error < 0.04, "calibration error {error}");
}
