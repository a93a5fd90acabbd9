//! `dih bench` measures what it says, and what it measures is good enough to be shipped.

use anyhow::{Context, Result};
use dih_tests::World;

fn bench(what: &str, uploads: &str) -> Result<serde_json::Value> {
    let world = World::new()?;
    let photos = dih_tests::tools()?.join("photos");
    world.run_json(&[
        "bench",
        what,
        &photos.to_string_lossy(),
        "--shots",
        "--uploads",
        uploads,
        "--seed",
        "5",
        "--json",
    ])
}

fn number(figures: &serde_json::Value, name: &str) -> Result<f64> {
    figures.pointer(name).and_then(serde_json::Value::as_f64).with_context(|| format!("{name} is missing: {figures}"))
}

#[test]
fn edited_copies_are_found_and_no_two_photos_are_taken_for_one() -> Result<()> {
    let figures = bench("repeats", "120")?;
    let hits = number(&figures, "/score/hits")?;
    let missed = figures["missed"].as_array().context("what was missed")?;
    // The camera shakes: a shot that is refused for its quality has no copies, and is none.
    let refused = |of: &serde_json::Value| of["verdict"] == "rejected" || of["of_verdict"] == "rejected";
    let misses = missed.iter().filter(|of| !refused(of)).count();
    assert!(hits >= 40.0 && misses <= 2, "{figures}");
    assert_eq!(number(&figures, "/score/false_alarms")?, 0.0, "{figures}");
    Ok(())
}

#[test]
fn wrong_labels_are_held_before_others() -> Result<()> {
    let figures = bench("labels", "240")?;
    assert!(number(&figures, "/wrong")? >= 10.0, "{figures}");
    assert!(number(&figures, "/average_precision")? > 0.8, "{figures}");
    Ok(())
}

#[test]
fn the_process_stays_below_700_mib() -> Result<()> {
    let figures = bench("memory", "120")?;
    assert_eq!(number(&figures, "/photos")?, 120.0, "{figures}");
    let peak = number(&figures, "/peak_mib")?;
    assert!((50.0..700.0).contains(&peak), "{figures}");
    Ok(())
}
