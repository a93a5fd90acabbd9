//! Whatever arrives between two writes, and wherever the process dies: the same stay, and the others name the same originals.

mod stream;

use std::sync::{Arc, Mutex};

use dih_core::{Notice, Stage};
use dih_stores::contract::Disturbed;
use stream::{Shot, Stream, World, delivery, embed};

/// Writes of one decision, at most.
const WRITES: usize = 4;

/// Decides `shot` while `other` is decided at one of its writes; then lets all come to rest.
async fn disturb(world: &World, stream: &mut Stream<'_>, shot: &Shot, other: &Shot, at: usize, dies: bool) {
    let heard: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let (beside, index, ears) = (world.stage(stream.index.clone()), stream.index.clone(), heard.clone());
    let other = other.clone();
    let event = async move {
        let outcome = beside.process(delivery(embed(&*index, &other).await)).await.expect("memory");
        ears.lock().expect("no panic holds it").extend(outcome.notices);
    };
    let input = embed(&*stream.index, shot).await;
    let index = Arc::new(Disturbed::new(stream.index.clone(), at, dies, event));
    let decided = world.stage(index.clone()).process(delivery(input.clone())).await;
    if let Some(event) = index.left() {
        event.await;
    }
    let mut notices = std::mem::take(&mut *heard.lock().expect("no panic holds it"));
    match decided {
        Ok(outcome) => notices.extend(outcome.notices),
        Err(_) => stream.waiting.push_back(input),
    }
    for notice in notices {
        stream.hear(notice).await;
    }
    stream.settle().await;
}

async fn check(seed: u64, candidates_max: usize) {
    let world = World::new(2, &[92, 70, 50, 35], seed, candidates_max).await;
    let pairs = (0..world.shots.len()).flat_map(|a| (0..world.shots.len()).map(move |b| (a, b)));
    for (decided, arriving) in pairs.filter(|(a, b)| a != b) {
        for (at, dies) in (0..WRITES).flat_map(|at| [(at, false), (at, true)]) {
            let mut stream = world.stream(seed);
            let others = world.shots.iter().enumerate().filter(|(n, _)| *n != decided && *n != arriving);
            for (_, shot) in stream.dice.shuffled(&others.collect::<Vec<_>>()) {
                stream.arrive(shot).await;
                stream.settle().await;
            }
            let (decided, arriving) = (&world.shots[decided], &world.shots[arriving]);
            disturb(&world, &mut stream, decided, arriving, at, dies).await;
            let (d, a) = (decided.image.upload, arriving.image.upload);
            let told = format!("seed {seed}, list of {candidates_max}: {a} arrives at write {at} of {d}, dies: {dies}");
            assert_eq!(stream.fates().await, world.want, "{told}");
        }
    }
}

#[tokio::test]
async fn another_arrives_between_any_two_writes() {
    check(1, 1).await;
    check(1, 2).await;
}
