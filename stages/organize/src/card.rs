//! `README.md`: the data card, for people. Pure.

use std::fmt::{self, Write};

use crate::{config::Config, datasets::Keep, splits::Split, stats::Stats};

/// Labels listed one by one; the rest is in `stats.json`.
const LABELS_MAX: usize = 200;

/// Writes the data card of a version.
pub(crate) fn card(stats: &Stats, space: &str, config: &Config) -> String {
    let mut text = String::new();
    write(&mut text, stats, space, config).expect("a string takes any text");
    text
}

fn write(out: &mut String, stats: &Stats, space: &str, config: &Config) -> fmt::Result {
    let definition = &stats.definition;
    let version = stats.version.as_ref().map(ToString::to_string).unwrap_or_default();
    writeln!(out, "# {}\n", definition.title.as_deref().unwrap_or(&version))?;
    if let Some(description) = &definition.description {
        writeln!(out, "{description}\n")?;
    }
    writeln!(
        out,
        "Version `{version}`: {} photos of {} labels, from {} devices. {} more are held back because their label looks \
         wrong.\nThis version never changes; every file is listed with its SHA-256 in `version.json`.\n",
        stats.members,
        stats.labels.len(),
        stats.devices,
        stats.held
    )?;

    writeln!(out, "## Photos\n\n| label | train | val | test | held |\n|---|---:|---:|---:|---:|")?;
    for label in stats.labels.keys().take(LABELS_MAX) {
        let [train, val, test] = Split::ALL.map(|split| stats.of(label, split));
        let held = stats.held_labels.get(label).copied().unwrap_or(0);
        writeln!(out, "| {} | {train} | {val} | {test} | {held} |", escape(label.as_str()))?;
    }
    if stats.labels.len() > LABELS_MAX {
        writeln!(out, "\n{} more labels: see `stats.json`.", stats.labels.len() - LABELS_MAX)?;
    }

    writeln!(out, "\n## How it was made\n")?;
    writeln!(out, "- Photos are uploads of devices: decoded once, turned upright, stripped of metadata, published as")?;
    writeln!(
        out,
        "  JPEG with a longest side of {} px. Broken ones and those below the quality rules",
        config.picture_side
    )?;
    writeln!(out, "  were refused before.")?;
    writeln!(
        out,
        "- Repeats (recompressed, resized, cropped, mirrored) are published once: the {}.",
        kept(definition.keep)
    )?;
    writeln!(out, "- A label is what most uploads of a photo say; of an even split, the earliest.")?;
    match stats.hold_threshold {
        Some(threshold) => writeln!(
            out,
            "- Every label got a second look by a model that had not seen it (vectors `{space}`, cross-validated): \
             photos whose label is wrong\n  with a probability of at least {threshold:.2} are {}.",
            if definition.hold { "in `held.parquet`, not in here" } else { "marked, but published" }
        )?,
        None => writeln!(out, "- There were too few photos for a second look at the labels.")?,
    }
    writeln!(
        out,
        "- Splits follow clusters of look-alikes (cosine from {}): {} clusters, the largest of {} photos. A photo keeps \
         its split in every\n  later version.",
        config.link_cosine, stats.clusters, stats.largest_cluster
    )?;
    if definition.label_score_min > 0.0 {
        writeln!(
            out,
            "- Left out: {} photos whose label the classifier scored below {}.",
            stats.below_label_score, definition.label_score_min
        )?;
    }
    if let Some(cap) = definition.cluster_cap {
        writeln!(out, "- Left out: {} photos beyond {cap} of a cluster.", stats.beyond_cluster_cap)?;
    }

    writeln!(out, "\n## Licences and attributions\n")?;
    if let Some(licence) = &definition.licence {
        writeln!(out, "The collection: {licence}.\n")?;
    }
    writeln!(out, "| licence | photos |\n|---|---:|")?;
    for (licence, photos) in &stats.licences {
        writeln!(out, "| {} | {photos} |", escape(licence))?;
    }
    if !stats.authors.is_empty() {
        let authors: Vec<String> = stats.authors.iter().map(|(name, n)| format!("{} ({n})", escape(name))).collect();
        writeln!(out, "\nPhotos by {}. The manifest names the author and source of each.", authors.join(", "))?;
    }

    writeln!(out, "\n## Known weaknesses\n")?;
    writeln!(out, "- Labels are the claims of uploaders. Mistakes that most of them share are not found.")?;
    writeln!(out, "- The second look knows a photo only by its vector: fine differences may be lost on it.")?;
    if stats.straddling_clusters > 0 {
        writeln!(
            out,
            "- {} clusters stand in more than one split: their members had their splits before a later photo joined them.",
            stats.straddling_clusters
        )?;
    }
    if stats.disputed > 0 {
        writeln!(out, "- On {} photos the uploads disagree; see `votes` and `votes_agreeing`.", stats.disputed)?;
    }
    if stats.without_vector > 0 {
        writeln!(
            out,
            "- {} photos have no vector of this model, so nothing doubts or groups them.",
            stats.without_vector
        )?;
    }

    writeln!(out, "\n## Files\n")?;
    for (name, what) in [
        ("manifest.parquet", "one row a photo: labels, split, scores, cluster, measures, licence, lineage, vector"),
        ("held.parquet", "photos held back, the most doubtful first, with the label that fits better"),
        (
            "../shards/*.tar",
            "WebDataset: `<image>.jpg`, `<image>.json`, `<image>.cls` (place in `classes` of `version.json`)",
        ),
        ("croissant.json", "description for machines"),
        ("stats.json", "the numbers of this card"),
        ("preview.jpg", "samples of each label"),
    ] {
        writeln!(out, "- `{name}`: {what}")?;
    }
    Ok(())
}

fn kept(keep: Keep) -> &'static str {
    match keep {
        Keep::Earliest => "earliest",
        Keep::Largest => "largest",
        Keep::Sharpest => "sharpest",
    }
}

/// Uploaders choose labels, licences and names: they must not become markup.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' => safe.extend(['\\', c]),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_uploaders_write_does_not_become_markup() {
        assert_eq!(escape("a|b <script>\n[x](y)"), "a\\|b &lt;script&gt; \\[x\\](y)");
    }
}
