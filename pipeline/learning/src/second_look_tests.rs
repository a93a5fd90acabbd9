//! Flipped labels are found, right ones are left alone, and who cannot be judged is not judged.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{LearningError, Slab};

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
    second_look(&slab, &table, None, &Policy::default()).expect("can be judged")
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
    assert!(clean.agreement > 0.99);
    let flipped: Vec<usize> = (0..200).step_by(13).collect();
    for m in &flipped {
        claims[*m] = vec![(world.truth[*m] + 1) % 4];
    }
    let noisy = look(&world.values, 4, &claims, &ids(200));
    for (m, judgement) in noisy.judgements.iter().enumerate() {
        assert_eq!(judgement.hold, flipped.contains(&m), "member {m}: {judgement:?}");
        if judgement.hold {
            assert_eq!(judgement.suggested, Some(world.truth[m]));
            assert!(judgement.p_label_wrong > 0.5);
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
        assert!((a.fits - b.fits).abs() < 1e-3 && a.hold == b.hold, "{a:?} {b:?}");
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
    assert!(result.claims[0] > result.claims[1]);
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
    assert!(result.judgements.iter().all(|j| j.fits.is_finite() && !j.hold));
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
        second_look(&slab, &table, None, &policy).expect("judged").judgements
    };
    assert_eq!(with(1), with(1 << 30));
}

#[test]
fn lists_of_unequal_length_are_refused() {
    let slab = Slab::new(D, &[0.0; 2 * D]).expect("whole rows");
    let error = second_look(&slab, &LabelTable::new(2), None, &Policy::default()).expect_err("no labels");
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
    let found = second_look(&slab, &table, None, &Policy::default()).expect("can be judged");
    let held =
        |wanted: bool| (0..members).filter(|m| flipped(*m) == wanted && found.judgements[*m as usize].hold).count();
    let (wrong, right) = (members as usize / 20, members as usize - members as usize / 20);
    assert!(held(true) * 10 >= wrong * 9, "{} of {wrong} flips are held", held(true));
    assert!(held(false) * 50 <= right, "{} of {right} that are right are held", held(false));
}
