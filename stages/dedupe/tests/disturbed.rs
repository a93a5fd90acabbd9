//! Whatever happens between two writes, and wherever the process dies: what stays, and whom the others name, is the same.
//!
//! A picture is under decision while another arrives or falls at each of its writes in turn; where the process dies, the
//! message comes again last of all.

mod stream;

use std::sync::{Arc, Mutex};

use dih_core::{
    Delivery, Epoch, Notice, Stage, UploadSeq,
    event::{Image, ImageStored},
    ports::Blobs,
    record::State,
};
use dih_repeats::succession;
use dih_stores::{
    blob::ObjectBlobs,
    contract::{self, Disturbed},
};
use stream::{Stream, part, photos, stored};

/// Writes of one decision, at most.
const WRITES: usize = 6;

#[derive(Clone, Debug)]
enum Event {
    Arrives(Image),
    Falls(Image),
}

fn delivery(image: Image) -> Delivery<ImageStored> {
    let upload = Some(image.upload);
    Delivery { input: ImageStored { image }, upload, received_at: None, attempt: 1 }
}

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Course {
    /// The event, then the write.
    Lives,
    /// The event, then the write, and the process dies.
    DiesAfterIt,
    /// The write, and the process dies; then the event.
    DiesBeforeIt,
}

/// Decides `image` while `event` happens at one of its writes; then lets all come to rest.
async fn disturb(stream: &mut Stream, image: &Image, event: Event, (at, course): (usize, Course)) {
    let heard: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let (beside, index, ears) = (stream.beside(stream.index.clone()), stream.index.clone(), heard.clone());
    let event = async move {
        let outcome = match event {
            Event::Arrives(image) => beside.process(delivery(image)).await,
            Event::Falls(image) => succession::fall(&*index, &image).await,
        };
        ears.lock().expect("no panic holds it").extend(outcome.expect("memory").notices);
    };
    let (during, after): (contract::Event, Option<contract::Event>) = match course {
        Course::DiesBeforeIt => (Box::pin(async {}), Some(Box::pin(event))),
        _ => (Box::pin(event), None),
    };
    let index = Arc::new(Disturbed::new(stream.index.clone(), at, course != Course::Lives, during));
    let decided = stream.beside(index.clone()).process(delivery(image.clone())).await;
    stream.hear(std::mem::take(&mut *heard.lock().expect("no panic holds it")));
    match decided {
        Ok(outcome) => stream.hear(outcome.notices),
        Err(_) => stream.waiting.push_back(image.clone()),
    }
    for event in index.left().into_iter().chain(after) {
        event.await;
        stream.hear(std::mem::take(&mut *heard.lock().expect("no panic holds it")));
    }
    stream.settle([]).await;
}

/// A picture, and which sides of the shot it shows: those that share one are proven to repeat each other.
#[derive(Clone)]
struct Shown {
    image: Image,
    sides: u8,
}

/// Three copies of one shot, and the bytes of the first once more.
async fn copies(blobs: &dyn Blobs) -> Vec<Shown> {
    let mut images = photos(blobs, 1, &[92, 60, 35]).await;
    images.push(Image { upload: UploadSeq(4), ..images[0].clone() });
    images.into_iter().map(|image| Shown { image, sides: 0b11 }).collect()
}

/// Three parts of a shot, whose fingerprints are alike. Only the middle one repeats the others.
async fn sides(blobs: &dyn Blobs) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for (sides, across) in [(0b01, 0..80), (0b10, 16..96), (0b11, 8..88)] {
        let upload = 1 + shown.len() as u64;
        let mut image = stored(blobs, &part(10, across, 0..100), upload, format!("sides {sides:b}")).await;
        if let Some(first) = shown.first() {
            image.fingerprints = first.image.fingerprints;
        }
        shown.push(Shown { image, sides });
    }
    shown
}

/// Four parts along a shot, whose fingerprints are alike. Each repeats those beside it, and the last to come might also name
/// the second, which repeats the first.
async fn chain(blobs: &dyn Blobs) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for (sides, left) in [(0b001, 0), (0b011, 8), (0b100, 24), (0b110, 16)] {
        let upload = 1 + shown.len() as u64;
        let mut image = stored(blobs, &part(10, left..left + 76, 0..100), upload, format!("chain {sides:b}")).await;
        if let Some(first) = shown.first() {
            image.fingerprints = first.image.fingerprints;
        }
        shown.push(Shown { image, sides });
    }
    shown
}

/// In the order of uploads, without those that fell: who shows nothing that one shows which stands, stands; others repeat the
/// first such one, and said so.
async fn check(stream: &Stream, crowd: &[Shown], told: &str) {
    let mut standing: Vec<&Shown> = Vec::new();
    for shown @ Shown { image, sides } in crowd {
        let record = stream.index.get(image.id).await.expect("memory").expect("claimed");
        if record.state == State::Fallen {
            continue;
        }
        let original = standing.iter().find(|other| other.sides & sides != 0).map(|other| other.image.id);
        let told = format!("upload {} when {told}", image.upload);
        match original.filter(|original| *original != image.id) {
            None => {
                assert_eq!(record.state, State::Unique, "{told}");
                standing.push(shown);
            }
            Some(original) => {
                assert_eq!((record.state, record.repeat.map(|r| r.of)), (State::Repeat, Some(original)), "{told}");
                // One that was under way when it yielded is answered by the stage that it comes to.
                match stream.answers.get(&image.id) {
                    None => assert_eq!(record.epoch, Epoch(0), "no answer to {told}"),
                    Some(answer) => {
                        assert_eq!(answer.epoch, record.epoch, "{told}: {answer:?}");
                        assert_eq!(answer.repeat.as_ref().map(|r| r.of), Some(original), "{told}: {answer:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn another_arrives_between_any_two_writes() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    for crowd in [copies(&*blobs).await, sides(&*blobs).await, chain(&*blobs).await] {
        for (decided, arriving) in pairs(crowd.len()) {
            let mut before: Vec<Image> = others(&crowd, &[decided, arriving]);
            for _ in 0..2 {
                before.reverse();
                for moment in moments() {
                    let mut stream = Stream::new(blobs.clone());
                    stream.settle(before.clone()).await;
                    let (decided, arriving) = (&crowd[decided].image, &crowd[arriving].image);
                    disturb(&mut stream, decided, Event::Arrives(arriving.clone()), moment).await;
                    let (d, a) = (decided.upload, arriving.upload);
                    check(&stream, &crowd, &format!("{a} arrives at write {moment:?} of {d}")).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn another_falls_between_any_two_writes() {
    let blobs: Arc<dyn Blobs> = Arc::new(ObjectBlobs::memory());
    for crowd in [copies(&*blobs).await, sides(&*blobs).await, chain(&*blobs).await] {
        for (decided, falling) in pairs(crowd.len()).filter(|(d, f)| crowd[*d].image.id != crowd[*f].image.id) {
            let mut before = others(&crowd, &[decided]);
            for _ in 0..2 {
                before.reverse();
                for moment in moments() {
                    let mut stream = Stream::new(blobs.clone());
                    stream.settle(before.clone()).await;
                    let (decided, falling) = (&crowd[decided].image, &crowd[falling].image);
                    disturb(&mut stream, decided, Event::Falls(falling.clone()), moment).await;
                    let (d, f) = (decided.upload, falling.upload);
                    check(&stream, &crowd, &format!("{f} falls at write {moment:?} of {d}")).await;
                }
            }
        }
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}

fn others(crowd: &[Shown], without: &[usize]) -> Vec<Image> {
    (0..crowd.len()).filter(|i| !without.contains(i)).map(|i| crowd[i].image.clone()).collect()
}

fn moments() -> impl Iterator<Item = (usize, Course)> {
    use Course::{DiesAfterIt, DiesBeforeIt, Lives};
    (0..WRITES).flat_map(|at| [Lives, DiesAfterIt, DiesBeforeIt].map(|course| (at, course)))
}
