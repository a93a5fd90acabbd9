//! Cut publishes versions that depend on the set of photos only.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use dih_core::{
    BlobKey, Epoch, Notice, UploadSeq,
    image::Size,
    ports::{Blobs, Index},
    record::{Change, State},
    verdict::{Answer, Status},
};
use dih_organize::{
    datasets::{self, Definition, Keep},
    manifest::{self, Listed},
    splits::Split,
    verify::verify,
};
use world::{LABELS, Photo, World, crowd, label, name, statuses, version};

async fn rows(world: &World, of: u32) -> Vec<Listed> {
    manifest::read(world.file(of, "manifest.parquet").await).expect("a manifest")
}

/// A crowd of which the photos 10, 20 and 30 claim what they do not show.
fn crowd_with_errors() -> Vec<Photo> {
    let mut photos = crowd(30);
    for number in [10, 20, 30_usize] {
        let photo = &mut photos[number - 1];
        photo.labels = vec![label(LABELS[(photo.shows + 1) % 3])];
    }
    photos
}

#[tokio::test]
async fn what_is_curated_is_published_and_wrong_labels_are_held() {
    let world = World::with(&crowd_with_errors(), Definition::default()).await;
    let (event, answers) = world.cut("a").await;
    assert_eq!((event.version.clone(), event.members, event.held), (version(1), 87, 3));
    assert_eq!(event.labels.values().sum::<u64>(), 87);

    let held: BTreeSet<_> = statuses(&answers).into_iter().collect();
    let want = [10, 20, 30].map(|n| (UploadSeq(n), Status::Held, Epoch(1)));
    assert_eq!(held, want.into());
    let doubted = |a: &Answer| a.reason == "label_doubted" && a.lineage.last().is_some_and(|d| d.score > d.threshold);
    assert!(answers.iter().filter(|a| a.epoch == Epoch(1)).all(doubted));
    let ended = answers.iter().filter(|a| a.epoch == Epoch(0) && a.status == Status::Curated);
    assert_eq!(ended.count(), 3, "whoever ends an epoch says how it was answered");
    let record = world.record(Photo::new(10, 0).id()).await;
    assert_eq!((record.state, record.epoch), (State::Held, Epoch(1)));

    let found = verify(&*world.blobs, &version(1)).await.expect("can be read");
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!(found.photos, 87);
    let head = datasets::head(&*world.state, &name()).await.expect("memory").expect("published");
    assert_eq!(head.version, 1);
}

#[tokio::test]
async fn the_order_in_which_photos_were_written_does_not_show() {
    let photos = crowd_with_errors();
    let mut turned = photos.clone();
    turned.rotate_left(37);
    turned.reverse();
    let (one, _) = World::with(&photos, Definition::default()).await.cut("a").await;
    let world = World::with(&turned, Definition::default()).await;
    let (other, _) = world.cut("b").await;
    assert_eq!(one.manifest_sha256, other.manifest_sha256);
}

#[tokio::test]
async fn the_index_gives_the_same_version_as_comparing_all_pairs() {
    let photos = crowd_with_errors();
    let (exact, _) = World::with(&photos, Definition::default()).await.cut("a").await;
    let mut world = World::with(&photos, Definition::default()).await;
    world.config.exact_members_max = 0;
    let (by_index, answers) = world.cut("a").await;
    assert_eq!((exact.members, exact.held), (by_index.members, by_index.held));
    assert_eq!(statuses(&answers).len(), 3);
}

#[tokio::test]
async fn a_request_that_comes_again_finds_its_version() {
    let world = World::with(&crowd_with_errors(), Definition::default()).await;
    let (first, answers) = world.cut("a").await;
    let (again, answers_again) = world.cut("a").await;
    assert_eq!(first, again);
    assert_eq!(statuses(&answers), statuses(&answers_again));
    // Even after somebody else's.
    let (second, none) = world.cut("b").await;
    assert_eq!((second.version, none.len()), (version(2), 0));
    assert_eq!(world.cut("a").await.0, first);
}

#[tokio::test]
async fn a_crash_at_any_write_of_the_small_state_loses_nothing_and_cuts_once() {
    let undisturbed = World::with(&crowd_with_errors(), Definition::default()).await.cut("a").await;
    for writes in 0..3 {
        let world = World::with(&crowd_with_errors(), Definition::default()).await;
        world.state.fail_after(writes);
        let crashed = world.try_cut("a").await;
        let head = datasets::head(&*world.state, &name()).await.expect("memory");
        assert_eq!(crashed.is_err(), head.is_none(), "without a head nothing is published");
        world.state.mend();
        let (event, answers) = world.cut("a").await;
        assert_eq!(event.version, version(1));
        assert_eq!(event.manifest_sha256, undisturbed.0.manifest_sha256);
        assert_eq!(statuses(&answers), statuses(&undisturbed.1));
    }
}

#[tokio::test]
async fn a_crash_between_two_revisions_is_finished_by_the_next_try() {
    let undisturbed = World::with(&crowd_with_errors(), Definition::default()).await.cut("a").await;
    for writes in 0..3 {
        let world = World::with(&crowd_with_errors(), Definition::default()).await;
        world.index.fail_after(writes);
        assert!(world.try_cut("a").await.is_err());
        world.index.mend();
        let (event, answers) = world.cut("a").await;
        assert_eq!(event.version, version(1));
        assert_eq!(statuses(&answers), statuses(&undisturbed.1), "each once, each with epoch 1");
    }
}

#[tokio::test]
async fn what_is_held_is_looked_at_anew_and_cleared_when_it_fits() {
    let world = World::with(&crowd_with_errors(), Definition::default()).await;
    world.cut("a").await;
    // Somebody corrects the label of photo 10.
    let wrong = crowd_with_errors()[9].id();
    let mut image = world.record(wrong).await.image;
    image.labels = vec![label(LABELS[0])];
    world.index.change(wrong, &Change { image: Some(image), ..Change::default() }).await.expect("memory");
    let (event, answers) = world.cut("b").await;
    assert_eq!((event.members, event.held), (88, 2));
    assert_eq!(statuses(&answers), [(UploadSeq(10), Status::Curated, Epoch(2))]);
    assert_eq!(
        (answers[0].status, answers[0].reason.as_str(), answers[0].epoch),
        (Status::Held, "label_doubted", Epoch(1))
    );
    assert_eq!(world.record(wrong).await.state, State::Curated);
}

#[tokio::test]
async fn a_photo_that_was_decided_anew_meanwhile_is_not_revised() {
    let world = World::with(&crowd_with_errors(), Definition::default()).await;
    world.index.fail_after(0);
    assert!(world.try_cut("a").await.is_err(), "published, but no state is changed");
    world.index.mend();
    let fallen = crowd_with_errors()[9].id();
    world.index.change(fallen, &Change::to(State::Fallen)).await.expect("memory");
    let (_, answers) = world.cut("a").await;
    assert_eq!(statuses(&answers).iter().map(|a| a.0.0).collect::<BTreeSet<_>>(), [20, 30].into());
    assert_eq!(world.record(fallen).await.state, State::Fallen);
}

#[tokio::test]
async fn a_data_set_that_holds_nobody_marks_doubts_and_publishes_all() {
    let world = World::with(&crowd_with_errors(), Definition { hold: false, ..Definition::default() }).await;
    let (event, answers) = world.cut("a").await;
    assert_eq!((event.members, event.held, answers.len()), (90, 0, 0));
}

#[tokio::test]
async fn a_photo_keeps_its_split_and_look_alikes_share_one() {
    let mut photos = crowd(30);
    let world = World::with(&photos, Definition::default()).await;
    world.cut("a").await;
    let before: BTreeMap<_, _> = rows(&world, 1).await.into_iter().map(|r| (r.image, r.given)).collect();
    // Ninety more, of which every third is another shot of an old one.
    for n in 91..=180 {
        let mut photo = Photo::new(n, (n % 3) as usize);
        let twin = n - 90;
        if n % 3 == 0 {
            photo.shows = photos[twin as usize - 1].shows;
            photo.labels = photos[twin as usize - 1].labels.clone();
            photo.shot = twin;
        }
        world.add(&photo, &[]).await;
        photos.push(photo);
    }
    world.cut("b").await;
    let after: BTreeMap<_, _> = rows(&world, 2).await.into_iter().map(|r| (r.image, r)).collect();
    assert!(after.len() > before.len() + 60);
    for (image, given) in &before {
        assert!(after.get(image).is_none_or(|row| row.given == *given));
    }
    for photo in photos.iter().filter(|p| p.shot != p.number) {
        let (Some(new), Some(old)) = (after.get(&photo.id()), after.get(&photos[photo.shot as usize - 1].id())) else {
            continue;
        };
        assert_eq!((new.given.split, &new.cluster), (old.given.split, &old.cluster));
        assert_eq!((old.given.since, new.given.since), (1, 2));
    }
    assert_eq!(verify(&*world.blobs, &version(2)).await.expect("can be read").faults, Vec::<String>::new());
}

#[tokio::test]
async fn every_split_has_photos_of_every_label() {
    let world = World::with(&crowd(30), Definition::default()).await;
    world.cut("a").await;
    let rows = rows(&world, 1).await;
    for name in LABELS {
        for split in Split::ALL {
            assert!(rows.iter().any(|r| r.given.split == split && r.labels[0] == label(name)), "{name} in {split}");
        }
    }
}

#[tokio::test]
async fn repeats_outvote_a_wrong_label_even_through_a_chain() {
    let mut photos = crowd(30);
    photos[9].labels = vec![label("shoe")]; // it shows a hat
    photos.push(Photo::new(91, 0).repeats(10));
    photos.push(Photo::new(92, 0).repeats(91));
    let world = World::with(&photos, Definition::default()).await;
    let (event, answers) = world.cut("a").await;
    assert_eq!((event.members, event.held, answers.len()), (90, 0, 0));
    let row = rows(&world, 1).await.into_iter().find(|r| r.image == photos[9].id()).expect("published");
    assert_eq!(row.labels, [label("hat")]);
}

#[tokio::test]
async fn a_selection_by_label_finds_photos_that_were_outvoted_into_it() {
    let mut photos = crowd(10);
    photos[0].labels = vec![label("sock")]; // it shows a hat
    photos.push(Photo::new(91, 0).repeats(1));
    photos.push(Photo::new(92, 0).repeats(1));
    let definition = Definition { labels: vec![label("hat")], ..Definition::default() };
    let world = World::with(&photos, definition).await;
    assert_eq!(world.cut("a").await.0.members, 10);
}

#[tokio::test]
async fn the_largest_copy_is_published_when_asked_for() {
    let mut photos = crowd(10);
    photos.push(Photo { size: Size { width: 4000, height: 3000 }, ..Photo::new(91, 0).repeats(1) });
    photos.push(Photo::new(92, 0).repeats(1));
    let (first, largest) = (photos[0].id(), photos[30].id());
    let world = World::with(&photos, Definition { keep: Keep::Largest, ..Definition::default() }).await;
    world.cut("a").await;
    let images: BTreeSet<_> = rows(&world, 1).await.into_iter().map(|r| r.image).collect();
    assert!(images.contains(&largest) && !images.contains(&first));
    assert_eq!(verify(&*world.blobs, &version(1)).await.expect("can be read").faults, Vec::<String>::new());
}

#[tokio::test]
async fn photos_of_one_shot_are_capped_and_the_earliest_stay() {
    let mut photos = crowd(20);
    for n in 61..=70 {
        photos.push(Photo { shot: 1, ..Photo::new(n, 0) });
    }
    let world = World::with(&photos, Definition { cluster_cap: Some(2), ..Definition::default() }).await;
    let (event, _) = world.cut("a").await;
    let images: BTreeSet<_> = rows(&world, 1).await.into_iter().map(|r| r.image).collect();
    assert_eq!(event.members, images.len() as u64);
    assert!(images.contains(&photos[0].id()) && images.contains(&photos[60].id()));
    assert!(photos[61..].iter().all(|p| !images.contains(&p.id())));
}

#[tokio::test]
async fn scores_and_attributes_select() {
    let mut photos = crowd(10);
    photos[3].label_score = Some(0.1);
    photos[4].label_score = None;
    photos[5].attributes.insert("country".into(), "DE".into());
    photos[6].attributes.insert("country".into(), "FR".into());
    let world = World::with(&photos, Definition { label_score_min: 0.5, ..Definition::default() }).await;
    assert_eq!(world.cut("a").await.0.members, 29, "what could not be judged stays");
    let attributes = BTreeMap::from([("country".to_owned(), "DE".to_owned())]);
    let world = World::with(&photos, Definition { attributes, ..Definition::default() }).await;
    assert_eq!(world.cut("a").await.0.members, 1);
}

#[tokio::test]
async fn photos_of_several_labels_keep_all_that_are_agreed_on() {
    let mut photos = crowd(10);
    photos[0] = Photo::new(1, 0).claims(&["hat", "shoe"]);
    let world = World::with(&photos, Definition { hold: false, ..Definition::default() }).await;
    let (event, _) = world.cut("a").await;
    assert_eq!((event.members, event.labels.values().sum::<u64>()), (30, 31));
}

#[tokio::test]
async fn shards_are_shared_by_versions_that_hold_the_same_photos() {
    let world = World::with(&crowd(30), Definition::default()).await;
    world.cut("a").await;
    let before = world.blobs.list("datasets/clothes/shards").await.expect("memory");
    world.cut("b").await;
    assert_eq!(world.blobs.list("datasets/clothes/shards").await.expect("memory"), before);
    assert_eq!(before.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_cut_is_answered_with_a_reason() {
    let reason = |outcome: dih_core::Outcome| match outcome.notices.into_iter().next() {
        Some(Notice::JobFailed(failed)) => failed.reason,
        other => panic!("expected a failed job, got {other:?}"),
    };
    let unknown = World::default().try_cut("a").await.expect("answered");
    assert!(reason(unknown).contains("dih datasets create clothes"));
    let definition = Definition { labels: vec![label("glove")], ..Definition::default() };
    let empty = World::with(&crowd(3), definition).await.try_cut("a").await.expect("answered");
    assert!(reason(empty).contains("glove"));
}

#[tokio::test]
async fn a_request_waits_while_another_is_at_work_and_takes_over_when_it_is_dead() {
    let world = World::with(&crowd(10), Definition::default()).await;
    world.state.fail_after(1); // the mark is written, the first renewal fails
    assert!(world.try_cut("dead").await.is_err());
    world.state.mend();
    assert!(world.try_cut("other").await.is_err(), "the mark is fresh");
    assert_eq!(world.cut("dead").await.0.version, version(1));
    assert_eq!(world.cut("other").await.0.version, version(2));
}

#[tokio::test]
async fn verify_finds_a_flipped_byte_and_a_missing_file() {
    let world = World::with(&crowd(10), Definition::default()).await;
    world.cut("a").await;
    let keys = world.blobs.list("datasets/clothes").await.expect("memory");
    let checked = |key: &&BlobKey| !key.as_str().ends_with("version.json");
    for key in keys.iter().filter(checked) {
        let sound = world.blobs.get(key).await.expect("is there");
        let mut flipped = sound.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        world.blobs.put(key, flipped.into()).await.expect("memory");
        let found = verify(&*world.blobs, &version(1)).await.expect("can be read");
        assert!(found.faults.iter().any(|f| f.contains(key.as_str())), "{key}: {:?}", found.faults);
        world.blobs.put(key, sound).await.expect("memory");
    }
    world.blobs.delete(&keys[0]).await.expect("memory");
    assert_eq!(verify(&*world.blobs, &version(1)).await.expect("can be read").faults.len(), 1);
}

#[tokio::test]
async fn the_most_different_are_picked_the_same_way_again_and_keep_their_splits() {
    let mut photos = crowd(30);
    for n in 91..=110 {
        photos.push(Photo { shot: 1, ..Photo::new(n, 0) }); // nothing new
    }
    let definition = Definition { diverse: Some(12), ..Definition::default() };
    let world = World::with(&photos, definition.clone()).await;
    let (first, _) = world.cut("a").await;
    assert_eq!(first.members, 12);
    let one = rows(&world, 1).await;
    let shot: BTreeSet<_> = photos.iter().filter(|p| p.shot == 1).map(Photo::id).collect();
    assert!(one.iter().filter(|row| shot.contains(&row.image)).count() <= 1, "of one shot one is enough");
    photos.reverse();
    let again = World::with(&photos, definition).await.cut("b").await.0;
    assert_eq!(again.manifest_sha256, first.manifest_sha256);

    for n in 111..=140 {
        world.add(&Photo::new(n, (n % 3) as usize), &[]).await;
    }
    world.cut("c").await;
    let before: BTreeMap<_, _> = one.iter().map(|row| (row.image, row.given)).collect();
    let two = rows(&world, 2).await;
    assert_eq!(two.len(), 12);
    assert!(two.iter().all(|row| before.get(&row.image).is_none_or(|given| row.given == *given)));
    assert!(two.iter().any(|row| before.contains_key(&row.image)), "some are picked again");
    assert_eq!(verify(&*world.blobs, &version(2)).await.expect("can be read").faults, Vec::<String>::new());
}

#[tokio::test]
async fn of_each_label_as_many_are_picked_as_asked_for() {
    let definition = Definition { diverse_per_label: Some(4), ..Definition::default() };
    let world = World::with(&crowd(20), definition).await;
    assert_eq!(world.cut("a").await.0.labels.into_values().collect::<Vec<_>>(), [4, 4, 4]);
}

#[tokio::test]
async fn outliers_are_left_out_when_asked_for() {
    let mut photos = crowd(20);
    for n in 61..=70 {
        photos.push(Photo { shot: 1, ..Photo::new(n, 0) });
    }
    // Only shots of the first photo have ten twins.
    let definition = Definition { outlier_max: Some(0.01), ..Definition::default() };
    let world = World::with(&photos, definition).await;
    assert_eq!(world.cut("a").await.0.members, 11);
}

#[tokio::test]
async fn who_errs_is_published_with_what_is_expected_of_the_rest() {
    let world = World::with(&crowd_with_errors(), Definition::default()).await;
    world.cut("a").await;
    let stats: serde_json::Value = serde_json::from_slice(&world.file(1, "stats.json").await).expect("JSON");
    let judged = &stats["labels_judged"];
    let devices = judged["contributors"].as_array().expect("a list");
    assert_eq!(devices.len(), 3);
    let rate = |at: usize| devices[at]["expected_wrong"].as_f64().expect("a share");
    assert!(rate(0) >= rate(1) && rate(1) >= rate(2));
    assert_eq!(devices.iter().map(|d| d["labels"].as_u64().expect("a count")).sum::<u64>(), 90);
    assert!(judged["expected_precision"].as_f64().expect("some are held") >= 0.8);
    let card = String::from_utf8(world.file(1, "README.md").await.to_vec()).expect("text");
    assert!(card.contains("are expected to be wrong"), "{card}");
}
