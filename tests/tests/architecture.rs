//! Who may know whom, held against `cargo metadata`.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result};
use dih_tests::repository;
use serde_json::Value;

/// Crate -> names of its normal and build dependencies.
fn dependencies() -> Result<BTreeMap<String, Vec<String>>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()?;
    let metadata: Value = serde_json::from_slice(&metadata.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let name = |v: &Value| v["name"].as_str().unwrap_or_default().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|d| d["kind"] != "dev").map(name).collect()
    };
    Ok(packages.iter().map(|p| (name(p), of(p))).collect())
}

const STAGES: [&str; 7] =
    ["dih-ingest", "dih-dedupe", "dih-verify", "dih-embed", "dih-cluster", "dih-organize", "dih-train"];

/// What each crate of ours may depend on, of ours.
fn allowed(name: &str) -> &'static [&'static str] {
    match name {
        "dih-core" => &[],
        "dih-proto" | "dih-imaging" | "dih-inference" | "dih-stores" => &["dih-core"],
        "dih-learning" | "dih-taxonomy" => &["dih-core"],
        "dih-openimages" => &["dih-core", "dih-taxonomy"],
        "dih-previews" => &["dih-core", "dih-imaging"],
        "dih-repeats" => &["dih-core", "dih-imaging", "dih-previews"],
        "dih-runner" => &["dih-core", "dih-proto"],
        "dih-ingest" => &["dih-core", "dih-imaging", "dih-previews"],
        "dih-organize" => &["dih-core", "dih-imaging", "dih-learning", "dih-repeats"],
        "dih-dedupe" | "dih-embed" | "dih-cluster" => &["dih-core", "dih-repeats"],
        "dih-verify" => &["dih-core", "dih-repeats", "dih-taxonomy"],
        "dih-train" => &["dih-core", "dih-imaging", "dih-previews", "dih-inference", "dih-learning", "dih-proto"],
        _ => &[],
    }
}

#[test]
fn crates_of_ours_know_only_whom_they_may() -> Result<()> {
    let dependencies = dependencies()?;
    assert!(dependencies.len() >= 15, "the workspace was read: {dependencies:?}");
    for (name, known) in dependencies.iter().filter(|(name, _)| !matches!(name.as_str(), "dih" | "dih-tests")) {
        for other in known.iter().filter(|d| d.starts_with("dih")) {
            assert!(allowed(name).contains(&other.as_str()), "{name} must not know {other}");
        }
    }
    Ok(())
}

#[test]
fn a_client_library_stays_in_the_crate_that_adapts_it() -> Result<()> {
    let homes: [(&str, &[&str]); 9] = [
        ("prost", &["dih-proto"]),
        ("async-nats", &["dih-runner", "dih-stores"]),
        ("qdrant-edge", &["dih-stores"]),
        ("qdrant-client", &["dih-stores"]),
        ("fjall", &["dih-stores"]),
        ("object_store", &["dih-stores"]),
        ("minio", &["dih-stores"]),
        ("ort", &["dih-inference"]),
        ("image", &["dih-imaging", "dih-train", "dih-organize", "dih"]),
    ];
    for (name, known) in dependencies()? {
        for (library, may) in homes {
            let knows = known.iter().any(|d| d == library);
            assert!(!knows || may.contains(&name.as_str()), "{name} must not know {library}");
        }
    }
    Ok(())
}

#[test]
fn no_stage_knows_another_stage() -> Result<()> {
    let dependencies = dependencies()?;
    for stage in STAGES {
        let known = dependencies.get(stage).with_context(|| format!("{stage} is in the workspace"))?;
        assert!(!known.iter().any(|d| STAGES.contains(&d.as_str())), "{stage} knows a stage: {known:?}");
    }
    Ok(())
}
