//! Finds the files of a folder and tells what each holds: by its heading or content, never by its name.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use dih_taxonomy::{classes::is_id, rows::Rows};

use crate::{Kind, image, label};

/// A file and what it holds; None where it is nothing of Open Images.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) kind: Option<Kind>,
    pub(crate) bytes: u64,
}

/// How much of a JSON file is looked at.
const BEGINNING: u64 = 4096;

/// All files below a folder that may hold rows, in the order of their paths.
pub(crate) fn find(dir: &Path) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    walk(dir, &mut |path| {
        if let Some("csv" | "txt" | "json") = path.extension().and_then(|e| e.to_str()) {
            found.push(path.to_owned());
        }
        Ok(())
    })?;
    found.sort();
    found.into_iter().map(|path| recognise(&path)).collect()
}

/// All files below a folder, as the disk lists them. What begins with a dot is left alone, and so are linked folders,
/// which may turn in circles.
pub(crate) fn walk(dir: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), each)?,
            false => each(&entry.path())?,
        }
    }
    Ok(())
}

pub(crate) fn recognise(path: &Path) -> io::Result<Source> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let kind = match path.extension().and_then(|e| e.to_str()) {
        Some("json") => {
            let mut beginning = Vec::new();
            file.take(BEGINNING).read_to_end(&mut beginning)?;
            let text = String::from_utf8_lossy(&beginning);
            (text.trim_start().starts_with('{') && text.contains("\"LabelName\"")).then_some(Kind::Hierarchy)
        }
        _ => told(&mut Rows::new(BufReader::new(file)))?,
    };
    Ok(Source { path: path.to_owned(), kind, bytes })
}

fn told(rows: &mut Rows<BufReader<File>>) -> io::Result<Option<Kind>> {
    let Some(Ok(row)) = rows.next(None)? else { return Ok(None) };
    Ok(if let Some((_, kind)) = image::Columns::of(row) {
        Some(kind)
    } else if label::BoxColumns::of(row).is_some() {
        Some(Kind::Boxes)
    } else if label::Columns::of(row).is_some() {
        Some(Kind::Labels)
    } else if row.len() == 2 && (is_id(row.cell(0)) || row.cell(0) == "LabelName") {
        Some(Kind::Classes)
    } else if row.len() == 1 && is_id(row.cell(0)) {
        Some(Kind::Ids)
    } else {
        None
    })
}
