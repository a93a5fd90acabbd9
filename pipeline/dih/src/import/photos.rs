//! Reads photos from the disk, ahead of their sending.
//!
//! Keeps    at most [`BYTES_MAX`] of photos in memory that wait for the broker's word, whatever their number.

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use bytes::Bytes;
use dih_core::{ImageId, event::Upload};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use super::{
    Fault, Read,
    journal::{Mark, Sent},
};

/// Largest file that is read at all, in bytes; what ingest takes at most is a setting of its own, and far below.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Bytes of photos that are read but not yet stored by the broker; a larger photo goes alone.
const BYTES_MAX: u64 = 64 << 20;
/// What room is counted in.
const UNIT: u64 = 1 << 10;

/// A photo on its way.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) source: String,
    pub(crate) mark: Mark,
    /// The broker drops a second upload of this name while its window is open.
    pub(crate) name: String,
    pub(crate) upload: Upload,
    pub(crate) room: Held,
}

/// Room for bytes, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit);

#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((BYTES_MAX / UNIT) as usize)))
    }
}

impl Room {
    /// Waits until there is room; None once nobody sends any more.
    fn hold(&self, bytes: u64) -> Option<Held> {
        let units = bytes.div_ceil(UNIT).clamp(1, BYTES_MAX / UNIT) as u32;
        Handle::current().block_on(self.0.clone().acquire_many_owned(units)).ok().map(Held)
    }
}

/// Reads on a thread that may wait.
#[derive(Debug)]
pub(crate) struct Reader {
    sent: Arc<Sent>,
    room: Room,
    to: mpsc::Sender<Read>,
}

impl Reader {
    pub(crate) fn new(sent: Arc<Sent>, room: Room, to: mpsc::Sender<Read>) -> Self {
        Self { sent, room, to }
    }

    /// Hands over one photo, or why it cannot be sent; breaks once nobody takes anything.
    pub(crate) fn read(
        &self,
        number: u64,
        path: &Path,
        source: &str,
        upload: impl FnOnce(Bytes) -> Result<Upload, String>,
    ) -> ControlFlow<()> {
        let read = match self.parcel(path, source, upload) {
            Ok(Some(read)) => read,
            Ok(None) => return ControlFlow::Break(()),
            Err(problem) => Read::Fault(Fault { row: number, source: source.to_owned(), problem }),
        };
        match self.to.blocking_send(read) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn parcel(
        &self,
        path: &Path,
        source: &str,
        upload: impl FnOnce(Bytes) -> Result<Upload, String>,
    ) -> Result<Option<Read>, String> {
        let metadata = fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
        if !metadata.is_file() {
            return Err("is no file".to_owned());
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(format!("has {} bytes, which is no photo", metadata.len()));
        }
        let mark = Mark::of(&metadata);
        if self.sent.has(source, mark) {
            return Ok(Some(Read::Before));
        }
        let Some(room) = self.room.hold(metadata.len()) else { return Ok(None) };
        let bytes = fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
        let name = format!("import-{}", name_of(source, &bytes));
        let (source, upload) = (source.to_owned(), upload(bytes.into())?);
        Ok(Some(Read::Parcel(Box::new(Parcel { source, mark, name, upload, room }))))
    }
}

fn name_of(source: &str, bytes: &[u8]) -> ImageId {
    let mut named = source.as_bytes().to_vec();
    named.push(0);
    named.extend_from_slice(ImageId::of_bytes(bytes).as_bytes());
    ImageId::of_bytes(&named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_named_by_path_and_content() {
        assert_eq!(name_of("a.jpg", b"x"), name_of("a.jpg", b"x"));
        assert_ne!(name_of("a.jpg", b"x"), name_of("b.jpg", b"x"));
        assert_ne!(name_of("a.jpg", b"x"), name_of("a.jpg", b"y"));
    }
}
