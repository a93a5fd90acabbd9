//! Which photos are sent as they are, which of them once more and how edited, and in which order. Pure.
//!
//! Takes    photos and the [`Wish`]. Gives one [`Sending`] an upload, in the order of arrival, with the truth about it: each
//!          original comes before its copies, all else is shuffled. The same photos, wish and seed give the same plan.

use std::{ffi::OsStr, path::Path};

use dih_core::{DeviceId, Label, Millis};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    import::labelled::Row,
    simulate::{
        camera::Shot,
        edit::Edit,
        plan::{Kind, Sending},
        shot::Recipe,
    },
};

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Originals and copies together, at most.
    pub uploads: usize,
    /// Copies of each original, 1 to 8, each edited in another way; the edits take turns from photo to photo.
    pub copies: usize,
    /// New shots of each photo, as many as it takes, in place of each photo once as it is.
    pub shots: bool,
    pub seed: u64,
}

/// Plans all uploads.
pub fn plan(photos: &[Row], wish: &Wish) -> Vec<Sending> {
    let mut rng = ChaCha8Rng::seed_from_u64(wish.seed);
    let wanted = wish.uploads / (1 + wish.copies);
    let mut order: Vec<usize> = (0..photos.len()).collect();
    order.shuffle(&mut rng);
    let most = if wish.shots { wanted } else { wanted.min(photos.len()) };
    let mut groups: Vec<Vec<Sending>> = Vec::with_capacity(most);
    for (group, photo) in order.iter().copied().cycle().take(most).enumerate() {
        let recipe = if wish.shots { Recipe::Shot(Shot::draw(&mut rng)) } else { Recipe::AsIs };
        let original = sending(group, photo, &photos[photo], recipe, None);
        let copies = (0..wish.copies).map(|n| Edit::ALL[(group + n) % Edit::ALL.len()]);
        let copies = copies.map(|edit| {
            let recipe = Recipe::Repeat { of: Box::new(original.recipe.clone()), edit };
            sending(group, photo, &photos[photo], recipe, Some(&original.source))
        });
        groups.push(std::iter::once(original.clone()).chain(copies).collect());
    }
    // A shuffled list of groups says whose turn it is; each group keeps its own order.
    let mut turns: Vec<usize> =
        groups.iter().enumerate().flat_map(|(n, group)| std::iter::repeat_n(n, group.len())).collect();
    turns.shuffle(&mut rng);
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    turns.into_iter().filter_map(|group| groups[group].next()).collect()
}

fn sending(group: usize, photo: usize, row: &Row, recipe: Recipe, of: Option<&str>) -> Sending {
    let name = row.path.file_stem().unwrap_or_default().to_string_lossy();
    let own = row.path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let (edit, extension) = match recipe {
        Recipe::AsIs => (String::new(), own.unwrap_or_else(|| "img".to_owned())),
        _ => (recipe.edit().to_owned(), recipe.extension().to_owned()),
    };
    let dash = if edit.is_empty() { "" } else { "-" };
    Sending {
        source: format!("crowd/{group:06}-{name}{dash}{edit}.{extension}"),
        device: DeviceId::new("bench").expect("letters are valid"),
        labels: row.labels.clone(),
        true_labels: row.labels.clone(),
        kind: if of.is_some() { Kind::Repeat } else { Kind::Shot },
        of_source: of.map(str::to_owned),
        photo,
        recipe,
        captured_at: Millis(group as i64),
    }
}

/// Files that are photos by their name.
pub fn is_photo(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let known = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
    extension.is_some_and(|extension| known.contains(&extension.as_str()))
}

/// The label of a file is the folder it lies in: whether it is right does not matter here.
pub fn folder_label(folder: Option<&OsStr>) -> Label {
    let name = folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Label::new(name).or_else(|_| Label::new("photo")).expect("`photo` is a label")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn photos(n: u64) -> Vec<Row> {
        let row = |number| Row {
            number,
            source: format!("{number}.JPG"),
            path: format!("/photos/{number}.JPG").into(),
            labels: vec![folder_label(None)],
            device: None,
            attributes: BTreeMap::new(),
        };
        (0..n).map(row).collect()
    }

    const WISH: Wish = Wish { uploads: 1000, copies: 2, shots: false, seed: 3 };

    #[test]
    fn each_original_comes_once_and_before_its_copies_which_differ() {
        let plan = plan(&photos(40), &WISH);
        assert_eq!(plan.len(), 120);
        let mut seen: HashSet<&str> = HashSet::new();
        for sending in &plan {
            assert!(sending.of_source.as_deref().is_none_or(|of| seen.contains(of)), "{sending:?}");
            assert!(seen.insert(&sending.source), "{} comes twice", sending.source);
        }
        for edit in Edit::ALL {
            assert_eq!(plan.iter().filter(|s| s.recipe.edit() == edit.as_str()).count(), 10, "{edit:?}");
        }
    }

    #[test]
    fn the_number_of_uploads_is_kept_and_with_shots_also_reached() {
        assert_eq!(plan(&photos(40), &Wish { uploads: 30, ..WISH }).len(), 30);
        assert_eq!(plan(&photos(4), &Wish { uploads: 30, shots: true, ..WISH }).len(), 30);
        assert!(plan(&[], &WISH).is_empty());
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(plan(&photos(9), &WISH), plan(&photos(9), &WISH));
        assert_ne!(plan(&photos(9), &WISH), plan(&photos(9), &Wish { seed: 4, ..WISH }));
    }
}
