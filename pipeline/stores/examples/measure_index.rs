//! Prints how fast the embedded index is here: `cargo run --release -p dih-stores --features contract --example
//! measure_index -- 20000 1280`.

use std::{fs, time::Instant};

use dih_core::{
    event::VectorSpace,
    ports::{Among, Index, Select, StoreError},
    record::{Change, State},
};
use dih_stores::{contract::sample, index::EdgeIndex};

/// Images between two commits.
const BATCH: u64 = 32;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |i, default| std::env::args().nth(i).map_or(Ok(default), |arg| arg.parse());
    let (images, numbers) = (number(1, 2_000)?, number(2, 1_280)?);
    let home = tempfile::tempdir()?;
    let space = VectorSpace("measure-f32".into());
    let spaces = [(space.clone(), numbers as usize)];
    let index = EdgeIndex::open(home.path(), &spaces)?;
    let vector = |n: u64| -> Vec<f32> { (0..numbers).map(|i| sample::scatter(n << 16 | i) as i32 as f32).collect() };
    println!("{images} images, vectors of {numbers} numbers, a commit every {BATCH} images; {}", memory());

    let (began, mut flushes) = (Instant::now(), Vec::new());
    for n in 0..images {
        index.claim(&sample::record(n)).await?;
        index.put_vector(sample::id(n), &space, &vector(n)).await?;
        index.change(sample::id(n), &Change::to(State::Clustered)).await?;
        if n % BATCH == 0 {
            let flush = Instant::now();
            index.commit().await?;
            flushes.push(flush.elapsed().as_secs_f64() * 1e3);
        }
    }
    flushes.sort_by(f64::total_cmp);
    let flushing: f64 = flushes.iter().sum::<f64>() / 1e3;
    let writing = began.elapsed().as_secs_f64() - flushing;
    println!(
        "claim + vector + change: {:.0} images/s without commits, {:.0} with",
        images as f64 / writing,
        images as f64 / (writing + flushing)
    );
    println!("commit: median {:.1} ms, worst {:.1} ms", flushes[flushes.len() / 2], flushes[flushes.len() - 1]);
    println!("{}; disk {} MiB", memory(), disk(home.path())? >> 20);
    search(&index, &space, images, &vector).await?;

    drop(index);
    let open = Instant::now();
    let index = EdgeIndex::open(home.path(), &spaces)?;
    println!("open: {:.0} ms; {}", open.elapsed().as_secs_f64() * 1e3, memory());
    let walk = Instant::now();
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = index.page(&Select::default(), after, 500, Some(&space)).await?;
        seen += page.records.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    println!("page: {:.0} records/s of {seen}; {}", seen as f64 / walk.elapsed().as_secs_f64(), memory());
    Ok(())
}

async fn search(
    index: &EdgeIndex,
    space: &VectorSpace,
    images: u64,
    vector: &impl Fn(u64) -> Vec<f32>,
) -> Result<(), StoreError> {
    const SEARCHES: u64 = 100;
    let rate = |began: Instant| SEARCHES as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    for n in 0..SEARCHES {
        let queries: Vec<_> = sample::record(n * 7 % images).image.fingerprints.queries(10).collect();
        index.near_fingerprints(&queries, &[Among::default()], 16).await?;
    }
    let fingerprints = rate(began);
    let queries: Vec<_> = (0..SEARCHES).map(|n| vector(n * 7 % images)).collect();
    let (began, mut found) = (Instant::now(), 0);
    for (n, query) in queries.iter().enumerate() {
        let near = index.near_vectors(space, query, 0.2, Among::states(&[State::Clustered]), 16).await?;
        found += u64::from(near.first().is_some_and(|near| near.image.order.0 == n as u64 * 7 % images));
    }
    println!(
        "searches/s: fingerprints as they are and turned {fingerprints:.0}, vectors by state {:.0} ({found} of {SEARCHES} found themselves); {}",
        rate(began),
        memory()
    );
    Ok(())
}

/// Resident memory of this process, and the part of it that no file backs.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let mib = |name| line(name).map_or("?".into(), |kib| (kib >> 10).to_string());
    format!("RSS {} MiB (anonymous {} MiB, peak {} MiB)", mib("VmRSS:"), mib("RssAnon:"), mib("VmHWM:"))
}

/// Bytes that the files below a folder take on the disk.
fn disk(folder: &std::path::Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let (path, meta) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        Ok(sum + if meta.is_dir() { disk(&path)? } else { meta.blocks() * 512 })
    })
}
