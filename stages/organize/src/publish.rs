//! Writes the files of a version.
//!
//! Takes  a plan and what is known of its members. Gives shards, manifest, held list, splits, revisions, numbers,
//!        description, card and sheet, and `version.json` over all of them, last.
//! Crash  leaves files that nothing names; the next try writes the same or better ones over them.

use std::{collections::BTreeMap, io::Write, path::Path};

use bytes::Bytes;
use dih_core::{BlobKey, Class, ImageId, StageError, VersionId, event::VectorSpace, record::State};

use crate::{
    assemble::Assembler,
    card, croissant,
    cut::Cut,
    datasets::Definition,
    manifest::{self, Writer},
    plan::{Placed, Plan},
    revise::Revision,
    shards,
    sheet::{self, SAMPLES, STRIPS_MAX, Strip},
    splits::Split,
    stats::{Judged, Stats},
    version::{self, FileEntry, ShardEntry, Version},
};

/// Files of a version while they are written.
struct Files<'a> {
    cut: &'a Cut,
    id: &'a VersionId,
    written: Vec<FileEntry>,
}

impl Files<'_> {
    async fn put(&mut self, name: &str, bytes: impl Into<Bytes>) -> Result<(), StageError> {
        let bytes: Bytes = bytes.into();
        let key = version::key(self.id, name)?;
        let sha256 = version::sha256_hex(&bytes);
        self.written.push(FileEntry { name: name.into(), key: key.clone(), bytes: bytes.len() as u64, sha256 });
        Ok(self.cut.blobs.put(&key, bytes).await?)
    }

    async fn put_json<T: serde::Serialize>(&mut self, name: &str, value: &T) -> Result<(), StageError> {
        let mut json = serde_json::to_vec_pretty(value).map_err(|e| StageError::new(Class::BadInput, e))?;
        json.push(b'\n');
        self.put(name, json).await
    }

    /// Stores a file of this disk without reading it whole.
    async fn put_disk(&mut self, name: &str, path: &Path) -> Result<(), StageError> {
        let disk = path.to_owned();
        let hashed = self.cut.bench.run(move || hash_file(&disk)).await?;
        let (bytes, sha256) = hashed.map_err(|e| StageError::new(Class::Retry, e))?;
        let key = version::key(self.id, name)?;
        self.cut.blobs.put_file(&key, path).await?;
        self.written.push(FileEntry { name: name.into(), key, bytes, sha256 });
        Ok(())
    }
}

fn hash_file(path: &Path) -> std::io::Result<(u64, String)> {
    use sha2::{Digest, Sha256};
    struct Hashing(Sha256);
    impl Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(Sha256::new());
    let bytes = std::io::copy(&mut std::fs::File::open(path)?, &mut hashing)?;
    Ok((bytes, version::hex(&hashing.0.finalize())))
}

impl Cut {
    /// Writes all files of a version, `version.json` last.
    pub(crate) async fn write(
        &self,
        id: &VersionId,
        definition: &Definition,
        assembler: &Assembler<'_>,
        plan: &Plan,
    ) -> Result<(), StageError> {
        let disk = tempfile::tempdir().map_err(|e| StageError::new(Class::Retry, e))?;
        let mut stats = Stats {
            version: Some(id.clone()),
            below_label_score: assembler.gathered.below_score,
            beyond_cluster_cap: plan.capped,
            above_outlier_max: plan.outliers,
            too_alike: plan.alike,
            between_splits: plan.between,
            labels_judged: assembler.looked.found.as_ref().map(|found| Judged::of(found, &assembler.gathered.devices)),
            definition: definition.clone(),
            ..Stats::default()
        };
        let mut files = Files { cut: self, id, written: Vec::new() };
        let (shards, shard_of) = match definition.shards {
            true => self.write_shards(id, assembler, plan).await?,
            false => (Vec::new(), BTreeMap::new()),
        };
        self.write_rows(&mut files, disk.path(), assembler, plan, &shard_of, &mut stats).await?;
        files.put(version::SPLITS, manifest::splits::encode(&plan.given)?).await?;
        files.put_json(version::REVISIONS, &revisions(definition, assembler, plan, &self.space)?).await?;
        files.put_json(version::STATS, &stats).await?;
        let classes = &assembler.gathered.classes;
        let described = croissant::croissant(&stats, classes, &files.written, &shards);
        files.put_json(version::CROISSANT, &described).await?;
        let card = card::card(&stats, &self.space.0, &self.config) + &self.places.section(stats.labels.keys());
        files.put(version::CARD, card).await?;
        files.put(version::SHEET, self.sheet(assembler, plan).await?).await?;
        let index = Version {
            version: id.clone(),
            members: stats.members,
            held: stats.held,
            classes: classes.clone(),
            labels: stats.label_totals(),
            space: self.space.clone(),
            definition: definition.clone(),
            files: std::mem::take(&mut files.written),
            shards,
        };
        files.put_json(version::INDEX, &index).await
    }

    /// `manifest.parquet` and `held.parquet`, a row at a time; counts what is in them.
    async fn write_rows(
        &self,
        files: &mut Files<'_>,
        disk: &Path,
        assembler: &Assembler<'_>,
        plan: &Plan,
        shard_of: &BTreeMap<(Split, u32), BlobKey>,
        stats: &mut Stats,
    ) -> Result<(), StageError> {
        let buckets = Buckets::of(assembler, plan, self.config.shard_photos.get());
        let path = disk.join(version::MANIFEST);
        let mut writer = Writer::create(&path, version::MANIFEST, false)?;
        for placed in &plan.published {
            let known = assembler.known(placed).await?;
            let row = assembler.row(placed, &known, shard_of.get(&buckets.bucket(assembler, placed)), false)?;
            stats.count(&row);
            if let Some(author) = known.own.image.attributes.get("author") {
                stats.count_author(author);
            }
            writer.put(row)?;
        }
        writer.finish()?;
        files.put_disk(version::MANIFEST, &path).await?;

        let path = disk.join(version::HELD);
        let mut writer = Writer::create(&path, version::HELD, true)?;
        for placed in &plan.held {
            let known = assembler.known(placed).await?;
            let row = assembler.row(placed, &known, None, true)?;
            stats.count_held(&row);
            writer.put(row)?;
        }
        writer.finish()?;
        files.put_disk(version::HELD, &path).await
    }

    async fn write_shards(
        &self,
        id: &VersionId,
        assembler: &Assembler<'_>,
        plan: &Plan,
    ) -> Result<(Vec<ShardEntry>, BTreeMap<(Split, u32), BlobKey>), StageError> {
        let buckets = Buckets::of(assembler, plan, self.config.shard_photos.get());
        let mut members: BTreeMap<(Split, u32), Vec<&Placed>> = BTreeMap::new();
        for placed in &plan.published {
            members.entry(buckets.bucket(assembler, placed)).or_default().push(placed);
        }
        let mut shards = Vec::with_capacity(members.len());
        let mut keys = BTreeMap::new();
        for ((split, bucket), placed) in members {
            let mut samples = Vec::with_capacity(placed.len());
            for placed in placed {
                samples.push(assembler.sample(placed, &assembler.known(placed).await?));
            }
            samples.sort_by_key(|s| s.image);
            let concurrency = self.config.concurrency.get();
            let entry = shards::write(&*self.blobs, &self.studio, &id.dataset, split, samples, concurrency).await?;
            keys.insert((split, bucket), entry.key.clone());
            shards.push(entry);
        }
        Ok((shards, keys))
    }

    /// Samples of the labels with most photos.
    async fn sheet(&self, assembler: &Assembler<'_>, plan: &Plan) -> Result<Vec<u8>, StageError> {
        let mut by_class: BTreeMap<u32, Vec<ImageId>> = BTreeMap::new();
        for placed in &plan.published {
            let member = assembler.member(placed);
            if let Some(class) = member.labels.first() {
                by_class.entry(*class).or_default().push(member.kept);
            }
        }
        let mut ranked: Vec<(u32, Vec<ImageId>)> = by_class.into_iter().collect();
        ranked.sort_by_key(|(class, images)| (std::cmp::Reverse(images.len()), *class));
        ranked.truncate(STRIPS_MAX);
        ranked.sort_by_key(|(class, _)| *class);
        let mut strips = Vec::with_capacity(ranked.len());
        for (class, images) in ranked {
            let mut pictures = Vec::with_capacity(SAMPLES);
            for image in images.iter().take(SAMPLES) {
                pictures.push(self.studio.picture(&*self.blobs, *image).await?);
            }
            let title = format!("{} ({})", assembler.gathered.classes[class as usize], images.len());
            strips.push(Strip { title, pictures });
        }
        let drawn = self.bench.run(move || sheet::sheet(&strips)).await?;
        drawn.map_err(|e| StageError::new(Class::BadInput, e))
    }
}

/// Which shard each photo is in.
struct Buckets {
    photos: [usize; 3],
    photos_max: usize,
}

impl Buckets {
    fn of(_: &Assembler<'_>, plan: &Plan, photos_max: usize) -> Self {
        let count = |split| plan.published.iter().filter(|p| p.given.split == split).count();
        Self { photos: Split::ALL.map(count), photos_max }
    }

    fn bucket(&self, assembler: &Assembler<'_>, placed: &Placed) -> (Split, u32) {
        let split = placed.given.split;
        let photos = self.photos[split as usize];
        (split, shards::bucket(assembler.member(placed).kept, photos, self.photos_max))
    }
}

/// Who is newly held and who is cleared, by the states as they were read.
fn revisions(
    definition: &Definition,
    assembler: &Assembler<'_>,
    plan: &Plan,
    space: &VectorSpace,
) -> Result<Vec<Revision>, StageError> {
    let (members, judgements) = (&assembler.gathered.members, &assembler.looked.judgements);
    let held = plan.held.iter().map(|p| p.member as usize).filter(|at| !members[*at].was_held);
    let fine = |at: &usize| judgements[*at].p_label_wrong.is_some() && !judgements[*at].hold;
    // A data set that holds nobody back has no say in the status of photos.
    let cleared = (0..members.len()).filter(|at| definition.hold && members[*at].was_held && fine(at));
    let changes = held.map(|at| (at, State::Held)).chain(cleared.map(|at| (at, State::Curated)));
    let revision = |(at, to): (usize, State)| {
        let (member, judgement) = (&members[at], &judgements[at]);
        let epoch = assembler.gathered.spool.record(member.record)?.epoch.next();
        Ok(Revision {
            image: member.image,
            to,
            epoch,
            p_label_wrong: judgement.p_label_wrong,
            threshold: judgement.threshold,
            suggested: judgement.suggested.map(|class| assembler.gathered.classes[class as usize].clone()),
            evidence: judgement.spelled(),
            model: space.0.clone(),
        })
    };
    changes.map(revision).collect()
}
