//! In a crowd, where a picture is compared with its nearest few elders only, the same stay whatever the order, and the others
//! name the same originals.

mod stream;

use stream::World;

async fn check(seed: u64, candidates_max: usize) {
    let world = World::new(4, &[92, 80, 65, 50, 35], seed, candidates_max).await;
    for round in 0..6 {
        let mut stream = world.stream(seed * 100 + round);
        let order = if round == 0 { world.shots.clone() } else { stream.dice.shuffled(&world.shots) };
        for shot in &order {
            stream.arrive(shot).await;
            // Some arrive while others are still under way.
            if stream.dice.next().is_multiple_of(3) {
                stream.settle().await;
            }
        }
        stream.settle().await;
        assert_eq!(stream.fates().await, world.want, "seed {seed}, list of {candidates_max}, round {round}");
        for shot in stream.dice.shuffled(&world.shots) {
            stream.arrive(&shot).await; // every message comes again
        }
        stream.settle().await;
        assert_eq!(stream.fates().await, world.want, "again: seed {seed}, list of {candidates_max}, round {round}");
    }
}

#[tokio::test]
async fn with_short_lists_the_same_stay_in_any_order_and_if_all_comes_twice() {
    for seed in 1..4 {
        for candidates_max in [1, 2, 3] {
            check(seed, candidates_max).await;
        }
    }
}
