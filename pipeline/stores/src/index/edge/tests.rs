//! The contract, the directory, and kill -9.

use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use dih_core::{Class, Classify, record::Summary};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::*;
use crate::contract::{self, SPACE_NUMBERS, sample};

fn space() -> VectorSpace {
    contract::spaces()[0].0.clone()
}

fn open(directory: &Path) -> EdgeIndex {
    EdgeIndex::open(directory, &contract::spaces()).expect("opens")
}

/// Has cells early, and flushes and drops its log all the time, where the other would wait for tens of thousands of images.
fn open_restless(directory: &Path) -> EdgeIndex {
    let restless = Tuning { cells_from: 200, late_max: 3, flush_every: 7, log_bytes_max: 100_000 };
    EdgeIndex::open_tuned(directory, &contract::spaces(), false, restless).expect("opens")
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

async fn check_contract(open: fn(&Path) -> EdgeIndex) {
    let home = home();
    let number = AtomicU64::new(0);
    contract::index(async || {
        let directory = home.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(open(&directory)) as Arc<dyn Index>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_keeps_the_contract() {
    check_contract(open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_keeps_the_contract_while_it_flushes() {
    check_contract(open_restless).await;
}

#[track_caller]
fn refused(opened: Result<EdgeIndex, StoreError>, word: &str) {
    let error = opened.expect_err("must be refused");
    assert_eq!(error.class(), Class::Halt);
    assert!(chain(&error).to_string().contains(word), "{}", chain(&error));
}

#[test]
fn a_directory_that_is_open_is_refused_by_the_name_of_its_lock() {
    let home = home();
    let _first = open(home.path());
    refused(EdgeIndex::open(home.path(), &contract::spaces()), "index.lock");
}

#[tokio::test]
async fn a_directory_made_for_other_spaces_is_refused_and_left_alone() {
    let home = home();
    let index = open(home.path());
    put(&index, 1).await;
    index.close().await.expect("closes");
    drop(index);
    let other = [(VectorSpace("other-f32".into()), SPACE_NUMBERS)];
    refused(EdgeIndex::open(home.path(), &other), "name the model it was made with");
    refused(EdgeIndex::open(home.path(), &[(space(), SPACE_NUMBERS + 1)]), "name the model it was made with");
    refused(EdgeIndex::open(home.path(), &[]), "name the model it was made with");
    let made = home.path().join("shard/made.json");
    let other_layout = std::fs::read_to_string(&made).expect("reads").replace("\"layout\": ", "\"layout\": 1");
    let kept = std::fs::read(&made).expect("reads");
    std::fs::write(&made, other_layout).expect("writes");
    refused(EdgeIndex::open(home.path(), &contract::spaces()), "use the version of this program that made it");
    std::fs::write(&made, kept).expect("writes");
    assert_eq!(known(&open(home.path()), 3).await.len(), 1);
}

#[tokio::test]
async fn an_empty_directory_made_for_other_spaces_is_made_again() {
    let home = home();
    drop(EdgeIndex::open(home.path(), &[(space(), SPACE_NUMBERS + 1)]).expect("opens"));
    let index = open(home.path());
    put(&index, 1).await;
    assert_eq!(known(&index, 3).await.len(), 1);
}

#[test]
fn a_space_that_cannot_be_is_refused() {
    let named = |name: &str, numbers| [(VectorSpace(name.into()), numbers)];
    refused(EdgeIndex::open(home().path(), &named("a", 0)), "numbers a vector");
}

#[test]
fn a_half_made_directory_is_made_again() {
    let home = home();
    std::fs::create_dir_all(home.path().join("shard.new/segments/junk")).expect("writes");
    drop(open(home.path()));
}

impl EdgeIndex {
    fn summary(&self, id: ImageId) -> Option<Summary> {
        let table = self.records().table();
        Some(table.summary(table.row(id)?))
    }
}

/// Everything the index knows of the first `n` samples.
async fn known(index: &EdgeIndex, n: u64) -> BTreeMap<u64, (Record, Option<Vec<f32>>)> {
    let mut all = BTreeMap::new();
    for n in 0..n {
        if let Some(record) = index.get(sample::id(n)).await.expect("reads") {
            assert_eq!(index.summary(record.id()), Some(Summary::from(&record)));
            all.insert(n, (record, index.vector(sample::id(n), &space()).await.expect("reads")));
        }
    }
    all
}

async fn put(index: &EdgeIndex, n: u64) {
    index.claim(&sample::record(n)).await.expect("claims");
    let vector: Vec<_> = (0..SPACE_NUMBERS as u64).map(|i| sample::scatter(n * 8 + i) as i32 as f32).collect();
    index.put_vector(sample::id(n), &space(), &vector).await.expect("puts");
    index.change(sample::id(n), &Change::to(State::Clustered)).await.expect("changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_loses_nothing_and_doubles_nothing() {
    const N: u64 = 600;
    let home = home();
    let index = open_restless(home.path());
    for n in 0..N {
        put(&index, n).await;
    }
    index.commit().await.expect("commits");
    let before = known(&index, N).await;
    assert_eq!(before.len() as u64, N);
    index.close().await.expect("closes");
    drop(index);
    for round in 0..2 {
        let index = open_restless(home.path());
        assert_eq!(known(&index, N).await, before, "round {round}");
        assert_eq!(index.count(&Select::default()).await.expect("counts"), N);
        // A write after opening must not be taken for an old one.
        index.change(sample::id(1), &Change::to(State::Held)).await.expect("changes");
        assert_eq!(index.get(sample::id(1)).await.expect("reads").map(|r| r.state), Some(State::Held));
        index.change(sample::id(1), &Change::to(State::Clustered)).await.expect("changes");
        index.close().await.expect("closes");
    }
}

/// Images of a family.
const FAMILY: u64 = 20;

/// Vectors of 64 numbers that are near each other in families.
fn family_vector(n: u64) -> Vec<f32> {
    let number = |n: u64, i: u64| sample::scatter(n * 64 + i) as i32 as f32;
    (0..64).map(|i| number(n / FAMILY, i) + 0.5 * number(n + 1_000_000, i)).collect()
}

fn open_families(directory: &Path, cells_from: u64) -> EdgeIndex {
    let tuning = Tuning { cells_from, ..Tuning::default() };
    EdgeIndex::open_tuned(directory, &[(space(), 64)], false, tuning).expect("opens")
}

async fn put_families(index: &EdgeIndex, images: std::ops::Range<u64>) {
    for n in images {
        index.claim(&sample::record(n)).await.expect("claims");
        index.put_vector(sample::id(n), &space(), &family_vector(n)).await.expect("puts");
    }
}

fn has_cells(index: &EdgeIndex) -> bool {
    index.parts.vectors.candidates(&space(), &[1.0; 64]).is_some()
}

/// Each finds those of its family first, with the cosine that their vectors have, or about that.
async fn check_families(index: &EdgeIndex, images: u64) {
    let (mut found, mut of) = (0, 0);
    for n in (0..images).step_by(7) {
        let vector = normalised(n, &family_vector(n)).expect("has a direction");
        let near =
            index.near_vectors(&space(), &vector, 0.1, Among::default(), FAMILY as usize).await.expect("searches");
        for near in near {
            let other = normalised(n, &family_vector(near.image.order.0)).expect("has a direction");
            let cosine: f32 = vector.iter().zip(&other).map(|(a, b)| a * b).sum();
            let off = if has_cells(index) { 5e-3 } else { 1e-5 };
            assert!((near.cosine - cosine).abs() < off, "{n}: {} for {cosine}", near.cosine);
            found += u64::from(near.image.order.0 / FAMILY == n / FAMILY);
        }
        of += FAMILY;
    }
    let least = if has_cells(index) { 0.985 } else { 1.0 };
    assert!(found as f64 >= least * of as f64, "{found} of {of}");
}

#[tokio::test(flavor = "multi_thread")]
async fn among_all_and_by_cells_neighbours_are_found_with_their_cosines() {
    for cells_from in [u64::MAX, 800] {
        let home = home();
        let index = open_families(home.path(), cells_from);
        put_families(&index, 0..3_000).await;
        assert_eq!(has_cells(&index), cells_from == 800);
        check_families(&index, 3_000).await;
        index.close().await.expect("closes");
        drop(index);
        let index = open_families(home.path(), cells_from);
        assert_eq!(has_cells(&index), cells_from == 800);
        check_families(&index, 3_000).await;
        index.close().await.expect("closes");
    }
}

/// Versions before that with cells left such a directory.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_cells_is_read_and_gets_them() {
    let home = home();
    let index = open_families(home.path(), u64::MAX);
    // More than are read in one go.
    put_families(&index, 0..5_000).await;
    index.close().await.expect("closes");
    drop(index);
    let index = open_families(home.path(), 800);
    assert!(!has_cells(&index));
    check_families(&index, 5_000).await;
    put_families(&index, 5_000..5_020).await;
    assert!(has_cells(&index));
    check_families(&index, 5_020).await;
    index.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_is_put_again_is_found_where_it_is_now() {
    let home = home();
    let index = open_families(home.path(), 800);
    put_families(&index, 0..1_000).await;
    index.put_vector(sample::id(3), &space(), &family_vector(502)).await.expect("puts");
    let near = index.near_vectors(&space(), &family_vector(502), 0.99, Among::default(), 5).await.expect("searches");
    assert_eq!(near.iter().map(|n| n.image.id).collect::<HashSet<_>>(), [3, 502].map(sample::id).into());
    let near = index.near_vectors(&space(), &family_vector(3), 0.99, Among::default(), 5).await.expect("searches");
    assert!(near.is_empty(), "{} are found", near.len());
    index.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_counted_since_it_was_opened() {
    let home = home();
    let near = async |index: &EdgeIndex| {
        let near = index.near_vectors(&space(), &family_vector(0), -1.0, Among::default(), 9).await.expect("searches");
        near.into_iter().map(|near| (near.image.order.0, near.put)).collect::<BTreeMap<_, _>>()
    };
    let index = open_families(home.path(), 1_000);
    put_families(&index, 0..2).await;
    assert_eq!(near(&index).await, BTreeMap::from([(0, Some(1)), (1, Some(2))]));
    index.close().await.expect("closes");
    drop(index);
    let index = open_families(home.path(), 1_000);
    put_families(&index, 1..3).await;
    put_families(&index, 2..3).await;
    assert_eq!(near(&index).await, BTreeMap::from([(0, None), (1, None), (2, Some(1))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_neighbours_in_the_wanted_states_are_found_among_many() {
    let home = home();
    let index = open_families(home.path(), 800);
    put_families(&index, 0..1_000).await;
    index.change(sample::id(700), &Change::to(State::Held)).await.expect("changes");
    let near = index
        .near_vectors(&space(), &family_vector(702), 0.1, Among::states(&[State::Held]), 5)
        .await
        .expect("searches");
    assert_eq!(near.iter().map(|n| n.image.id).collect::<Vec<_>>(), [sample::id(700)]);
    let near = index
        .near_vectors(&space(), &family_vector(702), 0.1, Among::states(&[State::Curated]), 5)
        .await
        .expect("searches");
    assert!(near.is_empty());
    index.close().await.expect("closes");
}

/// What a crash between the new segment and the end of the old one leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_left_in_two_segments_is_found_once() {
    let home = home();
    let index = open(home.path());
    for n in 0..10 {
        put(&index, n).await;
    }
    index.close().await.expect("closes");
    let before = known(&index, 10).await;
    drop(index);
    let segments = home.path().join("shard/vectors/segments");
    let segment = std::fs::read_dir(&segments).expect("is there").flatten().next().expect("has one").path();
    let copy = segments.join("00000000-0000-4000-8000-000000000001");
    let copied = Command::new("cp").arg("-r").args([&segment, &copy]).status().expect("cp runs");
    assert!(copied.success());
    let index = open(home.path());
    assert_eq!(known(&index, 10).await, before);
    let vector = index.vector(sample::id(3), &space()).await.expect("reads").expect("is there");
    let near = index.near_vectors(&space(), &vector, -1.0, Among::default(), 20).await.expect("searches");
    let ids: HashSet<_> = near.iter().map(|n| n.image.id).collect();
    assert_eq!((near.len(), ids.len()), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_grow_for_ever() {
    let home = home();
    let spaces = [(space(), 1_280)];
    let tuning = Tuning { log_bytes_max: 100_000, ..Tuning::default() };
    let index = EdgeIndex::open_tuned(home.path(), &spaces, false, tuning).expect("opens");
    let log_bytes = || -> u64 {
        let files = std::fs::read_dir(home.path().join("shard/vectors/wal")).expect("is there").flatten();
        files.map(|file| file.metadata().map_or(0, |m| m.len())).sum()
    };
    index.claim(&sample::record(0)).await.expect("claims");
    for round in 0..12 {
        // Some megabytes of log each.
        for n in 0..400 {
            let mut vector = vec![0.1; 1_280];
            vector[n] = 1.0;
            index.put_vector(sample::id(0), &space(), &vector).await.expect("puts");
        }
        index.blocking("flush", |parts| parts.vectors.flush()).await.expect("flushes");
        assert!(log_bytes() <= 4 * points::LOG_FILE_BYTES as u64, "{} after {round} rounds", log_bytes());
    }
    let vector = index.vector(sample::id(0), &space()).await.expect("reads").expect("is there");
    assert!(vector[399] > 0.2, "the last one stays");
    index.close().await.expect("closes");
}

/// The child that [`what_was_committed_survives_kill_9`] kills. It prints what it has committed.
const CHILD_DIRECTORY: &str = "DIH_TEST_EDGE_CHILD_DIRECTORY";
const CHILD_FROM: &str = "DIH_TEST_EDGE_CHILD_FROM";
const CHILD_RESTLESS: &str = "DIH_TEST_EDGE_CHILD_RESTLESS";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a child process of what_was_committed_survives_kill_9"]
async fn child_that_writes_until_it_is_killed() {
    let directory = std::env::var_os(CHILD_DIRECTORY).map(PathBuf::from).expect("the parent says where to write");
    let from: u64 =
        std::env::var(CHILD_FROM).ok().and_then(|n| n.parse().ok()).expect("the parent says where to begin");
    let restless = std::env::var_os(CHILD_RESTLESS).is_some();
    let index = if restless { open_restless(&directory) } else { open(&directory) };
    println!("\nopened");
    for n in from.. {
        put(&index, n).await;
        // A change to an earlier image, too: what was flushed once must not fall back.
        index
            .change(sample::id(n / 2), &Change { label_score: Some(n as f32), ..Change::default() })
            .await
            .expect("changes");
        if n % 3 == 0 {
            index.commit().await.expect("commits");
            println!("committed {n}");
        }
    }
}

/// Runs the child until it has been killed at a random moment; gives the last number it printed as committed.
fn run_and_kill(directory: &Path, from: u64, restless: bool, life: Duration) -> Option<u64> {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command
        .args(["--exact", "index::edge::tests::child_that_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_FROM, from.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if restless {
        command.env(CHILD_RESTLESS, "1");
    }
    let mut child = command.spawn().expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "opened"), "the child ended before it opened the index");
    std::thread::sleep(life);
    child.kill().expect("is killed"); // SIGKILL
    let committed = lines.filter_map(|line| line.strip_prefix("committed ")?.parse().ok()).max();
    child.wait().expect("is gone");
    committed
}

/// Everything of image `n` that was committed together with image `committed` or before is there.
async fn check_survivor(index: &EdgeIndex, n: u64, committed: u64) {
    let record = index.get(sample::id(n)).await.expect("reads").expect("was committed");
    assert_eq!(record.state, State::Clustered, "image {n} of {committed}");
    assert_eq!(record.image, sample::record(n).image);
    assert!(index.vector(sample::id(n), &space()).await.expect("reads").is_some(), "image {n} of {committed}");
    // Images 2n and 2n + 1 changed it, too.
    if let Some(last) = [2 * n + 1, 2 * n].into_iter().find(|by| *by <= committed) {
        assert!(record.label_score >= Some(last as f32), "image {n} of {committed}: {:?}", record.label_score);
    }
}

async fn check_kills(seed: u64, restless: bool) {
    eprintln!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let home = home();
    let (mut from, mut committed) = (0, None);
    for round in 0..5 {
        let life = Duration::from_millis(random.random_range(300..1_500));
        committed = run_and_kill(home.path(), from, restless, life).or(committed);
        let index = if restless { open_restless(home.path()) } else { open(home.path()) };
        for n in 0..=committed.unwrap_or(0) {
            if let Some(committed) = committed {
                check_survivor(&index, n, committed).await;
            }
        }
        // What is found by its state is what has it.
        let clustered = Select { states: vec![State::Clustered], ..Select::default() };
        let found = index.page(&clustered, None, 1_000_000, None).await.expect("pages");
        let found: HashSet<_> = found.records.iter().map(|(record, _)| record.id()).collect();
        for n in 0..=committed.unwrap_or(0) {
            assert!(committed.is_none() || found.contains(&sample::id(n)), "round {round}: image {n} is not found");
        }
        // Neither lost nor doubled: the count agrees with the pages, record by record.
        let page = index.page(&Select::default(), None, 1_000_000, None).await.expect("pages");
        let held = page.records.len() as u64;
        assert_eq!(index.count(&Select::default()).await.expect("counts"), held, "round {round}");
        // As after a crash: what was not committed is done again.
        from = committed.map_or(0, |n| n + 1);
        index.close().await.expect("closes");
        eprintln!("round {round}: killed after {life:?}, committed {committed:?}, held {held}");
    }
    assert!(committed.is_some(), "the child was always killed too early to show anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_survives_kill_9() {
    check_kills(20_261_122, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_survives_kill_9_beside_a_flush() {
    check_kills(20_261_123, true).await;
}
