//! A version leaves the store in the layout that a loader reads.

mod world;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use dih_organize::{
    datasets::Definition,
    export::{ExportError, Exported, Format, export},
};
use world::{Photo, World, crowd, version};

async fn exported(format: Format, place: &Path, definition: Definition) -> Result<Exported, ExportError> {
    let mut photos = crowd(10);
    photos[0] = Photo::new(1, 0).claims(&["hat", "shoe"]);
    let world = World::with(&photos, Definition { hold: false, ..definition }).await;
    world.cut("a").await;
    let told = AtomicU64::new(0);
    let progress = |done, all| {
        assert!(done <= all);
        told.store(done, Ordering::SeqCst);
    };
    let exported = export(&*world.blobs, &version(1), format, place, &progress).await?;
    assert!(told.load(Ordering::SeqCst) > 0);
    Ok(exported)
}

fn files(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(place).expect("inside").display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_image_folder_has_each_photo_under_each_of_its_labels() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("new/out");
    let done = exported(Format::ImageFolder, &out, Definition::default()).await.expect("exported");
    let files = files(&out);
    let photo = format!("{}.jpg", Photo::new(1, 0).id());
    let places: Vec<&String> = files.iter().filter(|f| f.ends_with(&photo)).collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert_eq!(files.iter().filter(|f| f.ends_with(".jpg")).count(), 31);
    assert_eq!((done.photos, done.files), (30, files.len() as u64));
    assert_eq!(std::fs::read_dir(home.path().join("new")).expect("a folder").count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn shards_are_numbered_by_split() {
    let home = tempfile::tempdir().expect("a folder");
    exported(Format::WebDataset, home.path(), Definition::default()).await.expect("an empty folder is fine");
    let tars: Vec<String> = files(home.path()).into_iter().filter(|f| f.ends_with(".tar")).collect();
    assert_eq!(tars, ["test-00000.tar", "train-00000.tar", "val-00000.tar"]);
}

#[tokio::test]
async fn the_table_comes_with_its_pictures() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out");
    exported(Format::Parquet, &out, Definition::default()).await.expect("exported");
    let files = files(&out);
    assert!(files.contains(&"manifest.parquet".into()) && files.contains(&"held.parquet".into()));
    assert_eq!(files.iter().filter(|f| f.starts_with("pictures/")).count(), 30);
}

#[tokio::test]
async fn a_folder_with_something_in_it_is_left_alone() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("mine.txt"), "precious").expect("written");
    let refused = exported(Format::ImageFolder, home.path(), Definition::default()).await;
    assert!(matches!(refused, Err(ExportError::NotEmpty { .. })));
    assert_eq!(files(home.path()), ["mine.txt"]);
}

#[tokio::test]
async fn a_version_without_shards_says_so_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out");
    let refused = exported(Format::WebDataset, &out, Definition { shards: false, ..Definition::default() }).await;
    assert!(matches!(refused, Err(ExportError::NoShards { .. })));
    assert_eq!(std::fs::read_dir(home.path()).expect("a folder").count(), 0);
}
