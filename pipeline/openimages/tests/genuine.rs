//! The genuine files, where they are beside the checkout, and generated ones of the same shape: every row is accounted
//! for.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use dih_openimages::{Entry, FileCount, Kind, Options, Refusal, Totals, read};

/// Reads a folder to the end: the books, the images, and what was refused.
fn all(dir: &Path, photos: Option<&Path>) -> (Vec<FileCount>, Totals, Vec<Entry>, Vec<Refusal>) {
    let spill = tempfile::tempdir().expect("a temporary folder");
    let options = Options {
        photos: photos.map(Path::to_owned),
        more: Vec::new(),
        machine_min: 0.9,
        spill: spill.path().to_owned(),
    };
    let mut refused = Vec::new();
    let mut note = |refusal: &Refusal| {
        refused.push(refusal.clone());
        Ok(())
    };
    let mut entries = Vec::new();
    let collection = read(dir, &options, &mut note).expect("a readable folder");
    let (files, totals) = collection
        .walk(|_, entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })
        .expect("readable again");
    (files, totals, entries, refused)
}

/// Books that a person could close.
fn are_whole(files: &[FileCount], totals: &Totals, refused: &[Refusal]) {
    for file in files {
        assert_eq!(file.rows, file.taken + file.refused, "{file:?}");
        let told = refused.iter().filter(|refusal| refusal.file == file.file).count() as u64;
        assert_eq!(told, file.refused, "{file:?}");
    }
    let taken = |kinds: &[Kind]| files.iter().filter(|f| kinds.contains(&f.kind)).map(|f| f.taken).sum::<u64>();
    assert_eq!(taken(&[Kind::ImagesV3, Kind::ImagesV4]), totals.images + totals.images_again, "{totals:?}");
    let t = totals;
    let labels = t.labels_taken + t.labels_absent + t.labels_unsure + t.labels_again + t.labels_denied;
    assert_eq!(taken(&[Kind::Labels]), labels, "{totals:?}");
    assert_eq!(t.images, t.here + t.not_here, "{totals:?}");
}

/// `shared/data/openimages` beside one of the parent folders.
fn genuine() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = here.ancestors().map(|a| a.join("shared/data/openimages")).find(|p| p.is_dir());
    if found.is_none() {
        eprintln!("skipped: needs the files of shared/data/openimages beside the repository");
    }
    found
}

#[test]
fn every_genuine_row_is_taken_or_refused_with_its_line() {
    let Some(dir) = genuine() else { return };
    let (files, totals, entries, refused) = all(&dir.join("2017_11"), None);
    are_whole(&files, &totals, &refused);
    let rows = |kind: Kind| files.iter().filter(|f| f.kind == kind).map(|f| f.rows).sum::<u64>();
    assert_eq!(rows(Kind::ImagesV3), 3000);
    assert_eq!(rows(Kind::Labels), 6000);
    assert_eq!(rows(Kind::Boxes), 3000);
    assert_eq!(rows(Kind::Classes), 19_995);
    assert_eq!(rows(Kind::Ids), 19_995 + 5000 + 601 + 545);
    assert_eq!(refused, [], "these files hold no bad row");
    assert_eq!(entries.len(), 3000);
    let named = |id: &str| entries.iter().find(|e| e.image.id.to_string() == id).expect("is there");
    assert_eq!(named("000002b97e5471a0").image.author, "Daniel X. O'Neil");
    assert_eq!(named("0004886b7d043cfd").image.author, "Paris on Ponce & Le Maison Rouge");
    assert!(entries.iter().all(|e| e.image.licence == "https://creativecommons.org/licenses/by/2.0/"));
    let denied = entries.iter().any(|e| e.labels.iter().any(|named| e.absent.contains(&named.class)));
    assert!(!denied && totals.labels_absent > 1000, "{totals:?}");
}

#[test]
fn both_layouts_and_all_versions_at_once_are_one_collection() {
    let Some(dir) = genuine() else { return };
    let (files, totals, entries, refused) = all(&dir, None);
    are_whole(&files, &totals, &refused);
    assert!(files.iter().any(|f| f.kind == Kind::ImagesV4) && files.iter().any(|f| f.kind == Kind::Hierarchy));
    assert_eq!(files.iter().find(|f| f.kind == Kind::Hierarchy).map(|f| f.taken), Some(848));
    // The derived rows say again what the V3 rows say, and add the rotation.
    assert!(entries.iter().filter(|e| e.image.turn.is_some()).count() >= 279, "{totals:?}");
    assert_eq!(refused, []);
}

const CLASSES: u64 = 400;

/// Rows of the published shape, every thousandth of them broken in one of the ways that files break.
fn generate(dir: &Path, images: u64) {
    let create = |name: &str| std::io::BufWriter::new(fs::File::create(dir.join(name)).expect("writable"));
    let mut classes = create("c.csv");
    (0..CLASSES).for_each(|n| writeln!(classes, "/m/0{n},Thing {n}").expect("writable"));
    let mut rows = create("i.csv");
    writeln!(rows, "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation").expect("writable");
    let mut labels = create("l.csv");
    writeln!(labels, "ImageID,Source,LabelName,Confidence").expect("writable");
    for n in 0..images {
        let id = format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let title = match n % 1000 {
            1 => "\"never closed",
            2 => "\"over\ntwo lines, with a comma\"",
            _ => "\"plain, quoted\"",
        };
        let id = if n % 1000 == 3 { "no id".to_owned() } else { id };
        writeln!(rows, "{id},train,u{n},l,by,p,a{n},{title},{n},m==,,{}", ["", "0.0", "90.0", "nan"][(n % 4) as usize])
            .expect("writable");
        for k in 0..3 {
            let class = (n * 7 + k) % CLASSES;
            let (source, confidence) = [("machine", "0.9"), ("verification", "1"), ("verification", "0")][k as usize];
            writeln!(labels, "{id},{source},/m/0{class},{confidence}").expect("writable");
        }
    }
}

#[test]
fn of_fifty_thousand_generated_images_the_broken_rows_are_named_and_no_other() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let images = 50_000;
    generate(dir.path(), images);
    let (files, totals, entries, refused) = all(dir.path(), None);
    are_whole(&files, &totals, &refused);
    let broken = images / 1000;
    assert_eq!(totals.images, images - 2 * broken);
    assert_eq!(entries.len() as u64, totals.images);
    assert!(entries.is_sorted_by_key(|e| e.image.id), "in the order of the ids");
    assert!(entries.iter().all(|e| e.labels.len() == 2 && e.absent.len() == 1));
    // Two broken image rows a thousand, and the three label rows of each of their images.
    assert_eq!(refused.len() as u64, broken * (2 + 6), "{:?}", &refused[..8]);
    let first = refused.iter().find(|r| r.file.ends_with("i.csv")).expect("one");
    assert_eq!((first.line, first.problem.as_str()), (3, "has a quote that is never closed"));
    let orphan = refused.iter().find(|r| r.problem.contains("no image row")).expect("one");
    assert!(orphan.file.ends_with("l.csv") && orphan.line > 1, "{orphan:?}");
}

#[test]
fn photos_are_found_at_any_depth_and_by_any_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    generate(dir.path(), 5);
    let photos = dir.path().join("photos");
    fs::create_dir_all(photos.join("train/deep")).expect("writable");
    let id = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for name in [
        format!("{}.jpg", id(0)),
        format!("train/{}.JPEG", id(4)),
        format!("train/deep/{}.png", id(4)),
        format!("{}.jpg", id(99)),
        "notes.jpg".to_owned(),
    ] {
        fs::write(photos.join(name), b"x").expect("writable");
    }
    let (files, totals, entries, refused) = all(dir.path(), Some(&photos));
    are_whole(&files, &totals, &refused);
    assert_eq!((totals.here, totals.photos_unknown, totals.photos_again), (2, 1, 1), "{totals:?}");
    let here: Vec<_> = entries.iter().filter_map(|e| e.photo.as_ref()).map(|p| p.0.display().to_string()).collect();
    assert_eq!(here, [format!("{}.jpg", id(0)), format!("train/{}.JPEG", id(4))]);
}

#[test]
fn a_second_row_that_contradicts_is_refused_and_names_the_first() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let head = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,Thumbnail300KURL";
    let row = |author: &str| format!("00000000000000ff,train,u,l,by,p,{author},t,1,m,\n");
    fs::write(dir.path().join("a.csv"), format!("{head}\n{}{}", row("Ann"), row("Ann"))).expect("writable");
    fs::write(dir.path().join("b.csv"), format!("{head}\n{}", row("Bob"))).expect("writable");
    fs::write(dir.path().join("c.csv"), "/m/01,Cat\n").expect("writable");
    let (files, totals, entries, refused) = all(dir.path(), None);
    are_whole(&files, &totals, &refused);
    assert_eq!((entries.len(), totals.images_again, refused.len()), (1, 1, 1));
    assert!(refused[0].file.ends_with("b.csv") && refused[0].line == 2, "{refused:?}");
    assert!(refused[0].problem.contains("another Author") && refused[0].problem.contains("a.csv:2"), "{refused:?}");
}
