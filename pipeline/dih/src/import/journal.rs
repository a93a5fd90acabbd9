//! What of an import was sent, so that the next try goes on where this one ended.
//!
//! Keeps    one file an import below `import/` of the home; a line a photo, after its upload was stored.
//! Crash    a photo sent but not yet noted is sent again under the same name, and dropped by the broker if the window
//!          for that (an hour) is still open. A line that was cut off counts as not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use dih_core::{ImageId, UploadSeq};

use crate::problem::OrProblem;

/// A file as it was when it was sent: its size in bytes, and its last change in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    bytes: u64,
    changed: u128,
}

impl Mark {
    pub fn of(metadata: &fs::Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self { bytes: metadata.len(), changed: since.map_or(0, |d| d.as_nanos()) }
    }
}

/// What was sent before, as hashes: 16 bytes a photo, so that millions fit into memory.
#[derive(Debug, Default)]
pub struct Sent(Vec<[u8; 16]>);

impl Sent {
    /// Whether this very file was sent under this name.
    pub fn has(&self, source: &str, mark: Mark) -> bool {
        self.0.binary_search(&key(source, mark)).is_ok()
    }
}

fn key(source: &str, mark: Mark) -> [u8; 16] {
    *ImageId::of_bytes(format!("{} {} {source}", mark.bytes, mark.changed).as_bytes()).as_bytes()
}

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    sent: Arc<Sent>,
    file: File,
}

impl Journal {
    /// Opens the journal of an import of these folders and files; `again` forgets what is in it.
    pub fn open(below: &Path, of: &[&Path], again: bool) -> anyhow::Result<Self> {
        let full = |path: &&Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string();
        let name = of.iter().map(full).collect::<Vec<_>>().join("\n");
        let path = below.join(format!("{}.sent", ImageId::of_bytes(name.as_bytes())));
        let what = format!("could not open the journal `{}`", path.display());
        let open = || {
            fs::create_dir_all(below)?;
            if again {
                fs::write(&path, "")?;
            }
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
            let (sent, cut_off) = read(&file)?;
            if cut_off {
                file.write_all(b"\n")?; // the cut-off line stays unreadable
            }
            Ok::<_, io::Error>((file, sent))
        };
        let (file, sent) = open().or_problem(what, "look whether the disk is full and the home folder is yours")?;
        Ok(Self { path, sent: Arc::new(sent), file })
    }

    /// What earlier runs sent.
    pub fn sent(&self) -> Arc<Sent> {
        self.sent.clone()
    }

    pub fn note(&mut self, source: &str, mark: Mark, upload: UploadSeq) -> io::Result<()> {
        // One write a line: a crash leaves whole lines, and at most one that is cut off.
        let source = serde_json::Value::from(source); // in quotes, on one line
        self.file.write_all(format!("{} {} {upload} {source}\n", mark.bytes, mark.changed).as_bytes())
    }

    /// All is sent: the next import begins anew.
    pub fn finish(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}

/// All lines, and whether the last one was cut off.
fn read(file: &File) -> io::Result<(Sent, bool)> {
    let (mut reader, mut line, mut sent) = (BufReader::new(file), Vec::new(), Vec::new());
    let mut cut_off = false;
    while reader.read_until(b'\n', &mut line)? > 0 {
        cut_off = line.last() != Some(&b'\n');
        let text = String::from_utf8_lossy(&line);
        sent.extend(parse(text.trim_end_matches('\n')).map(|(source, mark)| key(&source, mark)));
        line.clear();
    }
    sent.sort_unstable();
    sent.dedup();
    Ok((Sent(sent), cut_off))
}

fn parse(line: &str) -> Option<(String, Mark)> {
    let mut parts = line.splitn(4, ' ');
    let mut number = || parts.next()?.parse::<u128>().ok();
    let (bytes, changed, _upload) = (u64::try_from(number()?).ok()?, number()?, number()?);
    let source = serde_json::from_str(parts.next()?).ok()?;
    Some((source, Mark { bytes, changed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_found_and_a_cut_off_line_is_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let photo = dir.path().join("a.jpg");
        fs::write(&photo, b"abc").expect("writable");
        let mark = Mark::of(&fs::metadata(&photo).expect("is there"));
        let open = |again| Journal::open(&dir.path().join("import"), &[dir.path()], again).expect("opens");
        let mut journal = open(false);
        journal.note("a \"b\".jpg", mark, UploadSeq(1)).expect("writes");
        journal.file.write_all(b"3 4").expect("writes");
        let mut journal = open(false);
        assert!(journal.sent().has("a \"b\".jpg", mark));
        assert!(!journal.sent().has("a \"b\".jpg", Mark { bytes: 4, ..mark }), "a changed file is another upload");
        journal.note("c.jpg", mark, UploadSeq(2)).expect("writes");
        assert!(open(false).sent().has("c.jpg", mark), "a line after the cut-off one is read");
        assert!(!open(true).sent().has("c.jpg", mark), "an import that begins again forgets");
        open(false).finish().expect("removes");
        assert!(!open(false).sent().has("c.jpg", mark));
    }
}
