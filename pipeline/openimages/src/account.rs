//! The books: what became of every row.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `id,name` of every class.
    Classes,
    /// The hierarchy; a row is a place in it.
    Hierarchy,
    /// Images in the 11 columns of V1 to V3.
    ImagesV3,
    /// Images in the 12 columns of V4 to V7, with their rotation.
    ImagesV4,
    /// Labels of whole images, by people or machines.
    Labels,
    /// Boxes; checked and counted, not imported.
    Boxes,
    /// Lists of label ids, such as `classes-trainable.txt`; checked and counted.
    Ids,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::Hierarchy => "hierarchy",
            Self::ImagesV3 => "images V3",
            Self::ImagesV4 => "images V4-V7",
            Self::Labels => "labels",
            Self::Boxes => "boxes",
            Self::Ids => "ids",
        }
    }
}

/// The books of one file: `rows = taken + refused`, always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileCount {
    pub file: PathBuf,
    pub kind: Kind,
    pub rows: u64,
    pub taken: u64,
    pub refused: u64,
}

/// A row that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub file: PathBuf,
    /// From 1, the heading included.
    pub line: u64,
    pub problem: String,
}

/// What the rows of all files come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub images: u64,
    /// Rows that name an image again and say the same.
    pub images_again: u64,
    /// Images whose photo is in the folder, and those whose is not.
    pub here: u64,
    pub not_here: u64,
    /// Images whose photo is here, but that no label is taken for.
    pub without_label: u64,
    /// Label rows by what they come to: they name a label of their photo, …
    pub labels_taken: u64,
    /// … say by people's word that it is not there, …
    pub labels_absent: u64,
    /// … are by a machine that was less sure than is asked for, …
    pub labels_unsure: u64,
    /// … say again what another row says, or what people have denied.
    pub labels_again: u64,
    pub labels_denied: u64,
    /// Photos of the folder that no image row names, and second photos of one image.
    pub photos_unknown: u64,
    pub photos_again: u64,
}

/// Where the books are kept while rows are read.
pub(crate) struct Books<'a> {
    pub(crate) files: Vec<FileCount>,
    pub(crate) totals: Totals,
    refused: &'a mut dyn FnMut(&Refusal) -> std::io::Result<()>,
}

/// A row, by its file's place in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) file: u16,
    pub(crate) line: u64,
}

impl<'a> Books<'a> {
    pub(crate) fn new(refused: &'a mut dyn FnMut(&Refusal) -> std::io::Result<()>) -> Self {
        Self { files: Vec::new(), totals: Totals::default(), refused }
    }

    pub(crate) fn open(&mut self, file: &Path, kind: Kind) -> u16 {
        self.files.push(FileCount { file: file.into(), kind, rows: 0, taken: 0, refused: 0 });
        u16::try_from(self.files.len() - 1).expect("a folder is refused before it holds so many files")
    }

    pub(crate) fn take(&mut self, file: u16) {
        let count = &mut self.files[usize::from(file)];
        count.rows += 1;
        count.taken += 1;
    }

    pub(crate) fn refuse(&mut self, at: At, problem: String) -> std::io::Result<()> {
        let count = &mut self.files[usize::from(at.file)];
        count.rows += 1;
        count.refused += 1;
        let file = count.file.clone();
        (self.refused)(&Refusal { file, line: at.line, problem })
    }

    /// A row that was taken turns out to be of no use once all rows are known.
    pub(crate) fn refuse_taken(&mut self, at: At, problem: String) -> std::io::Result<()> {
        let count = &mut self.files[usize::from(at.file)];
        count.rows -= 1;
        count.taken -= 1;
        self.refuse(at, problem)
    }

    pub(crate) fn name(&self, at: At) -> String {
        format!("{}:{}", self.files[usize::from(at.file)].file.display(), at.line)
    }
}
