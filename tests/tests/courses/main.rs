//! Courses of a stream, drawn by lot: whoever goes on first, and wherever a process dies, the same photos are published, and
//! the others are answered as repeats of the same originals.
//!
//! Takes    DIH_COURSES and DIH_COURSES_SEED. Everything is in memory, and goes on one call of the index after the other, so a
//!          seed shows the same course again, in milliseconds, where the chaos test takes minutes for one.
//! Weak at  what is not in it: the broker, stores that fail, and an index that searches by cells.

mod crowd;
mod stages;
mod stream;

use anyhow::{Context, Result, ensure};
use crowd::Crowd;
use stream::Stream;

/// Courses that a crowd takes.
const COURSES: u64 = 40;

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |value| value.parse().with_context(|| format!("{name} is a number")))
}

#[tokio::test]
async fn whatever_course_a_stream_takes_the_same_becomes_of_all() -> Result<()> {
    let (first, courses) = (setting("DIH_COURSES_SEED", 1)?, setting("DIH_COURSES", 800)?);
    for seed in first..first + courses.div_ceil(COURSES) {
        let crowd = Crowd::draw(seed).await?;
        let want = Stream::calm(&crowd).await?.fates().await?;
        for course in 0..COURSES.min(courses) {
            let stream = Stream::drawn(&crowd, seed * COURSES + course).await;
            let stream = stream.with_context(|| format!("seed {seed}, course {course}"))?;
            let fates = stream.fates().await.with_context(|| format!("seed {seed}, course {course}"))?;
            let differ: Vec<_> = fates.iter().filter(|(id, fate)| want.get(*id) != Some(fate)).collect();
            if !differ.is_empty() {
                eprintln!("{}", stream.told());
            }
            let wanted: Vec<_> = differ.iter().filter_map(|(id, _)| want.get_key_value(*id)).collect();
            ensure!(differ.is_empty(), "seed {seed}, course {course}: {differ:?} in place of {wanted:?}");
        }
    }
    Ok(())
}
