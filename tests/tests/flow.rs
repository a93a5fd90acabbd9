//! One crowd, all seven stages, real broker, index and model.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result};
use dih_tests::{Photo, Verdict, World, clothing, readers_python, repository, shared_data, write_csv};
use serde_json::Value;

fn count(verdicts: &[Verdict]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for verdict in verdicts {
        *counts.entry(verdict.verdict.as_str()).or_default() += 1;
    }
    counts
}

fn import(world: &World, dir: &Path, photos: &[Photo]) -> Result<()> {
    let csv = world.home().join("import.csv");
    write_csv(&csv, photos)?;
    world.run(&["import", &dir.to_string_lossy(), "--labels", &csv.to_string_lossy()])?;
    Ok(())
}

/// Held against stock readers: whoever opens the version needs none of our code.
fn opens_in_stock_readers(world: &World, version: &str, members: usize) -> Result<()> {
    let out = world.home().join("stock");
    for format in ["parquet", "webdataset", "image-folder"] {
        let target = out.join(format);
        world.run(&["datasets", "export", version, "--format", format, &target.to_string_lossy()])?;
    }
    let script = repository().join("tests/readers/open.py");
    let files = world.home().join("blobs/datasets").join(version.replace('@', "/"));
    let mut read = Command::new(readers_python()?);
    read.arg(script).arg(&out).arg(members.to_string()).arg(files);
    // The reader unpacks archives by their names, and would find those of an earlier run in a folder that all share.
    let read = read.env("CROISSANT_CACHE", world.home().join("croissant")).output()?;
    let errors = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "a stock reader could not open the version: {errors}");
    Ok(())
}

#[test]
fn a_simulated_crowd_becomes_a_clean_data_set_and_a_model() -> Result<()> {
    let world = World::new()?;
    let photos = dih_tests::tools()?.join("photos");
    let photos = photos.to_string_lossy();
    world.run(&["simulate", &photos, "--uploads", "240", "--devices", "6", "--seed", "3"])?;
    world.run(&["run", "--until-idle"])?;
    let uploads = world.run_json(&["audit", "--json"])?["uploads"].as_u64().context("uploads")?;
    world.audit_is_clean(uploads)?;
    let verdicts = world.verdicts()?;
    assert_eq!(verdicts.len() as u64, uploads, "one line an upload");
    let counts = count(&verdicts);
    assert!(counts.get("curated").is_some_and(|n| *n > 60), "{counts:?}");
    assert!(counts.get("duplicate").is_some_and(|n| *n > 5), "{counts:?}");
    assert!(counts.get("rejected").is_some_and(|n| *n > 0), "{counts:?}");
    let by_state = world.run(&["count", "--by", "state", "--json"])?;
    let states = by_state.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let curated = states.iter().find(|line| line["value"] == "curated").context("curated")?;
    assert_eq!(curated["photos"], counts["curated"], "{by_state}");

    world.run(&["datasets", "create", "crowd"])?;
    let cut = world.run_json(&["datasets", "cut", "crowd", "--json"])?;
    let members = cut["members"].as_u64().context("members")?;
    let held = cut["held"].as_u64().context("held")?;
    assert_eq!(members + held, counts["curated"] as u64, "every curated photo is a member or held: {cut}");
    world.run(&["datasets", "verify", "crowd@1"])?;
    opens_in_stock_readers(&world, "crowd@1", members as usize)?;

    let trained = world.run_json(&["train", "crowd@1", "--json"])?;
    let accuracy = trained["accuracy"].as_f64().context("accuracy")?;
    assert!((0.3..=1.0).contains(&accuracy), "{trained}");
    let model = trained["model"].as_str().context("model")?;
    assert!(Path::new(model).exists(), "{model} was printed but is not there");
    Ok(())
}

#[test]
fn asking_for_what_is_not_there_is_answered_with_what_to_do() -> Result<()> {
    let world = World::new()?;
    let cut = world.try_run(&["datasets", "cut", "nowhere"])?;
    assert!(!cut.status.success());
    assert!(String::from_utf8_lossy(&cut.stderr).contains("nowhere"), "{cut:?}");
    let train = world.try_run(&["train", "nowhere@1"])?;
    assert!(!train.status.success());
    Ok(())
}

#[test]
fn every_hostile_file_gets_one_verdict_with_a_reason() -> Result<()> {
    let Some(data) = shared_data() else { return Ok(()) };
    let world = World::new()?;
    let manifest = data.join("hostile/manifest.csv");
    let mut rows = csv::Reader::from_path(&manifest)?;
    let mut expected = BTreeMap::new();
    let mut photos = Vec::new();
    for row in rows.records() {
        let row = row?;
        let file = row.get(0).context("file")?.to_owned();
        expected.insert(file.clone(), row.get(2).context("expect")?.to_owned());
        photos.push(Photo { file, label: "thing".into(), split: String::new() });
    }
    import(&world, &data.join("hostile"), &photos)?;
    world.run(&["run", "--until-idle"])?;
    world.audit_is_clean(photos.len() as u64)?;
    for verdict in world.verdicts()? {
        assert!(!verdict.reason.is_empty(), "{} has no reason", verdict.source);
        let refused = verdict.verdict == "rejected";
        match expected.get(&verdict.source).map(String::as_str) {
            Some("reject") => assert!(refused, "{} should be refused: {}", verdict.source, verdict.json),
            Some("accept") => assert!(!refused, "{} should be taken: {}", verdict.source, verdict.json),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn the_order_of_arrival_hardly_changes_what_is_published() -> Result<()> {
    let Some(data) = shared_data() else { return Ok(()) };
    let mut published = Vec::new();
    for seed in [1, 2] {
        let world = World::new()?;
        let (dir, mut photos) = clothing(&data, 11)?;
        photos.truncate(240);
        if seed == 2 {
            photos.reverse();
        }
        import(&world, &dir, &photos)?;
        world.run(&["run", "--until-idle"])?;
        world.run(&["datasets", "create", "clothing"])?;
        world.run(&["datasets", "cut", "clothing"])?;
        let members: std::collections::BTreeSet<_> = world.members("clothing@1")?.into_iter().map(|m| m.0).collect();
        published.push(members);
    }
    let differ = published[0].symmetric_difference(&published[1]).count();
    let most = published[0].len().max(published[1].len()) / 100 * 2; // a repeat and its earliest count as one, here as two
    assert!(differ <= most, "{differ} of {} members differ", published[0].len());
    Ok(())
}
