//! Sorts rows by image through files on the disk: memory stays flat however many rows there are.
//!
//! Takes    rows in any order. Gives, image by image in the order of the ids, the rows of each in the order they came.
//! How      rows go to 256 files by the first byte of their id; a file is read whole and sorted. A file that is too
//!          large for that goes to 256 files by the next byte, and so on.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::OpenImage;

/// Most bytes of rows that are held in memory at once.
pub(crate) const PART_BYTES_MAX: u64 = 32 << 20;
/// Bytes that wait before they are written, a file; 256 files are open at once.
const BUFFER_BYTES: usize = 16 << 10;
const HEAD_BYTES: usize = 13;

/// A row of an image: what it is of, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) tag: u8,
    pub(crate) bytes: &'a [u8],
}

/// Rows on their way to the disk.
#[derive(Debug)]
pub(crate) struct Spill {
    dir: TempDir,
    parts: Parts,
}

/// Rows on the disk.
#[derive(Debug)]
pub(crate) struct Spilled {
    _dir: TempDir,
    files: Vec<PathBuf>,
    part_bytes_max: u64,
}

#[derive(Debug)]
struct Parts {
    at: PathBuf,
    /// Which byte of the id they are told apart by.
    byte: usize,
    files: Vec<Option<BufWriter<File>>>,
}

impl Spill {
    pub(crate) fn new(place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        let dir = tempfile::Builder::new().prefix("rows-").tempdir_in(place)?;
        let parts = Parts::new(dir.path().to_owned(), 0);
        Ok(Self { dir, parts })
    }

    /// `bytes` in pieces that are written one after the other.
    pub(crate) fn put(&mut self, id: OpenImage, tag: u8, bytes: &[&[u8]]) -> io::Result<()> {
        self.parts.put(id, tag, bytes)
    }

    pub(crate) fn finish(self, part_bytes_max: u64) -> io::Result<Spilled> {
        Ok(Spilled { files: self.parts.finish()?, _dir: self.dir, part_bytes_max })
    }
}

impl Parts {
    fn new(at: PathBuf, byte: usize) -> Self {
        Self { at, byte, files: (0..256).map(|_| None).collect() }
    }

    fn put(&mut self, id: OpenImage, tag: u8, bytes: &[&[u8]]) -> io::Result<()> {
        let key = id.0.to_be_bytes();
        let place = usize::from(key[self.byte]);
        if self.files[place].is_none() {
            let file = File::create(self.at.join(format!("{place:02x}")))?;
            self.files[place] = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        }
        let Some(file) = &mut self.files[place] else { return Ok(()) };
        let length: usize = bytes.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).map_err(|_| io::Error::other("a row of more than 4 GiB"))?;
        file.write_all(&key)?;
        file.write_all(&[tag])?;
        file.write_all(&length.to_le_bytes())?;
        bytes.iter().try_for_each(|part| file.write_all(part))
    }

    /// The files in the order of the ids.
    fn finish(self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (place, file) in self.files.into_iter().enumerate() {
            if let Some(mut file) = file {
                file.flush()?;
                paths.push(self.at.join(format!("{place:02x}")));
            }
        }
        Ok(paths)
    }
}

impl Spilled {
    /// Hands out the rows of each image until `each` breaks. Their files are removed on the way.
    pub(crate) fn walk(self, each: Each<'_>) -> io::Result<ControlFlow<()>> {
        for path in &self.files {
            if walk(path, 1, self.part_bytes_max, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

type Each<'a> = &'a mut dyn FnMut(OpenImage, &[Piece<'_>]) -> io::Result<ControlFlow<()>>;

fn walk(path: &Path, byte: usize, part_bytes_max: u64, each: Each<'_>) -> io::Result<ControlFlow<()>> {
    let bytes = fs::metadata(path)?.len();
    if bytes > part_bytes_max && byte < 8 {
        for path in divided(path, byte)? {
            if walk(&path, byte + 1, part_bytes_max, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        return Ok(ControlFlow::Continue(()));
    }
    let rows = fs::read(path)?;
    fs::remove_file(path)?;
    sorted(&rows, each)
}

/// Reads a file again, and parts it by the next byte.
fn divided(path: &Path, byte: usize) -> io::Result<Vec<PathBuf>> {
    let at = path.with_extension("parts");
    fs::create_dir_all(&at)?;
    let mut parts = Parts::new(at, byte);
    let mut file = io::BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut head, mut bytes) = ([0; HEAD_BYTES], Vec::new());
    loop {
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        let (id, tag, length) = parse(&head);
        bytes.resize(length, 0);
        file.read_exact(&mut bytes)?;
        parts.put(id, tag, &[&bytes])?;
    }
    fs::remove_file(path)?;
    parts.finish()
}

fn sorted(rows: &[u8], each: Each<'_>) -> io::Result<ControlFlow<()>> {
    let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "a temporary file was cut off");
    let mut index: Vec<(OpenImage, u8, usize, usize)> = Vec::new();
    let mut at = 0;
    while at < rows.len() {
        let head = rows.get(at..at + HEAD_BYTES).and_then(|head| head.try_into().ok()).ok_or_else(cut_off)?;
        let (id, tag, length) = parse(head);
        at += HEAD_BYTES;
        index.push((id, tag, at, length));
        at += length;
    }
    if at > rows.len() {
        return Err(cut_off());
    }
    index.sort_unstable_by_key(|(id, tag, at, _)| (*id, *tag, *at));
    let mut pieces = Vec::new();
    for of_one in index.chunk_by(|a, b| a.0 == b.0) {
        pieces.clear();
        pieces.extend(of_one.iter().map(|(_, tag, at, length)| Piece { tag: *tag, bytes: &rows[*at..at + length] }));
        if each(of_one[0].0, &pieces)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn parse(head: &[u8; HEAD_BYTES]) -> (OpenImage, u8, usize) {
    let [a, b, c, d, e, f, g, h, tag, l0, l1, l2, l3] = *head;
    let id = OpenImage(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    (id, tag, u32::from_le_bytes([l0, l1, l2, l3]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of scattered and of crowded ids come back in order, whatever fits into memory.
    #[track_caller]
    fn check(part_bytes_max: u64) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut spill = Spill::new(dir.path()).expect("writable");
        let ids: Vec<u64> =
            (0..500_u64).map(|n| if n % 2 == 0 { n.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { n % 7 }).collect();
        for (n, id) in ids.iter().enumerate() {
            spill.put(OpenImage(*id), (n % 3) as u8, &[&(n as u32).to_le_bytes(), b"!"]).expect("writes");
        }
        let mut want: Vec<(u64, u8, Vec<u8>)> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| (*id, (n % 3) as u8, [&(n as u32).to_le_bytes()[..], b"!"].concat()))
            .collect();
        want.sort_by_key(|(id, tag, _)| (*id, *tag));
        let mut found = Vec::new();
        let spilled = spill.finish(part_bytes_max).expect("writes");
        let mut each = |id: OpenImage, pieces: &[Piece<'_>]| {
            found.extend(pieces.iter().map(|p| (id.0, p.tag, p.bytes.to_vec())));
            Ok(ControlFlow::Continue(()))
        };
        assert!(spilled.walk(&mut each).expect("reads").is_continue());
        assert!(found == want, "part_bytes_max {part_bytes_max}");
        assert_eq!(fs::read_dir(dir.path()).expect("is there").count(), 0, "the disk is left as it was");
    }

    #[test]
    fn rows_come_back_by_image_in_the_order_they_came() {
        check(u64::MAX);
        check(100);
        check(1);
    }

    #[test]
    fn who_breaks_is_asked_no_more() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut spill = Spill::new(dir.path()).expect("writable");
        (0..10).for_each(|n| spill.put(OpenImage(n << 56), 0, &[]).expect("writes"));
        let mut asked = 0;
        let mut each = |_: OpenImage, _: &[Piece<'_>]| {
            asked += 1;
            Ok(if asked == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        assert!(spill.finish(1).expect("writes").walk(&mut each).expect("reads").is_break());
        assert_eq!(asked, 3);
    }
}
