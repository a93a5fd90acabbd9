//! Records and vectors of a selection on disk, so that a cut over millions of members needs little memory.
//!
//! Takes  records and vectors once, in any order. Gives them back by position, read where they lie.
//! Keeps  two unnamed temporary files, gone with the process that made them, however it ends.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
};

use dih_core::{Class, Classify, ImageId, record::Record};

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("could not {action} the temporary files of the cut; look for space in the temporary folder (TMPDIR)")]
    Disk { action: &'static str, source: io::Error },
    #[error("a record of the temporary files is unreadable")]
    Record { source: serde_json::Error },
    #[error(
        "`{image}` has a vector of {found} numbers where others of this space have {want}; \
         was the model changed under the same name?"
    )]
    Dimensions { image: ImageId, found: usize, want: usize },
}

impl Classify for SpoolError {
    fn class(&self) -> Class {
        match self {
            Self::Disk { .. } => Class::Retry,
            Self::Record { .. } | Self::Dimensions { .. } => Class::BadInput,
        }
    }
}

fn disk(action: &'static str) -> impl Fn(io::Error) -> SpoolError {
    move |source| SpoolError::Disk { action, source }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    offset: u64,
    bytes: u32,
}

/// Being filled.
#[derive(Debug)]
pub struct Spooler {
    records: BufWriter<File>,
    records_bytes: u64,
    vectors: BufWriter<File>,
    vectors_count: u32,
    dimensions: Option<usize>,
}

impl Spooler {
    pub fn new() -> Result<Self, SpoolError> {
        let file = || tempfile::tempfile().map(BufWriter::new).map_err(disk("make"));
        Ok(Self { records: file()?, records_bytes: 0, vectors: file()?, vectors_count: 0, dimensions: None })
    }

    pub fn put_record(&mut self, record: &Record) -> Result<Place, SpoolError> {
        let bytes = serde_json::to_vec(record).map_err(|source| SpoolError::Record { source })?;
        self.records.write_all(&bytes).map_err(disk("write"))?;
        let place = Place { offset: self.records_bytes, bytes: bytes.len() as u32 };
        self.records_bytes += bytes.len() as u64;
        Ok(place)
    }

    /// The number under which the vector is read back.
    pub fn put_vector(&mut self, image: ImageId, vector: &[f32]) -> Result<u32, SpoolError> {
        let want = *self.dimensions.get_or_insert(vector.len());
        if vector.len() != want {
            return Err(SpoolError::Dimensions { image, found: vector.len(), want });
        }
        for number in vector {
            self.vectors.write_all(&number.to_le_bytes()).map_err(disk("write"))?;
        }
        self.vectors_count += 1;
        Ok(self.vectors_count - 1)
    }

    pub fn finish(self) -> Result<Spool, SpoolError> {
        let file = |writer: BufWriter<File>| writer.into_inner().map_err(|e| disk("write")(e.into_error()));
        let dimensions = self.dimensions.unwrap_or(0);
        Ok(Spool { records: file(self.records)?, vectors: file(self.vectors)?, dimensions })
    }
}

/// Filled, to be read by any number of threads at once.
#[derive(Debug)]
pub struct Spool {
    records: File,
    vectors: File,
    dimensions: usize,
}

impl Spool {
    /// Numbers of a vector; 0 if there is none at all.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn record(&self, place: Place) -> Result<Record, SpoolError> {
        let mut bytes = vec![0; place.bytes as usize];
        self.records.read_exact_at(&mut bytes, place.offset).map_err(disk("read"))?;
        serde_json::from_slice(&bytes).map_err(|source| SpoolError::Record { source })
    }

    /// Appends vector number `slot` to `into`.
    pub fn vector(&self, slot: u32, into: &mut Vec<f32>) -> Result<(), SpoolError> {
        let mut bytes = vec![0; self.dimensions * 4];
        let offset = u64::from(slot) * bytes.len() as u64;
        self.vectors.read_exact_at(&mut bytes, offset).map_err(disk("read"))?;
        let number = |b: &[u8; 4]| f32::from_le_bytes(*b);
        into.extend(bytes.as_chunks::<4>().0.iter().map(number));
        Ok(())
    }
}
