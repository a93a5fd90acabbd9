//! Reads all files of a folder once, and then hands out image by image.

use std::{
    fs::File,
    io::{self, BufReader},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use dih_taxonomy::{
    Classes, Taxonomy, Tree,
    classes::Described,
    describe, read_hierarchy,
    rows::{Row, Rows},
};

use crate::{
    Entry, FileCount, Kind, OpenImage, Refusal, Totals,
    account::{At, Books},
    image,
    join::{self, join},
    label,
    source::{self, Source},
    spill::{PART_BYTES_MAX, Spill, Spilled},
};

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 256 << 10;
/// Files of one folder; they have numbers of 16 bits.
const FILES_MAX: usize = 10_000;
/// What the file of a photo may end in; what it holds is looked at by whoever decodes it.
const PHOTO_ENDS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// How to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of photos, `<ImageID>.jpg` at any depth; None looks at none.
    pub photos: Option<PathBuf>,
    /// Class descriptions and hierarchies from elsewhere.
    pub more: Vec<PathBuf>,
    /// Least confidence of a machine's label.
    pub machine_min: f32,
    /// Folder for temporary files, about as large as the files that are read.
    pub spill: PathBuf,
}

/// Why a folder cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("could not read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write temporary files to `{path}`, or read them back")]
    Spill { path: PathBuf, source: io::Error },
    #[error("could not note a refused row")]
    Note { source: io::Error },
    #[error("`{dir}` holds no rows about images; they begin with `ImageID,Subset,OriginalURL`")]
    NoImages { dir: PathBuf },
    #[error("`{dir}` holds no class descriptions (rows such as `/m/01yrx,Cat`), so labels have no names")]
    NoClasses { dir: PathBuf },
    #[error("`{dir}` holds {files} files, more than {FILES_MAX}")]
    TooMany { dir: PathBuf, files: usize },
}

/// All rows of a folder.
pub struct Collection<'a> {
    pub taxonomy: Taxonomy,
    /// Files that are nothing of Open Images.
    pub left_alone: Vec<PathBuf>,
    books: Books<'a>,
    rows: Spilled,
    spill: PathBuf,
    machine_min: f32,
}

impl std::fmt::Debug for Collection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("files", &self.books.files).finish_non_exhaustive()
    }
}

/// Reads all files of `dir`. Refused rows are told as they are found, and again when images are joined.
pub fn read<'a>(
    dir: &Path,
    options: &Options,
    refused: &'a mut dyn FnMut(&Refusal) -> io::Result<()>,
) -> Result<Collection<'a>, Problem> {
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source| Problem::Read { path, source }
    };
    let mut sources = source::find(dir).map_err(unread(dir))?;
    for path in &options.more {
        let found = match path.is_dir() {
            true => source::find(path).map_err(unread(path))?,
            false => vec![source::recognise(path).map_err(unread(path))?],
        };
        sources.extend(found.into_iter().filter(|s| matches!(s.kind, Some(Kind::Classes | Kind::Hierarchy))));
    }
    if sources.len() > FILES_MAX {
        return Err(Problem::TooMany { dir: dir.into(), files: sources.len() });
    }
    let lacks = |kinds: &[Kind]| !sources.iter().any(|s| s.kind.is_some_and(|kind| kinds.contains(&kind)));
    if lacks(&[Kind::ImagesV3, Kind::ImagesV4]) {
        return Err(Problem::NoImages { dir: dir.into() });
    }
    if lacks(&[Kind::Classes]) {
        return Err(Problem::NoClasses { dir: dir.into() });
    }
    let spill = Spill::new(&options.spill).map_err(|source| Problem::Spill { path: options.spill.clone(), source })?;
    let mut reading = Reading {
        books: Books::new(refused),
        taxonomy: Taxonomy { classes: Classes::default(), tree: Tree::default() },
        spill,
        place: &options.spill,
    };
    // The largest description is the whole one; what it names keeps its label.
    sources.sort_by_key(|s| (rank(s.kind), if s.kind == Some(Kind::Classes) { u64::MAX - s.bytes } else { 0 }));
    for source in &sources {
        reading.source(source)?;
    }
    if let Some(photos) = &options.photos {
        reading.photos(photos)?;
    }
    let Reading { books, taxonomy, spill, .. } = reading;
    let rows = spill.finish(PART_BYTES_MAX);
    let rows = rows.map_err(|source| Problem::Spill { path: options.spill.clone(), source })?;
    let left_alone = sources.into_iter().filter(|s| s.kind.is_none()).map(|s| s.path).collect();
    let (spill, machine_min) = (options.spill.clone(), options.machine_min);
    Ok(Collection { taxonomy, left_alone, books, rows, spill, machine_min })
}

impl Collection<'_> {
    /// Hands out every image that a row describes until `each` breaks; then gives the books, which are closed only
    /// where it did not.
    pub fn walk(
        self,
        mut each: impl FnMut(&Taxonomy, Entry) -> ControlFlow<()>,
    ) -> Result<(Vec<FileCount>, Totals), Problem> {
        let Self { taxonomy, mut books, rows, machine_min, spill, .. } = self;
        let walked = rows.walk(&mut |id, pieces| {
            let entry = join(id, pieces, machine_min, &mut books)?;
            Ok(entry.map_or(ControlFlow::Continue(()), |entry| each(&taxonomy, entry)))
        });
        let _whole = walked.map_err(|source| Problem::Spill { path: spill, source })?;
        Ok((books.files, books.totals))
    }
}

/// Descriptions come before what names classes.
fn rank(kind: Option<Kind>) -> u8 {
    match kind {
        Some(Kind::Classes) => 0,
        Some(Kind::Hierarchy) => 1,
        _ => 2,
    }
}

struct Reading<'a, 'b> {
    books: Books<'a>,
    taxonomy: Taxonomy,
    spill: Spill,
    place: &'b Path,
}

impl Reading<'_, '_> {
    fn source(&mut self, source: &Source) -> Result<(), Problem> {
        let Some(kind) = source.kind else { return Ok(()) };
        let path = &source.path;
        let file = self.books.open(path, kind);
        match kind {
            Kind::Classes => self.classes(file, path),
            Kind::Hierarchy => self.hierarchy(file, path),
            Kind::Ids => self.rows(file, path, Some(1), false, |this, _, row| {
                label::class(row.cell(0), &this.taxonomy.classes).map(|_| ()).map_err(Fault::Row)
            }),
            Kind::ImagesV3 | Kind::ImagesV4 => {
                let mut columns = None;
                self.rows(file, path, None, true, move |this, at, row| {
                    let Some(columns) = &columns else {
                        columns = image::Columns::of(row).map(|(columns, _)| columns);
                        return Ok(());
                    };
                    let image = columns.image(row).map_err(Fault::Row)?;
                    let mut bytes = Vec::with_capacity(512);
                    image.encode(&mut bytes);
                    this.put(image.id, join::IMAGE, &[&join::place(at), &bytes])
                })
            }
            Kind::Labels => {
                let mut columns = None;
                self.rows(file, path, None, true, move |this, at, row| {
                    let Some(columns) = &columns else {
                        columns = label::Columns::of(row);
                        return Ok(());
                    };
                    let (id, claim) = columns.claim(row, &this.taxonomy.classes).map_err(Fault::Row)?;
                    this.put(id, join::LABEL, &[&join::place(at), &claim.encode()])
                })
            }
            Kind::Boxes => {
                let mut columns = None;
                self.rows(file, path, None, true, move |this, _, row| {
                    let Some(columns) = &columns else {
                        columns = label::BoxColumns::of(row);
                        return Ok(());
                    };
                    columns.check(row, &this.taxonomy.classes).map_err(Fault::Row)
                })
            }
        }
    }

    fn put(&mut self, id: OpenImage, tag: u8, bytes: &[&[u8]]) -> Result<(), Fault> {
        let put = self.spill.put(id, tag, bytes);
        put.map_err(|source| Fault::Stop(Problem::Spill { path: self.place.into(), source }))
    }

    /// Reads row by row; the heading goes to `take` as well, but is no row.
    fn rows(
        &mut self,
        file: u16,
        path: &Path,
        mut columns: Option<usize>,
        heading: bool,
        mut take: impl FnMut(&mut Self, At, &Row) -> Result<(), Fault>,
    ) -> Result<(), Problem> {
        let unread = |source| Problem::Read { path: path.into(), source };
        let mut rows = Rows::new(BufReader::with_capacity(READ_BYTES, File::open(path).map_err(unread)?));
        let mut is_heading = heading;
        while let Some(row) = rows.next(columns).map_err(unread)? {
            let (line, taken) = match row {
                Err(refused) => (refused.line, Err(Fault::Row(refused.problem))),
                Ok(row) => {
                    let at = At { file, line: row.line };
                    columns = columns.or(Some(row.len()));
                    (row.line, take(self, at, row))
                }
            };
            match taken {
                Ok(()) if is_heading => {}
                Ok(()) => self.books.take(file),
                Err(Fault::Row(problem)) => self.refuse(At { file, line }, problem)?,
                Err(Fault::Stop(problem)) => return Err(problem),
            }
            is_heading = false;
        }
        Ok(())
    }

    fn refuse(&mut self, at: At, problem: String) -> Result<(), Problem> {
        self.books.refuse(at, problem).map_err(|source| Problem::Note { source })
    }

    fn classes(&mut self, file: u16, path: &Path) -> Result<(), Problem> {
        let unread = |source| Problem::Read { path: path.into(), source };
        let reader = BufReader::new(File::open(path).map_err(unread)?);
        let mut described = Described::default();
        let read = describe(reader, |row| {
            let added = row.and_then(|(line, id, name)| {
                described.add(id, name).map_err(|problem| dih_taxonomy::rows::Refused { line, problem })
            });
            match added {
                Ok(()) => {
                    self.books.take(file);
                    Ok(())
                }
                Err(refused) => self.refuse(At { file, line: refused.line }, refused.problem),
            }
        });
        read.map_err(unread)??;
        self.taxonomy.classes.extend(described);
        Ok(())
    }

    /// A hierarchy is whole or of no use: a fault in it refuses all of it.
    fn hierarchy(&mut self, file: u16, path: &Path) -> Result<(), Problem> {
        let before = self.taxonomy.clone();
        match read_hierarchy(&mut self.taxonomy, path) {
            Ok(places) => (0..places).for_each(|_| self.books.take(file)),
            Err(error) => {
                self.taxonomy = before;
                self.refuse(At { file, line: 1 }, error.to_string())?;
            }
        }
        Ok(())
    }

    fn photos(&mut self, dir: &Path) -> Result<(), Problem> {
        let walked = source::walk(dir, &mut |path| {
            let Some(id) = photo_of(path) else { return Ok(()) };
            let Some(below) = path.strip_prefix(dir).ok().and_then(Path::to_str) else { return Ok(()) };
            self.spill.put(id, join::PHOTO, &[below.as_bytes()])
        });
        walked.map_err(|source| Problem::Read { path: dir.into(), source })
    }
}

/// `train/000026e7ee790996.jpg` is the photo of `000026e7ee790996`.
fn photo_of(path: &Path) -> Option<OpenImage> {
    let end = path.extension()?.to_str()?.to_ascii_lowercase();
    let id = OpenImage::parse(path.file_stem()?.to_str()?)?;
    PHOTO_ENDS.contains(&end.as_str()).then_some(id)
}

enum Fault {
    Row(String),
    Stop(Problem),
}
