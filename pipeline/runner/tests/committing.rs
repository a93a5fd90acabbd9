//! What a stage wrote is durable before anybody hears of it.

mod world;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use dih_core::{
    ImageId, Label, UploadSeq,
    event::VectorSpace,
    image::RangeQuery,
    ports::{Among, Counted, Facet, Index, NearFingerprint, NearVector, Page, Select, StoreError},
    record::{Change, Record, State},
    topology::{DEAD, IMAGES, UPLOADS, VERDICTS},
};
use dih_runner::{Health, Line, RunError, Runner};
use tokio_util::sync::CancellationToken;
use world::{CurateUnique, Obedient, Second, World, config, until};

/// An index of which only the commit is asked: it fails so many times, and then holds.
#[derive(Debug, Default)]
struct OnlyCommits {
    failures: AtomicU64,
    commits: AtomicU64,
    refuses: bool,
}

const UNASKED: &str = "the stages of these tests write nothing";

#[async_trait]
impl Index for OnlyCommits {
    async fn claim(&self, _: &Record) -> Result<Record, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn get(&self, _: ImageId) -> Result<Option<Record>, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn change(&self, _: ImageId, _: &Change) -> Result<(), StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn change_from(&self, _: ImageId, _: &[State], _: &Change) -> Result<bool, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn vote(&self, _: ImageId, _: UploadSeq, _: &[Label]) -> Result<(), StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn near_fingerprints(
        &self,
        _: &[RangeQuery],
        _: &[Among<'_>],
        _: usize,
    ) -> Result<Vec<NearFingerprint>, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn put_vector(&self, _: ImageId, _: &VectorSpace, _: &[f32]) -> Result<(), StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn vector(&self, _: ImageId, _: &VectorSpace) -> Result<Option<Vec<f32>>, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn near_vectors(
        &self,
        _: &VectorSpace,
        _: &[f32],
        _: f32,
        _: Among<'_>,
        _: usize,
    ) -> Result<Vec<NearVector>, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn repeats_of(&self, _: ImageId) -> Result<Vec<Record>, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn page(
        &self,
        _: &Select,
        _: Option<ImageId>,
        _: usize,
        _: Option<&VectorSpace>,
    ) -> Result<Page, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn count(&self, _: &Select) -> Result<u64, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn facet(&self, _: Facet, _: &Select, _: usize) -> Result<Vec<Counted>, StoreError> {
        unreachable!("{UNASKED}")
    }

    async fn commit(&self) -> Result<(), StoreError> {
        let action = "flush".to_owned();
        if self.refuses {
            let remedy = "free some disk".to_owned();
            return Err(StoreError::Refused { store: "index", action, remedy, source: None });
        }
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err(StoreError::Unavailable { store: "index", action, source: "slow".into() });
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_before_the_commit_and_a_store_that_is_away_kills_no_message() {
    let world = World::new().await;
    world.submit(&["curate a"]).await;
    // More failures than tries: the store is ill, not the message.
    let index = Arc::new(OnlyCommits { failures: 7.into(), ..OnlyCommits::default() });
    let runner = Runner::new(world.connection.clone(), Obedient::new(), Some(index.clone()), config()).tries_max(2);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(runner.run(shutdown.clone()));
    until("it is answered", async || {
        let committed = index.commits.load(Ordering::SeqCst);
        let answered = world.stream_len(VERDICTS).await;
        assert!(answered == 0 || index.commits.load(Ordering::SeqCst) > 0, "{answered} answers, {committed} commits");
        world.stream_len(UPLOADS).await == 0
    })
    .await;
    assert_eq!(index.commits.load(Ordering::SeqCst), 1);
    assert_eq!((world.stream_len(VERDICTS).await, world.stream_len(DEAD).await), (1, 0));
    shutdown.cancel();
    task.await.expect("no panic").expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_stages_of_a_chain_wrote_is_made_durable_once_and_before_anything_is_published() {
    let world = World::new().await;
    let index = Arc::new(OnlyCommits { failures: 3.into(), ..OnlyCommits::default() });
    let (line, shutdown) = (Line::default(), CancellationToken::new());
    let (connection, known) = (&world.connection, || Some(index.clone() as Arc<dyn Index>));
    let verify = Runner::new(connection.clone(), CurateUnique, known(), config()).in_line(&line);
    let dedupe = Runner::new(connection.clone(), Second::default(), known(), config()).in_line(&line);
    let ingest = Runner::new(connection.clone(), Obedient::new(), None, config()).in_line(&line);
    let healths = [verify.health(), dedupe.health()];
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(verify.run(shutdown.clone()));
    tasks.spawn(dedupe.run(shutdown.clone()));
    until("both take work", async || healths.iter().all(Health::is_ready)).await;
    tasks.spawn(ingest.run(shutdown.clone()));
    world.submit(&["emit a"]).await;
    until("it is answered", async || {
        let answered = world.stream_len(VERDICTS).await;
        assert!(answered == 0 || index.commits.load(Ordering::SeqCst) > 0, "answered before it was durable");
        world.stream_len(UPLOADS).await == 0
    })
    .await;
    assert_eq!(index.commits.load(Ordering::SeqCst), 1);
    assert_eq!((world.ever_in(IMAGES).await, world.stream_len(DEAD).await), (0, 0));
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic").expect("an orderly end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_halts_the_stage_with_its_remedy() {
    let world = World::new().await;
    world.submit(&["curate a"]).await;
    let index = Arc::new(OnlyCommits { refuses: true, ..OnlyCommits::default() });
    let runner = Runner::new(world.connection.clone(), Obedient::new(), Some(index), config());
    let error = runner.run(CancellationToken::new()).await.expect_err("it halts");
    let told = error.to_string();
    assert!(matches!(error, RunError::Halted { .. }) && told.contains("free some disk"), "{told}");
    assert_eq!((world.stream_len(VERDICTS).await, world.stream_len(UPLOADS).await), (0, 1));
}
