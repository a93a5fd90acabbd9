//! What a crowd sends: which photo, shot how, called what, from which device, in which order.
//!
//! Takes    labelled photos and the [`Crowd`]'s habits. Gives one [`Sending`] an upload, in the order of arrival, with
//!          the truth about it. Pure: the same photos, habits and seed give the same plan.
//! Weak at  retransmissions follow soon after their original; a device that repeats itself after a week is not planned.

use dih_core::{DeviceId, Label, Millis};
use rand::{RngExt, SeedableRng, seq::IndexedRandom, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    camera::Shot,
    edit::{Broken, Edit},
    shot::Recipe,
};

/// Habits of the crowd. Shares are of all uploads, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    pub uploads: usize,
    pub devices: usize,
    pub seed: u64,
    /// Share of uploads that are an earlier shot, edited: recompressed, halved, mirrored, …
    pub repeats: f64,
    /// Share that are an earlier shot again, byte by byte.
    pub retransmissions: f64,
    /// Share that no data set can use: cut off, garbage, flat, dark, blurred, …
    pub broken: f64,
    /// Share whose label is another's.
    pub wrong_labels: f64,
    /// Share that arrive late, after up to [`LATE_MAX`] others.
    pub late: f64,
    /// Send each photo once as it is, instead of new shots of it.
    pub originals: bool,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            uploads: 500,
            devices: 8,
            seed: 1,
            repeats: 0.10,
            retransmissions: 0.04,
            broken: 0.06,
            wrong_labels: 0.04,
            late: 0.10,
            originals: false,
        }
    }
}

/// Most uploads by which a late one is overtaken.
const LATE_MAX: usize = 60;
/// Uploads back to which a repeat or a retransmission reaches.
const MEMORY: usize = 200;
/// Time between two shots on the devices' clocks.
const STEP: i64 = 1_500;
/// The clock of the devices at the first shot: 2026-01-01T08:00:00Z.
const EPOCH: i64 = 1_767_254_400_000;

/// A photo that the crowd stands before.
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    /// Short, for the names of its shots.
    pub name: String,
    pub labels: Vec<Label>,
}

/// What an upload is, in truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A shot of its own.
    Shot,
    /// An earlier shot, edited.
    Repeat,
    /// An earlier shot's very bytes.
    Retransmission,
    /// Of no use.
    Broken,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shot => "shot",
            Self::Repeat => "repeat",
            Self::Retransmission => "retransmission",
            Self::Broken => "broken",
        }
    }
}

/// One upload to be, and the truth about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    /// Unique among the plan: what the device calls it.
    pub source: String,
    pub device: DeviceId,
    /// What the device says.
    pub labels: Vec<Label>,
    /// What it shows.
    pub true_labels: Vec<Label>,
    pub kind: Kind,
    /// Source of the shot that a repeat or retransmission was made from; that one may arrive later.
    pub of_source: Option<String>,
    /// Position of the photo.
    pub photo: usize,
    pub recipe: Recipe,
    pub captured_at: Millis,
}

/// Why nothing can be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("there is no photo to shoot")]
    NoPhotos,
    #[error("a crowd needs at least one device and one upload, and at most a million devices")]
    NoCrowd,
    #[error("the share `{name}` is not between 0 and 1, or all shares together leave no room for shots")]
    Share { name: &'static str },
}

/// Plans all uploads, in the order of arrival.
pub fn plan(photos: &[Photo], crowd: &Crowd) -> Result<Vec<Sending>, PlanError> {
    check(photos, crowd)?;
    let mut planner = Planner::new(photos, crowd);
    let mut sendings: Vec<Sending> = Vec::new();
    while sendings.len() < crowd.uploads {
        match planner.next(&sendings) {
            Some(sending) => sendings.push(sending),
            None => break, // with `originals`, every photo was sent
        }
    }
    planner.mislabel(&mut sendings);
    Ok(planner.delay(sendings))
}

fn check(photos: &[Photo], crowd: &Crowd) -> Result<(), PlanError> {
    let shares = [
        ("repeats", crowd.repeats),
        ("retransmissions", crowd.retransmissions),
        ("broken", crowd.broken),
        ("wrong_labels", crowd.wrong_labels),
        ("late", crowd.late),
    ];
    if let Some((name, _)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
        return Err(PlanError::Share { name });
    }
    if crowd.repeats + crowd.retransmissions + crowd.broken >= 1.0 {
        return Err(PlanError::Share { name: "broken" });
    }
    match (photos.len(), crowd.devices, crowd.uploads) {
        (0, _, _) => Err(PlanError::NoPhotos),
        (_, 1..=1_000_000, 1..) => Ok(()),
        _ => Err(PlanError::NoCrowd),
    }
}

struct Planner<'a> {
    photos: &'a [Photo],
    crowd: &'a Crowd,
    rng: ChaCha8Rng,
    /// Photos still to be shot in this round, so that all are shot about equally often.
    round: Vec<usize>,
    rounds: usize,
    /// Positions of the shots that can be repeated.
    shots: Vec<usize>,
}

impl<'a> Planner<'a> {
    fn new(photos: &'a [Photo], crowd: &'a Crowd) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(crowd.seed);
        Self { photos, crowd, rng, round: Vec::new(), rounds: 0, shots: Vec::new() }
    }

    /// The next upload in the order of shooting; None when there is nothing left to shoot.
    fn next(&mut self, before: &[Sending]) -> Option<Sending> {
        let Crowd { repeats, retransmissions, broken, .. } = *self.crowd;
        let draw: f64 = self.rng.random();
        let reach = self.shots.len().saturating_sub(MEMORY);
        let earlier = self.shots[reach..].choose(&mut self.rng).map(|at| &before[*at]);
        let n = before.len();
        if let Some(earlier) = earlier {
            if draw < repeats {
                return Some(self.repeat(n, earlier));
            }
            if draw < repeats + retransmissions {
                return Some(self.again(n, earlier));
            }
        }
        let photo = self.next_photo()?;
        if draw >= 1.0 - broken {
            return Some(self.broken(n, photo));
        }
        self.shots.push(n);
        let recipe = match self.crowd.originals {
            true => Recipe::AsIs,
            false => Recipe::Shot(Shot::draw(&mut self.rng)),
        };
        Some(self.sending(n, photo, Kind::Shot, "", recipe))
    }

    fn next_photo(&mut self) -> Option<usize> {
        if self.round.is_empty() {
            if self.crowd.originals && self.rounds > 0 {
                return None;
            }
            self.round = (0..self.photos.len()).collect();
            self.round.shuffle(&mut self.rng);
            self.rounds += 1;
        }
        self.round.pop()
    }

    fn repeat(&mut self, n: usize, of: &Sending) -> Sending {
        let edit = Edit::draw(&mut self.rng);
        let recipe = Recipe::Repeat { of: Box::new(of.recipe.clone()), edit };
        let sending = self.sending(n, of.photo, Kind::Repeat, edit.as_str(), recipe);
        Sending { of_source: Some(of.source.clone()), ..sending }
    }

    fn again(&mut self, n: usize, of: &Sending) -> Sending {
        let sending = self.sending(n, of.photo, Kind::Retransmission, "again", of.recipe.clone());
        // The same device, with the same clock: it only did not hear the answer.
        Sending {
            of_source: Some(of.source.clone()),
            device: of.device.clone(),
            captured_at: of.captured_at,
            ..sending
        }
    }

    fn broken(&mut self, n: usize, photo: usize) -> Sending {
        let how = Broken::draw(&mut self.rng);
        let recipe = Recipe::Broken { how, shot: Shot::draw(&mut self.rng) };
        self.sending(n, photo, Kind::Broken, how.as_str(), recipe)
    }

    fn sending(&mut self, n: usize, photo: usize, kind: Kind, suffix: &str, recipe: Recipe) -> Sending {
        let Photo { name, labels } = &self.photos[photo];
        let suffix = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
        let device = self.rng.random_range(1..=self.crowd.devices);
        Sending {
            source: format!("crowd/{:06}-{name}{suffix}.{}", n + 1, recipe.extension()),
            device: DeviceId::new(format!("device-{device:03}")).expect("letters, digits and a dash are valid"),
            labels: labels.clone(),
            true_labels: labels.clone(),
            kind,
            of_source: None,
            photo,
            recipe,
            captured_at: Millis(EPOCH + STEP * n as i64),
        }
    }

    /// Swaps the first label for another photo's; a retransmission says what its original said.
    fn mislabel(&mut self, sendings: &mut [Sending]) {
        let mut all: Vec<&Label> = self.photos.iter().flat_map(|p| &p.labels).collect();
        all.sort();
        all.dedup();
        for sending in sendings.iter_mut().filter(|s| s.kind != Kind::Retransmission) {
            let wrong = self.rng.random_bool(self.crowd.wrong_labels);
            let others: Vec<&&Label> = all.iter().filter(|l| !sending.true_labels.contains(l)).collect();
            if let (true, Some(other)) = (wrong, others.choose(&mut self.rng)) {
                sending.labels[0] = (**other).clone();
            }
        }
        let said: std::collections::HashMap<String, Vec<Label>> =
            sendings.iter().map(|s| (s.source.clone(), s.labels.clone())).collect();
        for sending in sendings.iter_mut().filter(|s| s.kind == Kind::Retransmission) {
            if let Some(labels) = sending.of_source.as_ref().and_then(|of| said.get(of)) {
                sending.labels = labels.clone();
            }
        }
    }

    /// Lets some be overtaken by those after them.
    fn delay(&mut self, sendings: Vec<Sending>) -> Vec<Sending> {
        let mut due: Vec<(usize, usize, Sending)> = Vec::with_capacity(sendings.len());
        for (n, sending) in sendings.into_iter().enumerate() {
            let late = self.rng.random_bool(self.crowd.late);
            let delay = if late { self.rng.random_range(2..=LATE_MAX) } else { 0 };
            due.push((n + delay, n, sending));
        }
        due.sort_by_key(|(at, n, _)| (*at, *n));
        due.into_iter().map(|(_, _, sending)| sending).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn photos() -> Vec<Photo> {
        let photo = |name: &str| Photo { name: name.into(), labels: vec![Label::new(name).expect("valid")] };
        ["cat", "coffee", "rocket", "coins"].map(photo).to_vec()
    }

    fn counts(sendings: &[Sending]) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        sendings.iter().for_each(|s| *counts.entry(s.kind).or_default() += 1);
        counts
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        let crowd = Crowd::default();
        assert_eq!(plan(&photos(), &crowd), plan(&photos(), &crowd));
        assert_ne!(plan(&photos(), &crowd), plan(&photos(), &Crowd { seed: 2, ..crowd }));
    }

    #[test]
    fn shares_are_kept_and_every_upload_has_its_own_name() {
        let crowd = Crowd { uploads: 4000, ..Crowd::default() };
        let sendings = plan(&photos(), &crowd).expect("a fine crowd");
        let counts = counts(&sendings);
        for (kind, share) in [(Kind::Repeat, 0.10), (Kind::Retransmission, 0.04), (Kind::Broken, 0.06)] {
            let found = counts[&kind] as f64 / 4000.0;
            assert!((found - share).abs() < 0.015, "{kind:?}: {found}");
        }
        let names: HashSet<&str> = sendings.iter().map(|s| s.source.as_str()).collect();
        assert_eq!(names.len(), 4000);
        let wrong = sendings.iter().filter(|s| s.labels != s.true_labels).count() as f64 / 4000.0;
        assert!((wrong - 0.04).abs() < 0.015, "{wrong}");
    }

    #[test]
    fn a_repeat_names_a_shot_of_the_plan_and_a_retransmission_has_its_recipe_and_labels() {
        let sendings = plan(&photos(), &Crowd { uploads: 2000, ..Crowd::default() }).expect("a fine crowd");
        let by_source: BTreeMap<&str, &Sending> = sendings.iter().map(|s| (s.source.as_str(), s)).collect();
        for sending in &sendings {
            let of = sending.of_source.as_deref().map(|of| by_source[of]);
            let holds = match (sending.kind, of) {
                (Kind::Repeat, Some(of)) => (of.kind, of.photo) == (Kind::Shot, sending.photo),
                (Kind::Retransmission, Some(of)) => {
                    (&of.recipe, &of.labels, &of.device) == (&sending.recipe, &sending.labels, &sending.device)
                }
                (Kind::Shot | Kind::Broken, of) => of.is_none(),
                (_, None) => false,
            };
            assert!(holds, "{sending:?}");
        }
    }

    #[test]
    fn late_ones_are_overtaken_by_some_but_not_by_many() {
        let sendings = plan(&photos(), &Crowd { uploads: 1000, ..Crowd::default() }).expect("a fine crowd");
        let shot: Vec<usize> = sendings.iter().map(|s| s.source[6..12].parse().expect("a number")).collect();
        let late = shot.iter().enumerate().filter(|(at, n)| at + 1 > **n + 1).count();
        assert!((50..200).contains(&late), "{late}");
        assert!(shot.iter().enumerate().all(|(at, n)| at < n + LATE_MAX));
    }

    #[test]
    fn originals_are_sent_once_each() {
        let crowd = Crowd { uploads: 100, originals: true, broken: 0.0, ..Crowd::default() };
        let sendings = plan(&photos(), &crowd).expect("a fine crowd");
        assert_eq!(counts(&sendings)[&Kind::Shot], 4);
    }

    #[test]
    fn impossible_crowds_are_refused_by_name() {
        let refused = |crowd: Crowd| plan(&photos(), &crowd).expect_err("impossible").to_string();
        assert!(refused(Crowd { late: 1.5, ..Crowd::default() }).contains("late"));
        assert!(refused(Crowd { broken: f64::NAN, ..Crowd::default() }).contains("broken"));
        assert!(refused(Crowd { repeats: 0.9, broken: 0.2, ..Crowd::default() }).contains("leave no room"));
        assert!(refused(Crowd { devices: 0, ..Crowd::default() }).contains("device"));
        assert!(plan(&[], &Crowd::default()).is_err());
    }
}
