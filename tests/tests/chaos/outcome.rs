//! What came of a run, and what of it must be the same whatever struck.
//!
//! Holds    the same dead letters; for each content the same verdicts, as repeats of the same contents; the same photos
//!          published, each with the same label and split.
//! Weak at  from [`EXACT`] vectors on the index searches by cells, which hang on the order: some repeats are then found in one
//!          run only. In a crowd that is larger, so few contents may differ; they are counted and told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use dih_runner::{Connection, dead};
use dih_tests::{World, fleet::publish};

/// Up to so many vectors the index compares all; see `cells.rs` there.
const EXACT: usize = 8_192;
/// One content in so many may differ where it does not.
const ONE_IN: usize = 500;

#[derive(Debug)]
pub(crate) struct Outcome {
    /// Image, label and split.
    pub(crate) members: BTreeSet<(String, String, String)>,
    /// Of each content what holds for its uploads in the end. Which of equal uploads is answered for the content, and which as
    /// its repeat, is chance: whoever was processed first.
    verdicts: BTreeMap<String, Vec<String>>,
    /// And of which contents they are repeats.
    originals: BTreeMap<String, Vec<String>>,
    /// By upload and reason: all that the letter says of how it came to it.
    pub(crate) dead: BTreeMap<(Option<u64>, String), String>,
}

impl Outcome {
    /// Audits, publishes, and reads what came of it.
    pub(crate) async fn of(world: &World, bus: &Connection, uploads: u64) -> Result<Self> {
        world.audit_is_clean(uploads)?;
        let letters = dead::list(bus).await?.into_iter().map(|dead| dead.letter);
        let dead = letters.map(|letter| {
            let reason = letter.reasons.first().cloned().unwrap_or_default();
            ((letter.upload.map(|u| u.0), reason), format!("{}: {}", letter.consumer, letter.reasons.join(": ")))
        });
        let dead = dead.collect();
        let members = publish(world)?;
        let all = world.verdicts()?;
        let contents: HashMap<&str, &str> = all.iter().map(|v| (&*v.source, &*v.image)).collect();
        let refused: BTreeSet<&str> = all.iter().filter(|v| v.verdict == "rejected").map(|v| &*v.source).collect();
        let (mut verdicts, mut originals) = (BTreeMap::new(), BTreeMap::new());
        for one in &all {
            let of = one.of_source.as_deref().unwrap_or_default();
            // A refused photo is also answered as the repeat of a refused one, where that was decided before it.
            let (verdict, of) = match one.verdict == "rejected" || refused.contains(of) {
                true => ("refused", ""),
                false => (&*one.verdict, contents.get(of).copied().unwrap_or_default()),
            };
            // What is no picture has no content.
            let content = if one.image.is_empty() { &one.source } else { &one.image };
            let add = |to: &mut BTreeMap<String, Vec<String>>, what: &str| {
                let list = to.entry(content.clone()).or_default();
                list.push(what.to_owned());
                list.sort();
            };
            add(&mut verdicts, verdict);
            add(&mut originals, of);
        }
        Ok(Self { members, verdicts, originals, dead })
    }

    fn images(&self) -> BTreeSet<&str> {
        self.members.iter().map(|(image, ..)| &**image).collect()
    }

    /// Fails where it differs from what must be the same, and shows how both worlds came to it. Gives the rest in words.
    pub(crate) fn compare(&self, struck: &World, want: &Self, calm: &World) -> Result<String> {
        let same_dead = self.dead.keys().eq(want.dead.keys());
        let moved = differing(&self.originals, &want.originals);
        let other = differing(&self.verdicts, &want.verdicts);
        let named =
            |content: &&str| [self, want].map(|one| one.originals.get(*content)).into_iter().flatten().flatten();
        let told = other.iter().chain(&moved).take(6);
        let originals: BTreeSet<&str> =
            told.clone().flat_map(named).map(String::as_str).filter(|n| !n.is_empty()).collect();
        for content in told.copied().chain(originals) {
            let explain = |world: &World| world.run(&["explain", content]).unwrap_or_else(|e| format!("{e:#}"));
            eprintln!("struck: {}\nundisturbed: {}", explain(struck), explain(calm));
        }
        let (found, wanted) = (self.images(), want.images());
        let photos: Vec<_> = found.symmetric_difference(&wanted).collect();
        let spare = if self.verdicts.len() > EXACT { self.verdicts.len() / ONE_IN } else { 0 };
        ensure!(same_dead, "dead letters: {:?} in place of {:?}; other verdicts: {other:?}", self.dead, want.dead);
        ensure!(other.len() <= spare, "contents with other verdicts: {other:?}");
        ensure!(moved.len() <= spare, "contents that repeat others: {moved:?}");
        ensure!(photos.len() <= spare, "published in one run only: {photos:?}");
        let placed = self.members.difference(&want.members).filter(|(image, ..)| wanted.contains(&**image)).count();
        ensure!(placed == 0 || !moved.is_empty() || !photos.is_empty(), "{placed} labels or splits differ");
        if moved.is_empty() && other.is_empty() && photos.is_empty() {
            return Ok("the same members as undisturbed".to_owned());
        }
        Ok(format!(
            "photos published in one run only: {}; contents with other verdicts: {}, that repeat others: {}; with another \
             label or split: {placed}",
            photos.len(),
            other.len(),
            moved.len(),
        ))
    }
}

/// Contents of which the two do not say the same.
fn differing<'a>(some: &'a BTreeMap<String, Vec<String>>, others: &BTreeMap<String, Vec<String>>) -> Vec<&'a str> {
    some.iter().filter(|(content, said)| others.get(*content) != Some(said)).map(|(content, _)| &**content).collect()
}
