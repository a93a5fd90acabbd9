//! `README.md`: the data card, for people. Pure.

use std::fmt::{self, Write};

use crate::{
    config::Config,
    datasets::Keep,
    splits::Split,
    stats::{Judged, Stats},
};

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
    match &stats.labels_judged {
        Some(judged) => write_judged(out, judged, space, definition.hold)?,
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
    if let Some(max) = definition.outlier_max {
        writeln!(out, "- Left out: {} outliers (score above {max}).", stats.above_outlier_max)?;
    }
    if let Some(cap) = definition.cluster_cap {
        writeln!(out, "- Left out: {} photos beyond {cap} of a cluster.", stats.beyond_cluster_cap)?;
    }
    let of_all = definition.diverse.map(|n| format!("the {n} most different photos"));
    let picked =
        definition.diverse_per_label.map(|n| format!("the {n} most different photos of each label")).or(of_all);
    if let Some(picked) = picked {
        writeln!(out, "- Only {picked} are in here (k-centre, Gonzalez 1985); left out: {}.", stats.too_alike)?;
    }
    if stats.between_splits > 0 {
        writeln!(
            out,
            "- Left out: {} photos that look like older photos of two splits; in either they would tell of the other.",
            stats.between_splits
        )?;
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
        ("held.parquet", "photos held back, the most doubtful first, with the label that fits better and what says so"),
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

/// Contributors named in the card; more are in `stats.json`.
const CONTRIBUTORS_NAMED: usize = 5;

fn write_judged(out: &mut String, judged: &Judged, space: &str, hold: bool) -> fmt::Result {
    writeln!(
        out,
        "- Every label got a second look (vectors `{space}`, cross-validated probe, neighbours, votes, classifier, record \
         of the device):\n  {:.1} % are expected to be wrong. Photos whose label is wrong with a probability of at least \
         {:.2} are {}.",
        100.0 * judged.expected_wrong,
        judged.hold_threshold,
        if hold { "in `held.parquet`, not in here" } else { "marked, but published" }
    )?;
    if let Some(precision) = judged.expected_precision {
        writeln!(out, "  Of these, {:.0} % are expected to be wrong.", 100.0 * precision)?;
    }
    let known = judged.contributors.iter().filter(|c| c.expected_wrong > 2.0 * judged.expected_wrong);
    let named: Vec<String> = known
        .take(CONTRIBUTORS_NAMED)
        .map(|c| format!("{} ({:.0} % of {})", escape(&c.device), 100.0 * c.expected_wrong, c.labels))
        .collect();
    match named.is_empty() {
        true => Ok(()),
        false => writeln!(out, "- Devices whose labels are wrong more than twice as often: {}.", named.join(", ")),
    }
}

fn kept(keep: Keep) -> &'static str {
    match keep {
        Keep::Earliest => "earliest",
        Keep::Largest => "largest",
        Keep::Sharpest => "sharpest",
    }
}

/// Uploaders choose labels, licences and names: they must not become markup.
pub(crate) fn escape(text: &str) -> String {
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
