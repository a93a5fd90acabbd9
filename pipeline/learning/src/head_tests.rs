//! The head learns what can be learnt, its gradient is right, and equal seeds give equal heads.

use rand::RngExt;

use super::*;

/// Rows around one axis a class.
fn blobs(classes: usize, each: usize, seed: u64) -> (Array2<f32>, Vec<usize>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<usize> = (0..classes * each).map(|i| i % classes).collect();
    let rows = Array2::from_shape_fn((labels.len(), 12), |(i, j)| {
        let noise: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum();
        noise * 0.5 + if labels[i] == j { 1.5 } else { 0.0 }
    });
    (rows, labels)
}

fn split<'a>((rows, classes): &'a (Array2<f32>, Vec<usize>)) -> Split<'a> {
    Split { rows: rows.view(), classes, sure: None }
}

#[test]
fn what_can_be_separated_is_separated_and_stops_early() {
    let (train, val, test) = (blobs(4, 40, 1), blobs(4, 15, 2), blobs(4, 50, 3));
    let trained = train_head(4, split(&train), Some(split(&val)), &HeadPolicy::default()).expect("trains");
    let answers = trained.head.probabilities(test.0.view());
    let right = answers
        .axis_iter(Axis(0))
        .zip(&test.1)
        .filter(|(row, class)| best(&row.to_vec()).expect("classes").0 == **class);
    assert!(right.count() as f32 / test.1.len() as f32 > 0.95);
    assert!(trained.chosen < trained.history.len());
    assert!(trained.head.temperature > 0.0);
}

#[test]
fn equal_seeds_give_equal_heads() {
    let (train, val) = (blobs(3, 20, 1), blobs(3, 10, 2));
    let head = |seed| {
        let policy = HeadPolicy { seed, epochs_max: 5, ..HeadPolicy::default() };
        train_head(3, split(&train), Some(split(&val)), &policy).expect("trains").head
    };
    assert_eq!(head(7), head(7));
    assert_ne!(head(7), head(8));
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let (rows, classes) = blobs(3, 5, 4);
    let classes: Vec<_> = classes.into_iter().zip([0.5, 2.0, 1.0].into_iter().cycle()).collect();
    let value = Array2::from_shape_fn((3, 13), |(i, j)| ((i * 13 + j) as f32).sin() * 0.3);
    let (_, gradient) = loss_and_gradient(&value, rows.view(), &classes, 0.1);
    for at in [(0, 0), (1, 5), (2, 11), (0, 12), (2, 12)] {
        let step = 1e-2;
        let moved = |by: f32| {
            let mut value = value.clone();
            value[at] += by;
            loss_and_gradient(&value, rows.view(), &classes, 0.1).0
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope - gradient[at]).abs() < 1e-3, "{at:?}: {slope} against {}", gradient[at]);
    }
}

#[test]
fn a_rare_class_is_weighed_up_but_not_beyond_its_share() {
    let rows = Array2::zeros((4, 1));
    let weights = |sure, balance| row_weights(2, Split { rows: rows.view(), classes: &[0, 0, 0, 1], sure }, balance);
    let balanced = weights(None, 1.0);
    assert!((balanced[0] * 3.0 - balanced[3]).abs() < 1e-5);
    assert_eq!(weights(None, 0.0), [1.0; 4]);
    assert_eq!(weights(Some(&[0.5, 0.5, 1.0, 0.0]), 0.0), [1.0, 1.0, 2.0, 0.0]);
}

#[test]
fn what_is_hardly_sure_is_hardly_learnt() {
    let ((rows, mut classes), test) = (blobs(3, 40, 1), blobs(3, 50, 2));
    let mut sure = vec![1.0; classes.len()];
    // Most of one class pass for another.
    for row in (0..classes.len()).filter(|row| row % 3 == 0 && row % 4 > 0) {
        (classes[row], sure[row]) = (1, 0.02);
    }
    let right = |sure| {
        let split = Split { rows: rows.view(), classes: &classes, sure };
        let trained = train_head(3, split, None, &HeadPolicy::default()).expect("trains");
        let answers = trained.head.probabilities(test.0.view());
        let named = answers.axis_iter(Axis(0)).map(|row| best(&row.to_vec()).expect("classes").0);
        named.zip(&test.1).filter(|(named, class)| named == *class).count()
    };
    let (told, untold) = (right(Some(&sure)), right(None));
    assert!(told > 142 && untold < 120, "{told} and {untold} of 150");
}

#[test]
fn calibration_undoes_too_much_confidence() {
    // Both classes say class 0 with large logits, but only three of four are.
    let rows = Array2::from_elem((4, 1), 1.0);
    let value = Array2::from_shape_vec((2, 2), vec![10.0, 0.0, 0.0, 0.0]).expect("2 x 2");
    let t = temperature(&value, rows.view(), Split { rows: rows.view(), classes: &[0, 0, 0, 1], sure: None });
    let p = 1.0 / (1.0 + (-10.0 / t).exp());
    assert!((p - 0.75).abs() < 0.01, "states {p}");
}

#[test]
fn wrong_shapes_are_refused_by_name() {
    let (rows, classes) = blobs(3, 4, 1);
    let short = Split { rows: rows.view(), classes: &classes[1..], sure: None };
    assert!(matches!(train_head(3, short, None, &HeadPolicy::default()), Err(LearningError::Mismatch { .. })));
    let whole = Split { rows: rows.view(), classes: &classes, sure: None };
    let lacking = Split { sure: Some(&[1.0]), ..whole };
    assert!(matches!(train_head(3, lacking, None, &HeadPolicy::default()), Err(LearningError::Mismatch { .. })));
    assert!(matches!(train_head(2, whole, None, &HeadPolicy::default()), Err(LearningError::Setting { .. })));
    assert!(matches!(train_head(1, whole, None, &HeadPolicy::default()), Err(LearningError::Setting { .. })));
}
