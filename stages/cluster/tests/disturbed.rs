//! Whatever arrives between two writes, and wherever the process dies: the same stay, and the others name the same originals.

mod stream;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use dih_core::{
    Epoch, Notice, Stage,
    event::{Image, ImageEmbedded},
    record::{Change, State},
    verdict::Status,
};
use dih_stores::contract::Disturbed;
use stream::{Shot, Stream, World, delivery, embed, follows};

/// Writes of one decision, at most.
const WRITES: usize = 4;

/// What happens before a write, and after it.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// Whether all that follows from the other picture is done before the write, too.
    rests: bool,
    /// Whether the process dies after the write.
    dies: bool,
}

/// Decides `shot` while `other` is decided at one of its writes; then lets all come to rest.
async fn disturb(world: &World, stream: &mut Stream<'_>, shot: &Shot, other: &Shot, at: usize, course: Course) {
    let heard: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let (beside, index, ears) = (world.stage(stream.index.clone()), stream.index.clone(), heard.clone());
    let other = other.clone();
    let event = async move {
        let mut waiting = VecDeque::from([embed(&*index, &other).await]);
        while let Some(input) = waiting.pop_front() {
            for notice in beside.process(delivery(input)).await.expect("memory").notices {
                match course.rests {
                    true => waiting.extend(follows(&*index, notice).await),
                    false => ears.lock().expect("no panic holds it").push(notice),
                }
            }
        }
    };
    let input = embed(&*stream.index, shot).await;
    let index = Arc::new(Disturbed::new(stream.index.clone(), at, course.dies, event));
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

async fn check(world: World, seed: u64) {
    let pairs = (0..world.shots.len()).flat_map(|a| (0..world.shots.len()).map(move |b| (a, b)));
    for (decided, arriving) in pairs.filter(|(a, b)| a != b) {
        for (at, course) in moments() {
            let mut stream = world.stream(seed);
            let others = world.shots.iter().enumerate().filter(|(n, _)| *n != decided && *n != arriving);
            for (_, shot) in stream.dice.shuffled(&others.collect::<Vec<_>>()) {
                stream.arrive(shot).await;
                stream.settle().await;
            }
            let (decided, arriving) = (&world.shots[decided], &world.shots[arriving]);
            disturb(&world, &mut stream, decided, arriving, at, course).await;
            let (d, a) = (decided.image.upload, arriving.image.upload);
            let told = format!("seed {seed}: {a} arrives at write {at} of {d}: {course:?}");
            assert_eq!(stream.fates().await, world.want, "{told}");
        }
    }
}

#[tokio::test]
async fn another_arrives_between_any_two_writes() {
    for (seed, candidates_max) in [(1, 2), (4, 1)] {
        check(World::new(2, &[92, 70, 50, 35], seed, candidates_max).await, seed).await;
    }
}

/// The sixth is like the fourth, the first and the fifth, in this order, and shows the same as the first and the fourth, which
/// know nothing of each other. So whether the fifth is there decides whom it names.
#[tokio::test]
async fn another_arrives_that_crowds_out_who_is_named() {
    let placed = [(0, -7.0), (1, 8.0), (2, 9.0), (0, 5.0), (3, -6.0), (0, 0.0)];
    check(World::around(&placed, 2).await, 1).await;
}

fn moments() -> impl Iterator<Item = (usize, Course)> {
    let courses = [(false, false), (false, true), (true, false), (true, true)];
    (0..WRITES).flat_map(move |at| courses.map(|(rests, dies)| (at, Course { rests, dies })))
}

/// Only the stages before this one decide that it goes on; what it would say now would later pass for said.
#[tokio::test]
async fn who_is_to_be_decided_anew_is_not_said_to_go_on() {
    let world = World::around(&[(0, 0.0)], 2).await;
    let stream = world.stream(1);
    let input = embed(&*stream.index, &world.shots[0]).await;
    let released = Change { epoch: Some(Epoch(1)), prior: Some(Status::Duplicate), ..Change::to(State::Claimed) };
    stream.index.change(input.image.id, &released).await.expect("memory");
    let image = Image { epoch: Epoch(1), ..input.image };
    let outcome = stream.stage.process(delivery(ImageEmbedded { image, ..input })).await.expect("memory");
    assert_eq!(outcome.notices, []);
}
