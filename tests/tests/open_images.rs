//! Open Images from its published layout to an exported data set: nothing that is stated about a photo is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use dih_tests::{World, readers_python, shared_data, tools};
use serde_json::Value;

const IMAGES: &str = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation";
const CLASSES: &str = "/m/01,Animal\n/m/02,Cat\n/m/03,Gadget\n/m/04,Viola\n/m/05,Viola\n";
const HIERARCHY: &str = r#"{"LabelName": "/m/0bl9f", "Subcategory": [
    {"LabelName": "/m/01", "Subcategory": [{"LabelName": "/m/02"}]}, {"LabelName": "/m/03"}]}"#;

fn id(n: usize) -> String {
    format!("{:016x}", 0x1234_0000_0000_0000 + n as u64)
}

/// Published files about these photos, and the photos as ingestion nodes hold them. Photo `n` shows a cat if `n` is
/// even, else a gadget; people have denied the other, which a machine is sure of.
fn publish(dir: &Path, photos: &[PathBuf]) -> Result<()> {
    let (mut images, mut labels) = (format!("{IMAGES}\n"), "ImageID,Source,LabelName,Confidence\n".to_owned());
    fs::create_dir_all(dir.join("photos/train"))?;
    for (n, photo) in photos.iter().enumerate() {
        let id = id(n);
        images += &format!(
            "{id},train,https://o/{n},https://l/{n},https://creativecommons.org/licenses/by/2.0/,https://p/{n},\
             \"O&#x27;Neil {n}\",\"Title &amp; {n}\",12,m==,,{}\n",
            if n == 0 { "90.0" } else { "" }
        );
        let (shown, denied) = if n % 2 == 0 { ("/m/02", "/m/03") } else { ("/m/03", "/m/02") };
        labels += &format!("{id},verification,{shown},1\n{id},verification,{denied},0\n{id},machine,{denied},1.0\n");
        fs::copy(photo, dir.join(format!("photos/train/{id}.jpg")))?;
    }
    images += &format!("{},train,u,l,by,p,a,t,1,m,,\nbroken row\n", id(9999));
    fs::write(dir.join("images.csv"), images)?;
    fs::write(dir.join("labels.csv"), labels)?;
    fs::write(dir.join("classes.csv"), CLASSES)?;
    Ok(fs::write(dir.join("tree.json"), HIERARCHY)?)
}

fn demo_photos() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![tools()?.join("photos")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("jpg" | "jpeg") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn licence_author_and_labels_reach_the_export() -> Result<()> {
    let world = World::new()?;
    let dir = world.home().join("openimages");
    let photos = demo_photos()?;
    publish(&dir, &photos)?;
    let (files, classes, tree) = (text(&dir), text(&dir.join("classes.csv")), text(&dir.join("tree.json")));
    let imported = world.try_run(&["import", "--open-images", &files, "--json"])?;
    assert_eq!(imported.status.code(), Some(3), "one row is refused: {imported:?}");
    let report: Value = serde_json::from_slice(&imported.stdout)?;
    assert_eq!(report["sent"]["sent"], photos.len(), "{report}");
    assert_eq!(report["totals"]["not_here"], 1, "{report}");
    assert_eq!(report["totals"]["labels_denied"], photos.len(), "{report}");
    let refused = fs::read_to_string(report["refused"].as_str().context("refused")?)?;
    assert!(refused.contains(&format!(",{},has 1 cells instead of 12", photos.len() + 3)), "{refused}");

    fs::write(
        world.home().join("dih.toml"),
        format!("[taxonomy]\nclasses = {classes:?}\nhierarchy = {tree:?}\n[verify]\nlabel_score_min = 0.0\n"),
    )?;
    world.run(&["run", "--until-idle"])?;
    world.audit_is_clean(photos.len() as u64)?;
    world.run(&["datasets", "create", "animals", "--labels", "Animal", "--descendants", "--no-hold"])?;
    world.run(&["datasets", "cut", "animals"])?;
    let out = world.home().join("out");
    world.run(&["datasets", "export", "animals@1", "--format", "parquet", &text(&out)])?;
    let card = fs::read_to_string(out.join("README.md"))?;
    assert!(card.contains("Entity > Animal > Cat"), "the card names the label's place: {card}");
    let script = "import sys, json, pyarrow.parquet as q\n\
         for r in q.read_table(sys.argv[1], columns=['label', 'licence', 'source', 'attributes']).to_pylist():\n\
         \x20   a = json.loads(r['attributes']); n = int(a['openimages_id'], 16) & 0xffff\n\
         \x20   assert r['label'] == 'Cat' and n % 2 == 0 and a['absent'] == 'Gadget' and a['label_ids'] == '/m/02', r\n\
         \x20   assert r['licence'] == 'https://creativecommons.org/licenses/by/2.0/' == a['licence'], r\n\
         \x20   assert a['author'] == f\"O'Neil {n}\" and a['title'] == f'Title & {n}' and a['landing_url'] == f'https://l/{n}', r\n\
         \x20   assert a['original_url'] == f'https://o/{n}' and a['author_url'] == f'https://p/{n}' and a['subset'] == 'train', r\n\
         \x20   assert r['source'].endswith(f\"train/{a['openimages_id']}.jpg\") and ((a.get('rotation') == '90') == (n == 0)), r\n\
         \x20   print(n)";
    let read = Command::new(readers_python()?).args(["-c", script]).arg(out.join("manifest.parquet")).output()?;
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(!read.stdout.is_empty(), "the data set has members");
    Ok(())
}

#[test]
fn an_interrupted_import_goes_on_and_sends_nothing_twice() -> Result<()> {
    let world = World::new()?;
    let dir = world.home().join("openimages");
    let photo = world.home().join("photo");
    fs::write(&photo, b"\xff\xd8 no matter what")?;
    let photos = 600;
    publish(&dir, &vec![photo.clone(); photos])?;
    for n in 0..photos {
        // Every photo is another one; those that may be under way at once (64 MiB) are but half of them.
        let mut bytes = vec![n as u8; 200_000];
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        fs::write(dir.join(format!("photos/train/{}.jpg", id(n))), bytes)?;
    }
    fs::write(dir.join("images.csv"), fs::read_to_string(dir.join("images.csv"))?.replace("90.0", ""))?;
    let files = text(&dir);
    let mut first = world.command(&["import", "--open-images", &files]);
    // Long enough to be interrupted, however fast the broker is: every photo takes 5 ms.
    let mut first = first.env("FAILPOINTS", "import::after_note=sleep(5)").stdout(Stdio::null()).spawn()?;
    let journal = || -> Result<usize> {
        let Ok(entries) = fs::read_dir(world.home().join("import")) else { return Ok(0) };
        let journals = entries.filter_map(|e| e.ok()).filter(|e| e.path().extension().is_some_and(|x| x == "sent"));
        Ok(journals.map(|e| fs::read_to_string(e.path()).map_or(0, |text| text.lines().count())).sum())
    };
    let begun = Instant::now();
    while journal()? < 20 && first.try_wait()?.is_none() {
        if begun.elapsed() > Duration::from_secs(120) {
            bail!("the import did not begin");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &first.id().to_string()]).status()?;
    let ended = first.wait()?;
    assert!(ended.code().is_some(), "Ctrl-C is an orderly end: {ended}");
    let noted = journal()?;
    assert!((20..photos).contains(&noted), "it was interrupted in the middle: {noted} of {photos}");
    let second = world.try_run(&["import", "--open-images", &files, "--json"])?;
    let report: Value = serde_json::from_slice(&second.stdout)?;
    let sent = &report["sent"];
    assert_eq!(sent["sent_before"], noted, "{sent}");
    assert_eq!(sent["dropped"], 0, "what was under way was noted: {sent}");
    assert_eq!(sent["sent"].as_u64().context("sent")? as usize + noted, photos, "{sent}");
    assert_eq!(
        world.try_run(&["audit", "--json"]).and_then(|out| Ok(serde_json::from_slice::<Value>(&out.stdout)?))?["uploads"],
        photos
    );
    Ok(())
}

#[test]
fn the_genuine_files_import_with_every_row_accounted_for() -> Result<()> {
    let Some(data) = shared_data() else { return Ok(()) };
    let world = World::new()?;
    let dir = text(&data.join("openimages/2017_11"));
    let report = world.run_json(&["import", "--open-images", &dir, "--check", "--json"])?;
    for file in report["files"].as_array().context("files")? {
        let count = |key: &str| file[key].as_u64().unwrap_or_default();
        assert_eq!(count("rows"), count("taken") + count("refused"), "{file}");
    }
    assert_eq!(report["totals"]["images"], 3000);
    // Without a single photo there is nothing to import, and that is said.
    let none = world.try_run(&["import", "--open-images", &dir])?;
    assert_eq!(none.status.code(), Some(1));
    let told = String::from_utf8_lossy(&none.stderr);
    assert!(told.contains("none of the 3000 images") && told.contains("--photos"), "{told}");
    Ok(())
}
