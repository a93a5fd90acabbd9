//! The truth about a simulated crowd, as a CSV: what each upload is, whatever its device says.

use std::{fs::File, io, path::Path};

use dih_core::{Label, UploadSeq};

use super::plan::Sending;
use crate::problem::OrProblem;

/// Columns of the file. `of_source` names the shot that a repeat was made from, which may have arrived later; `edit` is
/// what was done to it; `photo` is the file that was shot.
const HEADING: [&str; 11] = [
    "source",
    "device",
    "label",
    "true_label",
    "kind",
    "of_source",
    "edit",
    "photo",
    "captured_at",
    "position",
    "upload",
];

/// Writes one row an upload, in the order of arrival.
#[derive(Debug)]
pub struct Truth<W: io::Write> {
    rows: csv::Writer<W>,
    position: usize,
}

impl Truth<File> {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let what = format!("could not write the truth to `{}`", path.display());
        let remedy = "name another file with `--truth FILE`";
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).or_problem(&what, remedy)?;
        }
        let file = File::create(path).or_problem(&what, remedy)?;
        Self::new(file).or_problem(what, remedy)
    }
}

impl<W: io::Write> Truth<W> {
    pub fn new(writer: W) -> csv::Result<Self> {
        let mut rows = csv::Writer::from_writer(writer);
        rows.write_record(HEADING)?;
        Ok(Self { rows, position: 0 })
    }

    /// `upload` is None where nothing was sent, only written.
    pub fn row(&mut self, sending: &Sending, photo: &str, upload: Option<UploadSeq>) -> csv::Result<()> {
        self.position += 1;
        self.rows.write_record([
            sending.source.as_str(),
            sending.device.as_str(),
            &joined(&sending.labels),
            &joined(&sending.true_labels),
            sending.kind.as_str(),
            sending.of_source.as_deref().unwrap_or_default(),
            sending.recipe.edit(),
            photo,
            &sending.captured_at.0.to_string(),
            &self.position.to_string(),
            &upload.map(|u| u.to_string()).unwrap_or_default(),
        ])
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.rows.flush()
    }
}

/// Labels as a CSV cell holds them.
pub fn joined(labels: &[Label]) -> String {
    labels.iter().map(Label::as_str).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::plan::{Crowd, Photo, plan};

    #[test]
    fn every_upload_has_a_row_with_its_true_label() {
        let photo = |name: &str| Photo { name: name.into(), labels: vec![Label::new(name).expect("valid")] };
        let photos = ["cat", "coffee"].map(photo);
        let sendings = plan(&photos, &Crowd { uploads: 50, wrong_labels: 0.5, ..Crowd::default() }).expect("fine");
        let mut bytes = Vec::new();
        let mut truth = Truth::new(&mut bytes).expect("writes");
        for sending in &sendings {
            truth.row(sending, &photos[sending.photo].name, Some(UploadSeq(7))).expect("writes");
        }
        truth.finish().expect("writes");
        let rows: Vec<csv::StringRecord> =
            csv::Reader::from_reader(bytes.as_slice()).records().map(|r| r.expect("a row")).collect();
        assert_eq!(rows.len(), 50);
        assert!(rows.iter().all(|r| r[3] == r[7] && r[10] == *"7"));
        assert!(rows.iter().any(|r| r[2] != r[3]), "half the labels are wrong");
        let sent: Vec<&str> = rows.iter().map(|r| &r[0]).collect();
        assert!(rows.iter().filter(|r| !r[5].is_empty()).all(|r| sent.contains(&&r[5])));
    }
}
