//! A file of this disk, piece by piece into an object store.
//!
//! Takes    a file of any size. Gives one object, whole or not there: only the last request makes it of its parts.
//! Memory   [`PARTS_IN_FLIGHT`] parts; a file of one part goes in one request.
//! Crash    a killed writer leaves parts that nobody sees: in a bucket the rule that `dih setup` makes removes them, in a
//!          directory they stay as a staged file (see the head of `blob`).

use std::{io, path::Path};

use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, path::Path as ObjectPath};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
};

/// Smallest part but the last; S3 wants at least 5 MiB.
pub(crate) const PART_BYTES: u64 = 8 << 20;
/// S3 takes no more parts an object.
const PARTS_MAX: u64 = 10_000;
const PARTS_IN_FLIGHT: usize = 3;

/// What failed: this machine's disk, or the store.
#[derive(Debug)]
pub(super) enum Failed {
    ToRead(io::Error),
    ToWrite(object_store::Error),
}

pub(super) async fn upload(store: &dyn ObjectStore, to: &ObjectPath, file: &Path) -> Result<(), Failed> {
    let mut file = File::open(file).await.map_err(Failed::ToRead)?;
    let bytes = file.metadata().await.map_err(Failed::ToRead)?.len();
    let part = part_bytes(bytes);
    if bytes <= part {
        let whole = piece(&mut file, part).await.map_err(Failed::ToRead)?;
        return store.put(to, whole.into()).await.map(drop).map_err(Failed::ToWrite);
    }
    let mut upload = store.put_multipart(to).await.map_err(Failed::ToWrite)?;
    let sent = match send(&mut *upload, &mut file, part).await {
        Ok(()) => upload.complete().await.map(drop).map_err(Failed::ToWrite),
        failed => failed,
    };
    if sent.is_err() {
        // What cannot be taken back now is nobody's loss: see the head of this file.
        let _ = upload.abort().await;
    }
    sent
}

/// As small as the number of parts allows, so that memory stays bounded.
fn part_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(PARTS_MAX).max(PART_BYTES)
}

async fn send(upload: &mut dyn MultipartUpload, file: &mut File, part: u64) -> Result<(), Failed> {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let bytes = piece(file, part).await.map_err(Failed::ToRead)?;
        if bytes.is_empty() {
            return in_flight.try_collect().await.map_err(Failed::ToWrite);
        }
        in_flight.push(upload.put_part(bytes.into()));
        if in_flight.len() == PARTS_IN_FLIGHT {
            in_flight.try_next().await.map_err(Failed::ToWrite)?;
        }
    }
}

/// The next `most` bytes; fewer only at the end.
async fn piece(from: &mut (impl AsyncRead + Unpin), most: u64) -> io::Result<Bytes> {
    let mut bytes = BytesMut::new();
    let mut from = from.take(most);
    while from.read_buf(&mut bytes).await? > 0 {}
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_only_where_there_would_be_too_many() {
        assert_eq!(part_bytes(0), PART_BYTES);
        assert_eq!(part_bytes(PART_BYTES * PARTS_MAX), PART_BYTES);
        let huge = PART_BYTES * PARTS_MAX + 1;
        assert_eq!(part_bytes(huge), PART_BYTES + 1);
        assert!(huge.div_ceil(part_bytes(huge)) <= PARTS_MAX);
    }

    #[tokio::test]
    async fn a_piece_is_full_until_the_end() {
        let mut from = &b"abcdefg"[..];
        let mut pieces = Vec::new();
        for _ in 0..4 {
            pieces.push(piece(&mut from, 3).await.expect("memory"));
        }
        assert_eq!(pieces, ["abc", "def", "g", ""]);
    }
}
