//! The cost of each step on the way from bytes to a decoded picture, 0.2 MP, and 12 MP for the scaled decode; and of
//! comparing two pictures.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use dih_imaging::{
    Limits, Preview,
    confirm::{Described, Policy, look, prove},
    fingerprint::Grey,
    measures_of, picture_jpeg, read, sample,
};

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

/// A photo and a copy of lower quality.
fn comparison(c: &mut Criterion) {
    let (limits, policy) = (Limits::default(), Policy::default());
    let shot = |quality| read(&sample::jpeg(1, 400, 500, quality), &limits).expect("a sample is a whole photo").preview;
    let (photo, copy) = (shot(90), shot(30));
    let described = |preview: &Preview| Described::of(preview).expect("a preview is a picture");
    let (original, repeat) = (described(&photo), described(&copy));
    let seen = look(&repeat.glance, &original.glance, &policy).expect("a copy looks alike");

    c.bench_function("describe", |b| b.iter(|| described(black_box(&photo))));
    c.bench_function("look", |b| b.iter(|| look(black_box(&repeat.glance), &original.glance, &policy)));
    c.bench_function("prove", |b| b.iter(|| prove(&seen, black_box(&repeat.features), &original.features, &policy)));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = kernels, comparison
}
criterion_main!(benches);
