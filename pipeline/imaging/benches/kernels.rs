//! The cost of each step on the way from bytes to a decoded picture: 0.2 MP, and 12 MP for the scaled decode.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dih_imaging::{Limits, Preview, fingerprint::Grey, measures_of, picture_jpeg, read, sample};

fn kernels(c: &mut Criterion) {
    let limits = Limits::default();
    let small = sample::jpeg(1, 400, 500, 90);
    let large = sample::jpeg(1, 4000, 3000, 90);
    let preview = read(&small, &limits).expect("a sample is a whole photo").preview;
    let stored = preview.to_jpeg();
    let luma = preview.luma();

    c.bench_function("read 0.2 MP", |b| b.iter(|| read(black_box(&small), &limits)));
    c.bench_function("read 12 MP", |b| b.iter(|| read(black_box(&large), &limits)));
    c.bench_function("publish 0.2 MP", |b| b.iter(|| picture_jpeg(black_box(&small), &limits, 512, 85)));
    c.bench_function("measures", |b| b.iter(|| measures_of(black_box(&preview))));
    c.bench_function("fingerprints", |b| b.iter(|| Grey::of(black_box(&luma)).fingerprints()));
    c.bench_function("preview to JPEG", |b| b.iter(|| black_box(&preview).to_jpeg()));
    c.bench_function("preview from JPEG", |b| b.iter(|| Preview::from_jpeg(black_box(&stored))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = kernels
}
criterion_main!(benches);
