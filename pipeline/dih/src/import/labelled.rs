//! Reads a labelled folder: which files there are, and what they are said to show.
//!
//! Takes    a folder, and a CSV with the columns `file,label` where there is one; else one folder a label.
//! Gives    rows in the order of the CSV (of the paths without one), and a fault with its row for all that cannot be
//!          read. A fault never stops the others.
//! Weak at  files of equal content under two names: both are rows, as they would be two uploads.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Component, Path, PathBuf},
};

use dih_core::{DeviceId, Label};

use crate::problem::{OrProblem, Problem};

/// One photo with what is said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Line in the CSV, or count of the file, from 1; for messages.
    pub number: u64,
    /// Path below the folder, with `/`: what the uploader calls it.
    pub source: String,
    pub path: PathBuf,
    pub labels: Vec<Label>,
    pub device: Option<DeviceId>,
    pub attributes: BTreeMap<String, String>,
}

/// A row that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    pub number: u64,
    /// As far as it could be read.
    pub source: String,
    pub problem: String,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.number)?;
        if !self.source.is_empty() {
            write!(f, " ({})", self.source)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// What a labelled folder holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    pub rows: Vec<Row>,
    pub faults: Vec<RowFault>,
}

/// Reads `csv`, or `labels.csv` in the folder, or one folder a label.
pub fn read(dir: &Path, csv: Option<&Path>) -> anyhow::Result<Labelled> {
    if !dir.is_dir() {
        let what = format!("`{}` is no folder", dir.display());
        return Err(Problem::usage(what, "name the folder that holds the photos").into());
    }
    let inside = dir.join("labels.csv");
    match csv {
        Some(csv) => read_csv(dir, csv),
        None if inside.is_file() => read_csv(dir, &inside),
        None => read_folders(dir),
    }
}

fn read_csv(dir: &Path, csv: &Path) -> anyhow::Result<Labelled> {
    let what = || format!("could not read `{}`", csv.display());
    let file = fs::File::open(csv).or_problem(what(), "name a CSV file with the columns `file,label`")?;
    parse_csv(dir, file).map_err(|e| e.context(what()))
}

/// Rows of a CSV with a heading; `file` and `label` are needed, `device` is known, other columns become attributes.
pub fn parse_csv(dir: &Path, csv: impl io::Read) -> anyhow::Result<Labelled> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(io::BufReader::new(csv));
    let heading: Vec<String> =
        reader.byte_headers()?.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    for needed in ["file", "label"] {
        if !heading.iter().any(|name| name == needed) {
            let what = format!("the CSV has no column `{needed}`, only `{}`", heading.join("`, `"));
            return Err(Problem::usage(what, "begin the CSV with a heading line such as `file,label`").into());
        }
    }
    let mut labelled = Labelled::default();
    for record in reader.into_byte_records() {
        let record = record?; // not one row, but the file itself cannot be read
        let number = record.position().map_or(0, csv::Position::line);
        match parse_row(dir, &heading, &record, number) {
            Ok(row) => labelled.rows.push(row),
            Err(fault) => labelled.faults.push(fault),
        }
    }
    Ok(labelled)
}

fn parse_row(dir: &Path, heading: &[String], record: &csv::ByteRecord, number: u64) -> Result<Row, RowFault> {
    let mut source = String::new();
    let (mut labels, mut device, mut attributes) = (Vec::new(), None, BTreeMap::new());
    for (column, name) in heading.iter().enumerate() {
        let fault = |problem: String, source: &str| RowFault { number, source: source.to_owned(), problem };
        let cell = record.get(column).unwrap_or_default();
        let cell = std::str::from_utf8(cell).map_err(|_| fault(format!("`{name}` is not UTF-8 text"), &source))?.trim();
        match name.as_str() {
            "file" => source = cell.to_owned(),
            "label" => labels = parse_labels(cell).map_err(|problem| fault(problem, &source))?,
            "device" if cell.is_empty() => {}
            "device" => device = Some(DeviceId::new(cell).map_err(|e| fault(e.to_string(), &source))?),
            _ if name.is_empty() || cell.is_empty() => {}
            _ => {
                attributes.insert(name.clone(), cell.to_owned());
            }
        }
    }
    let path = below(dir, &source).map_err(|problem| RowFault { number, source: source.clone(), problem })?;
    Ok(Row { number, source, path, labels, device, attributes })
}

/// Labels separated by `;`, each once, in the order they stand.
pub fn parse_labels(text: &str) -> Result<Vec<Label>, String> {
    let mut labels = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let label = Label::new(part).map_err(|e| e.to_string())?;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    if labels.is_empty() { Err("has no label".to_owned()) } else { Ok(labels) }
}

/// A path that stays below the folder: a CSV from elsewhere must not send what it was not given.
fn below(dir: &Path, source: &str) -> Result<PathBuf, String> {
    if source.is_empty() {
        return Err("has no file".to_owned());
    }
    let stays = Path::new(source).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if stays { Ok(dir.join(source)) } else { Err("leads out of the folder; paths must be relative to it".to_owned()) }
}

/// Names that split folders go by; the label is then one folder further down.
const SPLITS: [&str; 5] = ["train", "test", "val", "valid", "validation"];

fn read_folders(dir: &Path) -> anyhow::Result<Labelled> {
    let mut files = Vec::new();
    walk(dir, &mut Vec::new(), &mut files)
        .or_problem(format!("could not read the folder `{}`", dir.display()), "look whether it is yours to read")?;
    files.sort();
    let split = !files.is_empty() && files.iter().all(|parts| SPLITS.contains(&parts[0].as_str()));
    let mut labelled = Labelled::default();
    for (n, parts) in files.iter().enumerate() {
        let (number, source) = (n as u64 + 1, parts.join("/"));
        let folder = usize::from(split);
        let labels = match parts.len() > folder + 1 {
            true => parse_labels(&parts[folder]),
            false => Err("lies in no folder that names its label".to_owned()),
        };
        match labels {
            Ok(labels) => {
                let path = dir.join(&source);
                labelled.rows.push(Row { number, source, path, labels, device: None, attributes: BTreeMap::new() });
            }
            Err(problem) => labelled.faults.push(RowFault { number, source, problem }),
        }
    }
    Ok(labelled)
}

/// All files below `dir` as path parts; names that begin with a dot are nobody's photos, and linked folders may turn
/// in circles.
fn walk(dir: &Path, parts: &mut Vec<String>, files: &mut Vec<Vec<String>>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        parts.push(name);
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), parts, files)?;
        } else {
            files.push(parts.clone());
        }
        parts.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(csv: &[u8], want: &[(&str, &[&str])], faults: &[(u64, &str)]) -> Labelled {
        let labelled = parse_csv(Path::new("/photos"), csv).expect("a heading");
        let rows: Vec<(&str, Vec<&str>)> =
            labelled.rows.iter().map(|r| (r.source.as_str(), r.labels.iter().map(Label::as_str).collect())).collect();
        let want: Vec<(&str, Vec<&str>)> = want.iter().map(|(file, labels)| (*file, labels.to_vec())).collect();
        assert_eq!(rows, want);
        assert_eq!(labelled.faults.len(), faults.len(), "{:?}", labelled.faults);
        for (fault, (number, part)) in labelled.faults.iter().zip(faults) {
            assert_eq!(fault.number, *number, "{fault}");
            assert!(fault.problem.contains(part), "{fault}");
        }
        labelled
    }

    #[test]
    fn marks_quotes_and_line_ends_of_any_editor_are_read() {
        check(b"\xef\xbb\xbffile,label\r\n\"a, b.jpg\",\"cat\"\r\n", &[("a, b.jpg", &["cat"])], &[]);
        check(b"label,file\ndog,\"say \"\"hi\"\".jpg\"", &[("say \"hi\".jpg", &["dog"])], &[]);
    }

    #[test]
    fn several_labels_are_told_apart_and_each_counts_once() {
        check(b"file,label\na.jpg,cat; dog;cat;\n", &[("a.jpg", &["cat", "dog"])], &[]);
    }

    #[test]
    fn a_bad_row_is_named_and_the_others_go_on() {
        check(
            b"file,label,device\na.jpg,\nb.jpg,cat\n,cat\nc.jpg,a/b\nd.jpg\n../e.jpg,cat\n/f.jpg,cat\ng.jpg,\xff\nh.jpg,cat,d 1\n",
            &[("b.jpg", &["cat"])],
            &[
                (2, "no label"),
                (4, "no file"),
                (5, "label"),
                (6, "no label"),
                (7, "leads out"),
                (8, "leads out"),
                (9, "UTF-8"),
                (10, "device"),
            ],
        );
    }

    #[test]
    fn further_columns_ride_along_and_empty_cells_do_not() {
        let csv = b"file,label,device,licence,author\na.jpg,cat,cam-1,CC0,\n";
        let labelled = check(csv, &[("a.jpg", &["cat"])], &[]);
        let row = &labelled.rows[0];
        assert_eq!(row.device, Some(DeviceId::new("cam-1").expect("valid")));
        assert_eq!(row.attributes, BTreeMap::from([("licence".into(), "CC0".into())]));
        assert_eq!(row.path, Path::new("/photos/a.jpg"));
    }

    #[test]
    fn a_missing_column_is_named() {
        for (csv, column) in [("label\ncat\n", "`file`"), ("file,tag\na,b\n", "`label`"), ("", "`file`")] {
            let error = parse_csv(Path::new("."), csv.as_bytes()).expect_err("a column is missing").to_string();
            assert!(error.contains(column), "{error}");
        }
    }

    #[track_caller]
    fn check_folders(files: &[&str], want: &[(&str, &str)], faults: usize) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
            fs::write(path, b"x").expect("writable");
        }
        let labelled = read(dir.path(), None).expect("readable");
        let rows: Vec<(&str, &str)> = labelled.rows.iter().map(|r| (r.source.as_str(), r.labels[0].as_str())).collect();
        assert_eq!(rows, want);
        assert_eq!(labelled.faults.len(), faults, "{:?}", labelled.faults);
    }

    #[test]
    fn without_a_csv_the_folder_is_the_label() {
        check_folders(
            &["dog/b.jpg", "cat/deep/a.jpg", ".git/x"],
            &[("cat/deep/a.jpg", "cat"), ("dog/b.jpg", "dog")],
            0,
        );
        check_folders(
            &["train/cat/a.jpg", "test/dog/b.jpg"],
            &[("test/dog/b.jpg", "dog"), ("train/cat/a.jpg", "cat")],
            0,
        );
        check_folders(&["lost.jpg", "cat/a.jpg"], &[("cat/a.jpg", "cat")], 1);
    }
}
